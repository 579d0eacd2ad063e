package dynamo

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"whatisup/shared/whatisup"
)

// text is a message that waits.
func text(r whatisup.Ref, at time.Time, more ...func(*whatisup.Message)) *whatisup.Message {
	a := whatisup.NumberAddress("5511912345678")
	m := &whatisup.Message{
		Ref: r, ID: whatisup.NewMessageID(), Direction: whatisup.Outgoing, To: a, Chat: a, ChatType: whatisup.ChatDirect,
		Raw: json.RawMessage(`{"type":"text","text":"Hi"}`), Link: 3, Status: whatisup.MessageQueued, StatusAt: at,
		DueAt: at, ExpiresAt: at.Add(time.Hour), Times: whatisup.MessageTimes{Created: at, Queued: at},
	}
	for _, f := range more {
		f(m)
	}
	return m
}

func newRef() whatisup.Ref {
	return whatisup.Ref{Customer: whatisup.NewCustomerID(), Mode: whatisup.Test, ID: whatisup.NewInstanceID()}
}

func now() time.Time { return time.Now().UTC().Truncate(time.Millisecond) }

func TestMessageRowKeepsEverything(t *testing.T) {
	t.Parallel()
	db := open(t)
	at := now()
	m := text(newRef(), at, func(m *whatisup.Message) {
		m.ReplyTo = &whatisup.Target{MessageID: "X", From: "49151"}
		m.Target = &whatisup.Target{MessageID: "Y", From: "49152"}
		m.ClientRef, m.Typing, m.BodyHash = "order-17", time.Second, []byte{1, 2}
		m.RequestID, m.CommandID = "req_1", "c1"
		m.Recipient = whatisup.Person{PhoneNumber: "5511912345678", LID: "1"}
		m.WaitingFor, m.WaitingUntil, m.Attempts, m.MayHaveBeenSent, m.CancelAsked = whatisup.ForPace, at, 2, true, true
		m.Error = whatisup.NewMessageError(whatisup.RejectedByWhatsApp)
		m.Recipients = &whatisup.RecipientCounts{Total: 5, Read: 1}
	})
	m.Media, m.EventID, m.UpdatedBy = whatisup.NewMediaID(), whatisup.NewEventID(), whatisup.NewEventID()
	m.From = whatisup.Person{PhoneNumber: "4915199999999", LID: "2", Name: "Ann"}
	m.FromMe, m.Change, m.Text, m.Context, m.Truncated = true, true, "more", json.RawMessage(`{"forwarded":true}`), []string{"text"}
	for i := range reflect.TypeFor[whatisup.Message]().NumField() {
		if f := reflect.TypeFor[whatisup.Message]().Field(i); reflect.ValueOf(m).Elem().Field(i).IsZero() {
			t.Errorf("the test gives %s no value", f.Name)
		}
	}
	for i := range reflect.TypeFor[whatisup.MessageTimes]().NumField() {
		reflect.ValueOf(&m.Times).Elem().Field(i).Set(reflect.ValueOf(at.Add(time.Duration(i) * time.Second)))
	}
	if old, err := db.AcceptMessage(t.Context(), m); old != nil || err != nil {
		t.Fatal(old, err)
	}
	got, err := db.Message(t.Context(), m.Ref, m.ID)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, m) {
		t.Errorf("got  %+v\nwant %+v", got, m)
	}

	other := *m
	other.Raw = json.RawMessage(`{"type":"text","text":"another"}`)
	old, err := db.AcceptMessage(t.Context(), &other)
	if err != nil || old == nil || string(old.Raw) != string(m.Raw) {
		t.Errorf("a second message under the id: %+v, %v", old, err)
	}
	if _, err := db.Message(t.Context(), newRef(), m.ID); !errors.Is(err, whatisup.ErrNotFound) {
		t.Errorf("another instance's: %v", err)
	}
}

func TestLineIsInOrderAndEmptiesItself(t *testing.T) {
	t.Parallel()
	db := open(t)
	r, at := newRef(), now()
	for i := range 30 {
		due := at.Add(time.Duration((i*7)%30) * time.Second)
		m := text(r, at, func(m *whatisup.Message) { m.DueAt, m.Status = due, whatisup.MessageScheduled })
		if _, err := db.AcceptMessage(t.Context(), m); err != nil {
			t.Fatal(err)
		}
	}
	line, err := db.Line(t.Context(), r, time.Time{}, 1000)
	if err != nil || len(line) != 30 || !slices.IsSortedFunc(line, func(a, b *whatisup.Message) int { return a.DueAt.Compare(b.DueAt) }) {
		t.Fatal(len(line), err)
	}
	if some, err := db.Line(t.Context(), r, at.Add(20*time.Second), 1000); err != nil || len(some) != 10 {
		t.Errorf("from the twentieth second on: %d, %v", len(some), err)
	}
	if n, err := db.CountWaiting(t.Context(), r, 10); n != 10 || err != nil {
		t.Errorf("counted to %d, %v", n, err)
	}
	refs, err := db.WaitingInstances(t.Context(), r.Mode, db.ShardOf(r.ID))
	if err != nil || !slices.Equal(refs, []whatisup.Ref{r}) {
		t.Errorf("instances with messages that wait: %v, %v", refs, err)
	}

	for _, m := range line {
		if _, _, err := db.StepMessage(t.Context(), r, m.ID, whatisup.Step{Status: whatisup.MessageSent, At: at}); err != nil {
			t.Fatal(err)
		}
	}
	if line, err := db.Line(t.Context(), r, time.Time{}, 1000); len(line) != 0 || err != nil {
		t.Errorf("still waiting: %d, %v", len(line), err)
	}
	if refs, err := db.WaitingInstances(t.Context(), r.Mode, db.ShardOf(r.ID)); len(refs) != 0 || err != nil {
		t.Errorf("instances: %v, %v", refs, err)
	}
}

