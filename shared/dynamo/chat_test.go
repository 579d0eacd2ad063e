package dynamo

import (
	"errors"
	"testing"
	"time"

	"whatisup/shared/whatisup"
)

func someRef() whatisup.Ref {
	return whatisup.Ref{Customer: whatisup.NewCustomerID(), Mode: whatisup.Test, ID: whatisup.NewInstanceID()}
}

// What is remembered of a chat is the instance's own.
func TestChatsAreRemembered(t *testing.T) {
	t.Parallel()
	db, r, other := open(t), someRef(), someRef()
	if err := db.KeepReadThrough(t.Context(), r, "1@lid", "p2"); err != nil {
		t.Fatal(err)
	}
	timer := whatisup.Timer{Seconds: 86_400, SetAt: time.Unix(1_800_000_000, 0).UTC()}
	if err := db.KeepChatTimer(t.Context(), r, "1@lid", timer); err != nil {
		t.Fatal(err)
	}
	for chat, want := range map[whatisup.Address]whatisup.Timer{"1@lid": timer, "2@lid": {}} {
		if got, err := db.ChatTimer(t.Context(), r, chat); err != nil || got != want {
			t.Errorf("%s: %+v, %v", chat, got, err)
		}
	}
	for _, c := range []struct {
		ref  whatisup.Ref
		chat whatisup.Address
		want string
	}{{r, "1@lid", "p2"}, {r, "2@lid", ""}, {other, "1@lid", ""}} {
		if place, err := db.ReadThrough(t.Context(), c.ref, c.chat); err != nil || place != c.want {
			t.Errorf("%s: %q, %v", c.chat, place, err)
		}
	}

	now := time.Now()
	list := []whatisup.Subscription{{Contact: "1@lid", Until: now.Add(-time.Second)}, {Contact: "2@lid", Until: now.Add(time.Hour)}}
	if err := db.KeepSubscriptions(t.Context(), r, list); err != nil {
		t.Fatal(err)
	}
	if got, err := db.Subscriptions(t.Context(), r); err != nil || len(got) != 1 || got[0].Contact != "2@lid" {
		t.Errorf("%v, %v", got, err)
	}
	if got, err := db.Subscriptions(t.Context(), other); err != nil || got != nil {
		t.Errorf("another instance: %v, %v", got, err)
	}
	if m := db.Messages(t.Context(), r, whatisup.Listing{}, 10); m != nil {
		for range m {
			t.Error("what is remembered is listed as a message")
		}
	}
}

// Of two tries of one change one begins it. A try that was called off never does, and
// another one may.
func TestOneTryBeginsAChange(t *testing.T) {
	t.Parallel()
	db, id := open(t), whatisup.ChangeID("change-"+string(whatisup.NewCommandID()))
	a, b := whatisup.NewCommandID(), whatisup.NewCommandID()

	if before, err := db.CallOffChange(t.Context(), id, a); before != nil || err != nil {
		t.Fatalf("called off: %+v, %v", before, err)
	}
	if before, err := db.BeginChange(t.Context(), id, a); err != nil || before == nil || before.State != whatisup.ChangeOff {
		t.Errorf("a try that was called off begins: %+v, %v", before, err)
	}
	if before, err := db.BeginChange(t.Context(), id, b); before != nil || err != nil {
		t.Errorf("another try: %+v, %v", before, err)
	}
	if before, err := db.BeginChange(t.Context(), id, a); err != nil || before == nil || before.State != whatisup.ChangeBegun || before.Command != b {
		t.Errorf("a second one: %+v, %v", before, err)
	}
	if before, err := db.CallOffChange(t.Context(), id, b); err != nil || before == nil || before.State != whatisup.ChangeBegun {
		t.Errorf("called off after it was begun: %+v, %v", before, err)
	}
	if err := db.EndChange(t.Context(), id, whatisup.Change{State: whatisup.ChangeMade, Command: b, Answer: []byte(`{"a":1}`)}); err != nil {
		t.Fatal(err)
	}
	if before, err := db.BeginChange(t.Context(), id, a); err != nil || before == nil || before.State != whatisup.ChangeMade || string(before.Answer) != `{"a":1}` {
		t.Errorf("after it was made: %+v, %v", before, err)
	}
}

