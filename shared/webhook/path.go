package webhook

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"time"

	"whatisup/shared/whatisup"
)

// Store keeps endpoints and deliveries. [dynamo.DB] is one, and says what each does.
type Store interface {
	Endpoints(context.Context, whatisup.CustomerID, whatisup.Mode) ([]*whatisup.Endpoint, error)
	Endpoint(context.Context, whatisup.CustomerID, whatisup.Mode, whatisup.EndpointID) (*whatisup.Endpoint, error)
	DisableEndpoint(ctx context.Context, e *whatisup.Endpoint, reason string, told whatisup.Event) error
	ToldDisabled(context.Context, *whatisup.Endpoint) error
	MarkQueued(context.Context, *whatisup.Delivery) error
	UnmarkQueued(context.Context, *whatisup.Delivery) error
	CountQueued(context.Context, whatisup.EndpointID) (int, error)
	Queued(ctx context.Context, id whatisup.EndpointID, before time.Time) ([]whatisup.Owed, error)
	SetAnswerTime(ctx context.Context, e *whatisup.Endpoint, d time.Duration) error
	SetBehind(context.Context, *whatisup.Endpoint) error
	CaughtUp(context.Context, *whatisup.Endpoint) error
	SetDue(ctx context.Context, e *whatisup.Endpoint, at time.Time, unless bool) error
	Due(ctx context.Context, now time.Time, most int) ([]whatisup.DueRow, error)
	Fail(ctx context.Context, e *whatisup.Endpoint, first bool, now time.Time) (*whatisup.Endpoint, error)
	Degrade(ctx context.Context, e *whatisup.Endpoint, at time.Time, wait time.Duration) error
	TakeProbe(ctx context.Context, e *whatisup.Endpoint, next time.Time, wait time.Duration) error
	Recover(context.Context, *whatisup.Endpoint) error

	Delivery(context.Context, whatisup.CustomerID, whatisup.Mode, whatisup.DeliveryID) (*whatisup.Delivery, error)
	EndpointAndDelivery(context.Context, whatisup.CustomerID, whatisup.Mode, whatisup.EndpointID, whatisup.DeliveryID) (*whatisup.Endpoint, *whatisup.Delivery, error)
	PutDelivery(context.Context, *whatisup.Delivery) error
	OweDelivery(ctx context.Context, e *whatisup.Endpoint, d *whatisup.Delivery, due time.Time, behind bool) error
	Owed(ctx context.Context, id whatisup.EndpointID, now time.Time, most int) ([]whatisup.Owed, time.Time, error)
	Paid(context.Context, whatisup.EndpointID, whatisup.Owed) error

	AddUsage(ctx context.Context, of whatisup.UsageOf, hour time.Time, u whatisup.Usage, writer string, serial int64) error

	Replays
}

// Replays are the jobs that read the log for an endpoint.
type Replays interface {
	Replay(context.Context, whatisup.CustomerID, whatisup.Mode, whatisup.ReplayID) (*whatisup.Replay, error)
	SaveReplay(ctx context.Context, r *whatisup.Replay, due time.Time) error
	EndReplay(context.Context, *whatisup.Replay) error
}

// Log is the event log.
type Log interface {
	EventsAfter(ctx context.Context, c whatisup.CustomerID, m whatisup.Mode, after whatisup.Position, about int) iter.Seq2[whatisup.Logged, error]
	PutEvent(context.Context, whatisup.Event) error
}

// Queue is where deliveries wait.
type Queue interface {
	// SendDelivery gives a message to a group; within some minutes a second one of
	// the same name is dropped.
	SendDelivery(ctx context.Context, group, name string, body []byte) error
	// Wake has the endpoint pumped after a while, 15 minutes at most.
	Wake(ctx context.Context, body []byte, after time.Duration) error
}

// Secrets opens the secrets that sign at a moment.
type Secrets interface {
	OpenSecrets(ctx context.Context, e *whatisup.Endpoint, now time.Time) ([]whatisup.Secret, error)
}

