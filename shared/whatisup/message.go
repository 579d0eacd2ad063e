package whatisup

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"strings"
	"time"
)

// MessageID is WhatsApp's own id of a message. What is sent has an id of ours
// (see [NewMessageID]); what is received has one that its sender chose, so it is
// opaque text of at most 128 bytes and not unique.
type MessageID string

// ownPrefix begins every id that we make, as it does in WhatsApp's own clients
// and in the library.
const ownPrefix = "3EB0"

// NewMessageID returns a fresh id of the form that the library makes: 3EB0 and 18
// upper-case hex digits. It is made when a message is accepted, so that the
// message can be replied to, edited and revoked at once.
func NewMessageID() MessageID {
	var b [9]byte
	_, _ = rand.Read(b[:]) // never fails, see crypto/rand
	return MessageIDFrom(b[:])
}

// MessageIDFrom makes the id from at least nine bytes that nobody can guess or
// choose, as a keyed hash of an idempotency key is.
func MessageIDFrom(b []byte) MessageID {
	return MessageID(ownPrefix + strings.ToUpper(hex.EncodeToString(b[:9])))
}

// IsOwn says whether the id has the form of those that we make.
func (id MessageID) IsOwn() bool {
	rest, ok := strings.CutPrefix(string(id), ownPrefix)
	if !ok || len(rest) != 18 {
		return false
	}
	_, err := hex.DecodeString(rest)
	return err == nil && strings.ToUpper(rest) == rest
}

// MessageStatus is how far a message that is sent has come.
type MessageStatus string

const (
	MessageScheduled MessageStatus = "scheduled" // waits for its time
	MessageQueued    MessageStatus = "queued"    // waits for its turn, or for the connection
	MessageSent      MessageStatus = "sent"      // WhatsApp's server has it
	MessageDelivered MessageStatus = "delivered" // a device of the recipient has it
	MessageRead      MessageStatus = "read"
	MessagePlayed    MessageStatus = "played"
	MessageFailed    MessageStatus = "failed"
	MessageExpired   MessageStatus = "expired"
	MessageCanceled  MessageStatus = "canceled"
)

// MessageStatuses lists every status, by rank.
var MessageStatuses = []MessageStatus{
	MessageScheduled, MessageQueued, MessageFailed, MessageExpired, MessageSent,
	MessageDelivered, MessageRead, MessagePlayed, MessageCanceled,
}

// Rank orders the statuses: a message only ever moves to a higher rank. An
// acknowledgement or a receipt of WhatsApp is true whenever it comes, so sent and
// what follows it outrank failed and expired; nothing outranks canceled, which is
// written only where nothing can have left. An unknown status has rank 0.
func (s MessageStatus) Rank() int {
	switch s {
	case MessageScheduled:
		return 10
	case MessageQueued:
		return 20
	case MessageFailed, MessageExpired:
		return 30
	case MessageSent:
		return 40
	case MessageDelivered:
		return 50
	case MessageRead:
		return 60
	case MessagePlayed:
		return 70
	case MessageCanceled:
		return 80
	}
	return 0
}

// Waiting says whether the message still has to be sent.
func (s MessageStatus) Waiting() bool { return s == MessageScheduled || s == MessageQueued }

// MessageError says why a message was not sent. The codes are open to customers:
// they must bear new ones.
type MessageError struct {
	Code         MessageCode `json:"code"`
	Message      string      `json:"message"`
	Retryable    bool        `json:"retryable"` // a new message may succeed
	Until        Time        `json:"until,omitzero"`
	WhatsAppCode int         `json:"whatsapp_code,omitempty"`
}

// MessageCode is the kind of a [MessageError].
type MessageCode string

const (
	NotOnWhatsApp      MessageCode = "not_on_whatsapp"
	ReachoutRestricted MessageCode = "reachout_restricted"
	NewChatLimit       MessageCode = "new_chat_limit"
	RejectedByWhatsApp MessageCode = "rejected"
	NotInGroup         MessageCode = "not_in_group"
	NotAllowedInGroup  MessageCode = "not_allowed_in_group"
	MediaUnavailable   MessageCode = "media_unavailable"
	UnsupportedMedia   MessageCode = "unsupported_media"
	EditWindowPassed   MessageCode = "edit_window_passed"
	TargetNotSent      MessageCode = "target_not_sent"
	NoRecipientDevice  MessageCode = "no_recipient_device"
	LinkLost           MessageCode = "link_lost"
	MessageInternal    MessageCode = "internal"
)

