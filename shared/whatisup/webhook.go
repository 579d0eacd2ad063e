package whatisup

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"math/bits"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
)

// Ids of webhook endpoints, their deliveries, and replays of a range.
type (
	EndpointID string
	DeliveryID string
	ReplayID   string
)

// NewEndpointID returns a fresh id; its millisecond is the endpoint's creation.
func NewEndpointID() EndpointID { return EndpointID(newID()) }

// NewReplayID returns a fresh id.
func NewReplayID() ReplayID { return ReplayID(newID()) }

// ParseEndpointID is [ParseInstanceID] for endpoints.
func ParseEndpointID(s string) (EndpointID, bool) { return EndpointID(s), canonical(s) }

// ParseDeliveryID is [ParseInstanceID] for deliveries.
func ParseDeliveryID(s string) (DeliveryID, bool) { return DeliveryID(s), canonical(s) }

// CreatedAt is [InstanceID.CreatedAt] for endpoints.
func (id EndpointID) CreatedAt() time.Time { return idTime(string(id)) }

// CreatedAt is [InstanceID.CreatedAt] for deliveries.
func (id DeliveryID) CreatedAt() time.Time { return idTime(string(id)) }

// DeliveryIDOf is the id of an event's delivery to an endpoint, of one replay or
// of none: the same whenever it is made. Its millisecond is at's: when the event
// occurred, or when the replay was asked for.
func DeliveryIDOf(ep EndpointID, e EventID, replay ReplayID, at time.Time) DeliveryID {
	sum := sha256.Sum256([]byte(string(ep) + "\x00" + string(e) + "\x00" + string(replay)))
	u := uuid.UUID(sum[:16])
	for i := range 6 {
		u[i] = byte(max(at.UnixMilli(), 0) >> (8 * (5 - i)))
	}
	u[6], u[8] = 0x70|u[6]&0x0f, 0x80|u[8]&0x3f
	return DeliveryID(u.String())
}

// Limits of webhooks.
const (
	MaxEndpoints       = 20  // of a customer and mode, as each takes a place
	LanesOfPlace       = 4   // deliveries under way at a time for each place
	MaxInQueue         = 500 // deliveries of one endpoint in the queue, about
	MarkStandsFor      = 8   // see [Delivery.Mark]
	MaxOweTogether     = 40  // deliveries that are stored to be owed at a time
	DefaultMaxInFlight = 4
	MostMaxInFlight    = 16
	HeldFor            = 7 * 24 * time.Hour  // a held delivery can be replayed
	DeliveriesKept     = 30 * 24 * time.Hour // rows of deliveries
	MaxDescription     = 200                 // characters
)

// EndpointStatus is what an endpoint is shown as.
type EndpointStatus string

const (
	EndpointActive   EndpointStatus = "active"
	EndpointDegraded EndpointStatus = "degraded" // one delivery at a time is tried
	EndpointDisabled EndpointStatus = "disabled"
)

// The reasons why an endpoint is disabled.
const (
	DisabledByCustomer = "disabled_by_customer" // enabled was set to false
	DisabledByOperator = "disabled_by_operator"
	DisabledGone       = "gone"             // it answered 410
	DisabledFailing    = "failing"          // no success for FailingFor
	DisabledInstance   = "instance_deleted" // the instance that it is bound to
)

// FailingFor is how long an endpoint may fail, without one success, before it is
// disabled.
const FailingFor = 5 * 24 * time.Hour

// Endpoint is where a customer's events are delivered to. What is behind Behind is
// written by deliveries, the rest by the customer.
type Endpoint struct {
	Customer    CustomerID
	Mode        Mode
	ID          EndpointID
	URL         string
	Events      []string // names, "message.*" or "*"
	Instance    InstanceID
	ChatTypes   []ChatType
	Description string
	Disabled    string // why; empty: it is enabled
	MaxInFlight int
	Places      int // those of the customer's that it has, a bit each: see TakePlaces
	UpdatedAt   time.Time
	Secrets     []SealedSecret
	DataKey     []byte // wrapped; seals the secrets

	// Behind says that deliveries are rows that are sent from there in their order:
	// the queue had MaxInQueue of this endpoint, or it is degraded. Version counts
	// the rows that were written so.
	Behind  bool
	Version int
	// Failures counts deliveries that failed on their first try in a row. From
	// [DegradedAfter] on the endpoint is degraded until the first success, and tried
	// at ProbeAt.
	Failures     int
	FailingSince time.Time
	ProbeAt      time.Time
	ProbeWait    time.Duration
	// Due is the endpoint's next moment; zero: none.
	Due time.Time
	// AnswerTime is how long its answers take on average, where that is worth a write.
	AnswerTime time.Duration
	// Untold is the event of the endpoint's end, while the queues do not have it.
	Untold    []byte
	Suspended bool // the customer is
}

