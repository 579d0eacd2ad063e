package session

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"whatisup/sessionhost/line"
	"whatisup/shared/whatisup"
)

// banWithoutEnd is how long a temporary ban is taken to last if WhatsApp does not
// say.
const banWithoutEnd = time.Hour

// stayOnline keeps the link connected until it isn't wanted, or is gone.
func (s *Session) stayOnline(ctx context.Context) error {
	wanted, err := s.takeUp(ctx)
	if err != nil {
		return err
	}
	if s.kit.Blamed(s.ref.ID) && !wanted && !s.justLinked {
		return s.rejected(ctx, whatisup.Internal, time.Time{})
	}

	k, notBefore := resuming, time.Time{}
	if wanted || s.justLinked {
		k = interactive
	} else if o := &s.inst.Observed; o.Status == whatisup.Failed && o.Reason == whatisup.Banned {
		notBefore = o.NextRetryAt
	}
	s.justLinked = false
	if s.downSince.IsZero() {
		s.downSince = s.kit.Now()
	}

	for {
		ready, err := s.awaitTurn(ctx, k, notBefore)
		if err != nil || !ready {
			return err
		}
		end, err := s.connect(ctx, k)
		s.start()
		k, notBefore = returning, time.Time{}
		if err != nil || end == nil { // nil: wanted differently
			return err
		}

		stay, next, err := s.afterEnd(ctx, *end)
		if err != nil || !stay {
			return err
		}
		if s.connectRequested { // meanwhile
			s.connectRequested = false
			k, next = interactive, time.Time{}
		}
		if end.Cause == line.Restart && s.tries <= 1 {
			k = interactive
		}
		notBefore = next
	}
}

// takeUp stores that what is wanted of the link has been begun, and says whether
// that is new.
func (s *Session) takeUp(ctx context.Context) (wanted bool, err error) {
	was := &s.inst.Observed
	g := s.inst.Wanted.Generation
	wanted = was.ObservedGeneration < g
	if wanted {
		s.tries, s.refused, s.replaced = 0, 0, time.Time{}
	}

	o := was.TakenUp(g)
	if o.Status != whatisup.Connected && o.Status != whatisup.Connecting &&
		(wanted || o.Status == whatisup.Pending || o.Status == whatisup.QR || o.Reason == whatisup.Stopped) {
		o = o.Reconnecting()
		s.downSince = s.kit.Now()
	}
	if o.Same(was) {
		return wanted, nil
	}
	return wanted, s.observeBy(ctx, whatisup.ByAPI, o)
}

// stillWanted says, after a change of what is wanted, whether the link is to stay
// connected; it takes up what is new.
func (s *Session) stillWanted(ctx context.Context) (bool, error) {
	if !s.inst.DeletedAt.IsZero() || !s.inst.HasLink() || !s.inst.Wanted.Online {
		return false, nil
	}
	wanted, err := s.takeUp(ctx)
	s.connectRequested = s.connectRequested || wanted
	return true, err
}

// awaitTurn waits until a connect may begin: not before the time, and when its
// budget has room. It is false when the link isn't wanted online any more. A new
// request to connect ends the wait for the time.
func (s *Session) awaitTurn(ctx context.Context, k kind, notBefore time.Time) (bool, error) {
	if notBefore.Sub(s.kit.Now()) > 0 {
		s.start()
		if err := s.showDown(ctx, notBefore); err != nil {
			return false, err
		}
		if ok, err := s.awaitTry(ctx, notBefore); !ok || err != nil {
			return false, err
		}
		if s.connectRequested {
			k, s.connectRequested = interactive, false
		}
	}

	turn, done := s.kit.Budgets.ask(k, s.ref.Customer)
	for {
		got, err := s.wait(ctx, time.Time{}, nil, turn)
		if err != nil {
			done()
			return false, err
		}
		switch got.(type) {
		case granted:
			s.turnOver = done
			return true, nil
		case idle:
			continue
		}
		if ok, err := s.stillWanted(ctx); !ok || err != nil {
			done()
			return false, err
		}
	}
}

