package httpapi

import (
	"errors"
	"net/http"

	"whatisup/shared/whatisup"
)

// KeysFunction is the handler of API keys and limits.
func (a *API) KeysFunction() http.Handler {
	return &function{a, FunctionKeys, map[string]operation{
		"listAPIKeys":  listKeys,
		"createAPIKey": createKey,
		"revokeAPIKey": revokeKey,
		"getLimits":    getLimits,
	}}
}

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

type keyList struct {
	Data []apiKeyWire `json:"data"`
}

func listKeys(c *call) (*answer, error) {
	list := keyList{Data: []apiKeyWire{}}
	for k, err := range c.Store.Keys(c.ctx, c.customer(), c.mode()) {
		if err != nil {
			return nil, err
		}
		list.Data = append(list.Data, keyWire(&k))
	}
	return reply(http.StatusOK, list), nil
}

func createKey(c *call) (*answer, error) {
	b, err := c.readBody()
	if err != nil {
		return nil, err
	}
	key := whatisup.APIKey{Customer: c.customer(), Mode: c.mode()}
	key.Name, _ = b.name(true)
	boundTo, bound := "", false
	if string(b.fields["instance_id"]) != "null" {
		boundTo, bound = b.text("instance_id", false)
	} else {
		b.take("instance_id")
	}
	key.ExpiresAt, _ = b.later("expires_at", c.now())
	if own := c.caller.key.ExpiresAt; !own.IsZero() {
		if key.ExpiresAt.IsZero() {
			key.ExpiresAt = own
		}
		if key.ExpiresAt.After(own) {
			b.problem("expires_at", "must not be later than that of the key in use, "+whatisup.At(own).String())
		}
	}
	if err := b.done(); err != nil {
		return nil, err
	}
	if bound {
		i, err := c.find(boundTo)
		if err != nil {
			return nil, err
		}
		key.Instance = i.Config.ID
	}
	return c.once(b, func(o *once) (*answer, error) {
		made, text, err := c.Peppers.NewKey(key)
		if err != nil {
			return nil, err
		}
		w := keyWire(&made)
		secret := string(text)
		w.Secret = &secret
		a := reply(http.StatusCreated, w)
		record, err := o.with(a)
		if err != nil {
			return nil, err
		}
		if err := c.Store.CreateKey(c.ctx, made, record); err != nil {
			return nil, err
		}
		return a, nil
	})
}

func revokeKey(c *call) (*answer, error) {
	id, ok := whatisup.ParseKeyID(c.segment)
	if !ok {
		id = "00000000-0000-0000-0000-000000000000" // looked for like any other
	}
	err := c.Store.RevokeKey(c.ctx, c.customer(), c.mode(), id)
	if errors.Is(err, whatisup.ErrNotFound) {
		return nil, errKeyNotFound
	}
	if err != nil {
		return nil, err
	}
	return reply(http.StatusNoContent, nil), nil
}
