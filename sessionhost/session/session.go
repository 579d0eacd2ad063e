package session

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"

	"whatisup/sessionhost/courier"
	"whatisup/sessionhost/line"
	"whatisup/sessionhost/outbox"
	"whatisup/shared/whatisup"
)

// Session is one instance with work to do. [Session.Run] runs it; its other
// exported methods may be called from anywhere.
type Session struct {
	kit    *Kit
	tenure Tenure
	ref    whatisup.Ref
	log    *slog.Logger

	wake     chan struct{} // what is wanted may have changed
	requests chan request  // what the instance is asked to do
	mail     chan struct{} // messages may wait to be sent
	turned   chan struct{} // the outbox has stopped working
	ended    chan struct{} // closed by End

	started   chan struct{} // closed when the first connect is over, or there is none
	startOnce sync.Once
	shown     atomic.Pointer[whatisup.Observed] // the state stored last
	code      atomic.Pointer[string]            // the QR text that is shown
	line      atomic.Pointer[connection]        // the newest; also read by Fail
	linking   atomic.Bool                       // a scan is under way, or its first login; also set by the line
	asked     bool                              // somebody waits for it; Run's own from its start on
	settings  atomic.Pointer[whatisup.Settings] // as read last; also used by the line
	spoilt    spoilt                            // messages that could not be stored; used by the line
	received  received                          // files that are to be fetched; also used by the line
	timers    timers                            // of direct chats; used by the line and the outbox
	handing   *semaphore.Weighted               // one event of WhatsApp's at a time, in order; used by the line

	state
}

// state is what one run of the session knows. It belongs to the goroutine of Run.
type state struct {
	ctx   context.Context    // of everything the run does
	owned context.Context    // ends when the shard is given up or lost
	stop  context.CancelFunc // ends ctx

	inst   *whatisup.Instance
	auth   Auth
	device *line.Device // of the link, as long as its handle is sound
	out    *outbox.Outbox

	up      context.Context // while the link is logged in; else nil
	working sync.WaitGroup  // commands that are being run

	justLinked       bool      // the link was made a moment ago
	connectRequested bool      // connect was asked for while something else went on
	turnOver         func()    // ends the turn to connect that is used; nil: none
	loggedInAt       time.Time // of the present login

	vouched            bool      // a login was stored by this run
	adopted            bool      // the first look after this adoption is done
	handoverGraceUntil time.Time // until then a move between hosts need not be shown; zero: no such time
	downSince          time.Time // since when the link has no login; zero: it has one, or none is tried

	tries     int       // connects in a row that came to nothing
	triedAt   time.Time // when the last of them ended
	unreached bool      // ... because WhatsApp could not be reached
	told      int       // ... how often another session's login has ended the wait for the next
	refused   int       // ... because WhatsApp refused the login
	replaced  time.Time // the last time that another connection took the link
	attempts  uint64    // dials of attempts to pair within this run
	previous  whatisup.PhoneNumber

	account  *courier.Account
	pending  []whatisup.Event // committed by this run, and marked as unsent
	sendAt   time.Time        // when to try to send what is unsent
	sendFail int
}

// finishWithin is how long a session may go on, when its shard is given up, to
// bring a scan to its first login.
const finishWithin = 6 * time.Second

var (
	// errAgain: the rows are not as they were read; read them again.
	errAgain = errors.New("the instance changed meanwhile")
	// errFenced: this process may no longer act for the shard.
	errFenced = errors.New("the shard is not ours any more")
)

// New is the session of an instance. Asked says that somebody waits for it.
// Nothing runs until Run; call End after the last Run.
func New(kit *Kit, t Tenure, ref whatisup.Ref, asked bool) *Session {
	kit.Budgets.sessions.Add(1)
	return &Session{
		kit: kit, tenure: t, ref: ref, asked: asked, timers: timers{chats: kit.Chats, ref: ref},
		log:  kit.Log.With("instance_id", string(ref.ID), "shard", int(t.Shard())),
		wake: make(chan struct{}, 1), requests: make(chan request), mail: make(chan struct{}, 1), turned: make(chan struct{}, 1),
		ended: make(chan struct{}), started: make(chan struct{}), handing: semaphore.NewWeighted(1),
	}
}

// End says that the session runs no more.
func (s *Session) End() {
	s.kit.Budgets.sessions.Add(-1)
	s.start()
	close(s.ended)
}

