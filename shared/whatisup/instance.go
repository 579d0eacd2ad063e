package whatisup

import (
	"encoding/json"
	"math"
	"time"
)

// Generation counts what was asked of an instance: it rises with each QR
// fetch, pair code, connect or disconnect that changes something.
type Generation uint64

// Link numbers a pairing by the generation of the attempt that made it; 0 means
// that there is none.
type Link uint64

// Everything, as UnlinkThrough, gives up every link there is or will be.
const Everything Link = math.MaxInt64

// Config is what the customer chose.
type Config struct {
	Customer  CustomerID
	Mode      Mode
	ID        InstanceID
	Name      string
	Metadata  json.RawMessage // a JSON object, byte for byte as it was given, without surrounding space
	Version   uint64          // counts changes of name and metadata; the ETag
	UpdatedAt time.Time       // of name and metadata
}

// Wanted is what the API wants of the session host. Only the API writes it.
type Wanted struct {
	Version       uint64 // counts changes; a change names the one it was made on
	Online        bool
	Generation    Generation
	UnlinkThrough Link
	// PairPhone is the number that a pair code is wanted for; PairSerial rises
	// each time it is asked for anew. The code belongs to the running attempt.
	PairPhone  PhoneNumber
	PairSerial uint64
	// Attempts are the starts of the newest pairing attempts, oldest first, for
	// the throttle; at most [AttemptsKept].
	Attempts []Attempt
	// Asked are the numbers that pair codes were wanted for within
	// [AttemptWindow], oldest first, for the throttle; at most [AskedKept].
	Asked []Asked
	// ChangedAt is the last change of Online, Generation or UnlinkThrough.
	ChangedAt time.Time
	// Suspended says that the customer was suspended. Nothing of the instance may
	// start, whatever was wanted or planned before, until the operator lifts it.
	Suspended bool
	// RequestID is the request that changed it last, for the host's log lines.
	RequestID RequestID
}

// AttemptsKept is how many attempts are remembered, and allowed within
// [AttemptWindow] unless one of them made a link.
const (
	AttemptsKept  = 5
	AttemptWindow = 15 * time.Minute
)

// AskedKept is for how many different numbers an instance may want pair codes
// within [AttemptWindow]: each rings somebody's phone.
const AskedKept = 3

// PairCodeEvery is how often one number is sent a new pair code, whoever asks for
// it.
const PairCodeEvery = time.Minute

// Asked is a number that a pair code was wanted for, and when first.
type Asked struct {
	Phone PhoneNumber
	At    time.Time
}

// Attempt is the start of one attempt to pair.
type Attempt struct {
	Generation Generation
	At         time.Time
}

// Observed is what the owning host found and did. Only the host writes it.
type Observed struct {
	Status      Status
	Reason      Reason
	Since       time.Time // of the status, not of the reason
	NextRetryAt time.Time // zero unless a try is planned
	QRExpiresAt time.Time // zero unless Status is QR
	PhoneNumber PhoneNumber
	Link        Link // 0: no link
	LastLink    Link // the newest there ever was
	Confirmed   bool // the link has logged in once
	// ObservedGeneration is the newest generation that the host has taken up:
	// everything wanted up to it has been begun. It is written after the links
	// up to UnlinkThrough are wiped.
	ObservedGeneration Generation
	// DoneGeneration is the newest generation whose attempt has ended, with or
	// without a link.
	DoneGeneration Generation
	Epoch          Epoch
	UpdatedAt      time.Time // of status or phone number
	LastSeenAt     time.Time // as of the last transition
	Unsent         Unsent    // of the host's events
	// Owed is, for each queue that lacks events of this instance, the position of
	// the log from which on it does. It is written apart from the rest.
	Owed map[string]Position
	// FailedCause tells a waiting call why the newest attempt ended without a
	// code: whatsapp_unreachable, at_capacity, or empty.
	FailedCause Code
}

// Unsent marks events that are committed to the log, and that were not sent to the
// queues yet as far as the row knows. It never holds the events themselves, so it
// does not grow.
type Unsent struct {
	From Position // at or before the first of them in the log; empty: none
	Last Position // of the newest
	At   time.Time
}

// MarkOf is an event's mark: a position that is not after its own in the log.
func MarkOf(e *Event) Position { return Position(e.ID) }

// With marks more events.
func (u Unsent) With(now time.Time, events ...Event) Unsent {
	for i := range events {
		u.Last = MarkOf(&events[i])
		if u.From == "" {
			u.From, u.At = u.Last, now
		}
	}
	return u
}

// Instance is all of an instance's parts, as read in one go.
type Instance struct {
	Config   Config
	Wanted   Wanted
	Observed Observed
	Shard    Shard
	// Unsent marks events of the API's making that the queues may not have yet.
	Unsent Unsent
	// Settings is how the instance behaves. SettingsVersion counts its changes; it
	// is the ETag of the settings.
	Settings        Settings
	SettingsVersion uint64
	// BoundKeys counts the API keys that were ever bound to the instance.
	BoundKeys uint64
	// Rev counts the writes to Observed, as the store keeps it.
	Rev uint64
	// DeletedAt is set on a tombstone: the instance is gone for its customer
	// and waits to be unlinked and wiped.
	DeletedAt time.Time
	// Farewell is the event instance.deleted of a tombstone whose host has still to
	// tell it, as the last one of the instance.
	Farewell *Event
}

// HostTells says that a host has had the instance in its hands, and may have more to
// tell of it: then it tells the end, too.
func (i *Instance) HostTells() bool { return i.Observed.Epoch > 0 }

