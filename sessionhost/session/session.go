package session

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"runtime/debug"
	"slices"
	"sync/atomic"
	"time"

	"go.mau.fi/whatsmeow/store"

	"whatisup/shared/whatisup"
)

// session is one instance with work to do. Its fields belong to the goroutine of
// run, but for those that say otherwise.
type session struct {
	kit    *Kit
	tenure Tenure
	ref    whatisup.Ref
	seen   *running // what others see of it
	log    *slog.Logger
	wake   chan struct{}        // something wanted may have changed
	line   atomic.Pointer[line] // the newest connection; also read by Fail
	ctx    context.Context      // of everything the session does
	owned  context.Context      // ends when the shard is given up or lost
	stop   context.CancelFunc   // ends ctx
	// linking: a scan is under way, or its first login; also set by the library's
	// goroutine.
	linking atomic.Bool

	inst   *whatisup.Instance
	auth   Auth
	device *store.Device // of the link, as long as its handle is sound

	fresh    bool          // the link was made a moment ago
	wish     bool          // connect was asked for while something else went on
	seat     chan struct{} // the place among the interactive connects that is held
	since    time.Time     // of the present login
	adopted  bool          // the first look after this adoption is done
	moved    time.Time     // until when a move between hosts need not be shown; zero: no such time
	down     time.Time     // since when the link has no login; zero: it has one, or none is tried
	tries    int           // connects in a row that came to nothing
	refused  int           // ... because WhatsApp refused the login
	replaced time.Time     // the last time that another connection took the link
	attempt  uint64        // dials of attempts within this tenure
	previous whatisup.PhoneNumber
	sendAt   time.Time // when to try again to send what is unsent
	sendFail int
}

// finishWithin is how long a session may go on, when its shard is given up, to
// bring a scan to its first login.
const finishWithin = 6 * time.Second

// errAgain: the rows are not as they were read; look at them anew.
var errAgain = errors.New("the instance changed meanwhile")

func newSession(kit *Kit, t Tenure, r *running) *session {
	return &session{
		kit: kit, tenure: t, ref: r.ref, seen: r, wake: r.wake,
		log: kit.Log.With("instance_id", string(r.ref.ID), "shard", int(t.Shard())),
	}
}

// publish lets others see what is stored.
func (s *session) publish() {
	o := s.inst.Observed
	o.Unsent = nil
	s.seen.shown.Store(&o)
}

// run does what there is to do and returns when nothing is left, with what it
// last saw, or when ctx ends.
//
// When the shard is given up over a scan, the session goes on for a moment: the
// phone has linked a device that no other host could finish.
func (s *session) run(owned context.Context) (rested rest) {
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
	s.ctx, s.owned, s.stop = ctx, owned, stop
	defer func() {
		if p := recover(); p != nil {
			s.log.Error("session panicked", "panic", p, "stack", string(debug.Stack()))
			s.kit.Metrics.Ended("panic")
			rested = rest{again: time.Now().Add(30 * time.Second)}
		}
		s.close()
	}()
	for failures := 1; ; failures++ {
		began := time.Now()
		err := s.live(ctx)
		if time.Since(began) >= s.kit.Timing.Stable {
			failures = 1
		}
		switch {
		case err == nil:
			return restOf(s.inst)
		case ctx.Err() != nil || !s.tenure.Trusted():
			return rest{}
		case errors.Is(err, whatisup.ErrNotFound) && s.inst == nil:
			return rest{gone: true}
		case errors.Is(err, errAgain), errors.Is(err, whatisup.ErrNotFound):
			// Deleted meanwhile, or its handle failed: begin with adopting.
		case errors.Is(err, whatisup.ErrFenced):
			// Another owner, or we are it and the row says otherwise for a moment.
			if s.tenure.Confirm(ctx) != nil {
				return rest{}
			}
		default:
			s.log.Warn("session begins anew", "error", err.Error())
		}
		s.close()
		s.inst, s.device = nil, nil
		if !pause(ctx, backoff(failures, rand.Float64), s.wake) { // whoever wakes it waits for it
			return rest{}
		}
	}
}

