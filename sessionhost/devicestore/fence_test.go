package devicestore

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"whatisup/shared/whatisup"
)

// snapshot is a table's content, as text that can be compared.
func (b *bench) snapshot() map[string]string {
	out := make(map[string]string)
	for _, item := range b.rows() {
		var line string
		for _, name := range slices.Sorted(maps.Keys(item)) {
			switch v := item[name].(type) {
			case *types.AttributeValueMemberS:
				line += name + "=" + v.Value + " "
			case *types.AttributeValueMemberN:
				line += name + "=" + v.Value + " "
			case *types.AttributeValueMemberB:
				line += fmt.Sprintf("%s=%x ", name, v.Value)
			case *types.AttributeValueMemberBOOL:
				line += fmt.Sprintf("%s=%v ", name, v.Value)
			case *types.AttributeValueMemberNS:
				line += fmt.Sprintf("%s=%v ", name, v.Value)
			}
		}
		out[stringAttr(item, attrPK)+" "+stringAttr(item, attrSK)] = line
	}
	return out
}

func isWrite(op string) bool {
	return op != "GetItem" && op != "BatchGetItem" && op != "Query"
}

// pauseBefore makes the recorder stop before its next write. stopped is closed
// when it has; it goes on when resume is closed.
func pauseBefore(rec *recorder) (stopped, resume chan struct{}) {
	stopped, resume = make(chan struct{}), make(chan struct{})
	first := make(chan struct{}, 1)
	first <- struct{}{}
	rec.hook(func(op string) error {
		if isWrite(op) {
			select {
			case <-first:
				close(stopped)
				<-resume
			default:
			}
		}
		return nil
	}, nil)
	return stopped, resume
}

// A host that is stopped before any write of any method, and wakes up after
// another host has adopted the instance, changes nothing, whether or not the
// new owner has touched the same row.
func TestStaleHostWritesNothing(t *testing.T) {
	t.Parallel()
	all := newBench(t)
	for _, m := range writers {
		for _, touched := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/touched=%v", m.name, touched), func(t *testing.T) {
				t.Parallel()
				b := all.another(t)
				old := b.open(1)
				device := old.pair(t, 1)
				fill(t, old, device)

				stopped, resume := pauseBefore(old.rec)
				result := make(chan error, 1)
				go func() { result <- m.do(t.Context(), old, device) }()
				select {
				case <-stopped:
				case err := <-result:
					t.Fatalf("wrote nothing (%v)", err)
				}

				next := b.open(2)
				loaded := next.load(t)
				if touched && m.name != "DeleteDevice" {
					if err := m.do(t.Context(), next, loaded); err != nil {
						t.Fatalf("new owner: %v", err)
					}
				}
				before := b.snapshot()
				close(resume)
				err := <-result
				if !errors.Is(err, ErrFenced) || !errors.Is(err, whatisup.ErrFenced) || !errors.Is(err, context.Canceled) {
					t.Errorf("stale write returns %v", err)
				}
				if after := b.snapshot(); !maps.Equal(before, after) {
					t.Errorf("a stale write changed the table:\n%v\n%v", before, after)
				}
				if n := old.failed.Load(); n != 1 {
					t.Errorf("the stale host's connection was closed %d times", n)
				}
				if err := device.Identities.PutIdentity(t.Context(), "1:0", [32]byte{}); !errors.Is(err, context.Canceled) {
					t.Errorf("the stale store goes on: %v", err)
				}
				// The new owner goes on undisturbed.
				if err := loaded.Identities.PutIdentity(t.Context(), "5:5", [32]byte{5}); err != nil {
					t.Errorf("new owner: %v", err)
				}
			})
		}
	}
}

