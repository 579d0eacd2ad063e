package devicestore

import (
	"bytes"
	"context"
	"strings"
)

// senderKey is the row of one sender in one group. It is among the sender's
// rows, so that a migration finds it.
func (l *link) senderKey(group, user string) string {
	name, device, _ := strings.Cut(user, ":")
	return l.peerPrefix(name, peerSenderKey) + l.key.Name(peerSenderKey, group) + "#" + device
}

func (l *link) PutSenderKey(ctx context.Context, group, user string, session []byte) error {
	if err := l.usable(); err != nil {
		return err
	}
	sk := l.senderKey(group, user)
	return l.atomically(ctx, func(_ context.Context, t *txn) error {
		t.put(sk, bytes.Clone(nonNil(session)))
		return nil
	})
}

func (l *link) GetSenderKey(ctx context.Context, group, user string) ([]byte, error) {
	if err := l.usable(); err != nil {
		return nil, err
	}
	return l.get(ctx, l.senderKey(group, user))
}
