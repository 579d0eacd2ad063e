package session

import (
	"context"
	"errors"
	"math/rand/v2"
	"runtime/pprof"
	"sync"
	"sync/atomic"
	"time"

	"whatisup/shared/whatisup"
)

// Inbox is the shards' command queues.
type Inbox interface {
	// Poll waits for messages; nothing is no error.
	Poll(ctx context.Context, m whatisup.Mode, s whatisup.Shard, wait time.Duration) ([]Message, error)
}

// Message is a received command. Exactly one of its functions is called, unless
// it is left for the dead-letter queue.
type Message struct {
	Command whatisup.Command
	Problem error // the body is no command
	SentAt  time.Time
	Delete  func(ctx context.Context) error
	Extend  func(ctx context.Context) error
	Release func(ctx context.Context) error
}

const (
	pollWait = 20 * time.Second
	// pollAgain is when the queue is asked again at the latest, after it could not
	// be: what waits in it are calls that wait for ten seconds.
	pollAgain = 4 * time.Second
	// upWithin bounds the wait for the sessions of a claimed shard: one whose
	// connection hangs must not hold up a roll-out.
	upWithin = 10 * time.Second
	// workAtOnce is how many commands with work a shard carries out at a time.
	workAtOnce = 16
)

// Shard runs the sessions of one owned shard.
type Shard struct {
	kit    *Kit
	inbox  Inbox
	tenure Tenure

	ctx    context.Context
	wg     sync.WaitGroup // sessions and work
	places chan error     // a nil for each further command that may be worked on now

	mu       sync.Mutex
	closed   bool
	sessions map[whatisup.InstanceID]*running
	rested   map[whatisup.InstanceID]rest
}

// running is a session and what others may see of it.
type running struct {
	ref     whatisup.Ref
	wake    chan struct{}
	asked   bool                              // somebody waits for it; the session's own from its start on
	shown   atomic.Pointer[whatisup.Observed] // the state stored last
	code    atomic.Pointer[string]            // the QR text that is shown
	started chan struct{}                     // closed when the first connect is over, or there is none
	once    sync.Once
}

func (r *running) start() { r.once.Do(func() { close(r.started) }) }

// rest is where a session left its instance, so that looking through the shard
// does not start it again for nothing.
type rest struct {
	gone     bool
	again    time.Time // start it again, but not before
	online   bool
	deleted  bool
	wanted   whatisup.Generation
	unlink   whatisup.Link
	outdated bool
}

func restOf(i *whatisup.Instance) rest {
	return rest{
		online: i.Wanted.Online, deleted: !i.DeletedAt.IsZero(), wanted: i.Wanted.Generation, unlink: i.Wanted.UnlinkThrough,
		outdated: i.Observed.Status == whatisup.Failed && i.Observed.Reason == whatisup.ClientOutdated,
	}
}

// NewShard is the shard of a tenure. Nothing runs until Run.
func NewShard(kit *Kit, inbox Inbox, t Tenure) *Shard {
	s := &Shard{
		kit: kit, inbox: inbox, tenure: t, places: make(chan error, workAtOnce),
		sessions: make(map[whatisup.InstanceID]*running), rested: make(map[whatisup.InstanceID]rest),
	}
	for range workAtOnce {
		s.places <- nil
	}
	return s
}

// Run runs the shard until ctx ends, and returns when its sessions have closed.
func (s *Shard) Run(ctx context.Context) {
	s.ctx = ctx
	// The open poll is not cut off when the shard is given up: what the queue has
	// just handed out would be hidden from the next owner for a while. It ends by
	// itself and gives back what it got.
	polls, stop := context.WithCancel(context.WithoutCancel(ctx))
	forget := s.tenure.OnLost(stop)
	s.kit.Background.Go(func() {
		defer stop()
		defer forget()
		unhost := context.AfterFunc(s.kit.End, stop)
		defer unhost()
		s.poll(ctx, polls)
	})
	s.reconcile(ctx)
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.wg.Wait()
}

// reconcile looks through the shard again and again; soon after the claim more
// often, since the index may be late.
func (s *Shard) reconcile(ctx context.Context) {
	waits := []time.Duration{2 * time.Second, 3 * time.Second}
	for first := true; ; first = false {
		began, err := s.look(ctx)
		if err != nil && ctx.Err() == nil {
			s.kit.Log.Warn("cannot look through the shard", "shard", int(s.tenure.Shard()), "error", err.Error())
			if !sleep(ctx, backoff(2, rand.Float64)) {
				return
			}
			continue
		}
		if first {
			s.wg.Go(func() { s.up(ctx, began) })
		}
		wait := s.kit.Timing.Reconcile - s.kit.Timing.Reconcile/10 + rand.N(s.kit.Timing.Reconcile/5+1)
		if len(waits) > 0 {
			wait, waits = waits[0], waits[1:]
		}
		if !sleep(ctx, wait) {
			return
		}
	}
}

