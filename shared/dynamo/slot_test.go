package dynamo

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"whatisup/shared/whatisup"
)

func slots(limit int) whatisup.Slots {
	return whatisup.Slots{Customer: whatisup.NewCustomerID(), Mode: whatisup.Test, Kind: "things", Limit: limit}
}

// Callers at the same moment take exactly as many slots as there are, and what
// is given back can be taken again.
func TestSlotsAreNeitherMoreNorFewer(t *testing.T) {
	t.Parallel()
	for _, limit := range []int{1, 10, 50} {
		t.Run(fmt.Sprint(limit), func(t *testing.T) {
			t.Parallel()
			db := open(t)
			s := slots(limit)
			until := time.Now().Add(time.Hour)
			take := func(id string) error { return db.TakeSlot(t.Context(), s, id, until, "") }
			var got atomic.Int64
			var group sync.WaitGroup
			for range limit {
				group.Go(func() {
					for {
						err := take(string(whatisup.NewInstanceID()))
						if err == nil {
							got.Add(1)
							continue
						}
						if !errors.Is(err, whatisup.ErrTooMany) {
							t.Error(err)
						}
						return
					}
				})
			}
			group.Wait()

			ids, err := db.TakenSlots(t.Context(), s)
			if err != nil || len(ids) != limit || got.Load() != int64(limit) {
				t.Fatalf("%d calls took a slot, %d slots are taken, the limit is %d; %v", got.Load(), len(ids), limit, err)
			}
			for _, id := range ids {
				if err := take(id); err != nil {
					t.Errorf("a taken slot can't be renewed: %v", err)
				}
				if err := db.KeepSlot(t.Context(), s, id, until); err != nil {
					t.Errorf("a taken slot can't be kept: %v", err)
				}
			}

			free := ids[:max(1, limit/3)]
			if err := db.FreeSlots(t.Context(), s, free...); err != nil {
				t.Fatal(err)
			}
			if err := db.KeepSlot(t.Context(), s, free[0], until); !errors.Is(err, whatisup.ErrNotFound) {
				t.Errorf("a slot that was given back is kept: %v", err)
			}
			for range free {
				if err := take(string(whatisup.NewInstanceID())); err != nil {
					t.Errorf("a free slot: %v", err)
				}
			}
			if err := take("one too many"); !errors.Is(err, whatisup.ErrTooMany) {
				t.Errorf("over the limit: %v", err)
			}
		})
	}
}

// A slot whose time has passed is free, and lapsed slots don't pile up.
func TestLapsedSlotsAreFree(t *testing.T) {
	t.Parallel()
	db := open(t)
	s := slots(40)
	for round := range 3 {
		until := time.Now().Add(-time.Second)
		if round == 2 {
			until = time.Now().Add(time.Hour)
		}
		for range 40 {
			if err := db.TakeSlot(t.Context(), s, string(whatisup.NewInstanceID()), until, ""); err != nil {
				t.Fatal(err)
			}
		}
	}
	ids, err := db.TakenSlots(t.Context(), s)
	if err != nil || len(ids) != 40 {
		t.Errorf("%d slots are taken: %v", len(ids), err)
	}
	if err := db.TakeSlot(t.Context(), s, "one too many", time.Now().Add(time.Hour), ""); !errors.Is(err, whatisup.ErrTooMany) {
		t.Errorf("over the limit: %v", err)
	}
}

// A successor takes its predecessor's slot, and nobody else's.
func TestSuccessorTakesOneSlot(t *testing.T) {
	t.Parallel()
	db := open(t)
	s := slots(2)
	until := time.Now().Add(time.Hour)
	take := func(id, predecessor string) error { return db.TakeSlot(t.Context(), s, id, until, predecessor) }
	for _, step := range []struct {
		id, predecessor string
		want            error
	}{
		{"a", "unknown", nil},
		{"b", "", nil},
		{"c", "a", nil},
		{"d", "a", whatisup.ErrTooMany}, // gone already
		{"d", "c", nil},
	} {
		if err := take(step.id, step.predecessor); !errors.Is(err, step.want) {
			t.Errorf("%s after %q: %v", step.id, step.predecessor, err)
		}
	}
	if ids, err := db.TakenSlots(t.Context(), s); fmt.Sprint(ids) != "[b d]" {
		t.Errorf("%v %v", ids, err)
	}
}
