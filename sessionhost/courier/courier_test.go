package courier

import (
	"context"
	"errors"
	"iter"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"whatisup/shared/whatisup"
)

// desk is a log and a queue.
type desk struct {
	mu   sync.Mutex
	down bool // the queue
	log  []whatisup.Logged
	sent map[whatisup.EventID]int
}

func (d *desk) Queues() []string            { return []string{"q"} }
func (d *desk) Position() whatisup.Position { return whatisup.PositionAt(time.Now()) }

func (d *desk) SendTo(_ context.Context, _ string, events ...whatisup.Event) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.down {
		return errors.New("down")
	}
	for _, e := range events {
		d.sent[e.ID]++
	}
	return nil
}

func (d *desk) EventsAfter(_ context.Context, _ whatisup.CustomerID, _ whatisup.Mode, after whatisup.Position, _ int) iter.Seq2[whatisup.Logged, error] {
	d.mu.Lock()
	all := slices.Clone(d.log)
	d.mu.Unlock()
	return func(yield func(whatisup.Logged, error) bool) {
		for _, e := range all {
			if e.Position > after && !yield(e, nil) {
				return
			}
		}
	}
}

// keep writes an event to the log.
func (d *desk) keep(e whatisup.Event) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.log = append(d.log, whatisup.Logged{Position: whatisup.PositionAt(time.Now()), Event: e})
}

func (d *desk) times(id whatisup.EventID) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.sent[id]
}

// An event that waits until the log takes it holds up no other instance's, nor is what
// its own instance has in the log sent again and again meanwhile.
func TestOneThatWaitsForTheLogHoldsUpNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, end := context.WithCancel(t.Context())
		d := &desk{down: true, sent: make(map[whatisup.EventID]int)}
		c := New(d, d, slog.New(slog.DiscardHandler), func(time.Duration) {})
		open := func(id whatisup.InstanceID) *Account {
			return c.Open(ctx, whatisup.Ref{Customer: "c", Mode: whatisup.Test, ID: id}, nil, func(context.Context, map[string]whatisup.Position) error { return nil })
		}
		stuck, other := open("stuck"), open("other")
		tell := func(a *Account, id whatisup.EventID, logged <-chan struct{}) {
			e := whatisup.Event{ID: id, Customer: "c", Mode: whatisup.Test, Instance: a.ref.ID}
			if err := a.Keep(ctx, e, func(context.Context) error {
				<-logged
				d.keep(e)
				return nil
			}); err != nil {
				t.Error(err)
			}
		}
		at := make(chan struct{})
		close(at)
		tell(stuck, "before", at)
		back := make(chan struct{})
		var waits sync.WaitGroup
		waits.Go(func() { tell(stuck, "waits", back) })
		time.Sleep(time.Minute)
		tell(other, "other", at)

		d.mu.Lock()
		d.down = false
		d.mu.Unlock()
		time.Sleep(time.Hour)
		if other.Owes() || d.times("other") == 0 {
			t.Error("the other instance's event is held up")
		}
		if !stuck.Owes() || d.times("waits") != 0 {
			t.Error("what is not in the log is taken for paid")
		}
		if n := d.times("before"); n == 0 || n > 2 {
			t.Errorf("what was in the log is sent %d times", n)
		}

		close(back)
		waits.Wait()
		time.Sleep(2 * longest)
		if stuck.Owes() || d.times("waits") == 0 {
			t.Error("what waited is not sent when it is in the log")
		}
		end()
		c.Wait()
	})
}
