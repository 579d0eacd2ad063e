package outbox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"whatisup/sessionhost/waconv"
	"whatisup/shared/whatisup"
)

var ref = whatisup.Ref{Customer: "c", Mode: whatisup.Test, ID: "i"}

// world is the ledger, the device store, WhatsApp and the events of one instance,
// in memory.
type world struct {
	clockOff bool
	mu       sync.Mutex
	rows     map[whatisup.MessageID]*whatisup.Message
	copies   map[whatisup.MessageID]waconv.JID
	shown    map[whatisup.MessageID]int    // by the recipients' phones
	order    []whatisup.MessageID          // as WhatsApp took them
	nobody   map[whatisup.PhoneNumber]bool // not on WhatsApp
	events   []string
	fenced   bool
	down     error // of the tables
	resolve  int
	// answer decides about a send, by how often the message was sent: the default
	// is an ack.
	answer func(id whatisup.MessageID, n int) Outcome
	// leaves says whether a send commits its copy, and whether its frame arrives.
	leaves func(id whatisup.MessageID, n int) (copied, arrives bool)
	sends  map[whatisup.MessageID]int

	members     map[whatisup.MessageID]*whatisup.Recipients
	untold      time.Time
	began       func(*Outbox)
	settings    whatisup.Settings
	stopped     [2]bool // all, new chats
	kept        whatisup.Restrictions
	friends     map[whatisup.Address]bool // with whom messages were exchanged
	begunToday  int
	sentAt      map[whatisup.MessageID]time.Time
	loseAnswer  bool          // the next step is written, and its answer lost
	deadTellers bool          // nothing is told any more
	writes      int           // of recipients
	slow        time.Duration // a step's write
	failSteps   int           // how many of them fail
	again       int           // sends of a copy
}

func newWorld() *world {
	return &world{
		rows: map[whatisup.MessageID]*whatisup.Message{}, copies: map[whatisup.MessageID]waconv.JID{},
		shown: map[whatisup.MessageID]int{}, nobody: map[whatisup.PhoneNumber]bool{}, sends: map[whatisup.MessageID]int{},
		members: map[whatisup.MessageID]*whatisup.Recipients{}, sentAt: map[whatisup.MessageID]time.Time{},
	}
}

func (w *world) Line(_ context.Context, _ whatisup.Ref, since time.Time, most int) ([]*whatisup.Message, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	var line []*whatisup.Message
	for _, m := range w.rows {
		if m.Status.Waiting() && !m.DueAt.Before(since) {
			c := *m
			line = append(line, &c)
		}
	}
	slices.SortFunc(line, func(a, b *whatisup.Message) int { return a.DueAt.Compare(b.DueAt) })
	return line[:min(most, len(line))], w.down
}

func (w *world) Message(_ context.Context, _ whatisup.Ref, id whatisup.MessageID) (*whatisup.Message, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if m := w.rows[id]; m != nil {
		c := *m
		return &c, w.down
	}
	return nil, whatisup.ErrNotFound
}

func (w *world) StepMessage(_ context.Context, _ whatisup.Ref, id whatisup.MessageID, s whatisup.Step) (*whatisup.Message, whatisup.MessageStatus, error) {
	time.Sleep(w.slow)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.down != nil {
		return nil, "", w.down
	}
	if w.failSteps > 0 {
		w.failSteps--
		return nil, "", whatisup.ErrUnavailable
	}
	if w.rows[id] == nil {
		return nil, "", whatisup.ErrNotFound
	}
	previous := w.rows[id].Status
	w.rows[id].Take(s)
	if w.loseAnswer {
		w.loseAnswer = false
		return nil, "", whatisup.ErrUnavailable
	}
	c := *w.rows[id]
	return &c, previous, nil
}

func (w *world) PutRecipients(_ context.Context, _ whatisup.Ref, id whatisup.MessageID, p *whatisup.Recipients, _ bool) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.writes++
	w.members[id] = &whatisup.Recipients{Base: p.Base, Members: p.Members, At: slices.Clone(p.At)}
	return w.down
}

