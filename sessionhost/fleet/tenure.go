package fleet

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"whatisup/shared/whatisup"
)

// ErrLost is the cause of the end of a tenure's context when the shard was lost,
// and not given up.
var ErrLost = errors.New("the shard was lost")

// Tenure is one unbroken ownership of one shard.
type Tenure struct {
	fleet *Fleet
	lease whatisup.Lease // as claimed; Counter and Up go on in the row
	// from is whether the shard was taken from an owner that did not give it up.
	from string

	until   atomic.Int64 // the clock's time at which trust ends
	renewed atomic.Int64 // the clock's time of the last renewal that succeeded
	up      atomic.Bool
	nudge   chan struct{} // renew now

	ctx    context.Context
	cancel context.CancelCauseFunc
	done   chan struct{} // the runner has returned
	end    chan struct{} // the tenure is over and released, or lost

	mu     sync.Mutex
	watch  *time.Timer
	lost   bool
	over   bool // given up
	next   int
	onLost map[int]func()
}

func newTenure(ctx context.Context, f *Fleet, l whatisup.Lease, from string, claimed time.Duration) *Tenure {
	t := &Tenure{
		fleet: f, lease: l, from: from, nudge: make(chan struct{}, 1),
		done: make(chan struct{}), end: make(chan struct{}), onLost: make(map[int]func()),
	}
	t.ctx, t.cancel = context.WithCancelCause(ctx)
	t.trustFrom(claimed)
	return t
}

// Shard is what is owned.
func (t *Tenure) Shard() whatisup.Shard { return t.lease.Shard }

// Epoch is the number of this ownership.
func (t *Tenure) Epoch() whatisup.Epoch { return t.lease.Epoch }

// TookOver says that the former owner did not give the shard up: it died, or
// was cut off.
func (t *Tenure) TookOver() bool { return t.from != "" }

// Trusted says whether this process may act as the owner at this moment. It is
// cheap; ask it immediately before each act.
func (t *Tenure) Trusted() bool { return int64(t.fleet.clock()) < t.until.Load() }

// LeaseAge is how long ago the lease was renewed.
func (t *Tenure) LeaseAge() time.Duration {
	return t.fleet.clock() - time.Duration(t.renewed.Load())
}

// Up tells the fleet that every linked session of the shard has been started, so
// that a host which is giving shards away goes on with the next.
func (t *Tenure) Up() {
	if !t.up.Swap(true) {
		select {
		case t.nudge <- struct{}{}:
		default:
		}
	}
}

// Confirm reads the lease: nil if it still is this tenure's, [whatisup.ErrFenced]
// if not, in which case the tenure is lost by the time it returns.
func (t *Tenure) Confirm(ctx context.Context) error {
	l, err := t.fleet.leases.Lease(ctx, t.fleet.mode, t.lease.Shard)
	if err != nil {
		return err
	}
	if l.Owner != t.lease.Owner || l.Epoch != t.lease.Epoch {
		t.lose(fmt.Errorf("another owner has epoch %d", l.Epoch))
		return whatisup.ErrFenced
	}
	return nil
}

// OnLost registers what must end first, and without waiting, when the tenure is
// lost; if it is lost already, f runs at once. The function returned takes it
// back.
func (t *Tenure) OnLost(f func()) (forget func()) {
	t.mu.Lock()
	if t.lost {
		t.mu.Unlock()
		f()
		return func() {}
	}
	n := t.next
	t.next++
	t.onLost[n] = f
	t.mu.Unlock()
	return func() {
		t.mu.Lock()
		delete(t.onLost, n)
		t.mu.Unlock()
	}
}

// trustFrom begins trust anew, counted from the moment at which the renewal was
// sent. A tenure that was lost meanwhile stays lost.
func (t *Tenure) trustFrom(sent time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.lost {
		return
	}
	until := sent + t.fleet.timing.Trust
	t.renewed.Store(int64(sent))
	t.until.Store(int64(until))
	// The end of trust is watched apart from the renewals, one of which may be
	// waiting for its answer then.
	left := max(until-t.fleet.clock(), 0)
	if t.watch == nil {
		t.watch = time.AfterFunc(left, func() {
			if !t.Trusted() {
				t.lose(errors.New("the lease was not renewed in time"))
			}
		})
	} else {
		t.watch.Reset(left)
	}
}

// lose ends the tenure at once. Only the first call does anything.
func (t *Tenure) lose(why error) {
	t.mu.Lock()
	if t.lost || t.over {
		t.mu.Unlock()
		return
	}
	t.lost = true
	t.until.Store(0)
	fs := t.onLost
	t.onLost = nil
	t.mu.Unlock()
	for _, f := range fs {
		f()
	}
	t.cancel(ErrLost)
	t.fleet.log.Warn("shard lost", "shard", int(t.lease.Shard), "epoch", uint64(t.lease.Epoch), "cause", why.Error())
}

func (t *Tenure) isLost() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.lost
}

// keep runs the shard and renews its lease until the runner has returned.
func (t *Tenure) keep(ctx context.Context) {
	defer close(t.end)
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() {
		defer close(t.done)
		t.fleet.runner.RunShard(t.ctx, t)
	})
	f := t.fleet
	renew := time.NewTimer(f.timing.Renew)
	defer renew.Stop()
	for {
		select {
		case <-t.done:
			t.release(ctx)
			return
		case <-renew.C:
		case <-t.nudge:
		}
		if t.isLost() {
			<-t.done
			return
		}
		l := t.lease
		l.Up = t.up.Load()
		sent := f.clock()
		callCtx, cancel := context.WithTimeout(ctx, f.timing.RenewTry)
		err := f.leases.RenewLease(callCtx, f.mode, l)
		cancel()
		switch {
		case err == nil:
			t.trustFrom(sent)
			renew.Reset(f.timing.Renew)
		case errors.Is(err, whatisup.ErrFenced):
			t.lose(err)
		default:
			f.log.Warn("lease not renewed", "shard", int(l.Shard), "error", err.Error())
			renew.Reset(f.timing.Renew / 10)
		}
	}
}

// release gives the lease up, unless it was lost. From its first line on nothing
// may act for the shard any more.
func (t *Tenure) release(ctx context.Context) {
	t.mu.Lock()
	trusted := t.Trusted()
	t.over = true
	t.until.Store(0)
	t.watch.Stop()
	t.mu.Unlock()
	if !trusted {
		return
	}
	f := t.fleet
	callCtx, cancel := context.WithTimeout(ctx, f.timing.RenewTry)
	defer cancel()
	if err := f.leases.ReleaseLease(callCtx, f.mode, t.lease); err != nil {
		f.log.Warn("lease not released; it runs out", "shard", int(t.lease.Shard), "error", err.Error())
		return
	}
	f.log.Info("shard released", "shard", int(t.lease.Shard), "epoch", uint64(t.lease.Epoch))
}
