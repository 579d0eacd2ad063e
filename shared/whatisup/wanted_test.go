package whatisup

import (
	"testing"
	"time"
)

func TestWanted(t *testing.T) {
	now := epochOfTests
	i := instance(nil)
	take := func(w Wanted, changed bool) bool { i.Wanted = w; return changed }

	if !take(i.WantAttempt(now, "")) || i.Wanted.Generation != 1 || !i.AttemptOpen() {
		t.Fatalf("a fetch opens an attempt: %+v", i.Wanted)
	}
	if take(i.WantAttempt(now, "")) || i.Wanted.Generation != 1 {
		t.Fatal("a second fetch joins it")
	}
	if !take(i.WantPairCode("4915112345678", now, "")) || i.Wanted.Generation != 1 || i.Wanted.PairSerial != 1 {
		t.Fatalf("a pair code joins it: %+v", i.Wanted)
	}
	if take(i.WantPairCode("4915112345678", now, "")) {
		t.Fatal("the same number is the same wish")
	}
	if !take(i.WantPairCode("4915100000000", now, "")) || i.Wanted.PairSerial != 2 {
		t.Fatal("another number replaces the code")
	}
	i.Observed.ObservedGeneration, i.Observed.DoneGeneration = 1, 1
	i.Observed.Link, i.Observed.LastLink = 1, 1
	if !i.HasLink() || i.AttemptOpen() {
		t.Fatal("the attempt made a link")
	}
	if !take(i.WantConnect(now, "")) || i.Wanted.Generation != 2 {
		t.Fatal("connect resumes at once")
	}
	if take(i.WantConnect(now, "")) {
		t.Fatal("connect twice is one wish")
	}
	if !take(i.WantStop(now, "")) || i.Wanted.Online || i.Wanted.Generation != 3 || !i.HasLink() {
		t.Fatal("disconnect keeps the link")
	}
	if take(i.WantStop(now, "")) {
		t.Fatal("stopped is stopped")
	}
	if !take(i.WantLogout(now, "")) || i.Wanted.UnlinkThrough != 3 || !i.Unlinking() || i.HasLink() {
		t.Fatal("logout gives the link up")
	}
	if take(i.WantLogout(now, "")) {
		t.Fatal("logged out is logged out")
	}
	if !take(i.WantAttempt(now, "")) || i.Wanted.Generation != 4 || !i.AttemptOpen() || !i.Unlinking() {
		t.Fatal("a fetch at once after the logout is both")
	}
}

func TestLogoutBeforeAnythingWasAsked(t *testing.T) {
	i := instance(nil)
	i.Wanted, _ = i.WantLogout(epochOfTests, "")
	if i.AttemptOpen() || i.HasLink() {
		t.Fatal("something is open")
	}
	if s := View(i, Owner{Seen: epochOfTests}, epochOfTests); s.Status != Pending {
		t.Fatal(s.Status)
	}
	i.Wanted, _ = i.WantAttempt(epochOfTests, "")
	if !i.AttemptOpen() {
		t.Fatal("a fetch after the logout opens nothing")
	}
}

func TestThrottle(t *testing.T) {
	now := epochOfTests
	i := instance(nil)
	for n := range AttemptsKept {
		if d := i.ThrottledFor(now); d != 0 {
			t.Fatalf("attempt %d must wait %v", n+1, d)
		}
		i.Wanted, _ = i.WantAttempt(now, "")
		i.Observed.ObservedGeneration, i.Observed.DoneGeneration = i.Wanted.Generation, i.Wanted.Generation
		now = now.Add(time.Minute)
	}
	if d := i.ThrottledFor(now); d != 10*time.Minute {
		t.Fatalf("after %d attempts in five minutes: %v", AttemptsKept, d)
	}
	if d := i.ThrottledFor(now.Add(10 * time.Minute)); d != 0 {
		t.Fatalf("when the first is old: %v", d)
	}
	i.Observed.LastLink = Link(i.Wanted.Generation)
	if d := i.ThrottledFor(now); d != 0 {
		t.Fatalf("the last one was scanned: %v", d)
	}
}
