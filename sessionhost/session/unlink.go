package session

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"whatisup/sessionhost/line"
	"whatisup/shared/whatisup"
)

// giveUp unlinks and wipes a link that is given up, and stores that. l is the
// link's connection if it is logged in, else nil.
func (s *Session) giveUp(ctx context.Context, l *connection) error {
	if err := s.unlink(ctx, l, s.inst.Observed.Link); err != nil {
		return err
	}
	o := s.inst.Observed.Unlinked(s.inst.Wanted.GivenUpThrough())
	return s.observeBy(ctx, whatisup.ByAPI, o)
}

// unlink takes the link off WhatsApp, as far as that can be done in time, and
// wipes what is kept of it, in any case. The order is: nothing works with the
// auth state any more, then it is made unreadable.
func (s *Session) unlink(ctx context.Context, l *connection, link whatisup.Link) error {
	deadline := s.kit.Now().Add(s.kit.Timing.Unlink)
	unlinked := false
	if l != nil {
		err := s.askToUnlink(ctx, l)
		if unlinked = err == nil; !unlinked {
			s.log.Info("unlinking failed; it is tried with another login", "cause", err.Error())
		}
		l.end()
		l.Settle()
	}
	if !unlinked {
		if err := s.logInToUnlink(ctx, link, deadline); err != nil {
			return err
		}
	}
	s.device = nil
	s.downSince, s.handoverGraceUntil, s.tries = time.Time{}, time.Time{}, 0
	if err := s.persist(ctx, func() error { return s.out.EndLink(ctx) }); err != nil {
		return err
	}
	return s.persist(ctx, func() error {
		err := s.auth.Wipe(ctx, link)
		if errors.Is(err, whatisup.ErrConflict) {
			return nil // another link's by now, which has duties of its own
		}
		return err
	})
}

// askToUnlink asks on a connection that is logged in. One that is not answered leaves
// time for another.
func (s *Session) askToUnlink(ctx context.Context, l *connection) error {
	ctx, cancel := context.WithTimeout(ctx, s.kit.Timing.Unlink/4)
	defer cancel()
	return l.Unlink(ctx)
}

// logInToUnlink logs in to unlink, until the deadline. That it could not be done is
// no error: the wipe doesn't wait for WhatsApp.
func (s *Session) logInToUnlink(ctx context.Context, link whatisup.Link, deadline time.Time) error {
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
	for n := 1; s.kit.Now().Before(deadline); n++ {
		unlinked, err := s.tryUnlink(ctx, deadline)
		if err != nil || unlinked {
			return err
		}
		if s.auth.Err() != nil {
			return errAgain
		}
		if !Sleep(ctx, min(Backoff(n, rand.Float64), deadline.Sub(s.kit.Now()))) {
			return ctx.Err()
		}
	}
	s.log.Warn("device not unlinked at WhatsApp, which could not be reached; it is wiped")
	return nil
}

// tryUnlink is one login to unlink. True means that nothing more can be done.
func (s *Session) tryUnlink(ctx context.Context, deadline time.Time) (bool, error) {
	turn, done := s.kit.Budgets.ask(interactive, s.ref.Customer)
	defer done()
	timer := time.NewTimer(deadline.Sub(s.kit.Now()))
	defer timer.Stop()
	select {
	case <-turn:
	case <-timer.C:
		return false, nil
	case <-ctx.Done():
		return false, ctx.Err()
	}

	l := s.open(s.device)
	defer l.Settle()
	defer l.end()
	for {
		select {
		case <-ctx.Done():
			return false, ctx.Err()
		case <-timer.C:
			return false, nil
		case got := <-l.Events():
			switch got := got.(type) {
			case line.Up:
				if err := s.askToUnlink(ctx, l); err != nil {
					s.log.Info("unlinking failed", "cause", err.Error())
					return false, nil
				}
				return true, nil
			case line.CaughtUp: // it is of the link that ends
			case line.Ended:
				return s.unlinkOver(got, deadline), nil
			case line.Codes, line.PairCode, line.Linked, line.ScanFailed, line.PasskeyAsked:
				s.log.Info("no login to unlink", "cause", "pairing")
				return false, nil
			}
		}
	}
}

