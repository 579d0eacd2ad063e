package webhook

import (
	"context"
	"fmt"
	"time"

	"whatisup/shared/foreign"
	"whatisup/shared/whatisup"
)

// Desk is what the API does with endpoints: see control.Webhooks.
type Desk struct {
	Path *Path
	*Sealer
	Guard *foreign.Guard
}

// CheckURL says what is wrong with an endpoint's URL.
func (d *Desk) CheckURL(ctx context.Context, url string, test bool) error {
	_, err := d.Guard.Check(ctx, url, test)
	return err
}

// CatchUp is [Path.CatchUp].
func (d *Desk) CatchUp(ctx context.Context, ep *whatisup.Endpoint) error {
	return d.Path.CatchUp(ctx, ep)
}

// StartReplay is [Path.StartReplay].
func (d *Desk) StartReplay(ctx context.Context, r *whatisup.Replay) error {
	return d.Path.StartReplay(ctx, r)
}

// Deliver gives a new delivery to the endpoint. Its row is there when it returns.
func (d *Desk) Deliver(ctx context.Context, ep *whatisup.Endpoint, one *whatisup.Delivery) error {
	one.Group = ep.GroupOf(one.Instance)
	one.Order = orderNow(d.Path.now())
	if ep.Holds() {
		return d.Path.hand(ctx, ep, one)
	}
	if err := d.Path.Store.PutDelivery(ctx, one); err != nil {
		return err
	}
	direct, err := d.Path.direct(ctx, ep, 1)
	if err != nil {
		return err
	}
	if direct {
		return d.Path.give(ctx, []*whatisup.Delivery{one})[0]
	}
	one.Turn++
	return d.Path.oweAgain(ctx, ep, one, due(one))
}

// Test gives a delivery to the endpoint in a group of its own, whatever state the
// endpoint is in.
func (d *Desk) Test(ctx context.Context, ep *whatisup.Endpoint, one *whatisup.Delivery) error {
	one.Group, one.Order = string(ep.ID)+"#test", orderNow(d.Path.now())
	return d.Path.test(ctx, one)
}

func orderNow(now time.Time) string {
	return fmt.Sprintf("%015d#%s", now.UnixMilli(), whatisup.NewPosition())
}
