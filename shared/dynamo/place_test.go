package dynamo

import (
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"whatisup/shared/whatisup"
)

// Exactly as many get a place as there are, however they fall on the rows, and
// what is left again can be taken again.
func TestPlacesAreNeitherMoreNorFewer(t *testing.T) {
	t.Parallel()
	for _, limit := range []int{1, 10, 50} {
		t.Run(fmt.Sprint(limit), func(t *testing.T) {
			t.Parallel()
			db := open(t)
			c := whatisup.NewCustomerID()
			until := time.Now().Add(time.Hour)
			occupy := func(id string) error {
				return db.Occupy(t.Context(), c, whatisup.Test, "things", id, until, limit)
			}
			var got atomic.Int64
			var group sync.WaitGroup
			for range limit {
				group.Go(func() {
					for {
						err := occupy(string(whatisup.NewInstanceID()))
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
			ids, err := db.Places(t.Context(), c, whatisup.Test, "things")
			if err != nil || len(ids) != limit || got.Load() != int64(limit) {
				t.Fatalf("%d got one, %d have one, of %d; %v", got.Load(), len(ids), limit, err)
			}
			for _, id := range ids {
				if err := occupy(id); err != nil {
					t.Errorf("who has a place can't prolong it: %v", err)
				}
			}
			left := ids[:max(1, limit/3)]
			if err := db.Vacate(t.Context(), c, whatisup.Test, "things", left...); err != nil {
				t.Fatal(err)
			}
			for range left {
				if err := occupy(string(whatisup.NewInstanceID())); err != nil {
					t.Errorf("a place that was left: %v", err)
				}
			}
			if err := occupy("one too many"); !errors.Is(err, whatisup.ErrTooMany) {
				t.Errorf("over the limit: %v", err)
			}
		})
	}
}

// A full row costs one write unit.
func TestRowOfPlacesIsSmall(t *testing.T) {
	t.Parallel()
	db := open(t)
	c := whatisup.NewCustomerID()
	for range 60 {
		err := db.Occupy(t.Context(), c, whatisup.Test, "attempts", string(whatisup.NewInstanceID()), time.Now().Add(time.Hour), 60)
		if err != nil {
			t.Fatal(err)
		}
	}
	rows := 0
	for row, err := range db.placeRows(t.Context(), placesOf{customer: c, mode: whatisup.Test, kind: "attempts"}) {
		if err != nil {
			t.Fatal(err)
		}
		rows++
		if len(row.places) != placesInRow {
			t.Errorf("row %s has %d places", row.sk, len(row.places))
		}
		// As DynamoDB counts: names and strings by their bytes, a number by half
		// its digits, and one or three bytes for each value.
		size := len("pkskplaces") + len("customer#") + len(c) + len(row.sk) + 3
		for id := range row.places {
			size += len(id) + 1 + 8 + 1
		}
		if size > 1024 {
			t.Errorf("row %s has %d bytes", row.sk, size)
		}
	}
	if rows != 3 {
		t.Errorf("%d rows", rows)
	}
}

// Places whose time has passed are free, in whatever row they are.
func TestPassedPlacesAreFree(t *testing.T) {
	t.Parallel()
	db := open(t)
	c := whatisup.NewCustomerID()
	for round := range 3 {
		until := time.Now().Add(-time.Second)
		if round == 2 {
			until = time.Now().Add(time.Hour)
		}
		for range 40 {
			if err := db.Occupy(t.Context(), c, whatisup.Live, "things", string(whatisup.NewInstanceID()), until, 40); err != nil {
				t.Fatal(err)
			}
		}
	}
	ids, err := db.Places(t.Context(), c, whatisup.Live, "things")
	if err != nil || len(ids) != 40 {
		b, _ := json.Marshal(ids)
		t.Errorf("%d have a place: %s, %v", len(ids), b, err)
	}
}