// Run does what there is to do and returns when nothing is left, with what it
// last saw, or when ctx ends.
//
// When the shard is given up over a scan, the session goes on for a moment: the
// phone has linked a device that no other host could finish.
func (s *Session) Run(owned context.Context) (rested Rested) {
	ctx, stop := context.WithCancel(context.WithoutCancel(owned))
	defer stop()
	defer s.tenure.OnLost(stop)()
	defer context.AfterFunc(owned, func() {
		if s.linking.Load() {
			time.AfterFunc(finishWithin, stop)
		} else {
			stop()
		}
	})()
	s.linking.Store(false)
	s.state = state{ctx: ctx, owned: owned, stop: stop}

	defer func() {
		if p := recover(); p != nil {
			s.log.Error("session panicked", "panic", p, "stack", string(debug.Stack()))
			s.kit.Metrics.Ended("panic")
			rested = Rested{again: s.kit.Now().Add(30 * time.Second)}
		}
		s.close()
		stop()
		s.working.Wait()
	}()

	unreadable := 0
	for failures := 1; ; failures++ {
		began := s.kit.Now()
		err := s.live(ctx)
		if s.doesNotOpen(err) {
			if unreadable++; unreadable > 1 || errors.Is(err, whatisup.ErrCorrupt) {
				err = s.unreadable(ctx, err)
			}
		}
		if s.kit.Now().Sub(began) >= s.kit.Timing.Stable {
			failures = 1
		}

		switch {
		case err == nil:
			return restedAt(s.inst)
		case ctx.Err() != nil || !s.tenure.Trusted():
			return Rested{}
		case errors.Is(err, whatisup.ErrNotFound) && s.inst == nil:
			return Rested{gone: true}
		case errors.Is(err, errAgain), errors.Is(err, whatisup.ErrNotFound):
			// Deleted meanwhile, or its handle failed: begin with adopting.
		case errors.Is(err, whatisup.ErrFenced):
			// Another owner, or we are it and the row says otherwise for a moment.
			if s.tenure.Confirm(ctx) != nil {
				return Rested{}
			}
		default:
			s.log.Warn("session starts again", "error", err.Error())
		}

		s.close()
		s.inst, s.device = nil, nil
		if !Pause(ctx, Backoff(failures, rand.Float64), s.wake) { // whoever wakes it waits for it
			return Rested{}
		}
	}
}

// doesNotOpen says that the session ended because a row of its auth state does not
// open.
func (s *Session) doesNotOpen(err error) bool {
	if s.inst == nil || s.account == nil || s.auth == nil || !s.tenure.Trusted() {
		return false
	}
	return errors.Is(err, whatisup.ErrCorrupt) || errors.Is(s.auth.Err(), whatisup.ErrCorrupt)
}

// unreadable stores that the link can't be connected, because its auth state does
// not open. Waiting does not mend that: somebody has written to the table, or we
// have a bug. The link is kept: the row may be put back.
func (s *Session) unreadable(ctx context.Context, cause error) error {
	s.log.Error("auth state does not open", "error", cause.Error())
	s.kit.Metrics.Unreadable()
	o := s.inst.Observed.TakenUp(s.inst.Wanted.Generation).Rejected(whatisup.Internal, time.Time{})
	return s.observe(ctx, o)
}

// close releases what the session holds. It waits only for staged writes, and
// not for long.
func (s *Session) close() {
	if l := s.line.Swap(nil); l != nil {
		l.end()
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(s.ctx), 3*time.Second)
	defer cancel()
	if s.out != nil && s.account != nil {
		s.out.Close(ctx)
	}
	if s.inst != nil && s.account != nil {
		s.sendNow(ctx)
	}
	s.account = nil
	if s.auth == nil {
		return
	}
	if err := s.auth.Close(ctx); err != nil && s.tenure.Trusted() && s.auth.Err() == nil {
		s.log.Warn("auth state not closed", "error", err.Error())
	}
	s.auth = nil
}

// live adopts the instance and does one duty after the other.
func (s *Session) live(ctx context.Context) error {
	inst, err := s.adopt(ctx)
	if err != nil {
		return err
	}
	if err := s.ours(inst); err != nil {
		return err
	}
	s.inst = inst
	s.publish()
	s.account = s.kit.Courier.Open(s.owned, s.ref, inst.Observed.Owed, s.owe)
	s.pending = nil
	if inst.Observed.Unsent.From != "" || inst.Unsent.From != "" {
		s.sendAt = s.kit.Now() // what a dead writer left; as soon as there is nothing more urgent
	}

	handle, cancel := context.WithCancel(ctx)
	defer cancel()
	s.auth = s.kit.Devices.Open(s.ref, Fence{
		Epoch: s.tenure.Epoch(), Context: handle,
		Fail: func(err error) {
			if l := s.line.Load(); l != nil {
				l.Fail(err)
			}
		},
	})
	s.out = s.newOutbox()
	s.out.Link(inst.Observed.Link)
	defer s.out.Connected(ctx, nil)
	if !s.adopted {
		s.adopted = true
		if inst.Observed.Status == whatisup.Connected {
			s.handoverGraceUntil = s.kit.Now().Add(s.kit.Timing.Grace)
		}
	}

	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		if s.auth.Err() != nil {
			return errAgain
		}
		done, err := s.duty(ctx)
		if err != nil {
			return err
		}
		if !done {
			continue
		}

		// Something may have been wanted since the last read.
		if s.Woken() {
			if _, err := s.reread(ctx); err != nil {
				return err
			}
			continue
		}
		s.sendNow(ctx)
		if waiting, err := s.tidyMessages(ctx); err != nil {
			return err
		} else if waiting {
			continue
		}
		if s.inst.Unsent.From == "" || s.sendFail > 0 {
			return nil
		}
		// The API has marked an event: it sends it, or has died over it.
		if _, err := s.wait(ctx, s.kit.Now().Add(s.untilAPIs()), nil, nil); err != nil {
			return err
		}
		if _, err := s.reread(ctx); err != nil {
			return err
		}
	}
}

