package session

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"go.mau.fi/whatsmeow/types/events"

	"whatisup/shared/whatisup"
)

// banWithoutEnd is how long a temporary ban is taken to last that says nothing
// of its end.
const banWithoutEnd = time.Hour

// stayOnline keeps the link connected until it isn't wanted, or is gone.
func (s *session) stayOnline(ctx context.Context) error {
	wanted, err := s.takeUp(ctx)
	if err != nil {
		return err
	}
	if s.kit.Blamed(s.ref.ID) && !wanted && !s.fresh {
		return s.rejected(ctx, whatisup.Internal, time.Time{})
	}
	k, notBefore := resuming, time.Time{}
	if wanted || s.fresh {
		k = interactive
	} else if o := &s.inst.Observed; o.Status == whatisup.Failed && o.Reason == whatisup.Banned {
		notBefore = o.NextRetryAt
	}
	s.fresh = false
	if s.down.IsZero() {
		s.down = time.Now()
	}
	for {
		ready, err := s.turn(ctx, k, notBefore)
		if err != nil || !ready {
			return err
		}
		end, err := s.connect(ctx, k)
		s.seen.start()
		k, notBefore = returning, time.Time{}
		if err != nil {
			return err
		}
		if end == nil {
			return nil // wanted differently
		}
		stay, next, err := s.ended(ctx, end)
		if err != nil || !stay {
			return err
		}
		if s.wish { // connect was asked for meanwhile
			s.wish = false
			k, next = interactive, time.Time{}
		}
		if _, restart := end.(*events.ManualLoginReconnect); restart && s.tries <= 1 {
			k = interactive
		}
		notBefore = next
	}
}

// takeUp stores that what is wanted of the link has been begun, and says whether
// that is new.
func (s *session) takeUp(ctx context.Context) (wanted bool, err error) {
	o := s.inst.Observed
	g := s.inst.Wanted.Generation
	wanted = o.ObservedGeneration < g
	o.ObservedGeneration, o.DoneGeneration = max(o.ObservedGeneration, g), max(o.DoneGeneration, g)
	o.FailedCause = ""
	if wanted {
		s.tries, s.refused, s.replaced = 0, 0, time.Time{}
	}
	if o.Status != whatisup.Connected && o.Status != whatisup.Connecting &&
		(wanted || o.Status == whatisup.Pending || o.Status == whatisup.QR || o.Reason == whatisup.Stopped) {
		o.Status, o.Reason, o.NextRetryAt = whatisup.Connecting, whatisup.NoReason, time.Time{}
		s.down = time.Now()
	}
	if same(&o, &s.inst.Observed) {
		return wanted, nil
	}
	return wanted, s.observeBy(ctx, whatisup.ByAPI, o)
}

// still says whether the link is to stay connected, after a change of what is
// wanted; it takes up what is new.
func (s *session) still(ctx context.Context) (bool, error) {
	if !s.inst.DeletedAt.IsZero() || !s.inst.HasLink() || !s.inst.Wanted.Online {
		return false, nil
	}
	wanted, err := s.takeUp(ctx)
	s.wish = s.wish || wanted
	return true, err
}

// turn waits until a connect may begin: not before the time, and when its budget
// has room. It answers false when the link isn't wanted online any more. A fresh
// wish to connect ends the waiting.
func (s *session) turn(ctx context.Context, k kind, notBefore time.Time) (bool, error) {
	if wait := time.Until(notBefore); wait > 0 {
		s.seen.start()
		if err := s.showDown(ctx, notBefore); err != nil {
			return false, err
		}
		for {
			got, err := s.wait(ctx, notBefore, nil, nil)
			if err != nil {
				return false, err
			}
			if _, ok := got.(elapsed); ok {
				break
			}
			if ok, err := s.still(ctx); !ok || err != nil {
				return false, err
			}
			if s.wish {
				k, s.wish = interactive, false
				break
			}
		}
	}
	var until time.Time
	delay, cancel := s.kit.Budgets.reserve(k)
	place := s.kit.Budgets.place(k)
	if place == nil {
		until = time.Now().Add(delay)
	}
	for {
		got, err := s.wait(ctx, until, nil, place)
		if err != nil {
			cancel()
			return false, err
		}
		switch got.(type) {
		case elapsed:
			return true, nil
		case granted:
			s.seat = place
			return true, nil
		}
		if ok, err := s.still(ctx); !ok || err != nil {
			cancel()
			return false, err
		}
	}
}

// stand gives back the place among the interactive connects, if the session has
// one.
func (s *session) stand() {
	if s.seat != nil {
		<-s.seat
		s.seat = nil
	}
}

var errNoLogin = errors.New("no login in time")