func (w *world) Recipients(_ context.Context, _ whatisup.Ref, id whatisup.MessageID) (*whatisup.Recipients, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if p := w.members[id]; p != nil {
		return &whatisup.Recipients{Base: p.Base, Members: p.Members, At: slices.Clone(p.At)}, nil
	}
	return nil, whatisup.ErrNotFound
}

func (w *world) CountRecipients(_ context.Context, _ whatisup.Ref, id whatisup.MessageID, c *whatisup.RecipientCounts) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.rows[id].Recipients = c
	return w.down
}

func (w *world) MarkUntold(_ context.Context, _ whatisup.Ref, since time.Time) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.untold = since
	return w.down
}

func (w *world) Untold(context.Context, whatisup.Ref) (time.Time, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.untold, w.down
}

func (w *world) Stepped(_ context.Context, _ whatisup.Ref, _, since time.Time, _ int) (list []*whatisup.Message, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, m := range w.rows {
		if m.Status.Rank() >= whatisup.MessageSent.Rank() && !m.StatusAt.Before(since) {
			c := *m
			list = append(list, &c)
		}
	}
	return list, w.down
}

func (w *world) EndMessages(_ context.Context, _ whatisup.Ref, _ whatisup.Epoch, steps map[whatisup.MessageID]whatisup.Step) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.down != nil {
		return w.down
	}
	if w.fenced {
		return whatisup.ErrFenced
	}
	for id, s := range steps {
		if w.rows[id].Status.Rank() >= s.Status.Rank() {
			return whatisup.ErrConflict
		}
	}
	for id, s := range steps {
		w.rows[id].Take(s)
	}
	return nil
}

func (w *world) TryMessage(_ context.Context, _ whatisup.Ref, id whatisup.MessageID, attempts int) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.rows[id].Attempts = attempts
	return w.down
}

func (w *world) WaitMessage(_ context.Context, _ whatisup.Ref, id whatisup.MessageID, why whatisup.WaitingFor, until time.Time) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.rows[id].WaitingFor, w.rows[id].WaitingUntil = why, until
	return w.down
}

func (w *world) Received(context.Context, whatisup.Ref, whatisup.Address, whatisup.Address, whatisup.MessageID) (*whatisup.Message, error) {
	return nil, whatisup.ErrNotFound
}

func (w *world) Restrictions(context.Context, whatisup.Ref) (whatisup.Restrictions, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.kept, w.down
}

func (w *world) KeepRestrictions(_ context.Context, _ whatisup.Ref, all whatisup.Restrictions) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.kept = all
	return w.down
}

func (w *world) Exchanged(context.Context, whatisup.Ref, time.Time) (map[whatisup.Address]bool, int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	known := map[whatisup.Address]bool{}
	for a := range w.friends {
		known[a] = true
	}
	return known, w.begunToday, w.down
}

func (w *world) Group(context.Context, waconv.JID) (*waconv.Group, error) {
	return &waconv.Group{ByLID: true, Members: []whatisup.Person{{LID: "2"}, {LID: "3"}}}, nil
}

func (w *world) Address(_ context.Context, a whatisup.Address, _ bool) waconv.JID {
	return waconv.JIDOf(a)
}

func (w *world) Copy(_ context.Context, id whatisup.MessageID) (*Copy, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if chat, ok := w.copies[id]; ok {
		return &Copy{Chat: chat, Message: &waconv.Content{}}, nil
	}
	return nil, nil
}

func (w *world) PutFile(context.Context, whatisup.BodyType, io.Reader, int64, []byte) (string, string, error) {
	return "", "", errors.New("no file is sent here")
}

func (w *world) Resolve(_ context.Context, n whatisup.PhoneNumber) (whatisup.Person, bool, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.resolve++
	return whatisup.Person{PhoneNumber: n, LID: "9" + string(n)}, !w.nobody[n], nil
}

