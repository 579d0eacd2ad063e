package control

import (
	"context"
	"errors"
	"iter"
	"time"

	"whatisup/shared/whatisup"
)

// Endpoints are the rows of webhook endpoints and of their deliveries.
type Endpoints interface {
	// CreateEndpoint answers ErrTooMany, ErrNotFound if the instance that it is bound
	// to is gone, and ErrClaimLost.
	CreateEndpoint(context.Context, *whatisup.Endpoint, *whatisup.Record) error
	Endpoints(context.Context, whatisup.CustomerID, whatisup.Mode) ([]*whatisup.Endpoint, error)
	Endpoint(context.Context, whatisup.CustomerID, whatisup.Mode, whatisup.EndpointID) (*whatisup.Endpoint, error)
	// UpdateEndpoint forgets the endpoint's failures if it is enabled anew.
	UpdateEndpoint(ctx context.Context, e *whatisup.Endpoint, enabled bool) error
	SetSecrets(context.Context, *whatisup.Endpoint, *whatisup.Record) error
	DeleteEndpoint(context.Context, *whatisup.Endpoint) error
	Delivery(context.Context, whatisup.CustomerID, whatisup.Mode, whatisup.DeliveryID) (*whatisup.Delivery, error)
	Deliveries(ctx context.Context, c whatisup.CustomerID, m whatisup.Mode, before whatisup.DeliveryID, about int) iter.Seq2[*whatisup.Delivery, error]
}

// Webhooks is the way of events to endpoints.
type Webhooks interface {
	// CheckURL returns an error whose text follows the field's name.
	CheckURL(ctx context.Context, url string, test bool) error
	// SealSecret makes a secret the endpoint's newest; the one before signs until a time.
	SealSecret(ctx context.Context, e *whatisup.Endpoint, s whatisup.Secret, until time.Time) error
	// CatchUp delivers, a little later, what somebody who knew the endpoint as it was has
	// left out; if the endpoint is gone by then, what it was owed fails.
	CatchUp(context.Context, *whatisup.Endpoint) error
	// Deliver gives a new delivery of an event to the endpoint.
	Deliver(ctx context.Context, e *whatisup.Endpoint, d *whatisup.Delivery) error
	// Test gives a delivery to the endpoint beside all others, to be tried once.
	Test(ctx context.Context, e *whatisup.Endpoint, d *whatisup.Delivery) error
	StartReplay(context.Context, *whatisup.Replay) error
}

// The errors of webhooks whose words do not depend on the request.
var (
	ErrEndpointNotFound = whatisup.NewError(whatisup.CodeEndpointNotFound, "There is no such webhook endpoint.")
	ErrDeliveryNotFound = whatisup.NewError(whatisup.CodeDeliveryNotFound, "There is no such webhook delivery.")
	ErrEndpointLimit    = whatisup.NewError(whatisup.CodeEndpointLimitReached, "This account's webhook endpoints take all of its 20 places: one each, and one for every 4 of max_in_flight. Delete an endpoint, or give this one a lower max_in_flight.")
	ErrTooManyTests     = whatisup.NewError(whatisup.CodeRateLimited, "An endpoint can be tested 5 times a minute.").After(15 * time.Second)
)

// NewEndpoint is an endpoint with the secret that it was just given.
type NewEndpoint struct {
	*whatisup.Endpoint
	Secret whatisup.Secret
}

// CreateEndpoint makes a webhook endpoint of what e has of the customer's. Without a
// secret it gets a fresh one.
func (c *Control) CreateEndpoint(ctx context.Context, who Caller, e whatisup.Endpoint, secret whatisup.Secret, seal Seal[NewEndpoint]) (NewEndpoint, error) {
	e.Customer, e.Mode, e.ID = who.Customer.ID, who.Mode, whatisup.NewEndpointID()
	e.UpdatedAt = e.ID.CreatedAt()
	if secret == "" {
		secret = whatisup.NewSigningSecret()
	}
	if err := c.Webhooks.SealSecret(ctx, &e, secret, time.Time{}); err != nil {
		return NewEndpoint{}, err
	}
	made := NewEndpoint{&e, secret}
	record, err := seal.record(made)
	if err != nil {
		return NewEndpoint{}, err
	}
	err = c.Store.CreateEndpoint(ctx, &e, record)
	switch {
	case errors.Is(err, whatisup.ErrTooMany):
		return NewEndpoint{}, ErrEndpointLimit
	case errors.Is(err, whatisup.ErrNotFound):
		return NewEndpoint{}, ErrInstanceNotFound
	case err != nil:
		return NewEndpoint{}, err
	}
	c.catchUp(ctx, who, &e)
	return made, nil
}

