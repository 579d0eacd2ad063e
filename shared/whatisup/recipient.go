package whatisup

import (
	"slices"
	"time"
)

// Recipients are the members of a group when a message was sent to it, and how far
// the message has come with each.
type Recipients struct {
	Base    time.Time // of the times: they have whole seconds from here on
	Members []Person
	At      [][3]uint32 // by member: delivered, read, played, as seconds after Base + 1; 0: not
}

// recipientSteps are the steps that are kept, in their order.
var recipientSteps = [3]MessageStatus{MessageDelivered, MessageRead, MessagePlayed}

// Take notes that a member has come to a step, and says whether that is new.
func (r *Recipients) Take(by Person, s MessageStatus, at time.Time) bool {
	cell := r.cell(by, s)
	if cell == nil || *cell != 0 {
		return false
	}
	*cell = uint32(max(at.Sub(r.Base)/time.Second, 0)) + 1
	return true
}

// Forget undoes Take, for a step that could not be written and comes again.
func (r *Recipients) Forget(by Person, s MessageStatus) {
	if cell := r.cell(by, s); cell != nil {
		*cell = 0
	}
}

// cell is where the time of a member's step stands; nil if there is none.
func (r *Recipients) cell(by Person, s MessageStatus) *uint32 {
	for i, m := range r.Members {
		if (by.LID == "" || m.LID != by.LID) && (by.PhoneNumber == "" || m.PhoneNumber != by.PhoneNumber) {
			continue
		}
		if k := slices.Index(recipientSteps[:], s); k >= 0 {
			return &r.At[i][k]
		}
		return nil
	}
	return nil
}

// Time is when a member came to the step of that number, zero if not.
func (r *Recipients) Time(member, step int) time.Time {
	s := r.At[member][step]
	if s == 0 {
		return time.Time{}
	}
	return r.Base.Add(time.Duration(s-1) * time.Second)
}

// Counts says how many have come how far. Who has read a message has got it, whether
// or not that was told.
func (r *Recipients) Counts() *RecipientCounts {
	c := &RecipientCounts{Total: len(r.Members)}
	for _, at := range r.At {
		if at[0] != 0 || at[1] != 0 || at[2] != 0 {
			c.Delivered++
		}
		if at[1] != 0 || at[2] != 0 {
			c.Read++
		}
		if at[2] != 0 {
			c.Played++
		}
	}
	return c
}

// Of is the number of those that have come to a step.
func (c *RecipientCounts) Of(s MessageStatus) int {
	switch s {
	case MessageDelivered:
		return c.Delivered
	case MessageRead:
		return c.Read
	case MessagePlayed:
		return c.Played
	}
	return 0
}

// RecipientWire is a recipient of the API.
type RecipientWire struct {
	PersonWire
	DeliveredAt Time `json:"delivered_at"`
	ReadAt      Time `json:"read_at"`
	PlayedAt    Time `json:"played_at"`
}

// Wire lists the recipients.
func (r *Recipients) Wire() []RecipientWire {
	list := make([]RecipientWire, len(r.Members))
	for i, m := range r.Members {
		list[i] = RecipientWire{
			PersonWire: m.Wire(), DeliveredAt: At(r.Time(i, 0)), ReadAt: At(r.Time(i, 1)), PlayedAt: At(r.Time(i, 2)),
		}
	}
	return list
}
