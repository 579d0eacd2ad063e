package devicestore

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
)

// Random operations on this store and on whatsmeow's own give the same results,
// whatever order they come in, also after the state was loaded anew in between.
//
// The places where this store differs on purpose, and which the operations keep
// away from: pre-key ids are never used twice; a secret put twice for one
// message; a MAC put twice for one version (sqlstore refuses it); prefixes are
// exact (sqlstore's are LIKE patterns, in which the _ of a LID is a wildcard);
// LIDs are per device; the copy of a sent message is found by its id alone; what was handled is remembered for the last 128 messages
// only; privacy tokens go with their link.
func TestSameAsSQLStore(t *testing.T) {
	t.Parallel()
	for seed := range 3 {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			sameAsSQLStore(t, newBench(t), uint64(seed))
		})
	}
}

func sameAsSQLStore(t *testing.T, b *bench, seed uint64) {
	steps := 300
	if s, err := strconv.Atoi(os.Getenv("DEVICESTORE_STEPS")); err == nil {
		steps = s
	}
	h := b.open(1)
	ours := h.pair(t, 1)
	theirs := newOracle(t, ours)
	r := rand.New(rand.NewPCG(seed, 7))
	var highest uint32
	clock := &ticker{}
	ops := operations(clock, &highest)
	counts := make(map[string]int)
	for step := range steps {
		op := ops[r.IntN(len(ops))]
		s1, s2 := r.Uint64(), r.Uint64()
		before := clock.n
		want := op.do(t.Context(), theirs, rand.New(rand.NewPCG(s1, s2)))
		clock.n = before
		got := op.do(t.Context(), ours, rand.New(rand.NewPCG(s1, s2)))
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Fatalf("step %d: %s\n got %v\nwant %v", step, op.name, got, want)
		}
		counts[op.name]++
		if err := h.Err(); err != nil {
			t.Fatalf("step %d: %s: handle failed: %v", step, op.name, err)
		}
		if r.IntN(100) == 0 { // a restart in between
			if err := h.Close(t.Context()); err != nil {
				t.Fatal(err)
			}
			name := ours.PushName
			h = b.reopen(1)
			ours = h.load(t)
			if ours.PushName != name {
				t.Fatalf("step %d: push name %q after load, want %q", step, ours.PushName, name)
			}
		}
	}
	for _, op := range ops {
		if counts[op.name] == 0 && steps >= 2000 {
			t.Logf("%s did not happen", op.name)
		}
	}
}