// A session that could not reach WhatsApp is told when another one has logged in, and
// tries then, but no sooner than tellAfter after its last try, and no more than tellMost
// times in a row: what keeps it alone away is no outage.
const (
	tellAfter = time.Second
	tellMost  = 3
)

// awaitTry waits until the next try: until the time, until connect is requested, or,
// where WhatsApp could not be reached, until another session has. It is false when the
// link isn't wanted online any more.
func (s *Session) awaitTry(ctx context.Context, at time.Time) (bool, error) {
	var reached <-chan struct{}
	if s.unreached && s.told < tellMost {
		reached = s.kit.Budgets.nextReached()
	}
	for {
		got, err := s.wait(ctx, at, nil, reached)
		if err != nil {
			return false, err
		}
		switch got.(type) {
		case elapsed:
			return true, nil
		case granted:
			s.told++
			if soon := s.triedAt.Add(tellAfter); soon.Before(at) {
				at = soon
			}
			reached = nil
			continue
		}
		if ok, err := s.stillWanted(ctx); !ok || err != nil {
			return false, err
		}
		if s.connectRequested {
			return true, nil
		}
	}
}

// awaitTime waits until the time. It is false when the link isn't wanted online any
// more.
func (s *Session) awaitTime(ctx context.Context, at time.Time) (bool, error) {
	for {
		got, err := s.wait(ctx, at, nil, nil)
		if err != nil {
			return false, err
		}
		if _, ok := got.(elapsed); ok {
			return true, nil
		}
		if ok, err := s.stillWanted(ctx); !ok || err != nil {
			return false, err
		}
	}
}

// endTurn gives back the slot among the interactive connects, if the session holds
// one.
func (s *Session) endTurn() {
	if s.turnOver != nil {
		s.turnOver()
		s.turnOver = nil
	}
}

var errNoLogin = errors.New("no login in time")

// connect opens one connection of the link and stays with it. It returns what
// ended it, or nil if the link is wanted differently.
func (s *Session) connect(ctx context.Context, k kind) (*line.Ended, error) {
	defer s.endTurn()
	if s.device == nil {
		d, err := s.load(ctx)
		if err != nil || d == nil {
			return nil, err
		}
		s.device = d.Store
	}

	began := s.kit.Now()
	l := s.open(s.device)
	defer l.end()
	up, down := context.WithCancel(ctx)
	defer func() {
		s.up = nil
		s.received.by(nil)
		down()
		s.out.Connected(ctx, nil)
	}()

	until := began.Add(s.kit.Timing.Login)
	for {
		got, err := s.wait(ctx, until, l, nil)
		if err != nil {
			return nil, err
		}
		switch got := got.(type) {
		case elapsed:
			return s.connectEnded(k, began, line.Ended{Cause: line.NoLogin, Err: errNoLogin}), nil
		case changed:
			if stay, err := s.wantedOn(ctx, l); !stay || err != nil {
				return nil, err
			}
		case line.Up:
			s.endTurn()
			s.start()
			s.kit.Metrics.Connect(string(k), "ok", s.kit.Now().Sub(began))
			s.told = 0
			s.kit.Budgets.reach()
			s.up, until = up, time.Time{}
			if err := s.loggedIn(ctx); err != nil {
				return nil, err
			}
			s.loggedInAt = s.kit.Now()
			s.out.Connected(ctx, sender{l, s.auth, s.log})
			s.fetchOver(up, l)
			s.working.Go(func() { s.renew(up, l) })
		case line.CaughtUp:
			s.out.CaughtUp(ctx)
		case line.Ended:
			return s.connectEnded(k, began, got), nil
		case line.Codes, line.PairCode, line.Linked, line.ScanFailed, line.PasskeyAsked:
			// A server that wants to pair a device that it should know: the login
			// that doesn't come ends it.
		}
	}
}

