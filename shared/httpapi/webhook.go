package httpapi

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"time"
	"unicode/utf8"

	"whatisup/shared/control"
	"whatisup/shared/input"
	"whatisup/shared/whatisup"
)

// endpointWire is an endpoint as its customer sees it.
type endpointWire struct {
	ID             whatisup.EndpointID     `json:"id"`
	URL            string                  `json:"url"`
	Events         []string                `json:"events"`
	InstanceID     *whatisup.InstanceID    `json:"instance_id"`
	ChatTypes      []whatisup.ChatType     `json:"chat_types"`
	Description    string                  `json:"description"`
	Enabled        bool                    `json:"enabled"`
	Status         whatisup.EndpointStatus `json:"status"`
	DisabledReason *string                 `json:"disabled_reason"`
	MaxInFlight    int                     `json:"max_in_flight"`
	Mode           whatisup.Mode           `json:"mode"`
	CreatedAt      whatisup.Time           `json:"created_at"`
	UpdatedAt      whatisup.Time           `json:"updated_at"`
	Secret         *string                 `json:"signing_secret,omitempty"` // only when it is new
}

func endpointOf(e *whatisup.Endpoint) endpointWire {
	w := endpointWire{
		ID: e.ID, URL: e.URL, Events: e.Events, ChatTypes: e.ChatTypes, Description: e.Description,
		Enabled: e.Disabled == "", Status: e.Status(), MaxInFlight: e.MaxInFlight, Mode: e.Mode,
		CreatedAt: whatisup.At(e.ID.CreatedAt()), UpdatedAt: whatisup.At(e.UpdatedAt),
	}
	if w.ChatTypes == nil {
		w.ChatTypes = []whatisup.ChatType{}
	}
	if e.Instance != "" {
		w.InstanceID = &e.Instance
	}
	if e.Disabled != "" {
		w.DisabledReason = &e.Disabled
	}
	return w
}

func newEndpointAnswer(status int) func(control.NewEndpoint) *answer {
	return func(e control.NewEndpoint) *answer {
		w := endpointOf(e.Endpoint)
		secret := string(e.Secret)
		w.Secret = &secret
		return reply(status, w)
	}
}

func listEndpoints(c *call) (*answer, error) {
	all, err := c.control.Endpoints(c.ctx, c.who())
	if err != nil {
		return nil, err
	}
	list := page{Data: []json.RawMessage{}} // 20 at most
	for _, e := range all {
		b, err := encode(endpointOf(e))
		if err != nil {
			return nil, err
		}
		list.Data = append(list.Data, b)
	}
	return reply(http.StatusOK, list), nil
}

func getEndpoint(c *call) (*answer, error) {
	e, err := c.control.FindEndpoint(c.ctx, c.who(), c.segment)
	if err != nil {
		return nil, err
	}
	return reply(http.StatusOK, endpointOf(e)), nil
}

// readEndpoint reads what a customer configures into e. It reports whether the body
// enables the endpoint.
func (c *call) readEndpoint(b *input.Object, e *whatisup.Endpoint, required bool) (enabled bool) {
	if url, ok := b.Text("url", required); ok {
		if err := c.Webhooks.CheckURL(c.ctx, url, c.mode() == whatisup.Test); err != nil {
			b.Problem("url", err.Error())
		}
		e.URL = url
	}
	if events, ok := texts(b, "events", required); ok {
		if len(events) == 0 || len(events) > 50 {
			b.Problem("events", "must name 1 to 50 events")
		}
		for i, name := range events {
			if !whatisup.ValidEventPattern(name) {
				b.Problem(fmt.Sprintf("events[%d]", i), `must be the name of an event, "message.*" or "*"`)
			}
		}
		e.Events = events
	}
	if types, ok := texts(b, "chat_types", false); ok {
		e.ChatTypes = nil
		for i, name := range types {
			if !slices.Contains(whatisup.ChatTypes, whatisup.ChatType(name)) || slices.Contains(types[:i], name) {
				b.Problem(fmt.Sprintf("chat_types[%d]", i), "must be a kind of chat, and each at most once")
			}
			e.ChatTypes = append(e.ChatTypes, whatisup.ChatType(name))
		}
	}
	if text, ok := b.Text("description", false); ok {
		if utf8.RuneCountInString(text) > whatisup.MaxDescription {
			b.Problem("description", fmt.Sprintf("must have at most %d characters", whatisup.MaxDescription))
		}
		e.Description = text
	}
	if raw, ok := b.Take("enabled"); ok {
		switch string(raw) {
		case "true":
			if e.Disabled == whatisup.DisabledByOperator {
				b.Problem("enabled", "can't be true: the operator has disabled the endpoint")
			}
			enabled = e.Disabled != ""
			e.Disabled = ""
		case "false":
			if e.Disabled == "" {
				e.Disabled = whatisup.DisabledByCustomer
			}
		default:
			b.Problem("enabled", "must be true or false")
		}
	}
	return enabled
}

