package devicestore

import (
	"context"
	"fmt"
	"slices"
	"time"

	"go.mau.fi/whatsmeow/store"
	wa "go.mau.fi/whatsmeow/types"
)

// secretLife is how long a message's secret is kept: reactions, edits and poll
// votes that come later can't be read. (whatsmeow never deletes one.)
const secretLife = 90 * 24 * time.Hour

func (l *link) secretRow(chat, sender wa.JID, id wa.MessageID) string {
	return kindSecret + "#" + l.key.Name(kindSecret, chat.ToNonAD().String()+" "+sender.ToNonAD().String()+" "+id)
}

// PutMessageSecret joins the next commit: on receiving that of the handled
// event, on sending that of the session, which comes before the message leaves.
func (l *link) PutMessageSecret(ctx context.Context, chat, sender wa.JID, id wa.MessageID, secret []byte) error {
	return l.PutMessageSecrets(ctx, []store.MessageSecretInsert{{Chat: chat, Sender: sender, ID: id, Secret: secret}})
}

// PutMessageSecrets keeps the first of two secrets for one message among those
// that it knows of without asking the table: they don't differ in practice.
func (l *link) PutMessageSecrets(ctx context.Context, inserts []store.MessageSecretInsert) error {
	if err := l.usable(); err != nil {
		return err
	}
	for batch := range slices.Chunk(inserts, maxItems-spare) {
		rows := make(map[string]*write, len(batch))
		for _, in := range batch {
			sk := l.secretRow(in.Chat, in.Sender, in.ID)
			if _, ok := rows[sk]; ok {
				continue
			}
			if value, known := l.known(nil, sk); known && value != nil {
				continue
			}
			value := appendBytes(nil, []byte(in.Sender.ToNonAD().String()))
			rows[sk] = &write{value: appendBytes(value, in.Secret), expires: time.Now().Add(secretLife)}
		}
		if s := l.sendingOf(ctx); s != nil && s.add(rows) {
			continue
		}
		write := l.stage
		if len(inserts) > stagedRows { // history, which nothing waits for
			write = l.commitRows
		}
		if err := write(ctx, rows); err != nil {
			return err
		}
	}
	return nil
}

// GetMessageSecret looks for the secret under every form of address of chat and
// sender, and returns the sender it was stored with.
func (l *link) GetMessageSecret(ctx context.Context, chat, sender wa.JID, id wa.MessageID) ([]byte, wa.JID, error) {
	chats, err := l.forms(ctx, chat)
	if err != nil {
		return nil, wa.EmptyJID, err
	}
	senders, err := l.forms(ctx, sender)
	if err != nil {
		return nil, wa.EmptyJID, err
	}
	var sks []string
	for _, c := range chats {
		for _, s := range senders {
			sks = append(sks, l.secretRow(c, s, id))
		}
	}
	rows, err := l.getMany(ctx, sks)
	if err != nil {
		return nil, wa.EmptyJID, err
	}
	for _, sk := range sks {
		if rows[sk] == nil {
			continue
		}
		d := decoder{b: rows[sk]}
		stored, secret := string(d.bytes()), d.bytes()
		from, err := wa.ParseJID(stored)
		if d.failed || err != nil {
			return nil, wa.EmptyJID, l.h.fail(fmt.Errorf("%w: message secret", ErrCorrupt))
		}
		return secret, from, nil
	}
	return nil, wa.EmptyJID, nil
}

// forms returns the forms under which something about the user may be stored:
// as asked, and the LID for a phone number or the other way round.
func (l *link) forms(ctx context.Context, jid wa.JID) ([]wa.JID, error) {
	jid = jid.ToNonAD()
	var other wa.JID
	var err error
	switch jid.Server {
	case wa.DefaultUserServer:
		other, err = l.GetLIDForPN(ctx, jid)
	case wa.HiddenUserServer:
		other, err = l.GetPNForLID(ctx, jid)
	default:
		err = l.usable()
	}
	if err != nil {
		return nil, err
	}
	if other.IsEmpty() {
		return []wa.JID{jid}, nil
	}
	return []wa.JID{jid, other}, nil
}
