package whatisup

import (
	"cmp"
	"encoding/json"
)

// ReceivedData is the data of message.received, message.updated and message.echo.
type ReceivedData struct {
	MessageID  MessageID     `json:"message_id"`
	Chat       string        `json:"chat"`
	ChatType   ChatType      `json:"chat_type"`
	PersonWire               // of a direct chat: who the chat is with
	From       FromWire      `json:"from"`
	Type       BodyType      `json:"type"`
	Text       *string       `json:"text"` // the text or the caption
	Body       *ReceivedBody `json:"body"`
	Media      any           `json:"media"` // a MediaWire; null: no file, or files are not fetched
	Context    *ContextWire  `json:"context"`
	SentAt     Time          `json:"sent_at"`     // WhatsApp's time
	ReceivedAt Time          `json:"received_at"` // ours
	Truncated  []string      `json:"truncated,omitempty"`
}

// FromWire is who wrote a message.
type FromWire struct {
	PersonWire
	Name *string `json:"name"`
}

// From is the person with the name.
func (p Person) From() FromWire {
	w := FromWire{PersonWire: p.Wire()}
	if p.Name != "" {
		w.Name = &p.Name
	}
	return w
}

// ReceivedBody is the content of a received message: the fields of what can be
// sent, under the same names, and those of what can only be received.
type ReceivedBody struct {
	Body
	// WhatsAppType is WhatsApp's own name of the content; of unsupported,
	// interactive and undecryptable messages.
	WhatsAppType string       `json:"whatsapp_type,omitempty"`
	Seconds      uint32       `json:"seconds,omitempty"`
	Width        uint32       `json:"width,omitempty"`
	Height       uint32       `json:"height,omitempty"`
	MimeType     string       `json:"mime_type,omitempty"`
	Size         uint64       `json:"size,omitempty"`
	Animated     bool         `json:"animated,omitempty"`
	Live         bool         `json:"live,omitempty"` // a location that moves
	Appointment  *Appointment `json:"event,omitempty"`
	Album        *Album       `json:"album,omitempty"`
	Invite       *GroupInvite `json:"invite,omitempty"`
	Reply        *Reply       `json:"reply,omitempty"`
	Order        *Order       `json:"order,omitempty"`
	Product      *Product     `json:"product,omitempty"`
}

// What can only be received.
type (
	Appointment struct {
		Name        string `json:"name"`
		Description string `json:"description,omitempty"`
		StartsAt    Time   `json:"starts_at"`
		EndsAt      Time   `json:"ends_at"`
		Canceled    bool   `json:"canceled"`
		JoinLink    string `json:"join_link,omitempty"`
	}
	Album struct {
		Images int `json:"images"`
		Videos int `json:"videos"`
	}
	GroupInvite struct {
		Group     string `json:"group"`
		Subject   string `json:"subject"`
		Code      string `json:"code"`
		ExpiresAt Time   `json:"expires_at"`
	}
	// Reply is the answer to buttons, to a list or to a template.
	Reply struct {
		Kind  string `json:"kind"` // button, list, template or flow
		ID    string `json:"id"`
		Title string `json:"title"`
	}
	Order struct {
		ID    string `json:"id"`
		Title string `json:"title,omitempty"`
		Items int    `json:"items"`
	}
	Product struct {
		ID    string `json:"id"`
		Title string `json:"title,omitempty"`
		URL   string `json:"url,omitempty"`
	}
)

// ContextWire is what a message stands in.
type ContextWire struct {
	MessageID        *MessageID   `json:"message_id"` // of the quoted message
	From             *PersonWire  `json:"from"`
	Type             *BodyType    `json:"type"`
	Text             *string      `json:"text"`
	Forwarded        bool         `json:"forwarded"`
	Mentions         []PersonWire `json:"mentions"`
	EphemeralSeconds *uint32      `json:"ephemeral_seconds"`
	Album            *MessageID   `json:"album"` // the album that a picture belongs to
	Ad               *Ad          `json:"ad"`
}

// Ad is the advertisement that led to a chat.
type Ad struct {
	SourceID   string `json:"source_id"`
	SourceType string `json:"source_type"`
	SourceURL  string `json:"source_url"`
	Title      string `json:"title"`
	Body       string `json:"body"`
	ClickID    string `json:"click_id"`
}

// TargetWire is the message that an edit, a revoke, a reaction or a vote is about.
type TargetWire struct {
	MessageID MessageID   `json:"message_id"`
	FromMe    bool        `json:"from_me"`
	From      *PersonWire `json:"from"` // null where WhatsApp does not say
}

