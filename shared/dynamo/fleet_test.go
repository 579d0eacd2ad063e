package dynamo

import (
	"errors"
	"testing"
	"time"

	"whatisup/shared/whatisup"
)

// A claim of another host's shard is of lease and owner as they were seen.
func TestClaimFromAnother(t *testing.T) {
	t.Parallel()
	joined := whatisup.Host{ID: "one", Incarnation: "i", Counter: 3}
	beaten := joined
	beaten.Counter++
	replaced := whatisup.Host{ID: "one", Incarnation: "j", Counter: 3}
	absent := whatisup.Host{ID: "one"}
	for name, c := range map[string]struct {
		listed, seen whatisup.Host
		owner        string
		want         error
	}{
		"still":               {joined, joined, "two", nil},
		"has beaten":          {beaten, joined, "two", whatisup.ErrConflict},
		"is another process":  {replaced, joined, "two", whatisup.ErrConflict},
		"is gone":             {absent, joined, "two", whatisup.ErrConflict},
		"still absent":        {absent, absent, "two", nil},
		"has come":            {joined, absent, "two", whatisup.ErrConflict},
		"the claimer's name":  {beaten, absent, "one", nil},
		"its own, not listed": {absent, absent, "one", nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := open(t)
			seen, err := db.ClaimLease(t.Context(), whatisup.Test, whatisup.Lease{Shard: 3}, absent, "one")
			if err != nil {
				t.Fatal(err)
			}
			if c.listed.Incarnation != "" {
				if err := db.Join(t.Context(), whatisup.Test, c.listed); err != nil {
					t.Fatal(err)
				}
			}
			got, err := db.ClaimLease(t.Context(), whatisup.Test, seen, c.seen, c.owner)
			if !errors.Is(err, c.want) {
				t.Fatalf("%v, not %v", err, c.want)
			}
			now, err := db.Lease(t.Context(), whatisup.Test, 3)
			if err != nil {
				t.Fatal(err)
			}
			if c.want != nil {
				got = seen
			}
			if now.Owner != got.Owner || now.Epoch != got.Epoch || now.Counter != got.Counter {
				t.Errorf("the lease is %+v, not %+v", now, got)
			}
		})
	}
}

// A claim of a lease that has changed since is refused, whoever's it was.
func TestClaimOfWhatHasChanged(t *testing.T) {
	t.Parallel()
	db := open(t)
	first, err := db.ClaimLease(t.Context(), whatisup.Test, whatisup.Lease{Shard: 1}, whatisup.Host{}, "one")
	if err != nil {
		t.Fatal(err)
	}
	if err := db.MarkUp(t.Context(), whatisup.Test, first); err != nil {
		t.Fatal(err)
	}
	for _, seen := range []whatisup.Lease{{Shard: 1}, first} {
		if _, err := db.ClaimLease(t.Context(), whatisup.Test, seen, whatisup.Host{}, "two"); !errors.Is(err, whatisup.ErrConflict) {
			t.Errorf("claimed as %+v: %v", seen, err)
		}
	}
	if err := db.ReleaseLease(t.Context(), whatisup.Test, first); err != nil {
		t.Fatal(err)
	}
	for what, change := range map[string]func() error{
		"up":      func() error { return db.MarkUp(t.Context(), whatisup.Test, first) },
		"release": func() error { return db.ReleaseLease(t.Context(), whatisup.Test, first) },
	} {
		if err := change(); !errors.Is(err, whatisup.ErrFenced) {
			t.Errorf("%s after the release: %v", what, err)
		}
	}
}

// Only the process that joined last beats and leaves under a name, and no beat
// overtakes a later one.
func TestBeats(t *testing.T) {
	t.Parallel()
	db := open(t)
	one, two := whatisup.Host{ID: "h", Incarnation: "one", Counter: 5}, whatisup.Host{ID: "h", Incarnation: "two", Counter: 1}
	call := func(what string, f func() error, want error) {
		t.Helper()
		if err := f(); !errors.Is(err, want) {
			t.Errorf("%s: %v, not %v", what, err, want)
		}
	}
	beat := func(h whatisup.Host, n uint64) func() error {
		h.Counter += n
		return func() error { return db.Beat(t.Context(), whatisup.Test, h) }
	}
	join := func(h whatisup.Host) func() error {
		return func() error { return db.Join(t.Context(), whatisup.Test, h) }
	}
	leave := func(h whatisup.Host) func() error {
		return func() error { return db.Leave(t.Context(), whatisup.Test, h) }
	}
	call("a beat before joining", beat(one, 0), whatisup.ErrFenced)
	call("join", join(one), nil)
	call("a beat", beat(one, 2), nil)
	call("a beat that was overtaken", beat(one, 1), whatisup.ErrFenced)
	call("another process joins", join(two), nil)
	call("a beat of the former", beat(one, 3), whatisup.ErrFenced)
	call("the former leaves", leave(one), whatisup.ErrFenced)
	call("a beat of the other", beat(two, 1), nil)
	hosts, err := db.Hosts(t.Context(), whatisup.Test)
	if err != nil || len(hosts) != 1 || hosts[0].Incarnation != "two" || hosts[0].Counter != 2 {
		t.Errorf("%+v, %v", hosts, err)
	}
	call("leave", leave(two), nil)
	call("a beat after leaving", beat(two, 2), whatisup.ErrFenced)
}

// An owner was last alive when it beat; without a beat, when the lease changed.
func TestOwnersAlive(t *testing.T) {
	t.Parallel()
	db := open(t)
	now := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	db.clock = NewClock(func() time.Time { return now })
	check := func(s whatisup.Shard, want time.Time) {
		t.Helper()
		alive, err := db.OwnersAlive(t.Context(), whatisup.Test)
		if err != nil {
			t.Fatal(err)
		}
		if !alive[s].Seen.Equal(want) {
			t.Errorf("shard %d: %v, not %v", s, alive[s].Seen, want)
		}
	}
	h := whatisup.Host{ID: "one", Incarnation: "i", Counter: 1}
	if err := db.Join(t.Context(), whatisup.Test, h); err != nil {
		t.Fatal(err)
	}
	check(2, time.Time{})
	now = now.Add(time.Second)
	l, err := db.ClaimLease(t.Context(), whatisup.Test, whatisup.Lease{Shard: 2}, whatisup.Host{}, "one")
	if err != nil {
		t.Fatal(err)
	}
	check(2, now)
	now = now.Add(time.Hour)
	h.Counter++
	if err := db.Beat(t.Context(), whatisup.Test, h); err != nil {
		t.Fatal(err)
	}
	check(2, now)
	check(3, time.Time{})
	now = now.Add(time.Hour)
	if err := db.ReleaseLease(t.Context(), whatisup.Test, l); err != nil {
		t.Fatal(err)
	}
	check(2, now)
}