// connect opens one connection of the link and stays with it. It returns what
// ended it, or nil if the link is wanted differently.
func (s *session) connect(ctx context.Context, k kind) (end any, err error) {
	defer s.stand()
	if s.device == nil {
		d, err := s.load(ctx)
		if err != nil {
			return nil, err
		}
		if d == nil {
			return nil, nil
		}
		s.device = d.Store
	}
	l := s.open(s.device)
	defer l.end()
	loggedIn := false
	until := l.began.Add(s.kit.Timing.Login)
	for {
		got, err := s.wait(ctx, until, l, nil)
		if err != nil {
			return nil, err
		}
		switch got := got.(type) {
		case elapsed:
			end = lineFailed{errNoLogin}
		case changed:
			if s.inst.Unlinking() || !s.inst.DeletedAt.IsZero() {
				if !loggedIn {
					return nil, nil
				}
				if !s.inst.DeletedAt.IsZero() {
					return nil, s.giveUpDeleted(ctx, l)
				}
				return nil, s.giveUp(ctx, l)
			}
			if ok, err := s.still(ctx); !ok || err != nil {
				return nil, err
			}
			s.wish = false // it is being done
		case *events.Connected:
			s.stand()
			s.seen.start()
			s.kit.Metrics.Connect(string(k), "ok", time.Since(l.began))
			loggedIn, until = true, time.Time{}
			if err := s.loggedIn(ctx); err != nil {
				return nil, err
			}
			s.since = time.Now()
		case *events.QR, *events.PairSuccess, *events.PairError, *events.PairPasskeyRequest, *events.PairPasskeyError, pairCode:
			// A server that wants to pair a device that it should know: the login
			// that doesn't come ends it.
		case *events.StreamError:
			if got.Code == "" {
				continue // not an error of the stream; the connection tells if it ends
			}
			end = got
		default:
			end = got
		}
		if end == nil {
			continue
		}
		if loggedIn && time.Since(s.since) >= s.kit.Timing.Stable {
			s.tries = 0
		}
		s.tries++
		if loggedIn || s.down.IsZero() {
			s.down = time.Now()
		}
		if !loggedIn {
			s.kit.Metrics.Connect(string(k), "failed", time.Since(l.began))
		}
		s.kit.Metrics.Ended(causeOf(end))
		s.log.Info("connection ended", "cause", causeOf(end), "logged_in", loggedIn, "tries", s.tries)
		return end, nil
	}
}

// load reads the link's auth state; nil if the link turns out to be gone.
func (s *session) load(ctx context.Context) (*Device, error) {
	var d Device
	err := s.persist(ctx, func() (err error) {
		d, err = s.auth.Load(ctx)
		return err
	})
	if errors.Is(err, whatisup.ErrNotFound) || err == nil && d.Link != s.inst.Observed.Link {
		// WhatsApp ended the link, and the host died between wiping it and saying
		// so: only the library wipes without a word in the rows.
		return nil, s.lost(ctx, events.ConnectFailureLoggedOut)
	}
	if err != nil {
		return nil, err
	}
	return &d, nil
}

// loggedIn stores that the link is connected. A session that only moved between
// hosts was never shown otherwise, and stores nothing.
func (s *session) loggedIn(ctx context.Context) error {
	// Either word of the first login is enough for whoever comes after us, so
	// they needn't wait for each other.
	var unconfirmed error
	var confirming sync.WaitGroup
	if !s.inst.Observed.Confirmed {
		confirming.Go(func() {
			unconfirmed = s.persist(ctx, func() error { return s.auth.Confirm(ctx) })
		})
	}
	o := s.inst.Observed
	o.Status, o.Reason, o.NextRetryAt, o.FailedCause = whatisup.Connected, whatisup.NoReason, time.Time{}, ""
	o.Confirmed = true
	if id := s.device.ID; id != nil {
		o.PhoneNumber = whatisup.PhoneNumber(id.User)
	}
	s.down, s.moved, s.refused = time.Time{}, time.Time{}, 0
	defer s.linked()
	var err error
	if !same(&o, &s.inst.Observed) {
		err = s.observe(ctx, o)
	}
	confirming.Wait()
	return errors.Join(unconfirmed, err)
}

// linked: no scan is under way any more. A session that went on only for it
// ends.
func (s *session) linked() {
	if s.linking.Swap(false) && s.owned.Err() != nil {
		s.stop()
	}
}

