package webhook

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"whatisup/shared/whatisup"
)

// sweepEvery is how often the sweep runs, and sweepMost how much one run does.
const (
	sweepEvery = time.Minute
	sweepMost  = 1000
)

// Sweep pumps the endpoints whose moment has come, and goes on with replays.
func (p *Path) Sweep(ctx context.Context) error {
	all, err := p.Store.Due(ctx, p.now(), sweepMost)
	if err != nil {
		return err
	}
	var problems error
	late := map[whatisup.Mode]int{}
	for _, w := range all {
		if ctx.Err() != nil {
			break // the next run goes on
		}
		is, err := p.late(ctx, w)
		if problems = errors.Join(problems, err); is {
			late[w.Mode]++
		}
		if err := p.wake(ctx, w); err != nil {
			problems = errors.Join(problems, fmt.Errorf("endpoint %s%s: %w", w.Endpoint, w.Replay, err))
		}
	}
	for mode, n := range late {
		p.Slog.Warn(LateMessage, "mode", string(mode), "endpoints", n)
	}
	return problems
}

// LateMessage is what the sweep logs, with the mode and the number of its endpoints,
// when deliveries are late by our fault. An alarm of template.yaml goes by it.
const LateMessage = "deliveries are owed for over five minutes"

// lateAfter is for how long a delivery may be due.
const lateAfter = 5 * time.Minute

// late says whether an endpoint is owed a delivery that was due some time ago, though
// there is room for it: so it is not the endpoint that takes its time.
func (p *Path) late(ctx context.Context, w whatisup.DueRow) (bool, error) {
	if w.Endpoint == "" {
		return false, nil
	}
	owed, _, err := p.Store.Owed(ctx, w.Endpoint, p.now().Add(-lateAfter), 1)
	if err != nil || len(owed) == 0 {
		return false, err
	}
	ep, err := p.Store.Endpoint(ctx, w.Customer, w.Mode, w.Endpoint)
	if err != nil || ep.Holds() || ep.Degraded() || ep.Slow() {
		return false, ignore(err, whatisup.ErrNotFound)
	}
	n, err := p.Store.CountQueued(ctx, w.Endpoint)
	return n <= roomAgain, err
}

// Dead writes the row of a delivery that the queue has given up as failed.
func (p *Path) Dead(ctx context.Context, m Message) error {
	var h handed
	if err := json.Unmarshal(m.Body, &h); err != nil {
		p.Slog.Error("a dead delivery is not readable", "error", err)
		return nil
	}
	d, err := p.Store.Delivery(ctx, h.Customer, h.Mode, h.Delivery)
	if errors.Is(err, whatisup.ErrNotFound) {
		d, err = h.delivery(), nil
	}
	if err != nil {
		return err
	}
	if !d.Final() && d.Turn <= h.Turn {
		d.Status, d.Error, d.UpdatedAt, d.NextAt = whatisup.DeliveryFailed, whatisup.ErrorInternal, p.now(), time.Time{}
		if err := p.Store.PutDelivery(ctx, d); err != nil && !errors.Is(err, whatisup.ErrConflict) {
			return err
		}
	}
	return p.Store.UnmarkQueued(ctx, h.delivery())
}

// DeadEvent writes the rows of an event whose fan-out was given up as failed.
func (p *Path) DeadEvent(ctx context.Context, m Message) error {
	var e whatisup.Event
	if err := json.Unmarshal(m.Body, &e); err != nil {
		p.Slog.Error("a dead event is not readable", "error", err)
		return nil
	}
	all, err := p.Store.Endpoints(ctx, e.Customer, e.Mode)
	if err != nil {
		return err
	}
	for _, ep := range all {
		if !ep.Takes(&e) {
			continue
		}
		d := deliveryOf(ep, &e, m, "", e.OccurredAt.Time)
		if _, err := p.Store.Delivery(ctx, d.Customer, d.Mode, d.ID); !errors.Is(err, whatisup.ErrNotFound) {
			if err != nil {
				return err
			}
			continue // it has a row, and so its own way
		}
		d.Status, d.Error, d.UpdatedAt = whatisup.DeliveryFailed, whatisup.ErrorInternal, p.now()
		if err := p.Store.PutDelivery(ctx, d); err != nil && !errors.Is(err, whatisup.ErrConflict) {
			return err
		}
		if err := p.Store.UnmarkQueued(ctx, d); err != nil {
			return err
		}
	}
	return nil
}
