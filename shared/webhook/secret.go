package webhook

import (
	"context"
	"sync"
	"time"

	"whatisup/shared/seal"
	"whatisup/shared/whatisup"
)

// Sealer seals the secrets of endpoints, each under a data key of its own, and opens
// them. The data keys that it has opened stay in memory.
type Sealer struct {
	ring *seal.Keyring
	mu   sync.Mutex
	keys map[string]*seal.Key // by wrapped form
}

// keysMost bounds how many data keys a Sealer keeps.
const keysMost = 5_000

// NewSealer wraps data keys with the keyring.
func NewSealer(ring *seal.Keyring) *Sealer {
	return &Sealer{ring: ring, keys: make(map[string]*seal.Key)}
}

func owner(e *whatisup.Endpoint) seal.Owner {
	return seal.Owner{CustomerID: string(e.Customer), InstanceID: string(e.ID)}
}

func place(e *whatisup.Endpoint) seal.Place {
	return seal.Place{Table: "webhooks", Partition: string(e.Customer) + "#" + string(e.Mode), Kind: "secret", Key: string(e.ID)}
}

func (s *Sealer) key(ctx context.Context, e *whatisup.Endpoint) (*seal.Key, error) {
	s.mu.Lock()
	k := s.keys[string(e.DataKey)]
	s.mu.Unlock()
	if k != nil {
		return k, nil
	}
	k, err := s.ring.Open(ctx, owner(e), e.DataKey)
	if err == nil {
		s.keep(e, k)
	}
	return k, err
}

func (s *Sealer) keep(e *whatisup.Endpoint, k *seal.Key) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.keys) >= keysMost {
		clear(s.keys)
	}
	s.keys[string(e.DataKey)] = k
}

// SealSecret makes a secret the endpoint's newest: it signs from now on, and the one
// before until a time. Older ones are dropped.
func (s *Sealer) SealSecret(ctx context.Context, e *whatisup.Endpoint, secret whatisup.Secret, until time.Time) error {
	var k *seal.Key
	var err error
	if len(e.DataKey) == 0 {
		if k, e.DataKey, err = s.ring.Generate(ctx, owner(e)); err == nil {
			s.keep(e, k)
		}
	} else {
		k, err = s.key(ctx, e)
	}
	if err != nil {
		return err
	}
	all := []whatisup.SealedSecret{{Sealed: k.Seal([]byte(secret), place(e))}}
	if len(e.Secrets) > 0 {
		before := e.Secrets[0]
		before.Until = until
		all = append(all, before)
	}
	e.Secrets = all
	return nil
}

// OpenSecrets opens the secrets that sign at a moment, the newest first.
func (s *Sealer) OpenSecrets(ctx context.Context, e *whatisup.Endpoint, now time.Time) ([]whatisup.Secret, error) {
	k, err := s.key(ctx, e)
	if err != nil {
		return nil, err
	}
	var all []whatisup.Secret
	for _, sealed := range e.Secrets {
		if !sealed.Until.IsZero() && !now.Before(sealed.Until) {
			continue
		}
		b, err := k.Open(sealed.Sealed, place(e))
		if err != nil {
			return nil, err
		}
		all = append(all, whatisup.Secret(b))
	}
	return all, nil
}
