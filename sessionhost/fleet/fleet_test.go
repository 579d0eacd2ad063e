package fleet

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
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
	faults map[string]faults
	before func(seen whatisup.Lease, owner string)
	past   []past // what stale reads may still show
	// drift is by how much the clock of a host that joins may be too fast or slow.
	drift  float64
	writes int
}

// faults are what happens to a host's calls.
type faults struct {
	cut   bool          // they don't arrive, and have no answer
	slow  time.Duration // on the way, at most
	late  bool          // those that arrive too late for an answer are carried out
	mute  bool          // they are carried out, and have no answer
	stale time.Duration // lists are as old as that, at most
}

type past struct {
	at     time.Time
	leases []whatisup.Lease
	hosts  []whatisup.Host
}

func newTable(shards int) *table {
	t := &table{leases: make([]whatisup.Lease, shards), hosts: make(map[string]whatisup.Host), faults: make(map[string]faults)}
	for s := range t.leases {
		t.leases[s].Shard = whatisup.Shard(s)
	}
	return t
}

// reach is the table as one host reaches it.
type reach struct {
	*table
	host string
}

// call carries a call out, once at most, maybe after its caller has given up.
func call[T any](ctx context.Context, r reach, do func() (T, error)) (T, error) {
	type result struct {
		is  T
		err error
	}
	r.mu.Lock()
	f := r.faults[r.host]
	r.mu.Unlock()
	unavailable := func() (nothing T, err error) {
		<-ctx.Done()
		return nothing, fmt.Errorf("%w: %w", whatisup.ErrUnavailable, ctx.Err())
	}
	if f.cut {
		return unavailable()
	}
	wait := 5 * time.Millisecond
	if f.slow > 0 {
		wait += rand.N(f.slow)
	}
	answer := make(chan result, 1)
	arrived := time.AfterFunc(wait, func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		is, err := do()
		r.remember()
		if !f.mute {
			answer <- result{is, err}
		}
	})
	select {
	case a := <-answer:
		return a.is, a.err
	case <-ctx.Done():
		if !f.late && !f.mute {
			arrived.Stop()
		}
		return unavailable()
	}
}

func (t *table) remember() {
	now := time.Now()
	p := past{at: now, leases: slices.Clone(t.leases)}
	for _, h := range t.hosts {
		p.hosts = append(p.hosts, h)
	}
	for len(t.past) > 1 && now.Sub(t.past[1].at) > 3*time.Second {
		t.past = t.past[1:]
	}
	t.past = append(t.past, p)
}

// read is what an eventually consistent read shows.
func (r reach) read() past {
	r.remember()
	from := time.Now()
	if f := r.faults[r.host]; f.stale > 0 {
		from = from.Add(-rand.N(f.stale))
	}
	seen := r.past[0]
	for _, p := range r.past {
		if !p.at.After(from) {
			seen = p
		}
	}
	return seen
}

func (r reach) Leases(ctx context.Context, _ whatisup.Mode) ([]whatisup.Lease, error) {
	return call(ctx, r, func() ([]whatisup.Lease, error) { return slices.Clone(r.read().leases), nil })
}

func (r reach) Lease(ctx context.Context, _ whatisup.Mode, s whatisup.Shard) (whatisup.Lease, error) {
	return call(ctx, r, func() (whatisup.Lease, error) { return r.leases[s], nil })
}

func (r reach) ClaimLease(ctx context.Context, _ whatisup.Mode, seen whatisup.Lease, former whatisup.Host, owner string) (whatisup.Lease, error) {
	return call(ctx, r, func() (whatisup.Lease, error) {
		r.writes++
		if r.before != nil {
			r.before(seen, owner)
		}
		l := &r.leases[seen.Shard]
		if l.Owner != seen.Owner || l.Epoch != seen.Epoch || l.Counter != seen.Counter {
			return whatisup.Lease{}, whatisup.ErrConflict
		}
		if h := r.hosts[seen.Owner]; seen.Owner != "" && seen.Owner != owner && (h.Incarnation != former.Incarnation || h.Counter != former.Counter) {
			return whatisup.Lease{}, whatisup.ErrConflict
		}
		l.Owner, l.Epoch, l.Counter, l.Up = owner, l.Epoch+1, l.Counter+1, false
		return *l, nil
	})
}