func (w *world) Send(_ context.Context, to waconv.JID, id whatisup.MessageID, _ *waconv.Content, again *Copy) Outcome {
	time.Sleep(30 * time.Millisecond) // the round trip
	w.mu.Lock()
	defer w.mu.Unlock()
	w.sends[id]++
	w.sentAt[id] = time.Now()
	if again != nil {
		w.again++
	}
	n := w.sends[id]
	copied, arrives := true, true
	if w.leaves != nil {
		copied, arrives = w.leaves(id, n)
	}
	if before, again := w.copies[id]; again && before != to {
		w.events = append(w.events, "sent to two chats")
	}
	if copied {
		w.copies[id] = to
	}
	var out Outcome
	if w.answer != nil {
		out = w.answer(id, n)
	}
	if arrives && out.Refused == 0 && copied {
		if w.shown[id]++; w.shown[id] == 1 {
			w.order = append(w.order, id)
		}
	}
	return out
}

func (w *world) Forget(waconv.JID)                                         { w.note("forget") }
func (w *world) Typing(context.Context, waconv.JID, bool) error            { return nil }
func (w *world) Self(bool) waconv.JID                                      { return waconv.JIDOf(whatisup.LIDAddress("1")) }
func (w *world) MessageEnded(whatisup.MessageStatus, whatisup.MessageCode) {}
func (w *world) MessageAcked(time.Duration)                                {}

func (w *world) note(s string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.events = append(w.events, s)
}

func (w *world) Status(ctx context.Context, m *whatisup.Message, previous, all whatisup.MessageStatus) error {
	if w.deadTellers {
		return errors.New("dead")
	}
	if all != "" {
		w.note(fmt.Sprintf("%s %s by all", m.ID, all))
		return nil
	}
	w.note(fmt.Sprintf("%s %s→%s", m.ID, previous, m.Status))
	return nil
}

func (w *world) Restricted(_ context.Context, d whatisup.RestrictedData) error {
	w.note("restricted " + string(d.Kind))
	return nil
}

// accept puts a text into the line.
func (w *world) accept(id whatisup.MessageID, to string, more ...func(*whatisup.Message)) {
	now := time.Now()
	a, _ := whatisup.ParseAddress(to)
	m := &whatisup.Message{
		Ref: ref, ID: id, Direction: whatisup.Outgoing, To: a, Chat: a, ChatType: a.ChatType(),
		Raw: json.RawMessage(`{"type":"text","text":"` + string(id) + `"}`), Link: 1,
		Status: whatisup.MessageQueued, StatusAt: now, DueAt: now, ExpiresAt: now.Add(time.Hour),
		Times: whatisup.MessageTimes{Created: now, Queued: now},
	}
	for _, f := range more {
		f(m)
	}
	w.mu.Lock()
	w.rows[id] = m
	w.mu.Unlock()
	time.Sleep(time.Millisecond) // no two are due at one moment
}

func (w *world) status(id whatisup.MessageID) whatisup.MessageStatus {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.rows[id].Status
}

// run keeps an outbox working as a session does, until the test's bubble is idle.
func (w *world) run(t *testing.T, for_ time.Duration) *Outbox {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	changed := make(chan struct{}, 1)
	var workers sync.WaitGroup
	o := New(Config{
		Ref: ref, Epoch: 1, Ledger: w, Copies: w, Teller: w, Metrics: w,
		Log: slog.New(slog.DiscardHandler), Trusted: func() bool { return true }, Now: time.Now, Go: workers.Go,
		ClockOff: func() bool { return w.clockOff },
		Settings: func() whatisup.Settings { w.mu.Lock(); defer w.mu.Unlock(); return w.settings },
		Stops:    func() (all, newChats bool) { w.mu.Lock(); defer w.mu.Unlock(); return w.stopped[0], w.stopped[1] },
		Changed: func() {
			select {
			case changed <- struct{}{}:
			default:
			}
		},
	})
	o.Link(1)
	o.Connected(ctx, w)
	if w.began != nil {
		w.began(o)
	}
	end := time.After(for_)
	for {
		var due <-chan time.Time
		if next := o.Next(); !next.IsZero() {
			due = time.After(time.Until(next))
		}
		select {
		case <-end:
			cancel()
			o.Close(t.Context())
			workers.Wait()
			return o
		case <-changed:
		case <-due:
			o.Work(ctx)
		}
	}
}

func TestMessagesOfAChatGoInTheirOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		var want []whatisup.MessageID
		for i := range 20 {
			id := whatisup.MessageID(fmt.Sprintf("m%02d", i))
			w.accept(id, "4915111111111")
			want = append(want, id)
			time.Sleep(time.Millisecond)
		}
		w.run(t, 10*time.Second)
		if !slices.Equal(w.order, want) {
			t.Errorf("sent in the order %v", w.order)
		}
		if w.resolve != 20 {
			t.Errorf("%d questions for the number; the connection answers them from memory", w.resolve)
		}
	})
}

// That a message was sent is written while the next one leaves; a write that fails is
// tried again, and sends nothing twice. A reply doesn't wait long for what it quotes.
func TestAcksAreWrittenBesideSends(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.slow, w.failSteps = 100*time.Millisecond, 3
		for i := range 10 {
			w.accept(whatisup.MessageID(fmt.Sprintf("m%02d", i)), "4915111111111")
		}
		w.accept("reply", "4915111111111", func(m *whatisup.Message) { m.ReplyTo = &whatisup.Target{MessageID: "m09"} })
		began := time.Now()
		w.run(t, 20*time.Second)
		if took := w.sentAt["m09"].Sub(began); took > 10*30*time.Millisecond+50*time.Millisecond {
			t.Errorf("ten messages left in %v", took)
		}
		if waited := w.sentAt["reply"].Sub(w.sentAt["m09"]); waited > time.Second {
			t.Errorf("a reply waited %v for what it quotes", waited)
		}
		for id, m := range w.rows {
			if m.Status != whatisup.MessageSent || w.sends[id] != 1 {
				t.Errorf("%s is %s, sent %d times", id, m.Status, w.sends[id])
			}
		}
	})
}

// A message whose row can't be written is sent again under its id, and its link can end.
func TestAnAckThatCannotBeWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.failSteps = ackedTries + 1
		w.accept("m", "4915111111111")
		w.run(t, 3*time.Minute)
		if m := w.rows["m"]; m.Status != whatisup.MessageSent || w.sends["m"] != 2 || m.Attempts != 1 || w.again != 1 {
			t.Errorf("%s, sent %d times, %d of them its copy, %d attempts beside the first", m.Status, w.sends["m"], w.again, m.Attempts)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.failSteps = 1_000_000
		w.accept("m", "4915111111111")
		var o atomic.Pointer[Outbox]
		w.began = o.Store
		ended := make(chan error, 1)
		time.AfterFunc(10*time.Second, func() {
			ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 2*time.Minute)
			defer cancel()
			ended <- o.Load().EndLink(ctx)
		})
		w.run(t, 3*time.Minute)
		if err := <-ended; err != nil {
			t.Errorf("the link does not end: %v", err)
		}
		if m := w.rows["m"]; m.Status != whatisup.MessageFailed || !m.MayHaveBeenSent || w.shown["m"] != 1 {
			t.Errorf("%s, may have been sent: %v, shown %d times", m.Status, m.MayHaveBeenSent, w.shown["m"])
		}
	})
}

func TestWhatWaitsForItsTimeHoldsUpNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		later := time.Now().Add(time.Minute)
		w.accept("later", "4915111111111", func(m *whatisup.Message) {
			m.Status, m.DueAt, m.ExpiresAt = whatisup.MessageScheduled, later, later.Add(time.Hour)
		})
		w.accept("now", "4915111111111")
		w.run(t, 50*time.Second)
		if w.status("now") != whatisup.MessageSent || w.status("later") != whatisup.MessageScheduled {
			t.Errorf("now %s, later %s", w.status("now"), w.status("later"))
		}
		w.run(t, 20*time.Second)
		if w.status("later") != whatisup.MessageSent {
			t.Errorf("later %s", w.status("later"))
		}
	})
}

