package devicestore

import (
	"context"
	"time"

	"go.mau.fi/whatsmeow/store"
	wa "go.mau.fi/whatsmeow/types"
)

// chat is the settings of one chat.
type chat struct {
	MutedUntil int64 `json:"muted,omitempty"` // unix seconds; -1: for ever
	Pinned     bool  `json:"pinned,omitempty"`
	Archived   bool  `json:"archived,omitempty"`
}

func (l *link) chatRow(jid wa.JID) string {
	return kindChat + "#" + l.key.Name(kindChat, jid.String())
}

func (l *link) editChat(ctx context.Context, jid wa.JID, edit func(*chat)) error {
	if err := l.usable(); err != nil {
		return err
	}
	sk := l.chatRow(jid)
	return l.atomically(ctx, func(ctx context.Context, t *txn) error {
		value, err := l.get(ctx, sk)
		if err != nil {
			return err
		}
		var c chat
		if value != nil {
			if err := l.decode(value, &c); err != nil {
				return err
			}
		}
		before := c
		if edit(&c); value == nil || c != before {
			t.put(sk, encode(c))
		}
		return nil
	})
}

func (l *link) PutMutedUntil(ctx context.Context, jid wa.JID, until time.Time) error {
	return l.editChat(ctx, jid, func(c *chat) {
		switch {
		case until == store.MutedForever:
			c.MutedUntil = -1
		case until.IsZero():
			c.MutedUntil = 0
		default:
			c.MutedUntil = until.Unix()
		}
	})
}

func (l *link) PutPinned(ctx context.Context, jid wa.JID, pinned bool) error {
	return l.editChat(ctx, jid, func(c *chat) { c.Pinned = pinned })
}

func (l *link) PutArchived(ctx context.Context, jid wa.JID, archived bool) error {
	return l.editChat(ctx, jid, func(c *chat) { c.Archived = archived })
}

func (l *link) GetChatSettings(ctx context.Context, jid wa.JID) (settings wa.LocalChatSettings, err error) {
	if err := l.usable(); err != nil {
		return settings, err
	}
	value, err := l.get(ctx, l.chatRow(jid))
	if err != nil || value == nil {
		return settings, err
	}
	var c chat
	if err := l.decode(value, &c); err != nil {
		return settings, err
	}
	settings = wa.LocalChatSettings{Found: true, Pinned: c.Pinned, Archived: c.Archived}
	switch {
	case c.MutedUntil < 0:
		settings.MutedUntil = store.MutedForever
	case c.MutedUntil > 0:
		settings.MutedUntil = time.Unix(c.MutedUntil, 0)
	}
	return settings, nil
}