// do is a write that answers nothing but its outcome.
func (r reach) do(ctx context.Context, f func() error) error {
	_, err := call(ctx, r, func() (struct{}, error) { r.writes++; return struct{}{}, f() })
	return err
}

func (r reach) change(ctx context.Context, l whatisup.Lease, f func(*whatisup.Lease)) error {
	return r.do(ctx, func() error {
		row := &r.leases[l.Shard]
		if row.Owner != l.Owner || row.Epoch != l.Epoch {
			return whatisup.ErrFenced
		}
		row.Counter++
		f(row)
		return nil
	})
}

func (r reach) MarkUp(ctx context.Context, _ whatisup.Mode, l whatisup.Lease) error {
	return r.change(ctx, l, func(row *whatisup.Lease) { row.Up = true })
}

func (r reach) ReleaseLease(ctx context.Context, _ whatisup.Mode, l whatisup.Lease) error {
	return r.change(ctx, l, func(row *whatisup.Lease) { row.Owner, row.Up = "", false })
}

func (r reach) Join(ctx context.Context, _ whatisup.Mode, h whatisup.Host) error {
	return r.do(ctx, func() error { r.hosts[h.ID] = h; return nil })
}

func (r reach) Beat(ctx context.Context, _ whatisup.Mode, h whatisup.Host) error {
	return r.do(ctx, func() error {
		if was := r.hosts[h.ID]; was.Incarnation != h.Incarnation || was.Counter >= h.Counter {
			return whatisup.ErrFenced
		}
		r.hosts[h.ID] = h
		return nil
	})
}

func (r reach) Leave(ctx context.Context, _ whatisup.Mode, h whatisup.Host) error {
	return r.do(ctx, func() error {
		if r.hosts[h.ID].Incarnation != h.Incarnation {
			return whatisup.ErrFenced
		}
		delete(r.hosts, h.ID)
		return nil
	})
}

func (r reach) Hosts(ctx context.Context, _ whatisup.Mode) ([]whatisup.Host, error) {
	return call(ctx, r, func() ([]whatisup.Host, error) { return slices.Clone(r.read().hosts), nil })
}

// atClaim sets what happens, with the table locked, before a claim is judged.
func (t *table) atClaim(f func(seen whatisup.Lease, owner string)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.before = f
}

// fail sets what happens to a host's calls from now on.
func (t *table) fail(host string, f faults) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.faults[host] = f
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
	slept atomic.Int64 // nanoseconds that the process didn't notice
	stop  func()
}

// sleep is what a process finds that was stopped, or whose machine was.
func (m *member) sleep(d time.Duration) { m.slept.Add(int64(d)) }

func join(t *testing.T, tab *table, st *stage, host string, shards int) *member {
	t.Helper()
	return joinAs(t, tab, actor{host, st}, host, host, shards)
}

// joinAs runs a host whose process is called otherwise than the host.
func joinAs(t *testing.T, tab *table, r Runner, process, host string, shards int) *member {
	t.Helper()
	m := &member{}
	began, rate := time.Now(), 1+tab.drift*(2*rand.Float64()-1)
	f, err := New(Config{
		Host: host, Mode: whatisup.Test, Shards: shards, Leases: reach{tab, process}, Hosts: reach{tab, process},
		Runner: r, Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
		Clock: func() time.Duration {
			return time.Duration(rate*float64(time.Since(began))) + time.Duration(m.slept.Load())
		},
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
	m.Fleet, m.stop = f, sync.OnceFunc(func() { cancel(); wg.Wait() })
	t.Cleanup(m.stop)
	return m
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

// onStage runs a test on a table of shards that nobody has, in a bubble of its
// own, and ends it by asking whether two ever acted for one shard.
func onStage(t *testing.T, shards int, test func(t *testing.T, tab *table, st *stage)) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		st := newStage()
		test(t, newTable(shards), st)
		st.check(t)
	})
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
	onStage(t, 16, func(t *testing.T, tab *table, st *stage) {
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
	})
}