// messageErrors has the sentence of each code, and whether a new message may
// succeed where this one did not.
var messageErrors = map[MessageCode]MessageError{
	NotOnWhatsApp:      {Message: "WhatsApp does not know this number."},
	ReachoutRestricted: {Message: "WhatsApp has restricted this account from writing to people who have not written to it.", Retryable: true},
	NewChatLimit:       {Message: "This account has begun as many new chats as WhatsApp allows for now.", Retryable: true},
	RejectedByWhatsApp: {Message: "WhatsApp refused the message.", Retryable: true},
	NotInGroup:         {Message: "The instance is not a member of this group."},
	NotAllowedInGroup:  {Message: "Only admins may write in this group."},
	MediaUnavailable:   {Message: "The file could not be fetched or uploaded.", Retryable: true},
	UnsupportedMedia:   {Message: "WhatsApp does not show files of this kind."},
	EditWindowPassed:   {Message: "A message can be edited within 15 minutes."},
	TargetNotSent:      {Message: "The message that this one refers to was not sent."},
	NoRecipientDevice:  {Message: "No device of the recipient could be reached.", Retryable: true},
	LinkLost:           {Message: "The link that the message was accepted under has ended.", Retryable: true},
	MessageInternal:    {Message: "The message could not be sent for a reason on our side.", Retryable: true},
}

// MessageCodes lists every code.
func MessageCodes() []MessageCode {
	codes := make([]MessageCode, 0, len(messageErrors))
	for c := range messageErrors {
		codes = append(codes, c)
	}
	return codes
}

// NewMessageError returns the error of a code, with its sentence.
func NewMessageError(code MessageCode) *MessageError {
	e := messageErrors[code]
	e.Code = code
	return &e
}

// The limits of a message's times, and of how many wait.
const (
	ScheduleAhead    = 7 * 24 * time.Hour // at most this far ahead
	SchedulePast     = time.Minute        // so far in the past is now
	ExpireAfter      = time.Hour          // unless the request says otherwise
	ExpireAfterFail  = time.Minute        // ... with if_not_connected "fail"
	ExpireMost       = 7 * 24 * time.Hour
	WaitingMost      = 1000 // messages of one instance, scheduled ones included
	TypingMost       = 10 * time.Second
	MessageKept      = 30 * 24 * time.Hour // from the end state on
	maxClientRef     = 128                 // characters
	EditWindow       = 15 * time.Minute
	MaxReceivedID    = maxTargetID
	MaxReceivedText  = 5 << 18 // bytes of a body, and of a context, as JSON in the ledger: texts of 1 MB
	MaxEventBytes    = 200_000 // an event as JSON
	UnknownTriesMost = 3       // sends of unknown outcome before a message is given up
	DeathsMost       = 2       // sends that ended the process before a message is given up
)

// Message is the row of a message: the queue, the ledger and the receipt. Times
// that are not known are zero.
type Message struct {
	Ref       Ref // of its instance
	ID        MessageID
	Direction Direction

	// What was asked for.
	To        Address         // as asked; of a received message the chat
	Raw       json.RawMessage // the body as it was given, without space between tokens
	ReplyTo   *Target         // with its sender, if it is another's
	Target    *Target         // of the body, with its sender, if it is another's
	ClientRef string
	Typing    time.Duration
	BodyHash  []byte // of the whole request, where the row is an idempotency record
	RequestID RequestID
	CommandID CommandID

	// Chat is the chat's id: by LID where it is known. It changes once at most.
	Chat      Address
	ChatType  ChatType
	Recipient Person // of a direct chat, as far as it is known
	From      Person // of a received message

	Link            Link // that the message was accepted under; only this one sends it
	Status          MessageStatus
	StatusAt        time.Time
	Times           MessageTimes
	DueAt           time.Time // the later of acceptance and ScheduledAt: the order in the line
	ExpiresAt       time.Time
	WaitingFor      WaitingFor // stored only where the session knows better than the rows
	WaitingUntil    time.Time
	Attempts        int
	MayHaveBeenSent bool
	CancelAsked     bool
	Error           *MessageError
	Recipients      *RecipientCounts // of a message to a group

	Media MediaID // its file; empty: none, or none that was fetched

	// Of a received message; Times.Created is when we received it, Times.Sent is
	// WhatsApp's time.
	EventID   EventID         // the event that told of it
	UpdatedBy EventID         // the event that told that it could be read after all
	FromMe    bool            // written on the phone or on another linked device
	Change    bool            // an edit, a revoke, a reaction or a vote: it stands in no list
	Text      string          // where it is neither the body's text nor its caption
	Context   json.RawMessage // a ContextWire; nil: there is none
	Truncated []string        // the texts that were cut, because not even the row takes them
}

// Type is the type of the message's body.
func (m *Message) Type() BodyType { return typeOf(m.Raw) }

// Undecryptable says whether a received message could not be read so far.
func (m *Message) Undecryptable() bool { return typeOf(m.Raw) == BodyUndecryptable }

