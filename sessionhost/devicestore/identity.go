package devicestore

import (
	"context"
	"fmt"
)

// PutIdentity is called with every message; an unchanged key costs nothing.
func (l *link) PutIdentity(ctx context.Context, address string, key [32]byte) error {
	if err := l.usable(); err != nil {
		return err
	}
	sk := l.peerKey(peerIdentity, address)
	return l.atomically(ctx, func(ctx context.Context, t *txn) error {
		current, err := l.get(ctx, sk)
		if err != nil || string(current) == string(key[:]) {
			return err
		}
		t.put(sk, key[:])
		if current == nil {
			return nil
		}
		return l.renewed(ctx, t, address)
	})
}

// putChanged writes a row unless it has the value already.
func (l *link) putChanged(ctx context.Context, sk string, value []byte) error {
	return l.atomically(ctx, func(ctx context.Context, t *txn) error {
		current, err := l.get(ctx, sk)
		if err == nil && (current == nil || string(current) != string(value)) {
			t.put(sk, append([]byte{}, value...))
		}
		return err
	})
}

func (l *link) DeleteAllIdentities(ctx context.Context, phone string) error {
	return l.atomically(ctx, func(ctx context.Context, t *txn) error {
		rows, err := l.list(ctx, l.peerPrefix(phone, peerIdentity))
		if err != nil || len(rows) == 0 {
			return err
		}
		for sk := range rows {
			t.delete(sk)
		}
		return l.renewed(ctx, t, phone)
	})
}

func (l *link) DeleteIdentity(ctx context.Context, address string) error {
	sk := l.peerKey(peerIdentity, address)
	return l.atomically(ctx, func(ctx context.Context, t *txn) error {
		current, err := l.get(ctx, sk)
		if err != nil || current == nil {
			return err
		}
		t.delete(sk)
		return l.renewed(ctx, t, address)
	})
}

func (l *link) IsTrustedIdentity(ctx context.Context, address string, key [32]byte) (bool, error) {
	if err := l.usable(); err != nil {
		return false, err
	}
	known, err := l.get(ctx, l.peerKey(peerIdentity, address))
	switch {
	case err != nil:
		return false, err
	case known == nil:
		return true, nil // trusted at first sight; it is saved right afterwards
	case len(known) != 32:
		return false, l.h.fail(fmt.Errorf("%w: identity of %d bytes", ErrCorrupt, len(known)))
	}
	return [32]byte(known) == key, nil
}