// A host at rest writes its beats and nothing else, whatever it owns.
func TestWritesAtRest(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tab := newTable(16)
		a := join(t, tab, newStage(), "a", 16)
		time.Sleep(10 * time.Second)
		written := func() int {
			tab.mu.Lock()
			defer tab.mu.Unlock()
			return tab.writes
		}
		before := written()
		time.Sleep(5 * time.Minute)
		if n := written() - before; trusted(a) != 16 || n < 59 || n > 60 {
			t.Errorf("%d writes in five minutes, %d shards", n, trusted(a))
		}
		a.stop()
	})
}

// A host that is cut off stops by itself before anybody may take over, and the
// others have its shards within the takeover time and a little.
func TestTakeover(t *testing.T) {
	onStage(t, 16, func(t *testing.T, tab *table, st *stage) {
		a := join(t, tab, st, "a", 16)
		time.Sleep(10 * time.Second)
		b := join(t, tab, st, "b", 16)
		time.Sleep(2 * time.Minute)
		if n := counts(a, b); n[0] != 8 || n[1] != 8 {
			t.Fatalf("%v before", n)
		}
		st.reset()
		tab.fail("a", faults{cut: true})
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
		tab.fail("a", faults{})
		time.Sleep(2 * time.Minute)
		if n := counts(a, b); n[0] != 8 || n[1] != 8 {
			t.Errorf("%v afterwards", n)
		}
		a.stop()
		b.stop()
	})
}

// A rolling replacement of all hosts: nobody's shard is idle for long.
func TestRollingReplacement(t *testing.T) {
	onStage(t, 16, func(t *testing.T, tab *table, st *stage) {
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
	})
}

// A process that has the name of one that died takes its leases over at once.
func TestSameName(t *testing.T) {
	onStage(t, 40, func(t *testing.T, tab *table, st *stage) {
		for s := range tab.leases {
			tab.leases[s].Owner, tab.leases[s].Epoch, tab.leases[s].Counter = "a", 3, 100
		}
		a := join(t, tab, st, "a", 40)
		time.Sleep(time.Second)
		owned := a.Owned()
		if len(owned) != 40 {
			t.Fatalf("%d shards after a second", len(owned))
		}
		if owned[0].Epoch() != 4 || !owned[0].TookOver() {
			t.Errorf("epoch %d, took over: %v", owned[0].Epoch(), owned[0].TookOver())
		}
		a.stop()
	})
}

// A beat whose answer comes after the trust has run out does not bring it
// back.
func TestLateAnswerDoesNotRevive(t *testing.T) {
	onStage(t, 1, func(t *testing.T, tab *table, st *stage) {
		a := join(t, tab, st, "a", 1)
		time.Sleep(5 * time.Second)
		tn := a.Owned()[0]
		tn.lose(errors.New("for the test"))
		tn.beaten(a.clock())
		if tn.Trusted() {
			t.Error("a lost tenure is trusted again")
		}
		a.stop()
	})
}