// Path is the way of events to endpoints. A program that has no business with a
// part leaves it nil.
type Path struct {
	Store   Store
	Log     Log   // for replays, and for events of ours
	Events  Sends // tells webhook.disabled to the queues; nil: the log alone
	Queue   Queue
	Secrets Secrets
	Client  func(test bool) *http.Client
	Tally   Tally            // nil: each delivery is added to the rows at once
	Now     func() time.Time // nil: time.Now
	Slog    *slog.Logger
	// Halt is called at each named step, for tests that die there; nil: nobody does.
	Halt func(step string)

	counts counts
}

// Tally counts deliveries in memory, to be added to the rows later: two writes less for
// each. That is for a process that lives, and not for a function.
type Tally interface {
	Count(whatisup.Ref, whatisup.Usage)
}

// Sends gives events to the event queues.
type Sends interface {
	Send(context.Context, ...whatisup.Event) error
}

func (p *Path) now() time.Time {
	if p.Now == nil {
		return time.Now()
	}
	return p.Now()
}

func (p *Path) halt(step string) {
	if p.Halt != nil {
		p.Halt(step)
	}
}

// handed is a delivery in the queue: the row's names, and the envelope where the row is
// not written yet.
type handed struct {
	Customer whatisup.CustomerID `json:"customer_id"`
	Mode     whatisup.Mode       `json:"mode"`
	Endpoint whatisup.EndpointID `json:"endpoint_id"`
	Delivery whatisup.DeliveryID `json:"delivery_id"`
	Turn     int                 `json:"turn"`
	Probe    bool                `json:"probe,omitempty"`
	Instance whatisup.InstanceID `json:"instance_id,omitempty"`
	Event    whatisup.EventName  `json:"event,omitempty"`
	EventID  whatisup.EventID    `json:"event_id,omitempty"`
	ReplayOf whatisup.DeliveryID `json:"replay_of,omitempty"`
	Replay   whatisup.ReplayID   `json:"replay,omitempty"`
	Group    string              `json:"group,omitempty"`
	Order    string              `json:"order,omitempty"`
	Test     bool                `json:"test,omitempty"`
	Payload  string              `json:"payload,omitempty"`
}

// delivery is what the message says of a delivery that has no row yet.
func (h *handed) delivery() *whatisup.Delivery {
	return &whatisup.Delivery{
		Customer: h.Customer, Mode: h.Mode, ID: h.Delivery, Endpoint: h.Endpoint, Instance: h.Instance,
		Event: h.Event, EventID: h.EventID, Status: whatisup.DeliveryPending, Turn: h.Turn,
		ReplayOf: h.ReplayOf, Replay: h.Replay, Payload: []byte(h.Payload), Group: h.Group, Order: h.Order,
	}
}

// Wake is a message that asks for an endpoint to be pumped, or a replay to go on.
type wake struct {
	Customer whatisup.CustomerID `json:"customer_id"`
	Mode     whatisup.Mode       `json:"mode"`
	Endpoint whatisup.EndpointID `json:"endpoint_id,omitempty"`
	Replay   whatisup.ReplayID   `json:"replay_id,omitempty"`
}

// Message is one of a queue, with what the queue says of it.
type Message struct {
	Body  []byte
	Order string // among the messages of its group: when it was sent, and its number
}

