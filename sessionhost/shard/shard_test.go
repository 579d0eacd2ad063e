package shard

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"whatisup/sessionhost/session"
	"whatisup/shared/whatisup"
)

// again runs the shard anew under its present owner, with what change makes of
// the kit, until the test ends.
func (w *world) again(inbox Inbox, change func(*Kit)) *Shard {
	o := w.host
	o.stop()
	<-o.done
	change(o.kit)
	s := New(o.kit, inbox, o)
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.Run(ctx)
	}()
	w.t.Cleanup(func() {
		stop()
		<-done
		o.lose()
		o.kit.Background.Wait()
	})
	synctest.Wait()
	return s
}

func refs(n int) []whatisup.Ref {
	all := make([]whatisup.Ref, n)
	for i := range all {
		all[i] = refTo(whatisup.NewInstanceID())
	}
	return all
}

// A session that has failed again and again begins at once when it is woken.
func TestWokenWhileBackingOff(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorldOf(t, 1)
		w.claim()
		s := w.again(noMail{}, func(*Kit) {})
		id := w.create()
		w.storeDown = time.Now().Add(time.Hour)
		s.Wake(refTo(id))
		time.Sleep(time.Hour)
		synctest.Wait()
		s.Wake(refTo(id))
		synctest.Wait()
		w.mu.Lock()
		defer w.mu.Unlock()
		if got := w.live[id].Observed.Epoch; got != w.epoch {
			t.Errorf("the instance has epoch %d, not %d", got, w.epoch)
		}
	})
}

// slowly takes its time to adopt.
type slowly struct {
	session.Store
	takes    time.Duration
	adopting atomic.Int64
	begun    sync.Map // of the instances whose adoption has begun
}

func (s *slowly) has(r whatisup.Ref) bool {
	_, ok := s.begun.Load(r.ID)
	return ok
}

func (s *slowly) Adopt(_ context.Context, r whatisup.Ref, _ whatisup.Epoch) (*whatisup.Instance, error) {
	s.adopting.Add(1)
	defer s.adopting.Add(-1)
	s.begun.Store(r.ID, true)
	time.Sleep(s.takes)
	return nil, whatisup.ErrNotFound
}

type herd []whatisup.Ref

func (herd) FetchingMedia(context.Context, whatisup.Mode, whatisup.Shard) ([]whatisup.MediaWork, error) {
	return nil, nil
}

func (herd) WaitingInstances(context.Context, whatisup.Mode, whatisup.Shard) ([]whatisup.Ref, error) {
	return nil, nil
}

func (h herd) ShardInstances(context.Context, whatisup.Mode, whatisup.Shard) ([]whatisup.Hint, error) {
	hints := make([]whatisup.Hint, len(h))
	for i, r := range h {
		hints[i] = whatisup.Hint{Ref: r, Online: true, Generation: 1, ObservedGeneration: 1, DoneGeneration: 1, Link: 1}
	}
	return hints, nil
}

// Of a claimed shard a few sessions are adopted at a time; one that somebody
// waits for is not behind the others, whether it is one of them or not.
func TestAskedForOvertakes(t *testing.T) {
	t.Parallel()
	for _, of := range []string{"the herd", "nobody"} {
		t.Run(of, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				all := refs(200)
				w := newWorldOf(t, 1)
				w.claim()
				store := &slowly{Store: w, takes: time.Second}
				s := w.again(noMail{}, func(k *Kit) { k.Store, k.Shards = store, herd(all) })
				if n := store.adopting.Load(); n != session.Adoptions {
					t.Errorf("%d are adopted at a time, not %d", n, session.Adoptions)
				}
				who := refs(1)[0]
				if of == "the herd" {
					who = all[slices.IndexFunc(all, func(r whatisup.Ref) bool { return !store.has(r) })]
				}
				s.Wake(who)
				synctest.Wait()
				if !store.has(who) {
					t.Error("what somebody waits for stands behind the others")
				}
				time.Sleep(time.Minute)
			})
		})
	}
}

// mail hands out what it was given once, and then nothing.
type mail struct{ messages chan []Message }

func (m mail) Poll(ctx context.Context, _ whatisup.Mode, _ whatisup.Shard, wait time.Duration) ([]Message, error) {
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case got := <-m.messages:
		return got, nil
	case <-t.C:
		return nil, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// stuck keeps no result until it is told to.
type stuck struct {
	free chan struct{}
	busy atomic.Int64
}

func (s *stuck) PutResult(ctx context.Context, _ whatisup.Result) error {
	s.busy.Add(1)
	defer s.busy.Add(-1)
	select {
	case <-s.free:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Commands that take long don't hold up those of others: wake-ups are acted on
// at once, and what waits for its turn stays hidden meanwhile.
func TestWorkHoldsUpNoWakeUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorldOf(t, 1)
		w.claim()
		box, results := mail{make(chan []Message, 10)}, &stuck{free: make(chan struct{})}
		who := refs(1)[0]
		store := &slowly{Store: w}
		var deleted, extended atomic.Int64
		w.again(box, func(k *Kit) { k.Store, k.Results = store, results })
		of := func(r whatisup.Ref, k whatisup.CommandKind) Message {
			r.Customer = whatisup.NewCustomerID() // one alone does not get all work slots
			return Message{
				Command: whatisup.Command{
					ID: whatisup.NewCommandID(), Kind: k, Customer: r.Customer, Mode: r.Mode, Instance: r.ID,
					SentAt: whatisup.At(time.Now()),
				},
				SentAt:  time.Now(),
				Delete:  func(context.Context) error { deleted.Add(1); return nil },
				Extend:  func(context.Context) error { extended.Add(1); return nil },
				Release: func(context.Context) error { return nil },
			}
		}
		const commands = 3 * workSlots
		for _, r := range refs(commands) {
			box.messages <- []Message{of(r, whatisup.SandboxMessage)}
			synctest.Wait()
		}
		if n := results.busy.Load(); n != workSlots {
			t.Errorf("%d commands are worked on at a time, not %d", n, workSlots)
		}
		box.messages <- []Message{of(who, whatisup.Wake)}
		synctest.Wait()
		if !store.has(who) {
			t.Error("a wake-up waits for the commands of others")
		}
		time.Sleep(7 * time.Second)
		if n := extended.Load(); n < commands {
			t.Errorf("%d of %d commands were kept hidden", n, commands)
		}
		close(results.free)
		synctest.Wait()
		if n := deleted.Load(); n != commands+1 {
			t.Errorf("%d messages are off the queue, not %d", n, commands+1)
		}
	})
}
