package fleet

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"whatisup/shared/whatisup"
)

// table is the fleet's rows in memory, with faults.
type table struct {
	mu     sync.Mutex
	leases []whatisup.Lease
	hosts  map[string]whatisup.Host
	// cut is which hosts the table does not answer.
	cut map[string]bool
	// owners is what every shard's owners did, for the check that no two acted
	// at one time.
	slow time.Duration
}

func newTable(shards int) *table {
	t := &table{leases: make([]whatisup.Lease, shards), hosts: make(map[string]whatisup.Host), cut: make(map[string]bool)}
	for s := range t.leases {
		t.leases[s].Shard = whatisup.Shard(s)
	}
	return t
}

// view is the table as one host reaches it.
type reach struct {
	*table
	host string
}

func (r reach) call(ctx context.Context) error {
	r.mu.Lock()
	cut, slow := r.cut[r.host], r.slow
	r.mu.Unlock()
	if cut {
		<-ctx.Done()
		return fmt.Errorf("%w: %w", whatisup.ErrUnavailable, ctx.Err())
	}
	select {
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", whatisup.ErrUnavailable, ctx.Err())
	case <-time.After(slow + 5*time.Millisecond):
		return nil
	}
}

func (r reach) Leases(ctx context.Context, _ whatisup.Mode) ([]whatisup.Lease, error) {
	if err := r.call(ctx); err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]whatisup.Lease(nil), r.leases...), nil
}

func (r reach) Lease(ctx context.Context, m whatisup.Mode, s whatisup.Shard) (whatisup.Lease, error) {
	all, err := r.Leases(ctx, m)
	if err != nil {
		return whatisup.Lease{}, err
	}
	return all[s], nil
}

func (r reach) ClaimLease(ctx context.Context, _ whatisup.Mode, seen whatisup.Lease, owner string) (whatisup.Lease, error) {
	if err := r.call(ctx); err != nil {
		return whatisup.Lease{}, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	l := &r.leases[seen.Shard]
	if l.Owner != seen.Owner || l.Epoch != seen.Epoch || l.Counter != seen.Counter {
		return whatisup.Lease{}, whatisup.ErrConflict
	}
	l.Owner, l.Epoch, l.Counter, l.Up = owner, l.Epoch+1, l.Counter+1, false
	return *l, nil
}

func (r reach) change(ctx context.Context, l whatisup.Lease, f func(*whatisup.Lease)) error {
	if err := r.call(ctx); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	row := &r.leases[l.Shard]
	if row.Owner != l.Owner || row.Epoch != l.Epoch {
		return whatisup.ErrFenced
	}
	row.Counter++
	f(row)
	return nil
}

func (r reach) RenewLease(ctx context.Context, _ whatisup.Mode, l whatisup.Lease) error {
	return r.change(ctx, l, func(row *whatisup.Lease) { row.Up = l.Up })
}

func (r reach) ReleaseLease(ctx context.Context, _ whatisup.Mode, l whatisup.Lease) error {
	return r.change(ctx, l, func(row *whatisup.Lease) { row.Owner, row.Up = "", false })
}

func (r reach) Beat(ctx context.Context, _ whatisup.Mode, h whatisup.Host) error {
	if err := r.call(ctx); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.hosts[h.ID] = h
	return nil
}

func (r reach) Leave(ctx context.Context, _ whatisup.Mode, id string) error {
	if err := r.call(ctx); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.hosts, id)
	return nil
}

func (r reach) Hosts(ctx context.Context, _ whatisup.Mode) ([]whatisup.Host, error) {
	if err := r.call(ctx); err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	var all []whatisup.Host
	for _, h := range r.hosts {
		all = append(all, h)
	}
	return all, nil
}

func (t *table) isolate(host string, cut bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.cut[host] = cut
}

// actor is a runner that acts for its shard every tenth of a second as long as
// it is trusted, and watches that nobody else does.
type actor struct {
	host string
	*stage
}

// stage is what all actors act on.
type stage struct {
	mu      sync.Mutex
	acting  map[whatisup.Shard]string
	longest map[whatisup.Shard]time.Duration // without an actor
	last    map[whatisup.Shard]time.Time
	clashes []string
	closing time.Duration // how long a runner takes to close
}

func newStage() *stage {
	return &stage{acting: make(map[whatisup.Shard]string), longest: make(map[whatisup.Shard]time.Duration), last: make(map[whatisup.Shard]time.Time)}
}