// Answers about numbers are kept by instance, each for its time.
func TestNumbersAreKept(t *testing.T) {
	t.Parallel()
	db, i, other := open(t), whatisup.NewInstanceID(), whatisup.NewInstanceID()
	var answers []whatisup.Checked
	var numbers []whatisup.PhoneNumber
	for n := range whatisup.CheckedMost {
		number := whatisup.PhoneNumber("49151" + string(rune('0'+n/10)) + string(rune('0'+n%10)) + "00000")
		c := whatisup.Checked{Asked: number, Exists: n%2 == 0}
		if c.Exists {
			c.Person = whatisup.Person{PhoneNumber: number, LID: "1" + string(number)}
		}
		answers, numbers = append(answers, c), append(numbers, number)
	}
	if err := db.KeepNumbers(t.Context(), i, answers); err != nil {
		t.Fatal(err)
	}
	kept, err := db.KeptNumbers(t.Context(), i, numbers)
	if err != nil || len(kept) != len(numbers) {
		t.Fatalf("%d, %v", len(kept), err)
	}
	for _, c := range answers {
		if got := kept[c.Asked]; got != c {
			t.Errorf("%+v, want %+v", got, c)
		}
	}
	if kept, err := db.KeptNumbers(t.Context(), other, numbers); err != nil || len(kept) != 0 {
		t.Errorf("another instance has %d, %v", len(kept), err)
	}
	later := *db
	later.clock = NewClock(func() time.Time { return time.Now().Add(2 * whatisup.UnknownKept) })
	if kept, err := later.KeptNumbers(t.Context(), i, numbers); err != nil || len(kept) != len(numbers)/2 {
		t.Errorf("after two hours %d are kept, %v", len(kept), err)
	}
}

// A group's name is kept as long as a chat, and written only when it is new or half of
// its time is over.
func TestGroupNames(t *testing.T) {
	t.Parallel()
	db := *open(t)
	at := now()
	db.clock = NewClock(func() time.Time { return at })
	r, group := newRef(), whatisup.GroupAddress("120363041234567890")
	keep := func(name, want string) (until int64) {
		t.Helper()
		kept, err := db.KeepGroupName(t.Context(), r, group, name)
		if err != nil || kept != want {
			t.Fatalf("%q is kept as %q, want %q: %v", name, kept, want, err)
		}
		row, err := db.remembered(t.Context(), groupNameKey(r, group))
		if err != nil {
			t.Fatal(err)
		}
		return intOf(row[attrTTL])
	}
	if until := keep("", ""); until != 0 {
		t.Errorf("nothing is kept until %d", until)
	}
	first := keep("Orders", "Orders")
	at = at.Add(24 * time.Hour)
	if keep("Orders", "Orders") != first || keep("", "Orders") != first {
		t.Error("what is kept was written again")
	}
	if keep("Sales", "Sales") == first {
		t.Error("a new name is kept for no longer")
	}
	at = at.Add(chatsKept/2 + time.Hour)
	if until := keep("", "Sales"); until != at.Add(chatsKept).Unix() {
		t.Errorf("a name that is still heard of is kept until %d", until)
	}
	at = at.Add(chatsKept + time.Hour)
	keep("", "")
	other := newRef()
	if kept, err := db.KeepGroupName(t.Context(), other, group, ""); err != nil || kept != "" {
		t.Errorf("another instance has %q, %v", kept, err)
	}
}

// An instance may check 500 numbers a day, beside what it may at one time.
func TestChecksOfADay(t *testing.T) {
	t.Parallel()
	db := *open(t)
	at := now()
	db.clock = NewClock(func() time.Time { return at })
	r := newRef()
	take := func() (taken int, refused whatisup.RateLimit) {
		for _, l := range whatisup.CheckLimits {
			if _, err := db.TakeChecks(t.Context(), r, whatisup.CheckedMost, l); errors.Is(err, whatisup.ErrTooMany) {
				return 0, l
			} else if err != nil {
				t.Fatal(err)
			}
		}
		return whatisup.CheckedMost, whatisup.RateLimit{}
	}
	all, moment, day := 0, whatisup.CheckLimits[0], whatisup.CheckLimits[1]
	for range 20 {
		n, refused := take()
		if n == 0 && refused == day {
			break
		}
		all += n
		if _, refused := take(); refused != moment && all < 500 {
			t.Fatalf("after %d numbers, and at once: refused by %+v", all, refused)
		}
		at = at.Add(150 * time.Second) // 50 more by then
	}
	if all < 500 || all > 550 {
		t.Errorf("%d numbers in %v", all, at.Sub(now()))
	}
	if n, _ := take(); n != 0 {
		t.Error("the day's numbers are used up, and more are given")
	}
	at = at.Add(24 * time.Hour)
	if n, _ := take(); n == 0 {
		t.Error("the next day gives none")
	}
}
