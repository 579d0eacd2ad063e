// Package together lets calls that come at the same time share one request.
//
// A host does the same small thing for many sessions at once. Each as a request of its
// own costs both sides more than the thing itself: a signature, a header, an answer. A
// [Group] sends a call at once as long as few requests are under way, so a host with
// little to do waits for nothing. What comes while enough are under way waits until one
// of them is over, until there is enough for a request, or for the group's patience,
// whichever is first, and goes together with whatever waits by then.
package together

import (
	"context"
	"slices"
	"sync"
	"time"
)

// Group gathers calls into requests. Its exported fields are set before the first call.
// It is safe for concurrent use, and has a goroutine for each request under way.
type Group[T any] struct {
	// Lanes is how many requests are under way before calls wait for company.
	Lanes int
	// Most is how much a request takes, in calls, or in what Size counts.
	Most int
	// Size of a call; nil: each counts one.
	Size func(call T) int
	// Patience is how long a call waits for company at most; 0: until a lane is free.
	Patience time.Duration
	// Fits says whether a call may go with those given; nil: each may.
	Fits func(with []T, call T) bool
	// Send makes one request of the calls and returns their answers, in their order. It
	// ends within a time of its own.
	Send func(calls []T) []error

	mu       sync.Mutex
	underway int
	waiting  []*waiter[T]
}

type waiter[T any] struct {
	call   T
	answer chan error
}

// Do returns a call's answer, or the error of ctx if that ends before. What was on its
// way by then may have been done; what still waited never is.
func (g *Group[T]) Do(ctx context.Context, call T) error {
	w := &waiter[T]{call, make(chan error, 1)}
	g.mu.Lock()
	g.waiting = append(g.waiting, w)
	if g.underway < g.Lanes || g.enoughLocked() {
		g.beginLocked()
	}
	g.mu.Unlock()

	var patience <-chan time.Time
	if g.Patience > 0 {
		timer := time.NewTimer(g.Patience)
		defer timer.Stop()
		patience = timer.C
	}
	for {
		select {
		case err := <-w.answer:
			return err
		case <-patience:
			g.hurry(w)
		case <-ctx.Done():
			g.withdraw(w)
			return ctx.Err()
		}
	}
}

// hurry begins requests until the call is in one.
func (g *Group[T]) hurry(w *waiter[T]) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for slices.Contains(g.waiting, w) {
		g.beginLocked()
	}
}

// withdraw takes back a call whose caller has gone, if it still waits.
func (g *Group[T]) withdraw(w *waiter[T]) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if i := slices.Index(g.waiting, w); i >= 0 {
		g.waiting = slices.Delete(g.waiting, i, i+1)
	}
}

func (g *Group[T]) size(call T) int {
	if g.Size == nil {
		return 1
	}
	return g.Size(call)
}

// enoughLocked says whether what waits fills a request. Only a group with patience
// makes more requests than it has lanes.
func (g *Group[T]) enoughLocked() bool {
	if g.Patience == 0 {
		return false
	}
	total := 0
	for _, w := range g.waiting {
		total += g.size(w.call)
	}
	return total >= g.Most
}

// beginLocked begins a request with what waits, or as much of it as goes together.
func (g *Group[T]) beginLocked() {
	var batch, left []*waiter[T]
	var calls []T
	total := 0
	for _, w := range g.waiting {
		size := g.size(w.call)
		if len(batch) > 0 && (total+size > g.Most || g.Fits != nil && !g.Fits(calls, w.call)) {
			left = append(left, w)
			continue
		}
		batch, calls, total = append(batch, w), append(calls, w.call), total+size
	}
	if len(batch) == 0 {
		return
	}
	g.waiting = left
	g.underway++
	go func() {
		answers := g.Send(calls)
		g.mu.Lock()
		g.underway--
		if g.underway < g.Lanes {
			g.beginLocked()
		}
		g.mu.Unlock()
		for i, w := range batch {
			w.answer <- answers[i]
		}
	}()
}
