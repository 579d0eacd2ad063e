package session

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"whatisup/shared/whatisup"
)

// reread reads the instance again and says whether something is wanted
// differently.
func (s *Session) reread(ctx context.Context) (changed bool, err error) {
	was, online := s.inst.Wanted, s.inst.Settings.Online
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
	if l := s.line.Load(); l != nil && s.up != nil && i.Settings.Online != online {
		l.SayPresence()
	}
	if i.Unsent.From != "" && s.sendAt.IsZero() {
		s.sendAt = s.kit.Now().Add(s.untilAPIs())
	}
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
	now := s.kit.Now()
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

	s.pending = append(s.pending, events...)
	s.publish()
	if step {
		s.log.Info("state", "status", string(o.Status), "reason", string(o.Reason), "was", string(was.Status),
			"request_id", s.inst.Wanted.RequestID.ForLog())
	}
	switch {
	case o.Status == whatisup.QR:
		// A call waits for the code, which is stored next; the queues come after it.
		if s.sendFail == 0 {
			s.sendAt = now
		}
		return nil
	case o.Reason == whatisup.Starting || o.Status == whatisup.Connecting:
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
const sendWithin = 5 * time.Second

// sendNow is send before its time, unless the marks could not be written a moment
// ago.
func (s *Session) sendNow(ctx context.Context) {
	if s.sendFail == 0 {
		s.sendAt = time.Time{}
	}
	s.send(ctx)
}

// send takes the unsent events to the queues, or notes what the queues lack, and
// removes the marks of what is unsent.
func (s *Session) send(ctx context.Context) {
	if !s.tenure.Trusted() || s.kit.Now().Before(s.sendAt) {
		return
	}
	s.sendAt = time.Time{}
	ctx, cancel := context.WithTimeout(ctx, sendWithin)
	defer cancel()
	err := s.sendOwn(ctx)
	if err == nil {
		err = s.sendAPIs(ctx)
	}
	if err != nil {
		s.sendFail++
		s.sendAt = s.kit.Now().Add(Backoff(min(s.sendFail+1, 6), rand.Float64))
		s.log.Warn("events not sent yet", "error", err.Error())
		return
	}
	s.sendFail = 0
}

// sendOwn sends what this run has committed. What an earlier one has left is owed
// to every queue from its mark on.
func (s *Session) sendOwn(ctx context.Context) error {
	from := s.inst.Observed.Unsent.From
	if from == "" {
		s.pending = nil // no queues, or another run's
		return nil
	}
	var err error
	if len(s.pending) > 0 && whatisup.MarkOf(&s.pending[0]) == from {
		err = s.account.Send(ctx, from, s.pending...)
	} else {
		err = s.account.Owe(ctx, from)
	}
	if err == nil {
		err = s.kit.Store.HostSent(ctx, s.inst)
	}
	if err == nil {
		s.pending = nil
	}
	return err
}

// sendAPIs takes over what the API has left unsent, once it has had its time.
func (s *Session) sendAPIs(ctx context.Context) error {
	u := s.inst.Unsent
	if u.From == "" {
		return nil
	}
	if left := s.untilAPIs(); left > 0 {
		s.sendAt = s.kit.Now().Add(left)
		return nil
	}
	if err := s.account.Owe(ctx, u.From); err != nil {
		return err
	}
	if err := s.kit.Store.Sent(ctx, s.inst); err != nil {
		return err
	}
	s.inst.Unsent = whatisup.Unsent{}
	return nil
}

// untilAPIs is how long the API still has to send what it has marked. The clocks
// of two machines are compared here, so it is never longer than the whole time.
func (s *Session) untilAPIs() time.Duration {
	return max(min(s.inst.Unsent.At.Add(whatisup.UnsentAfter).Sub(s.kit.Now()), whatisup.UnsentAfter), 0)
}

// owe stores what the queues lack. The courier calls it, on goroutines of its own.
func (s *Session) owe(ctx context.Context, owed map[string]whatisup.Position) error {
	if !s.tenure.Trusted() {
		return errFenced
	}
	return s.kit.Store.Owe(ctx, s.ref, s.tenure.Epoch(), owed)
}