// Direction tells what was sent by the instance from what it received.
type Direction string

const (
	Outgoing Direction = "out"
	Incoming Direction = "in"
)

// WaitingFor says what a message that waits is waiting for.
type WaitingFor string

const (
	ForSchedule    WaitingFor = "schedule"
	ForConnection  WaitingFor = "connection"
	ForMedia       WaitingFor = "media"
	ForChatOrder   WaitingFor = "chat_order"
	ForPace        WaitingFor = "pace"
	ForRestriction WaitingFor = "restriction"
)

// MessageTimes are the first time of each status.
type MessageTimes struct {
	Created, Scheduled, Queued, Sent, Delivered, Read, Played, Failed, Expired, Canceled time.Time
}

// At returns where the first time of a status is kept.
func (t *MessageTimes) At(s MessageStatus) *time.Time {
	switch s {
	case MessageScheduled:
		return &t.Scheduled
	case MessageQueued:
		return &t.Queued
	case MessageSent:
		return &t.Sent
	case MessageDelivered:
		return &t.Delivered
	case MessageRead:
		return &t.Read
	case MessagePlayed:
		return &t.Played
	case MessageFailed:
		return &t.Failed
	case MessageExpired:
		return &t.Expired
	case MessageCanceled:
		return &t.Canceled
	}
	return new(time.Time)
}

// RecipientCounts says how many of a group's members have come how far.
type RecipientCounts struct {
	Total     int `json:"total"`
	Delivered int `json:"delivered"`
	Read      int `json:"read"`
	Played    int `json:"played"`

	List []RecipientWire `json:"list,omitempty"` // where it was asked for
}

// Step is one move of a message to a status, and what comes with it.
type Step struct {
	Status          MessageStatus
	At              time.Time
	Error           *MessageError // with failed
	MayHaveBeenSent bool
	Recipient       Person  // learnt on the way; empty: unchanged
	Chat            Address // ... and with it the chat's id
	Recipients      *RecipientCounts
}

// Take moves the message by a step and says whether anything changed. A step to
// a lower or the same rank changes nothing but times that were missing: WhatsApp
// may tell that a message was read before it tells that it was delivered.
func (m *Message) Take(s Step) bool {
	at := m.Times.At(s.Status)
	if s.Status.Rank() <= m.Status.Rank() {
		if s.Status.Rank() < MessageSent.Rank() || !at.IsZero() || m.Status == MessageCanceled {
			return false
		}
		*at = s.At
		m.learn(s)
		return true
	}

	m.Status, m.StatusAt = s.Status, s.At
	if at.IsZero() {
		*at = s.At
	}
	m.Error = s.Error
	m.MayHaveBeenSent = s.MayHaveBeenSent
	m.learn(s)
	if !s.Status.Waiting() {
		m.WaitingFor, m.WaitingUntil = "", time.Time{}
	}
	return true
}

// learn takes over whom a step tells the recipient to be.
func (m *Message) learn(s Step) {
	if s.Recipient != (Person{}) {
		m.Recipient = s.Recipient
	}
	if s.Chat != "" {
		m.Chat = s.Chat
	}
	if s.Recipients != nil {
		m.Recipients = s.Recipients
	}
}

// MessageWire is the Message of the API.
type MessageWire struct {
	MessageID       MessageID        `json:"message_id"`
	ClientRef       *string          `json:"client_ref"`
	InstanceID      InstanceID       `json:"instance_id"`
	Chat            string           `json:"chat"`
	ChatType        ChatType         `json:"chat_type"`
	Recipient       *PersonWire      `json:"recipient"`
	Direction       Direction        `json:"direction"`
	Type            BodyType         `json:"type"`
	Body            json.RawMessage  `json:"body,omitempty"`
	Status          MessageStatus    `json:"status"`
	StatusAt        Time             `json:"status_at"`
	Timeline        TimelineWire     `json:"timeline"`
	WaitingFor      *WaitingFor      `json:"waiting_for"`
	WaitingUntil    Time             `json:"waiting_until"`
	Attempts        int              `json:"attempts"`
	MayHaveBeenSent bool             `json:"may_have_been_sent"`
	Error           *MessageError    `json:"error"`
	Recipients      *RecipientCounts `json:"recipients"`
	CreatedAt       Time             `json:"created_at"`
	ExpiresAt       Time             `json:"expires_at"`
	PreviousStatus  MessageStatus    `json:"previous_status,omitempty"` // in message.status only
	CancelRequested bool             `json:"cancel_requested,omitempty"`
}

// PersonWire is a [Person] of the API; what is not known is null.
type PersonWire struct {
	PhoneNumber *string `json:"phone_number"`
	LID         *string `json:"lid"`
}

