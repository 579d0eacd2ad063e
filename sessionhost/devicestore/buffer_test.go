package devicestore

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

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
	handle := func(position int, id string) error {
		m := carrier().Part(id)
		if u, err := uuid.Parse(string(m.EventID)); err != nil || u.Version() != 7 {
			t.Errorf("event id %s", m.EventID)
		}
		if before, ok := ids[id]; ok && before != m.EventID {
			t.Errorf("%s has event ids %s and %s", id, before, m.EventID)
		}
		ids[id] = m.EventID
		return h.Handled(t.Context(), m, logPut(b.instance.ID, position, m.EventID, id))
	}
	if err := handle(1, "A"); err != nil {
		t.Fatal(err)
	}
	h.rec.hook(dieAt(0, true)) // the next one happens, and nobody learns of it
	if err := handle(2, "B"); err == nil {
		t.Fatal("the host survives")
	}
	h = b.open(2)
	h.load(t)
	for i, id := range []string{"A", "B", "C", "C"} {
		if err := handle(3+i, id); err != nil {
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

// A transaction that one of the caller's items refuses does nothing at all, and
// the handle lives on.
func TestRefusedItem(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	h := b.open(1)
	device := h.pair(t, 1)
	fill(t, h, device)
	if _, err := device.EventBuffer.GetBufferedEvent(t.Context(), [32]byte{9}); err != nil {
		t.Fatal(err)
	}
	m, ok := h.Handling()
	if !ok || !m.Redelivered {
		t.Fatalf("handling %+v, %v", m, ok)
	}
	taken := logPut(b.instance.ID, 1, "another", "another")
	if _, err := b.db.PutItem(t.Context(), putInput(taken)); err != nil {
		t.Fatal(err)
	}
	before := h.link.commits
	err := h.Handled(t.Context(), m, logPut(b.instance.ID, 0, m.EventID, "x"), logPut(b.instance.ID, 1, m.EventID, "x"))
	var refused *RefusedError
	if !errors.As(err, &refused) || refused.Index != 1 || refused.Code != "ConditionalCheckFailed" {
		t.Errorf("handled: %v", err)
	}
	if h.Err() != nil || h.link.commits != before {
		t.Errorf("the handle: %v", h.Err())
	}
	if _, texts := b.logged(); len(texts) != 1 {
		t.Errorf("the log has %v", texts)
	}
	if err := h.Handled(t.Context(), m, logPut(b.instance.ID, 2, m.EventID, "y")); err != nil {
		t.Errorf("handled with a free position: %v", err)
	}
	if err := h.Handled(t.Context(), m, logPut(b.instance.ID, 3, m.EventID, "z")); err != nil {
		t.Errorf("handled twice: %v", err)
	}
	if _, texts := b.logged(); fmt.Sprint(texts) != "[another y]" {
		t.Errorf("the log has %v", texts)
	}
	if _, ok := h.Handling(); ok {
		t.Error("still handling")
	}
}