// catchUp is about the two seconds for which others may go on as if the endpoint had
// not changed.
func (c *Control) catchUp(ctx context.Context, who Caller, e *whatisup.Endpoint) {
	if err := c.Webhooks.CatchUp(ctx, e); err != nil {
		who.Log.Warn("events of the moment of a change may be left out", "endpoint_id", string(e.ID), "error", err)
	}
}

// Endpoints lists the caller's webhook endpoints, newest first.
func (c *Control) Endpoints(ctx context.Context, who Caller) ([]*whatisup.Endpoint, error) {
	return c.Store.Endpoints(ctx, who.Customer.ID, who.Mode)
}

// FindEndpoint reads the caller's webhook endpoint. A text that is no id is read like
// one.
func (c *Control) FindEndpoint(ctx context.Context, who Caller, id string) (*whatisup.Endpoint, error) {
	parsed, ok := whatisup.ParseEndpointID(id)
	if !ok {
		parsed = "00000000-0000-0000-0000-000000000000"
	}
	e, err := c.Store.Endpoint(ctx, who.Customer.ID, who.Mode, parsed)
	if errors.Is(err, whatisup.ErrNotFound) {
		return nil, ErrEndpointNotFound
	}
	return e, err
}

// UpdateEndpoint stores what the caller has changed of an endpoint.
func (c *Control) UpdateEndpoint(ctx context.Context, who Caller, e *whatisup.Endpoint, enabled bool) error {
	e.UpdatedAt = whatisup.At(c.Now()).Time
	err := c.Store.UpdateEndpoint(ctx, e, enabled)
	if errors.Is(err, whatisup.ErrNotFound) {
		return ErrEndpointNotFound
	}
	if err == nil {
		c.catchUp(ctx, who, e)
	}
	return err
}

// RotateSecret gives an endpoint another secret. The one before signs for a while.
func (c *Control) RotateSecret(ctx context.Context, e *whatisup.Endpoint, overlap time.Duration, seal Seal[NewEndpoint]) (NewEndpoint, error) {
	now := c.Now()
	e.UpdatedAt = whatisup.At(now).Time
	made := NewEndpoint{e, whatisup.NewSigningSecret()}
	if err := c.Webhooks.SealSecret(ctx, e, made.Secret, now.Add(overlap)); err != nil {
		return NewEndpoint{}, err
	}
	record, err := seal.record(made)
	if err != nil {
		return NewEndpoint{}, err
	}
	err = c.Store.SetSecrets(ctx, e, record)
	if errors.Is(err, whatisup.ErrNotFound) {
		return NewEndpoint{}, ErrEndpointNotFound
	}
	return made, err
}

// DeleteEndpoint deletes an endpoint. What it is owed fails; its deliveries stay.
func (c *Control) DeleteEndpoint(ctx context.Context, e *whatisup.Endpoint) error {
	// Noted first, so that nothing stays owed to nobody.
	if err := c.Webhooks.CatchUp(ctx, e); err != nil {
		return err
	}
	err := c.Store.DeleteEndpoint(ctx, e)
	if errors.Is(err, whatisup.ErrNotFound) {
		return ErrEndpointNotFound
	}
	return err
}

const (
	testsAMinute = 5
	// testWait is how long a test waits for its outcome: an attempt's own time, and a
	// little for the queue.
	testWait = 18 * time.Second
)

