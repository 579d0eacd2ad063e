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

// PutSenderKey is also the commit of a group message's copy: whatsmeow calls it
// when it encrypts the message, and may call no other before the frame.
func (l *link) PutSenderKey(ctx context.Context, group, user string, session []byte) error {
	if err := l.usable(); err != nil {
		return err
	}
	sk := l.senderKey(group, user)
	decrypting, sending := l.txnOf(ctx) != nil, l.sendingOf(ctx)
	err := l.atomically(ctx, func(_ context.Context, t *txn) error {
		t.put(sk, bytes.Clone(nonNil(session)))
		if !decrypting {
			l.keepCopies(sending, t)
		}
		return nil
	})
	if err == nil && sending != nil {
		sending.wrote(nil)
	}
	return err
}

func (l *link) GetSenderKey(ctx context.Context, group, user string) ([]byte, error) {
	if err := l.usable(); err != nil {
		return nil, err
	}
	return l.get(ctx, l.senderKey(group, user))
}