// Detail is the status object of the wire.
type Detail struct {
	Status      Status  `json:"status"`
	Reason      *Reason `json:"reason"`
	Since       Time    `json:"since"`
	NextRetryAt Time    `json:"next_retry_at"`
	QRExpiresAt Time    `json:"qr_expires_at"`
	Mode        Mode    `json:"mode"`
}

// Shown is everything that is shown of an instance's state.
type Shown struct {
	Detail
	PhoneNumber PhoneNumber // empty: null
	LastSeenAt  Time
	UpdatedAt   Time
}

// View computes what a customer is shown of an instance from its stored parts
// and its owner's health. It is the only place that decides this.
//
// Five rules, in this order:
//
//   - What the host stored counts only if it is about something that is not
//     given up: from the answer to a logout on, the instance is pending with no
//     number, whether or not a host has acted yet.
//   - What was asked and not yet taken up by a host shows as begun: starting
//     without a link, connecting with one.
//   - A connection that was asked to end shows as stopped, whether or not a host
//     has acted yet.
//   - An owner that took over where nobody was vouches for no connection and no
//     code that it has not stored itself: the phone may have removed the device
//     meanwhile.
//   - A host that was silent for [OwnerLost] no longer vouches for a connection
//     or a code.
func View(i *Instance, owner Owner, now time.Time) Shown {
	w, o := &i.Wanted, i.Observed
	ownerSeen := owner.Seen
	if o.UpdatedAt.After(ownerSeen) {
		ownerSeen = o.UpdatedAt // what it has just stored shows that it lives
	}
	if w.GivesUp(Link(o.ObservedGeneration)) &&
		!(o.Status == Pending && o.Link == 0 && o.PhoneNumber == "") {
		o = Observed{
			Status: Pending, Reason: LoggedOut, Since: w.ChangedAt,
			ObservedGeneration: o.ObservedGeneration, UpdatedAt: w.ChangedAt, LastSeenAt: o.LastSeenAt,
		}
	}
	begin := func(status Status, reason Reason) {
		o.Status, o.Reason, o.Since, o.NextRetryAt = status, reason, w.ChangedAt, time.Time{}
		o.UpdatedAt = w.ChangedAt
	}
	if w.Online && w.Generation > o.ObservedGeneration && !w.GivesUp(Link(w.Generation)) {
		switch {
		case o.Link == 0:
			begin(Pending, Starting)
		case o.Status != Connected && o.Status != Connecting:
			begin(Connecting, NoReason)
		}
	}
	if !w.Online && w.Generation > o.ObservedGeneration && o.Link > 0 && (o.Status == Connected || o.Status == Connecting) {
		begin(Disconnected, Stopped)
	}
	if latest(o.UpdatedAt, o.LastSeenAt).Before(owner.Since) {
		switch o.Status {
		case Connected:
			o.Status, o.Reason, o.Since = Connecting, NoReason, owner.Since
		case QR:
			o.Status, o.Reason, o.Since = Pending, Starting, owner.Since
		}
	}
	if o.Status == Connected && ownerSeen.After(o.LastSeenAt) {
		o.LastSeenAt = ownerSeen
	}
	if now.Sub(ownerSeen) > OwnerLost {
		lost := ownerSeen.Add(OwnerLost)
		if ownerSeen.IsZero() || lost.Before(o.Since) {
			lost = o.Since
		}
		switch {
		case o.Link > 0 && !w.Online && (o.Status == Connected || o.Status == Connecting):
			// Nobody is there to close the socket, and none is open any more.
			begin(Disconnected, Stopped)
		case o.Status == Connected:
			o.Status, o.Reason, o.Since = Connecting, NoSessionHost, lost
		case o.Status == QR:
			o.Status, o.Reason, o.Since = Pending, NoSessionHost, lost
		}
	}
	if o.Status != QR {
		o.QRExpiresAt = time.Time{}
	}
	s := Shown{
		Detail: Detail{
			Status:      o.Status,
			Since:       At(o.Since),
			NextRetryAt: At(o.NextRetryAt),
			QRExpiresAt: At(o.QRExpiresAt),
			Mode:        i.Config.Mode,
		},
		PhoneNumber: o.PhoneNumber,
		LastSeenAt:  At(o.LastSeenAt),
		UpdatedAt:   At(latest(i.Config.UpdatedAt, o.UpdatedAt)),
	}
	if o.Reason != NoReason {
		s.Reason = &o.Reason
	}
	return s
}

func latest(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// Wire is the instance object of the contract: exactly nine fields, and with
// ?include=status a tenth.
type Wire struct {
	ID           InstanceID      `json:"id"`
	CustomerID   CustomerID      `json:"customer_id"`
	Name         string          `json:"name"`
	PhoneNumber  *string         `json:"phone_number"`
	Status       Status          `json:"status"`
	LastSeenAt   Time            `json:"last_seen_at"`
	Metadata     json.RawMessage `json:"metadata"`
	CreatedAt    Time            `json:"created_at"`
	UpdatedAt    Time            `json:"updated_at"`
	StatusDetail *Detail         `json:"status_detail,omitempty"`
}

// WireOf is the instance as its customer sees it.
func WireOf(i *Instance, s Shown) Wire {
	w := Wire{
		ID:         i.Config.ID,
		CustomerID: i.Config.Customer,
		Name:       i.Config.Name,
		Status:     s.Status,
		LastSeenAt: s.LastSeenAt,
		Metadata:   i.Config.Metadata,
		CreatedAt:  At(i.Config.ID.CreatedAt()),
		UpdatedAt:  s.UpdatedAt,
	}
	if len(w.Metadata) == 0 {
		w.Metadata = json.RawMessage("{}")
	}
	if s.PhoneNumber != "" {
		n := string(s.PhoneNumber)
		w.PhoneNumber = &n
	}
	return w
}