// texts reads a list of strings.
func texts(b *input.Object, name string, required bool) ([]string, bool) {
	raw, ok := b.Take(name)
	if !ok {
		if required {
			b.Problem(name, "is required")
		}
		return nil, false
	}
	var list []*string
	if err := json.Unmarshal(raw, &list); err != nil || list == nil || slices.Contains(list, nil) {
		b.Problem(name, "must be a list of strings")
		return nil, false
	}
	all := make([]string, len(list))
	for i, s := range list {
		all[i] = *s
	}
	return all, true
}

// wholeNumber reads a number from least to most.
func wholeNumber(b *input.Object, name string, least, most, otherwise int) int {
	raw, ok := b.Take(name)
	if !ok {
		return otherwise
	}
	n, err := strconv.Atoi(string(raw))
	if err != nil || n < least || n > most {
		b.Problem(name, fmt.Sprintf("must be a whole number from %d to %d", least, most))
	}
	return n
}

func createEndpoint(c *call) (*answer, error) {
	b, err := c.readBody()
	if err != nil {
		return nil, err
	}
	var e whatisup.Endpoint
	c.readEndpoint(b, &e, true)
	boundTo, bound := b.TextOrNull("instance_id")
	secret, given := b.Text("signing_secret", false)
	if given && !whatisup.ValidSigningSecret(secret) {
		b.Problem("signing_secret", "must be whsec_ and the padded base64 of 24 to 64 bytes")
	}
	e.MaxInFlight = wholeNumber(b, "max_in_flight", 1, whatisup.MostMaxInFlight, whatisup.DefaultMaxInFlight)
	if err := b.Done(); err != nil {
		return nil, err
	}
	if bound {
		i, err := c.control.Find(c.ctx, c.who(), boundTo)
		if err != nil {
			return nil, err
		}
		e.Instance = i.Config.ID
	}
	return c.idempotent(b, func(r *claim) (*answer, error) {
		return sealed(r, newEndpointAnswer(http.StatusCreated), func(seal control.Seal[control.NewEndpoint]) (control.NewEndpoint, error) {
			return c.control.CreateEndpoint(c.ctx, c.who(), e, whatisup.Secret(secret), seal)
		})
	})
}

func updateEndpoint(c *call) (*answer, error) {
	e, err := c.control.FindEndpoint(c.ctx, c.who(), c.segment)
	if err != nil {
		return nil, err
	}
	b, err := c.readBody()
	if err != nil {
		return nil, err
	}
	enabled := c.readEndpoint(b, e, false)
	if err := b.Done(); err != nil {
		return nil, err
	}
	if err := c.control.UpdateEndpoint(c.ctx, c.who(), e, enabled); err != nil {
		return nil, err
	}
	if enabled {
		e.Failures = 0
	}
	return reply(http.StatusOK, endpointOf(e)), nil
}

func deleteEndpoint(c *call) (*answer, error) {
	e, err := c.control.FindEndpoint(c.ctx, c.who(), c.segment)
	if err != nil {
		return nil, err
	}
	if err := c.control.DeleteEndpoint(c.ctx, e); err != nil {
		return nil, err
	}
	return reply(http.StatusNoContent, nil), nil
}

const (
	overlapHours     = 24
	mostOverlapHours = 168
)

func rotateSecret(c *call) (*answer, error) {
	e, err := c.control.FindEndpoint(c.ctx, c.who(), c.segment)
	if err != nil {
		return nil, err
	}
	b, err := c.readBody()
	if err != nil {
		return nil, err
	}
	hours := wholeNumber(b, "overlap_hours", 0, mostOverlapHours, overlapHours)
	if err := b.Done(); err != nil {
		return nil, err
	}
	return c.idempotent(b, func(r *claim) (*answer, error) {
		return sealed(r, newEndpointAnswer(http.StatusOK), func(seal control.Seal[control.NewEndpoint]) (control.NewEndpoint, error) {
			return c.control.RotateSecret(c.ctx, e, time.Duration(hours)*time.Hour, seal)
		})
	})
}

