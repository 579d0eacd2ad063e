package session

import (
	"context"
	"sync"
	"time"

	"whatisup/sessionhost/line"
	"whatisup/shared/whatisup"
)

const (
	// redials is how often a socket that breaks while a code is shown is opened
	// again within one attempt.
	redials = 3
	// restartWithin is how long WhatsApp may take to ask for the restart that
	// follows a scan; without it the host restarts of its own accord.
	restartWithin = 5 * time.Second
	// outcomeWithin is how long the outcome of a scan may take to be told after
	// its connection has ended.
	outcomeWithin = 3 * time.Second
)

// outcome is how an attempt to pair ended without a link.
type outcome struct {
	status whatisup.Status
	reason whatisup.Reason
	cause  whatisup.Code // for the call that waits
}

var (
	// redial: the socket broke while a code was shown; the attempt goes on.
	redial      = outcome{reason: whatisup.Network}
	unreachable = outcome{whatisup.Pending, whatisup.Network, whatisup.CodeWhatsAppUnreachable}
	ranOut      = outcome{whatisup.Pending, whatisup.QRTimeout, ""}
)

// pair runs the attempt of the newest generation until it makes a link, runs
// out, fails, or isn't wanted any more.
func (s *Session) pair(ctx context.Context) error {
	generation := s.inst.Wanted.Generation
	if s.kit.Blamed(s.ref.ID) && s.inst.Observed.ObservedGeneration >= generation {
		return s.attemptEnded(ctx, generation, outcome{whatisup.Failed, whatisup.Internal, whatisup.CodeInternal})
	}
	if !s.kit.Budgets.beginPairing() {
		s.log.Warn("no room for another pairing")
		return s.attemptEnded(ctx, generation, outcome{whatisup.Pending, whatisup.NoReason, whatisup.CodeAtCapacity})
	}
	defer s.kit.Budgets.endPairing()

	for n := 0; ; n++ {
		end, err := s.dialForCode(ctx, generation, n)
		switch {
		case err != nil:
			return err
		case end == nil: // a link was made, or nobody wants one any more
			return nil
		case *end != redial:
			return s.attemptEnded(ctx, generation, *end)
		case n == redials:
			return s.attemptEnded(ctx, generation, unreachable)
		}
	}
}

// attemptEnded ends the attempt without a link.
func (s *Session) attemptEnded(ctx context.Context, g whatisup.Generation, end outcome) error {
	s.kit.Metrics.Ended("pairing:" + string(end.status) + ":" + string(end.reason))
	return s.observeBy(ctx, whatisup.ByWhatsApp, s.inst.Observed.AttemptEnded(g, end.status, end.reason, end.cause))
}

// dial is one connection of an attempt to pair.
type dial struct {
	*Session
	generation whatisup.Generation
	first      bool
	began      time.Time
	line       *connection

	codes       // what it shows
	releaseSlot func()

	// outcomeBy is when the outcome of a scan must be known, if its connection has
	// ended; else zero.
	outcomeBy time.Time
}

// dialForCode opens one connection and shows its codes. A nil outcome without an
// error means that there is a link, or that the attempt isn't wanted any more.
func (s *Session) dialForCode(ctx context.Context, g whatisup.Generation, n int) (end *outcome, err error) {
	turn, done := s.kit.Budgets.ask(interactive, s.ref.Customer)
	release := sync.OnceFunc(done)
	defer release()
	if wanted, err := s.awaitSlot(ctx, g, turn); !wanted || err != nil {
		return nil, err
	}
	defer func() {
		if s.device == nil { // no link came of it
			s.scanOver()
		}
	}()

	device, auth := s.auth.New(whatisup.Link(g)), s.auth
	s.kit.Background.Go(func() { _ = auth.PrepareKey(ctx) }) // storing the link tries again
	s.attempts++
	d := &dial{
		Session: s, generation: g, first: n == 0, began: s.kit.Now(), releaseSlot: release,
		codes: codes{row: whatisup.Pairing{
			Instance: s.ref.ID,
			Attempt:  whatisup.AttemptID{Generation: g, Epoch: s.tenure.Epoch(), N: s.attempts},
		}},
	}
	d.line = s.open(device)
	defer func() {
		d.line.end()
		// A link that was made, or may have been, without anybody having heard of it
		// is seen by a new handle.
		if s.device == nil && d.line.MayHaveLinked() {
			d.line.Settle()
			if err == nil {
				end, err = nil, errAgain
			}
		}
	}()

	// What was shown of an earlier attempt is out of date while the dial goes on.
	if err := s.observe(ctx, s.inst.Observed.Starting(g)); err != nil {
		return nil, err
	}
	defer func() {
		s.code.Store(nil)
		if d.showing {
			s.withdraw(ctx, d.row.Attempt)
		}
	}()
	return d.run(ctx, device)
}

// awaitSlot waits for the slot of an attempt. It is false when the attempt isn't
// wanted any more.
func (s *Session) awaitSlot(ctx context.Context, g whatisup.Generation, turn <-chan struct{}) (bool, error) {
	for {
		got, err := s.wait(ctx, time.Time{}, nil, turn)
		if err != nil {
			return false, err
		}
		if _, ok := got.(granted); ok {
			return true, nil
		}
		if !s.wantsAttempt(g) {
			return false, nil
		}
	}
}

