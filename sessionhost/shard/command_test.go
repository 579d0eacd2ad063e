package shard

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"whatisup/sessionhost/line"
	"whatisup/sessionhost/session"
	"whatisup/shared/whatisup"
)

// outcomes keeps the results of commands.
type outcomes struct {
	mu  sync.Mutex
	all map[whatisup.CommandID]whatisup.Result
}

func (o *outcomes) PutResult(_ context.Context, r whatisup.Result) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.all[r.Command] = r
	return nil
}

func (o *outcomes) of(c whatisup.Command) (whatisup.Result, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	r, ok := o.all[c.ID]
	return r, ok
}

func command(r whatisup.Ref, k whatisup.CommandKind, within time.Duration) whatisup.Command {
	now := time.Now()
	return whatisup.Command{
		ID: whatisup.NewCommandID(), Kind: k, Customer: r.Customer, Mode: r.Mode, Instance: r.ID,
		SentAt: whatisup.At(now), ExpiresAt: whatisup.At(now.Add(within)),
	}
}

func message(c whatisup.Command) Message {
	nothing := func(context.Context) error { return nil }
	return Message{Command: c, SentAt: time.Now(), Delete: nothing, Extend: nothing, Release: nothing}
}

// connectedTo makes an instance whose phone is linked and connected.
func (w *world) connectedTo() whatisup.InstanceID {
	id := w.create()
	w.want(id, false, func(i *whatisup.Instance) (whatisup.Wanted, bool) { return i.WantAttempt(time.Now(), "") })
	time.Sleep(time.Second)
	w.scan(id, "4912345")
	time.Sleep(5 * time.Second)
	synctest.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	if got := w.live[id].Observed.Status; got != whatisup.Connected {
		w.t.Fatalf("the instance is %s", got)
	}
	return id
}

const ofTests whatisup.CommandKind = "of.tests"

// A command that is no simulated phone's reaches the instance's session, is run on
// its open connection, and is answered in a result row, also where it is refused.
func TestCommandReachesItsSession(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorldOf(t, 1)
		w.claim()
		box, results := mail{make(chan []Message, 10)}, &outcomes{all: make(map[whatisup.CommandID]whatisup.Result)}
		var running atomic.Int64
		s := w.again(box, func(k *Kit) {
			k.Results = results
			k.Performers = map[whatisup.CommandKind]session.Performer{
				ofTests: func(ctx context.Context, l session.Line, c *whatisup.Command) (whatisup.Result, error) {
					running.Add(1)
					defer running.Add(-1)
					if string(c.Args) == `"slow"` {
						<-ctx.Done()
						return whatisup.Result{}, ctx.Err()
					}
					if string(c.Args) == `"no"` {
						return whatisup.Result{}, whatisup.NewError(whatisup.CodeInvalidTransition, "not now")
					}
					return whatisup.Result{MessageID: string(l.(*fakeLine).o.Ref.ID)}, nil
				},
			}
		})
		w.host.shard = s
		id := w.connectedTo()

		done, refused := command(refTo(id), ofTests, 10*time.Second), command(refTo(id), ofTests, 10*time.Second)
		refused.Args = []byte(`"no"`)
		unknown := command(refTo(id), "nobody.knows", 10*time.Second)
		box.messages <- []Message{message(done), message(refused), message(unknown)}
		synctest.Wait()
		if r, ok := results.of(done); !ok || r.Error != "" || r.MessageID != string(id) {
			t.Errorf("done: %+v, %v", r, ok)
		}
		if r, ok := results.of(refused); !ok || r.Error != whatisup.CodeInvalidTransition || r.Message != "not now" {
			t.Errorf("refused: %+v, %v", r, ok)
		}
		if r, ok := results.of(unknown); !ok || r.Error != whatisup.CodeInvalidRequest {
			t.Errorf("a kind that nobody runs: %+v, %v", r, ok)
		}

		// What takes long holds up nothing that the line tells, and ends with the
		// connection.
		slow := command(refTo(id), ofTests, time.Hour)
		slow.Args = []byte(`"slow"`)
		box.messages <- []Message{message(slow)}
		synctest.Wait()
		if running.Load() != 1 {
			t.Fatal("the slow command is not running")
		}
		w.misbehave(id, "restart", 0)
		time.Sleep(time.Second)
		synctest.Wait()
		if running.Load() != 0 {
			t.Error("a command outlives its connection")
		}

		// An instance that is not connected says so at once.
		idle := command(refTo(w.create()), ofTests, 10*time.Second)
		box.messages <- []Message{message(idle)}
		synctest.Wait()
		if r, ok := results.of(idle); !ok || r.Error != whatisup.CodeNotConnected {
			t.Errorf("without a link: %+v, %v", r, ok)
		}
	})
}

