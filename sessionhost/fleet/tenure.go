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

	until atomic.Int64 // the clock's time at which trust ends
	kept  atomic.Int64 // the clock's time from which it counts
	up    sync.Once
	nudge chan struct{} // it is up

	ctx    context.Context
	cancel context.CancelCauseFunc
	done   chan struct{} // the runner has returned
	fenced chan struct{} // closed when the tenure is lost
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
		done: make(chan struct{}), fenced: make(chan struct{}), end: make(chan struct{}), onLost: make(map[int]func()),
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

// HandedOver says that the owner before had given the shard up just then: its
// connections had been open until a moment ago.
func (t *Tenure) HandedOver() bool { return t.lease.Since.IsZero() }

// Trusted says whether this process may act as the owner at this moment. It is
// cheap; ask it immediately before each act.
func (t *Tenure) Trusted() bool { return int64(t.fleet.clock()) < t.until.Load() }

// LeaseAge is how long ago the last beat that keeps the lease was sent, or the
// claim.
func (t *Tenure) LeaseAge() time.Duration {
	return t.fleet.clock() - time.Duration(t.kept.Load())
}

// Up tells the fleet that every linked session of the shard has been started, so
// that a host which is giving shards away goes on with the next.
func (t *Tenure) Up() { t.up.Do(func() { t.nudge <- struct{}{} }) }

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

// trustFrom lets trust count from the moment at which the claim, or a beat that
// has succeeded, was sent.
func (t *Tenure) trustFrom(sent time.Duration) {
	until := sent + t.fleet.timing.Trust
	t.kept.Store(int64(sent))
	t.until.Store(int64(until))
	// The end of trust is watched apart from the beats, one of which may be
	// waiting for its answer then.
	left := max(until-t.fleet.clock(), 0)
	if t.watch != nil {
		t.watch.Reset(left)
		return
	}
	t.watch = time.AfterFunc(left, func() {
		if !t.Trusted() {
			t.lose(errExpired)
		}
	})
}

var errExpired = errors.New("no beat kept the lease in time")

// beaten is called after a beat has succeeded. If trust has run out before its
// answer came it proves nothing: the shard may have been claimed before the beat
// arrived.
func (t *Tenure) beaten(sent time.Duration) {
	t.mu.Lock()
	ended := t.lost || t.over
	trusted := t.Trusted()
	if !ended && trusted && int64(sent) > t.kept.Load() {
		t.trustFrom(sent)
	}
	t.mu.Unlock()
	if !ended && !trusted {
		t.lose(errExpired)
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
	close(t.fenced)
	fs := t.onLost
	t.onLost = nil
	t.mu.Unlock()
	for _, f := range fs {
		f()
	}
	t.cancel(ErrLost)
	t.fleet.log.Warn("shard lost", "shard", int(t.lease.Shard), "epoch", uint64(t.lease.Epoch), "cause", why.Error())
}

// keep runs the shard until its runner has returned.
func (t *Tenure) keep(ctx context.Context) {
	defer close(t.end)
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() {
		defer close(t.done)
		t.fleet.runner.RunShard(t.ctx, t)
	})
	var again <-chan time.Time
	for {
		select {
		case <-t.done:
			t.release(ctx)
			return
		case <-t.fenced:
			t.abandon(ctx)
			return
		case <-t.nudge:
		case <-again:
		}
		again = t.markUp(ctx)
	}
}

// markUp returns when to try again, nil for never.
func (t *Tenure) markUp(ctx context.Context) <-chan time.Time {
	f := t.fleet
	ctx, cancel := context.WithTimeout(ctx, f.timing.RenewTry)
	defer cancel()
	switch err := f.leases.MarkUp(ctx, f.mode, t.lease); {
	case err == nil:
		return nil
	case errors.Is(err, whatisup.ErrFenced):
		t.lose(err)
		return nil
	default:
		f.log.Warn("cannot say that a shard is up", "shard", int(t.lease.Shard), "error", err.Error())
		return time.After(f.timing.Renew / 10)
	}
}

// abandon waits for the runner of a lost shard. This host takes the shard back
// when it has returned; if it hangs, another must be able to, which the host's
// beats would prevent for as long as the lease is in its name.
func (t *Tenure) abandon(ctx context.Context) {
	f := t.fleet
	wait := f.timing.Takeover
	for {
		select {
		case <-t.done:
			return
		case <-time.After(wait):
		}
		callCtx, cancel := context.WithTimeout(ctx, f.timing.RenewTry)
		err := f.leases.ReleaseLease(callCtx, f.mode, t.lease)
		cancel()
		if err == nil || errors.Is(err, whatisup.ErrFenced) {
			f.log.Error("the runner of a lost shard does not end", "shard", int(t.lease.Shard))
			return
		}
		wait = f.timing.Renew
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
