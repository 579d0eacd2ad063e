package session

import (
	"testing"
	"testing/synctest"
	"time"

	"whatisup/sessionhost/line"
)

// TestTold: when one session has logged in, those that could not reach WhatsApp try at
// once, a second after their last try at the soonest; and a session that fails for
// itself is not told for ever.
func TestTold(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		budgets := NewBudgets(100, 20, 0)
		s := &Session{kit: &Kit{Budgets: budgets}}
		for n := range tellMost + 1 {
			s.unreached, s.triedAt = true, time.Now()
			began := time.Now()
			time.AfterFunc(300*time.Millisecond, budgets.reach)
			ok, err := s.awaitTry(t.Context(), began.Add(time.Hour))
			if !ok || err != nil {
				t.Fatal(ok, err)
			}
			want := tellAfter
			if n == tellMost {
				want = time.Hour
			}
			if waited := time.Since(began); waited != want {
				t.Errorf("time %d: it tried after %v, want %v", n, waited, want)
			}
		}

		s.unreached, s.told, s.triedAt = false, 0, time.Now()
		began := time.Now()
		time.AfterFunc(time.Second, budgets.reach)
		if ok, err := s.awaitTry(t.Context(), began.Add(time.Minute)); !ok || err != nil || time.Since(began) != time.Minute {
			t.Errorf("a refused login was tried after %v: %v %v", time.Since(began), ok, err)
		}
	})
}

// TestUntilTry: a connection that stood is tried again at once, and in the first
// minutes no wait is long.
func TestUntilTry(t *testing.T) {
	t.Parallel()
	now := time.Now()
	s := &Session{kit: &Kit{Clock: func() time.Time { return now }}}
	s.downSince = now.Add(-soonFor + time.Second)
	if s.tries = 1; s.untilTry() != 0 {
		t.Error("the first try waits")
	}
	longest := time.Duration(0)
	for s.tries = 2; s.tries < 40; s.tries++ {
		d := s.untilTry()
		if longest = max(longest, d); d < time.Second {
			t.Errorf("try %d waits %v", s.tries, d)
		}
	}
	if longest > soonMost {
		t.Errorf("in its first minutes a link waits %v", longest)
	}
	s.downSince = now.Add(-soonFor)
	if d := s.untilTry(); d < 2*time.Minute {
		t.Errorf("later it waits %v", d)
	}
}

// TestUnreached: what is about the link itself is no outage.
func TestUnreached(t *testing.T) {
	t.Parallel()
	for _, c := range line.Causes {
		outage := c == line.NotDialled || c == line.NoLogin || c == line.Closed || c == line.Silent || c == line.StreamError
		if got := (line.Ended{Cause: c, Code: 401}).Unreached(); got != outage {
			t.Errorf("%s: %v", c, got)
		}
	}
	if !(line.Ended{Cause: line.Refused, Code: 503}).Unreached() {
		t.Error("a login that is refused with 503 tells of an outage")
	}
}
