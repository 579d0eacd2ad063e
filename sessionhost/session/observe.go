package session

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"time"

	"whatisup/shared/whatisup"
)

// reread reads the instance again and says whether something is wanted
// differently.
func (s *Session) reread(ctx context.Context) (changed bool, err error) {
	was := s.inst.Wanted
	deleted := !s.inst.DeletedAt.IsZero()
	var i *whatisup.Instance
	err = s.persist(ctx, func() error {
		i, err = s.kit.Store.Owned(ctx, s.ref)
		return err
	})
	if err != nil {
		return false, err
	}
	if err := s.ours(i); err != nil {
		return false, err
	}
	s.inst = i
	s.publish()
	w := &i.Wanted
	return w.Online != was.Online || w.Generation != was.Generation || w.UnlinkThrough != was.UnlinkThrough ||
		w.PairSerial != was.PairSerial || i.DeletedAt.IsZero() == deleted, nil
}

// ours refuses an instance that was read after another owner had adopted it: its
// epoch would let our writes pass.
func (s *Session) ours(i *whatisup.Instance) error {
	if i.Observed.Epoch != s.tenure.Epoch() {
		return whatisup.ErrFenced
	}
	return nil
}

// persist repeats do while the store is unavailable, as long as the session may
// live. The lease can't be renewed then either, so this is not for long.
func (s *Session) persist(ctx context.Context, do func() error) error {
	for n := 1; ; n++ {
		err := do()
		if !errors.Is(err, whatisup.ErrUnavailable) || ctx.Err() != nil {
			return err
		}
		s.log.Warn("store unavailable; trying again", "error", err.Error())
		if !Sleep(ctx, Backoff(min(n, 3), rand.Float64)) {
			return ctx.Err()
		}
	}
}

// observe stores a step that the network caused, with the event that tells of it
// if it is one that is shown, and with more events.
func (s *Session) observe(ctx context.Context, o whatisup.Observed, more ...whatisup.Event) error {
	return s.observeBy(ctx, whatisup.ByNetwork, o, more...)
}

// observeBy is observe for a step that somebody else caused.
func (s *Session) observeBy(ctx context.Context, by string, o whatisup.Observed, more ...whatisup.Event) error {
	was := s.inst.Observed
	now := time.Now()
	if was.Status == whatisup.Connected || o.Status == whatisup.Connected {
		o.LastSeenAt = now
	}
	step := o.Status != was.Status || o.Reason != was.Reason
	if step && !was.Status.MayBecome(o.Status, o.Reason) {
		// The table is the promise; whoever reads this has a bug to mend.
		s.log.Error("illegal step", "from", string(was.Status), "was", string(was.Reason), "to", string(o.Status), "reason", string(o.Reason))
	}

	events := more
	if s.inst.DeletedAt.IsZero() {
		if e, ok := s.eventOf(&was, &o, by, now); ok {
			events = append([]whatisup.Event{e}, more...)
		}
	}
	if err := s.persist(ctx, func() error { return s.kit.Store.Observe(ctx, s.inst, o, events...) }); err != nil {
		return err
	}

	s.publish()
	if step {
		s.log.Info("state", "status", string(o.Status), "reason", string(o.Reason), "was", string(was.Status),
			"request_id", string(s.inst.Wanted.RequestID))
	}
	if o.Reason == whatisup.Starting || o.Status == whatisup.Connecting {
		// Somebody waits for what comes next; the queues don't.
		if s.sendAt.IsZero() {
			s.sendAt = now.Add(sendSoon)
		}
		return nil
	}
	s.sendNow(ctx)
	return nil
}

// eventOf is the event that tells of a step, false if nobody is told.
func (s *Session) eventOf(was, is *whatisup.Observed, by string, now time.Time) (whatisup.Event, bool) {
	name, data, ok := whatisup.StepEvent(was, is, by, s.previous)
	if !ok {
		return whatisup.Event{}, false
	}
	e, err := s.event(name, now, data)
	if err != nil {
		s.log.Error("no event", "error", err.Error())
		return whatisup.Event{}, false
	}
	return e, true
}

// event is an event of the instance, as the result of the command that caused it.
func (s *Session) event(name whatisup.EventName, now time.Time, data any) (whatisup.Event, error) {
	e, err := whatisup.NewEvent(name, s.ref.Customer, s.ref.Mode, s.ref.ID, now, data)
	e.Command = s.inst.Wanted.Command(now)
	return e, err
}

// sendSoon is when the events of a step that leads to another are sent, if that
// has not been by then.
const sendSoon = time.Second

// sendWithin bounds one try to send events; it holds the session up.
const sendWithin = 3 * time.Second

// sendNow is send before its time, unless the queues were out of reach a moment
// ago.
func (s *Session) sendNow(ctx context.Context) {
	if s.sendFail == 0 {
		s.sendAt = time.Time{}
	}
	s.send(ctx)
}

// send takes the unsent events to the queues, in their order. What fails stays
// beside the rows and is tried again.
func (s *Session) send(ctx context.Context) {
	host, api := s.inst.Observed.Unsent, s.inst.Unsent
	if len(host) == 0 && len(api) == 0 || !s.tenure.Trusted() {
		s.sendAt = time.Time{}
		return
	}
	if time.Now().Before(s.sendAt) {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, sendWithin)
	defer cancel()
	err := s.kit.Events.Send(ctx, append(slices.Clone(api), host...)...)
	if err == nil && len(host) > 0 {
		err = s.kit.Store.HostSent(ctx, s.inst)
	}
	if err == nil && len(api) > 0 {
		if err = s.kit.Store.Sent(ctx, s.inst); err == nil {
			s.inst.Unsent = nil
		}
	}
	if err != nil {
		s.sendFail++
		s.sendAt = time.Now().Add(Backoff(min(s.sendFail+1, 6), rand.Float64))
		s.log.Warn("events not sent yet", "count", len(host)+len(api), "error", err.Error())
		return
	}
	for _, e := range append(slices.Clone(api), host...) {
		s.kit.Metrics.EventSent(time.Since(e.OccurredAt.Time))
	}
	s.sendAt, s.sendFail = time.Time{}, 0
}
