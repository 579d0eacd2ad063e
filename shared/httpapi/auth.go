package httpapi

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"net/http"
	"strings"
	"sync"
	"time"

	"whatisup/shared/control"
	"whatisup/shared/whatisup"
)

// KeyKept is how long a key and its customer are trusted without being read
// again: a revocation is in force everywhere within a minute.
const KeyKept = 50 * time.Second

// keysKept bounds the memory; beyond it the oldest are forgotten.
const keysKept = 10_000

func mac(secret whatisup.Secret, text string) []byte {
	h := hmac.New(sha256.New, []byte(secret))
	h.Write([]byte(text))
	return h.Sum(nil)
}

// caller is who sent a request.
type caller struct {
	key      whatisup.APIKey
	customer whatisup.Customer
	text     whatisup.Secret // of the key, from which the request's own secrets are derived
}

// keyring remembers keys for KeyKept.
type keyring struct {
	mu    sync.Mutex
	known map[whatisup.KeyID]known
}

type known struct {
	caller  caller // without text
	readAt  time.Time
	touched time.Time // the hour that was noted as the last use
}

func (k *keyring) get(id whatisup.KeyID) known {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.known[id]
}

func (k *keyring) put(id whatisup.KeyID, entry known) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.known == nil {
		k.known = map[whatisup.KeyID]known{}
	}
	if len(k.known) >= keysKept {
		for old, e := range k.known {
			if entry.readAt.Sub(e.readAt) >= KeyKept {
				delete(k.known, old)
			}
		}
	}
	if len(k.known) >= keysKept {
		clear(k.known)
	}
	k.known[id] = entry
}

// forget makes the next use of a key read it again.
func (k *keyring) forget(id whatisup.KeyID) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if entry, ok := k.known[id]; ok {
		entry.readAt = time.Time{}
		k.known[id] = entry
	}
}

// authenticate finds who sent a request. The order of its answers gives nothing
// away: that a key has expired is told only to who knows all of it.
func (a *API) authenticate(ctx context.Context, h http.Header) (caller, error) {
	text, err := bearer(h)
	if err != nil {
		return caller{}, err
	}
	mode, id, ok := whatisup.ParseAPIKeyText(string(text))
	if !ok {
		return caller{}, errAuthMalformed
	}
	now := a.now()
	entry := a.keys.get(id)
	fresh := now.Sub(entry.readAt) < KeyKept
	if !fresh {
		readAt := now
		key, err := a.Store.Key(ctx, id)
		if errors.Is(err, whatisup.ErrNotFound) {
			return caller{}, errAuthInvalid
		} else if err != nil {
			return caller{}, err
		}
		entry.caller, entry.readAt = caller{key: key, customer: entry.caller.customer}, readAt
	}
	key := entry.caller.key
	hash, err := a.Peppers.Hash(key.Pepper, text)
	if err != nil {
		return caller{}, err
	}
	if !hmac.Equal(hash, key.Hash) || key.Mode != mode {
		return caller{}, errAuthInvalid
	}
	if !key.RevokedAt.IsZero() || !key.ExpiresAt.IsZero() && !now.Before(key.ExpiresAt) {
		return caller{}, errAuthExpired
	}
	if !fresh {
		if entry.caller.customer, err = a.Store.Customer(ctx, key.Customer); errors.Is(err, whatisup.ErrNotFound) {
			return caller{}, errAuthInvalid
		} else if err != nil {
			return caller{}, err
		}
		if err := a.bindingHolds(ctx, &key); err != nil {
			return caller{}, err
		}
		a.noteUse(ctx, &entry, text, now)
		a.keys.put(id, entry)
	}
	c := entry.caller
	c.text = text
	return c, nil
}

// bindingHolds refuses a key whose instance is gone. The deletion revokes the keys
// that it knows of; this holds for whatever it may have missed.
func (a *API) bindingHolds(ctx context.Context, key *whatisup.APIKey) error {
	if key.Instance == "" {
		return nil
	}
	_, err := a.Store.Instance(ctx, key.Customer, key.Mode, key.Instance)
	if errors.Is(err, whatisup.ErrNotFound) {
		return errAuthExpired
	}
	return err
}

// reauthenticate is [API.authenticate] for a call that lasts long: it reads the
// key and its customer again.
func (a *API) reauthenticate(ctx context.Context, c caller, h http.Header) error {
	a.keys.forget(c.key.ID)
	c, err := a.authenticate(ctx, h)
	if err == nil && c.customer.Suspended {
		return control.ErrSuspended
	}
	return err
}

// noteUse keeps the hour of a key's last use, and moves its hash to the newest
// pepper. Neither is worth failing a request for.
func (a *API) noteUse(ctx context.Context, entry *known, text whatisup.Secret, now time.Time) {
	key := &entry.caller.key
	if hour := now.UTC().Truncate(time.Hour); hour.After(entry.touched) {
		if err := a.Store.TouchKey(ctx, *key, hour); err != nil {
			a.Log.Warn("last use not noted", "key_id", string(key.ID), "error", err)
		} else {
			entry.touched = hour
		}
	}
	newest := a.Peppers.Newest()
	if key.Pepper >= newest {
		return
	}
	hash, err := a.Peppers.Hash(newest, text)
	if err == nil {
		err = a.Store.RehashKey(ctx, *key, hash, newest)
	}
	if err != nil {
		a.Log.Warn("key not hashed again", "key_id", string(key.ID), "error", err)
		return
	}
	key.Hash, key.Pepper = hash, newest
}

func bearer(h http.Header) (whatisup.Secret, error) {
	values := h.Values("Authorization")
	if len(values) == 0 || len(values) == 1 && values[0] == "" {
		return "", errAuthMissing
	}
	scheme, text, _ := strings.Cut(values[0], " ")
	if len(values) > 1 || !strings.EqualFold(scheme, "Bearer") {
		return "", errAuthMalformed
	}
	return whatisup.Secret(strings.TrimLeft(text, " ")), nil
}