// FanOut makes the deliveries of one event. An error repeats it.
func (p *Path) FanOut(ctx context.Context, m Message) error {
	var e whatisup.Event
	if err := json.Unmarshal(m.Body, &e); err != nil {
		return fmt.Errorf("event: %w", err)
	}
	all, err := p.Store.Endpoints(ctx, e.Customer, e.Mode)
	if err != nil {
		return err
	}
	// All at a time: to owe takes longer, and those that are served directly would wait
	// for it.
	takers := slices.DeleteFunc(slices.Clone(all), func(ep *whatisup.Endpoint) bool { return !ep.Takes(&e) })
	done := make(chan handing)
	for _, ep := range takers {
		go func() {
			var h handing
			defer func() {
				h.panicked = recover()
				done <- h
			}()
			h.err = p.hand(ctx, ep, deliveryOf(ep, &e, m, "", e.OccurredAt.Time))
		}()
	}
	var panicked any
	for range takers {
		h := <-done
		err, panicked = errors.Join(err, h.err), cmp.Or(panicked, h.panicked)
	}
	if panicked != nil {
		panic(panicked) // here, where the caller may recover it
	}
	if err != nil || e.Name != whatisup.InstanceDeleted {
		return err
	}
	for _, ep := range all {
		if ep.Instance != e.Instance || e.Instance == "" {
			continue
		}
		if err := p.disable(ctx, ep, whatisup.DisabledInstance); err != nil {
			return err
		}
	}
	return nil
}

// handing is how the making of one delivery of several ended.
type handing struct {
	err      error
	panicked any
}

func deliveryOf(ep *whatisup.Endpoint, e *whatisup.Event, m Message, replay whatisup.ReplayID, at time.Time) *whatisup.Delivery {
	return &whatisup.Delivery{
		Customer: e.Customer, Mode: e.Mode, ID: whatisup.DeliveryIDOf(ep.ID, e.ID, replay, at), Endpoint: ep.ID,
		Instance: e.Instance, Event: e.Name, EventID: e.ID, Status: whatisup.DeliveryPending,
		Payload: m.Body, Group: ep.GroupOf(e.Instance), Order: m.Order, Replay: replay,
	}
}

// hand gives a new delivery to the queue, or stores it where that is not its way.
func (p *Path) hand(ctx context.Context, ep *whatisup.Endpoint, d *whatisup.Delivery) error {
	d.UpdatedAt = p.now()
	if ep.Holds() {
		d.Status = whatisup.DeliveryHeld
		err := p.Store.PutDelivery(ctx, d)
		return ignore(err, whatisup.ErrConflict)
	}
	for range 3 {
		direct, err := p.direct(ctx, ep)
		if err != nil {
			return err
		}
		if direct {
			return p.give(ctx, d, false)
		}
		p.halt("owe")
		if !ep.Behind { // as it was read
			if err := p.Store.SetBehind(ctx, ep); err != nil {
				return ignore(err, whatisup.ErrNotFound)
			}
			ep.Behind = true
		}
		err = p.Store.OweDelivery(ctx, ep, d, due(d), true)
		switch {
		case errors.Is(err, whatisup.ErrCaughtUp):
			ep.Behind = false
			continue
		case errors.Is(err, whatisup.ErrNotFound):
			return nil
		case err != nil && !errors.Is(err, whatisup.ErrConflict):
			return err
		}
		p.halt("due")
		at := due(d)
		if ep.Degraded() {
			at = ep.ProbeAt
		}
		if err := p.Store.SetDue(ctx, ep, at, false); err != nil {
			return err
		}
		if !ep.Slow() || ep.Degraded() {
			return nil
		}
		// After the delivery in the queue this one gets its turn; if there is none, now.
		n, err := p.Store.CountQueued(ctx, ep.ID)
		if err == nil && n == 0 {
			p.wakeAfter(ctx, dueRow(ep), 0)
		}
		return err
	}
	return fmt.Errorf("endpoint %s: behind and not: %w", ep.ID, whatisup.ErrUnavailable)
}

// due is the place of a delivery that was not tried yet among those that are owed:
// when its event came.
func due(d *whatisup.Delivery) time.Time {
	var ms int64
	if _, err := fmt.Sscanf(d.Order, "%d#", &ms); err != nil {
		return d.ID.CreatedAt()
	}
	return time.UnixMilli(ms)
}

// direct says whether a new delivery may go straight into the queue. It may become a few
// more than MaxInQueue, as several look at one moment.
func (p *Path) direct(ctx context.Context, ep *whatisup.Endpoint) (bool, error) {
	if ep.Behind || ep.Degraded() || ep.Slow() {
		return false, nil
	}
	n, err := p.inQueue(ctx, ep.ID)
	return n < whatisup.MaxInQueue, err
}