func (a actor) RunShard(ctx context.Context, t *Tenure) {
	lost := make(chan struct{})
	defer t.OnLost(func() { close(lost) })()
	t.Up()
	a.enter(t)
	defer a.leave(t)
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-lost:
			return
		case <-ctx.Done():
			if !errors.Is(context.Cause(ctx), ErrLost) {
				time.Sleep(a.closing)
			}
			return
		case <-tick.C:
			a.act(t)
		}
	}
}

func (a actor) enter(t *Tenure) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if other := a.acting[t.Shard()]; other != "" && t.Trusted() {
		a.clashes = append(a.clashes, fmt.Sprintf("%s began shard %d while %s acts", a.host, t.Shard(), other))
	}
	a.acting[t.Shard()] = a.host
}

func (a actor) leave(t *Tenure) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.acting[t.Shard()] == a.host {
		delete(a.acting, t.Shard())
	}
}

func (a actor) act(t *Tenure) {
	if !t.Trusted() {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	now := time.Now()
	if last, ok := a.last[t.Shard()]; ok {
		a.longest[t.Shard()] = max(a.longest[t.Shard()], now.Sub(last))
	}
	a.last[t.Shard()] = now
	if a.acting[t.Shard()] != a.host {
		a.clashes = append(a.clashes, fmt.Sprintf("%s acts for shard %d of %s", a.host, t.Shard(), a.acting[t.Shard()]))
	}
}

type member struct {
	*Fleet
	stop func()
}

func join(t *testing.T, tab *table, st *stage, host string, shards int) *member {
	t.Helper()
	f, err := New(Config{
		Host: host, Mode: whatisup.Test, Shards: shards, Leases: reach{tab, host}, Hosts: reach{tab, host},
		Runner: actor{host, st}, Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := f.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	return &member{f, sync.OnceFunc(func() { cancel(); wg.Wait() })}
}

func counts(members ...*member) []int {
	var n []int
	for _, m := range members {
		n = append(n, len(m.Owned()))
	}
	return n
}

func (s *stage) check(t *testing.T) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.clashes {
		t.Error(c)
	}
}

func (s *stage) gap() (longest time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, d := range s.longest {
		longest = max(longest, d)
	}
	return longest
}

func (s *stage) reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.longest)
}

func TestTimingIsValidated(t *testing.T) {
	t.Parallel()
	if err := Default().Validate(); err != nil {
		t.Error(err)
	}
	for _, change := range []func(*Timing){
		func(x *Timing) { x.Trust = x.Takeover },
		func(x *Timing) { x.Trust = x.Takeover + time.Second },
		func(x *Timing) { x.Renew = x.Trust },
		func(x *Timing) { x.RenewTry = x.Trust - x.Renew },
	} {
		timing := Default()
		change(&timing)
		if timing.Validate() == nil {
			t.Errorf("accepted %+v", timing)
		}
	}
}

// From 16, 0, 0 shards to 6, 5, 5 within a minute, with nobody's shard idle for
// long.
func TestLevelsOut(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tab, st := newTable(16), newStage()
		st.closing = 300 * time.Millisecond
		a := join(t, tab, st, "a", 16)
		time.Sleep(10 * time.Second)
		if n := len(a.Owned()); n != 16 {
			t.Fatalf("the only host owns %d shards", n)
		}
		st.reset()
		b, c := join(t, tab, st, "b", 16), join(t, tab, st, "c", 16)
		time.Sleep(time.Minute)
		n := counts(a, b, c)
		if n[0]+n[1]+n[2] != 16 || max(n[0], n[1], n[2]) != 6 || min(n[0], n[1], n[2]) != 5 {
			t.Errorf("after a minute %v", n)
		}
		if gap := st.gap(); gap > 2*time.Second {
			t.Errorf("a shard was idle for %v", gap)
		}
		time.Sleep(5 * time.Minute)
		if m := counts(a, b, c); m[0] != n[0] || m[1] != n[1] || m[2] != n[2] {
			t.Errorf("went on moving: from %v to %v", n, m)
		}
		for _, m := range []*member{a, b, c} {
			m.stop()
		}
		st.check(t)
	})
}