func TestWhatWhatsAppRefuses(t *testing.T) {
	for code, want := range map[int]whatisup.MessageCode{
		400: whatisup.RejectedByWhatsApp, 404: whatisup.NotOnWhatsApp, 463: whatisup.ReachoutRestricted,
		475: whatisup.NewChatLimit, 479: whatisup.RejectedByWhatsApp, 503: whatisup.RejectedByWhatsApp,
	} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld()
			w.answer = func(whatisup.MessageID, int) Outcome { return Outcome{Refused: code} }
			w.accept("m", "4915111111111")
			w.run(t, time.Minute)
			m := w.rows["m"]
			if m.Status != whatisup.MessageFailed || m.Error.Code != want || m.Error.WhatsAppCode != code || m.MayHaveBeenSent {
				t.Errorf("%d: %s %+v", code, m.Status, m.Error)
			}
			tries := map[int]int{479: 2}[code]
			if w.sends["m"] != max(tries, 1) {
				t.Errorf("%d: sent %d times", code, w.sends["m"])
			}
			if told := slices.Contains(w.events, "restricted reachout") || slices.Contains(w.events, "restricted new_chats"); told != (code == 463 || code == 475) {
				t.Errorf("%d: %v", code, w.events)
			}
		})
	}
}

func TestANumberThatNobodyHas(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.nobody["4915111111111"] = true
		w.accept("m", "4915111111111")
		w.accept("n", "4915122222222")
		w.run(t, time.Minute)
		if m := w.rows["m"]; m.Status != whatisup.MessageFailed || m.Error.Code != whatisup.NotOnWhatsApp || w.sends["m"] != 0 {
			t.Errorf("%s %+v", m.Status, m.Error)
		}
		if w.status("n") != whatisup.MessageSent {
			t.Error("the next message waits")
		}
	})
}

// However often the answer is missing, and wherever: the message is shown once,
// goes to one chat, and its row ends in the truth.
func TestNoAnswer(t *testing.T) {
	for seed := range uint64(300) {
		synctest.Test(t, func(t *testing.T) {
			chance := rand.New(rand.NewPCG(seed, 1))
			w := newWorld()
			w.leaves = func(whatisup.MessageID, int) (copied, arrives bool) { return chance.IntN(3) > 0, chance.IntN(2) > 0 }
			w.answer = func(id whatisup.MessageID, n int) Outcome {
				if chance.IntN(2) == 0 {
					return Outcome{Err: errors.New("the connection ended")}
				}
				w.leaves = func(whatisup.MessageID, int) (bool, bool) { return true, true }
				return Outcome{}
			}
			// An ack means that the frame has arrived.
			leaves, answer := w.leaves, w.answer
			var out Outcome
			w.leaves = func(id whatisup.MessageID, n int) (bool, bool) {
				if out = answer(id, n); out.Err == nil {
					return true, true
				}
				return leaves(id, n)
			}
			w.answer = func(whatisup.MessageID, int) Outcome { return out }
			for i := range 5 {
				w.accept(whatisup.MessageID(fmt.Sprint("m", i)), "4915111111111")
				time.Sleep(time.Millisecond)
			}
			for range 20 { // processes that die in between
				w.run(t, time.Duration(chance.IntN(5000))*time.Millisecond)
			}
			w.run(t, 10*time.Minute)
			for id, m := range w.rows {
				switch {
				case m.Status == whatisup.MessageSent && w.shown[id] == 0:
					t.Errorf("seed %d: %s is sent, and never arrived", seed, id)
				case m.Status == whatisup.MessageFailed && !m.MayHaveBeenSent && w.shown[id] > 0:
					t.Errorf("seed %d: %s arrived, and its row says that it can't have", seed, id)
				case m.Status.Waiting():
					t.Errorf("seed %d: %s still waits", seed, id)
				}
			}
			if slices.Contains(w.events, "sent to two chats") {
				t.Errorf("seed %d: %v", seed, w.events)
			}
		})
	}
}

