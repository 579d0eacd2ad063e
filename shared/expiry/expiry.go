// Package expiry ends messages that have expired while no session host acts for their
// instance.
//
// As long as a host lives, it alone decides what becomes of a message that waits: it
// knows what may have left. Where the shard's owner has been silent for [SilentFor],
// nobody would say that a message's time is over, and a customer who counts on it would
// wait for a host. So [Sweeper.Sweep] does, and only that: it sends nothing, schedules
// nothing, and wakes nobody, for a host that comes reads what waits by itself.
//
// What it writes is a transaction with the shard's epoch and the owner's last beat as
// they were read. A host that comes back, or another that adopts the shard, makes it
// fail; a host that was only frozen finds its lease lost, and an acknowledgement or a
// receipt that was on its way corrects what was written here.
//
// What may have left it can't know exactly, because the copies of what was sent belong
// to the link's sealed state. So it says may_have_been_sent of each message that was due
// while the owner lived, as far as two clocks can tell, and of each that was tried
// before.
//
// An event goes to the queues first, then to the log, then the row is written: a death
// in between repeats the event under its id and never omits it. While a queue takes
// nothing, the message stays as it is, and the next run tries again.
package expiry

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"

	"whatisup/shared/whatisup"
)

const (
	// SilentFor is how long a shard's owner gives no sign of life before its messages
	// expire without it.
	SilentFor = 2 * time.Minute
	// clocksApart is how far the times that two machines write may differ.
	clocksApart = 90 * time.Second
	// runMost is how many messages one run ends, and endMost how many one transaction.
	runMost = 1000
	endMost = 25
)

// Store is what is read and written. Errors are those of package whatisup.
type Store interface {
	// Silences are the shards that nobody has acted for since before.
	Silences(ctx context.Context, m whatisup.Mode, before time.Time) ([]whatisup.Silence, error)
	WaitingInstances(ctx context.Context, m whatisup.Mode, s whatisup.Shard) ([]whatisup.Ref, error)
	// Line reads the messages that wait, in order, consistently.
	Line(ctx context.Context, r whatisup.Ref, since time.Time, most int) ([]*whatisup.Message, error)
	// Instance answers ErrNotFound for one that is deleted.
	Instance(context.Context, whatisup.CustomerID, whatisup.Mode, whatisup.InstanceID) (*whatisup.Instance, error)
	PutEvent(context.Context, whatisup.Event) error
	// EndUnowned writes all steps or none: ErrFenced if somebody has acted for the shard
	// since, ErrConflict if one of the messages waits no more.
	EndUnowned(ctx context.Context, r whatisup.Ref, seen whatisup.Silence, steps map[whatisup.MessageID]whatisup.Step) error
	AddUsage(ctx context.Context, of whatisup.UsageOf, hour time.Time, u whatisup.Usage, writer string, serial int64) error
}

// Events sends to every event queue: nil once all of them have all events.
type Events interface {
	Send(context.Context, ...whatisup.Event) error
}

// Sweeper ends messages. Its fields are set once, before it is used.
type Sweeper struct {
	Store  Store
	Events Events
	Log    *slog.Logger
	Now    func() time.Time // nil: time.Now
}

func (s *Sweeper) now() time.Time {
	if s.Now == nil {
		return time.Now()
	}
	return s.Now()
}

// Sweep ends what has expired in shards that nobody acts for, in both modes, at most
// runMost messages. What fails keeps nothing else from its turn; its errors are joined.
func (s *Sweeper) Sweep(ctx context.Context) error {
	var problems error
	left := runMost
	for _, mode := range []whatisup.Mode{whatisup.Live, whatisup.Test} {
		silent, err := s.Store.Silences(ctx, mode, s.now().Add(-SilentFor))
		if err != nil {
			problems = errors.Join(problems, err)
			continue
		}
		// In any order: one that takes the whole run does so once only.
		rand.Shuffle(len(silent), func(i, j int) { silent[i], silent[j] = silent[j], silent[i] })
		for _, silence := range silent {
			refs, err := s.Store.WaitingInstances(ctx, mode, silence.Lease.Shard)
			problems = errors.Join(problems, err)
			rand.Shuffle(len(refs), func(i, j int) { refs[i], refs[j] = refs[j], refs[i] })
			for _, ref := range refs {
				if left <= 0 || ctx.Err() != nil {
					return problems // the next run goes on
				}
				n, err := s.instance(ctx, ref, silence, left)
				left -= n
				if errors.Is(err, whatisup.ErrFenced) {
					break // the shard has an owner again
				}
				if err != nil {
					problems = errors.Join(problems, fmt.Errorf("instance %s: %w", ref.ID, err))
				}
			}
		}
	}
	return problems
}