// What was registered for the end runs before the context ends, and at once when
// it is too late to register.
func TestOnLost(t *testing.T) {
	onStage(t, 1, func(t *testing.T, tab *table, st *stage) {
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

// owners is who has which shard, by the table.
func (t *table) owners() map[string]int {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := make(map[string]int)
	for _, l := range t.leases {
		n[l.Owner]++
	}
	return n
}

func trusted(m *member) (n int) {
	for _, t := range m.Owned() {
		if t.Trusted() {
			n++
		}
	}
	return n
}

// A beat that arrives just before the claim makes it fail.
func TestBeatBeforeClaim(t *testing.T) {
	onStage(t, 4, func(t *testing.T, tab *table, st *stage) {
		a := join(t, tab, st, "a", 4)
		time.Sleep(10 * time.Second)
		tab.fail("a", faults{cut: true})
		refused := 0
		tab.atClaim(func(seen whatisup.Lease, owner string) {
			if owner == "b" && seen.Owner == "a" {
				h := tab.hosts["a"]
				h.Counter++
				tab.hosts["a"] = h
				refused++
			}
		})
		b := join(t, tab, st, "b", 4)
		time.Sleep(2 * time.Minute)
		n := tab.owners()
		tab.mu.Lock()
		if n["a"] != 4 || refused == 0 || refused > 8 {
			t.Errorf("owners %v after %d claims", n, refused)
		}
		tab.mu.Unlock()
		tab.atClaim(nil)
		time.Sleep(Default().Takeover + 10*time.Second)
		if n := len(b.Owned()); n != 4 {
			t.Errorf("%d shards taken over without a beat", n)
		}
		a.stop()
		b.stop()
	})
}

// A beat that arrives after the claim, and its answer, bring no trust back: it
// had run out before.
func TestBeatAfterClaim(t *testing.T) {
	onStage(t, 4, func(t *testing.T, tab *table, st *stage) {
		a := join(t, tab, st, "a", 4)
		time.Sleep(10 * time.Second)
		had := a.Owned()
		tab.fail("a", faults{cut: true})
		b := join(t, tab, st, "b", 4)
		claims := 0
		tab.atClaim(func(seen whatisup.Lease, owner string) {
			if owner == "b" && seen.Owner == "a" {
				claims++
				if n := trusted(a); n != 0 {
					t.Errorf("%d shards were trusted at the claim of one", n)
				}
				tab.faults["a"] = faults{} // its next beat succeeds
			}
		})
		time.Sleep(40 * time.Second)
		tab.atClaim(nil)
		if claims == 0 {
			t.Fatal("nothing was claimed")
		}
		for _, tn := range had {
			if tn.Trusted() {
				t.Errorf("shard %d is trusted again", tn.Shard())
			}
		}
		a.stop()
		b.stop()
	})
}

// A process that slept trusts nothing when it wakes, also if its first beat
// succeeds, and takes what is still in its name with the next epochs.
func TestSleep(t *testing.T) {
	onStage(t, 4, func(t *testing.T, tab *table, st *stage) {
		a := join(t, tab, st, "a", 4)
		time.Sleep(10 * time.Second)
		had := a.Owned()
		a.sleep(Default().Trust)
		if n := trusted(a); len(had) != 4 || n != 0 {
			t.Fatalf("%d of %d shards are trusted", n, len(had))
		}
		a.beatOnce(t.Context())
		if n := trusted(a); n != 0 {
			t.Errorf("a beat made %d trusted again", n)
		}
		time.Sleep(5 * time.Second)
		for s, tn := range a.Owned() {
			if tn.Epoch() != had[s].Epoch()+1 || !tn.Trusted() {
				t.Errorf("epoch %d after %d, trusted: %v", tn.Epoch(), had[s].Epoch(), tn.Trusted())
			}
		}
		if n := len(a.Owned()); n != 4 {
			t.Errorf("%d shards", n)
		}
		a.stop()
	})
}

// A process whose clock stood still with it learns from its next look what it has
// lost, though its beats succeed.
func TestClockStoodStill(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tab := newTable(4)
		a := join(t, tab, newStage(), "a", 4)
		time.Sleep(10 * time.Second)
		b := join(t, tab, newStage(), "b", 4)
		tab.fail("a", faults{cut: true})
		for range int((Default().Takeover + 10*time.Second) / time.Second) {
			time.Sleep(time.Second)
			a.sleep(-time.Second)
		}
		if n := trusted(a); n != 4 || len(b.Owned()) != 4 {
			t.Fatalf("one trusts %d shards, the other owns %d", n, len(b.Owned()))
		}
		tab.fail("a", faults{})
		time.Sleep(Default().RenewTry + 2*Default().Look)
		tab.mu.Lock()
		for _, tn := range a.Owned() {
			if l := tab.leases[tn.Shard()]; tn.Trusted() && (l.Owner != "a" || l.Epoch != tn.Epoch()) {
				t.Errorf("shard %d is trusted with epoch %d, and %s has %d", tn.Shard(), tn.Epoch(), l.Owner, l.Epoch)
			}
		}
		tab.mu.Unlock()
		a.stop()
		b.stop()
	})
}

// While the table can't be reached a host goes on trying: that is how it is told
// apart from one that hangs, and is not replaced.
func TestTriesOnWithoutTable(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tab := newTable(4)
		a := join(t, tab, newStage(), "a", 4)
		time.Sleep(10 * time.Second)
		tab.fail("a", faults{cut: true})
		time.Sleep(10 * time.Minute)
		if looked, turned := a.SinceLook(), a.SinceTurn(); looked < 9*time.Minute || turned > 20*time.Second {
			t.Errorf("read the leases %v ago, tried to %v ago", looked, turned)
		}
		a.stop()
	})
}

