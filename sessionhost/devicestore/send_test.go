package devicestore

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"testing"
	"time"

	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/store"
	wa "go.mau.fi/whatsmeow/types"
	"google.golang.org/protobuf/proto"

	"whatisup/local/whatsapp"
	"whatisup/shared/whatisup"
)

// attempt sends a text as a session does: anew, or the copy of it.
func (a *attendant) attempt(ctx context.Context, to wa.JID, id, text string) error {
	copy, again, err := a.Copy(ctx, id)
	if err != nil {
		return err
	}
	message := textMessage(text)
	if again {
		message = &waE2E.Message{}
		if err := proto.Unmarshal(copy.Bytes, message); err != nil {
			return err
		}
		to = copy.Chat
	}
	s, err := a.Send(ctx, id, copy)
	if err != nil {
		return err
	}
	// The test's own end of the wait: the connection is gone.
	done := make(chan error, 1)
	go func() {
		_, err := a.client.SendMessage(s, to, message, whatsmeow.SendRequestExtra{ID: id, Timeout: -1})
		done <- err
	}()
	select {
	case err := <-done:
		return err
	case <-time.After(patience):
		return errors.New("the send does not end")
	}
}

// A host that is killed around the commit of a send: without a copy nothing has
// left, with one it may have, and the same bytes go again under the same id. The
// recipient has it once either way.
func TestCopyDecides(t *testing.T) {
	t.Parallel()
	sim := simulator(t)
	b := newBench(t)
	const ours, friend = "4915150000001", "4915150000002"
	to := wa.NewJID(friend, wa.DefaultUserServer)
	a := b.link(sim, ours)
	a.client.Store.PushName = "A name"
	if err := a.attempt(t.Context(), to, "3EB0FIRST", "the first"); err != nil {
		t.Fatal(err)
	}
	a.rec.reset()
	if err := a.attempt(t.Context(), to, "3EB0SECOND", "the second"); err != nil {
		t.Fatal(err)
	}
	if w, _ := a.rec.counts(); w != 1 {
		t.Errorf("a send took %d writes", w)
	}
	for _, behind := range []bool{false, true} {
		id, text := fmt.Sprintf("3EB0BEHIND%v", behind), fmt.Sprintf("killed, behind the write: %v", behind)
		a.die(1, behind) // the first request asks for a copy
		if err := a.attempt(t.Context(), to, id, text); err == nil {
			t.Fatal("the host survives")
		}
		a.end()
		if n := len(sim.Messages(whatsapp.MessageFilter{ID: id})); n != 0 {
			t.Errorf("%q has left", text)
		}
		next, err := b.attend(sim, a.epoch+1, 0)
		if err != nil {
			t.Fatal(err)
		}
		if a = next; !a.connect() {
			t.Fatal("no login")
		}
		copy, ok, err := a.Copy(t.Context(), id)
		if err != nil || ok != behind {
			t.Errorf("%q: a copy is kept: %v, %v", text, ok, err)
		}
		if ok && (copy.Chat.Server != wa.HiddenUserServer || copy.Format != "wa") {
			t.Errorf("copy for %v, format %q", copy.Chat, copy.Format)
		}
		for range 2 { // and once more, as after an unknown outcome
			if err := a.attempt(t.Context(), to, id, text); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := sim.AwaitMessage(t.Context(), whatsapp.MessageFilter{ID: id}, func(m whatsapp.Message) bool { return m.Text == text }); err != nil {
			t.Error(err)
		}
		if n := len(sim.Messages(whatsapp.MessageFilter{ID: id})); n != 1 {
			t.Errorf("%q is on the phone %d times", text, n)
		}
	}
	copies, err := a.Copies(t.Context(), "3EB0FIRST", "3EB0SECOND", "3EB0NONE")
	if err != nil || len(copies) != 2 {
		t.Errorf("%d copies, %v", len(copies), err)
	}
	a.end()
}

// The library skips a device that it can't encrypt for, and would send a message
// that nobody can read. It is refused before the frame, whether or not a device
// of our own was encrypted for, and leaves nothing behind.
func TestReachesNobody(t *testing.T) {
	t.Parallel()
	sim := simulator(t)
	b := newBench(t)
	const ours, friend = "4915160000001", "4915160000002"
	to := wa.NewJID(friend, wa.DefaultUserServer)
	a := b.link(sim, ours)
	if err := a.attempt(t.Context(), to, "3EB0REACHED", "hello"); err != nil {
		t.Fatal(err)
	}
	lid, err := a.client.Store.LIDs.GetLIDForPN(t.Context(), to)
	if err != nil || lid.IsEmpty() {
		t.Fatal(lid, err)
	}
	for _, addresses := range [][]string{
		{lid.SignalAddress().String()},
		{lid.SignalAddress().String(), a.client.Store.LID.ToNonAD().SignalAddress().String()},
	} {
		for _, address := range addresses {
			if s, err := a.client.Store.Sessions.GetSession(t.Context(), address); err != nil || s == nil {
				t.Fatalf("no session with %s: %v", address, err)
			}
			if err := a.client.Store.Sessions.PutSession(t.Context(), address, []byte("no session that the library can read")); err != nil {
				t.Fatal(err)
			}
		}
		before := b.snapshot()
		id := fmt.Sprint("3EB0NOBODY", len(addresses))
		if err := a.attempt(t.Context(), to, id, "into the void"); !errors.Is(err, ErrNoRecipientDevice) {
			t.Errorf("%d devices can't be encrypted for: %v", len(addresses), err)
		}
		if _, ok, err := a.Copy(t.Context(), id); ok || err != nil {
			t.Errorf("a copy is kept: %v", err)
		}
		if len(sim.Messages(whatsapp.MessageFilter{ID: id})) != 0 {
			t.Error("it has left")
		}
		if !maps.Equal(before, b.snapshot()) {
			t.Error("the table changed")
		}
	}
	if a.Err() != nil || !a.client.IsConnected() {
		t.Errorf("the connection or the handle has ended: %v", a.Err())
	}
	a.end()
}

// The copy is never what a full transaction leaves out, and what can't be kept
// is refused by name.
func TestCopyHasRoom(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	h := b.open(1)
	device := h.pair(t, 1)
	ctx := t.Context()
	sessions := map[string][]byte{annL.SignalAddress().String(): random(900)}
	for i := range maxItems - spare - 1 {
		sessions[fmt.Sprintf("77%d_1:3", i)] = random(40 << 10)
	}
	for i := range stagedRows - 1 { // staged names and secrets fill the rest
		if err := device.MsgSecrets.PutMessageSecret(ctx, ann, ann, fmt.Sprint(i), random(stagedBytes-200)); err != nil {
			t.Fatal(err)
		}
	}
	s, err := h.Send(ctx, "3EB0FULL", nil)
	if err != nil {
		t.Fatal(err)
	}
	text := random(30 << 10)
	if err := device.EventBuffer.AddOutgoingEvent(s, annL, "3EB0FULL", "wa", text); err != nil {
		t.Fatal(err)
	}
	if err := device.EventBuffer.DeleteOldOutgoingEvents(s); err != nil {
		t.Fatal(err)
	}
	if _, ok, err := h.Copy(ctx, "3EB0FULL"); ok || err != nil {
		t.Errorf("a copy before the commit: %v", err)
	}
	h.rec.reset()
	if err := device.Sessions.PutManySessions(s, sessions); err != nil {
		t.Fatal(err)
	}
	if w, r := h.rec.counts(); w != 1 {
		t.Errorf("%d writes, %d reads", w, r)
	}
	if n := len(s.Devices()); n != len(sessions) || s.Chat() != annL {
		t.Errorf("%d devices of %d in %v", n, len(sessions), s.Chat())
	}
	if len(h.link.staged) == 0 {
		t.Error("everything fits; the test shows nothing")
	}
	next := b.open(2) // the host died
	reloaded := next.load(t)
	copy, ok, err := next.Copy(ctx, "3EB0FULL")
	if err != nil || !ok || copy.Chat != annL || string(copy.Bytes) != string(text) {
		t.Errorf("the copy: %v, %v", ok, err)
	}
	life := time.Duration(0)
	for _, row := range b.rows() {
		if kindOf(stringAttr(row, attrSK)) == kindOutgoing {
			ttl, _ := numberAttr(row, attrTTL)
			life = time.Until(time.Unix(int64(ttl), 0)).Round(time.Hour)
		}
	}
	if life != 30*24*time.Hour {
		t.Errorf("a copy lives %v", life)
	}

	large, err := next.Send(ctx, "3EB0LARGE", nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := reloaded.EventBuffer.AddOutgoingEvent(large, annL, "3EB0LARGE", "wa", make([]byte, maxCopy)); !errors.Is(err, ErrCopyTooLarge) || !errors.Is(err, ErrTooLarge) {
		t.Errorf("too large a message: %v", err)
	}
	// A long one is kept before it is encrypted, alone.
	long, err := next.Send(ctx, "3EB0LONG", nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := reloaded.EventBuffer.AddOutgoingEvent(long, annL, "3EB0LONG", "wa", random(200<<10)); err != nil {
		t.Fatal(err)
	}
	if _, ok, err := b.reopenLoaded(t, 2).Copy(ctx, "3EB0LONG"); !ok || err != nil {
		t.Errorf("the long one's copy: %v", err)
	}
}

// reopenLoaded is another handle under an epoch that was adopted before.
func (b *bench) reopenLoaded(t *testing.T, epoch whatisup.Epoch) *host {
	h := b.reopen(epoch)
	h.load(t)
	return h
}

// A further attempt keeps the first one's copy and goes to its chat, and an
// attempt is for one message.
func TestFurtherAttempt(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	h := b.open(1)
	device := h.pair(t, 1)
	ctx := t.Context()
	sessions := map[string][]byte{annL.SignalAddress().String(): []byte("a session"), bobL.SignalAddress().String(): []byte("another")}
	try := func(copy *Copy, chat wa.JID, id, text string) error {
		s, err := h.Send(ctx, "3EB0AGAIN", copy)
		if err != nil {
			return err
		}
		if err := device.EventBuffer.AddOutgoingEvent(s, chat, id, "wa", []byte(text)); err != nil {
			return err
		}
		return device.Sessions.PutManySessions(s, sessions)
	}
	if err := try(nil, annL, "3EB0AGAIN", "first"); err != nil {
		t.Fatal(err)
	}
	copy, ok, err := h.Copy(ctx, "3EB0AGAIN")
	if !ok || err != nil {
		t.Fatal(err)
	}
	if err := try(copy, annL, "3EB0AGAIN", "encoded anew"); err != nil {
		t.Error(err)
	}
	if err := try(copy, bobL, "3EB0AGAIN", "first"); !errors.Is(err, ErrOtherChat) {
		t.Errorf("to another chat: %v", err)
	}
	if err := try(copy, annL, "3EB0OTHER", "first"); err == nil {
		t.Error("another message under this attempt")
	}
	if kept, _, err := b.reopenLoaded(t, 1).Copy(ctx, "3EB0AGAIN"); err != nil || string(kept.Bytes) != "first" {
		t.Errorf("the copy is %q now, %v", kept.Bytes, err)
	}
	// Who asks for a message again gets it in its own chat only.
	for _, chat := range []wa.JID{annL, {User: annL.User, Device: 3, Server: annL.Server}} {
		if _, text, err := device.EventBuffer.GetOutgoingEvent(ctx, chat, ann, "3EB0AGAIN"); err != nil || string(text) != "first" {
			t.Errorf("asked in %v: %q, %v", chat, text, err)
		}
	}
	if _, text, err := device.EventBuffer.GetOutgoingEvent(ctx, ann, annL, "3EB0AGAIN"); err != nil || string(text) != "first" {
		t.Errorf("asked by number: %q, %v", text, err)
	}
	if _, text, err := device.EventBuffer.GetOutgoingEvent(ctx, bobL, bob, "3EB0AGAIN"); err == nil {
		t.Errorf("asked in another chat: %q", text)
	}
	// With its link it is gone.
	if err := h.Wipe(ctx, 1); err != nil {
		t.Fatal(err)
	}
	if _, ok, err := h.Copy(ctx, "3EB0AGAIN"); ok || !errors.Is(err, store.ErrDeviceDeleted) {
		t.Errorf("after the wipe: %v, %v", ok, err)
	}
	if err := h.Sweep(ctx); err != nil {
		t.Fatal(err)
	}
}

// In a group the copy goes with the sender key, since no session may change.
func TestCopyOfGroupMessage(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	h := b.open(1)
	device := h.pair(t, 1)
	group := wa.NewJID("123-456", wa.GroupServer)
	own := device.LID.SignalAddress().String()
	for _, secret := range []bool{false, true} {
		id := fmt.Sprint("3EB0GROUP", secret)
		s, err := h.Send(t.Context(), id, nil)
		if err != nil {
			t.Fatal(err)
		}
		err = device.EventBuffer.AddOutgoingEvent(s, group, id, "wa", []byte("to all"))
		if secret {
			err = errors.Join(err, device.MsgSecrets.PutMessageSecret(s, group, device.LID, id, []byte("poll secret")))
		}
		h.rec.reset()
		err = errors.Join(err, device.SenderKeys.PutSenderKey(s, group.String(), own, []byte("key "+id)))
		if w, _ := h.rec.counts(); err != nil || w != 1 {
			t.Errorf("%d writes, %v", w, err)
		}
		if err := s.Err(); err != nil {
			t.Errorf("may not leave: %v", err)
		}
		next := b.reopenLoaded(t, 1)
		if c, ok, err := next.Copy(t.Context(), id); !ok || err != nil || c.Chat != group {
			t.Errorf("the copy: %v, %v", ok, err)
		}
		if found, _, err := next.link.GetMessageSecret(t.Context(), group, device.LID, id); err != nil || (len(found) > 0) != secret {
			t.Errorf("the secret: %q, %v", found, err)
		}
	}
}

// Who has a group's sender key is known over a restart, and is forgotten by
// everything after which a device may not have it.
func TestSenderKeyMarks(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	h := b.open(1)
	device := h.pair(t, 1)
	ctx := t.Context()
	group, other := wa.NewJID("1-1", wa.GroupServer), wa.NewJID("2-2", wa.GroupServer)
	annPhone, annWeb, bobPhone := annL, annL, bobL
	annWeb.Device = 12
	all := []wa.JID{annPhone, annWeb, bobPhone}
	has := func(want ...wa.JID) {
		t.Helper()
		got, err := h.SenderKeyHas(ctx, group, all)
		if err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%v have the key, want %v; %v", got, want, err)
		}
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, d := range all {
		must(device.Identities.PutIdentity(ctx, d.SignalAddress().String(), [32]byte{1}))
	}
	has()
	h.rec.reset()
	must(h.SenderKeyGiven(ctx, group, all))
	must(h.SenderKeyGiven(ctx, other, all[:1]))
	has(all...)
	if w, _ := h.rec.counts(); w != 0 {
		t.Errorf("marks took %d writes of their own", w)
	}
	must(h.link.flush(ctx))
	h = b.reopenLoaded(t, 1)
	device = h.link.attached(t)
	has(all...)

	must(h.SenderKeyForget(ctx, group, annWeb)) // it asked for a message again
	has(annPhone, bobPhone)
	must(h.SenderKeyGiven(ctx, group, []wa.JID{annWeb}))
	has(all...)
	must(device.Identities.PutIdentity(ctx, annPhone.SignalAddress().String(), [32]byte{1}))
	has(all...)
	must(device.Identities.PutIdentity(ctx, annPhone.SignalAddress().String(), [32]byte{2})) // a new phone
	has(bobPhone)
	if got, err := h.SenderKeyHas(ctx, other, all); err != nil || len(got) != 0 {
		t.Errorf("in another group %v has the key still; %v", got, err)
	}
	h = b.reopenLoaded(t, 1)
	device = h.link.attached(t)
	has(bobPhone)
	must(h.SenderKeyGiven(ctx, group, []wa.JID{annPhone}))
	has(annPhone, bobPhone)
	must(device.Identities.DeleteIdentity(ctx, bobPhone.SignalAddress().String()))
	has(annPhone)
	must(device.Identities.DeleteAllIdentities(ctx, annL.SignalAddressUser()))
	has()

	must(h.SenderKeyGiven(ctx, group, all))
	must(device.SenderKeys.PutSenderKey(ctx, group.String(), device.LID.SignalAddress().String(), []byte("our key")))
	has(all...)
	must(h.SenderKeyRenew(ctx, group, device.LID)) // a member left
	has()
	h = b.reopenLoaded(t, 1)
	has()
	if key, err := h.link.GetSenderKey(ctx, group.String(), device.LID.SignalAddress().String()); err != nil || key != nil {
		t.Errorf("our key is still %q, %v", key, err)
	}

	// The marks of a group of 200 with two devices each are small, and the list
	// of new identities has a bound, beyond which marks are void.
	var many []wa.JID
	for i := range 400 {
		many = append(many, wa.JID{User: fmt.Sprint(880000 + i/2), Device: uint16(i % 2), Server: wa.HiddenUserServer})
	}
	must(h.SenderKeyGiven(ctx, group, many))
	if n := len(h.link.staged[h.link.holdersRow(group)].value); n > 2500 {
		t.Errorf("marks of 400 devices take %d bytes", n)
	}
	must(h.link.flush(ctx))
	must(h.link.atomically(ctx, func(ctx context.Context, txn *txn) error {
		for i := range maxRenewed + 1 {
			if err := h.link.renewed(ctx, txn, fmt.Sprintf("99%d_1:0", i)); err != nil {
				return err
			}
		}
		return nil
	}))
	if got, err := h.SenderKeyHas(ctx, group, many); err != nil || len(got) != 0 {
		t.Errorf("%d marks survive what can't be known any more; %v", len(got), err)
	}
	must(h.SenderKeyGiven(ctx, group, many))
	if got, err := h.SenderKeyHas(ctx, group, many); err != nil || len(got) != len(many) {
		t.Errorf("%d of %d marks; %v", len(got), len(many), err)
	}
	must(h.SenderKeyForget(ctx, group))
	if got, err := h.SenderKeyHas(ctx, group, many); err != nil || len(got) != 0 {
		t.Errorf("%d marks after all were forgotten; %v", len(got), err)
	}
}

// attached is the device of a link that was loaded, as its stores alone.
func (l *link) attached(t *testing.T) *store.Device {
	t.Helper()
	d, err := decodeDevice(l.device)
	if err != nil {
		t.Fatal(err)
	}
	l.attach(d)
	return d
}