// up tells the fleet when the sessions that were found after the claim have been
// started.
func (s *Shard) up(ctx context.Context, began []*running) {
	t := time.NewTimer(upWithin)
	defer t.Stop()
	for _, r := range began {
		select {
		case <-r.started:
		case <-t.C:
			s.tenure.Up()
			return
		case <-ctx.Done():
			return
		}
	}
	s.tenure.Up()
}

// look starts or wakes what has something to do, and returns what it started.
func (s *Shard) look(ctx context.Context) (began []*running, err error) {
	hints, err := s.kit.Shards.ShardInstances(ctx, s.kit.Mode, s.tenure.Shard())
	if err != nil {
		return nil, err
	}
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, h := range hints {
		if r := s.sessions[h.ID]; r != nil {
			if o := r.shown.Load(); o == nil || h.ObservedGeneration != o.ObservedGeneration || h.Generation > o.ObservedGeneration ||
				!h.Online || h.Deleted || h.UnlinkThrough > 0 && h.UnlinkThrough >= h.Link && h.Link > 0 {
				r.nudge()
			}
			continue
		}
		if !h.Work(s.tenure.Epoch(), now) {
			continue
		}
		was, known := s.rested[h.ID]
		if known && (was.gone || now.Before(was.again)) {
			continue
		}
		if known && was.again.IsZero() && h.UnsentAt.IsZero() && was.online == h.Online && was.deleted == h.Deleted &&
			was.wanted == h.Generation && was.unlink == h.UnlinkThrough {
			continue
		}
		if r := s.startLocked(h.Ref, h.Generation > h.ObservedGeneration); r != nil {
			began = append(began, r)
		}
	}
	return began, nil
}

func (r *running) nudge() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// Wake starts the instance's session, or makes it look again.
func (s *Shard) Wake(ref whatisup.Ref) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r := s.sessions[ref.ID]; r != nil {
		r.nudge()
		return
	}
	s.startLocked(ref, true)
}

// WakeOutdated tries again the links that were refused for the client's version.
func (s *Shard) WakeOutdated() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, r := range s.rested {
		if r.outdated {
			r.again = time.Now()
			s.rested[id] = r
		}
	}
}

func (s *Shard) startLocked(ref whatisup.Ref, asked bool) *running {
	if s.closed || s.ctx.Err() != nil {
		return nil
	}
	delete(s.rested, ref.ID)
	r := &running{ref: ref, asked: asked, wake: make(chan struct{}, 1), started: make(chan struct{})}
	s.sessions[ref.ID] = r
	s.kit.Budgets.sessions.Add(1)
	s.wg.Go(func() { s.runSession(r) })
	return r
}

// runSession runs an instance under a label that its goroutines, the library's
// too, inherit: a crash tells whose it was.
func (s *Shard) runSession(r *running) {
	defer s.kit.Budgets.sessions.Add(-1)
	defer r.start()
	pprof.Do(s.ctx, pprof.Labels("instance", string(r.ref.ID)), func(ctx context.Context) {
		for {
			one := newSession(s.kit, s.tenure, r)
			was := one.run(ctx)
			s.mu.Lock()
			select {
			case <-r.wake:
				if ctx.Err() == nil && s.tenure.Trusted() && !s.closed {
					s.mu.Unlock()
					continue // woken at its last moment
				}
			default:
			}
			delete(s.sessions, r.ref.ID)
			s.rested[r.ref.ID] = was
			s.mu.Unlock()
			return
		}
	})
}

// poll takes messages as long as the shard is ours.
func (s *Shard) poll(ctx, polls context.Context) {
	for n := 1; ctx.Err() == nil && s.tenure.Trusted(); {
		messages, err := s.inbox.Poll(polls, s.kit.Mode, s.tenure.Shard(), pollWait)
		if err != nil {
			if polls.Err() != nil {
				return
			}
			s.kit.Log.Warn("cannot take commands", "shard", int(s.tenure.Shard()), "error", err.Error())
			n++
			if !sleep(ctx, min(backoff(n, rand.Float64), pollAgain)) {
				return
			}
			continue
		}
		n = 1
		if ctx.Err() != nil || !s.tenure.Trusted() {
			// For the next owner; at once, if the shard was given up.
			for _, m := range messages {
				s.tidy(polls, m.Release)
			}
			return
		}
		s.take(messages)
	}
}