func TestAMessageOfAnEndedLinkIsNeverSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.accept("m", "4915111111111", func(m *whatisup.Message) { m.Link = 7 })
		w.run(t, time.Minute)
		if m := w.rows["m"]; m.Status != whatisup.MessageFailed || m.Error.Code != whatisup.LinkLost || w.sends["m"] != 0 {
			t.Errorf("%s %+v", m.Status, m.Error)
		}
	})
}

func TestCancelAndExpiry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.accept("asked", "4915111111111", func(m *whatisup.Message) { m.CancelAsked = true })
		w.accept("old", "4915111111111", func(m *whatisup.Message) { m.ExpiresAt = time.Now() })
		w.accept("left", "4915111111111", func(m *whatisup.Message) { m.CancelAsked = true })
		w.copies["left"] = waconv.JIDOf(whatisup.LIDAddress("94915111111111"))
		w.run(t, time.Minute)
		if w.status("asked") != whatisup.MessageCanceled || w.status("old") != whatisup.MessageExpired || w.status("left") != whatisup.MessageSent {
			t.Errorf("asked %s, old %s, left %s", w.status("asked"), w.status("old"), w.status("left"))
		}
		if w.sends["asked"]+w.sends["old"] != 0 {
			t.Error("one of them was sent")
		}
	})
}

// Where the clock can't be trusted nothing is called expired and nothing that may have
// expired is sent; it holds up nobody.
func TestNothingExpiresByAWrongClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.clockOff = true
		w.accept("old", "4915111111111", func(m *whatisup.Message) { m.ExpiresAt = time.Now() })
		w.accept("new", "4915111111111")
		w.run(t, time.Minute)
		if w.status("old") != whatisup.MessageQueued || w.sends["old"] != 0 || w.status("new") != whatisup.MessageSent {
			t.Errorf("old %s, sent %d times; new %s", w.status("old"), w.sends["old"], w.status("new"))
		}
		w.clockOff = false
		w.run(t, time.Minute)
		if w.status("old") != whatisup.MessageExpired || w.sends["old"] != 0 {
			t.Errorf("old %s, sent %d times", w.status("old"), w.sends["old"])
		}
	})
}

// What refers to a message waits for it, and is never sent if that never was.
func TestATargetIsWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		soon := time.Now().Add(20 * time.Second)
		react := func(target string) func(*whatisup.Message) {
			return func(m *whatisup.Message) {
				m.Raw = json.RawMessage(`{"type":"reaction","target":"` + target + `","emoji":"👍"}`)
			}
		}
		w.accept("later", "4915111111111", func(m *whatisup.Message) {
			m.Status, m.DueAt = whatisup.MessageScheduled, soon
		})
		w.accept("gone", "4915122222222", func(m *whatisup.Message) { m.Link = 7 })
		w.accept("to-later", "4915111111111", react("later"))
		w.accept("to-gone", "4915122222222", react("gone"))
		w.accept("behind", "4915111111111")
		w.run(t, 10*time.Second)
		if m := w.rows["to-gone"]; m.Status != whatisup.MessageFailed || m.Error.Code != whatisup.TargetNotSent {
			t.Errorf("to-gone: %s %+v", m.Status, m.Error)
		}
		for _, id := range []whatisup.MessageID{"to-later", "behind"} {
			if m := w.rows[id]; m.Status != whatisup.MessageQueued || m.WaitingFor != whatisup.ForChatOrder {
				t.Errorf("%s: %s, waits for %q", id, m.Status, m.WaitingFor)
			}
		}
		w.run(t, 30*time.Second)
		if !slices.Equal(w.order, []whatisup.MessageID{"later", "to-later", "behind"}) {
			t.Errorf("sent in the order %v", w.order)
		}
	})
}