// wantedOn acts on a change of what is wanted while a connection is open. It says
// whether the connection stays.
func (s *Session) wantedOn(ctx context.Context, l *connection) (stay bool, err error) {
	deleted := !s.inst.DeletedAt.IsZero()
	switch {
	case (deleted || s.inst.Unlinking()) && s.up == nil:
		return false, nil // the duties log in to unlink
	case deleted:
		// The tombstone is finished by the duties, without another login.
		return false, s.unlink(ctx, l, s.inst.Observed.Link)
	case s.inst.Unlinking():
		return false, s.giveUp(ctx, l)
	}
	stay, err = s.stillWanted(ctx)
	if stay && err == nil {
		s.connectRequested = false // it is being done
	}
	return stay, err
}

// connectEnded counts and logs the end of a connection.
func (s *Session) connectEnded(k kind, began time.Time, end line.Ended) *line.Ended {
	loggedIn := s.up != nil
	if loggedIn && s.kit.Now().Sub(s.loggedInAt) >= s.kit.Timing.Stable {
		s.tries = 0
	}
	s.tries++
	s.triedAt = s.kit.Now()
	s.unreached = !loggedIn && end.Unreached()
	if loggedIn || s.downSince.IsZero() {
		s.downSince = s.kit.Now()
	}
	if !loggedIn {
		s.kit.Metrics.Connect(string(k), "failed", s.kit.Now().Sub(began))
	}
	s.kit.Metrics.Ended(end.String())
	if end.Cause == line.StoreFailed && end.Err != nil {
		s.log.Warn("the auth state could not be kept", "error", end.Err.Error())
	}
	s.log.Info("connection ended", "cause", end.String(), "logged_in", loggedIn, "tries", s.tries)
	return &end
}

// load reads the link's auth state; nil if the link turns out to be gone.
func (s *Session) load(ctx context.Context) (*Device, error) {
	var d Device
	err := s.persist(ctx, func() (err error) {
		d, err = s.auth.Load(ctx)
		return err
	})
	if errors.Is(err, whatisup.ErrNotFound) || err == nil && d.Link != s.inst.Observed.Link {
		// WhatsApp ended the link, and the host died between wiping it and saying
		// so: only the library wipes without a word in the rows.
		return nil, s.lost(ctx, whatisup.RemovedOnPhone, whatisup.ByPhone)
	}
	if err != nil {
		return nil, err
	}
	return &d, nil
}

// loggedIn stores that the link is connected. A session that was handed over between
// hosts was never shown otherwise, and stores nothing; where nobody had been, it is
// shown as connecting until we have stored something.
func (s *Session) loggedIn(ctx context.Context) error {
	// Either record of the first login is enough for whoever comes after us, so
	// the two writes needn't wait for each other.
	var unconfirmed error
	var confirming sync.WaitGroup
	if !s.inst.Observed.Confirmed {
		confirming.Go(func() {
			unconfirmed = s.persist(ctx, func() error { return s.auth.Confirm(ctx) })
		})
	}

	o := s.inst.Observed.Up(line.NumberOf(s.device))
	s.downSince, s.handoverGraceUntil, s.refused = time.Time{}, time.Time{}, 0
	defer s.scanOver()
	var err error
	if !o.Same(&s.inst.Observed) || !s.vouched && !s.tenure.HandedOver() {
		err = s.observe(ctx, o)
	}
	s.vouched = true
	confirming.Wait()
	return errors.Join(unconfirmed, err)
}

