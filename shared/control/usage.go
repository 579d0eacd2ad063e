package control

import (
	"context"
	"time"

	"whatisup/shared/whatisup"
)

// Usage is what the API reads of what was used.
type Usage interface {
	Usage(ctx context.Context, of whatisup.UsageOf, from, to time.Time) ([]whatisup.UsageHour, error)
}

// Usage is what the caller has used between two times, hour by hour; with an instance
// what that instance has. An instance that is not the caller's has used nothing.
func (c *Control) Usage(ctx context.Context, who Caller, instance whatisup.InstanceID, from, to time.Time) ([]whatisup.UsageHour, error) {
	return c.Store.Usage(ctx, whatisup.UsageOf{Customer: who.Customer.ID, Mode: who.Mode, Instance: instance}, from, to)
}