// Typing to one person holds up no other one.
func TestTypingHoldsUpItsChatOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.accept("slow", "4915111111111", func(m *whatisup.Message) { m.Typing = 8 * time.Second })
		w.accept("behind", "4915111111111")
		w.accept("other", "4915122222222")
		w.run(t, time.Second)
		if w.status("other") != whatisup.MessageSent || w.status("slow") != whatisup.MessageQueued || w.status("behind") != whatisup.MessageQueued {
			t.Errorf("other %s, slow %s, behind %s", w.status("other"), w.status("slow"), w.status("behind"))
		}
		w.run(t, 20*time.Second)
		if !slices.Equal(w.order, []whatisup.MessageID{"other", "slow", "behind"}) {
			t.Errorf("sent in the order %v", w.order)
		}
	})
}

// Steps within two seconds are one event with the furthest, and a death in between
// omits none.
func TestStepsAreToldTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		receipt := func(id whatisup.MessageID, s whatisup.MessageStatus) Receipt {
			return Receipt{IDs: []whatisup.MessageID{id}, Status: s, At: time.Now()}
		}
		var o atomic.Pointer[Outbox]
		w.began = o.Store
		tell := func(after time.Duration, id whatisup.MessageID, s whatisup.MessageStatus) {
			time.AfterFunc(after, func() {
				if err := o.Load().Receipt(t.Context(), receipt(id, s)); err != nil {
					t.Error(err)
				}
			})
		}
		w.accept("m", "4915111111111")
		tell(500*time.Millisecond, "m", whatisup.MessageDelivered)
		tell(time.Second, "m", whatisup.MessageRead)
		tell(4*time.Second, "m", whatisup.MessagePlayed)
		w.run(t, 10*time.Second)
		if want := []string{"m queued→read", "m read→played"}; !slices.Equal(w.events, want) {
			t.Errorf("told %v", w.events)
		}
		if !w.untold.IsZero() {
			t.Error("the mark of untold steps stays")
		}

		w.events = nil
		w.accept("n", "4915111111111")
		w.deadTellers = true // the process ends before the two seconds are over
		w.run(t, time.Second)
		w.deadTellers = false
		if w.status("n") != whatisup.MessageSent || w.untold.IsZero() {
			t.Fatalf("n is %s, the mark %s", w.status("n"), w.untold)
		}
		w.events = nil
		w.run(t, time.Second)
		if !slices.Contains(w.events, "n queued→sent") {
			t.Errorf("the next owner told %v", w.events)
		}
	})
}

// A step that was written though its answer was lost is told when its receipt comes
// again, to this owner or to the next.
func TestAStepWhoseAnswerIsLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, c := range []struct{ again, group bool }{{true, false}, {false, false}, {true, true}} {
			again, to := c.again, "4915111111111"
			if c.group {
				to = "12036300000@g.us"
			}
			w := newWorld()
			var o atomic.Pointer[Outbox]
			w.began = o.Store
			w.accept("m", to)
			read := func() error {
				return o.Load().Receipt(t.Context(), Receipt{
					IDs: []whatisup.MessageID{"m"}, Status: whatisup.MessageRead, At: time.Now(), Group: c.group, By: whatisup.Person{LID: "2"},
				})
			}
			time.AfterFunc(5*time.Second, func() {
				w.mu.Lock()
				w.loseAnswer = true
				w.mu.Unlock()
				if read() == nil {
					t.Error("a lost answer is no error")
				}
				if again {
					if err := read(); err != nil {
						t.Error(err)
					}
				}
			})
			w.run(t, 10*time.Second)
			if again != w.untold.IsZero() {
				t.Errorf("%+v: the mark is %v", c, w.untold)
			}
			if !again {
				w.run(t, time.Second)
			}
			if !slices.Contains(w.events, "m queued→read") {
				t.Errorf("%+v: told %v", c, w.events)
			}
		}
	})
}

