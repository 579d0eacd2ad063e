package dynamo

import (
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"whatisup/shared/whatisup"
)

// answering is DynamoDB at some moment of its own time, some way off.
type answering struct {
	now       time.Time // the machine's
	ahead     time.Duration
	way, back time.Duration
}

func (a *answering) Do(*http.Request) (*http.Response, error) {
	a.now = a.now.Add(a.way)
	date := a.now.Add(-a.ahead).UTC().Format(http.TimeFormat)
	a.now = a.now.Add(a.back)
	return &http.Response{Header: http.Header{"Date": {date}}}, nil
}

// A machine's clock is put right by what answers tell, whatever the way, and left
// alone as long as it may be right.
func TestClock(t *testing.T) {
	t.Parallel()
	for _, ahead := range []time.Duration{0, time.Second, -time.Second, 10 * time.Second, -30 * time.Second, 90 * time.Second, -time.Hour} {
		d := &answering{now: time.Date(2026, 5, 1, 12, 0, 0, 123e6, time.UTC), ahead: ahead}
		c := NewClock(func() time.Time { return d.now })
		client := c.Watch(d)
		if c.Ahead() != 0 {
			t.Errorf("an unwatched clock is %v ahead", c.Ahead())
		}
		for range 300 {
			d.now = d.now.Add(rand.N(2 * time.Second))
			d.way, d.back = rand.N(400*time.Millisecond), rand.N(400*time.Millisecond)
			if _, err := client.Do(nil); err != nil {
				t.Fatal(err)
			}
			got, want := c.Ahead(), ahead
			if ahead.Abs() < ClockBears {
				want = 0
			}
			if (got - want).Abs() > 900*time.Millisecond {
				t.Fatalf("a clock that is %v ahead is taken to be %v ahead", ahead, got)
			}
			if off := c.Now().Sub(d.now.Add(-want)).Abs(); off > 900*time.Millisecond {
				t.Fatalf("with a clock that is %v ahead the time is %v off", ahead, off)
			}
		}
		// The clock is set while the process runs.
		d.ahead = 0
		for range 3 {
			d.now = d.now.Add(time.Second)
			client.Do(nil) //nolint:errcheck // it never fails
		}
		if ahead.Abs() > 2*ClockBears && c.Ahead() != 0 {
			t.Errorf("a clock that was %v ahead and was set is still taken to be %v ahead", ahead, c.Ahead())
		}
	}
}

// Positions rise, whatever the clock does, and are of the clock's time.
func TestPositionsRise(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	c := NewClock(func() time.Time { return now })
	var all []whatisup.Position
	for _, step := range []time.Duration{0, 0, time.Millisecond, -time.Second, 0, 5 * time.Second, -time.Microsecond} {
		now = now.Add(step)
		all = append(all, c.Position())
	}
	if !slices.IsSorted(all) || len(slices.Compact(slices.Clone(all))) != len(all) {
		t.Errorf("positions do not rise: %v", all)
	}
	if last := all[len(all)-1]; last.Time().Sub(now).Abs() > time.Millisecond {
		t.Errorf("the position of %v is of %v", now, last.Time())
	}
	if len(all[0]) != len(whatisup.NewPosition()) || all[0][14] != '7' {
		t.Errorf("%s is no version 7 UUID", all[0])
	}

	var mu sync.Mutex
	seen := make(map[whatisup.Position]bool)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 200 {
				p := c.Position()
				mu.Lock()
				seen[p[:18]] = true // without what is random
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if len(seen) != 1600 {
		t.Errorf("1600 positions at one moment have %d places", len(seen))
	}
}
