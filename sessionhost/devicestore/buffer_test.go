package devicestore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/google/uuid"

	"whatisup/shared/whatisup"
)

// Messages that come inside another one are each logged once, with ids of their
// own that stay, also when the host dies between them.
func TestParts(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	h := b.open(1)
	h.pair(t, 1)
	hash := [32]byte{1}
	carrier := func() Message {
		t.Helper()
		buffered, err := h.link.GetBufferedEvent(t.Context(), hash)
		if err != nil {
			t.Fatal(err)
		}
		if buffered == nil {
			err := h.link.DoDecryptionTxn(t.Context(), func(ctx context.Context) error {
				return h.link.PutBufferedEvent(ctx, hash, []byte("two messages"), time.Unix(1, 0))
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		m, ok := h.Handling()
		if !ok {
			t.Fatal("nothing is being handled")
		}
		return m
	}
	ids := make(map[string]whatisup.EventID)
	handle := func(id string) error {
		m := carrier().Part(id)
		if u, err := uuid.Parse(string(m.EventID)); err != nil || u.Version() != 7 {
			t.Errorf("event id %s", m.EventID)
		}
		if before, ok := ids[id]; ok && before != m.EventID {
			t.Errorf("%s has event ids %s and %s", id, before, m.EventID)
		}
		ids[id] = m.EventID
		return h.Handled(t.Context(), m, h.logOf(m, id), unsent)
	}
	if err := handle("A"); err != nil {
		t.Fatal(err)
	}
	h.die(0, true) // the next one happens, and nobody learns of it
	if err := handle("B"); err == nil {
		t.Fatal("the host survives")
	}
	h = b.open(2)
	h.load(t)
	for _, id := range []string{"A", "B", "C", "C"} {
		if err := handle(id); err != nil {
			t.Error(err)
		}
	}
	if err := h.link.ClearBufferedEventPlaintext(t.Context(), hash); err != nil {
		t.Fatal(err)
	}
	logged, texts := b.logged()
	if fmt.Sprint(texts) != "[A B C]" {
		t.Errorf("the log has %v", texts)
	}
	for i, text := range texts {
		if string(ids[text]) != logged[i] {
			t.Errorf("%s is logged as %s", text, logged[i])
		}
	}
	if ids["A"] == ids["B"] {
		t.Error("two messages have one event id")
	}
	if e, err := h.link.GetBufferedEvent(t.Context(), hash); err != nil || e == nil || e.Plaintext != nil {
		t.Errorf("the carrier is not done: %v, %v", e, err)
	}
}

// arrive is a message that is decrypted and comes to its handler.
func (h *host) arrive(t *testing.T, n byte, plaintext string) Message {
	t.Helper()
	hash := [32]byte{n}
	err := h.link.DoDecryptionTxn(t.Context(), func(ctx context.Context) error {
		return h.link.PutBufferedEvent(ctx, hash, []byte(plaintext), time.Unix(1, 0))
	})
	if err != nil {
		t.Fatal(err)
	}
	return h.handling(t)
}

// again is its redelivery; ok is false if it is known to be done.
func (h *host) again(t *testing.T, n byte) (m Message, ok bool) {
	t.Helper()
	e, err := h.link.GetBufferedEvent(t.Context(), [32]byte{n})
	if err != nil || e == nil {
		t.Fatalf("message %d is not in the buffer: %v", n, err)
	}
	if e.Plaintext == nil {
		return Message{}, false
	}
	m = h.handling(t)
	if !m.Redelivered {
		t.Errorf("message %d is not redelivered", n)
	}
	return m, true
}

func (h *host) handling(t *testing.T) Message {
	t.Helper()
	m, ok := h.Handling()
	if !ok {
		t.Fatal("nothing is being handled")
	}
	return m
}

// inLog checks that the log has these events, each once, and no other.
func (b *bench) inLog(t *testing.T, want ...Message) {
	t.Helper()
	ids, _ := b.logged()
	var wanted []string
	for _, m := range want {
		wanted = append(wanted, string(m.EventID))
	}
	slices.Sort(ids)
	slices.Sort(wanted)
	if !slices.Equal(ids, wanted) {
		t.Errorf("the log has %v, want %v", ids, wanted)
	}
}

// at is what stands in the log at the position that is a message's event id.
func (b *bench) at(m Message) string {
	b.t.Helper()
	out, err := b.db.GetItem(context.Background(), &dynamodb.GetItemInput{
		TableName: aws.String(logTable), Key: primaryKey(string(b.instance.ID), string(m.EventID)), ConsistentRead: aws.Bool(true),
	})
	switch {
	case err != nil:
		b.t.Fatal(err)
	case len(out.Item) == 0:
		return "nothing"
	case stringAttr(out.Item, "event_id") == "":
		return "void"
	}
	return "event"
}

// An owner is stopped before it puts an event into the log. Whenever it goes on,
// before or after another owner has adopted the instance and got the message
// again, the log has the event once.
func TestLatePut(t *testing.T) {
	t.Parallel()
	all := newBench(t)
	moments := []string{"before the adoption", "before the redelivery", "before the void", "before the transaction", "after it"}
	for _, when := range moments {
		t.Run(when, func(t *testing.T) {
			t.Parallel()
			b := all.another(t)
			old := b.open(1)
			old.pair(t, 1)
			m := old.arrive(t, 1, "text")
			stopped, resume := pauseBefore(old.rec)
			result := make(chan error, 1)
			go func() { result <- old.Handled(t.Context(), m, old.logOf(m, "text"), unsent) }()
			<-stopped
			var late error
			arrived := false
			now := func(moment string) {
				if moment == when && !arrived {
					arrived = true
					close(resume)
					late = <-result
				}
			}

			now(moments[0])
			next := b.open(2)
			next.load(t)
			now(moments[1])
			again, ok := next.again(t, 1)
			if !ok || again.EventID != m.EventID {
				t.Fatalf("the message comes again as %+v", again)
			}
			next.rec.hook(func(op string) error {
				switch op {
				case "PutItem":
					now(moments[2])
				case "TransactWriteItems":
					next.rec.hook(nil, nil)
					now(moments[3])
				}
				return nil
			}, nil)
			if err := next.Handled(t.Context(), again, next.logOf(again, "text"), unsent); err != nil {
				t.Fatalf("new owner: %v", err)
			}
			b.inLog(t, m)
			now(moments[4])

			b.inLog(t, m)
			if when == moments[3] || when == moments[4] {
				if !errors.Is(late, ErrFenced) || !errors.Is(late, context.Canceled) || b.at(m) != "void" {
					t.Errorf("the late put returns %v; there is now: %s", late, b.at(m))
				}
			} else if late != nil || b.at(m) != "event" {
				t.Errorf("the put returns %v; there is now: %s", late, b.at(m))
			}
			if _, ok := next.again(t, 1); ok {
				t.Error("the new owner does not know that it is done")
			}
			if err := next.Close(t.Context()); err != nil {
				t.Fatal(err)
			}
			third := b.open(3)
			third.load(t)
			if _, ok := third.again(t, 1); ok {
				t.Error("the owner after it does not know that it is done")
			}
		})
	}
}

// A put that fails or whose answer is lost is settled at once, and the
// connection lives on.
func TestPutWithoutAnswer(t *testing.T) {
	t.Parallel()
	all := newBench(t)
	first := func(err error) func(string) error {
		puts := 0
		return func(op string) error {
			if op == "PutItem" {
				if puts++; puts == 1 {
					return err
				}
			}
			return nil
		}
	}
	for _, c := range []struct {
		name   string
		before func(string) error
		after  func(string, error) error
		there  string
		writes int
	}{
		{name: "nothing wrong", there: "event", writes: 1},
		{name: "refused", before: first(errDenied), there: "void", writes: 3},
		{name: "lost", after: func() func(string, error) error {
			lose := first(errDenied)
			return func(op string, err error) error { return cmp.Or(lose(op), err) }
		}(), there: "event", writes: 2},
		{name: "lost, and sent again", after: func() func(string, error) error {
			first := true
			return func(op string, err error) error {
				defer func() { first = false }()
				if first {
					return errors.New("connection reset")
				}
				return err
			}
		}(), there: "event", writes: 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b := all.another(t)
			h := b.open(1)
			h.pair(t, 1)
			m := h.arrive(t, 1, "text")
			h.rec.reset()
			h.rec.hook(c.before, c.after)
			for range 2 {
				if err := h.Handled(t.Context(), m, h.logOf(m, "text"), unsent); err != nil {
					t.Fatal(err)
				}
			}
			h.rec.hook(nil, nil)
			b.inLog(t, m)
			if w, _ := h.rec.counts(); w != c.writes || b.at(m) != c.there {
				t.Errorf("%d writes; at the first position: %s", w, b.at(m))
			}
			if _, ok := h.Handling(); ok || h.Err() != nil {
				t.Errorf("still handling: %v; %v", ok, h.Err())
			}
			h.arrive(t, 2, "next")
			if _, ok := h.again(t, 1); ok {
				t.Error("is not known to be done")
			}
		})
	}
}

// A log that takes no rows holds a message up, and nothing else: the link goes on, and
// the message with it when the log takes rows again, also one that was put nowhere
// before.
func TestLogTakesNoRows(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	h := b.open(1)
	h.pair(t, 1)
	m := h.arrive(t, 1, "text")
	down := func(tries int) {
		h.rec.hook(func(op string) error {
			if op == "PutItem" {
				if tries--; tries >= 0 {
					return errDenied
				}
			}
			return nil
		}, nil)
	}
	down(4)
	var logged []Message
	for _, m := range []Message{m, m.Part("another")} {
		if err := h.Handled(t.Context(), m, h.logOf(m, "text"), unsent); err != nil {
			t.Fatal(err)
		}
		logged = append(logged, m)
		b.inLog(t, logged...)
		h.logDown.Store(true)
		down(2)
	}
	h.rec.hook(nil, nil)

	m = h.arrive(t, 2, "text")
	down(1 << 30)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if err := h.Handled(ctx, m, h.logOf(m, "text"), unsent); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the caller's end: %v", err)
	}
	if h.Err() != nil {
		t.Errorf("the link ended with it: %v", h.Err())
	}
	h.rec.hook(nil, nil)
	if err := h.Handled(t.Context(), m, h.logOf(m, "text"), unsent); err != nil {
		t.Fatal(err)
	}
	b.inLog(t, append(logged, m)...)
}

// A position is used only as long as readers still look there.
func TestPutTooLate(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	h := b.open(1)
	h.pair(t, 1)
	h.store.logWithin = 0
	m := h.arrive(t, 1, "text")
	if err := h.Handled(t.Context(), m, h.logOf(m, "text"), unsent); err != nil {
		t.Fatal(err)
	}
	if b.inLog(t, m); b.at(m) != "void" {
		t.Errorf("at the first position: %s", b.at(m))
	}
}

// Whoever has lost the link puts nothing into the log.
func TestPutNeedsTheLink(t *testing.T) {
	t.Parallel()
	all := newBench(t)
	for name, lose := range map[string]func(*host) error{
		"wiped":    func(h *host) error { return h.Wipe(t.Context(), 1) },
		"closed":   func(h *host) error { return h.Close(t.Context()) },
		"failed":   func(h *host) error { _ = h.fail(errDenied); return nil },
		"replaced": func(h *host) error { h.New(2); return nil },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := all.another(t)
			h := b.open(1)
			h.pair(t, 1)
			m := h.arrive(t, 1, "text")
			if err := lose(h); err != nil {
				t.Fatal(err)
			}
			h.rec.reset()
			if err := h.Handled(t.Context(), m, h.logOf(m, "text"), unsent); err == nil {
				t.Error("handled")
			}
			if w, _ := h.rec.counts(); w > 0 || b.at(m) != "nothing" {
				t.Errorf("%d writes", w)
			}
		})
	}
}

