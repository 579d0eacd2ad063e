package httpapi

import (
	"encoding/json"
	"net/http"

	"whatisup/shared/control"
	"whatisup/shared/whatisup"
)

// apiKeyWire is a key as its customer sees it.
type apiKeyWire struct {
	ID         whatisup.KeyID       `json:"id"`
	CustomerID whatisup.CustomerID  `json:"customer_id"`
	InstanceID *whatisup.InstanceID `json:"instance_id"`
	Name       string               `json:"name"`
	Prefix     string               `json:"prefix"`
	LastUsedAt whatisup.Time        `json:"last_used_at"`
	ExpiresAt  whatisup.Time        `json:"expires_at"`
	CreatedAt  whatisup.Time        `json:"created_at"`
	RevokedAt  whatisup.Time        `json:"revoked_at"`
	Secret     *string              `json:"secret,omitempty"` // only when it is made
}

func keyWire(k *whatisup.APIKey) apiKeyWire {
	w := apiKeyWire{
		ID: k.ID, CustomerID: k.Customer, Name: k.Name, Prefix: k.Prefix,
		LastUsedAt: whatisup.At(k.LastUsedAt), ExpiresAt: whatisup.At(k.ExpiresAt),
		CreatedAt: whatisup.At(k.CreatedAt), RevokedAt: whatisup.At(k.RevokedAt),
	}
	if k.Instance != "" {
		w.InstanceID = &k.Instance
	}
	return w
}

func listKeys(c *call) (*answer, error) {
	q, err := c.readQuery()
	if err != nil {
		return nil, err
	}
	limit := q.number("limit", maxLimit)
	bound := []string{"api-keys", string(c.customer()), string(c.mode())}
	var before whatisup.KeyID
	cursor, paged := q.get("cursor")
	if paged {
		id, ok := c.seal.open(cursor, bound...)
		if !ok {
			q.problem("cursor", "is not a cursor of this list")
		}
		before = whatisup.KeyID(id)
	}
	if err := q.done(); err != nil {
		return nil, err
	}

	list := page{Data: []json.RawMessage{}}
	var last whatisup.KeyID
	var size listSize
	cut := false
	for k, err := range c.control.Keys(c.ctx, c.who()) {
		if err != nil {
			return nil, err
		}
		if before != "" && k.ID >= before { // newest first, and ids tell the time
			continue
		}
		b, err := encode(keyWire(&k))
		if err != nil {
			return nil, err
		}
		if cut = limit > 0 && len(list.Data) == limit || !size.add(b); cut {
			break
		}
		list.Data = append(list.Data, b)
		last = k.ID
	}
	if limit > 0 || paged || cut {
		list.Next = new(next)
	}
	if cut {
		*list.Next = next(c.seal.make(string(last), bound...))
	}
	return reply(http.StatusOK, list), nil
}

func createKey(c *call) (*answer, error) {
	b, err := c.readBody()
	if err != nil {
		return nil, err
	}
	var key whatisup.APIKey
	key.Name, _ = b.Name(true)
	boundTo, bound := b.TextOrNull("instance_id")
	key.ExpiresAt, _ = b.Later("expires_at", c.now())
	if own := c.caller.key.ExpiresAt; !own.IsZero() {
		if key.ExpiresAt.IsZero() {
			key.ExpiresAt = own
		}
		if key.ExpiresAt.After(own) {
			b.Problem("expires_at", "must not be later than that of the key in use, "+whatisup.At(own).String())
		}
	}
	if err := b.Done(); err != nil {
		return nil, err
	}
	if bound {
		i, err := c.control.Find(c.ctx, c.who(), boundTo)
		if err != nil {
			return nil, err
		}
		key.Instance = i.Config.ID
	}
	return c.idempotent(b, func(r *claim) (*answer, error) {
		return sealed(r, newKeyAnswer, func(seal control.Seal[control.NewKey]) (control.NewKey, error) {
			return c.control.CreateKey(c.ctx, c.who(), key, seal)
		})
	})
}

func newKeyAnswer(k control.NewKey) *answer {
	w := keyWire(&k.APIKey)
	secret := string(k.Text)
	w.Secret = &secret
	return reply(http.StatusCreated, w)
}

func revokeKey(c *call) (*answer, error) {
	if err := c.control.RevokeKey(c.ctx, c.who(), c.segment); err != nil {
		return nil, err
	}
	return reply(http.StatusNoContent, nil), nil
}