// TestEndpoint sends an event webhook.test and returns the delivery once it was tried.
func (c *Control) TestEndpoint(ctx context.Context, who Caller, e *whatisup.Endpoint) (*whatisup.Delivery, error) {
	slots := whatisup.Slots{Customer: who.Customer.ID, Mode: who.Mode, Kind: "webhook-test", Key: whatisup.KeyID(e.ID), Limit: testsAMinute}
	err := c.Store.TakeSlot(ctx, slots, string(who.Request), c.Now().Add(time.Minute), "")
	if errors.Is(err, whatisup.ErrTooMany) {
		return nil, ErrTooManyTests
	}
	if err != nil {
		return nil, err
	}
	ev, err := whatisup.NewEvent(whatisup.WebhookTest, who.Customer.ID, who.Mode, "", c.Now(), whatisup.WebhookTestData{EndpointID: string(e.ID)})
	if err != nil {
		return nil, err
	}
	d, err := newDelivery(e, &ev)
	if err != nil {
		return nil, err
	}
	if err := c.Webhooks.Test(ctx, e, d); err != nil {
		return nil, err
	}
	var tried *whatisup.Delivery
	err = c.Wait(ctx, who, who.Began.Add(testWait), true, func(ctx context.Context) (bool, error) {
		row, err := c.Store.Delivery(ctx, d.Customer, d.Mode, d.ID)
		if errors.Is(err, whatisup.ErrNotFound) {
			return false, nil
		}
		tried = row
		return err == nil && row.Final(), err
	})
	if errors.Is(err, ErrOver) {
		return nil, whatisup.NewError(whatisup.CodeUnavailable, "The test was not made in time. Look for its delivery.").After(5 * time.Second)
	}
	return tried, err
}

func newDelivery(e *whatisup.Endpoint, ev *whatisup.Event) (*whatisup.Delivery, error) {
	b, err := Encode(ev)
	if err != nil {
		return nil, err
	}
	return &whatisup.Delivery{
		Customer: e.Customer, Mode: e.Mode, ID: whatisup.DeliveryIDOf(e.ID, ev.ID, "", ev.OccurredAt.Time), Endpoint: e.ID,
		Instance: ev.Instance, Event: ev.Name, EventID: ev.ID, Status: whatisup.DeliveryPending, Payload: b,
	}, nil
}

// countedMost is how many events of the log a replay's answer counts.
const countedMost = 10_000

// ReplayRange delivers the events of a stretch of the log to an endpoint anew, in the
// background, and counts them as far as it is cheap.
func (c *Control) ReplayRange(ctx context.Context, who Caller, e *whatisup.Endpoint, r whatisup.Replay) (count int, err error) {
	r.Customer, r.Mode, r.ID, r.Endpoint, r.At = who.Customer.ID, who.Mode, whatisup.NewReplayID(), e.ID, c.Now()
	r.Cursor = whatisup.PositionAt(r.Since.Add(-whatisup.PositionLag))
	read := 0
	for l, err := range c.Store.EventsAfter(ctx, who.Customer.ID, who.Mode, r.Cursor, 1000) {
		if err != nil {
			return 0, err
		}
		if read++; read > countedMost || l.Position.Time().After(r.To.Add(whatisup.PositionLag)) {
			break
		}
		if r.Covers(&l.Event) && e.Takes(&l.Event) {
			count++
		}
	}
	return count, c.Webhooks.StartReplay(ctx, &r)
}

// FindDelivery reads the caller's delivery. A text that is no id is read like one.
func (c *Control) FindDelivery(ctx context.Context, who Caller, id string) (*whatisup.Delivery, error) {
	parsed, ok := whatisup.ParseDeliveryID(id)
	if !ok {
		parsed = "00000000-0000-0000-0000-000000000000"
	}
	d, err := c.Store.Delivery(ctx, who.Customer.ID, who.Mode, parsed)
	if errors.Is(err, whatisup.ErrNotFound) {
		return nil, ErrDeliveryNotFound
	}
	return d, err
}

// Deliveries lists the caller's deliveries below an id (empty: all), newest first.
func (c *Control) Deliveries(ctx context.Context, who Caller, before whatisup.DeliveryID, about int) iter.Seq2[*whatisup.Delivery, error] {
	return c.Store.Deliveries(ctx, who.Customer.ID, who.Mode, before, about)
}

// ReplayDelivery delivers the event of a delivery anew, to the endpoint as it is now.
func (c *Control) ReplayDelivery(ctx context.Context, who Caller, d *whatisup.Delivery) (*whatisup.Delivery, error) {
	e, err := c.FindEndpoint(ctx, who, string(d.Endpoint))
	if err != nil {
		return nil, err
	}
	replay := whatisup.NewReplayID()
	anew := &whatisup.Delivery{
		Customer: d.Customer, Mode: d.Mode, ID: whatisup.DeliveryIDOf(e.ID, d.EventID, replay, c.Now()), Endpoint: e.ID,
		Instance: d.Instance, Event: d.Event, EventID: d.EventID, Status: whatisup.DeliveryPending,
		ReplayOf: d.ID, Replay: replay, Payload: d.Payload, UpdatedAt: c.Now(),
	}
	return anew, c.Webhooks.Deliver(ctx, e, anew)
}
