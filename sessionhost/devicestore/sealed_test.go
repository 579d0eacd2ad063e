package devicestore

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"go.mau.fi/whatsmeow/store"
	wa "go.mau.fi/whatsmeow/types"
)

// The table tells no secret, no text, no name and no number, in no encoding.
func TestNothingInClear(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	h := b.open(1)
	device := h.pair(t, 1)
	fill(t, h, device)
	ctx := t.Context()
	pre, err := device.PreKeys.GetOrGenPreKeys(ctx, 30)
	if err != nil {
		t.Fatal(err)
	}
	p := newPeer(t, 1, device)
	p.meet(device, pre[0])
	const text = "a text that nobody else shall read"
	if err := receive(ctx, device, p.encrypt(text), func(string) error { return errors.New("not now") }); err == nil {
		t.Fatal("the handler's refusal is lost")
	}
	_, _, err = device.Contacts.PutPushName(ctx, ann, "Ann Pushname")
	if err := errors.Join(err, h.link.flush(ctx)); err != nil {
		t.Fatal(err)
	}
	raw, err := device.Sessions.GetSession(ctx, p.address.String())
	if err != nil || raw == nil {
		t.Fatal(err)
	}

	secrets := map[string][]byte{
		"noise key": device.NoiseKey.Priv[:], "identity key": device.IdentityKey.Priv[:],
		"signed pre-key": device.SignedPreKey.Priv[:], "adv secret": device.AdvSecretKey,
		"pre-key": pre[7].Priv[:], "text": []byte(text), "push name": []byte("Ann Pushname"),
		"session": raw[200:240], "outgoing text": []byte("an outgoing text"), "buffered text": []byte("an unhandled text"),
		"large buffered": junk1k[100:140], "message secret": []byte("message secret"), "sender key": []byte("sender key"),
		"our number": []byte(device.ID.User), "our lid": []byte(device.LID.User),
		"number of a contact": []byte(ann.User), "lid of a contact": []byte(annL.User),
		"number of the peer": []byte(strings.TrimSuffix(p.address.Name(), "_1")),
		"contact":            []byte("Ann A"), "salt": []byte("salt"), "token": []byte("token"), "group": []byte("g@g.us"),
	}
	entries := b.rows()
	h.settle(t)
	rows := 0
	for _, item := range append(entries, b.rows()...) {
		rows++
		for name, v := range item {
			var value []byte
			switch v := v.(type) {
			case *types.AttributeValueMemberS:
				value = []byte(v.Value)
			case *types.AttributeValueMemberB:
				value = v.Value
			}
			for what, secret := range secrets {
				for enc, s := range map[string][]byte{
					"clear": secret, "hex": []byte(hex.EncodeToString(secret)),
					"base64": []byte(base64.RawStdEncoding.EncodeToString(secret[:len(secret)/3*3])),
				} {
					if len(s) > 3 && bytes.Contains(value, s) {
						t.Errorf("%s stands in %s (%s) of row %s", what, name, enc, stringAttr(item, attrSK))
					}
				}
			}
		}
	}
	if rows < 15 {
		t.Errorf("only %d rows were looked at", rows)
	}
}

// A value that somebody moved to another row, put back from an earlier time into
// another link, or changed, ends the handle; it is never taken for what should
// stand there, nor for nothing.
func TestMovedValues(t *testing.T) {
	t.Parallel()
	all := newBench(t)
	copyValue := func(b *bench, fromPK, fromSK, toPK, toSK string) {
		t.Helper()
		out, err := b.db.GetItem(t.Context(), &dynamodb.GetItemInput{TableName: aws.String(testTable), Key: primaryKey(fromPK, fromSK)})
		if err != nil || len(out.Item) == 0 {
			t.Fatalf("row %s: %v", fromSK, err)
		}
		item := out.Item
		item[attrPK], item[attrSK] = str(toPK), str(toSK)
		if _, err := b.db.PutItem(t.Context(), &dynamodb.PutItemInput{TableName: aws.String(testTable), Item: item}); err != nil {
			t.Fatal(err)
		}
	}
	check := func(name string, b *bench, do func(d *store.Device) error) {
		t.Helper()
		h := b.reopen(1)
		d, err := h.Load(t.Context())
		if err == nil {
			if err = do(d.Store); !errors.Is(err, context.Canceled) || h.failed.Load() != 1 {
				t.Errorf("%s: %v; closed %d times", name, err, h.failed.Load())
			}
		}
		if !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
	}

	b := all.another(t)
	h := b.open(1)
	device := h.pair(t, 1)
	fill(t, h, device)
	if err := device.Sessions.PutSession(t.Context(), bobAddress, []byte("session of bob")); err != nil {
		t.Fatal(err)
	}
	h.settle(t)
	l := h.link
	annRow, bobRow := l.peerKey(peerSession, annAddress), l.peerKey(peerSession, bobAddress)
	session := func(address string) func(d *store.Device) error {
		return func(d *store.Device) error {
			_, err := d.Sessions.GetSession(t.Context(), address)
			return err
		}
	}
	copyValue(b, l.pk, annRow, l.pk, bobRow)
	check("another user's session", b, session(bobAddress))
	copyValue(b, l.pk, l.peerKey(peerIdentity, annAddress), l.pk, annRow)
	check("another kind", b, session(annAddress))

	other := all.another(t)
	o := other.open(1)
	o.pair(t, 1)
	copyValue(b, l.pk, kindDevice, o.link.pk, kindDevice)
	check("another instance's device", other, func(*store.Device) error { return nil })

	// The whole device row of another instance, wrapped key included.
	third := all.another(t)
	c := third.open(1)
	c.pair(t, 1)
	copyValue(b, string(b.instance.ID), headSK, string(third.instance.ID), headSK)
	check("another instance's key", third, func(*store.Device) error { return nil })
}

// After the library's own delete the device refuses everything, for ever.
func TestDeletedDeviceRefuses(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	h := b.open(1)
	device := h.pair(t, 1)
	fill(t, h, device)
	stale := *device // as code has it that took a store before the delete
	if err := device.Delete(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, row := range b.rows() {
		if row[attrKey] != nil || row[attrLink] != nil || row[attrHot] != nil {
			t.Error("the device row still has its key")
		}
	}
	h.rec.reset()
	for _, m := range append(append([]method{}, writers...), readers...) {
		if m.name == "Confirm" {
			continue // the handle's, and it lives on
		}
		// (The device itself has whatsmeow's NoopStore now, which takes some calls.)
		if err := m.do(t.Context(), h, &stale); err == nil {
			t.Errorf("%s on the deleted device succeeds", m.name)
		}
	}
	for _, get := range []func() error{
		func() error {
			_, err := stale.LIDs.GetLIDForPN(t.Context(), wa.JID{User: "1", Server: wa.DefaultUserServer})
			return err
		},
		func() error { _, err := stale.EventBuffer.GetBufferedEvent(t.Context(), [32]byte{9}); return err },
		func() error { _, err := stale.PreKeys.UploadedPreKeyCount(t.Context()); return err },
		func() error { return stale.Save(t.Context()) },
	} {
		if err := get(); !errors.Is(err, store.ErrDeviceDeleted) {
			t.Errorf("a copy of the deleted device: %v", err)
		}
	}
	if w, r := h.rec.counts(); w+r > 0 {
		t.Errorf("%d writes and %d reads of a deleted device", w, r)
	}
	if h.Err() != nil {
		t.Errorf("the handle failed: %v", h.Err())
	}
	h.pair(t, 2) // a new link is fine
}
