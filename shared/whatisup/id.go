package whatisup

import (
	"encoding/json"
	"time"

	"github.com/google/uuid"
)

// The ids of things. They are UUIDs, version 7, in lower case, and types of
// their own, so that a customer can't stand where an instance is meant.
type (
	CustomerID string
	InstanceID string
	KeyID      string
	EventID    string
	CommandID  string
	RequestID  string // "req_" and a UUID without dashes
)

// NewCustomerID returns a fresh id.
func NewCustomerID() CustomerID { return CustomerID(newID()) }

// NewInstanceID returns a fresh id; its millisecond is the instance's creation.
func NewInstanceID() InstanceID { return InstanceID(newID()) }

// NewKeyID returns a fresh id.
func NewKeyID() KeyID { return KeyID(newID()) }

// NewEventID returns a fresh id. It names the event for ever, over every
// repetition; the event's place in the log is a [Position].
func NewEventID() EventID { return EventID(newID()) }

// NewCommandID returns a fresh id.
func NewCommandID() CommandID { return CommandID(newID()) }

// NewRequestID returns a fresh request id, as in the X-Request-Id header.
func NewRequestID() RequestID {
	id := newID()
	return RequestID("req_" + id[:8] + id[9:13] + id[14:18] + id[19:23] + id[24:])
}

// newID panics only if the system has no randomness, in which case nothing
// this program does is safe.
func newID() string { return uuid.Must(uuid.NewV7()).String() }

// MarshalJSON writes null where there is no instance.
func (id InstanceID) MarshalJSON() ([]byte, error) {
	if id == "" {
		return []byte("null"), nil
	}
	return json.Marshal(string(id))
}

// ParseInstanceID accepts exactly the canonical form, lower case with dashes.
// Anything else is no id of ours; the caller answers as for an unknown one.
func ParseInstanceID(s string) (InstanceID, bool) {
	return InstanceID(s), canonical(s)
}

// ParseCustomerID is [ParseInstanceID] for customers.
func ParseCustomerID(s string) (CustomerID, bool) {
	return CustomerID(s), canonical(s)
}

// ParseKeyID is [ParseInstanceID] for keys.
func ParseKeyID(s string) (KeyID, bool) {
	return KeyID(s), canonical(s)
}

func canonical(s string) bool {
	if len(s) != 36 {
		return false // uuid.Parse also takes braces, "urn:uuid:" and bare hex
	}
	u, err := uuid.Parse(s)
	return err == nil && u.String() == s
}

// CreatedAt is the millisecond that a version 7 id carries, so that the order
// of ids and of creation times agree. It is the zero time for any other id.
func (id InstanceID) CreatedAt() time.Time { return idTime(string(id)) }

// CreatedAt is [InstanceID.CreatedAt] for customers.
func (id CustomerID) CreatedAt() time.Time { return idTime(string(id)) }

// CreatedAt is [InstanceID.CreatedAt] for keys.
func (id KeyID) CreatedAt() time.Time { return idTime(string(id)) }

// Time is when the id was made, to the millisecond; zero if it is none of ours.
func (id EventID) Time() time.Time { return idTime(string(id)) }

func idTime(s string) time.Time {
	u, err := uuid.Parse(s)
	if err != nil || u.Version() != 7 {
		return time.Time{}
	}
	ms := int64(u[0])<<40 | int64(u[1])<<32 | int64(u[2])<<24 | int64(u[3])<<16 | int64(u[4])<<8 | int64(u[5])
	return time.UnixMilli(ms).UTC()
}

// Mode tells real WhatsApp from the sandbox. A key, an instance and an event
// belong to exactly one mode and never see the other.
type Mode string

const (
	Live Mode = "live" // real WhatsApp
	Test Mode = "test" // the sandbox: the simulated WhatsApp
)

// Valid says whether m is one of the two modes.
func (m Mode) Valid() bool { return m == Live || m == Test }