// unlinkOver says whether the end of a login to unlink means that another one until
// the deadline is of no use.
func (s *Session) unlinkOver(end line.Ended, deadline time.Time) bool {
	switch end.Cause {
	case line.RemovedOnPhone, line.BannedForGood, line.LinkInvalid:
		return true // it is unlinked already
	case line.TempBanned:
		if end.For <= 0 || s.kit.Now().Add(end.For).After(deadline) {
			return true // no login within reach
		}
	case line.Outdated:
		s.kit.Outdated() // a newer version may be found in time
	}
	s.log.Info("no login to unlink", "cause", end.String())
	return false
}

// removeDeleted unlinks and wipes a deleted instance, sends the events that its
// customer has not got yet, tells the last one, and takes it out of the shard.
func (s *Session) removeDeleted(ctx context.Context) error {
	d, err := Device{}, error(nil)
	if s.device == nil {
		err = s.persist(ctx, func() (err error) {
			d, err = s.auth.Load(ctx)
			return err
		})
	} else {
		d = Device{Store: s.device, Link: s.inst.Observed.Link}
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
	s.out.Close(ctx) // what is to be told of messages
	for n := 1; ; n++ {
		s.sendNow(ctx)
		sent := s.inst.Unsent.From == "" && s.inst.Observed.Unsent.From == ""
		if sent && s.inst.Farewell != nil {
			if err := s.tellDeleted(ctx); err != nil {
				return err
			}
		}
		if sent && !s.account.Owes() {
			if err := s.removeFiles(ctx); err != nil {
				s.log.Warn("files not removed yet", "error", err.Error())
			} else if err := s.auth.Remove(ctx); err != nil {
				s.log.Warn("auth state not removed yet", "error", err.Error())
			} else if err := s.kit.Store.FinishDeleted(ctx, s.inst); err == nil {
				s.account.Close()
				s.log.Info("deleted instance is unlinked and wiped")
				return nil
			} else if !errors.Is(err, whatisup.ErrConflict) && !errors.Is(err, whatisup.ErrUnavailable) {
				return err
			}
		}
		if err := s.awaitSent(ctx, min(Backoff(n, rand.Float64), removeEvery)); err != nil {
			return err
		}
		// The API may have sent its own events by now.
		if _, err := s.reread(ctx); err != nil {
			return err
		}
	}
}

// tellDeleted tells the last event of a deleted instance, after which nothing is told
// of it any more.
func (s *Session) tellDeleted(ctx context.Context) error {
	err := s.persist(ctx, func() error {
		return s.account.Keep(ctx, *s.inst.Farewell, func(ctx context.Context) error { return s.kit.Store.TellDeleted(ctx, s.inst) })
	})
	if err == nil {
		s.inst.Farewell = nil
	}
	return err
}

// awaitSent pauses; not longer than until the API has had its time, and, if
// something is owed to queues, not longer than until it is paid.
func (s *Session) awaitSent(ctx context.Context, d time.Duration) error {
	if s.inst.Unsent.From != "" {
		d = min(d, max(s.untilAPIs(), 100*time.Millisecond))
	}
	owed := s.account.Owes()
	for end := s.kit.Now().Add(d); s.kit.Now().Before(end); {
		if !Sleep(ctx, min(end.Sub(s.kit.Now()), 200*time.Millisecond)) {
			return ctx.Err()
		}
		if owed && !s.account.Owes() {
			return nil
		}
	}
	return nil
}

// removeEvery is the longest pause between two tries to take a deleted instance out
// of its shard.
const removeEvery = 15 * time.Second

// removeFiles removes the bytes of the instance's received files. Their rows can be read
// by nobody, and go with their time.
func (s *Session) removeFiles(ctx context.Context) error {
	if s.kit.Files == nil {
		return nil
	}
	return s.kit.Files.Remove(ctx, s.ref)
}
