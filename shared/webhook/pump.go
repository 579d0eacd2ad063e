package webhook

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"whatisup/shared/whatisup"
)

// Wake does what a wake-up asks for.
func (p *Path) Wake(ctx context.Context, m Message) error {
	var w wake
	if err := json.Unmarshal(m.Body, &w); err != nil {
		return fmt.Errorf("wake-up: %w", err)
	}
	return p.wake(ctx, whatisup.DueRow(w))
}

func (p *Path) wake(ctx context.Context, w whatisup.DueRow) error {
	if w.Replay != "" {
		return p.runReplay(ctx, w)
	}
	return p.Pump(ctx, w.Customer, w.Mode, w.Endpoint)
}

// wakeAfter has an endpoint pumped after a while. What gets lost is found by the sweep.
func (p *Path) wakeAfter(ctx context.Context, w whatisup.DueRow, after time.Duration) {
	body, err := json.Marshal(wake(w))
	if err == nil {
		err = p.Queue.Wake(ctx, w.Customer, body, max(after, 0))
	}
	if err != nil {
		p.Slog.Warn("wake-up of an endpoint not sent", "endpoint_id", string(w.Endpoint), "error", err)
	}
}

// wakeMost is how far ahead a wake-up may be. What is later is the sweep's.
const wakeMost = 15 * time.Minute

// wakeAt has an endpoint pumped at its next moment. Whoever sets that moment calls it, and
// nobody else, so an endpoint has few wake-ups, however much it is owed.
func (p *Path) wakeAt(ctx context.Context, ep *whatisup.Endpoint, at time.Time) {
	if wait := at.Sub(p.now()); wait <= wakeMost {
		p.wakeAfter(ctx, dueRow(ep), wait)
	}
}

func dueRow(ep *whatisup.Endpoint) whatisup.DueRow {
	return whatisup.DueRow{Customer: ep.Customer, Mode: ep.Mode, Endpoint: ep.ID}
}

// pumpTries is how often a pump looks again because something was owed meanwhile.
const pumpTries = 5

// pumpBatch is how much a pump reads at a time.
const pumpBatch = 100

// pumps are the endpoints that this process pumps at the moment, and whether somebody
// asked for it again.
type pumps struct {
	mu    sync.Mutex
	again map[whatisup.EndpointID]bool
}

// begin is false if the endpoint is being pumped: then that is done once more.
func (p *pumps) begin(id whatisup.EndpointID) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, under := p.again[id]; under {
		p.again[id] = true
		return false
	}
	if p.again == nil {
		p.again = map[whatisup.EndpointID]bool{}
	}
	p.again[id] = false
	return true
}

// end is false if it is to be done once more.
func (p *pumps) end(id whatisup.EndpointID) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.again[id] {
		p.again[id] = false
		return false
	}
	delete(p.again, id)
	return true
}

func (p *pumps) forget(id whatisup.EndpointID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.again, id)
}

// Pump gives to the queue what an endpoint owes and what is due, in order, as far as
// there is room; of a degraded endpoint one delivery.
func (p *Path) Pump(ctx context.Context, c whatisup.CustomerID, m whatisup.Mode, id whatisup.EndpointID) error {
	if !p.pumps.begin(id) {
		return nil
	}
	ended := false
	defer func() {
		if !ended {
			p.pumps.forget(id)
		}
	}()
	for {
		if err := p.pumpOnce(ctx, c, m, id); err != nil {
			return err
		}
		if ended = p.pumps.end(id); ended {
			return nil
		}
	}
}

func (p *Path) pumpOnce(ctx context.Context, c whatisup.CustomerID, m whatisup.Mode, id whatisup.EndpointID) error {
	for range pumpTries {
		ep, err := p.Store.Endpoint(ctx, c, m, id)
		if errors.Is(err, whatisup.ErrNotFound) {
			return p.failOwed(ctx, c, m, id)
		}
		if err != nil {
			return err
		}
		if err := p.tell(ctx, ep); err != nil {
			return err
		}
		again, err := p.pump(ctx, ep)
		if err != nil || !again {
			return err
		}
	}
	// The sweep goes on: the endpoint's next moment is in the past.
	return nil
}

