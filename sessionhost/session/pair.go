package session

import (
	"context"
	"errors"
	"sync"
	"time"

	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/types/events"

	"whatisup/shared/whatisup"
)

const (
	// vouchEvery renews the word that the socket behind a code is alive; well
	// within whatisup.AliveFor.
	vouchEvery = 4 * time.Second
	// redials is how often a socket that breaks while a code is shown is opened
	// again within one attempt.
	redials = 3
	// restartWithin is how long WhatsApp may take to ask for the restart that
	// follows a scan; without it the host restarts by itself.
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

// pairCode is the answer to a wish for a pair code.
type pairCode struct {
	serial uint64
	phone  whatisup.PhoneNumber
	code   string
	err    error
}

// pair runs the attempt of the newest generation until it makes a link, runs
// out, fails, or isn't wanted any more.
func (s *session) pair(ctx context.Context) error {
	generation := s.inst.Wanted.Generation
	if s.kit.Blamed(s.ref.ID) && s.inst.Observed.ObservedGeneration >= generation {
		return s.failed(ctx, generation, outcome{whatisup.Failed, whatisup.Internal, whatisup.CodeInternal})
	}
	if !s.kit.Budgets.beginPairing() {
		s.log.Warn("no room for another pairing")
		return s.failed(ctx, generation, outcome{whatisup.Pending, whatisup.NoReason, whatisup.CodeAtCapacity})
	}
	defer s.kit.Budgets.endPairing()
	for dial := 0; ; dial++ {
		end, err := s.dialForCode(ctx, generation, dial)
		switch {
		case err != nil:
			return err
		case end == nil: // a link was made, or nobody wants one any more
			return nil
		case *end != redial:
			return s.failed(ctx, generation, *end)
		case dial == redials:
			return s.failed(ctx, generation, outcome{whatisup.Pending, whatisup.Network, whatisup.CodeWhatsAppUnreachable})
		}
	}
}

// redial: the socket broke while a code was shown; the attempt goes on.
var redial = outcome{reason: whatisup.Network}

// failed ends the attempt without a link.
func (s *session) failed(ctx context.Context, g whatisup.Generation, end outcome) error {
	o := s.inst.Observed
	o.Status, o.Reason, o.FailedCause = end.status, end.reason, end.cause
	o.NextRetryAt, o.QRExpiresAt = time.Time{}, time.Time{}
	o.ObservedGeneration, o.DoneGeneration = max(o.ObservedGeneration, g), max(o.DoneGeneration, g)
	s.kit.Metrics.Ended("pairing:" + string(end.status) + ":" + string(end.reason))
	return s.observeBy(ctx, whatisup.ByWhatsApp, o)
}

// shown is what an attempt has to show at the moment.
type shown struct {
	row       whatisup.Pairing
	codes     []string
	next      time.Time // when the code is replaced
	vouch     time.Time
	ends      time.Time // of the last code
	pairing   uint64    // serial of the pair code that is asked for or shown
	connected bool      // codes have come
}

// dialForCode opens one connection and shows its codes. A nil outcome without an
// error means that there is a link, or that the attempt isn't wanted any more.
func (s *session) dialForCode(ctx context.Context, g whatisup.Generation, dial int) (end *outcome, err error) {
	place := s.kit.Budgets.place(interactive)
	for {
		got, err := s.wait(ctx, time.Time{}, nil, place)
		if err != nil {
			return nil, err
		}
		if _, ok := got.(granted); ok {
			break
		}
		if !s.wants(g) {
			return nil, nil
		}
	}
	defer func() {
		if s.device == nil { // no link came of it
			s.linked()
		}
	}()
	seated := true
	leave := func() {
		if seated {
			seated = false
			<-place
		}
	}
	defer leave()

	device := s.auth.New(whatisup.Link(g))
	auth := s.auth
	s.kit.Background.Go(func() { _ = auth.PrepareKey(ctx) }) // storing the link tries again
	began := time.Now()
	l := s.open(device)
	// A link that was made, or may have been, without anybody having heard of it
	// is seen by a new handle.
	defer func() {
		l.end()
		if s.device == nil && l.mayHaveLinked() {
			l.settle()
			if err == nil {
				end, err = nil, errAgain
			}
		}
	}()

	s.attempt++
	sh := shown{row: whatisup.Pairing{
		Instance: s.ref.ID,
		Attempt:  whatisup.AttemptID{Generation: g, Epoch: s.tenure.Epoch(), N: s.attempt},
	}}
	// What was shown of an earlier attempt is overtaken while the dial goes on.
	o := s.inst.Observed
	o.Status, o.Reason, o.FailedCause = whatisup.Pending, whatisup.Starting, ""
	o.NextRetryAt, o.QRExpiresAt = time.Time{}, time.Time{}
	o.ObservedGeneration = max(o.ObservedGeneration, g)
	if err := s.observe(ctx, o); err != nil {
		return nil, err
	}
	defer func() {
		s.seen.code.Store(nil)
		if sh.connected {
			s.withdraw(ctx, sh.row.Attempt)
		}
	}()

	until := began.Add(s.kit.Timing.FirstCode)
	var outcomeBy time.Time // the connection has ended with a scan under way
	for {
		got, err := s.wait(ctx, until, l, nil)
		if err != nil {
			return nil, err
		}
		switch got := got.(type) {
		case elapsed:
			if !outcomeBy.IsZero() {
				return nil, nil
			}
			if !sh.connected {
				return unreachable(), nil
			}
			now := time.Now()
			if !now.Before(sh.next) {
				if len(sh.codes) == 0 && l.mayHaveLinked() {
					outcomeBy = now.Add(outcomeWithin)
					until = outcomeBy
					continue
				}
				if len(sh.codes) == 0 {
					return &outcome{whatisup.Pending, whatisup.QRTimeout, ""}, nil
				}
				if err := s.show(ctx, &sh); err != nil {
					return nil, err
				}
			} else if !now.Before(sh.vouch) {
				s.vouch(ctx, &sh)
			}
		case changed:
			if !s.wants(g) {
				return nil, nil
			}
			if sh.connected {
				s.askCode(l, &sh)
			}
		case *events.QR:
			leave()
			sh.codes = got.Codes
			sh.connected = true
			life := time.Duration(len(got.Codes)) * s.kit.Timing.CodeNext
			if len(got.Codes) == 6 {
				life += s.kit.Timing.CodeFirst - s.kit.Timing.CodeNext
			}
			sh.ends = time.Now().Add(life)
			s.askCode(l, &sh)
			if dial == 0 {
				s.kit.Metrics.FirstCode(time.Since(began))
			}
			if err := s.show(ctx, &sh); err != nil {
				return nil, err
			}
		case pairCode:
			if got.serial == sh.pairing {
				if err := s.showPairCode(ctx, &sh, got); err != nil {
					return nil, err
				}
			}
		case *events.PairSuccess:
			sh.connected = false
			s.seen.code.Store(nil)
			var withdrawn sync.WaitGroup
			withdrawn.Go(func() { s.withdraw(ctx, sh.row.Attempt) })
			defer withdrawn.Wait()
			return nil, s.paired(ctx, l, g, got, !outcomeBy.IsZero())
		case *events.PairError:
			return &outcome{whatisup.Pending, whatisup.PairingInterrupted, ""}, nil
		case *events.PairPasskeyRequest, *events.PairPasskeyError:
			return &outcome{whatisup.Failed, whatisup.PasskeyRequired, ""}, nil
		case *events.ClientOutdated:
			s.kit.Outdated()
			return &outcome{whatisup.Failed, whatisup.ClientOutdated, ""}, nil
		case storeFailed:
			return nil, errAgain
		case lineFailed, lineClosed, handlerFailed, *events.KeepAliveTimeout, *events.ConnectFailure, *events.TemporaryBan,
			*events.LoggedOut, *events.StreamReplaced, *events.StreamError, *events.ManualLoginReconnect:
			s.log.Info("connection ended before a scan", "cause", causeOf(got))
			switch {
			case l.mayHaveLinked():
				// The restart that follows a scan can overtake the library's word
				// that the scan has made a link.
				if outcomeBy.IsZero() {
					outcomeBy = time.Now().Add(outcomeWithin)
				}
			case !sh.connected:
				return unreachable(), nil
			case len(sh.codes) == 0:
				return &outcome{whatisup.Pending, whatisup.QRTimeout, ""}, nil // WhatsApp closes with the last code
			default:
				return &redial, nil
			}
		}
		if !outcomeBy.IsZero() {
			until = outcomeBy
			continue
		}
		until = sh.next
		if !sh.connected {
			until = began.Add(s.kit.Timing.FirstCode)
		} else if sh.vouch.Before(until) {
			until = sh.vouch
		}
	}
}

func unreachable() *outcome {
	return &outcome{whatisup.Pending, whatisup.Network, whatisup.CodeWhatsAppUnreachable}
}

// wants says whether the attempt of generation g is still the one to run.
func (s *session) wants(g whatisup.Generation) bool {
	return s.inst.DeletedAt.IsZero() && s.inst.AttemptOpen() && s.inst.Wanted.Generation == g
}

// show shows the next code: first the row that calls wait for, then the state
// and the event.
func (s *session) show(ctx context.Context, sh *shown) error {
	now := time.Now()
	life := s.kit.Timing.CodeNext
	if len(sh.codes) == 6 {
		life = s.kit.Timing.CodeFirst
	}
	sh.row.Raw, sh.codes = sh.codes[0], sh.codes[1:]
	sh.row.ExpiresAt = now.Add(life).Truncate(time.Millisecond)
	sh.row.AliveUntil = now.Add(whatisup.AliveFor)
	sh.next, sh.vouch = sh.row.ExpiresAt, now.Add(vouchEvery)
	data := whatisup.QRData{Raw: sh.row.Raw, ExpiresAt: whatisup.At(sh.row.ExpiresAt)}
	var err error
	if sh.row.Modules, data.QR, err = s.kit.Draw(sh.row.Raw); err != nil {
		return err
	}
	if err := s.put(ctx, sh.row); err != nil {
		return err
	}
	raw := sh.row.Raw
	s.seen.code.Store(&raw)
	e, err := whatisup.NewEvent(whatisup.QRUpdated, s.ref.Customer, s.ref.Mode, s.ref.ID, now, data)
	if err != nil {
		return err
	}
	e.Command = s.inst.Wanted.Command(now)
	o := s.inst.Observed
	o.Status, o.Reason, o.QRExpiresAt = whatisup.QR, whatisup.NoReason, sh.row.ExpiresAt
	return s.observe(ctx, o, e)
}

// put writes the code row. A newer attempt there means that this one is over.
func (s *session) put(ctx context.Context, row whatisup.Pairing) error {
	if !s.tenure.Trusted() {
		return errFenced
	}
	err := s.persist(ctx, func() error { return s.kit.Codes.PutPairing(ctx, row) })
	if errors.Is(err, whatisup.ErrFenced) {
		return errAgain
	}
	return err
}

func (s *session) vouch(ctx context.Context, sh *shown) {
	sh.vouch = time.Now().Add(vouchEvery)
	until := time.Now().Add(whatisup.AliveFor)
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	if !s.tenure.Trusted() {
		return
	}
	if err := s.kit.Codes.VouchPairing(ctx, s.ref.ID, sh.row.Attempt, until); err != nil {
		s.log.Warn("code not vouched for", "error", err.Error())
		sh.vouch = time.Now().Add(time.Second)
		return
	}
	sh.row.AliveUntil = until
}

// withdraw says that the code is dead. If it can't be said, the word that it is
// alive ends by itself.
func (s *session) withdraw(ctx context.Context, a whatisup.AttemptID) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	if !s.tenure.Trusted() {
		return
	}
	if err := s.kit.Codes.VouchPairing(ctx, s.ref.ID, a, time.Time{}); err != nil && !errors.Is(err, whatisup.ErrFenced) {
		s.log.Warn("code not withdrawn", "error", err.Error())
	}
}