// A message moves to higher ranks only, whatever comes in whatever order.
func TestStepsOnlyRise(t *testing.T) {
	t.Parallel()
	db := open(t)
	r, at := newRef(), now()
	m := text(r, at)
	if _, err := db.AcceptMessage(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	for i, s := range []whatisup.MessageStatus{whatisup.MessageRead, whatisup.MessageDelivered, whatisup.MessageSent, whatisup.MessageRead} {
		step := whatisup.Step{Status: s, At: at.Add(time.Duration(i+1) * time.Second), Recipient: whatisup.Person{LID: "7"}, Chat: "7@lid"}
		got, _, err := db.StepMessage(t.Context(), r, m.ID, step)
		if err != nil || got.Status != whatisup.MessageRead {
			t.Fatalf("%s: %v, %v", s, got, err)
		}
		if got.Times.At(s).IsZero() {
			t.Errorf("no time of %s", s)
		}
	}
	got, err := db.Message(t.Context(), r, m.ID)
	if err != nil || !got.Times.Read.Equal(at.Add(time.Second)) || !got.Times.Delivered.Equal(at.Add(2*time.Second)) || got.Chat != "7@lid" {
		t.Errorf("%+v, %v", got, err)
	}
	if _, _, err := db.StepMessage(t.Context(), r, whatisup.NewMessageID(), whatisup.Step{Status: whatisup.MessageSent, At: at}); !errors.Is(err, whatisup.ErrNotFound) {
		t.Errorf("a step of no message: %v", err)
	}
	if _, err := db.AskCancel(t.Context(), r, m.ID); err != nil {
		t.Errorf("cancelling what was read: %v", err)
	}
	if got, _ := db.Message(t.Context(), r, m.ID); got.CancelAsked {
		t.Error("a message that was read is to be cancelled")
	}
}

// Only the owner ends a message, and an acknowledgement overrules it.
func TestEndingNeedsTheEpoch(t *testing.T) {
	t.Parallel()
	db := open(t)
	i := newInstance(t, db, nil)
	r, epoch := ref(i), own(t, db, i)
	if _, err := db.Adopt(t.Context(), r, epoch); err != nil {
		t.Fatal(err)
	}
	at := now()
	a, b := text(r, at), text(r, at)
	for _, m := range []*whatisup.Message{a, b} {
		if _, err := db.AcceptMessage(t.Context(), m); err != nil {
			t.Fatal(err)
		}
	}
	fail := whatisup.Step{Status: whatisup.MessageFailed, At: at, Error: whatisup.NewMessageError(whatisup.LinkLost), MayHaveBeenSent: true}
	steps := map[whatisup.MessageID]whatisup.Step{a.ID: fail, b.ID: fail}
	if err := db.EndMessages(t.Context(), r, epoch-1, steps); !errors.Is(err, whatisup.ErrFenced) {
		t.Errorf("under an old epoch: %v", err)
	}
	if err := db.EndMessages(t.Context(), r, epoch, steps); err != nil {
		t.Fatal(err)
	}
	if err := db.EndMessages(t.Context(), r, epoch, steps); !errors.Is(err, whatisup.ErrConflict) {
		t.Errorf("twice: %v", err)
	}
	got, err := db.Message(t.Context(), r, a.ID)
	if err != nil || got.Status != whatisup.MessageFailed || got.Error.Code != whatisup.LinkLost || !got.MayHaveBeenSent {
		t.Fatalf("%+v, %v", got, err)
	}
	got, _, err = db.StepMessage(t.Context(), r, a.ID, whatisup.Step{Status: whatisup.MessageDelivered, At: at})
	if err != nil || got.Status != whatisup.MessageDelivered || got.Error != nil || got.MayHaveBeenSent {
		t.Errorf("a receipt after it: %+v, %v", got, err)
	}
}

func TestCancellingWhatIsScheduled(t *testing.T) {
	t.Parallel()
	db := open(t)
	r, at := newRef(), now()
	m := text(r, at, func(m *whatisup.Message) { m.Status, m.DueAt = whatisup.MessageScheduled, at.Add(time.Minute) })
	if _, err := db.AcceptMessage(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	if err := db.CancelScheduled(t.Context(), r, m.ID, at.Add(2*time.Minute), at); !errors.Is(err, whatisup.ErrConflict) {
		t.Errorf("too late: %v", err)
	}
	if err := db.CancelScheduled(t.Context(), r, m.ID, at, at); err != nil {
		t.Fatal(err)
	}
	if err := db.CancelScheduled(t.Context(), r, m.ID, at, at); !errors.Is(err, whatisup.ErrConflict) {
		t.Errorf("twice: %v", err)
	}
	got, _, err := db.StepMessage(t.Context(), r, m.ID, whatisup.Step{Status: whatisup.MessageSent, At: at})
	if err != nil || got.Status != whatisup.MessageCanceled {
		t.Errorf("%+v, %v", got, err)
	}
}

// A received message is kept once, whatever id its sender has chosen, and never
// touches one of ours.
func TestReceivedMessagesAreKeptOnce(t *testing.T) {
	t.Parallel()
	db := open(t)
	r, at := newRef(), now()
	ours := text(r, at)
	if _, err := db.AcceptMessage(t.Context(), ours); err != nil {
		t.Fatal(err)
	}
	var kept []string
	for _, id := range []whatisup.MessageID{ours.ID, "X", "m#X", "r#X", whatisup.MessageID(strings.Repeat("é", 64)), "X\x00#"} {
		for _, sender := range []string{"1", "2"} {
			m := text(r, at, func(m *whatisup.Message) {
				m.ID, m.Direction, m.Status, m.From, m.EventID = id, whatisup.Incoming, "", whatisup.Person{LID: sender, Name: "A"}, whatisup.NewEventID()
				m.Chat, m.Times = whatisup.GroupAddress("5"), whatisup.MessageTimes{Created: at}
			})
			if old, err := db.KeepReceived(t.Context(), m); old != nil || err != nil {
				t.Fatalf("%q of %s: %v, %v", id, sender, old, err)
			}
			again := *m
			again.EventID = whatisup.NewEventID()
			if old, err := db.KeepReceived(t.Context(), &again); err != nil || old == nil || old.EventID != m.EventID || old.ID != id {
				t.Errorf("%q of %s again: %+v, %v", id, sender, old, err)
			}
			kept = append(kept, string(id)+sender)
		}
	}
	if got, err := db.Message(t.Context(), r, ours.ID); err != nil || got.Status != whatisup.MessageQueued {
		t.Errorf("ours: %+v, %v", got, err)
	}
	var in, out, any int
	for l, err := range db.Messages(t.Context(), r, whatisup.Listing{Direction: whatisup.Incoming}, 5) {
		if err != nil || l.Direction != whatisup.Incoming || l.From.Name != "A" {
			t.Fatal(l, err)
		}
		in++
	}
	for range db.Messages(t.Context(), r, whatisup.Listing{Direction: whatisup.Outgoing}, 5) {
		out++
	}
	for range db.Messages(t.Context(), r, whatisup.Listing{}, 5) {
		any++
	}
	if in != len(kept) || out != 1 || any != in+out {
		t.Errorf("%d in, %d out, %d in all", in, out, any)
	}
}

func TestListIsNewestFirstAndGoesOnWhereItEnded(t *testing.T) {
	t.Parallel()
	db := open(t)
	r, at := newRef(), now()
	const n = 60
	for i := range n {
		m := text(r, at.Add(time.Duration(i/2)*time.Second))
		if i%3 == 0 {
			m.ID, m.Direction, m.Status = whatisup.MessageID(fmt.Sprint("in", i)), whatisup.Incoming, ""
		}
		if _, err := db.putMessage(t.Context(), m); err != nil {
			t.Fatal(err)
		}
	}
	for _, l := range []whatisup.Listing{{}, {Direction: whatisup.Outgoing}, {Direction: whatisup.Incoming}} {
		seen := map[whatisup.MessageID]bool{}
		var last time.Time
		for {
			got := 0
			for m, err := range db.Messages(t.Context(), r, l, 7) {
				if err != nil {
					t.Fatal(err)
				}
				if seen[m.ID] || !last.IsZero() && m.Times.Created.After(last) {
					t.Fatalf("%s is out of order", m.ID)
				}
				seen[m.ID], last, l.Before = true, m.Times.Created, m.Place
				if got++; got == 7 {
					break
				}
			}
			if got < 7 {
				break
			}
		}
		want := map[whatisup.Direction]int{"": n, whatisup.Incoming: n / 3, whatisup.Outgoing: n - n/3}[l.Direction]
		if len(seen) != want {
			t.Errorf("%q: %d of %d", l.Direction, len(seen), want)
		}
	}
}