// testWire is the outcome of a test.
type testWire struct {
	Status *int    `json:"status"` // HTTP; null: there was no answer
	MS     int64   `json:"ms"`
	Error  *string `json:"error"`
}

func testEndpoint(c *call) (*answer, error) {
	e, err := c.control.FindEndpoint(c.ctx, c.who(), c.segment)
	if err != nil {
		return nil, err
	}
	b, err := c.emptyBody()
	if err != nil {
		return nil, err
	}
	return c.idempotent(b, func(*claim) (*answer, error) {
		d, err := c.control.TestEndpoint(c.ctx, c.who(), e)
		if err != nil {
			return nil, err
		}
		var w testWire
		if n := len(d.Attempts); n > 0 {
			w.Status, w.MS = d.Attempts[n-1].Status, d.Attempts[n-1].MS
		}
		if d.Error != "" {
			w.Error = &d.Error
		}
		return reply(http.StatusOK, w), nil
	})
}

// replayBack is how far back a replay may begin: what the log keeps.
const replayBack = whatisup.EventsKept

func replayRange(c *call) (*answer, error) {
	e, err := c.control.FindEndpoint(c.ctx, c.who(), c.segment)
	if err != nil {
		return nil, err
	}
	b, err := c.readBody()
	if err != nil {
		return nil, err
	}
	var r whatisup.Replay
	moment := func(name string) time.Time {
		text, ok := b.Text(name, true)
		if !ok {
			return time.Time{}
		}
		t, err := time.Parse(time.RFC3339, text)
		if err != nil {
			b.Problem(name, "must be a time like 2026-05-01T12:34:56.000Z")
		}
		return t
	}
	r.Since, r.To = moment("from"), moment("to")
	if !r.Since.IsZero() && c.now().Sub(r.Since) > replayBack {
		b.Problem("from", "must be within the last 30 days")
	}
	if r.To.Before(r.Since) {
		b.Problem("to", "must not be before from")
	}
	if status, ok := b.Text("status", false); ok {
		if !slices.Contains(whatisup.DeliveryStatuses, whatisup.DeliveryStatus(status)) {
			b.Problem("status", "must be "+orList(whatisup.DeliveryStatuses))
		}
		r.Status = whatisup.DeliveryStatus(status)
	}
	r.Events, _ = texts(b, "events", false)
	for i, name := range r.Events {
		if !whatisup.ValidEventPattern(name) {
			b.Problem(fmt.Sprintf("events[%d]", i), `must be the name of an event, "message.*" or "*"`)
		}
	}
	if err := b.Done(); err != nil {
		return nil, err
	}
	return c.idempotent(b, func(*claim) (*answer, error) {
		count, err := c.control.ReplayRange(c.ctx, c.who(), e, r)
		if err != nil {
			return nil, err
		}
		return reply(http.StatusAccepted, struct {
			Count int `json:"count"`
		}{count}), nil
	})
}

func orList[S ~string](set []S) string {
	text := ""
	for i, s := range set {
		switch {
		case i == 0:
		case i == len(set)-1:
			text += " or "
		default:
			text += ", "
		}
		text += string(s)
	}
	return text
}

// deliveryWire is a delivery as its customer sees it.
type deliveryWire struct {
	ID           whatisup.DeliveryID        `json:"id"`
	EndpointID   whatisup.EndpointID        `json:"endpoint_id"`
	CustomerID   whatisup.CustomerID        `json:"customer_id"`
	InstanceID   *whatisup.InstanceID       `json:"instance_id"`
	Event        whatisup.EventName         `json:"event"`
	EventID      whatisup.EventID           `json:"event_id"`
	Mode         whatisup.Mode              `json:"mode"`
	Status       whatisup.DeliveryStatus    `json:"status"`
	AttemptCount int                        `json:"attempt_count"`
	Attempts     []whatisup.DeliveryAttempt `json:"attempts"`
	LastError    *string                    `json:"last_error"`
	LastStatus   *int                       `json:"last_response_status"`
	NextAt       whatisup.Time              `json:"next_attempt_at"`
	DeliveredAt  whatisup.Time              `json:"delivered_at"`
	ReplayOf     *whatisup.DeliveryID       `json:"replay_of"`
	CreatedAt    whatisup.Time              `json:"created_at"`
	UpdatedAt    whatisup.Time              `json:"updated_at"`
	Payload      json.RawMessage            `json:"payload,omitempty"`
}