// askCode asks WhatsApp for the pair code that is wanted, if it hasn't been
// asked yet. The answer comes as a pairCode.
func (s *session) askCode(l *line, sh *shown) {
	w := &s.inst.Wanted
	if w.PairPhone == "" || w.PairSerial == sh.pairing {
		return
	}
	sh.pairing = w.PairSerial
	serial, phone := w.PairSerial, w.PairPhone
	s.kit.Background.Go(func() {
		ctx, cancel := context.WithTimeout(l.ctx, 15*time.Second)
		defer cancel()
		code, err := l.client.pairPhone(ctx, string(phone))
		if l.ctx.Err() == nil {
			l.tell(pairCode{serial: serial, phone: phone, code: code, err: err})
		}
	})
}

func (s *session) showPairCode(ctx context.Context, sh *shown, got pairCode) error {
	sh.row.CodePhone, sh.row.CodeSerial = got.phone, got.serial
	sh.row.Code, sh.row.CodeExpiresAt, sh.row.CodeRefused = got.code, sh.ends, false
	if got.err != nil {
		s.log.Info("no pair code", "error", redact(got.err))
		sh.row.Code, sh.row.CodeExpiresAt, sh.row.CodeRefused = "", time.Time{}, true
	}
	return s.put(ctx, sh.row)
}

