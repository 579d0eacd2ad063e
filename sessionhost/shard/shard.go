package shard

import (
	"context"
	"math/rand/v2"
	"runtime/pprof"
	"sync"
	"time"

	"whatisup/sessionhost/fair"
	"whatisup/sessionhost/session"
	"whatisup/shared/whatisup"
)

const (
	pollWait = 20 * time.Second
	// pollAgain is when the queue is asked again at the latest, after it could not
	// be: what waits in it are calls that wait for ten seconds.
	pollAgain = 4 * time.Second
	// upWithin bounds the wait for the sessions of a claimed shard: one whose
	// connection hangs must not hold up a roll-out.
	upWithin = 10 * time.Second
	// filesEvery is how often the shard is looked through for received files: most are
	// fetched by the session that received them.
	filesEvery = time.Minute
)

// Kit is what all shards of a host share.
type Kit struct {
	*session.Kit
	Shards  Shards
	Rows    Rows
	Results Results
	Phones  Phones // nil outside the sandbox
	// End ends when the host does: open polls are cut off then.
	End context.Context
}

// Shard runs the sessions of one owned shard.
type Shard struct {
	kit    *Kit
	inbox  Inbox
	tenure session.Tenure
	slots  *fair.Pool // of commands with work

	ctx context.Context
	wg  sync.WaitGroup // sessions and work

	mu       sync.Mutex
	closed   bool
	sessions map[whatisup.InstanceID]*session.Session
	rested   map[whatisup.InstanceID]session.Rested
}

// New is the shard of a tenure. Nothing runs until Run.
func New(kit *Kit, inbox Inbox, t session.Tenure) *Shard {
	return &Shard{
		kit: kit, inbox: inbox, tenure: t, slots: fair.NewPool(workSlots, slotsEach),
		sessions: make(map[whatisup.InstanceID]*session.Session), rested: make(map[whatisup.InstanceID]session.Rested),
	}
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
	var files time.Time // when it was looked through for files
	for first := true; ; first = false {
		began, err := s.look(ctx)
		if err != nil && ctx.Err() == nil {
			s.kit.Log.Warn("cannot look through the shard", "shard", int(s.tenure.Shard()), "error", err.Error())
			if !session.Sleep(ctx, session.Backoff(2, rand.Float64)) {
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
		if s.kit.Files != nil && time.Since(files) >= filesEvery {
			files = time.Now()
			s.lookForFiles(ctx)
		}
		if !session.Sleep(ctx, wait) {
			return
		}
	}
}

// up tells the fleet when the sessions that were found after the claim have been
// started.
func (s *Shard) up(ctx context.Context, began []*session.Session) {
	t := time.NewTimer(upWithin)
	defer t.Stop()
	for _, r := range began {
		select {
		case <-r.Started():
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
func (s *Shard) look(ctx context.Context) (began []*session.Session, err error) {
	hints, err := s.kit.Shards.ShardInstances(ctx, s.kit.Mode, s.tenure.Shard())
	if err != nil {
		return nil, err
	}
	waiting, err := s.kit.Shards.WaitingInstances(ctx, s.kit.Mode, s.tenure.Shard())
	if err != nil {
		return nil, err
	}
	now := s.kit.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	defer func() {
		// Whatever became of the wake-ups: what waits is looked at.
		for _, ref := range waiting {
			if one := s.sessions[ref.ID]; one != nil {
				one.WakeMessages()
			} else if rested, known := s.rested[ref.ID]; !known || !rested.Gone() {
				s.startLocked(ref, false)
			}
		}
	}()
	for _, h := range hints {
		if one := s.sessions[h.ID]; one != nil {
			if h.News(one.Shown(), s.tenure.Epoch()) {
				one.Wake()
			}
			continue
		}
		if s.kit.Courier.Owes(h.ID) {
			h.OwedAt = time.Time{} // it is being paid
		}
		if !h.Work(s.tenure.Epoch(), now) {
			continue
		}
		if was, known := s.rested[h.ID]; known && !was.Due(&h, now) {
			continue
		}
		if one := s.startLocked(h.Ref, h.Generation > h.ObservedGeneration); one != nil {
			began = append(began, one)
		}
	}
	return began, nil
}

// lookForFiles has received files fetched that something is left to do for. It starts no
// session: one that is to be connected runs.
func (s *Shard) lookForFiles(ctx context.Context) {
	files, err := s.kit.Shards.FetchingMedia(ctx, s.kit.Mode, s.tenure.Shard())
	if err != nil {
		if ctx.Err() == nil {
			s.kit.Log.Warn("cannot look for received files", "shard", int(s.tenure.Shard()), "error", err.Error())
		}
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range files {
		if one := s.sessions[f.Instance]; one != nil {
			one.FetchFiles(f.Media)
		}
	}
}

// Wake starts the instance's session, or makes it look again.
func (s *Shard) Wake(ref whatisup.Ref) { s.wakeFor(whatisup.Wake, ref, "") }

func (s *Shard) wakeFor(kind whatisup.CommandKind, ref whatisup.Ref, file whatisup.MediaID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	one := s.sessions[ref.ID]
	switch {
	case kind == whatisup.WakeMedia && one != nil:
		one.FetchFiles(file)
	case kind == whatisup.WakeMedia: // there is no connection to fetch it over
	case one == nil:
		s.startLocked(ref, true)
	case kind == whatisup.WakeMessages:
		one.WakeMessages()
	default:
		one.Wake()
	}
}

// session is the instance's session, started if it isn't running; nil when the
// shard is closing.
func (s *Shard) session(ref whatisup.Ref) *session.Session {
	s.mu.Lock()
	defer s.mu.Unlock()
	if one := s.sessions[ref.ID]; one != nil {
		return one
	}
	return s.startLocked(ref, true)
}

// code is the QR text that the instance shows now, empty if none.
func (s *Shard) code(id whatisup.InstanceID) string {
	s.mu.Lock()
	one := s.sessions[id]
	s.mu.Unlock()
	if one == nil {
		return ""
	}
	return one.Code()
}

// WakeOutdated tries again the links that were refused for the client's version.
func (s *Shard) WakeOutdated() {
	now := s.kit.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, r := range s.rested {
		s.rested[id] = r.Retried(now)
	}
}

func (s *Shard) startLocked(ref whatisup.Ref, asked bool) *session.Session {
	if s.closed || s.ctx.Err() != nil {
		return nil
	}
	delete(s.rested, ref.ID)
	one := session.New(s.kit.Kit, s.tenure, ref, asked)
	s.sessions[ref.ID] = one
	s.wg.Go(func() { s.runSession(ref.ID, one) })
	return one
}

// runSession runs an instance under a label that its goroutines, the library's
// too, inherit: a crash tells whose it was.
func (s *Shard) runSession(id whatisup.InstanceID, one *session.Session) {
	defer one.End()
	pprof.Do(s.ctx, pprof.Labels("instance", string(id)), func(ctx context.Context) {
		for {
			rested := one.Run(ctx)
			s.mu.Lock()
			if one.Woken() && ctx.Err() == nil && s.tenure.Trusted() && !s.closed {
				s.mu.Unlock()
				continue // woken at its last moment
			}
			delete(s.sessions, id)
			s.rested[id] = rested
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
			if !session.Sleep(ctx, min(session.Backoff(n, rand.Float64), pollAgain)) {
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

// Counts is how many sessions show which status.
func (s *Shard) Counts() map[whatisup.Status]int {
	counts := make(map[whatisup.Status]int)
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.sessions {
		if o := r.Shown(); o != nil {
			counts[o.Status]++
		}
	}
	return counts
}