// adopt makes the instance this owner's. After a claim a whole shard begins at
// one moment, so adoptions have slots; an instance that somebody waits for takes
// none.
func (s *Session) adopt(ctx context.Context) (*whatisup.Instance, error) {
	if !s.asked {
		select {
		case s.kit.Budgets.adoptions <- struct{}{}:
			defer func() { <-s.kit.Budgets.adoptions }()
		case <-s.wake:
			s.asked = true
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return s.kit.Store.Adopt(ctx, s.ref, s.tenure.Epoch())
}

// duty does the first thing there is to do, and says whether nothing is left.
func (s *Session) duty(ctx context.Context) (done bool, err error) {
	duty := s.inst.Duty(s.tenure.Epoch())
	switch duty {
	case whatisup.Remove:
		return true, s.removeDeleted(ctx)
	case whatisup.Unlink:
		return false, s.giveUp(ctx, nil)
	}

	if found, err := s.unfinished(ctx); found || err != nil {
		return false, err
	}
	switch {
	case duty == whatisup.StayOnline && !s.held():
		return false, s.stayOnline(ctx)
	case duty == whatisup.Pair:
		return false, s.pair(ctx)
	}

	if o := s.inst.AtRest(); !o.Same(&s.inst.Observed) {
		return true, s.observeBy(ctx, whatisup.ByAPI, o)
	}
	return true, nil
}

// unfinished finds a link that no state of the instance tells of, or whose first
// login nobody of this tenure is waiting for: the host that made it died. It is
// unlinked as far as possible, and wiped.
func (s *Session) unfinished(ctx context.Context) (bool, error) {
	if s.device != nil {
		return false, nil // made or loaded by this session
	}
	o := &s.inst.Observed
	if o.Link == 0 && o.Status != whatisup.QR && o.Status != whatisup.Connecting && o.Reason != whatisup.Starting {
		return false, nil // nothing was under way
	}
	if o.Link > 0 && o.Confirmed {
		return false, nil
	}

	d, err := s.auth.Load(ctx)
	if errors.Is(err, whatisup.ErrCorrupt) && o.Link == 0 {
		// Nothing but a wipe makes room for another link.
		s.log.Error("auth state of an unfinished link does not open; it is wiped", "error", err.Error())
		s.kit.Metrics.Unreadable()
		if err := s.persist(ctx, func() error { return s.auth.Wipe(ctx, d.Link) }); err != nil {
			return true, err
		}
		return true, s.observe(ctx, o.TakenUp(s.inst.Wanted.Generation).Lost(whatisup.Internal))
	}
	if errors.Is(err, whatisup.ErrNotFound) {
		if o.Link == 0 {
			return false, nil
		}
		// The state knows of a link whose auth state is wiped already.
		return true, s.observe(ctx, o.Interrupted())
	}
	if err != nil {
		return false, err
	}
	if d.Confirmed && d.Link == o.Link {
		return true, s.observe(ctx, o.LinkConfirmed())
	}

	s.log.Info("a link was left unfinished; it is wiped")
	s.device = d.Store
	err = s.unlink(ctx, nil, d.Link)
	s.device = nil
	if err != nil {
		return true, err
	}
	return true, s.observe(ctx, s.inst.Observed.Interrupted())
}

// held says whether the link is in a state that only a new wish, or a new owner
// with another client, leads out of.
func (s *Session) held() bool {
	o := &s.inst.Observed
	if o.ObservedGeneration < s.inst.Wanted.Generation {
		return false
	}
	switch {
	case o.Status == whatisup.Disconnected && o.Reason == whatisup.KickedOtherDevice,
		o.Status == whatisup.Failed && o.Reason == whatisup.Internal:
		return true
	case o.Status == whatisup.Failed && o.Reason == whatisup.ClientOutdated:
		return s.tries > 0 || s.refused > 0
	}
	return false
}
