package whatsapp

import (
	"context"
	"sync"
	"time"
)

// Message is one message as the simulator has seen it pass, with what became of
// it. Several phones may show it: see Shown.
type Message struct {
	Position  uint64    `json:"position"`
	ID        string    `json:"message_id"`
	World     string    `json:"world"`
	From      string    `json:"from"` // phone number
	To        string    `json:"to"`   // phone number, a group's id, or status@broadcast
	Device    string    `json:"device,omitempty"`
	Type      string    `json:"type"`
	Text      string    `json:"text"`
	At        time.Time `json:"at"`
	Retries   int       `json:"retries"`
	Delivered time.Time `json:"delivered_at,omitzero"` // the first receipt of a linked device; for what a device sent, when the phone read it
	Read      time.Time `json:"read_at,omitzero"`

	plain []byte // the encoded message, for a phone that is asked again
	name  string // of the sender
	pn    bool   // addressed by phone number, and so are its receipts

	way way // how a phone sends it
}

// messages keeps the latest ones of all worlds.
type messages struct {
	mu    sync.Mutex
	limit int
	list  []*Message
	byID  map[string]*Message
	asked map[string]int // how often a phone has asked for a message again that it cannot read
	next  uint64
	grown chan struct{}
}

func newMessages(limit int) *messages {
	return &messages{limit: limit, byID: map[string]*Message{}, asked: map[string]int{}, next: 1, grown: make(chan struct{})}
}

func messageKey(world, from, id string) string { return world + " " + from + " " + id }

// add takes a message in, and says false if it is known.
func (m *messages) add(message *Message) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	key := messageKey(message.World, message.From, message.ID)
	if m.byID[key] != nil {
		return false
	}
	message.Position = m.next
	m.next++
	m.byID[key] = message
	m.list = append(m.list, message)
	if over := len(m.list) - m.limit; over >= max(m.limit/10, 1) {
		for _, old := range m.list[:over] {
			delete(m.byID, messageKey(old.World, old.From, old.ID))
		}
		m.list = append([]*Message(nil), m.list[over:]...)
	}
	m.changed()
	return true
}

// askAgain counts how often a phone has asked for a message again.
func (m *messages) askAgain(world, from, id string) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.asked) >= m.limit {
		clear(m.asked)
	}
	key := messageKey(world, from, id)
	m.asked[key]++
	return m.asked[key]
}

// askedAgain returns that count and ends it.
func (m *messages) askedAgain(world, from, id string) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	key := messageKey(world, from, id)
	defer delete(m.asked, key)
	return m.asked[key]
}

func (m *messages) changed() {
	close(m.grown)
	m.grown = make(chan struct{})
}

func (m *messages) get(world, from, id string) (Message, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	found := m.byID[messageKey(world, from, id)]
	if found == nil {
		return Message{}, false
	}
	return *found, true
}

// update changes a message if it is known.
func (m *messages) update(world, from, id string, change func(*Message)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if found := m.byID[messageKey(world, from, id)]; found != nil {
		change(found)
		m.changed()
	}
}

// MessageFilter narrows the list of messages. Empty fields do not narrow, but
// for the world, which is DefaultWorld if it is empty.
type MessageFilter struct {
	World string
	From  string
	To    string
	ID    string
	After uint64 // later than this position
	Limit int    // 1,000 by default
}

func (m *messages) read(f MessageFilter) ([]Message, <-chan struct{}) {
	if f.Limit <= 0 {
		f.Limit = 1000
	}
	world := orWorld(f.World)
	m.mu.Lock()
	defer m.mu.Unlock()
	out := []Message{}
	for _, message := range m.list {
		if message.Position > f.After && message.World == world && (f.From == "" || f.From == message.From) &&
			(f.To == "" || f.To == message.To) && (f.ID == "" || f.ID == message.ID) {
			if out = append(out, *message); len(out) == f.Limit {
				break
			}
		}
	}
	return out, m.grown
}

// Messages lists what arrived at phones, oldest first: what devices sent, and
// what other phones sent.
func (s *Server) Messages(f MessageFilter) []Message {
	out, _ := s.messages.read(f)
	return out
}

// AwaitMessage waits for the first message that matches, and for which accept,
// if given, returns true: for instance that it is delivered.
func (s *Server) AwaitMessage(ctx context.Context, f MessageFilter, accept func(Message) bool) (Message, error) {
	for {
		list, grown := s.messages.read(f)
		for _, m := range list {
			if accept == nil || accept(m) {
				return m, nil
			}
		}
		select {
		case <-grown:
		case <-ctx.Done():
			return Message{}, ctx.Err()
		case <-s.ctx.Done():
			return Message{}, errStopped
		}
	}
}