// Person is the person that the API shows.
func (w PersonWire) Person() (p Person) {
	if w.PhoneNumber != nil {
		p.PhoneNumber = PhoneNumber(*w.PhoneNumber)
	}
	if w.LID != nil {
		p.LID = *w.LID
	}
	return p
}

// Wire is the person without the name.
func (p Person) Wire() PersonWire {
	var w PersonWire
	if p.PhoneNumber != "" {
		n := string(p.PhoneNumber)
		w.PhoneNumber = &n
	}
	if p.LID != "" {
		w.LID = &p.LID
	}
	return w
}

// TimelineWire is [MessageTimes] of the API.
type TimelineWire struct {
	ScheduledAt Time `json:"scheduled_at"`
	QueuedAt    Time `json:"queued_at"`
	SentAt      Time `json:"sent_at"`
	DeliveredAt Time `json:"delivered_at"`
	ReadAt      Time `json:"read_at"`
	PlayedAt    Time `json:"played_at"`
	FailedAt    Time `json:"failed_at"`
	ExpiredAt   Time `json:"expired_at"`
	CanceledAt  Time `json:"canceled_at"`
}

// Wire is the message as its customer sees it. Connected says whether the
// instance is shown connected: what waits and nothing else holds up waits for
// the connection.
func (m *Message) Wire(connected bool) MessageWire {
	t := &m.Times
	w := MessageWire{
		MessageID: m.ID, InstanceID: m.Ref.ID, Chat: string(m.Chat), ChatType: m.ChatType,
		Direction: m.Direction, Type: typeOf(m.Raw), Body: m.Raw,
		Status: m.Status, StatusAt: At(m.StatusAt),
		Timeline: TimelineWire{
			ScheduledAt: At(t.Scheduled), QueuedAt: At(t.Queued), SentAt: At(t.Sent),
			DeliveredAt: At(t.Delivered), ReadAt: At(t.Read), PlayedAt: At(t.Played),
			FailedAt: At(t.Failed), ExpiredAt: At(t.Expired), CanceledAt: At(t.Canceled),
		},
		WaitingUntil: At(m.WaitingUntil), Attempts: m.Attempts, MayHaveBeenSent: m.MayHaveBeenSent,
		Error: m.Error, Recipients: m.Recipients, CreatedAt: At(t.Created), ExpiresAt: At(m.ExpiresAt),
	}
	if m.ClientRef != "" {
		w.ClientRef = &m.ClientRef
	}
	if m.ChatType == ChatDirect {
		p := m.Recipient.Wire()
		w.Recipient = &p
	}
	w.WaitingFor = m.waitingFor(connected)
	if m.Status == MessageScheduled {
		w.WaitingUntil = At(m.DueAt)
	}
	return w
}

func (m *Message) waitingFor(connected bool) *WaitingFor {
	why := m.WaitingFor
	switch {
	case m.Status == MessageScheduled:
		why = ForSchedule
	case m.Status != MessageQueued:
		return nil
	case !connected:
		why = ForConnection
	case why == "":
		return nil
	}
	return &why
}

func typeOf(raw json.RawMessage) BodyType {
	var b struct {
		Type BodyType `json:"type"`
	}
	_ = json.Unmarshal(raw, &b) // the row was written by us
	return b.Type
}

// StepEventID is the id of the event that tells of a message's step. It follows
// from instance, message and step, so a repetition of the event has the same id.
// Its time is the message's creation. All says that everybody in a group has come to
// the step, and not only the first.
func StepEventID(i InstanceID, id MessageID, s MessageStatus, created time.Time) EventID {
	sum := sha256.Sum256([]byte("step\x00" + string(i) + "\x00" + string(id) + "\x00" + string(s)))
	return hashedEventID(sum, created)
}

// StatusEvent is the event that tells that an own message, as it is then, has come from
// a status to another. All is the furthest that everybody in a group has come to by it,
// empty for none.
func StatusEvent(m *Message, previous, all MessageStatus, at time.Time) (Event, error) {
	data := m.Wire(true)
	data.Body, data.PreviousStatus = nil, previous
	e, err := NewEvent(MessageStatusChanged, m.Ref.Customer, m.Ref.Mode, m.Ref.ID, at, data)
	if err != nil {
		return e, err
	}
	step := m.Status
	if all != "" && m.Status == previous {
		step = all + "/all"
	}
	e.ID, e.Command = StepEventID(m.Ref.ID, m.ID, step, m.Times.Created), m.CommandID
	return e, nil
}

// Listing is which messages a list has.
type Listing struct {
	Direction Direction // empty: both
	Before    string    // the place of the last message that was listed; empty: from the newest
}

// Listed is a message and its place in the list.
type Listed struct {
	*Message
	Place string
}