func (c *call) deliveryWire(row *whatisup.Delivery) deliveryWire {
	d := row.Shown(c.now())
	w := deliveryWire{
		ID: d.ID, EndpointID: d.Endpoint, CustomerID: d.Customer, Event: d.Event, EventID: d.EventID, Mode: d.Mode,
		Status: d.Status, AttemptCount: len(d.Attempts), Attempts: d.Attempts,
		NextAt: whatisup.At(d.NextAt), DeliveredAt: whatisup.At(d.Delivered),
		CreatedAt: whatisup.At(d.ID.CreatedAt()), UpdatedAt: whatisup.At(d.UpdatedAt),
	}
	if d.Attempts == nil {
		w.Attempts = []whatisup.DeliveryAttempt{}
	}
	if d.Instance != "" {
		w.InstanceID = &d.Instance
	}
	if d.Error != "" {
		w.LastError = &d.Error
	}
	if n := len(d.Attempts); n > 0 {
		w.LastStatus = d.Attempts[n-1].Status
	}
	if d.ReplayOf != "" {
		w.ReplayOf = &d.ReplayOf
	}
	return w
}

const deliveryPage = 100 // deliveries of a page, unless the request says otherwise

func listDeliveries(c *call) (*answer, error) {
	q, err := c.readQuery()
	if err != nil {
		return nil, err
	}
	limit := q.number("limit", maxLimit)
	if limit == 0 {
		limit = deliveryPage
	}
	statuses := oneOf(q, "status", whatisup.DeliveryStatuses)
	events := oneOf(q, "events", append(slices.Clone(whatisup.EventNames), whatisup.WebhookTest))
	instance := q.instanceID("instance_id")
	endpoint, _ := q.get("endpoint_id")
	bound := []string{"deliveries", string(c.customer()), string(c.mode()), join(statuses), join(events), string(instance), endpoint}
	var before whatisup.DeliveryID
	if cursor, ok := q.get("cursor"); ok {
		id, ok := c.seal.open(cursor, bound...)
		if !ok {
			q.problem("cursor", "is not a cursor of this list")
		}
		before = whatisup.DeliveryID(id)
	}
	if err := q.done(); err != nil {
		return nil, err
	}
	list := messageList{Data: []json.RawMessage{}}
	var size listSize
	var last whatisup.DeliveryID
	read, scanned, cut := 0, 0, false
	for row, err := range c.control.Deliveries(c.ctx, c.who(), before, limit+1) {
		if err != nil {
			return nil, err
		}
		if cut = len(list.Data) == limit || read == readMost || scanned > maxScanned; cut {
			break
		}
		scanned += rowBytes + len(row.Payload)
		w := c.deliveryWire(row)
		if (len(statuses) == 0 || slices.Contains(statuses, w.Status)) && (len(events) == 0 || slices.Contains(events, w.Event)) &&
			(instance == "" || row.Instance == instance) && (endpoint == "" || string(row.Endpoint) == endpoint) {
			b, err := encode(w)
			if err != nil {
				return nil, err
			}
			if cut = !size.add(b); cut {
				break
			}
			list.Data = append(list.Data, b)
		}
		last = row.ID
		read++
	}
	if cut {
		list.Next = next(c.seal.make(string(last), bound...))
	}
	return reply(http.StatusOK, list), nil
}

func getDelivery(c *call) (*answer, error) {
	d, err := c.control.FindDelivery(c.ctx, c.who(), c.segment)
	if err != nil {
		return nil, err
	}
	w := c.deliveryWire(d)
	w.Payload = d.Payload
	return reply(http.StatusOK, w), nil
}

func replayDelivery(c *call) (*answer, error) {
	d, err := c.control.FindDelivery(c.ctx, c.who(), c.segment)
	if err != nil {
		return nil, err
	}
	b, err := c.emptyBody()
	if err != nil {
		return nil, err
	}
	return c.idempotent(b, func(*claim) (*answer, error) {
		anew, err := c.control.ReplayDelivery(c.ctx, c.who(), d)
		if err != nil {
			return nil, err
		}
		return reply(http.StatusAccepted, c.deliveryWire(anew)), nil
	})
}
