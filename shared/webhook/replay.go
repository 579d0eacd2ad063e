package webhook

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"whatisup/shared/webhook/takers"
	"whatisup/shared/whatisup"
)

// replayBatch is how many events one run of a replay hands over, between two saves of
// its cursor.
const replayBatch = 100

// runReplay goes on with a replay of a range: it hands over the next events, saves how
// far it is, and asks to be woken again. What it repeats after a death finds its rows.
func (p *Path) runReplay(ctx context.Context, w whatisup.DueRow) error {
	r, err := p.Store.Replay(ctx, w.Customer, w.Mode, w.Replay)
	if err != nil {
		return ignore(err, whatisup.ErrNotFound)
	}
	ep, err := p.Store.Endpoint(ctx, r.Customer, r.Mode, r.Endpoint)
	if errors.Is(err, whatisup.ErrNotFound) {
		if err := p.failOwed(ctx, r.Customer, r.Mode, r.Endpoint); err != nil {
			return err
		}
		return p.Store.EndReplay(ctx, r)
	}
	if err != nil {
		return err
	}
	n := 0
	for e, err := range p.Log.EventsAfter(ctx, r.Customer, r.Mode, r.Cursor, replayBatch) {
		if err != nil {
			return err
		}
		if e.Position.Time().After(r.To.Add(whatisup.PositionLag)) {
			break
		}
		if n == replayBatch {
			p.halt("save replay")
			if err := p.Store.SaveReplay(ctx, r, p.now().Add(sweepEvery)); err != nil {
				return err
			}
			p.wakeAfter(ctx, whatisup.DueRow{Customer: r.Customer, Mode: r.Mode, Replay: r.ID}, 0)
			return nil
		}
		n++
		if err := p.replayOne(ctx, ep, r, &e); err != nil {
			return err
		}
		r.Cursor = e.Position
	}
	p.halt("end replay")
	return p.Store.EndReplay(ctx, r)
}

// replayOne hands over one event of the log, if the replay asks for it.
func (p *Path) replayOne(ctx context.Context, ep *whatisup.Endpoint, r *whatisup.Replay, e *whatisup.Logged) error {
	if !ep.Takes(&e.Event) || !r.Covers(&e.Event) {
		return nil
	}
	body, err := json.Marshal(e.Event)
	if err != nil {
		return err
	}
	first := whatisup.DeliveryIDOf(ep.ID, e.ID, "", e.OccurredAt.Time)
	before, err := p.Store.Delivery(ctx, r.Customer, r.Mode, first)
	if err != nil && !errors.Is(err, whatisup.ErrNotFound) {
		return err
	}
	m := Message{Body: body, Order: fmt.Sprintf("%015d#%s", p.now().UnixMilli(), e.Position)}
	if r.CatchUp {
		if before != nil {
			return nil
		}
		return p.hand(ctx, ep, deliveryOf(ep, &e.Event, m, "", e.OccurredAt.Time))
	}
	status := whatisup.DeliveryStatus("")
	if before != nil {
		status = before.Shown(p.now()).Status
	}
	if r.Status != "" && status != r.Status {
		return nil
	}
	d := deliveryOf(ep, &e.Event, m, r.ID, r.At)
	if before != nil {
		d.ReplayOf = before.ID
	}
	return p.hand(ctx, ep, d)
}

// CatchUp has an endpoint get, a little later, what was left out of the queue because
// somebody still had its customer's endpoints as they were before a change. If it is
// deleted by then, what it was owed fails.
func (p *Path) CatchUp(ctx context.Context, ep *whatisup.Endpoint) error {
	now := p.now()
	r := &whatisup.Replay{
		Customer: ep.Customer, Mode: ep.Mode, ID: whatisup.NewReplayID(), Endpoint: ep.ID, CatchUp: true, At: now,
		Cursor: whatisup.PositionAt(now.Add(-whatisup.PositionLag)), To: now.Add(takers.Kept), Since: now,
	}
	if err := p.Store.SaveReplay(ctx, r, now.Add(catchUpAfter)); err != nil {
		return err
	}
	p.wakeAfter(ctx, whatisup.DueRow{Customer: r.Customer, Mode: r.Mode, Replay: r.ID}, catchUpAfter)
	return nil
}

// catchUpAfter is after when everybody knows of a change.
const catchUpAfter = takers.Kept + time.Second

// StartReplay stores a replay and begins it.
func (p *Path) StartReplay(ctx context.Context, r *whatisup.Replay) error {
	if err := p.Store.SaveReplay(ctx, r, p.now()); err != nil {
		return err
	}
	p.wakeAfter(ctx, whatisup.DueRow{Customer: r.Customer, Mode: r.Mode, Replay: r.ID}, 0)
	return nil
}
