package devicestore

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"go.mau.fi/whatsmeow/store"
	wa "go.mau.fi/whatsmeow/types"
)

// cost runs f and says what it took.
func cost(h *host, f func() error) (writes, reads int, wcu, rcu float64, err error) {
	h.rec.reset()
	err = f()
	writes, reads = h.rec.counts()
	wcu, rcu = h.rec.units()
	return writes, reads, wcu, rcu, err
}

// ofLog is what is cheaper or dearer where a link is a log, without the folds.
var ofLog = map[string]float64{
	"pairing and first login":           38,
	"first message of a new contact":    3,
	"received message, known session":   2,
	"received message with a secret":    2,
	"... and the message after it":      2,
	"sent message, known contact":       1,
	"sent message with secret and copy": 1,
	"message that needs no event":       1,
	"wipe":                              4,
}

// What the package's text promises, counted on requests that were made.
func TestCosts(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	h := b.open(1)
	ctx := t.Context()
	var device *store.Device
	var pre uint32

	table := []struct {
		name          string
		do            func() error
		writes, reads int
		units         float64 // at most; 0: not looked at
	}{
		{"pairing and first login", func() error {
			device = h.New(1)
			pair(device, 1)
			pn, lid := *device.ID, device.LID
			main := lid
			main.Device = 0
			err := errors.Join(
				device.Save(ctx),
				device.LIDs.PutLIDMapping(ctx, lid, pn),
				device.Identities.PutIdentity(ctx, main.SignalAddress().String(), [32]byte{1}),
				device.LIDs.PutLIDMapping(ctx, lid, pn))
			if _, e := device.PreKeys.UploadedPreKeyCount(ctx); e != nil {
				return e
			}
			keys, e := device.PreKeys.GetOrGenPreKeys(ctx, 812)
			if e != nil {
				return e
			}
			pre = keys[0].KeyID
			_, e = device.PrivacyTokens.DeleteExpiredPrivacyTokens(ctx, time.Now())
			return errors.Join(err, e, device.PreKeys.MarkPreKeysAsUploaded(ctx, keys[len(keys)-1].KeyID), h.Confirm(ctx))
		}, 6, 3, 120},
		{"reconnect of an open handle", func() error {
			_, err := device.PreKeys.UploadedPreKeyCount(ctx)
			_, err2 := device.PrivacyTokens.DeleteExpiredPrivacyTokens(ctx, time.Now())
			return errors.Join(err, err2, h.Confirm(ctx), device.Save(ctx))
		}, 0, 0, 0},
		{"opening a stored link", func() error {
			h.Handle = h.Handle.store.Open(b.instance, h.fence)
			d, err := h.Load(ctx)
			if err != nil {
				return err
			}
			device = d.Store
			_, err = device.PreKeys.UploadedPreKeyCount(ctx)
			_, err2 := device.PrivacyTokens.DeleteExpiredPrivacyTokens(ctx, time.Now())
			return errors.Join(err, err2, h.Confirm(ctx))
		}, 0, 2, 0},
	}
	if testFormat == FormatLog { // entries are read, too
		table[2].reads = 3
	}
	check := func(name string, f func() error, writes, reads int, units float64) {
		t.Helper()
		if log, ok := ofLog[name]; ok && testFormat == FormatLog {
			units = log
		}
		w, r, wcu, rcu, err := cost(h, f)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		t.Logf("%-36s %2d writes %2d reads %5.1f write units %4.1f read units", name, w, r, wcu, rcu)
		if w > writes || r > reads || units > 0 && wcu > units {
			t.Errorf("%s: %d writes, %d reads, %.1f units; at most %d, %d, %.1f", name, w, r, wcu, writes, reads, units)
		}
	}
	for _, c := range table {
		check(c.name, c.do, c.writes, c.reads, c.units)
	}

	p := newPeer(t, 1, device)
	one, err := device.PreKeys.GetPreKey(ctx, pre)
	if err != nil {
		t.Fatal(err)
	}
	p.meet(device, one)
	pn := wa.JID{User: "491770001", Server: wa.DefaultUserServer}
	lid := wa.JID{User: "770001", Server: wa.HiddenUserServer}
	position := 0
	// receiving is a message as whatsmeow handles it, with everything that it
	// asks of the store around.
	receiving := func(text string, secret bool) func() error {
		c := p.encrypt(text)
		return func() error {
			position++
			id := fmt.Sprintf("ID%d", position)
			err := errors.Join(
				device.LIDs.PutLIDMapping(ctx, lid, pn),
				device.Sessions.MigratePNToLID(ctx, pn, lid))
			if err != nil {
				return err
			}
			return receive(ctx, device, c, func(text string) error {
				if secret {
					if err := device.MsgSecrets.PutMessageSecret(ctx, lid, lid, id, make([]byte, 32)); err != nil {
						return err
					}
				}
				if _, _, err := device.Contacts.PutPushName(ctx, lid, "Ann"); err != nil {
					return err
				}
				if _, _, err := device.Contacts.PutPushName(ctx, pn, "Ann"); err != nil {
					return err
				}
				m, _ := h.Handling()
				return h.Handled(ctx, m, h.logOf(m, text), unsent)
			})
		}
	}
	sending := func() error {
		body, err := send(ctx, device, p.address, "a reply")
		if err != nil {
			return err
		}
		_, err = p.decrypt(body)
		return err
	}
	check("first message of a new contact", receiving("hello", false), 3, 8, 0)
	if err := sending(); err != nil {
		t.Fatal(err)
	}
	for range 12 { // until the ratchet has all its chains
		if err := receiving("ping", false)(); err != nil {
			t.Fatal(err)
		}
		if err := sending(); err != nil {
			t.Fatal(err)
		}
	}
	check("received message, known session", receiving("How are you today? See you at eight.", false), 2, 0, 5)
	check("received message with a secret", receiving("How are you today? See you at eight.", true), 2, 0, 5)
	check("... and the message after it", receiving("How are you today? See you at eight.", false), 2, 0, 7)
	check("sent message, known contact", sending, 1, 0, 4)
	check("sent message with secret and copy", func() error {
		err := errors.Join(
			device.EventBuffer.AddOutgoingEvent(ctx, lid, "OUT1", "wa", []byte("a reply")),
			device.MsgSecrets.PutMessageSecret(ctx, lid, *device.ID, "OUT1", make([]byte, 32)))
		return errors.Join(err, sending())
	}, 1, 0, 8)
	check("what has not changed", func() error {
		for range 10 {
			_, _, e1 := device.Contacts.PutPushName(ctx, lid, "Ann")
			e2 := device.LIDs.PutLIDMapping(ctx, lid, pn)
			e3 := device.LIDs.PutManyLIDMappings(ctx, []store.LIDMapping{{LID: lid, PN: pn}})
			e4 := device.Sessions.MigratePNToLID(ctx, pn, lid)
			e5 := device.Save(ctx)
			if err := errors.Join(e1, e2, e3, e4, e5); err != nil {
				return err
			}
		}
		return nil
	}, 0, 0, 0)
	check("receiving what was handled", func() error {
		c := p.encrypt("twice")
		handle := func(string) error {
			m, _ := h.Handling()
			return h.Handled(ctx, m, h.logOf(m, "twice"), unsent)
		}
		if err := receive(ctx, device, c, handle); err != nil {
			return err
		}
		h.rec.reset()
		return receive(ctx, device, c, handle)
	}, 0, 0, 0)
	check("message delivered again", func() error {
		c := p.encrypt("not at first")
		refused := errors.New("not now")
		if err := receive(ctx, device, c, func(string) error { return refused }); !errors.Is(err, refused) {
			return err
		}
		h.rec.reset()
		return receive(ctx, device, c, func(text string) error {
			m, _ := h.Handling()
			return h.Handled(ctx, m, h.logOf(m, text), unsent)
		})
	}, 2, 0, 5)
	check("message that needs no event", func() error {
		return receive(ctx, device, p.encrypt("protocol"), func(string) error { return nil })
	}, 1, 0, 4)

	if size := itemSize(b.head()); size > 1024 {
		t.Errorf("the device row has %d bytes: every write pays for another kilobyte", size)
	} else {
		t.Logf("the device row has %d bytes", size)
	}
	check("wipe", func() error { return h.Wipe(ctx, 1) }, 1, 0, 1)
}