// Of two processes with one name the later has everything, for as long as it
// lives.
func TestTwoOfOneName(t *testing.T) {
	onStage(t, 4, func(t *testing.T, tab *table, st *stage) {
		first := joinAs(t, tab, actor{"first", st}, "first", "a", 4)
		time.Sleep(10 * time.Second)
		second := joinAs(t, tab, actor{"second", newStage()}, "second", "a", 4)
		time.Sleep(Default().Renew + 2*time.Second)
		tab.mu.Lock()
		before := slices.Clone(tab.leases)
		tab.mu.Unlock()
		for range 120 {
			if n := counts(first, second); n[0] != 0 || n[1] != 4 {
				t.Fatalf("%v shards", n)
			}
			time.Sleep(time.Second)
		}
		tab.mu.Lock()
		if !slices.Equal(before, tab.leases) {
			t.Error("they fight")
		}
		tab.mu.Unlock()
		second.stop()
		time.Sleep(10 * time.Second)
		if n := len(first.Owned()); n != 4 {
			t.Errorf("%d shards when the name was free again", n)
		}
		// One that does not leave is off the list when it stands still.
		third := joinAs(t, tab, actor{"third", newStage()}, "third", "a", 4)
		time.Sleep(10 * time.Second)
		tab.fail("third", faults{cut: true})
		time.Sleep(Default().Takeover + 10*time.Second)
		if n := counts(first, third); n[0] != 4 || n[1] != 0 {
			t.Errorf("%v shards after the third was cut off", n)
		}
		first.stop()
		third.stop()
	})
}

// A lease whose owner is not on the list can be claimed after a takeover time,
// and not before.
func TestOwnerNotListed(t *testing.T) {
	onStage(t, 4, func(t *testing.T, tab *table, st *stage) {
		for s := range tab.leases {
			tab.leases[s].Owner, tab.leases[s].Epoch, tab.leases[s].Counter = "ghost", 3, 100
		}
		a := join(t, tab, st, "a", 4)
		time.Sleep(Default().Takeover - time.Second)
		if n := len(a.Owned()); n != 0 {
			t.Errorf("%d shards claimed too soon", n)
		}
		time.Sleep(5 * time.Second)
		if n := len(a.Owned()); n != 4 {
			t.Errorf("%d shards", n)
		}
		a.stop()
	})
}

