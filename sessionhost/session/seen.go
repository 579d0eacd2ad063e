package session

import (
	"time"

	"whatisup/shared/whatisup"
)

// Wake makes the session look again at what is wanted. It never blocks.
func (s *Session) Wake() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// WakeMessages makes the session look for messages to send. It never blocks.
func (s *Session) WakeMessages() {
	select {
	case s.mail <- struct{}{}:
	default:
	}
}

// Woken takes a wake-up, if there is one. After Run it is one that came too late
// for it.
func (s *Session) Woken() bool {
	select {
	case <-s.wake:
		return true
	case <-s.mail:
		return true
	default:
		return false
	}
}

// Started is closed when the first connect is over, or there is none.
func (s *Session) Started() <-chan struct{} { return s.started }

func (s *Session) start() { s.startOnce.Do(func() { close(s.started) }) }

// Shown is the state stored last, nil before the first read.
func (s *Session) Shown() *whatisup.Observed { return s.shown.Load() }

// Code is the QR text that is shown now, empty if none is.
func (s *Session) Code() string {
	if c := s.code.Load(); c != nil {
		return *c
	}
	return ""
}

// publish lets others see what is stored.
func (s *Session) publish() {
	o := s.inst.Observed
	o.Owed = nil
	s.shown.Store(&o)
	settings := s.inst.Settings
	was := s.settings.Swap(&settings)
	if s.out != nil {
		s.out.Link(o.Link)
		if was != nil && !was.Same(settings) {
			s.out.Unhold(s.ctx)
		}
	}
}

// setting is the instance's settings as they were read last.
func (s *Session) setting() whatisup.Settings { return *s.settings.Load() }

// Rested is how a session left its instance, so that looking through the shard
// does not start it again for nothing.
type Rested struct {
	gone    bool      // there is no such instance
	again   time.Time // not to be started before
	online  bool
	deleted bool
	wanted  whatisup.Generation
	unlink  whatisup.Link
	// A link that was refused for the client's version is tried again at this time,
	// or with a newer version; else zero.
	retry time.Time
}

func restedAt(i *whatisup.Instance) Rested {
	r := Rested{online: i.Wanted.Online, deleted: !i.DeletedAt.IsZero(), wanted: i.Wanted.Generation, unlink: i.Wanted.UnlinkThrough}
	if o := &i.Observed; o.Link > 0 && o.Reason == whatisup.ClientOutdated {
		r.retry = o.NextRetryAt
	}
	return r
}

// Gone says that there is no such instance.
func (r Rested) Gone() bool { return r.gone }

// Due says whether a hint about the instance is a reason to start its session
// again.
func (r Rested) Due(h *whatisup.Hint, now time.Time) bool {
	switch {
	case r.gone:
		return false
	case !r.again.IsZero():
		return !now.Before(r.again)
	}
	unsent := !h.UnsentAt.IsZero() && now.Sub(h.UnsentAt) > whatisup.UnsentAfter
	retry := !r.retry.IsZero() && !now.Before(r.retry)
	return retry || unsent || !h.OwedAt.IsZero() || r.online != h.Online || r.deleted != h.Deleted ||
		r.wanted != h.Generation || r.unlink != h.UnlinkThrough
}

// Retried is r if nothing has to change before the session is started again, for
// an instance that was refused for the client's version.
func (r Rested) Retried(now time.Time) Rested {
	if !r.retry.IsZero() {
		r.retry = now
	}
	return r
}
