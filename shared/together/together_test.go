package together

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

var errEven = errors.New("even")

// recorder is where calls go; each request takes a while.
type recorder struct {
	mu       sync.Mutex
	requests [][]int
}

func (r *recorder) send(calls []int) []error {
	time.Sleep(20 * time.Millisecond)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.requests = append(r.requests, slices.Clone(calls))
	answers := make([]error, len(calls))
	for i, c := range calls {
		if c%2 == 0 {
			answers[i] = errEven
		}
	}
	return answers
}

func (r *recorder) sizes() (all []int) {
	for _, q := range r.requests {
		all = append(all, len(q))
	}
	slices.Sort(all)
	return all
}

// idle: a group keeps nothing of what is over.
func idle[T any](t *testing.T, g *Group[T]) {
	t.Helper()
	synctest.Wait()
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.underway != 0 || len(g.waiting) != 0 {
		t.Errorf("%d are under way, %d wait", g.underway, len(g.waiting))
	}
}

// TestCompany: few calls go at once; those that come while the lanes are full wait no
// longer than the group's patience, go together, and each gets its own answer.
func TestCompany(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r recorder
		g := &Group[int]{Lanes: 2, Most: 25, Patience: 5 * time.Millisecond, Send: r.send}
		began := time.Now()
		var wg sync.WaitGroup
		for n := range 10 {
			wg.Go(func() {
				if err := g.Do(t.Context(), n); errors.Is(err, errEven) != (n%2 == 0) {
					t.Errorf("%d: %v", n, err)
				}
			})
		}
		wg.Wait()
		if got := r.sizes(); !slices.Equal(got, []int{1, 1, 8}) {
			t.Errorf("requests of %v calls", got)
		}
		if took := time.Since(began); took != 25*time.Millisecond {
			t.Errorf("took %v: the wait is the group's patience, beside the request", took)
		}
		idle(t, g)
	})
}

// TestNoPatience: without patience there are never more requests than lanes.
func TestNoPatience(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r recorder
		g := &Group[int]{Lanes: 1, Most: 4, Send: r.send}
		began := time.Now()
		var wg sync.WaitGroup
		for n := range 10 {
			wg.Go(func() { _ = g.Do(t.Context(), n) })
		}
		wg.Wait()
		if got := r.sizes(); !slices.Equal(got, []int{1, 1, 4, 4}) {
			t.Errorf("requests of %v calls", got)
		}
		if took := time.Since(began); took != 80*time.Millisecond {
			t.Errorf("took %v: one request after the other", took)
		}
		idle(t, g)
	})
}

// TestFull: a request takes no more than it may and only what fits, and nobody waits
// once there is enough.
func TestFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r recorder
		g := &Group[int]{
			Lanes: 1, Most: 10, Patience: time.Second, Send: r.send,
			Size: func(n int) int { return n % 10 },
			Fits: func(with []int, call int) bool { return !slices.Contains(with, call) },
		}
		began := time.Now()
		var wg sync.WaitGroup
		for _, n := range []int{1, 3, 3, 5, 9, 19} {
			wg.Go(func() { _ = g.Do(t.Context(), n) })
			synctest.Wait()
		}
		wg.Wait()
		total := 0
		for _, q := range r.requests {
			size := 0
			for i, n := range q {
				size += n % 10
				if slices.Contains(q[:i], n) {
					t.Errorf("%v went together", q)
				}
			}
			if total += len(q); size > 10 {
				t.Errorf("%v are %d", q, size)
			}
		}
		if total != 6 || time.Since(began) > 100*time.Millisecond {
			t.Errorf("%d of 6 calls in %v after %v", total, r.requests, time.Since(began))
		}
		idle(t, g)
	})
}

// TestGone: who gives up while waiting is not done; who gives up during the request
// doesn't hold the others up.
func TestGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r recorder
		g := &Group[int]{Lanes: 1, Most: 25, Patience: 5 * time.Millisecond, Send: r.send}
		within := func(d time.Duration) context.Context {
			ctx, cancel := context.WithTimeout(t.Context(), d)
			t.Cleanup(cancel)
			return ctx
		}
		var wg sync.WaitGroup
		wg.Go(func() { _ = g.Do(t.Context(), 1) })
		synctest.Wait()
		if err := g.Do(within(time.Millisecond), 3); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("given up while it waited: %v", err)
		}
		wg.Go(func() {
			if err := g.Do(within(10*time.Millisecond), 5); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("given up during the request: %v", err)
			}
		})
		wg.Go(func() {
			if err := g.Do(t.Context(), 7); err != nil {
				t.Error(err)
			}
		})
		wg.Wait()
		if got := r.sizes(); !slices.Equal(got, []int{1, 2}) {
			t.Errorf("requests of %v calls", got)
		}
		idle(t, g)
	})
}

// TestManyCalls: each of many calls is done once, whatever meets whatever.
func TestManyCalls(t *testing.T) {
	var count [2000]atomic.Int64
	g := &Group[int]{Lanes: 2, Most: 25, Patience: time.Millisecond, Send: func(calls []int) []error {
		for _, c := range calls {
			count[c].Add(1)
		}
		return make([]error, len(calls))
	}}
	var wg sync.WaitGroup
	for n := range count {
		wg.Go(func() {
			if err := g.Do(t.Context(), n); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for n := range count {
		if c := count[n].Load(); c != 1 {
			t.Errorf("call %d was done %d times", n, c)
		}
	}
}