// instance ends what has expired of one instance, at most so many, and says how many.
func (s *Sweeper) instance(ctx context.Context, ref whatisup.Ref, silence whatisup.Silence, most int) (ended int, err error) {
	line, err := s.Store.Line(ctx, ref, time.Time{}, whatisup.WaitingMost)
	if err != nil {
		return 0, err
	}
	now := s.now()
	var over []*whatisup.Message
	for _, m := range line {
		if !now.Before(m.ExpiresAt) && len(over) < most {
			over = append(over, m)
		}
	}
	if len(over) == 0 {
		return 0, nil
	}
	if _, err := s.Store.Instance(ctx, ref.Customer, ref.Mode, ref.ID); errors.Is(err, whatisup.ErrNotFound) {
		return 0, nil // it is being deleted: nothing is told of it any more, and its host wipes it
	} else if err != nil {
		return 0, err
	}
	for len(over) > 0 {
		some := over[:min(endMost, len(over))]
		over = over[len(some):]
		n, err := s.end(ctx, ref, silence, some, now)
		if ended += n; err != nil {
			return ended, err
		}
	}
	s.Log.Info("messages have expired while no session host acts for their instance",
		"instance_id", string(ref.ID), "shard", int(silence.Lease.Shard), "messages", ended)
	return ended, nil
}

// end ends messages of one instance, each told before.
func (s *Sweeper) end(ctx context.Context, ref whatisup.Ref, silence whatisup.Silence, over []*whatisup.Message, now time.Time) (int, error) {
	steps := make(map[whatisup.MessageID]whatisup.Step, len(over))
	told := make([]whatisup.Event, 0, len(over))
	for _, m := range over {
		step := whatisup.Step{Status: whatisup.MessageExpired, At: now, MayHaveBeenSent: mayHaveLeft(m, silence)}
		then, previous := *m, m.Status
		then.Take(step)
		e, err := whatisup.StatusEvent(&then, previous, "", now)
		if err != nil {
			return 0, err
		}
		steps[m.ID], told = step, append(told, e)
	}
	if err := s.Events.Send(ctx, told...); err != nil {
		return 0, err
	}
	for _, e := range told {
		if err := s.Store.PutEvent(ctx, e); err != nil {
			return 0, err
		}
	}
	err := s.Store.EndUnowned(ctx, ref, silence, steps)
	if errors.Is(err, whatisup.ErrConflict) && len(steps) > 1 {
		// One of them has moved on by itself: the others don't wait for it.
		n := 0
		for id, step := range steps {
			err := s.Store.EndUnowned(ctx, ref, silence, map[whatisup.MessageID]whatisup.Step{id: step})
			if err == nil {
				n++
			} else if !errors.Is(err, whatisup.ErrConflict) {
				return n, err
			}
		}
		s.count(ctx, ref, n)
		return n, nil
	}
	if errors.Is(err, whatisup.ErrConflict) {
		return 0, nil
	} else if err != nil {
		return 0, err
	}
	s.count(ctx, ref, len(steps))
	return len(steps), nil
}

// mayHaveLeft says whether the silent owner may have sent a message: one that was tried
// before, or that was its to send while it lived.
func mayHaveLeft(m *whatisup.Message, silence whatisup.Silence) bool {
	return m.Attempts > 0 || m.MayHaveBeenSent ||
		m.Status == whatisup.MessageQueued && m.DueAt.Before(silence.Seen.Add(clocksApart))
}

// count adds to what customer and instance have used. It is a picture and no bill: what
// fails is left out.
func (s *Sweeper) count(ctx context.Context, ref whatisup.Ref, n int) {
	if n == 0 {
		return
	}
	for _, instance := range []whatisup.InstanceID{"", ref.ID} {
		of := whatisup.UsageOf{Customer: ref.Customer, Mode: ref.Mode, Instance: instance}
		if err := s.Store.AddUsage(ctx, of, s.now().Truncate(time.Hour), whatisup.Usage{Failed: n}, "", 0); err != nil {
			s.Log.Warn("expired messages are not counted", "error", err)
		}
	}
}