// A host that is cut off stops by itself before anybody may take over, and the
// others have its shards within the takeover time and a little.
func TestTakeover(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tab, st := newTable(16), newStage()
		a := join(t, tab, st, "a", 16)
		time.Sleep(10 * time.Second)
		b := join(t, tab, st, "b", 16)
		time.Sleep(2 * time.Minute)
		if n := counts(a, b); n[0] != 8 || n[1] != 8 {
			t.Fatalf("%v before", n)
		}
		st.reset()
		tab.isolate("a", true)
		time.Sleep(Default().Trust)
		if n := len(a.Owned()); n != 0 {
			for _, tn := range a.Owned() {
				if tn.Trusted() {
					t.Errorf("shard %d is trusted for longer than the lease", tn.Shard())
				}
			}
		}
		time.Sleep(Default().Takeover + 8*time.Second - Default().Trust)
		if n := len(b.Owned()); n != 16 {
			t.Errorf("the other host owns %d shards", n)
		}
		if gap := st.gap(); gap > Default().Takeover+8*time.Second {
			t.Errorf("a shard was idle for %v", gap)
		}
		// It comes back and takes part again.
		tab.isolate("a", false)
		time.Sleep(2 * time.Minute)
		if n := counts(a, b); n[0] != 8 || n[1] != 8 {
			t.Errorf("%v afterwards", n)
		}
		a.stop()
		b.stop()
		st.check(t)
	})
}

// A rolling replacement of all hosts: nobody's shard is idle for long.
func TestRollingReplacement(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tab, st := newTable(16), newStage()
		st.closing = 300 * time.Millisecond
		a, b := join(t, tab, st, "a1", 16), join(t, tab, st, "b1", 16)
		time.Sleep(2 * time.Minute)
		st.reset()
		a2, b2 := join(t, tab, st, "a2", 16), join(t, tab, st, "b2", 16)
		time.Sleep(5 * time.Second)
		began := time.Now()
		var wg sync.WaitGroup
		wg.Go(a.stop)
		wg.Go(b.stop)
		wg.Wait()
		if took := time.Since(began); took > Default().Drain {
			t.Errorf("draining took %v", took)
		}
		time.Sleep(10 * time.Second)
		if n := counts(a2, b2); n[0]+n[1] != 16 {
			t.Errorf("%v afterwards", n)
		}
		if gap := st.gap(); gap > 2*time.Second {
			t.Errorf("a shard was idle for %v", gap)
		}
		a2.stop()
		b2.stop()
		st.check(t)
	})
}

// A process that has the name of one that died takes its leases over at once.
func TestSameName(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tab, st := newTable(4), newStage()
		for s := range tab.leases {
			tab.leases[s].Owner, tab.leases[s].Epoch, tab.leases[s].Counter = "a", 3, 100
		}
		a := join(t, tab, st, "a", 4)
		time.Sleep(time.Second)
		owned := a.Owned()
		if len(owned) != 4 {
			t.Fatalf("%d shards after a second", len(owned))
		}
		if owned[0].Epoch() != 4 || !owned[0].TookOver() {
			t.Errorf("epoch %d, took over: %v", owned[0].Epoch(), owned[0].TookOver())
		}
		a.stop()
	})
}

// A renewal whose answer comes after the trust has run out does not bring it
// back.
func TestLateAnswerDoesNotRevive(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tab, st := newTable(1), newStage()
		a := join(t, tab, st, "a", 1)
		time.Sleep(5 * time.Second)
		tn := a.Owned()[0]
		tn.lose(errors.New("for the test"))
		tn.trustFrom(a.clock())
		if tn.Trusted() {
			t.Error("a lost tenure is trusted again")
		}
		a.stop()
		st.check(t)
	})
}

// What was registered for the end runs before the context ends, and at once when
// it is too late to register.
func TestOnLost(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tab, st := newTable(1), newStage()
		a := join(t, tab, st, "a", 1)
		time.Sleep(5 * time.Second)
		tn := a.Owned()[0]
		var order []string
		tn.OnLost(func() {
			if tn.ctx.Err() == nil {
				order = append(order, "before")
			}
		})
		forgotten := tn.OnLost(func() { order = append(order, "forgotten") })
		forgotten()
		tn.lose(errors.New("for the test"))
		tn.OnLost(func() { order = append(order, "late") })
		if len(order) != 2 || order[0] != "before" || order[1] != "late" {
			t.Errorf("%v", order)
		}
		a.stop()
	})
}
