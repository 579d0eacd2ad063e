package control

import (
	"context"
	"iter"
	"slices"

	"whatisup/shared/whatisup"
)

// EventFilter is which events a caller wants; its zero value takes all but those
// that have to be named.
type EventFilter struct {
	Instance whatisup.InstanceID
	Names    []whatisup.EventName
}

// Takes says whether the filter lets an event through.
func (f *EventFilter) Takes(e *whatisup.Event) bool {
	if f.Instance != "" && e.Instance != f.Instance {
		return false
	}
	if len(f.Names) == 0 {
		return !e.Name.NamedOnly()
	}
	return slices.Contains(f.Names, e.Name)
}

// EventsBefore lists the caller's events with positions below before (empty:
// all), newest first.
func (c *Control) EventsBefore(ctx context.Context, who Caller, before whatisup.Position, about int) iter.Seq2[whatisup.Logged, error] {
	return c.Store.EventsBefore(ctx, who.Customer.ID, who.Mode, before, about)
}

// EventsAfter lists the caller's events with positions above after, oldest
// first.
func (c *Control) EventsAfter(ctx context.Context, who Caller, after whatisup.Position, about int) iter.Seq2[whatisup.Logged, error] {
	return c.Store.EventsAfter(ctx, who.Customer.ID, who.Mode, after, about)
}