// Every kind of command but the wake-up reaches somebody who runs it: a carrier
// here, or a performer of the session.
func TestEveryCommandHasACarrier(t *testing.T) {
	t.Parallel()
	for _, k := range whatisup.CommandKinds {
		if c := (whatisup.Command{Kind: k}); c.HasWork() && carriers[k] == nil && !slices.Contains(whatisup.Asks, k) {
			t.Errorf("nobody runs %s", k)
		}
	}
	for k := range carriers {
		if !slices.Contains(whatisup.CommandKinds, k) {
			t.Errorf("%s is no command", k)
		}
	}
}

// A connected session that is told what belongs to no connection of a link goes on.
func TestConnectedSessionHearsTheUnexpected(t *testing.T) {
	t.Parallel()
	for _, e := range []line.Event{
		line.Codes{Texts: []string{"a"}}, line.PairCode{}, line.Linked{}, line.ScanFailed{}, line.PasskeyAsked{}, line.Up{}, line.CaughtUp{},
	} {
		t.Run(fmt.Sprintf("%T", e), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorldOf(t, 1)
				w.claim()
				w.host.shard = w.again(noMail{}, func(*Kit) {})
				id := w.connectedTo()
				w.mu.Lock()
				_, l := w.connection(id)
				w.mu.Unlock()
				l.tell(e)
				time.Sleep(time.Minute)
				w.mu.Lock()
				defer w.mu.Unlock()
				if _, is := w.connection(id); is != l || w.live[id].Observed.Status != whatisup.Connected {
					t.Errorf("%T ended the connection: %s", e, w.live[id].Observed.Status)
				}
			})
		})
	}
}

// A command that expires while it waits for a slot is dropped without one.
func TestExpiredWhileWaiting(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorldOf(t, 1)
		w.claim()
		box, results := mail{make(chan []Message, 100)}, &stuck{free: make(chan struct{})}
		w.again(box, func(k *Kit) { k.Results = results })
		for range slotsEach {
			box.messages <- []Message{message(command(refs(1)[0], whatisup.SandboxFault, time.Minute))}
		}
		synctest.Wait()
		var deleted atomic.Int64
		m := message(command(refs(1)[0], whatisup.SandboxFault, 5*time.Second))
		m.Delete = func(context.Context) error { deleted.Add(1); return nil }
		box.messages <- []Message{m}
		time.Sleep(4 * time.Second)
		synctest.Wait()
		if deleted.Load() != 0 || results.busy.Load() != slotsEach {
			t.Errorf("%d at work, %d off the queue", results.busy.Load(), deleted.Load())
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if deleted.Load() != 1 || results.busy.Load() != slotsEach {
			t.Errorf("after its time: %d at work, %d off the queue", results.busy.Load(), deleted.Load())
		}
		close(results.free)
		synctest.Wait()
	})
}

// A command whose result can't be stored comes again.
func TestResultNotStored(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorldOf(t, 1)
		w.claim()
		box := mail{make(chan []Message, 1)}
		w.again(box, func(k *Kit) { k.Results = failing{} })
		m := message(command(refs(1)[0], whatisup.SandboxFault, time.Minute))
		var deleted atomic.Int64
		m.Delete = func(context.Context) error { deleted.Add(1); return nil }
		box.messages <- []Message{m}
		time.Sleep(time.Second)
		synctest.Wait()
		if deleted.Load() != 0 {
			t.Error("the message is off the queue")
		}
	})
}

type failing struct{}

func (failing) PutResult(context.Context, whatisup.Result) error { return errors.New("no table") }