// afterEnd decides what follows the end of a connection: whether to stay, and not
// before when to connect again.
func (s *Session) afterEnd(ctx context.Context, end line.Ended) (stay bool, next time.Time, err error) {
	switch end.Cause {
	case line.RemovedOnPhone:
		return false, next, s.lost(ctx, whatisup.RemovedOnPhone, whatisup.ByPhone)
	case line.BannedForGood:
		return false, next, s.lost(ctx, whatisup.Banned, whatisup.ByWhatsApp)
	case line.LinkInvalid:
		return false, next, s.lost(ctx, whatisup.SessionInvalidated, whatisup.ByWhatsApp)
	case line.StoreFailed:
		return false, next, errAgain
	case line.Replaced:
		return s.wasReplaced(ctx)

	case line.TempBanned:
		expires := end.For
		if expires <= 0 {
			expires = banWithoutEnd
		}
		next = s.kit.Now().Add(expires)
		return true, next, s.rejected(ctx, whatisup.Banned, next)
	case line.Outdated:
		s.refused++ // held, until somebody connects, another client runs, or an hour is over
		s.kit.Outdated()
		next = s.kit.Now().Add(s.kit.Timing.Outdated)
		return false, next, s.rejected(ctx, whatisup.ClientOutdated, next)
	case line.Refused:
		s.refused++
		if s.refused >= s.kit.Timing.Tries {
			return false, next, s.rejected(ctx, whatisup.Internal, next)
		}

	case line.Restart:
		if s.tries <= 1 {
			return true, next, s.showDown(ctx, next)
		}
	case line.NotDialled, line.NoLogin, line.Closed, line.Silent, line.HandlerFailed, line.StreamError:
	}
	next = s.kit.Now().Add(s.untilTry())
	return true, next, s.showDown(ctx, next)
}

// In its first minutes a link that is down waits no longer than this between two tries.
const (
	soonFor  = 5 * time.Minute
	soonMost = 15 * time.Second
)

// untilTry is how long to wait before connecting again. A connection that stood is
// tried again at once: if many break together, the budget is the brake.
func (s *Session) untilTry() time.Duration {
	if s.tries <= 1 {
		return 0
	}
	d := Backoff(s.tries, rand.Float64)
	if d > soonMost && s.kit.Now().Sub(s.downSince) < soonFor {
		d = soonMost/2 + rand.N(soonMost/2)
	}
	return d
}

// wasReplaced: another connection took the link. If it is our own, of the next
// owner, the lease says so; somebody else's may have it when it comes back.
func (s *Session) wasReplaced(ctx context.Context) (stay bool, next time.Time, err error) {
	if err := s.tenure.Confirm(ctx); errors.Is(err, whatisup.ErrFenced) {
		return false, next, err
	}
	now := s.kit.Now()
	if !s.replaced.IsZero() && now.Sub(s.replaced) < s.kit.Timing.Replaces {
		s.replaced = time.Time{}
		return false, next, s.rejected(ctx, whatisup.KickedOtherDevice, next)
	}
	s.replaced = now
	next = now.Add(s.kit.Timing.Replaced)
	if err := s.showDown(ctx, next); err != nil {
		return false, next, err
	}
	if ok, err := s.awaitTime(ctx, next); !ok || err != nil {
		return false, next, err
	}
	if err := s.tenure.Confirm(ctx); errors.Is(err, whatisup.ErrFenced) {
		return false, next, err
	}
	return true, time.Time{}, nil
}

// rejected stores that the link can't be connected, and why.
func (s *Session) rejected(ctx context.Context, reason whatisup.Reason, next time.Time) error {
	o := s.inst.Observed.Rejected(reason, next)
	if o.Same(&s.inst.Observed) {
		return nil
	}
	return s.observeBy(ctx, whatisup.ByWhatsApp, o)
}

// lost: WhatsApp has ended the link. What is kept of it is wiped. A link that
// never logged in counts as a scan that was not completed.
func (s *Session) lost(ctx context.Context, reason whatisup.Reason, by string) error {
	was := &s.inst.Observed
	s.device = nil
	if err := s.persist(ctx, func() error { return s.out.EndLink(ctx) }); err != nil {
		return err
	}
	if err := s.persist(ctx, func() error { return s.auth.Wipe(ctx, was.Link) }); err != nil {
		return err
	}
	if !was.Confirmed {
		reason, by = whatisup.PairingInterrupted, whatisup.ByWhatsApp
	}
	s.downSince, s.handoverGraceUntil, s.tries = time.Time{}, time.Time{}, 0
	defer s.scanOver()
	return s.observeBy(ctx, by, was.Lost(reason))
}