// take acts on messages: wake-ups at once, commands with work one after the
// other for each instance.
func (s *Shard) take(messages []Message) {
	groups := make(map[whatisup.InstanceID][]Message)
	var woken []Message
	for _, m := range messages {
		c := &m.Command
		switch {
		case m.Problem != nil:
			s.kit.Log.Error("not a command; it is left for the dead-letter queue", "shard", int(s.tenure.Shard()), "error", m.Problem.Error())
		case !c.HasWork():
			s.kit.Metrics.Woken(time.Since(m.SentAt))
			s.Wake(refOf(c))
			woken = append(woken, m)
		default:
			groups[c.Instance] = append(groups[c.Instance], m)
		}
	}
	if len(woken) > 0 {
		s.spawn(func() {
			for _, m := range woken {
				s.tidy(s.ctx, m.Delete)
			}
		})
	}
	for _, group := range groups {
		s.spawn(func() { s.carryOut(group) })
	}
}

func (s *Shard) spawn(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	s.wg.Go(f)
}

// tidy does one thing to a message; if it fails the message comes again.
func (s *Shard) tidy(ctx context.Context, do func(context.Context) error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 3*time.Second)
	defer cancel()
	if err := do(ctx); err != nil {
		s.kit.Log.Warn("message not tidied up; it comes again", "shard", int(s.tenure.Shard()), "error", err.Error())
	}
}

func refOf(c *whatisup.Command) whatisup.Ref {
	return whatisup.Ref{Customer: c.Customer, Mode: c.Mode, ID: c.Instance}
}

// carryOut does the commands of one instance in their order. Those that wait
// are kept hidden meanwhile.
func (s *Shard) carryOut(group []Message) {
	// There are no more groups that wait than instances with commands: the queue
	// hands out nothing of a group of which it has handed out something.
	_ = s.holding(group, s.places)
	defer func() { s.places <- nil }()
	for i, m := range group {
		ctx, cancel := context.WithTimeout(s.ctx, 12*time.Second)
		done := make(chan error, 1)
		s.wg.Go(func() { done <- s.perform(ctx, &m.Command) })
		err := s.holding(group[i:], done)
		cancel()
		switch {
		case err == nil:
			s.tidy(s.ctx, m.Delete)
		case s.ctx.Err() != nil || !s.tenure.Trusted():
			for _, rest := range group[i:] {
				s.tidy(s.ctx, rest.Release)
			}
			return
		default:
			s.kit.Log.Warn("command not carried out; it comes again", "kind", string(m.Command.Kind), "error", err.Error(),
				"instance_id", string(m.Command.Instance), "request_id", string(m.Command.RequestID))
			return // the rest is behind it in its group
		}
	}
}

// holding waits for done and keeps the messages hidden.
func (s *Shard) holding(group []Message, done <-chan error) error {
	t := time.NewTicker(6 * time.Second)
	defer t.Stop()
	for {
		select {
		case err := <-done:
			return err
		case <-t.C:
			for _, m := range group {
				s.tidy(s.ctx, m.Extend)
			}
		}
	}
}

// perform carries out one command and keeps its result. Nil means that it is
// done with, whatever came of it.
func (s *Shard) perform(ctx context.Context, c *whatisup.Command) error {
	if c.Expired(time.Now()) {
		s.kit.Log.Info("expired command dropped", "kind", string(c.Kind), "instance_id", string(c.Instance), "request_id", string(c.RequestID))
		return nil
	}
	if !s.tenure.Trusted() {
		return errFenced
	}
	result := whatisup.Result{Command: c.ID}
	if s.kit.Phones == nil || c.Mode != whatisup.Test {
		result.Error, result.Message = whatisup.CodeNoSessionHost, "this deployment runs no sandbox"
	} else if err := s.sandbox(ctx, c, &result); err != nil {
		e, ok := errors.AsType[*whatisup.Error](err)
		if !ok {
			return err
		}
		result.Error, result.Message = e.Code, e.Message
	}
	s.kit.Log.Info("command carried out", "kind", string(c.Kind), "outcome", string(result.Error),
		"instance_id", string(c.Instance), "request_id", string(c.RequestID))
	return s.kit.Results.PutResult(ctx, result)
}

// Counts is how many sessions show which status.
func (s *Shard) Counts() map[whatisup.Status]int {
	counts := make(map[whatisup.Status]int)
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.sessions {
		if o := r.shown.Load(); o != nil {
			counts[o.Status]++
		}
	}
	return counts
}
