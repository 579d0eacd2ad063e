package control

import (
	"context"
	"errors"
	"iter"

	"whatisup/shared/whatisup"
)

// Keys lists the caller's API keys that are not revoked, newest first.
func (c *Control) Keys(ctx context.Context, who Caller) iter.Seq2[whatisup.APIKey, error] {
	return c.Store.Keys(ctx, who.Customer.ID, who.Mode)
}

// NewKey is a key that was just made, with its text.
type NewKey struct {
	whatisup.APIKey
	Text whatisup.Secret
}

// CreateKey makes an API key with the name, the binding and the end of k.
func (c *Control) CreateKey(ctx context.Context, who Caller, k whatisup.APIKey, seal Seal[NewKey]) (NewKey, error) {
	k.Customer, k.Mode = who.Customer.ID, who.Mode
	inForce := 0
	for other, err := range c.Keys(ctx, who) {
		if err != nil {
			return NewKey{}, err
		}
		if other.ExpiresAt.IsZero() || c.Now().Before(other.ExpiresAt) {
			inForce++
		}
		if inForce >= whatisup.MaxKeys {
			return NewKey{}, ErrKeyLimit
		}
	}
	made, text, err := c.Peppers.NewKey(k)
	if err != nil {
		return NewKey{}, err
	}
	key := NewKey{made, text}
	record, err := seal.record(key)
	if err != nil {
		return NewKey{}, err
	}
	err = c.Store.CreateKey(ctx, made, record)
	switch {
	case errors.Is(err, whatisup.ErrSuspended):
		return NewKey{}, ErrSuspended
	case errors.Is(err, whatisup.ErrNotFound):
		return NewKey{}, ErrInstanceNotFound
	}
	return key, err
}

// RevokeKey revokes one of the caller's API keys. A text that is no id is looked
// for like any other.
func (c *Control) RevokeKey(ctx context.Context, who Caller, id string) error {
	parsed, ok := whatisup.ParseKeyID(id)
	if !ok {
		parsed = "00000000-0000-0000-0000-000000000000"
	}
	err := c.Store.RevokeKey(ctx, who.Customer.ID, who.Mode, parsed)
	if errors.Is(err, whatisup.ErrNotFound) {
		return ErrKeyNotFound
	}
	return err
}