// unsent is for messages whose event goes to no queue.
func unsent(context.Context) error { return nil }

// A message stays in the buffer until its event is sent, though the event is in the
// log: an owner that dies in between has it delivered, and sent, again.
func TestSentBeforeItIsForgotten(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	h := b.open(1)
	h.pair(t, 1)
	m := h.arrive(t, 1, "text")
	sending, goOn, result := make(chan bool), make(chan error), make(chan error, 1)
	go func() {
		result <- h.Handled(t.Context(), m, h.logOf(m, "text"), func(context.Context) error {
			sending <- true
			return <-goOn
		})
	}()
	<-sending
	for b.at(m) != "event" {
		time.Sleep(time.Millisecond)
	}
	h.arrive(t, 2, "another commit")
	goOn <- errDenied
	if err := <-result; !errors.Is(err, errDenied) {
		t.Errorf("what could not be sent is handled: %v", err)
	}

	next := b.open(2)
	next.load(t)
	again, ok := next.again(t, 1)
	if !ok || again.EventID != m.EventID || !again.Redelivered {
		t.Fatalf("the message comes again as %+v, %v", again, ok)
	}
	sent := 0
	if err := next.Handled(t.Context(), again, next.logOf(again, "text"), func(context.Context) error { sent++; return nil }); err != nil || sent != 1 {
		t.Errorf("sent %d times: %v", sent, err)
	}
	b.inLog(t, m)
}