// ended decides what follows the end of a connection: whether to stay, and not
// before when to connect again.
func (s *session) ended(ctx context.Context, end any) (stay bool, next time.Time, err error) {
	switch end := end.(type) {
	case *events.LoggedOut:
		return false, next, s.lost(ctx, end.Reason)
	case *events.StreamReplaced:
		return s.wasReplaced(ctx)
	case *events.TemporaryBan:
		expires := end.Expire
		if expires <= 0 {
			expires = banWithoutEnd
		}
		next = time.Now().Add(expires)
		return true, next, s.rejected(ctx, whatisup.Banned, next)
	case *events.ClientOutdated:
		s.refused++ // held, until somebody connects or another client runs
		s.kit.Outdated()
		return false, next, s.rejected(ctx, whatisup.ClientOutdated, next)
	case *events.ConnectFailure:
		s.refused++
		if s.refused >= s.kit.Timing.Tries {
			return false, next, s.rejected(ctx, whatisup.Internal, next)
		}
	case storeFailed:
		return false, next, errAgain
	case *events.ManualLoginReconnect:
		if s.tries <= 1 {
			return true, next, s.showDown(ctx, next)
		}
	}
	next = time.Now().Add(backoff(s.tries, rand.Float64))
	return true, next, s.showDown(ctx, next)
}

// wasReplaced: another connection took the link. If it is our own, of the next
// owner, the lease tells; a foreign one may have it when it comes back.
func (s *session) wasReplaced(ctx context.Context) (stay bool, next time.Time, err error) {
	if err := s.tenure.Confirm(ctx); errors.Is(err, whatisup.ErrFenced) {
		return false, next, err
	}
	now := time.Now()
	if !s.replaced.IsZero() && now.Sub(s.replaced) < s.kit.Timing.Replaces {
		s.replaced = time.Time{}
		return false, next, s.rejectedAs(ctx, whatisup.Disconnected, whatisup.KickedOtherDevice, next)
	}
	s.replaced = now
	next = now.Add(s.kit.Timing.Replaced)
	if err := s.showDown(ctx, next); err != nil {
		return false, next, err
	}
	for {
		got, err := s.wait(ctx, next, nil, nil)
		if err != nil {
			return false, next, err
		}
		if _, ok := got.(elapsed); ok {
			break
		}
		if ok, err := s.still(ctx); !ok || err != nil {
			return false, next, err
		}
	}
	if err := s.tenure.Confirm(ctx); errors.Is(err, whatisup.ErrFenced) {
		return false, next, err
	}
	return true, time.Time{}, nil
}

// rejected stores that the link can't be connected, and why.
func (s *session) rejected(ctx context.Context, reason whatisup.Reason, next time.Time) error {
	return s.rejectedAs(ctx, whatisup.Failed, reason, next)
}

func (s *session) rejectedAs(ctx context.Context, status whatisup.Status, reason whatisup.Reason, next time.Time) error {
	o := s.inst.Observed
	o.Status, o.Reason, o.NextRetryAt = status, reason, next.Truncate(time.Millisecond)
	if next.IsZero() {
		o.NextRetryAt = time.Time{}
	}
	if same(&o, &s.inst.Observed) {
		return nil
	}
	return s.observeBy(ctx, whatisup.ByWhatsApp, o)
}

// lost: WhatsApp has ended the link. What is kept of it is wiped.
func (s *session) lost(ctx context.Context, why events.ConnectFailureReason) error {
	link := s.inst.Observed.Link
	s.device = nil
	if err := s.persist(ctx, func() error { return s.auth.Wipe(ctx, link) }); err != nil {
		return err
	}
	o := interrupted(s.inst)
	by := whatisup.ByWhatsApp
	switch {
	case !s.inst.Observed.Confirmed:
	case why == events.ConnectFailureLoggedOut:
		o.Status, o.Reason, by = whatisup.Disconnected, whatisup.RemovedOnPhone, whatisup.ByPhone
	case why == events.ConnectFailureUnknownLogout:
		o.Status, o.Reason = whatisup.Failed, whatisup.Banned
	default:
		o.Status, o.Reason = whatisup.Disconnected, whatisup.SessionInvalidated
	}
	s.down, s.moved, s.tries = time.Time{}, time.Time{}, 0
	defer s.linked()
	return s.observeBy(ctx, by, o)
}

// causeOf names an ending for logs and metrics.
func causeOf(end any) string {
	switch end := end.(type) {
	case elapsed:
		return "no_answer"
	case lineFailed:
		if errors.Is(end.cause, errNoLogin) {
			return "no_login"
		}
		return "dial"
	case lineClosed:
		return "closed"
	case handlerFailed:
		return "handler"
	case storeFailed:
		return "store"
	case *events.KeepAliveTimeout:
		return "keepalive"
	case *events.ManualLoginReconnect:
		return "restart"
	case *events.StreamError:
		return "stream_error"
	case *events.LoggedOut:
		return fmt.Sprintf("logged_out_%d", int(end.Reason))
	case *events.StreamReplaced:
		return "replaced"
	case *events.TemporaryBan:
		return "banned"
	case *events.ClientOutdated:
		return "outdated"
	case *events.ConnectFailure:
		return fmt.Sprintf("refused_%d", int(end.Reason))
	}
	return fmt.Sprintf("%T", end)
}
