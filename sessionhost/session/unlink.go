package session

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"go.mau.fi/whatsmeow/types/events"

	"whatisup/shared/whatisup"
)

// removeWithin bounds the request to unlink on an open connection.
const removeWithin = 10 * time.Second

// giveUp unlinks and wipes a link that is given up, and stores that. l is the
// link's connection if it is logged in, else nil.
func (s *session) giveUp(ctx context.Context, l *line) error {
	if err := s.unlink(ctx, l, s.inst.Observed.Link); err != nil {
		return err
	}
	o := s.inst.Observed
	o.Status, o.Reason, o.PhoneNumber = whatisup.Pending, whatisup.LoggedOut, ""
	o.Link, o.Confirmed, o.NextRetryAt, o.QRExpiresAt = 0, false, time.Time{}, time.Time{}
	// What was wanted before the logout is over; what was wanted after it is
	// taken up by its own duty.
	through := whatisup.Generation(min(s.inst.Wanted.UnlinkThrough, whatisup.Link(s.inst.Wanted.Generation)))
	o.ObservedGeneration, o.DoneGeneration = max(o.ObservedGeneration, through), max(o.DoneGeneration, through)
	return s.observeBy(ctx, whatisup.ByAPI, o)
}

// giveUpDeleted is giveUp for an instance that was deleted while it was
// connected: the tombstone is finished by the duties, without another login.
func (s *session) giveUpDeleted(ctx context.Context, l *line) error {
	return s.unlink(ctx, l, s.inst.Observed.Link)
}

// unlink takes the link off WhatsApp, as far as that can be done in time, and
// wipes what is kept of it, in any case. The order is: nothing works with the
// auth state any more, then it is made unreadable.
func (s *session) unlink(ctx context.Context, l *line, link whatisup.Link) error {
	if l != nil {
		if err := remove(ctx, l); err != nil {
			s.log.Warn("device not unlinked at WhatsApp", "cause", redact(err))
		}
		l.end()
		l.settle()
	} else if err := s.unlinkAnew(ctx, link); err != nil {
		return err
	}
	s.device = nil
	s.down, s.moved, s.tries = time.Time{}, time.Time{}, 0
	return s.persist(ctx, func() error {
		err := s.auth.Wipe(ctx, link)
		if errors.Is(err, whatisup.ErrConflict) {
			return nil // another link's by now, which has duties of its own
		}
		return err
	})
}

// remove asks WhatsApp to unlink the device of an open connection.
func remove(ctx context.Context, l *line) error {
	ctx, cancel := context.WithTimeout(ctx, removeWithin)
	defer cancel()
	return l.client.unlink(ctx)
}

// unlinkAnew logs in to unlink, trying for a while. That it could not be done is
// no error: the wipe doesn't wait for WhatsApp.
func (s *session) unlinkAnew(ctx context.Context, link whatisup.Link) error {
	deadline := time.Now().Add(s.kit.Timing.Unlink)
	if s.device == nil {
		var d Device
		err := s.persist(ctx, func() (err error) {
			d, err = s.auth.Load(ctx)
			return err
		})
		switch {
		case errors.Is(err, whatisup.ErrNotFound) || err == nil && d.Link != link:
			return nil
		case errors.Is(err, whatisup.ErrFenced) || ctx.Err() != nil:
			return err
		case err != nil:
			s.log.Error("auth state unreadable; it is wiped without unlinking", "error", err.Error())
			return nil
		}
		s.device = d.Store
	}
	for n := 1; time.Now().Before(deadline); n++ {
		unlinked, err := s.tryUnlink(ctx, deadline)
		if err != nil || unlinked {
			return err
		}
		if s.auth.Err() != nil {
			return errAgain
		}
		if !sleep(ctx, min(backoff(n, rand.Float64), time.Until(deadline))) {
			return ctx.Err()
		}
	}
	s.log.Warn("device not unlinked at WhatsApp, which could not be reached; it is wiped")
	return nil
}

// tryUnlink is one login to unlink. True means that nothing more can be done.
func (s *session) tryUnlink(ctx context.Context, deadline time.Time) (bool, error) {
	place := s.kit.Budgets.place(interactive)
	timer := time.NewTimer(time.Until(deadline))
	defer timer.Stop()
	select {
	case place <- struct{}{}:
		defer func() { <-place }()
	case <-timer.C:
		return false, nil
	case <-ctx.Done():
		return false, ctx.Err()
	}
	l := s.open(s.device)
	defer l.settle()
	defer l.end()
	for {
		select {
		case <-ctx.Done():
			return false, ctx.Err()
		case <-timer.C:
			return false, nil
		case got := <-l.happened:
			switch got := got.(type) {
			case *events.Connected:
				if err := remove(ctx, l); err != nil {
					s.log.Info("unlinking failed", "cause", redact(err))
					return false, nil
				}
				return true, nil
			case *events.LoggedOut:
				return true, nil // it was unlinked before
			case *events.ClientOutdated, *events.TemporaryBan:
				return true, nil // no login within reach
			default:
				s.log.Info("no login to unlink", "cause", causeOf(got))
				return false, nil
			}
		}
	}
}

// bury does what is left of a deleted instance: unlink, wipe, send what its
// customer was not told yet, and take it out of the shard.
func (s *session) bury(ctx context.Context) error {
	d, err := Device{}, error(nil)
	if s.device == nil {
		err = s.persist(ctx, func() (err error) {
			d, err = s.auth.Load(ctx)
			return err
		})
	} else {
		d.Store, d.Link = s.device, s.inst.Observed.Link
	}
	switch {
	case errors.Is(err, whatisup.ErrNotFound):
	case errors.Is(err, whatisup.ErrFenced) || ctx.Err() != nil:
		return err
	case err != nil && s.auth.Err() != nil:
		return errAgain
	case err != nil:
		s.log.Error("auth state unreadable; it is wiped without unlinking", "error", err.Error())
		if err := s.persist(ctx, func() error { return s.auth.Wipe(ctx, s.inst.Observed.Link) }); err != nil {
			return err
		}
	default:
		s.device = d.Store
		if err := s.unlink(ctx, nil, d.Link); err != nil {
			return err
		}
	}
	for n := 1; ; n++ {
		s.sendAt = time.Time{}
		s.send(ctx)
		if len(s.inst.Unsent) == 0 && len(s.inst.Observed.Unsent) == 0 {
			if err := s.auth.Remove(ctx); err != nil {
				s.log.Warn("auth state not removed yet", "error", err.Error())
			} else if err := s.kit.Store.FinishDeleted(ctx, s.inst); err == nil {
				s.log.Info("deleted instance is unlinked and wiped")
				return nil
			} else if !errors.Is(err, whatisup.ErrConflict) && !errors.Is(err, whatisup.ErrUnavailable) {
				return err
			}
		}
		if !sleep(ctx, backoff(n, rand.Float64)) {
			return ctx.Err()
		}
	}
}
