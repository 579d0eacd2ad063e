package whatisup

import (
	"encoding/json"
	"time"

	"github.com/google/uuid"
)

// EventName is the kind of an event. The set is closed. Those beside messages and
// instances are in notice.go.
type EventName string

const (
	InstanceCreated      EventName = "instance.created"      // data: the Instance
	InstanceDeleted      EventName = "instance.deleted"      // data: the Instance
	InstanceUpdated      EventName = "instance.updated"      // data: UpdatedData
	InstanceConnected    EventName = "instance.connected"    // data: ConnectedData
	InstanceDisconnected EventName = "instance.disconnected" // data: DisconnectedData
	InstanceFailed       EventName = "instance.failed"       // data: FailedData
	QRUpdated            EventName = "qr.updated"            // data: QRData
	MessageReceived      EventName = "message.received"      // data: ReceivedData
	CommandRefused       EventName = "command.refused"       // data: RefusedData
	MessageEcho          EventName = "message.echo"          // data: ReceivedData
	MessageUpdated       EventName = "message.updated"       // data: ReceivedData
	MessageEdited        EventName = "message.edited"        // data: EditedData
	MessageRevoked       EventName = "message.revoked"       // data: RevokedData
	MessageReaction      EventName = "message.reaction"      // data: ReactionData
	PollVoted            EventName = "poll.voted"            // data: VotedData
	MessageStatusChanged EventName = "message.status"        // data: StatusData
	InstanceRestricted   EventName = "instance.restricted"   // data: RestrictedData
	MessageMediaReady    EventName = "message.media_ready"   // data: MediaData
	MessageMediaFailed   EventName = "message.media_failed"  // data: MediaData
	MediaIsReady         EventName = "media.ready"           // data: MediaWire
	MediaHasFailed       EventName = "media.failed"          // data: MediaWire
	WebhookDisabled      EventName = "webhook.disabled"      // data: WebhookDisabledData
	WebhookTest          EventName = "webhook.test"          // data: WebhookTestData; sent to one endpoint, never logged
	StreamOpened         EventName = "stream.opened"         // data: {}; the first frame of a stream, never logged
)

// EventNames lists every event.
var EventNames = []EventName{
	InstanceCreated, InstanceDeleted, InstanceUpdated, InstanceConnected,
	InstanceDisconnected, InstanceFailed, QRUpdated, MessageReceived, CommandRefused,
	MessageStatusChanged, InstanceRestricted, WebhookDisabled,
	MessageMediaReady, MessageMediaFailed, MediaIsReady, MediaHasFailed,
	MessageEcho, MessageUpdated, MessageEdited, MessageRevoked, MessageReaction, PollVoted,
	GroupCreated, GroupUpdated, ParticipantAdded, ParticipantRemoved, AdminPromoted, AdminDemoted,
	ContactUpdated, PresenceUpdated, CallOffered, CallEnded,
}

// EventVersion names the shape of events.
const EventVersion = "2026-12"

// EventsKept is how long the log keeps an event.
const EventsKept = 30 * 24 * time.Hour

// Event is the envelope, the same in the stream, the log and the queues.
type Event struct {
	Name       EventName       `json:"event"`
	ID         EventID         `json:"event_id"` // stable over repetitions
	Version    string          `json:"api_version"`
	Customer   CustomerID      `json:"customer_id"`
	Instance   InstanceID      `json:"instance_id"`
	Mode       Mode            `json:"mode"`
	OccurredAt Time            `json:"occurred_at"`
	Command    CommandID       `json:"command_id,omitempty"` // of the integration command that caused it
	Data       json.RawMessage `json:"data"`
}

// MarshalJSON writes null for the instance of an event that has none.
func (e Event) MarshalJSON() ([]byte, error) {
	type plain Event // with the fields in their order, and without this method
	if e.Instance != "" {
		return json.Marshal(plain(e))
	}
	return json.Marshal(struct {
		Name       EventName       `json:"event"`
		ID         EventID         `json:"event_id"`
		Version    string          `json:"api_version"`
		Customer   CustomerID      `json:"customer_id"`
		Instance   *InstanceID     `json:"instance_id"`
		Mode       Mode            `json:"mode"`
		OccurredAt Time            `json:"occurred_at"`
		Command    CommandID       `json:"command_id,omitempty"`
		Data       json.RawMessage `json:"data"`
	}{e.Name, e.ID, e.Version, e.Customer, nil, e.Mode, e.OccurredAt, e.Command, e.Data})
}