// A receipt that overtakes the acknowledgement on its way to be told keeps its step.
func TestTheFurthestStepIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.began = func(o *Outbox) {
			m := func(s whatisup.MessageStatus) *whatisup.Message {
				return &whatisup.Message{ID: "m", Status: s}
			}
			o.tellLater(&telling{m: m(whatisup.MessageRead), previous: whatisup.MessageSent})
			o.tellLater(&telling{m: m(whatisup.MessageSent), previous: whatisup.MessageQueued})
		}
		w.run(t, 5*time.Second)
		if want := []string{"m queued→read"}; !slices.Equal(w.events, want) {
			t.Errorf("told %v", w.events)
		}
	})
}

// The members of a group come to a message at their own times.
func TestRecipientsOfAGroup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		var o atomic.Pointer[Outbox]
		w.began = o.Store
		tell := func(after time.Duration, lid string, s whatisup.MessageStatus) {
			time.AfterFunc(after, func() {
				r := Receipt{IDs: []whatisup.MessageID{"m"}, Status: s, Group: true, By: whatisup.Person{LID: lid}, At: time.Now()}
				if err := o.Load().Receipt(t.Context(), r); err != nil {
					t.Error(err)
				}
			})
		}
		w.accept("m", "12036300000@g.us")
		tell(3*time.Second, "2", whatisup.MessageDelivered)
		tell(3*time.Second, "2", whatisup.MessageDelivered) // another device
		tell(10*time.Second, "2", whatisup.MessageRead)
		tell(11*time.Second, "9", whatisup.MessageRead) // was no member
		tell(20*time.Second, "3", whatisup.MessageDelivered)
		w.run(t, time.Minute)
		want := []string{"m queued→sent", "m sent→delivered", "m delivered→read", "m delivered by all"}
		if !slices.Equal(w.events, want) {
			t.Errorf("told %v", w.events)
		}
		if c := w.rows["m"].Recipients; c == nil || c.Total != 2 || c.Delivered != 2 || c.Read != 1 {
			t.Errorf("counts %+v", c)
		}
	})
}

// What may have been sent waits, after a login, for the receipts that WhatsApp kept: with
// one it is not sent again, without it is, as soon as all have come or after ten seconds.
func TestReceiptsComeBeforeASecondSend(t *testing.T) {
	for _, received := range []bool{true, false} {
		for _, told := range []bool{true, false} {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld()
				w.accept("m", "4915111111111")
				w.copies["m"] = waconv.JIDOf(whatisup.LIDAddress("94915111111111"))
				began := time.Now()
				w.began = func(o *Outbox) {
					time.Sleep(3 * time.Second)
					if w.mu.Lock(); len(w.sends) != 0 {
						t.Errorf("sent after %v", time.Since(began))
					}
					w.mu.Unlock()
					if received {
						if err := o.Receipt(t.Context(), Receipt{IDs: []whatisup.MessageID{"m"}, Status: whatisup.MessageDelivered, At: time.Now()}); err != nil {
							t.Error(err)
						}
					}
					if told {
						o.CaughtUp(t.Context())
					}
				}
				o := w.run(t, time.Minute)
				want, at := 1, 10*time.Second
				if received {
					want = 0
				}
				if told {
					at = 3 * time.Second
				}
				if w.sends["m"] != want || want > 0 && w.sentAt["m"].Sub(began).Round(time.Second) != at {
					t.Errorf("received %v, told %v: sent %d times, after %v", received, told, w.sends["m"], w.sentAt["m"].Sub(began))
				}
				if !o.Idle() {
					t.Error("something still waits")
				}
			})
		}
	}
}

// WhatsApp finds what is known of a group out of date: it is asked for again, and the
// message goes once more, under its id.
func TestAStaleGroup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.answer = func(_ whatisup.MessageID, n int) Outcome {
			if n == 1 {
				return Outcome{Refused: 421}
			}
			return Outcome{}
		}
		w.accept("m", "1@g.us")
		w.run(t, time.Minute)
		if w.status("m") != whatisup.MessageSent || w.sends["m"] != 2 || !slices.Contains(w.events, "forget") || w.rows["m"].MayHaveBeenSent {
			t.Errorf("%s after %d sends, %v", w.status("m"), w.sends["m"], w.events)
		}
	})
}
