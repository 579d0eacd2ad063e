package whatisup

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"iter"
	"net/http"
	"net/url"
	"slices"
	"time"
)

// SendMessage is a message to send. Body is a map or a struct of the form that the
// documentation has for its type, as in map[string]any{"type": "text", "text": "Hello!"}.
type SendMessage struct {
	To             string     `json:"to"`
	Body           any        `json:"body"`
	ClientRef      string     `json:"client_ref,omitempty"`
	ReplyTo        any        `json:"reply_to,omitempty"`
	ScheduledAt    *time.Time `json:"scheduled_at,omitempty"`
	ExpiresAt      *time.Time `json:"expires_at,omitempty"`
	IfNotConnected string     `json:"if_not_connected,omitempty"`
	TypingMS       int        `json:"typing_ms,omitempty"`

	// IdempotencyKey names the message, for example the order that it tells of: two
	// calls with one key send one message, also from two processes. "" makes a new one.
	IdempotencyKey string `json:"-"`
}

// Message is a message and how far it has come.
type Message struct {
	ID              string          `json:"message_id"`
	ClientRef       *string         `json:"client_ref"`
	Chat            string          `json:"chat"`
	Direction       string          `json:"direction"` // out or in
	Type            string          `json:"type"`
	Text            *string         `json:"text"` // of received ones
	Body            json.RawMessage `json:"body"`
	Status          string          `json:"status"` // of sent ones
	MayHaveBeenSent bool            `json:"may_have_been_sent"`
	Error           *MessageError   `json:"error"`
	CreatedAt       time.Time       `json:"created_at"`
	ReceivedAt      *time.Time      `json:"received_at"`
}

// MessageError is why a message has failed.
type MessageError struct {
	Code      string `json:"code"`
	Message   string `json:"message"`
	Retryable bool   `json:"retryable"`
}

func messagesPath(instance string) string { return instancePath(instance) + "/messages" }

// Send stores a message to be sent, and does not wait for WhatsApp.
func (c *Client) Send(ctx context.Context, instance string, m SendMessage) (sent Message, err error) {
	err = c.do(ctx, http.MethodPost, messagesPath(instance), cmp.Or(m.IdempotencyKey, rand.Text()), m, &sent)
	return sent, err
}

// SendText sends a text.
func (c *Client) SendText(ctx context.Context, instance, to, text string) (Message, error) {
	return c.Send(ctx, instance, SendMessage{To: to, Body: map[string]string{"type": "text", "text": text}})
}

// Message reads one of the instance's own messages.
func (c *Client) Message(ctx context.Context, instance, id string) (m Message, err error) {
	err = c.Do(ctx, http.MethodGet, messagesPath(instance)+"/"+url.PathEscape(id), nil, &m)
	return m, err
}

// Messages lists messages, newest first. filter may be nil; "direction": "any" lists
// received ones too.
func (c *Client) Messages(ctx context.Context, instance string, filter url.Values) iter.Seq2[Message, error] {
	return func(yield func(Message, error) bool) { list(ctx, c, messagesPath(instance), filter, yield) }
}

var steps = []string{"scheduled", "queued", "sent", "delivered", "read", "played"}

// WaitMessage waits until the message has the status or a later one, as "delivered".
// One that ends otherwise is an error.
func (c *Client) WaitMessage(ctx context.Context, instance, id, status string) (Message, error) {
	if !slices.Contains(steps, status) {
		return Message{}, fmt.Errorf("%q is no step of a message: %v", status, steps)
	}
	return await(ctx, func() (Message, error) { return c.Message(ctx, instance, id) }, func(m Message) (bool, error) {
		at := slices.Index(steps, m.Status)
		switch {
		case at >= slices.Index(steps, status):
			return true, nil
		case at >= 0:
			return false, nil
		case m.Error != nil:
			return false, fmt.Errorf("message %s is %s: %s (%s)", id, m.Status, m.Error.Message, m.Error.Code)
		}
		return false, fmt.Errorf("message %s is %s", id, m.Status)
	})
}