// NewEvent returns an event of an instance. Data must marshal, which every data
// type of this package does. Whatever a stranger has written, the event can be
// stored and sent: it has at most [EventSize] bytes (longer texts are cut, and
// `truncated` names them) and no unpaired surrogates.
func NewEvent(name EventName, c CustomerID, m Mode, i InstanceID, at time.Time, data any) (Event, error) {
	b, err := json.Marshal(data)
	if err != nil {
		return Event{}, err
	}
	if b, err = StorableData(b); err != nil {
		return Event{}, err
	}
	return Event{
		Name: name, ID: NewEventID(), Version: EventVersion,
		Customer: c, Mode: m, Instance: i, OccurredAt: At(at), Data: b,
	}, nil
}

// StorableData is what [NewEvent] makes of data that is JSON already.
func StorableData(data json.RawMessage) (json.RawMessage, error) {
	return shorten(pairSurrogates(data), EventSize-envelopeSize)
}

// Logged is an event in the log.
type Logged struct {
	Position Position
	Event
}

// Position is an event's place in the log: a version 7 UUID taken when the
// event is committed, at most [PositionLag] before the commit.
type Position string

// PositionLag bounds how long a commit may take after its position was taken.
// A reader therefore reads the newest stretch again, and drops what it has: each
// time PositionNear, which is enough where clocks agree, and now and then
// PositionReread, which bears a writer whose clock is a minute behind.
const (
	PositionLag    = 10 * time.Second
	PositionNear   = 15 * time.Second
	PositionReread = 90 * time.Second
)

// NewPosition takes the position of this moment.
func NewPosition() Position { return Position(newID()) }

// PositionAt is the least position of its millisecond, to read from a time on.
func PositionAt(t time.Time) Position {
	ms := max(t.UnixMilli(), 0)
	var u uuid.UUID
	for i := range 6 {
		u[i] = byte(ms >> (8 * (5 - i)))
	}
	u[6], u[8] = 0x70, 0x80
	return Position(u.String())
}

// Time is the position's millisecond, zero if it is none.
func (p Position) Time() time.Time { return idTime(string(p)) }

// The initiators of a disconnect.
const (
	ByPhone    = "phone"
	ByAPI      = "api"
	ByWhatsApp = "whatsapp"
	ByNetwork  = "network"
)

// StepEvent is the event that tells of the step from was to is, and its data:
// the one of its own, if the step has one, else that the instance was updated. It
// is false for a step that nobody is told of. By says who caused the step;
// previous is the number of the link before, if there was one.
func StepEvent(was, is *Observed, by string, previous PhoneNumber) (name EventName, data any, ok bool) {
	step := was.Status != is.Status || was.Reason != is.Reason
	var changed []string
	if step {
		changed = append(changed, "status")
	}
	if was.PhoneNumber != is.PhoneNumber {
		changed = append(changed, "phone_number")
	}

	switch {
	case len(changed) == 0:
		return "", nil, false
	case step && is.Status == Connected:
		d := ConnectedData{PhoneNumber: string(is.PhoneNumber), Link: "resumed"}
		if !was.Confirmed {
			d.Link = "new"
			if previous != "" && previous != is.PhoneNumber {
				p := string(previous)
				d.PreviousPhoneNumber = &p
			}
		}
		return InstanceConnected, d, true
	case step && is.Status == Disconnected:
		return InstanceDisconnected, DisconnectedData{Reason: is.Reason, Initiator: by}, true
	case step && is.Status == Failed:
		return InstanceFailed, FailedData{Reason: is.Reason}, true
	case is.Status == QR:
		return "", nil, false // qr.updated tells
	case is.Reason == LoggedOut && was.Status == Connected:
		return InstanceDisconnected, DisconnectedData{Reason: is.Reason, Initiator: ByAPI}, true
	}
	d := UpdatedData{Changed: changed, Status: is.Status}
	if is.Reason != NoReason {
		reason := is.Reason
		d.Reason = &reason
	}
	return InstanceUpdated, d, true
}

// The data of each event.
type (
	ConnectedData struct {
		PhoneNumber         string  `json:"phone_number"`
		PreviousPhoneNumber *string `json:"previous_phone_number"`
		Link                string  `json:"link"` // "new" or "resumed"
	}
	DisconnectedData struct {
		Reason    Reason `json:"reason"`
		Initiator string `json:"initiator"`
	}
	FailedData struct {
		Reason Reason `json:"reason"`
	}
	UpdatedData struct {
		Changed []string `json:"changed"` // of name, metadata, status, phone_number
		Status  Status   `json:"status"`
		Reason  *Reason  `json:"reason"`
	}
	QRData struct {
		QR        string `json:"qr"` // a data URL
		Raw       string `json:"raw"`
		ExpiresAt Time   `json:"expires_at"`
	}
	WebhookDisabledData struct {
		EndpointID string `json:"endpoint_id"`
		URL        string `json:"url"`
		Reason     string `json:"reason"`
	}
	WebhookTestData struct {
		EndpointID string `json:"endpoint_id"`
	}
	RefusedData struct {
		Command string          `json:"command"`
		Error   json.RawMessage `json:"error"` // the error object of the HTTP API
	}
)
