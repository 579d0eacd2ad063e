package whatisup

import "time"

// Ref names an instance with everything needed to reach its rows.
type Ref struct {
	Customer CustomerID
	Mode     Mode
	ID       InstanceID
}

// Duty is what the host of an instance has to do first. [Instance.Duty] is the
// only place that decides whether there is something to do.
type Duty int

const (
	Rest       Duty = iota // nothing
	Remove                 // unlink, wipe and take away a deleted instance
	Unlink                 // unlink and wipe a link that is given up
	StayOnline             // keep the link connected
	Pair                   // run an attempt to pair
	Settle                 // store that nothing is under way any more
)

// Duty says what the owner with this epoch has to do first.
func (i *Instance) Duty(epoch Epoch) Duty {
	w, o := &i.Wanted, &i.Observed
	switch {
	case !i.DeletedAt.IsZero():
		return Remove
	case i.Unlinking():
		return Unlink
	case i.HasLink() && w.Online:
		return StayOnline
	case i.AttemptOpen():
		return Pair
	case w.Generation > o.ObservedGeneration, w.Generation > o.DoneGeneration,
		o.Link > 0 && o.Epoch < epoch,
		o.Link == 0 && o.ObservedGeneration < w.GivenUpThrough():
		return Settle
	}
	return Rest
}

// Hint is what the index of a shard says of an instance. It may be old: the rows
// themselves are read, by adopting, before anything is done.
type Hint struct {
	Ref
	Deleted            bool
	Online             bool
	Generation         Generation
	UnlinkThrough      Link
	Link               Link
	Epoch              Epoch
	ObservedGeneration Generation
	DoneGeneration     Generation
	UnsentAt           time.Time // of the newer of the API's and the host's part; zero: nothing is unsent
	OwedAt             time.Time // since when a queue lacks events; zero: none does
}

// Duty is the duty of the instance, as far as the hint knows it.
func (h *Hint) Duty(epoch Epoch) Duty {
	i := Instance{
		Wanted: Wanted{Online: h.Online, Generation: h.Generation, UnlinkThrough: h.UnlinkThrough},
		Observed: Observed{
			Link: h.Link, Epoch: h.Epoch, ObservedGeneration: h.ObservedGeneration, DoneGeneration: h.DoneGeneration,
		},
	}
	if h.Deleted {
		i.DeletedAt = time.Unix(0, 0)
	}
	return i.Duty(epoch)
}

// UnsentAfter is how long the API has to send its own events before a host
// does it.
const UnsentAfter = 10 * time.Second

// Work says whether the shard's owner with this epoch has something to do for an
// instance that has no session: its duty, or events to send.
func (h *Hint) Work(epoch Epoch, now time.Time) bool {
	return h.Duty(epoch) != Rest || !h.OwedAt.IsZero() || !h.UnsentAt.IsZero() && now.Sub(h.UnsentAt) > UnsentAfter
}

// News says whether the hint tells a running session, which stored o last (nil:
// nothing yet), more than to go on with what it does.
func (h *Hint) News(o *Observed, epoch Epoch) bool {
	if o == nil || h.ObservedGeneration != o.ObservedGeneration || h.Generation > o.ObservedGeneration {
		return true
	}
	d := h.Duty(epoch)
	return d != StayOnline && d != Pair
}
