package courier

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"whatisup/shared/whatisup"
)

// Sessions that send while requests are under way share the next ones; each event
// is in one request, and each caller gets the answer of its own.
func TestSessionsShareRequests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		requests, sent := 0, make(map[whatisup.EventID]int)
		bad := errors.New("no")
		s := newShare(func(_ context.Context, events []whatisup.Event) (err error) {
			time.Sleep(time.Millisecond)
			mu.Lock()
			defer mu.Unlock()
			requests++
			if len(events) > company {
				t.Errorf("%d events in one request", len(events))
			}
			for _, e := range events {
				sent[e.ID]++
				if e.ID == "bad" {
					err = bad
				}
			}
			return err
		})
		var wg sync.WaitGroup
		refused := 0
		for n := range 200 {
			wg.Go(func() {
				id := whatisup.EventID(fmt.Sprint(n))
				if n == 150 {
					id = "bad"
				}
				if err := s.Do(t.Context(), []whatisup.Event{{ID: id}}); err != nil {
					mu.Lock()
					defer mu.Unlock()
					refused++
				}
			})
		}
		wg.Wait()
		if len(sent) != 200 || requests > lanes+20 || refused < 1 || refused > company {
			t.Errorf("%d events in %d requests, %d refused", len(sent), requests, refused)
		}
		for id, n := range sent {
			if n != 1 {
				t.Errorf("%s was sent %d times", id, n)
			}
		}
	})
}

// An event that comes alone leaves at once, and a caller waits no longer than it
// wants to.
func TestNothingWaitsForCompany(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var sent atomic.Int64
		s := newShare(func(_ context.Context, events []whatisup.Event) error {
			sent.Add(int64(len(events)))
			time.Sleep(time.Second)
			return nil
		})
		began := time.Now()
		if err := s.Do(t.Context(), []whatisup.Event{{ID: "a"}}); err != nil || time.Since(began) != time.Second {
			t.Errorf("%v after %v", err, time.Since(began))
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		if err := s.Do(ctx, []whatisup.Event{{ID: "b"}}); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		time.Sleep(2 * time.Second)

		// What still waits when its caller goes is not sent afterwards.
		sent.Store(0)
		var wg sync.WaitGroup
		for range lanes + 1 {
			wg.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
				defer cancel()
				_ = s.Do(ctx, []whatisup.Event{{ID: "c"}})
			})
			synctest.Wait() // each takes a lane of its own
		}
		wg.Wait()
		time.Sleep(3 * time.Second)
		if n := sent.Load(); n != lanes {
			t.Errorf("%d events were sent, want the %d that were on their way", n, lanes)
		}
	})
}
