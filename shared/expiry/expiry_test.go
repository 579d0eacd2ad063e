package expiry

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"

	"whatisup/local/aws/awstest"
	"whatisup/shared/dynamo"
	"whatisup/shared/whatisup"
)

// world is a table with one instance, whose shard one host owns, and a sweeper.
type world struct {
	*testing.T
	db    *dynamo.DB
	at    time.Time
	ref   whatisup.Ref
	host  whatisup.Host
	lease whatisup.Lease
	sweep Sweeper

	refuse error              // of the queue
	told   []whatisup.Event   // what the queue has
	store  func() (err error) // before a message is ended; nil: nothing happens
}

func (w *world) Send(_ context.Context, all ...whatisup.Event) error {
	if w.refuse == nil {
		w.told = append(w.told, all...)
	}
	return w.refuse
}

// meddling is the store where something happens between what is read and what is written.
type meddling struct {
	*dynamo.DB
	w *world
}

func (m meddling) EndUnowned(ctx context.Context, r whatisup.Ref, seen whatisup.Silence, steps map[whatisup.MessageID]whatisup.Step) error {
	if m.w.store != nil {
		if err := m.w.store(); err != nil {
			return err
		}
	}
	return m.DB.EndUnowned(ctx, r, seen, steps)
}

func newWorld(t *testing.T) *world {
	t.Helper()
	client := dynamodb.NewFromConfig(awstest.Start(t).Config)
	if err := dynamo.Local().Create(t.Context(), client); err != nil {
		t.Fatal(err)
	}
	w := &world{T: t, at: time.Now().UTC().Truncate(time.Millisecond)}
	clock := func() time.Time { return w.at }
	w.db = dynamo.New(dynamo.Config{Client: client, Tables: dynamo.Local(), Queues: true, Clock: dynamo.NewClock(clock)})
	w.sweep = Sweeper{Store: meddling{w.db, w}, Events: w, Log: slog.New(slog.DiscardHandler), Now: clock}
	w.ref = whatisup.Ref{Customer: whatisup.NewCustomerID(), Mode: whatisup.Test, ID: whatisup.NewInstanceID()}
	cfg := whatisup.Config{Customer: w.ref.Customer, Mode: w.ref.Mode, ID: w.ref.ID, Name: "line", UpdatedAt: w.at}
	e, err := whatisup.NewEvent(whatisup.InstanceCreated, cfg.Customer, cfg.Mode, cfg.ID, w.at, map[string]any{})
	w.must(err)
	w.must(w.db.CreateInstance(t.Context(), cfg, whatisup.Created{Event: e}))
	w.host = whatisup.Host{ID: "one", Incarnation: "a", Counter: 1}
	w.must(w.db.Join(t.Context(), w.ref.Mode, w.host))
	w.lease, err = w.db.ClaimLease(t.Context(), w.ref.Mode, whatisup.Lease{Shard: w.db.ShardOf(w.ref.ID)}, whatisup.Host{}, "one")
	w.must(err)
	return w
}

func (w *world) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

// beat is a sign of life of the owner.
func (w *world) beat() {
	w.Helper()
	w.host.Counter++
	w.must(w.db.Beat(w.Context(), w.ref.Mode, w.host))
}

func (w *world) accept(status whatisup.MessageStatus, due time.Time, expires time.Duration) *whatisup.Message {
	w.Helper()
	to := whatisup.NumberAddress("5511912345678")
	m := &whatisup.Message{
		Ref: w.ref, ID: whatisup.NewMessageID(), Direction: whatisup.Outgoing, To: to, Chat: to, ChatType: whatisup.ChatDirect,
		Raw: json.RawMessage(`{"type":"text","text":"Hi"}`), Link: 1, Status: status, StatusAt: w.at,
		DueAt: due, ExpiresAt: due.Add(expires), Times: whatisup.MessageTimes{Created: w.at},
	}
	old, err := w.db.AcceptMessage(w.Context(), m)
	if old != nil || err != nil {
		w.Fatal(old, err)
	}
	return m
}

func (w *world) is(m *whatisup.Message, status whatisup.MessageStatus, may bool) {
	w.Helper()
	got, err := w.db.Message(w.Context(), w.ref, m.ID)
	w.must(err)
	if got.Status != status || got.MayHaveBeenSent != may {
		w.Errorf("%s, may have been sent: %v; want %s, %v", got.Status, got.MayHaveBeenSent, status, may)
	}
}

