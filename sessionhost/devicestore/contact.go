package devicestore

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"go.mau.fi/whatsmeow/store"
	wa "go.mau.fi/whatsmeow/types"
)

// contact is a row's value.
type contact struct {
	JID           string `json:"jid"`
	FirstName     string `json:"first,omitempty"`
	FullName      string `json:"full,omitempty"`
	PushName      string `json:"push,omitempty"`
	BusinessName  string `json:"business,omitempty"`
	RedactedPhone string `json:"redacted,omitempty"`
}

func (c *contact) info() wa.ContactInfo {
	return wa.ContactInfo{
		Found: true, FirstName: c.FirstName, FullName: c.FullName, PushName: c.PushName,
		BusinessName: c.BusinessName, RedactedPhone: c.RedactedPhone,
	}
}

func (l *link) contactRow(user wa.JID) string {
	return kindContact + "#" + l.key.Name(kindContact, user.String())
}

// decode reads a row of JSON; what is no JSON ends the handle.
func (l *link) decode(value []byte, into any) error {
	if err := json.Unmarshal(value, into); err != nil {
		return l.h.fail(fmt.Errorf("%w: row of JSON", ErrCorrupt))
	}
	return nil
}

func encode(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // only structs of strings and numbers come here
	}
	return b
}

// editContacts changes contacts, those that the edit leaves as they are for
// nothing. It uses as many transactions as it takes.
func (l *link) editContacts(ctx context.Context, users []wa.JID, edit func(i int, c *contact) (changed bool)) error {
	if err := l.usable(); err != nil {
		return err
	}
	index := make(map[string]int, len(users)) // the first of several entries counts
	var sks []string
	for i, user := range users {
		sk := l.contactRow(user)
		if _, ok := index[sk]; !ok {
			sks, index[sk] = append(sks, sk), i
		}
	}
	for batch := range slices.Chunk(sks, maxItems-spare) {
		err := l.atomically(ctx, func(ctx context.Context, t *txn) error {
			rows, err := l.getMany(ctx, batch)
			if err != nil {
				return err
			}
			for _, sk := range batch {
				c := contact{JID: users[index[sk]].String()}
				if rows[sk] != nil {
					if err := l.decode(rows[sk], &c); err != nil {
						return err
					}
				}
				if edit(index[sk], &c) || rows[sk] == nil {
					t.put(sk, encode(c))
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// PutPushName is called with every message. A name that has not changed costs
// nothing; one that has joins the next commit.
func (l *link) PutPushName(ctx context.Context, user wa.JID, name string) (bool, string, error) {
	return l.stageName(ctx, user, name, func(c *contact) *string { return &c.PushName })
}

func (l *link) PutBusinessName(ctx context.Context, user wa.JID, name string) (bool, string, error) {
	return l.stageName(ctx, user, name, func(c *contact) *string { return &c.BusinessName })
}

func (l *link) stageName(ctx context.Context, user wa.JID, name string, field func(*contact) *string) (changed bool, previous string, err error) {
	l.contactMu.Lock()
	defer l.contactMu.Unlock()
	if err := l.usable(); err != nil {
		return false, "", err
	}
	sk := l.contactRow(user)
	value, err := l.get(ctx, sk)
	if err != nil {
		return false, "", err
	}
	c := contact{JID: user.String()}
	if value != nil {
		if err := l.decode(value, &c); err != nil {
			return false, "", err
		}
	}
	if *field(&c) == name {
		return false, "", nil
	}
	previous, *field(&c) = *field(&c), name
	if err := l.stage(ctx, map[string]*write{sk: {value: encode(c)}}); err != nil {
		return false, "", err
	}
	return true, previous, nil
}

func (l *link) PutContactName(ctx context.Context, user wa.JID, firstName, fullName string) error {
	known, err := l.GetContact(ctx, user)
	if err != nil || known.FirstName == firstName && known.FullName == fullName {
		return err
	}
	return l.PutAllContactNames(ctx, []store.ContactEntry{{JID: user, FirstName: firstName, FullName: fullName}})
}

func (l *link) PutAllContactNames(ctx context.Context, contacts []store.ContactEntry) error {
	l.contactMu.Lock()
	defer l.contactMu.Unlock()
	users := make([]wa.JID, len(contacts))
	for i, c := range contacts {
		users[i] = c.JID
	}
	return l.editContacts(ctx, users, func(i int, c *contact) bool {
		e := contacts[i]
		if c.FirstName == e.FirstName && c.FullName == e.FullName {
			return false
		}
		c.FirstName, c.FullName = e.FirstName, e.FullName
		return true
	})
}

func (l *link) PutManyRedactedPhones(ctx context.Context, entries []store.RedactedPhoneEntry) error {
	l.contactMu.Lock()
	defer l.contactMu.Unlock()
	users := make([]wa.JID, len(entries))
	for i, e := range entries {
		users[i] = e.JID
	}
	return l.editContacts(ctx, users, func(i int, c *contact) bool {
		if c.RedactedPhone == entries[i].RedactedPhone {
			return false
		}
		c.RedactedPhone = entries[i].RedactedPhone
		return true
	})
}

func (l *link) GetContact(ctx context.Context, user wa.JID) (wa.ContactInfo, error) {
	if err := l.usable(); err != nil {
		return wa.ContactInfo{}, err
	}
	value, err := l.get(ctx, l.contactRow(user))
	if err != nil || value == nil {
		return wa.ContactInfo{}, err
	}
	var c contact
	if err := l.decode(value, &c); err != nil {
		return wa.ContactInfo{}, err
	}
	return c.info(), nil
}

func (l *link) GetAllContacts(ctx context.Context) (map[wa.JID]wa.ContactInfo, error) {
	rows, err := l.list(ctx, kindContact+"#")
	if err != nil {
		return nil, err
	}
	out := make(map[wa.JID]wa.ContactInfo, len(rows))
	for _, value := range rows {
		var c contact
		if err := l.decode(value, &c); err != nil {
			return nil, err
		}
		jid, err := wa.ParseJID(c.JID)
		if err != nil {
			return nil, l.h.fail(fmt.Errorf("%w: contact", ErrCorrupt))
		}
		out[jid] = c.info()
	}
	return out, nil
}