// Beats that are carried out and have no answer keep nothing, and lose nothing
// before its time.
func TestUnansweredBeats(t *testing.T) {
	onStage(t, 4, func(t *testing.T, tab *table, st *stage) {
		tab.fail("a", faults{mute: true})
		a := join(t, tab, st, "a", 4)
		time.Sleep(30 * time.Second)
		if n := tab.owners(); n[""] != 4 {
			t.Errorf("a host without an answer claimed: %v", n)
		}
		tab.fail("a", faults{})
		time.Sleep(10 * time.Second)
		had := a.Owned()
		tab.fail("a", faults{mute: true})
		time.Sleep(3 * time.Second)
		tab.fail("a", faults{})
		time.Sleep(time.Minute)
		if now := a.Owned(); !slices.Equal(had, now) || trusted(a) != 4 {
			t.Errorf("%d shards are trusted after three seconds without an answer", trusted(a))
		}
		tab.fail("a", faults{mute: true})
		time.Sleep(Default().Trust)
		if n := trusted(a); n != 0 {
			t.Errorf("%d shards are trusted without an answer", n)
		}
		a.stop()
	})
}

// stuck is a runner that never returns from one lost shard.
type stuck struct {
	actor
	shard whatisup.Shard
	free  chan struct{}
}

func (r stuck) RunShard(ctx context.Context, t *Tenure) {
	r.actor.RunShard(ctx, t)
	if t.Shard() == r.shard && errors.Is(context.Cause(ctx), ErrLost) {
		<-r.free
	}
}

// A host whose runner hangs over a lost shard does not keep others from it.
func TestHangingRunner(t *testing.T) {
	onStage(t, 2, func(t *testing.T, tab *table, st *stage) {
		r := stuck{actor{"a", st}, 1, make(chan struct{})}
		a := joinAs(t, tab, r, "a", "a", 2)
		time.Sleep(10 * time.Second)
		a.sleep(Default().Trust)
		time.Sleep(5 * time.Second)
		b := join(t, tab, st, "b", 2)
		time.Sleep(Default().Takeover + 5*time.Second)
		if n := trusted(a); n != 1 || len(b.Owned()) != 1 || b.Owned()[0].Shard() != 1 {
			t.Errorf("one has %d shards, the other %d", n, len(b.Owned()))
		}
		close(r.free)
		a.stop()
		b.stop()
	})
}

// Whatever happens to hosts and their calls, nobody trusts a shard that another
// trusts, and in the end every shard is owned again.
func TestRandomWalk(t *testing.T) {
	t.Parallel()
	for range 2 {
		synctest.Test(t, walk)
	}
}

func walk(t *testing.T) {
	const shards = 4
	tab := newTable(shards)
	tab.drift = 0.2 // 12 s may take 15, and 20 s no more than 16.7
	var members []*member
	names := []string{"a", "b", "c"}
	for _, name := range names {
		members = append(members, join(t, tab, newStage(), name, shards))
	}
	held := 0
	for range 400 {
		n := rand.N(len(members))
		switch rand.N(6) {
		case 0:
			tab.fail(names[n], faults{cut: true})
		case 1:
			tab.fail(names[n], faults{slow: 4 * time.Second, late: true, stale: 2 * time.Second})
		case 2:
			tab.fail(names[n], faults{mute: true, stale: time.Second})
		case 3:
			tab.fail(names[n], faults{slow: 30 * time.Second, late: true})
		case 4: // another process with the name of one that has ended
			tab.fail(names[n], faults{})
			members[n].stop()
			members[n] = join(t, tab, newStage(), names[n], shards)
		default:
			tab.fail(names[n], faults{})
		}
		for end := time.Now().Add(rand.N(25 * time.Second)); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
			owner := make(map[whatisup.Shard]string)
			for i, m := range members {
				for _, tn := range m.Owned() {
					if !tn.Trusted() {
						continue
					}
					held++
					if other, ok := owner[tn.Shard()]; ok {
						t.Fatalf("%s and %s trust shard %d", other, names[i], tn.Shard())
					}
					owner[tn.Shard()] = names[i]
				}
			}
		}
	}
	for _, name := range names {
		tab.fail(name, faults{})
	}
	time.Sleep(time.Minute)
	all := 0
	for _, m := range members {
		all += trusted(m)
	}
	if all != shards || held == 0 {
		t.Errorf("%d of %d shards are owned in the end", all, shards)
	}
	for _, m := range members {
		m.stop()
	}
}