// ChangeData is the data of message.edited, message.revoked, message.reaction and
// poll.voted. Each has the one of Text, Emoji and Options that is its own.
type ChangeData struct {
	MessageID MessageID  `json:"message_id"` // of the change itself
	Chat      string     `json:"chat"`
	ChatType  ChatType   `json:"chat_type"`
	Target    TargetWire `json:"target"`
	From      FromWire   `json:"from"`
	FromMe    bool       `json:"from_me"` // on the phone or another linked device
	ByAuthor  *bool      `json:"by_author"`
	SentAt    Time       `json:"sent_at"`
}

// The data of the four changes.
type (
	EditedData struct {
		ChangeData
		Text *string `json:"text"`
	}
	RevokedData  struct{ ChangeData }
	ReactionData struct {
		ChangeData
		Emoji *string `json:"emoji"` // null: taken back
	}
	VotedData struct {
		ChangeData
		Options []string `json:"options"` // null: the poll is not known
	}
)

// StatusData is the data of message.status: the Message without its body.
type StatusData = MessageWire

// RestrictedData is the data of instance.restricted: WhatsApp keeps the account
// from beginning chats, until a time or without telling until when.
type RestrictedData struct {
	Kind   Restriction `json:"kind"`
	Until  Time        `json:"until"`
	Active bool        `json:"active"`
}

// Restriction is what WhatsApp keeps an account from.
type Restriction string

const (
	RestrictReachout Restriction = "reachout"
	RestrictNewChats Restriction = "new_chats"
)

// ReceivedWire is a received message in the list of messages.
type ReceivedWire struct {
	MessageID  MessageID  `json:"message_id"`
	InstanceID InstanceID `json:"instance_id"`
	Direction  Direction  `json:"direction"`
	FromMe     bool       `json:"from_me"` // written on the phone or on another linked device
	Chat       string     `json:"chat"`
	ChatType   ChatType   `json:"chat_type"`
	PersonWire
	From       FromWire        `json:"from"`
	Type       BodyType        `json:"type"`
	Text       *string         `json:"text"`
	Body       json.RawMessage `json:"body"`
	Media      any             `json:"media"` // a MediaWire; null: no file, or it is there no more
	Context    json.RawMessage `json:"context"`
	SentAt     Time            `json:"sent_at"`
	ReceivedAt Time            `json:"received_at"`
	Truncated  []string        `json:"truncated,omitempty"`
}

// ReceivedWire is the message as the list of messages shows it.
func (m *Message) ReceivedWire() ReceivedWire {
	w := ReceivedWire{
		MessageID: m.ID, InstanceID: m.Ref.ID, Direction: m.Direction, FromMe: m.FromMe,
		Chat: string(m.Chat), ChatType: m.ChatType, PersonWire: m.Recipient.Wire(), From: m.From.From(),
		Body: m.Raw, Context: m.Context, SentAt: At(m.Times.Sent), ReceivedAt: At(m.Times.Created), Truncated: m.Truncated,
	}
	var b struct {
		Type    BodyType `json:"type"`
		Text    string   `json:"text"`
		Caption string   `json:"caption"`
	}
	_ = json.Unmarshal(m.Raw, &b) // the row was written by us
	w.Type = b.Type
	if text := cmp.Or(m.Text, b.Text, b.Caption); text != "" || b.Type == BodyText {
		w.Text = &text
	}
	return w
}

// Row is the row of a received message.
func (d *ReceivedData) Row(r Ref, chat Address, peer, from Person, fromMe bool) (*Message, error) {
	m := &Message{
		Ref: r, ID: d.MessageID, Direction: Incoming, Chat: chat, ChatType: d.ChatType, Recipient: peer, From: from, FromMe: fromMe,
		Times: MessageTimes{Created: d.ReceivedAt.Time, Sent: d.SentAt.Time},
	}
	var err error
	if m.Raw, err = json.Marshal(d.Body); err != nil {
		return nil, err
	}
	if d.Context != nil {
		if m.Context, err = json.Marshal(d.Context); err != nil {
			return nil, err
		}
	}
	if d.Text != nil && *d.Text != d.Body.Text && *d.Text != d.Body.Caption {
		m.Text = cutBy(*d.Text, len(*d.Text)-MaxReceivedText)
	}
	return m, m.cut()
}

// cut shortens the texts of a received message that are longer than a row keeps.
func (m *Message) cut() error {
	for _, part := range []*json.RawMessage{&m.Raw, &m.Context} {
		short, err := shorten(pairSurrogates(*part), MaxReceivedText)
		if err != nil {
			return err
		}
		if len(short) == len(*part) {
			continue
		}
		var cut struct {
			Truncated []string `json:"truncated"`
		}
		if err := json.Unmarshal(short, &cut); err != nil {
			return err
		}
		m.Truncated = append(m.Truncated, cut.Truncated...)
		*part = short
	}
	return nil
}
