package whatisup

import "time"

// Ref names an instance with everything needed to reach its rows.
type Ref struct {
	Customer CustomerID
	Mode     Mode
	ID       InstanceID
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
}

// unsentAfter is how long the API has to send its own events before a host
// does it.
const unsentAfter = 10 * time.Second

// Work says whether the shard's owner with this epoch has something to do: a
// link to hold or to give up, an attempt to make or to end, a state of a former
// owner to set right, an event to send.
func (h *Hint) Work(epoch Epoch, now time.Time) bool {
	switch {
	case h.Deleted:
		return true
	case !h.UnsentAt.IsZero() && now.Sub(h.UnsentAt) > unsentAfter:
		return true
	case h.Generation > h.ObservedGeneration, h.Generation > h.DoneGeneration:
		return true
	case h.Link > 0:
		return h.Online || h.Link <= h.UnlinkThrough || h.Epoch < epoch
	}
	return h.UnlinkThrough > 0 && Link(h.ObservedGeneration) < min(h.UnlinkThrough, Link(h.Generation))
}