// close gives up what the session holds. It waits only for staged writes, and
// not for long.
func (s *session) close() {
	if l := s.line.Swap(nil); l != nil {
		l.end()
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(s.ctx), 3*time.Second)
	defer cancel()
	if s.inst != nil {
		s.sendNow(ctx)
	}
	if s.auth == nil {
		return
	}
	if err := s.auth.Close(ctx); err != nil && s.tenure.Trusted() && s.auth.Err() == nil {
		s.log.Warn("auth state not closed", "error", err.Error())
	}
	s.auth = nil
}

// sleep says whether ctx still goes on afterwards.
func sleep(ctx context.Context, d time.Duration) bool { return pause(ctx, d, nil) }

// pause is a sleep that wake ends.
func pause(ctx context.Context, d time.Duration, wake <-chan struct{}) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-wake:
	case <-t.C:
	}
	return true
}

// live adopts the instance and does one duty after the other.
func (s *session) live(ctx context.Context) error {
	inst, err := s.adopt(ctx)
	if err != nil {
		return err
	}
	if err := s.ours(inst); err != nil {
		return err
	}
	s.inst = inst
	s.publish()
	if len(inst.Observed.Unsent)+len(inst.Unsent) > 0 {
		s.sendAt = time.Now() // what a dead writer left; as soon as there is nothing more urgent
	}
	handle, cancel := context.WithCancel(ctx)
	defer cancel()
	s.auth = s.kit.Devices.Open(s.ref, Fence{
		Epoch: s.tenure.Epoch(), Context: handle,
		Fail: func(err error) {
			if l := s.line.Load(); l != nil {
				l.tell(storeFailed{err})
				l.shut()
			}
		},
	})
	if !s.adopted {
		s.adopted = true
		if inst.Observed.Status == whatisup.Connected {
			s.moved = time.Now().Add(s.kit.Timing.Grace)
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
		if done {
			// Something may have been wanted since the last read.
			select {
			case <-s.wake:
				if _, err := s.reread(ctx); err != nil {
					return err
				}
				continue
			default:
			}
			s.sendNow(ctx)
			return nil
		}
	}
}

// adopt makes the instance this owner's. After a claim a whole shard begins at
// one moment, so there is a turn for that; whoever is asked for does not stand
// behind those that nobody waits for.
func (s *session) adopt(ctx context.Context) (*whatisup.Instance, error) {
	if !s.seen.asked {
		select {
		case s.kit.Budgets.adoptions <- struct{}{}:
			defer func() { <-s.kit.Budgets.adoptions }()
		case <-s.wake:
			s.seen.asked = true
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return s.kit.Store.Adopt(ctx, s.ref, s.tenure.Epoch())
}

// duty does the first thing there is to do, and says whether nothing is.
func (s *session) duty(ctx context.Context) (done bool, err error) {
	i := s.inst
	switch {
	case !i.DeletedAt.IsZero():
		return true, s.bury(ctx)
	case i.Unlinking():
		return false, s.giveUp(ctx, nil)
	}
	if found, err := s.unfinished(ctx); found || err != nil {
		return false, err
	}
	switch {
	case i.HasLink() && i.Wanted.Online && !s.held():
		return false, s.stayOnline(ctx)
	case i.AttemptOpen():
		return false, s.pair(ctx)
	}
	return true, s.settle(ctx)
}

// unfinished finds a link that no state of the instance tells of, or whose first
// login nobody of this tenure is waiting for: the host that made it died. It is
// unlinked as far as possible, and wiped.
func (s *session) unfinished(ctx context.Context) (bool, error) {
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
	if errors.Is(err, whatisup.ErrNotFound) {
		if o.Link == 0 {
			return false, nil
		}
		// The state knows of a link whose auth state is wiped already.
		return true, s.observe(ctx, interrupted(s.inst))
	}
	if err != nil {
		return false, err
	}
	if d.Confirmed && d.Link == o.Link {
		n := *o
		n.Confirmed = true
		return true, s.observe(ctx, n)
	}
	s.log.Info("a link was left unfinished; it is wiped")
	s.device = d.Store
	err = s.unlink(ctx, nil, d.Link)
	s.device = nil
	if err != nil {
		return true, err
	}
	return true, s.observe(ctx, interrupted(s.inst))
}

func interrupted(i *whatisup.Instance) whatisup.Observed {
	o := i.Observed
	o.Status, o.Reason = whatisup.Pending, whatisup.PairingInterrupted
	o.Link, o.Confirmed, o.NextRetryAt, o.QRExpiresAt = 0, false, time.Time{}, time.Time{}
	o.DoneGeneration = max(o.DoneGeneration, o.ObservedGeneration)
	return o
}

// held says whether the link is in a state that only a new wish, or a new owner
// with another client, leads out of.
func (s *session) held() bool {
	i := s.inst
	o := &i.Observed
	if o.ObservedGeneration < i.Wanted.Generation {
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

// settle stores the state of an instance at rest, if it is not what is stored.
func (s *session) settle(ctx context.Context) error {
	i := s.inst
	o := i.Observed
	o.NextRetryAt, o.QRExpiresAt = time.Time{}, time.Time{}
	givenUp := i.Wanted.UnlinkThrough > 0 && whatisup.Link(i.Wanted.Generation) <= i.Wanted.UnlinkThrough
	by := whatisup.ByAPI
	switch {
	case o.Link > 0 && !i.Wanted.Online:
		o.Status, o.Reason = whatisup.Disconnected, whatisup.Stopped
	case o.Link > 0:
		// Held: as it is, until somebody connects.
	case givenUp && (o.PhoneNumber != "" || o.Status != whatisup.Pending || o.Reason == whatisup.Starting):
		o.Status, o.Reason, o.PhoneNumber = whatisup.Pending, whatisup.LoggedOut, ""
	case o.Status == whatisup.QR || o.Status == whatisup.Pending && o.Reason == whatisup.Starting || o.Status == whatisup.Connecting || o.Status == whatisup.Connected:
		o.Status, o.Reason = whatisup.Pending, whatisup.NoReason
	}
	o.ObservedGeneration = max(o.ObservedGeneration, i.Wanted.Generation)
	if !i.AttemptOpen() {
		o.DoneGeneration = max(o.DoneGeneration, i.Wanted.Generation)
	}
	if same(&o, &i.Observed) {
		return nil
	}
	return s.observeBy(ctx, by, o)
}

// same says whether storing b over a would change anything.
func same(a, b *whatisup.Observed) bool {
	return a.Status == b.Status && a.Reason == b.Reason && a.NextRetryAt.Equal(b.NextRetryAt) && a.QRExpiresAt.Equal(b.QRExpiresAt) &&
		a.PhoneNumber == b.PhoneNumber && a.Link == b.Link && a.Confirmed == b.Confirmed && a.FailedCause == b.FailedCause &&
		a.ObservedGeneration == b.ObservedGeneration && a.DoneGeneration == b.DoneGeneration
}

// reread reads the instance again and says whether anything is wanted
// differently.
func (s *session) reread(ctx context.Context) (changed bool, err error) {
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
func (s *session) ours(i *whatisup.Instance) error {
	if i.Observed.Epoch != s.tenure.Epoch() {
		return whatisup.ErrFenced
	}
	return nil
}

// persist repeats do while the store is unavailable, as long as the session may
// live. The lease can't be renewed then either, so this is not for long.
func (s *session) persist(ctx context.Context, do func() error) error {
	for n := 1; ; n++ {
		err := do()
		if !errors.Is(err, whatisup.ErrUnavailable) || ctx.Err() != nil {
			return err
		}
		s.log.Warn("store unavailable; trying again", "error", err.Error())
		if !sleep(ctx, backoff(min(n, 3), rand.Float64)) {
			return ctx.Err()
		}
	}
}

// observe stores a step, with the event that tells of it if it is one that is
// shown. By says who caused it.
func (s *session) observe(ctx context.Context, o whatisup.Observed, more ...whatisup.Event) error {
	return s.observeBy(ctx, whatisup.ByNetwork, o, more...)
}

func (s *session) observeBy(ctx context.Context, by string, o whatisup.Observed, more ...whatisup.Event) error {
	was := s.inst.Observed
	now := time.Now()
	if was.Status == whatisup.Connected && o.Status != whatisup.Connected {
		o.LastSeenAt = now
	}
	if o.Status == whatisup.Connected {
		o.LastSeenAt = now
	}
	step := o.Status != was.Status || o.Reason != was.Reason
	if step && !was.Status.MayBecome(o.Status, o.Reason) {
		// The table is the promise; whoever reads this has a bug to mend.
		s.log.Error("illegal step", "from", string(was.Status), "was", string(was.Reason), "to", string(o.Status), "reason", string(o.Reason))
	}
	events := more
	if s.inst.DeletedAt.IsZero() {
		if e, ok := s.told(&was, &o, by, now); ok {
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

// told is the event that tells of a step: the one of its own, if the step has
// one, else that the status changed.
func (s *session) told(was, is *whatisup.Observed, by string, now time.Time) (whatisup.Event, bool) {
	var changed []string
	if was.Status != is.Status || was.Reason != is.Reason {
		changed = append(changed, "status")
	}
	if was.PhoneNumber != is.PhoneNumber {
		changed = append(changed, "phone_number")
	}
	if len(changed) == 0 {
		return whatisup.Event{}, false
	}
	var name whatisup.EventName
	var data any
	switch {
	case is.Status == whatisup.Connected && slices.Contains(changed, "status"):
		d := whatisup.ConnectedData{PhoneNumber: string(is.PhoneNumber), Link: "resumed"}
		if !was.Confirmed {
			d.Link = "new"
			if s.previous != "" && s.previous != is.PhoneNumber {
				p := string(s.previous)
				d.PreviousPhoneNumber = &p
			}
		}
		name, data = whatisup.InstanceConnected, d
	case is.Status == whatisup.Disconnected && slices.Contains(changed, "status"):
		name, data = whatisup.InstanceDisconnected, whatisup.DisconnectedData{Reason: is.Reason, Initiator: by}
	case is.Status == whatisup.Failed && slices.Contains(changed, "status"):
		name, data = whatisup.InstanceFailed, whatisup.FailedData{Reason: is.Reason}
	case is.Status == whatisup.QR:
		return whatisup.Event{}, false // qr.updated tells
	case is.Reason == whatisup.LoggedOut && was.Status == whatisup.Connected:
		name, data = whatisup.InstanceDisconnected, whatisup.DisconnectedData{Reason: is.Reason, Initiator: whatisup.ByAPI}
	default:
		u := whatisup.UpdatedData{Changed: changed, Status: is.Status}
		if is.Reason != whatisup.NoReason {
			r := is.Reason
			u.Reason = &r
		}
		name, data = whatisup.InstanceUpdated, u
	}
	e, err := whatisup.NewEvent(name, s.ref.Customer, s.ref.Mode, s.ref.ID, now, data)
	if err != nil {
		s.log.Error("no event", "error", err.Error())
		return whatisup.Event{}, false
	}
	e.Command = s.inst.Wanted.Command(now)
	return e, true
}

// sendSoon is when the events of a step that leads to another are sent, if that
// has not been by then.
const sendSoon = time.Second

// sendWithin bounds one try to send events; it holds the session up.
const sendWithin = 3 * time.Second

// sendNow is send before its time, unless the queues were out of reach a moment
// ago.
func (s *session) sendNow(ctx context.Context) {
	if s.sendFail == 0 {
		s.sendAt = time.Time{}
	}
	s.send(ctx)
}

// send takes the unsent events to the queues, in their order. What fails stays
// beside the rows and is tried again.
func (s *session) send(ctx context.Context) {
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
		s.sendAt = time.Now().Add(backoff(min(s.sendFail+1, 6), rand.Float64))
		s.log.Warn("events not sent yet", "count", len(host)+len(api), "error", err.Error())
		return
	}
	for _, e := range append(slices.Clone(api), host...) {
		s.kit.Metrics.EventSent(time.Since(e.OccurredAt.Time))
	}
	s.sendAt, s.sendFail = time.Time{}, 0
}

// What wait can return, beside what a line tells.
type (
	elapsed struct{}
	changed struct{} // something is wanted differently
	granted struct{} // the place that was waited for
)

// wait returns the first of: the time, a change of what is wanted, the place,
// what the line tells. Meanwhile it stores what falls due: that a link has been
// down for a minute, that a move took too long, that events can be sent again.
func (s *session) wait(ctx context.Context, until time.Time, l *line, place chan<- struct{}) (any, error) {
	var happened <-chan any
	if l != nil {
		happened = l.happened
	}
	for {
		next := until
		for _, t := range []time.Time{s.moved, s.downAt(), s.sendAt} {
			if !t.IsZero() && (next.IsZero() || t.Before(next)) {
				next = t
			}
		}
		var due <-chan time.Time
		var timer *time.Timer
		if !next.IsZero() {
			timer = time.NewTimer(time.Until(next))
			due = timer.C
		}
		var got any
		var err error
		select {
		case <-ctx.Done():
			err = ctx.Err()
		case <-s.wake:
			var differs bool
			if differs, err = s.reread(ctx); differs {
				got = changed{}
			}
		case got = <-happened:
		case place <- struct{}{}:
			got = granted{}
		case <-due:
			now := time.Now()
			err = s.fallDue(ctx, now)
			if !until.IsZero() && !now.Before(until) {
				got = elapsed{}
			}
		}
		if timer != nil {
			timer.Stop()
		}
		if got != nil || err != nil {
			return got, err
		}
	}
}

// downAt is when the link will have been down for too long to be called
// connecting; zero if it never will, or is not called so.
func (s *session) downAt() time.Time {
	if s.down.IsZero() || s.inst.Observed.Status != whatisup.Connecting {
		return time.Time{}
	}
	return s.down.Add(s.kit.Timing.Down)
}

func (s *session) fallDue(ctx context.Context, now time.Time) error {
	if !s.moved.IsZero() && !now.Before(s.moved) {
		s.moved = time.Time{}
		if err := s.showDown(ctx, time.Time{}); err != nil {
			return err
		}
	}
	if at := s.downAt(); !at.IsZero() && !now.Before(at) {
		o := s.inst.Observed
		o.Status, o.Reason = whatisup.Disconnected, whatisup.Network
		if err := s.observe(ctx, o); err != nil {
			return err
		}
	}
	if !s.sendAt.IsZero() && !now.Before(s.sendAt) {
		s.sendAt = time.Time{}
		s.send(ctx)
	}
	return nil
}

// showDown shows that the link is being reconnected, and when the next try is.
// What is disconnected or failed stays so until a login succeeds.
func (s *session) showDown(ctx context.Context, next time.Time) error {
	o := s.inst.Observed
	if o.Status == whatisup.Connected {
		if time.Now().Before(s.moved) {
			return nil // moved just now: not worth showing yet
		}
		o.Status, o.Reason = whatisup.Connecting, whatisup.NoReason
	}
	if next.IsZero() || time.Until(next) < 2*time.Second {
		next = time.Time{}
	}
	o.NextRetryAt = next.Truncate(time.Millisecond)
	if same(&o, &s.inst.Observed) {
		return nil
	}
	return s.observe(ctx, o)
}