// redact keeps of a library's error only what kind it is.
func redact(err error) string {
	if e, ok := errors.AsType[*whatsmeow.IQError](err); ok {
		return "WhatsApp answered " + e.Text
	}
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, whatsmeow.ErrIQTimedOut) {
		return "no answer in time"
	}
	return "refused"
}

// paired stores that there is a link, and waits for the restart that WhatsApp
// asks for, unless it has come already. The library has stored the device before
// it told the phone.
func (s *session) paired(ctx context.Context, l *line, g whatisup.Generation, e *events.PairSuccess, restarted bool) error {
	s.device = l.client.device()
	s.previous = s.inst.Observed.PhoneNumber
	o := s.inst.Observed
	o.Status, o.Reason, o.FailedCause = whatisup.Connecting, whatisup.NoReason, ""
	o.NextRetryAt, o.QRExpiresAt = time.Time{}, time.Time{}
	o.PhoneNumber = whatisup.PhoneNumber(e.ID.User)
	o.Link, o.Confirmed = whatisup.Link(g), false
	o.ObservedGeneration, o.DoneGeneration = max(o.ObservedGeneration, g), max(o.DoneGeneration, g)
	if err := s.observeBy(ctx, whatisup.ByPhone, o); err != nil {
		return err
	}
	s.down = time.Now()
	s.fresh = true
	until := s.down.Add(restartWithin)
	for !restarted {
		got, err := s.wait(ctx, until, l, nil)
		if err != nil {
			return err
		}
		switch got.(type) {
		case changed:
			if !s.inst.HasLink() {
				return nil // the duties begin with giving it up
			}
		case storeFailed:
			return errAgain
		default: // the restart, its end, or no word of it
			restarted = true
		}
	}
	return nil
}
