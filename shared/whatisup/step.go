package whatisup

import "time"

// The steps of the state machine. Each returns the state that follows o, with
// everything set that the step is about and everything cleared that no longer
// holds. They are the only way to make a state; [Transitions] says after which
// status each may come, and a test walks all of them through that table.

// becomes sets status and reason. What belongs to the former ones, a time that a
// retry was announced for and the life of a code, is cleared.
func (o Observed) becomes(status Status, reason Reason) Observed {
	o.Status, o.Reason = status, reason
	o.NextRetryAt, o.QRExpiresAt = time.Time{}, time.Time{}
	return o
}

// without clears the link.
func (o Observed) without() Observed {
	o.Link, o.Confirmed = 0, false
	return o
}

// begun records that everything wanted up to generation g has been begun.
func (o Observed) begun(g Generation) Observed {
	o.ObservedGeneration = max(o.ObservedGeneration, g)
	return o
}

// done records that the attempts up to generation g have ended.
func (o Observed) done(g Generation) Observed {
	o = o.begun(g)
	o.DoneGeneration = max(o.DoneGeneration, g)
	return o
}

// Starting: the attempt of generation g dials for a code.
func (o Observed) Starting(g Generation) Observed {
	o = o.becomes(Pending, Starting).begun(g)
	o.FailedCause = ""
	return o
}

// Shows: a code can be scanned until then.
func (o Observed) Shows(until time.Time) Observed {
	o = o.becomes(QR, NoReason)
	o.QRExpiresAt = until
	return o
}

// AttemptEnded: the attempt of generation g has ended without a link. The cause
// is for the call that waits.
func (o Observed) AttemptEnded(g Generation, status Status, reason Reason, cause Code) Observed {
	o = o.becomes(status, reason).done(g)
	o.FailedCause = cause
	return o
}

// Linked: a phone has scanned the code of generation g. The link has not logged
// in yet.
func (o Observed) Linked(g Generation, number PhoneNumber) Observed {
	o = o.becomes(Connecting, NoReason).done(g)
	o.FailedCause, o.PhoneNumber = "", number
	o.Link, o.Confirmed = Link(g), false
	return o
}

// LinkConfirmed: the link has logged in once, as its auth state says.
func (o Observed) LinkConfirmed() Observed {
	o.Confirmed = true
	return o
}

// TakenUp: what generation g wants of the link has been begun.
func (o Observed) TakenUp(g Generation) Observed {
	o = o.done(g)
	o.FailedCause = ""
	return o
}

// Reconnecting: the link is being connected.
func (o Observed) Reconnecting() Observed { return o.becomes(Connecting, NoReason) }

// Up: the link has logged in. An empty number leaves the known one.
func (o Observed) Up(number PhoneNumber) Observed {
	o = o.becomes(Connected, NoReason)
	o.FailedCause, o.Confirmed = "", true
	if number != "" {
		o.PhoneNumber = number
	}
	return o
}

// Down: the link has no login, and the next try is at that time (zero: at once).
// What is disconnected or failed stays so until a login succeeds.
func (o Observed) Down(next time.Time) Observed {
	if o.Status == Connected {
		o = o.becomes(Connecting, NoReason)
	}
	o.NextRetryAt = next.Truncate(time.Millisecond)
	return o
}

// Unreachable: the link has had no login for a minute. It is tried again as
// announced.
func (o Observed) Unreachable() Observed {
	next := o.NextRetryAt
	o = o.becomes(Disconnected, Network)
	o.NextRetryAt = next
	return o
}

// Rejected: the link is kept, and can't be connected. The next try is at that
// time (zero: none is planned).
func (o Observed) Rejected(reason Reason, next time.Time) Observed {
	o = o.becomes(reason.status(), reason)
	if !next.IsZero() {
		o.NextRetryAt = next.Truncate(time.Millisecond)
	}
	return o
}

// Lost: the link is gone at WhatsApp, or was never finished, and what was kept
// of it is wiped.
func (o Observed) Lost(reason Reason) Observed {
	o = o.becomes(reason.status(), reason).without()
	return o.done(o.ObservedGeneration)
}

// Interrupted: a link that was never finished is wiped.
func (o Observed) Interrupted() Observed { return o.Lost(PairingInterrupted) }

// Unlinked: the link that was given up is wiped. What was wanted up to that
// generation is over; what was wanted after it is begun by its own duty.
func (o Observed) Unlinked(through Generation) Observed {
	o = o.becomes(Pending, LoggedOut).without().done(through)
	o.PhoneNumber = ""
	return o
}

// Stopped: the link is kept and not connected, on request.
func (o Observed) Stopped() Observed { return o.becomes(Disconnected, Stopped) }

// Idle: there is no link, and no attempt to make one.
func (o Observed) Idle() Observed { return o.becomes(Pending, NoReason) }

// AtRest is the state of an instance for which nothing is left to do.
func (i *Instance) AtRest() Observed {
	o := i.Observed
	linked := o.Link > 0
	gone := !linked && i.Wanted.GivesUp(Link(i.Wanted.Generation))

	switch {
	case linked && !i.Wanted.Online:
		o = o.Stopped()
	case linked && o.Status == Failed && o.Reason == ClientOutdated:
		// It is tried again at its time.
	case linked:
		// Nothing but a new wish leads out of this state. No retry is planned.
		o.NextRetryAt, o.QRExpiresAt = time.Time{}, time.Time{}
	case gone && (o.PhoneNumber != "" || o.Status != Pending || o.Reason == Starting):
		o = o.Unlinked(0)
	case o.Status == QR, o.Status == Connecting, o.Status == Connected, o.Status == Pending && o.Reason == Starting:
		o = o.Idle()
	default:
		o.NextRetryAt, o.QRExpiresAt = time.Time{}, time.Time{}
	}

	o = o.begun(i.Wanted.Generation)
	if !i.AttemptOpen() {
		o = o.done(i.Wanted.Generation)
	}
	return o
}

// status is the status that the reason of a rejected or lost link stands for.
func (r Reason) status() Status {
	for _, m := range Meanings {
		if m.Reason == r {
			return m.Status
		}
	}
	return Failed
}

// Same says whether storing o over was would change nothing.
func (o *Observed) Same(was *Observed) bool {
	return o.Status == was.Status && o.Reason == was.Reason &&
		o.NextRetryAt.Equal(was.NextRetryAt) && o.QRExpiresAt.Equal(was.QRExpiresAt) &&
		o.PhoneNumber == was.PhoneNumber && o.FailedCause == was.FailedCause &&
		o.Link == was.Link && o.Confirmed == was.Confirmed &&
		o.ObservedGeneration == was.ObservedGeneration && o.DoneGeneration == was.DoneGeneration
}