// countKept is how long a count of what is in the queue is trusted, plus what this process
// has given to it since, and countsMost of how many endpoints it is remembered.
const (
	countKept  = time.Second
	countsMost = 10_000
)

// counts remembers about how many deliveries of each endpoint are in the queue.
type counts struct {
	mu  sync.Mutex
	all map[whatisup.EndpointID]count
}

type count struct {
	at time.Time
	n  int
}

// inQueue is how many deliveries of an endpoint are in the queue, before one more.
func (p *Path) inQueue(ctx context.Context, id whatisup.EndpointID) (int, error) {
	now := p.now()
	p.counts.mu.Lock()
	c, ok := p.counts.all[id]
	ok = ok && c.n < whatisup.MaxInQueue && now.Sub(c.at) < countKept
	if ok {
		p.counts.all[id] = count{c.at, c.n + 1}
	}
	p.counts.mu.Unlock()
	if ok {
		return c.n, nil
	}
	n, err := p.Store.CountQueued(ctx, id)
	if err != nil {
		return 0, err
	}
	p.counts.mu.Lock()
	defer p.counts.mu.Unlock()
	if p.counts.all == nil || len(p.counts.all) >= countsMost {
		p.counts.all = map[whatisup.EndpointID]count{}
	}
	p.counts.all[id] = count{now, n + 1}
	return n, nil
}

// give gives a delivery to the queue. One without a payload is read from its row.
func (p *Path) give(ctx context.Context, d *whatisup.Delivery, probe bool) error {
	p.halt("mark queued")
	mark := *d
	mark.UpdatedAt = p.now()
	if err := p.Store.MarkQueued(ctx, &mark); err != nil {
		return err
	}
	p.halt("send delivery")
	return p.send(ctx, d, handed{Probe: probe})
}

// test gives a delivery to the queue that is tried once, and whatever state the
// endpoint is in.
func (p *Path) test(ctx context.Context, d *whatisup.Delivery) error {
	return p.send(ctx, d, handed{Test: true})
}

func (p *Path) send(ctx context.Context, d *whatisup.Delivery, how handed) error {
	body, err := json.Marshal(handed{
		Customer: d.Customer, Mode: d.Mode, Endpoint: d.Endpoint, Delivery: d.ID, Turn: d.Turn, Probe: how.Probe, Test: how.Test,
		Instance: d.Instance, Event: d.Event, EventID: d.EventID, ReplayOf: d.ReplayOf, Replay: d.Replay,
		Group: d.Group, Order: d.Order, Payload: string(d.Payload),
	})
	if err != nil {
		return err
	}
	return p.Queue.SendDelivery(ctx, d.Group, fmt.Sprintf("%s#%d", d.ID, d.Turn), body)
}

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
		err = p.Queue.Wake(ctx, body, min(max(after, 0), 15*time.Minute))
	}
	if err != nil {
		p.Slog.Warn("wake-up of an endpoint not sent", "endpoint_id", string(w.Endpoint), "error", err)
	}
}

func dueRow(ep *whatisup.Endpoint) whatisup.DueRow {
	return whatisup.DueRow{Customer: ep.Customer, Mode: ep.Mode, Endpoint: ep.ID}
}

// pumpTries is how often a pump looks again because something was owed meanwhile.
const pumpTries = 5

// pumpBatch is how much a pump reads at a time.
const pumpBatch = 100

