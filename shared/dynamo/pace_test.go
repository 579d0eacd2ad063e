package dynamo

import (
	"testing"
	"time"

	"whatisup/shared/whatisup"
)

// Messages are exchanged with whom one has come from, or was sent to; a chat was begun
// today if its first message is one that was sent today.
func TestExchanged(t *testing.T) {
	t.Parallel()
	db, r, today := open(t), newRef(), now()
	person := func(n string) whatisup.Person {
		return whatisup.Person{PhoneNumber: whatisup.PhoneNumber("4915100000" + n), LID: "77" + n}
	}
	put := func(n string, d whatisup.Direction, s whatisup.MessageStatus, at time.Time) {
		p := person(n)
		m := text(r, at, func(m *whatisup.Message) {
			m.Direction, m.Status, m.Recipient, m.Chat = d, s, p, p.Chat()
			if m.Times.Sent = at; d == whatisup.Incoming {
				m.From, m.EventID = p, whatisup.NewEventID()
			}
		})
		if _, err := db.putMessage(t.Context(), m); err != nil {
			t.Fatal(err)
		}
	}
	yesterday := today.Add(-24 * time.Hour)
	put("01", whatisup.Outgoing, whatisup.MessageSent, today)
	put("02", whatisup.Outgoing, whatisup.MessageRead, yesterday)
	put("02", whatisup.Outgoing, whatisup.MessageSent, today)
	put("03", whatisup.Incoming, "", yesterday)
	put("03", whatisup.Outgoing, whatisup.MessageSent, today)
	put("04", whatisup.Outgoing, whatisup.MessageFailed, today)
	put("05", whatisup.Outgoing, whatisup.MessageCanceled, today)
	known, begun, err := db.Exchanged(t.Context(), r, today.Add(-time.Hour))
	if err != nil || begun != 1 {
		t.Errorf("%d begun, %v", begun, err)
	}
	for n, want := range map[string]bool{"01": true, "02": true, "03": true, "04": false, "05": false} {
		for _, a := range person(n).Chats() {
			if known[a] != want {
				t.Errorf("%s: %v", n, known[a])
			}
		}
	}
}

func TestRestrictionsAndStopsAreKept(t *testing.T) {
	t.Parallel()
	db, r, other, at := open(t), newRef(), newRef(), now()
	all := whatisup.Restrictions{whatisup.RestrictReachout: {Until: at.Add(time.Hour), Held: at.Add(time.Hour)}, whatisup.RestrictNewChats: {Held: at.Add(time.Minute)}}
	if err := db.KeepRestrictions(t.Context(), r, all); err != nil {
		t.Fatal(err)
	}
	got, err := db.Restrictions(t.Context(), r)
	if kind, one := got.Active(at); err != nil || len(got) != 2 || kind != whatisup.RestrictReachout || !one.Until.Equal(at.Add(time.Hour)) {
		t.Errorf("%+v, %v", got, err)
	}
	if kind, _ := got.Active(at.Add(2 * time.Hour)); kind != "" {
		t.Errorf("after all have ended: %s", kind)
	}
	if got, err := db.Restrictions(t.Context(), other); err != nil || got != nil {
		t.Errorf("another instance: %+v, %v", got, err)
	}

	for _, s := range []whatisup.Stop{
		{Scope: string(r.Customer), Since: at}, {Scope: string(other.ID), NewChats: true, Since: at}, {Scope: "x", Since: at, Until: at.Add(time.Hour)},
		{Scope: whatisup.StopAll, NewChats: true, Since: at, Until: at.Add(-time.Hour)},
	} {
		if err := db.PutStop(t.Context(), r.Mode, s); err != nil {
			t.Fatal(err)
		}
	}
	stops, err := db.Stops(t.Context(), r.Mode)
	if err != nil || len(stops) != 3 {
		t.Fatalf("%+v, %v", stops, err)
	}
	for ref, want := range map[whatisup.Ref][2]bool{r: {true, true}, other: {false, true}, newRef(): {false, false}} {
		if all, newChats := stops.Of(ref, at); all != want[0] || newChats != want[1] {
			t.Errorf("%v: %v, %v", ref, all, newChats)
		}
	}
	if err := db.RemoveStop(t.Context(), r.Mode, string(r.Customer)); err != nil {
		t.Fatal(err)
	}
	if stops, err := db.Stops(t.Context(), r.Mode); err != nil || len(stops) != 2 {
		t.Errorf("%+v, %v", stops, err)
	}
}