func (p *Path) pump(ctx context.Context, ep *whatisup.Endpoint) (again bool, err error) {
	now := p.now()
	probing := ep.Degraded() && !ep.Holds()
	if probing && now.Before(ep.ProbeAt) {
		return p.moment(ctx, ep, ep.ProbeAt)
	}
	room := 1
	if !probing {
		if room, err = p.room(ctx, ep); err != nil {
			return false, err
		}
		if room <= 0 { // deliveries go on to pump as the queue empties
			return false, ignore(p.Store.SetDue(ctx, ep, now.Add(sweepEvery)), whatisup.ErrConflict)
		}
	}
	owed, next, err := p.Store.Owed(ctx, ep.ID, now, min(room, pumpBatch))
	if err != nil {
		return false, err
	}
	if probing && len(owed) > 0 {
		wait := min(max(2*ep.ProbeWait, probeFirst), probeLast)
		p.halt("take probe")
		if err := p.Store.TakeProbe(ctx, ep, now.Add(p.jitter(wait)), wait); err != nil {
			return false, ignore(err, whatisup.ErrConflict)
		}
	}
	if err := p.pay(ctx, ep, owed, probing); err != nil {
		return false, err
	}
	switch {
	case probing && len(owed) > 0:
		return true, nil // to set the next moment
	case !next.IsZero() && !next.After(now): // there is more, for now or for when there is room
		err = ignore(p.Store.SetDue(ctx, ep, next), whatisup.ErrConflict)
		return err == nil && room > len(owed), err
	case ep.Degraded():
		if next.IsZero() {
			next = ep.ProbeAt // nothing owed
		}
		return p.moment(ctx, ep, next)
	}
	// What is owed, if anything, is not due, and nothing has to wait for it.
	p.halt("caught up")
	if err := p.Store.CaughtUp(ctx, ep, next); err != nil {
		return errors.Is(err, whatisup.ErrConflict), ignore(err, whatisup.ErrConflict)
	}
	if !next.IsZero() && !next.Equal(ep.Due) {
		p.wakeAt(ctx, ep, next)
	}
	return false, nil
}

// moment sets an endpoint's next moment, if it is another one, and says whether to look
// again.
func (p *Path) moment(ctx context.Context, ep *whatisup.Endpoint, at time.Time) (again bool, err error) {
	if at.Equal(ep.Due) {
		return false, nil // whoever has set it sent the wake-up
	}
	if err := p.Store.SetDue(ctx, ep, at); err != nil {
		return errors.Is(err, whatisup.ErrConflict), ignore(err, whatisup.ErrConflict)
	}
	p.wakeAt(ctx, ep, at)
	return false, nil
}

// failOwed ends what a deleted endpoint was owed.
func (p *Path) failOwed(ctx context.Context, c whatisup.CustomerID, m whatisup.Mode, id whatisup.EndpointID) error {
	for {
		owed, _, err := p.Store.Owed(ctx, id, p.now().Add(longestRetry+time.Hour), pumpBatch)
		if err != nil || len(owed) == 0 {
			return err
		}
		for _, o := range owed {
			d, err := p.Store.Delivery(ctx, c, m, o.Delivery)
			if err != nil && !errors.Is(err, whatisup.ErrNotFound) {
				return err
			}
			if d != nil && !d.Final() {
				d.Status, d.Error, d.NextAt = whatisup.DeliveryFailed, whatisup.ErrorEndpointDeleted, time.Time{}
				if err := p.put(ctx, d); err != nil {
					return err
				}
			}
		}
		if err := p.Store.Paid(ctx, id, owed); err != nil {
			return err
		}
	}
}

// room is how many deliveries an endpoint may be given more from their rows.
func (p *Path) room(ctx context.Context, ep *whatisup.Endpoint) (int, error) {
	n, err := p.Store.CountQueued(ctx, ep.ID)
	if err != nil {
		return 0, err
	}
	if n > roomAgain || n > 0 && ep.Slow() {
		if n, err = p.unmarkGone(ctx, ep, n); err != nil {
			return 0, err
		}
	}
	if ep.Slow() {
		return 1 - n, nil
	}
	return owedInQueue - n, nil
}

