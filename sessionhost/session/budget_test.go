package session

import (
	"testing"
	"time"
)

func TestBackoff(t *testing.T) {
	t.Parallel()
	low, high := func() float64 { return 0 }, func() float64 { return 0.999 }
	if Backoff(1, low) != 0 || Backoff(1, high) > time.Second {
		t.Error("the first try waits")
	}
	last := time.Duration(0)
	for n := 2; n < 200; n++ {
		l, h := Backoff(n, low), Backoff(n, high)
		if l < last || h > 5*time.Minute || l > h || h == l {
			t.Fatalf("try %d waits %v to %v, the one before at least %v", n, l, h, last)
		}
		last = l
	}
	if last != 150*time.Second {
		t.Errorf("in the end at least %v", last)
	}
}

func TestBudgets(t *testing.T) {
	t.Parallel()
	b := NewBudgets(100, 10, 20)
	for n := range 4 {
		if !b.beginPairing() {
			t.Fatalf("pairing %d of a fifth of 20 was refused", n)
		}
	}
	if b.beginPairing() {
		t.Error("a fifth pairing was let in")
	}
	b.endPairing()
	b.sessions.Store(21)
	if b.beginPairing() {
		t.Error("a pairing was let into a full host")
	}
	b.sessions.Store(3)
	if !b.beginPairing() {
		t.Error("no pairing in spite of room")
	}
	// The budgets don't wait for each other, and one customer holds no more than its
	// share of the interactive one.
	has := func(turn <-chan struct{}) bool {
		select {
		case <-turn:
			return true
		default:
			return false
		}
	}
	held := 0
	for range 2 * Interactive {
		if turn, _ := b.ask(interactive, "greedy"); has(turn) {
			held++
		}
	}
	if turn, _ := b.ask(interactive, "other"); held != InteractiveEach || !has(turn) {
		t.Errorf("one customer holds %d, another has its turn: %v", held, has(turn))
	}
	for k, burst := range map[kind]int{resuming: 25, returning: 2} {
		begun := 0
		for range 50 {
			if turn, _ := b.ask(k, "greedy"); has(turn) {
				begun++
			}
		}
		if begun < burst || begun > burst+2 {
			t.Errorf("%d %s connects began at once, not %d", begun, k, burst)
		}
	}
}
