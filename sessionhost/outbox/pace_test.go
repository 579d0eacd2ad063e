package outbox

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"whatisup/shared/whatisup"
)

// Between two messages there is the gap that the settings ask for, whatever chats they
// are of, and the row says what is waited for.
func TestTheGapBetweenMessages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.settings.MinGapMS = 10_000
		for i := range 4 {
			w.accept(whatisup.MessageID(fmt.Sprint("m", i)), fmt.Sprintf("491511111111%d", i%2))
		}
		w.began = func(*Outbox) {
			time.Sleep(5 * time.Second)
			w.mu.Lock()
			defer w.mu.Unlock()
			if m := w.rows["m0"]; m.WaitingFor != whatisup.ForPace || !m.WaitingUntil.After(time.Now()) {
				t.Errorf("waits for %q until %v", m.WaitingFor, m.WaitingUntil)
			}
		}
		w.run(t, 2*time.Minute)
		for i := 1; i < 4; i++ {
			a, b := w.sentAt[whatisup.MessageID(fmt.Sprint("m", i-1))], w.sentAt[whatisup.MessageID(fmt.Sprint("m", i))]
			if gap := b.Sub(a); gap < 10*time.Second || gap > 11*time.Second {
				t.Errorf("%v between m%d and m%d", gap, i-1, i)
			}
		}
	})
}

// After a restriction no chat is begun: who has exchanged messages with the account is
// written to, a message to somebody else waits for the end that WhatsApp told, or has
// failed, and WhatsApp is not tried again.
func TestARestrictedAccountBeginsNoChats(t *testing.T) {
	hour := time.Hour
	for name, c := range map[string]struct {
		until   time.Duration // told in a notice; 0: nothing is told
		expires time.Duration
		waits   bool
	}{
		"no end is told":      {0, 7 * 24 * hour, false},
		"expires before it":   {3 * hour, 2 * hour, false},
		"waits for the end":   {3 * hour, 5 * hour, true},
		"the notice was kept": {3 * hour, 5 * hour, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld()
				w.friends = map[whatisup.Address]bool{whatisup.NumberAddress("4915111111111"): true, whatisup.LIDAddress("94915111111111"): true}
				w.answer = func(id whatisup.MessageID, _ int) Outcome {
					if id == "first" {
						return Outcome{Refused: 463}
					}
					return Outcome{}
				}
				var end time.Time
				if c.until > 0 {
					end = time.Now().Add(c.until)
				}
				if name == "the notice was kept" {
					w.kept = whatisup.Restrictions{whatisup.RestrictReachout: {Until: end, Held: end}}
				} else {
					w.accept("first", "4915122222222")
				}
				w.began = func(o *Outbox) {
					time.Sleep(5 * time.Second)
					if c.until > 0 {
						if err := o.Restricted(t.Context(), whatisup.RestrictedData{Kind: whatisup.RestrictReachout, Active: true, Until: whatisup.At(end)}); err != nil {
							t.Error(err)
						}
					}
					w.accept("friend", "4915111111111")
					w.accept("stranger", "4915133333333", func(m *whatisup.Message) { m.ExpiresAt = time.Now().Add(c.expires) })
					o.Wake(t.Context())
					time.Sleep(time.Minute)
					w.mu.Lock()
					defer w.mu.Unlock()
					if w.sends["friend"] != 1 || w.sends["stranger"] != 0 {
						t.Errorf("sends: %v", w.sends)
					}
					m := w.rows["stranger"]
					switch {
					case c.waits && (m.WaitingFor != whatisup.ForRestriction || !m.WaitingUntil.Equal(end)):
						t.Errorf("waits for %q until %v", m.WaitingFor, m.WaitingUntil)
					case !c.waits && (m.Status != whatisup.MessageFailed || m.Error.Code != whatisup.ReachoutRestricted):
						t.Errorf("%s %+v", m.Status, m.Error)
					}
				}
				w.run(t, 4*hour)
				if c.waits && w.status("stranger") != whatisup.MessageSent {
					t.Errorf("after the end it is %s", w.status("stranger"))
				}
				told := 0
				for _, e := range w.events {
					if e == "restricted reachout" {
						told++
					}
				}
				want := 1
				if c.until > 0 && name != "the notice was kept" {
					want = 2 // the refusal, then its end
				}
				if name == "the notice was kept" {
					want = 0
				}
				if told != want {
					t.Errorf("told %d times, want %d: %v", told, want, w.events)
				}
			})
		})
	}
}

// So many chats are begun a day; others wait for the next day, and who has written is
// no new chat.
func TestNewChatsADay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		most := 3
		w.settings.NewChatsDay, w.begunToday = &most, 1
		week := func(m *whatisup.Message) { m.ExpiresAt = time.Now().Add(7 * 24 * time.Hour) }
		for i := range 4 {
			w.accept(whatisup.MessageID(fmt.Sprint("m", i)), fmt.Sprintf("491511111111%d", i), week)
		}
		w.began = func(o *Outbox) {
			time.Sleep(time.Minute)
			w.mu.Lock()
			if len(w.sends) != 2 {
				t.Errorf("sends: %v", w.sends)
			}
			tomorrow := time.Now().UTC().Truncate(24 * time.Hour).Add(24 * time.Hour)
			for id, m := range w.rows {
				if w.sends[id] == 0 && (m.WaitingFor != whatisup.ForPace || !m.WaitingUntil.Equal(tomorrow)) {
					t.Errorf("%s waits for %q until %v", id, m.WaitingFor, m.WaitingUntil)
				}
			}
			begun := w.rows[w.order[0]].To
			w.mu.Unlock()
			w.accept("again", string(begun), week)
			o.Heard(whatisup.Person{PhoneNumber: "4915155555555"})
			w.accept("answer", "4915155555555", week)
			o.Wake(t.Context())
			time.Sleep(time.Minute)
			w.mu.Lock()
			defer w.mu.Unlock()
			if w.sends["again"] != 1 || w.sends["answer"] != 1 {
				t.Errorf("sends: %v", w.sends)
			}
		}
		w.run(t, 25*time.Hour)
		if len(w.order) != 6 {
			t.Errorf("after a day were sent %v", w.order)
		}
	})
}

// While the operator has stopped an instance nothing leaves; afterwards all does. A
// stop of new chats holds nobody who is known.
func TestStops(t *testing.T) {
	for _, all := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld()
			w.stopped = [2]bool{all, true}
			w.friends = map[whatisup.Address]bool{whatisup.NumberAddress("4915111111111"): true}
			w.accept("friend", "4915111111111")
			w.accept("stranger", "4915122222222")
			w.accept("group", "1@g.us")
			w.began = func(*Outbox) {
				time.Sleep(5 * time.Minute)
				w.mu.Lock()
				defer w.mu.Unlock()
				left := 2
				if all {
					left = 0
				}
				if len(w.sends) != left || w.sends["stranger"] != 0 || w.rows["stranger"].WaitingFor != whatisup.ForRestriction || !w.rows["stranger"].WaitingUntil.IsZero() {
					t.Errorf("all %v: sends %v, %+v", all, w.sends, w.rows["stranger"])
				}
				w.stopped = [2]bool{}
			}
			w.run(t, 10*time.Minute)
			for _, id := range []whatisup.MessageID{"friend", "stranger", "group"} {
				if w.status(id) != whatisup.MessageSent {
					t.Errorf("%s is %s", id, w.status(id))
				}
			}
		})
	}
}