// A stale host that is told about a link which was since replaced leaves the
// new link alone.
func TestStaleWipeLeavesNewLink(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	old := b.open(1)
	device := old.pair(t, 1)

	next := b.open(2)
	if err := next.Wipe(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	fresh := next.pair(t, 2)
	if err := device.Delete(t.Context()); !errors.Is(err, ErrFenced) {
		t.Errorf("delete by the stale host: %v", err)
	}
	// The same by the right owner, about the wrong link.
	if err := next.Wipe(t.Context(), 1); !errors.Is(err, ErrWiped) {
		t.Errorf("wipe of a link that is not there: %v", err)
	}
	if err := fresh.Identities.PutIdentity(t.Context(), "1:0", [32]byte{1}); err != nil {
		t.Errorf("new link: %v", err)
	}
	d, err := next.Load(t.Context())
	if err != nil || d.Link != 2 || d.Confirmed {
		t.Errorf("after the stale delete: %+v, %v", d, err)
	}
}

// Nothing brings a wiped link or a removed row back.
func TestWipedStaysWiped(t *testing.T) {
	t.Parallel()
	all := newBench(t)
	for _, m := range writers {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			b := all.another(t)
			h := b.open(1)
			device := h.pair(t, 1)
			fill(t, h, device)
			stopped, resume := pauseBefore(h.rec)
			result := make(chan error, 1)
			go func() { result <- m.do(t.Context(), h, device) }()
			<-stopped

			// Another handle of the same owner wipes, sweeps and removes it all.
			other := b.reopen(1)
			if err := other.Wipe(t.Context(), 1); err != nil {
				t.Fatal(err)
			}
			if err := other.Remove(t.Context()); err != nil {
				t.Fatal(err)
			}
			ended := b.lastCommit()
			close(resume)
			if err := <-result; err == nil {
				t.Error("a write after the wipe succeeds")
			}
			if left := withoutEntries(b.snapshot()); len(left) != 0 {
				t.Errorf("came back: %v", left)
			}
			if n := b.lastCommit(); n != ended {
				t.Errorf("entry %d after the end, %d", n, ended)
			}
		})
	}
}

func TestLinkNumbersGrow(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	h := b.open(1)
	if _, err := h.Load(t.Context()); !errors.Is(err, ErrNoDevice) || !errors.Is(err, whatisup.ErrNotFound) {
		t.Errorf("load without a link: %v", err)
	}
	h.pair(t, 5)
	second := h.New(6)
	pair(second, 2)
	if err := second.Save(t.Context()); !errors.Is(err, ErrLinked) {
		t.Errorf("second link beside the first: %v", err)
	}
	if err := h.Wipe(t.Context(), 5); err != nil {
		t.Fatal(err)
	}
	if err := h.Wipe(t.Context(), 5); err != nil {
		t.Errorf("wiping twice: %v", err)
	}
	for _, n := range []whatisup.Link{4, 5} {
		again := h.New(n)
		pair(again, 3)
		if err := again.Save(t.Context()); !errors.Is(err, ErrLinked) {
			t.Errorf("link %d after 5: %v", n, err)
		}
	}
	h.pair(t, 6)
	if h.Err() != nil {
		t.Errorf("handle failed: %v", h.Err())
	}
}

// An unpaired device is no row.
func TestNothingBeforePairing(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	h := b.open(1)
	before := b.snapshot()
	h.rec.reset()
	device := h.New(1)
	if err := h.PrepareKey(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := device.Save(t.Context()); err == nil {
		t.Error("saves a device without JID")
	}
	if w, r := h.rec.counts(); w+r > 0 {
		t.Errorf("%d writes and %d reads before pairing", w, r)
	}
	if !maps.Equal(before, b.snapshot()) {
		t.Error("the table changed")
	}
}

// A removed device row fails everything, as for a deleted instance.
func TestRemoveNeedsWipe(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	h := b.open(1)
	device := h.pair(t, 1)
	fill(t, h, device)
	if err := h.Remove(t.Context()); !errors.Is(err, ErrUnfinished) || !errors.Is(err, whatisup.ErrConflict) {
		t.Errorf("remove with a link: %v", err)
	}
	if err := h.Wipe(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	if err := h.Remove(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := h.Remove(t.Context()); err != nil {
		t.Errorf("remove twice: %v", err)
	}
	again := h.New(2)
	pair(again, 1)
	if err := again.Save(t.Context()); !errors.Is(err, ErrFenced) {
		t.Errorf("pairing after the removal: %v", err)
	}
	if left := withoutEntries(b.snapshot()); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}