// SealedSecret signs until a time; the zero time is for ever.
type SealedSecret struct {
	Sealed []byte
	Until  time.Time
}

// DegradedAfter is how many deliveries in a row must fail.
const DegradedAfter = 5

// Degraded says whether only one delivery at a time is tried.
func (e *Endpoint) Degraded() bool { return e.Failures >= DegradedAfter }

// SlowAfter is from which average on an endpoint gets one delivery at a time: it would
// keep many requests open for little.
const SlowAfter = 5 * time.Second

// Slow says whether the endpoint gets one delivery at a time.
func (e *Endpoint) Slow() bool { return e.AnswerTime > SlowAfter }

// Status is the endpoint's, as its customer is shown it.
func (e *Endpoint) Status() EndpointStatus {
	switch {
	case e.Disabled != "":
		return EndpointDisabled
	case e.Degraded():
		return EndpointDegraded
	}
	return EndpointActive
}

// Holds says whether deliveries are held: kept, and sent by a replay only. An
// endpoint of a deleted instance still gets what was on its way.
func (e *Endpoint) Holds() bool {
	return e.Suspended || e.Disabled != "" && e.Disabled != DisabledInstance
}

// Takes says whether the endpoint is to get an event.
func (e *Endpoint) Takes(ev *Event) bool {
	if ev.Customer != e.Customer || ev.Mode != e.Mode || e.Instance != "" && ev.Instance != e.Instance {
		return false
	}
	if !slices.ContainsFunc(e.Events, func(p string) bool { return MatchesEvent(p, ev.Name) }) {
		return false
	}
	if len(e.ChatTypes) == 0 {
		return true
	}
	var data struct {
		ChatType ChatType `json:"chat_type"`
	}
	if json.Unmarshal(ev.Data, &data) != nil || data.ChatType == "" {
		return true // the event has no kind of chat to filter by
	}
	return slices.Contains(e.ChatTypes, data.ChatType)
}

// MatchesEvent says whether a pattern stands for a name: the name itself, "*" (but
// see [EventName.NamedOnly]), or all names with the same beginning ("message.*").
func MatchesEvent(pattern string, name EventName) bool {
	if pattern == "*" {
		return !name.NamedOnly()
	}
	if prefix, ok := strings.CutSuffix(pattern, "*"); ok {
		return strings.HasPrefix(string(name), prefix)
	}
	return pattern == string(name)
}

// ValidEventPattern says whether a pattern stands for any event there is.
func ValidEventPattern(pattern string) bool {
	if prefix, ok := strings.CutSuffix(pattern, "*"); ok && prefix != "" && !strings.HasSuffix(prefix, ".") {
		return false
	}
	return slices.ContainsFunc(EventNames, func(n EventName) bool { return MatchesEvent(pattern, n) })
}

// DeliveryStatus is how far a delivery is.
type DeliveryStatus string

const (
	DeliveryPending  DeliveryStatus = "pending"
	DeliveryRetrying DeliveryStatus = "retrying"
	DeliverySuccess  DeliveryStatus = "success"
	DeliveryFailed   DeliveryStatus = "failed"
	DeliveryHeld     DeliveryStatus = "held"
)

// DeliveryStatuses lists them.
var DeliveryStatuses = []DeliveryStatus{DeliveryPending, DeliveryRetrying, DeliverySuccess, DeliveryFailed, DeliveryHeld}

// Why a delivery failed without an attempt.
const (
	ErrorEndpointDeleted = "endpoint_deleted"
	ErrorInternal        = "internal"
	ErrorHeldTooLong     = "held_too_long"
)

// MaxAttempts is how often a delivery is tried.
const MaxAttempts = 6

// Delivery is one event on its way to one endpoint.
type Delivery struct {
	Customer  CustomerID
	Mode      Mode
	ID        DeliveryID
	Endpoint  EndpointID
	Instance  InstanceID
	Event     EventName
	EventID   EventID
	Status    DeliveryStatus
	Turn      int // counts how often it was given to the queue anew
	Attempts  []DeliveryAttempt
	Error     string
	NextAt    time.Time // zero: none
	Delivered time.Time
	ReplayOf  DeliveryID
	Replay    ReplayID // of a range
	UpdatedAt time.Time
	Payload   []byte // the envelope's very bytes
	Group     string // of the queue: see GroupOf
	Order     string // among the endpoint's deliveries that are owed
}

// DeliveryAttempt is one request.
type DeliveryAttempt struct {
	At     Time   `json:"at"`
	MS     int64  `json:"ms"`
	Status *int   `json:"status"` // null: there was no answer
	Error  string `json:"error"`
	Answer string `json:"answer"` // its first bytes, as text
}

