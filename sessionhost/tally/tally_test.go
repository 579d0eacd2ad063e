package tally

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"whatisup/shared/whatisup"
)

// rows takes an addition once, by its serial, as the table does.
type rows struct {
	mu      sync.Mutex
	sums    map[row]whatisup.Usage
	serials map[row]int64
	writes  int
	lose    int // answers of so many additions from now on
}

func (r *rows) AddUsage(_ context.Context, of whatisup.UsageOf, hour time.Time, u whatisup.Usage, _ string, serial int64) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.writes++
	key := row{of, hour}
	if serial > r.serials[key] {
		r.serials[key] = serial
		sum := r.sums[key]
		sum.Add(u)
		r.sums[key] = sum
	}
	if r.lose > 0 {
		r.lose--
		return errors.New("no answer")
	}
	return nil
}

// What is counted arrives once, in few writes, whatever answers are lost and when the
// host stops.
func TestCountsArriveOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &rows{sums: map[row]whatisup.Usage{}, serials: map[row]int64{}, lose: 3}
		tally := New(r, whatisup.Live, time.Now, slog.New(slog.DiscardHandler))
		ctx, stop := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { tally.Run(ctx) })
		const each = 1000
		for n := range each {
			for _, i := range []whatisup.InstanceID{"a", "b"} {
				tally.Count(whatisup.Ref{Customer: "c", Mode: whatisup.Live, ID: i}, whatisup.Usage{In: 1, Out: n % 2})
			}
			time.Sleep(10 * time.Second)
		}
		stop()
		wg.Wait()
		sums := map[whatisup.InstanceID]whatisup.Usage{}
		for key, u := range r.sums {
			sum := sums[key.Instance]
			sum.Add(u)
			sums[key.Instance] = sum
		}
		one := whatisup.Usage{In: each, Out: each / 2}
		both := whatisup.Usage{In: 2 * each, Out: each}
		if sums["a"] != one || sums["b"] != one || sums[""] != both {
			t.Errorf("counted %+v", sums)
		}
		// Three rows, each written for two hours and 47 minutes every 7.5 to 22.5 minutes.
		if r.writes > 3*30 {
			t.Errorf("%d writes", r.writes)
		}
	})
}