// wantsAttempt says whether the attempt of generation g is still the one to run.
func (s *Session) wantsAttempt(g whatisup.Generation) bool {
	return s.inst.DeletedAt.IsZero() && s.inst.AttemptOpen() && s.inst.Wanted.Generation == g
}

// run shows codes until the dial is over.
func (d *dial) run(ctx context.Context, device *line.Device) (*outcome, error) {
	for {
		got, err := d.wait(ctx, d.until(), d.line, nil)
		if err != nil {
			return nil, err
		}
		var end *outcome

		switch got := got.(type) {
		case elapsed:
			if !d.outcomeBy.IsZero() {
				return nil, nil // a new handle sees what came of the scan
			}
			end, err = d.timePassed(ctx)
		case changed:
			if !d.wantsAttempt(d.generation) {
				return nil, nil
			}
			if d.showing {
				d.askPairCode()
			}
		case line.Codes:
			err = d.codesCame(ctx, got)
		case line.PairCode:
			err = d.showPairCode(ctx, got)
		case line.Linked:
			return nil, d.linked(ctx, device, got)
		case line.ScanFailed:
			end = &outcome{whatisup.Pending, whatisup.PairingInterrupted, ""}
		case line.PasskeyAsked:
			end = &outcome{whatisup.Failed, whatisup.PasskeyRequired, ""}
		case line.Ended:
			end, err = d.ended(got)
		case line.Up, line.CaughtUp:
			// No login belongs here. Only the restart after a scan leads to one, on
			// another connection.
		}
		if end != nil || err != nil {
			return end, err
		}
	}
}

// until is when something is due next.
func (d *dial) until() time.Time {
	switch {
	case !d.outcomeBy.IsZero():
		return d.outcomeBy
	case !d.showing:
		return d.began.Add(d.kit.Timing.FirstCode)
	case d.vouchAt.Before(d.nextAt):
		return d.vouchAt
	}
	return d.nextAt
}

// timePassed shows the next code, or vouches for the one that is shown.
func (d *dial) timePassed(ctx context.Context) (*outcome, error) {
	now := d.kit.Now()
	switch {
	case !d.showing:
		return &unreachable, nil
	case now.Before(d.nextAt):
		if !now.Before(d.vouchAt) {
			d.vouch(ctx)
		}
		return nil, nil
	case len(d.texts) > 0:
		return nil, d.showNext(ctx)
	case d.line.MayHaveLinked():
		d.outcomeBy = now.Add(outcomeWithin)
		return nil, nil
	}
	return &ranOut, nil
}

// ended decides what the end of the connection means for the attempt.
func (d *dial) ended(end line.Ended) (*outcome, error) {
	switch end.Cause {
	case line.StoreFailed:
		return nil, errAgain
	case line.Outdated:
		d.kit.Outdated()
		return &outcome{whatisup.Failed, whatisup.ClientOutdated, ""}, nil
	}
	d.log.Info("connection ended before a scan", "cause", end.String())
	switch {
	case d.line.MayHaveLinked():
		// The restart that follows a scan can overtake the news that the scan has
		// made a link.
		if d.outcomeBy.IsZero() {
			d.outcomeBy = d.kit.Now().Add(outcomeWithin)
		}
		return nil, nil
	case !d.showing:
		return &unreachable, nil
	case len(d.texts) == 0:
		return &ranOut, nil // WhatsApp closes with the last code
	}
	return &redial, nil
}

// linked stores that there is a link, and waits for the restart that WhatsApp
// asks for, unless it has come already. The library has stored the device before
// it told the phone.
func (d *dial) linked(ctx context.Context, device *line.Device, e line.Linked) error {
	d.showing = false
	d.code.Store(nil)
	var withdrawn sync.WaitGroup
	withdrawn.Go(func() { d.withdraw(ctx, d.row.Attempt) })
	defer withdrawn.Wait()

	d.device = device
	d.previous = d.inst.Observed.PhoneNumber
	if err := d.observeBy(ctx, whatisup.ByPhone, d.inst.Observed.Linked(d.generation, e.Number)); err != nil {
		return err
	}
	d.downSince = d.kit.Now()
	d.justLinked = true
	if !d.outcomeBy.IsZero() {
		return nil // the restart came first
	}
	return d.awaitRestart(ctx)
}

// awaitRestart waits for the end of the connection on which the phone was linked,
// but not for long.
func (d *dial) awaitRestart(ctx context.Context) error {
	until := d.kit.Now().Add(restartWithin)
	for {
		got, err := d.wait(ctx, until, d.line, nil)
		if err != nil {
			return err
		}
		switch got := got.(type) {
		case elapsed:
			return nil
		case changed:
			if !d.inst.HasLink() {
				return nil // the duties begin with giving it up
			}
		case line.Ended:
			if got.Cause == line.StoreFailed {
				return errAgain
			}
			return nil
		case line.Codes, line.PairCode, line.Linked, line.ScanFailed, line.PasskeyAsked, line.Up, line.CaughtUp:
			// Nothing more is expected of this connection.
		}
	}
}