func TestMessagesExpireWithoutAHost(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	before := w.accept(whatisup.MessageQueued, w.at, time.Minute)
	planned := w.accept(whatisup.MessageScheduled, w.at.Add(10*time.Minute), time.Minute)
	later := w.accept(whatisup.MessageScheduled, w.at.Add(24*time.Hour), time.Hour)

	w.at = w.at.Add(SilentFor + time.Second)
	w.beat()
	w.must(w.sweep.Sweep(t.Context()))
	w.is(before, whatisup.MessageQueued, false) // its host is there, and decides

	w.at = w.at.Add(3 * time.Minute)
	after := w.accept(whatisup.MessageQueued, w.at, time.Minute)
	w.at = w.at.Add(time.Minute)
	w.refuse = errors.New("the queue is away")
	if err := w.sweep.Sweep(t.Context()); !errors.Is(err, w.refuse) {
		t.Errorf("a queue that takes nothing: %v", err)
	}
	w.is(before, whatisup.MessageQueued, false)
	w.refuse = nil
	w.must(w.sweep.Sweep(t.Context()))
	w.is(before, whatisup.MessageExpired, true)
	w.is(after, whatisup.MessageExpired, false)
	w.is(planned, whatisup.MessageScheduled, false)
	w.is(later, whatisup.MessageScheduled, false)

	w.at = w.at.Add(10 * time.Minute)
	w.must(w.sweep.Sweep(t.Context()))
	w.is(planned, whatisup.MessageExpired, false)
	w.is(later, whatisup.MessageScheduled, false)
	w.must(w.sweep.Sweep(t.Context()))
	if len(w.told) != 3 {
		t.Fatalf("%d events of 3 messages", len(w.told))
	}
	logged := 0
	for l, err := range w.db.EventsAfter(t.Context(), w.ref.Customer, w.ref.Mode, "0", 10) {
		w.must(err)
		if l.Name == whatisup.MessageStatusChanged {
			logged++
		}
	}
	if logged != 3 {
		t.Errorf("%d of 3 events in the log", logged)
	}
	hours, err := w.db.Usage(t.Context(), whatisup.UsageOf{Customer: w.ref.Customer, Mode: w.ref.Mode}, w.at.Add(-time.Hour), w.at)
	w.must(err)
	failed := 0
	for _, h := range hours {
		failed += h.Failed
	}
	if failed != 3 {
		t.Errorf("%d of 3 counted as failed", failed)
	}

	// What was on its way when the host died corrects it.
	m, _, err := w.db.StepMessage(t.Context(), w.ref, before.ID, whatisup.Step{Status: whatisup.MessageDelivered, At: w.at})
	if err != nil || m.Status != whatisup.MessageDelivered || m.MayHaveBeenSent {
		t.Errorf("a receipt: %+v, %v", m, err)
	}
}

// Whoever acts for the shard again keeps the sweep from writing, at the last moment too.
func TestAHostThatComesDecides(t *testing.T) {
	t.Parallel()
	for name, comes := range map[string]func(w *world) error{
		"the owner beats": func(w *world) error {
			w.host.Counter++
			return w.db.Beat(w.Context(), w.ref.Mode, w.host)
		},
		"the owner begins anew": func(w *world) error {
			return w.db.Join(w.Context(), w.ref.Mode, whatisup.Host{ID: "one", Incarnation: "b", Counter: 1})
		},
		"another adopts it": func(w *world) error {
			_, err := w.db.ClaimLease(w.Context(), w.ref.Mode, w.lease, w.host, "two")
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			m := w.accept(whatisup.MessageQueued, w.at, time.Minute)
			w.at = w.at.Add(SilentFor + time.Minute)
			w.store = func() error { return comes(w) }
			w.must(w.sweep.Sweep(t.Context()))
			w.is(m, whatisup.MessageQueued, false)
		})
	}
}

// A shard that was given up and that nobody took is silent, too; one message that has
// moved on by itself holds up no other.
func TestAShardThatWasGivenUp(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.must(w.db.ReleaseLease(t.Context(), w.ref.Mode, w.lease))
	w.must(w.db.Leave(t.Context(), w.ref.Mode, w.host))
	gone, m := w.accept(whatisup.MessageQueued, w.at, time.Minute), w.accept(whatisup.MessageQueued, w.at, time.Minute)
	w.at = w.at.Add(SilentFor + time.Minute)
	once := true
	w.store = func() error {
		if !once {
			return nil
		}
		once = false
		_, _, err := w.db.StepMessage(t.Context(), w.ref, gone.ID, whatisup.Step{Status: whatisup.MessageSent, At: w.at})
		return err
	}
	w.must(w.sweep.Sweep(t.Context()))
	w.is(gone, whatisup.MessageSent, false)
	w.is(m, whatisup.MessageExpired, true)
}
