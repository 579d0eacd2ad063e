package devicestore

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	local "whatisup/local/aws"
)

// left is how many rows a link still has.
func (b *bench) left(prefix string) int {
	n := 0
	for _, row := range b.rows() {
		if _, entry := entryNumber(stringAttr(row, attrSK)); stringAttr(row, attrPK) == prefix && !entry {
			n++
		}
	}
	return n
}

// A sweep that was cut off goes on with the next owner, and ends with nothing
// left but the device row.
func TestSweepGoesOn(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	h := b.open(1)
	device := h.pair(t, 1)
	fill(t, h, device)
	many := make(map[string][]byte)
	for i := range 65 {
		many[fmt.Sprintf("49%d:0", i)] = random(100)
	}
	if err := device.Sessions.PutManySessions(t.Context(), many); err != nil {
		t.Fatal(err)
	}
	h.settle(t)
	pk := linkPartition(b.instance, 1)
	all := b.left(pk)
	if all < 2*sweepBatch {
		t.Fatalf("only %d rows to sweep", all)
	}
	if err := h.Wipe(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	if n := b.left(pk); n != all {
		t.Errorf("the wipe itself took %d rows", all-n)
	}
	// The host dies after its first batch.
	h.die(1, true)
	if err := h.Sweep(t.Context()); err == nil {
		t.Fatal("the sweep survives")
	}
	if n := b.left(pk); n >= all || n == 0 {
		t.Fatalf("%d of %d rows are left", n, all)
	}

	next := b.open(2)
	if _, err := next.Load(t.Context()); !errors.Is(err, ErrNoDevice) {
		t.Fatal(err)
	}
	// It may be paired anew meanwhile; the new link's rows stay.
	fresh := next.pair(t, 2)
	fill(t, next, fresh)
	if err := b.cloud.Inject(local.Fault{Kind: local.Unprocessed, Service: "dynamodb", Operation: "BatchWriteItem", Times: 3}); err != nil {
		t.Fatal(err)
	}
	next.settle(t)
	kept := b.left(linkPartition(b.instance, 2))
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- next.store.Run(ctx) }()
	deadline := time.Now().Add(20 * time.Second)
	for b.head()[attrSweep] != nil {
		if time.Now().After(deadline) {
			t.Fatal("not swept")
		}
		time.Sleep(20 * time.Millisecond) // polling the table; there is nothing to wait on
	}
	stop()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("Run: %v", err)
	}
	if n := b.left(pk); n != 0 {
		t.Errorf("%d rows are left", n)
	}
	if n := b.left(linkPartition(b.instance, 2)); n != kept {
		t.Errorf("the new link has %d of %d rows", n, kept)
	}
	if s, err := fresh.Sessions.GetSession(t.Context(), annAddress); err != nil || s == nil {
		t.Errorf("new link: %v", err)
	}
}

// What is staged is written by Run when nothing else comes, and by Close.
func TestStagedIsWritten(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	h := b.open(1)
	device := h.pair(t, 1)
	if _, _, err := device.Contacts.PutPushName(t.Context(), ann, "Ann"); err != nil {
		t.Fatal(err)
	}
	name := func(h *host) string {
		c, err := h.load(t).Contacts.GetContact(t.Context(), ann)
		if err != nil {
			t.Fatal(err)
		}
		return c.PushName
	}
	if got := name(b.reopen(1)); got != "" {
		t.Errorf("written at once: %q", got)
	}
	h.maintain(t.Context(), time.Now())
	if got := name(b.reopen(1)); got != "" {
		t.Errorf("written too early: %q", got)
	}
	h.maintain(t.Context(), time.Now().Add(flushAfter))
	if got := name(b.reopen(1)); got != "Ann" {
		t.Errorf("not written in time: %q", got)
	}
	if _, _, err := device.Contacts.PutPushName(t.Context(), ann, "Bob"); err != nil {
		t.Fatal(err)
	}
	if err := h.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := name(b.reopen(1)); got != "Bob" {
		t.Errorf("not written at the end: %q", got)
	}
	if err := device.Save(t.Context()); !errors.Is(err, context.Canceled) {
		t.Errorf("after Close: %v", err)
	}
}