// The removal of a handled message waits for a commit, and makes none but at
// the end; the next message takes the former ones away.
func TestFinishWaits(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	h := b.open(1)
	h.pair(t, 1)
	waiting := func() int {
		t.Helper()
		other := b.reopen(1)
		other.load(t)
		return len(other.link.events.pending)
	}
	finish := map[string]func(Message) error{
		"logged":   func(m Message) error { return h.Handled(t.Context(), m, h.logOf(m, "text"), unsent) },
		"no event": func(m Message) error { return h.link.ClearBufferedEventPlaintext(t.Context(), m.hash) },
	}
	n := byte(0)
	for _, text := range []string{"short", string(junk1k)} {
		for name, finish := range finish {
			n++
			m := h.arrive(t, n, text)
			if got := waiting(); got != 1 {
				t.Errorf("%s: %d messages wait, want this one alone", name, got)
			}
			if err := finish(m); err != nil {
				t.Fatal(err)
			}
			h.rec.reset()
			h.maintain(t.Context(), time.Now().Add(foldAfter-time.Minute))
			if w, r := h.rec.counts(); w+r > 0 {
				t.Errorf("%s: %d writes and %d reads for the removal alone", name, w, r)
			}
		}
	}
	if err := h.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := waiting(); got != 0 {
		t.Errorf("%d messages wait after the handle was closed", got)
	}
	for _, row := range b.rows() {
		if kindOf(stringAttr(row, attrSK)) == kindBuffer {
			t.Error("a buffer row is left")
		}
	}
}

