package dynamo

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"whatisup/shared/whatisup"
)

// oneChat is a chat as the messages themselves tell of it.
type oneChat struct {
	last   string
	unread int
}

// world is an instance whose messages a test writes, with its own clock.
type chatWorld struct {
	t     *testing.T
	db    *DB
	ref   whatisup.Ref
	now   time.Time
	all   []whatisup.Listed
	read  map[int]string // by person: the place through which the chat was read
	known map[int]bool   // persons whose LID is known
}

func (w *chatWorld) person(n int) whatisup.Person {
	p := whatisup.Person{PhoneNumber: whatisup.PhoneNumber(fmt.Sprintf("4915100000%02d", n))}
	if w.known[n] {
		p.LID = fmt.Sprintf("77%02d", n)
	}
	return p
}

func (w *chatWorld) put(n int, d whatisup.Direction, fromMe bool, at time.Time) {
	p := w.person(n)
	m := text(w.ref, at, func(m *whatisup.Message) {
		m.Direction, m.Chat, m.To, m.Recipient, m.FromMe = d, p.Chat(), whatisup.NumberAddress(p.PhoneNumber), p, fromMe
		if d == whatisup.Incoming {
			m.To, m.Status, m.From, m.EventID = "", "", p, whatisup.NewEventID()
		}
	})
	var err error
	if d == whatisup.Incoming {
		_, err = w.db.KeepReceived(w.t.Context(), m)
	} else {
		_, err = w.db.AcceptMessage(w.t.Context(), m)
	}
	if err != nil {
		w.t.Fatal(err)
	}
	k := messageKey(m.Ref, m.ID)
	if d == whatisup.Incoming {
		k = receivedKey(m)
	}
	w.all = append(w.all, whatisup.Listed{Message: m, Place: orderedMillis(at) + "#" + stringOf(k[attrSK])})
}

// want counts from all messages.
func (w *chatWorld) want() map[int]oneChat {
	slices.SortFunc(w.all, func(a, b whatisup.Listed) int { return cmp.Compare(a.Place, b.Place) })
	chats := make(map[int]oneChat)
	for _, l := range w.all {
		var n int
		fmt.Sscanf(string(l.Recipient.PhoneNumber), "4915100000%02d", &n)
		c := chats[n]
		c.last = l.Place
		switch {
		case l.FromMe:
			c.unread = 0
		case l.Direction == whatisup.Incoming && l.Place > w.read[n]:
			c.unread++
		}
		chats[n] = c
	}
	return chats
}

func (w *chatWorld) check(page int) {
	w.t.Helper()
	want := w.want()
	seen := map[int]bool{}
	before, last := "", "~"
	for {
		list, more, err := w.db.Chats(w.t.Context(), w.ref, before, page)
		if err != nil {
			w.t.Fatal(err)
		}
		for _, c := range list {
			var n int
			fmt.Sscanf(string(c.Person.PhoneNumber), "4915100000%02d", &n)
			if got := (oneChat{c.Last, c.Unread}); got != want[n] || seen[n] || c.Last >= last || c.Message == nil || c.Message.Status != "" && c.Message.Status != whatisup.MessageQueued {
				w.t.Fatalf("chat %d (%s): %+v, want %+v; seen before: %v", n, c.ID, got, want[n], seen[n])
			}
			seen[n], before, last = true, c.Last, c.Last
		}
		if !more {
			break
		}
	}
	if len(seen) != len(want) {
		w.t.Fatalf("%d chats, want %d", len(seen), len(want))
	}
}

// Whatever happens in whatever order, the list of chats says what the messages say:
// messages that are stored late, numbers whose LID turns out, chats that are read,
// pages of every size, and readers that count at the same time.
func TestChatsAreWhatTheMessagesSay(t *testing.T) {
	t.Parallel()
	for seed := range uint64(2) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			dice := rand.New(rand.NewPCG(seed, 16))
			w := &chatWorld{t: t, ref: newRef(), now: now().Add(-24 * time.Hour), read: map[int]string{}, known: map[int]bool{}}
			db := *open(t)
			var mu sync.Mutex
			db.clock = NewClock(func() time.Time { mu.Lock(); defer mu.Unlock(); return w.now })
			w.db = &db
			pass := func(d time.Duration) { mu.Lock(); w.now = w.now.Add(d); mu.Unlock() }
			for i := range 500 {
				pass(time.Duration(dice.IntN(4000)) * time.Millisecond)
				n, at := dice.IntN(12), w.now
				switch dice.IntN(20) {
				case 0, 1, 2, 3, 4:
					w.put(n, whatisup.Outgoing, false, at)
				case 5:
					w.put(n, whatisup.Incoming, true, at)
				case 6:
					w.known[n] = true
					w.put(n, whatisup.Incoming, false, at)
				case 7:
					if i%5 == 0 {
						w.put(n, whatisup.Incoming, false, at.Add(-time.Duration(dice.IntN(600))*time.Second))
					}
				case 8:
					if c, ok := w.want()[n]; ok {
						w.read[n] = c.last
						if err := db.KeepReadThrough(t.Context(), w.ref, w.person(n).Chat(), c.last); err != nil {
							t.Fatal(err)
						}
					}
				case 9:
					if i%3 == 0 {
						pass(5 * time.Minute)
					}
					w.check(1 + dice.IntN(15))
				case 10:
					var readers sync.WaitGroup
					for range 3 {
						readers.Go(func() {
							if _, _, err := db.Chats(t.Context(), w.ref, "", 5); err != nil {
								t.Error(err)
							}
						})
					}
					readers.Wait()
				default:
					w.put(n, whatisup.Incoming, false, at)
				}
			}
			w.check(5)
			pass(time.Hour)
			w.check(3)
			w.check(100)
		})
	}
}