// Pump gives to the queue what an endpoint owes and what is due, in order, as far as
// there is room; of a degraded endpoint one delivery.
func (p *Path) Pump(ctx context.Context, c whatisup.CustomerID, m whatisup.Mode, id whatisup.EndpointID) error {
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
	room, err := p.room(ctx, ep)
	if err != nil {
		return false, err
	}
	probing := ep.Degraded() && !ep.Holds()
	switch {
	case probing && now.Before(ep.ProbeAt):
		p.wakeAfter(ctx, dueRow(ep), ep.ProbeAt.Sub(now))
		return false, ignore(p.Store.SetDue(ctx, ep, ep.ProbeAt, true), whatisup.ErrConflict)
	case probing:
		room = 1
	case room <= 0:
		// Deliveries go on to pump as the queue empties.
		return false, p.Store.SetDue(ctx, ep, now.Add(sweepEvery), true)
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
	for _, o := range owed {
		if err := p.pay(ctx, ep, o, probing); err != nil {
			return false, err
		}
	}
	switch {
	case probing && len(owed) > 0:
		return true, nil // to set the next moment
	case len(owed) > 0:
		return !next.After(now) && room > len(owed), p.next(ctx, ep, next)
	case next.IsZero() && !ep.Degraded():
		return false, ignoreAgain(p.Store.CaughtUp(ctx, ep), &again)
	}
	return p.nextOr(ctx, ep, next)
}

func (p *Path) next(ctx context.Context, ep *whatisup.Endpoint, next time.Time) error {
	if next.IsZero() {
		next = p.now()
	}
	return ignore(p.Store.SetDue(ctx, ep, next, true), whatisup.ErrConflict)
}

// nextOr sets the moment of what is not due yet, and reports whether to look again.
func (p *Path) nextOr(ctx context.Context, ep *whatisup.Endpoint, next time.Time) (again bool, err error) {
	if next.IsZero() {
		next = ep.ProbeAt // degraded, and nothing owed
	}
	if !ep.Degraded() && ep.Behind && next.After(p.now()) {
		// What is owed is retries alone, which nothing waits for.
		if err := p.Store.CaughtUp(ctx, ep); err != nil {
			return true, ignore(err, whatisup.ErrConflict)
		}
		return false, p.Store.SetDue(ctx, ep, next, false)
	}
	err = p.Store.SetDue(ctx, ep, next, true)
	if err == nil {
		p.wakeAfter(ctx, dueRow(ep), next.Sub(p.now()))
	}
	return errors.Is(err, whatisup.ErrConflict), ignore(err, whatisup.ErrConflict)
}

func ignoreAgain(err error, again *bool) error {
	*again = errors.Is(err, whatisup.ErrConflict)
	return ignore(err, whatisup.ErrConflict)
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
			if err := p.Store.Paid(ctx, id, o); err != nil {
				return err
			}
		}
	}
}

// room is how many deliveries an endpoint may have more in the queue.
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
	return whatisup.MaxInQueue - n, nil
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
		n--
	}
	return n, nil
}

// pay gives one owed delivery to the queue, or holds it.
func (p *Path) pay(ctx context.Context, ep *whatisup.Endpoint, o whatisup.Owed, probe bool) error {
	d, err := p.Store.Delivery(ctx, ep.Customer, ep.Mode, o.Delivery)
	switch {
	case errors.Is(err, whatisup.ErrNotFound): // over its time
	case err != nil:
		return err
	case d.Final() || d.Turn != o.Turn:
	case ep.Holds():
		d.Status, d.UpdatedAt, d.NextAt = whatisup.DeliveryHeld, p.now(), time.Time{}
		if err := p.Store.PutDelivery(ctx, d); err != nil && !errors.Is(err, whatisup.ErrConflict) {
			return err
		}
	default:
		d.Payload = nil // the row has it
		if err := p.give(ctx, d, probe); err != nil {
			return err
		}
	}
	p.halt("paid")
	return p.Store.Paid(ctx, ep.ID, o)
}

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

func endpointOf(h *handed) *whatisup.Endpoint {
	return &whatisup.Endpoint{Customer: h.Customer, Mode: h.Mode, ID: h.Endpoint}
}

func ignore(err, ignored error) error {
	if errors.Is(err, ignored) {
		return nil
	}
	return err
}

// jitter is a duration with a tenth of it, up or down, left to chance.
func (p *Path) jitter(d time.Duration) time.Duration {
	return d - d/10 + rand.N(d/5+1)
}
