package webhook

import (
	"context"
	"errors"
	"iter"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"time"

	"whatisup/shared/whatisup"
)

// Store keeps endpoints and deliveries. [dynamo.DB] is one, and says what each does.
type Store interface {
	Endpoints(context.Context, whatisup.CustomerID, whatisup.Mode) ([]*whatisup.Endpoint, error)
	Endpoint(context.Context, whatisup.CustomerID, whatisup.Mode, whatisup.EndpointID) (*whatisup.Endpoint, error)
	DisableEndpoint(ctx context.Context, e *whatisup.Endpoint, reason string, told whatisup.Event) error
	ToldDisabled(context.Context, *whatisup.Endpoint) error
	MarkQueued(context.Context, ...*whatisup.Delivery) error
	UnmarkQueued(context.Context, *whatisup.Delivery) error
	CountQueued(context.Context, whatisup.EndpointID) (int, error)
	Queued(ctx context.Context, id whatisup.EndpointID, before time.Time) ([]whatisup.Owed, error)
	SetAnswerTime(ctx context.Context, e *whatisup.Endpoint, d time.Duration) error
	SetBehind(context.Context, *whatisup.Endpoint) error
	CaughtUp(ctx context.Context, e *whatisup.Endpoint, next time.Time) error
	SetDue(ctx context.Context, e *whatisup.Endpoint, at time.Time) error
	Due(ctx context.Context, now time.Time, most int) ([]whatisup.DueRow, error)
	Fail(ctx context.Context, e *whatisup.Endpoint, first bool, now time.Time) (*whatisup.Endpoint, error)
	Degrade(ctx context.Context, e *whatisup.Endpoint, at time.Time, wait time.Duration) error
	TakeProbe(ctx context.Context, e *whatisup.Endpoint, next time.Time, wait time.Duration) error
	Recover(context.Context, *whatisup.Endpoint) error

	Delivery(context.Context, whatisup.CustomerID, whatisup.Mode, whatisup.DeliveryID) (*whatisup.Delivery, error)
	EndpointAndDelivery(context.Context, whatisup.CustomerID, whatisup.Mode, whatisup.EndpointID, whatisup.DeliveryID) (*whatisup.Endpoint, *whatisup.Delivery, error)
	PutDelivery(context.Context, *whatisup.Delivery) error
	OweDeliveries(ctx context.Context, e *whatisup.Endpoint, all []whatisup.Owing, next time.Time, behind bool) (sooner bool, err error)
	Owed(ctx context.Context, id whatisup.EndpointID, now time.Time, most int) ([]whatisup.Owed, time.Time, error)
	Paid(context.Context, whatisup.EndpointID, []whatisup.Owed) error

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
	// SendDeliveries gives messages to their groups; within some minutes a second one
	// of a name is dropped. It returns what failed, by index, nil if nothing did.
	SendDeliveries(context.Context, []whatisup.Queued) []error
	// Wake has something of a customer woken after a while, 15 minutes at most.
	Wake(ctx context.Context, c whatisup.CustomerID, body []byte, after time.Duration) error
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
	pumps  pumps
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
	Group string // within which the queue keeps the order; empty: none
	Order string // among the messages of its group: when it was sent, and its number
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
