package session

import (
	"context"
	"time"

	"whatisup/sessionhost/line"
	"whatisup/shared/whatisup"
)

// What wait returns, beside a [line.Event].
type (
	elapsed struct{} // the time has come
	changed struct{} // something is wanted differently
	granted struct{} // the turn has come
	idle    struct{} // no message waits any more
)

// wait returns the first of: the time, a change of what is wanted, the turn, an
// event of the line. Meanwhile it runs what the instance is asked to do, and does
// what falls due: it stores that a link has been down for a minute or that a move
// took too long, and sends events again.
func (s *Session) wait(ctx context.Context, until time.Time, l *connection, turn <-chan struct{}) (any, error) {
	var told <-chan line.Event
	var on Line
	if l != nil {
		told, on = l.Events(), l.Line
	}
	for {
		timer := s.kit.timerAt(until, s.handoverGraceUntil, s.downAt(), s.sendAt, s.outAt())
		var due <-chan time.Time
		if timer != nil {
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
		case <-s.mail:
			if s.out != nil {
				s.out.Wake(ctx)
			}
		case <-s.turned:
			if s.out != nil && s.out.Idle() {
				got = idle{}
			}
		case r := <-s.requests:
			s.accept(r, on)
		case e := <-told:
			got = e
		case <-turn:
			got = granted{}
		case <-due:
			now := s.kit.Now()
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

// timerAt is a timer of the earliest of these times, nil if all are zero.
func (k *Kit) timerAt(times ...time.Time) *time.Timer {
	var next time.Time
	for _, t := range times {
		if !t.IsZero() && (next.IsZero() || t.Before(next)) {
			next = t
		}
	}
	if next.IsZero() {
		return nil
	}
	return time.NewTimer(next.Sub(k.Now()))
}

// outAt is when the outbox has something to do.
func (s *Session) outAt() time.Time {
	if s.out == nil {
		return time.Time{}
	}
	return s.out.Next()
}

// downAt is when the link will have been down for too long to be called
// connecting; zero if it never will, or is not called so.
func (s *Session) downAt() time.Time {
	if s.downSince.IsZero() || s.inst.Observed.Status != whatisup.Connecting {
		return time.Time{}
	}
	return s.downSince.Add(s.kit.Timing.Down)
}

// fallDue does what has its time now.
func (s *Session) fallDue(ctx context.Context, now time.Time) error {
	if at := s.handoverGraceUntil; !at.IsZero() && !now.Before(at) {
		s.handoverGraceUntil = time.Time{}
		if err := s.showDown(ctx, time.Time{}); err != nil {
			return err
		}
	}
	if at := s.downAt(); !at.IsZero() && !now.Before(at) {
		if err := s.observe(ctx, s.inst.Observed.Unreachable()); err != nil {
			return err
		}
	}
	if at := s.outAt(); !at.IsZero() && !now.Before(at) {
		s.out.Work(ctx)
	}
	if !s.sendAt.IsZero() && !now.Before(s.sendAt) {
		s.sendAt = time.Time{}
		s.send(ctx)
	}
	return nil
}

// showDown shows that the link is being reconnected, and when the next try is.
func (s *Session) showDown(ctx context.Context, next time.Time) error {
	was := &s.inst.Observed
	if was.Status == whatisup.Connected && s.kit.Now().Before(s.handoverGraceUntil) {
		return nil // moved just now: not worth showing yet
	}
	if next.Sub(s.kit.Now()) < 2*time.Second {
		next = time.Time{} // too soon to be announced
	}
	o := was.Down(next)
	if o.Same(was) {
		return nil
	}
	return s.observe(ctx, o)
}

// Pause waits for the time, for wake, or for the end of ctx; it is false at the
// latter.
func Pause(ctx context.Context, d time.Duration, wake <-chan struct{}) bool {
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

// Sleep is a Pause that nothing ends early.
func Sleep(ctx context.Context, d time.Duration) bool { return Pause(ctx, d, nil) }