// Mark is for how many deliveries the mark of this one in the queue stands; 0: it has
// none. One that goes straight into the queue has its envelope with it and is one of
// many: of those one in [MarkStandsFor], by the chance of its id, has a mark for all. One that
// is sent from its row has a mark for itself.
func (d *Delivery) Mark() int {
	if d.Turn > 0 || len(d.Payload) == 0 {
		return 1
	}
	if sum := sha256.Sum256([]byte(d.ID)); sum[0]%MarkStandsFor != 0 {
		return 0
	}
	return MarkStandsFor
}

// Owing is a delivery that is to be sent from its row, not before Due.
type Owing struct {
	*Delivery
	Due time.Time
}

// Queued is a delivery as a message of the queue: a second one of a name is dropped.
type Queued struct {
	Group, Name string
	Body        []byte
}

// Final says whether no further attempt will be made but by a replay.
func (d *Delivery) Final() bool { return d.Status == DeliverySuccess || d.Status == DeliveryFailed }

// Shown is the delivery as its customer sees it: what was held too long has failed.
func (d Delivery) Shown(now time.Time) Delivery {
	if d.Status == DeliveryHeld && now.Sub(d.UpdatedAt) > HeldFor {
		d.Status, d.Error = DeliveryFailed, ErrorHeldTooLong
	}
	return d
}

// TakePlaces gives an endpoint the first free ones of its customer's [MaxEndpoints]
// places: one for each [LanesOfPlace] of MaxInFlight. Taken has a bit for each place that
// is not free. It is false if there are too few.
//
// The groups of the delivery queue are named after places. So however many endpoints a
// customer makes, deletes and makes again, and however long each hangs, no more of the
// customer's deliveries are under way than all its places have lanes.
func (e *Endpoint) TakePlaces(taken int) bool {
	e.Places = 0
	for place := range MaxEndpoints {
		if bits.OnesCount(uint(e.Places))*LanesOfPlace >= e.MaxInFlight {
			break
		}
		e.Places |= 1 << place &^ taken
	}
	return bits.OnesCount(uint(e.Places))*LanesOfPlace >= e.MaxInFlight
}

// GroupOf is the group of an event's deliveries to an endpoint: one of MaxInFlight lanes
// in its places, so that at most that many are under way, and each instance's in order.
func (e *Endpoint) GroupOf(i InstanceID) string {
	lane := LaneOf(i, max(e.MaxInFlight, 1))
	places := uint(e.Places)
	for range lane / LanesOfPlace {
		places &= places - 1
	}
	return fmt.Sprintf("%s#%s#%d", e.Customer, e.Mode, bits.TrailingZeros(places)*LanesOfPlace+lane%LanesOfPlace)
}

// LaneOf is the one of so many lanes in which an instance's events keep their order.
func LaneOf(i InstanceID, lanes int) int {
	sum := sha256.Sum256([]byte(i))
	return int(sum[0]) % lanes
}

// Owed is a delivery that is sent from its row.
type Owed struct {
	Key       string // its place in the order
	Delivery  DeliveryID
	Turn      int
	Group     string
	StandsFor int // of a mark: see [Delivery.Mark]
}

// DueRow is an endpoint, or a replay, whose next moment has come.
type DueRow struct {
	Customer CustomerID
	Mode     Mode
	Endpoint EndpointID
	Replay   ReplayID
}

// Replay reads the log for an endpoint, from Cursor on, up to To. CatchUp delivers what
// the endpoint has no delivery of; else everything that passes the filters is delivered
// anew.
type Replay struct {
	Customer CustomerID
	Mode     Mode
	ID       ReplayID
	Endpoint EndpointID
	CatchUp  bool
	At       time.Time // when it was asked for
	Since    time.Time // events before are left out
	To       time.Time
	Cursor   Position
	Status   DeliveryStatus // of the first delivery; empty: any, or none
	Events   []string       // patterns; none: all that the endpoint takes
}

// Covers says whether the replay asks for an event, whatever became of it.
func (r *Replay) Covers(e *Event) bool {
	if e.OccurredAt.Before(r.Since) || !r.CatchUp && e.OccurredAt.After(r.To) {
		return false
	}
	return len(r.Events) == 0 || slices.ContainsFunc(r.Events, func(p string) bool { return MatchesEvent(p, e.Name) })
}

// DisabledEvent is the event of an endpoint's end.
func DisabledEvent(e *Endpoint, reason string, at time.Time) (Event, error) {
	return NewEvent(WebhookDisabled, e.Customer, e.Mode, "", at, WebhookDisabledData{EndpointID: string(e.ID), URL: e.URL, Reason: reason})
}