// Owners that die leave messages behind that are handled and acknowledged, and
// that nobody sends again. They get out of the way of the next ones, so that the
// device row keeps its size, and one that does come again is known.
func TestLeftovers(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.format = FormatRows // in a log they are in nobody's way
	h := b.open(1)
	h.pair(t, 1)
	const deaths = 20
	var all []Message
	for n := range byte(deaths) {
		m := h.arrive(t, n, strings.Repeat("text", 20))
		if err := h.Handled(t.Context(), m, h.logOf(m, "text"), unsent); err != nil {
			t.Fatal(err)
		}
		all = append(all, m)
		if size := itemSize(b.head()); size > 1024 {
			t.Fatalf("the device row has %d bytes after %d deaths", size, n)
		}
		h = b.open(whatisup.Epoch(n) + 2)
		h.load(t)
		if got := len(h.link.events.pending); got != int(n)+1 {
			t.Fatalf("%d messages are left after %d deaths", got, n+1)
		}
	}
	rows := 0
	for _, p := range h.link.events.pending {
		if p.row {
			rows++
		}
	}
	if rows == 0 || rows == deaths {
		t.Errorf("%d of %d have rows of their own", rows, deaths)
	}
	next := h.arrive(t, deaths, "short")
	if h.link.events.pending[next.hash].row {
		t.Error("the old ones are in the way of the new one")
	}
	if err := h.Handled(t.Context(), next, h.logOf(next, "text"), unsent); err != nil {
		t.Fatal(err)
	}
	for n := range byte(deaths) {
		m, ok := h.again(t, n)
		if !ok {
			t.Fatalf("message %d is forgotten", n)
		}
		if err := h.Handled(t.Context(), m, h.logOf(m, "text"), unsent); err != nil {
			t.Fatal(err)
		}
	}
	b.inLog(t, append(all, next)...)
	if err := h.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	h = b.open(100)
	h.load(t)
	if got := len(h.link.events.pending); got != 0 {
		t.Errorf("%d messages are left in the end", got)
	}
}