// markedFor is how old a mark must be for its row to be looked at: longer than the queue
// drops a second message of one name.
const markedFor = 6 * time.Minute

// unmarkGone removes the marks of deliveries that are no longer in the queue, as their
// rows say. One stays behind where a process died between giving a delivery to the
// queue and acknowledging its event, and the delivery was made before the event came
// again. It returns how many of n are left.
func (p *Path) unmarkGone(ctx context.Context, ep *whatisup.Endpoint, n int) (int, error) {
	old, err := p.Store.Queued(ctx, ep.ID, p.now().Add(-markedFor))
	if err != nil {
		return n, err
	}
	for _, o := range old {
		d, err := p.Store.Delivery(ctx, ep.Customer, ep.Mode, o.Delivery)
		if errors.Is(err, whatisup.ErrNotFound) {
			continue // its row is written with the outcome
		}
		if err != nil {
			return n, err
		}
		if !d.Final() && d.Status != whatisup.DeliveryHeld && d.Turn <= o.Turn {
			continue
		}
		if err := p.Store.UnmarkQueued(ctx, &whatisup.Delivery{Endpoint: ep.ID, ID: o.Delivery, Turn: o.Turn}); err != nil {
			return n, err
		}
		n -= o.StandsFor
	}
	return n, nil
}

// pay gives owed deliveries to the queue, or holds them. They have their rows, so the
// queue gets their names alone; one that has ended meanwhile, or has a later turn, is
// dropped when it comes out of the queue.
func (p *Path) pay(ctx context.Context, ep *whatisup.Endpoint, owed []whatisup.Owed, probe bool) error {
	if len(owed) == 0 {
		return nil
	}
	if ep.Holds() {
		if err := p.holdOwed(ctx, ep, owed); err != nil {
			return err
		}
	} else if err := p.giveOwed(ctx, ep, owed, probe); err != nil {
		return err
	}
	p.halt("paid")
	return p.Store.Paid(ctx, ep.ID, owed)
}

func (p *Path) holdOwed(ctx context.Context, ep *whatisup.Endpoint, owed []whatisup.Owed) error {
	for _, o := range owed {
		d, err := p.Store.Delivery(ctx, ep.Customer, ep.Mode, o.Delivery)
		if errors.Is(err, whatisup.ErrNotFound) { // over its time
			continue
		}
		if err != nil {
			return err
		}
		if d.Final() || d.Turn != o.Turn {
			continue
		}
		d.Status, d.UpdatedAt, d.NextAt = whatisup.DeliveryHeld, p.now(), time.Time{}
		if err := p.Store.PutDelivery(ctx, d); err != nil && !errors.Is(err, whatisup.ErrConflict) {
			return err
		}
	}
	return nil
}

func (p *Path) giveOwed(ctx context.Context, ep *whatisup.Endpoint, owed []whatisup.Owed, probe bool) error {
	marks, messages := make([]*whatisup.Delivery, len(owed)), make([]whatisup.Queued, len(owed))
	for i, o := range owed {
		marks[i] = &whatisup.Delivery{Endpoint: ep.ID, ID: o.Delivery, Turn: o.Turn, UpdatedAt: p.now()}
		messages[i] = handed{
			Customer: ep.Customer, Mode: ep.Mode, Endpoint: ep.ID, Delivery: o.Delivery, Turn: o.Turn, Probe: probe, Group: o.Group,
		}.queued()
	}
	p.halt("mark queued")
	if err := p.Store.MarkQueued(ctx, marks...); err != nil {
		return err
	}
	p.halt("send delivery")
	// One of each group at a time, as the queue may refuse a part of what comes together.
	for _, round := range rounds(len(messages), func(i int) string { return messages[i].Group }) {
		some := make([]whatisup.Queued, len(round))
		for n, i := range round {
			some[n] = messages[i]
		}
		if err := errors.Join(p.Queue.SendDeliveries(ctx, some)...); err != nil {
			return err
		}
	}
	return nil
}
