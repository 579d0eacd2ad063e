package whatsapp

import (
	"context"
	"encoding/json"
	"sync"
	"time"

	waBinary "go.mau.fi/whatsmeow/binary"
	"go.mau.fi/whatsmeow/types"
)

// What comes for an absent phone waits in the database until it is back: what
// devices sent as the stanza it is, what phones sent as a message.
type waiting struct {
	Stanza  []byte          `json:"stanza,omitempty"`
	Device  string          `json:"device,omitempty"` // JID of the sender of the stanza
	Message *waitingMessage `json:"message,omitempty"`
}

type waitingMessage struct {
	ID, From, Chat string
	PN             bool
	Plain          []byte
	At             time.Time
}

func (a *arrival) waiting() *waitingMessage {
	return &waitingMessage{ID: a.id, From: a.from.number, Chat: a.chat, PN: a.pn, Plain: a.plain, At: a.at}
}

const maxWaiting = 10_000

func keepWaiting(tx *tx, at person, w waiting) error {
	bucket := tx.Bucket(bucketWaiting)
	position, err := bucket.NextSequence()
	if err != nil {
		return err
	}
	if position%256 == 0 {
		if err := trimWaiting(bucket, at); err != nil {
			return err
		}
	}
	return putJSON(bucket, append(keyOf(at.world, at.number), order64(position)...), w)
}

// trimWaiting drops the oldest of what waits for a phone beyond its limit.
func trimWaiting(bucket *bucket, at person) error {
	var keys [][]byte
	if err := under(bucket, keyOf(at.world, at.number), func(key, _ []byte) error {
		keys = append(keys, append([]byte(nil), key...))
		return nil
	}); err != nil {
		return err
	}
	for ; len(keys) >= maxWaiting; keys = keys[1:] {
		if err := bucket.Delete(keys[0]); err != nil {
			return err
		}
	}
	return nil
}

// keepStanza lets a message from a device wait for a phone.
func (s *Server) keepStanza(at person, d *device, n *Node, part addressed) error {
	kept := Node{Tag: n.Tag, Attrs: n.Attrs}
	var content []Node
	if part.enc != nil {
		content = append(content, Node{Tag: "participants", Content: []Node{{Tag: "to", Attrs: Attrs{"jid": part.to}, Content: []Node{*part.enc}}}})
	}
	for _, tag := range []string{"enc", "device-identity"} {
		if found, ok := child(n, tag); ok && (tag != "enc" || str(found, "type") == "skmsg") {
			content = append(content, *found)
		}
	}
	kept.Content = content
	stanza, err := waBinary.Marshal(kept)
	if err != nil {
		return err
	}
	w := waiting{Stanza: stanza[1:], Device: s.jidOf(d.person(), d.ID).String()}
	return s.db.update(func(tx *tx) error { return keepWaiting(tx, at, w) })
}

// takeWaiting gives a phone that has come back what waited for it, in order.
func (s *Server) takeWaiting(at person) {
	prefix := keyOf(at.world, at.number)
	for range maxWaiting {
		var key []byte
		var w waiting
		err := s.db.update(func(tx *tx) error {
			bucket := tx.Bucket(bucketWaiting)
			k, value := bucket.Cursor().Seek(prefix)
			if len(k) != len(prefix)+8 || string(k[:len(prefix)]) != string(prefix) {
				return nil
			}
			key = append(key, k...)
			return json.Unmarshal(value, &w)
		})
		if err != nil {
			s.log.Error("cannot read what waits for a phone", "error", err)
			return
		}
		if key == nil {
			return
		}
		s.takeOne(at, w)
		if err := s.db.update(func(tx *tx) error { return tx.Bucket(bucketWaiting).Delete(key) }); err != nil {
			s.log.Error("cannot forget what waited for a phone", "error", err)
			return
		}
	}
}

func (s *Server) takeOne(at person, w waiting) {
	if m := w.Message; m != nil {
		a := arrival{id: m.ID, from: person{at.world, m.From}, chat: m.Chat, pn: m.PN, plain: m.Plain, at: m.At}
		s.open(&a)
		if err := s.onScreens(func(tx *tx) error {
			_, _, err := s.arrive(tx, at, a)
			return err
		}); err != nil {
			s.log.Error("a phone cannot show a message that waited", "error", err)
		}
		return
	}
	n, err := waBinary.Unmarshal(w.Stanza)
	jid, jidErr := types.ParseJID(w.Device)
	if err != nil || jidErr != nil {
		return
	}
	d, ok := s.find(at.world, jid)
	if !ok {
		return // unlinked meanwhile: nobody vouches for it any more
	}
	part := addressed{to: jidAttr(n, "to")}
	for _, found := range addressedTo(n) {
		part = found
	}
	where, ok := s.destination(at.world, n)
	if !ok {
		return
	}
	if r := s.phoneReceives(d, at, where, n, part); r != nil {
		s.reactAll(d, where, []*reaction{r})
	}
}

// A message that a fault holds back goes out after the next one to that device.
type heldBack struct {
	mu   sync.Mutex
	held map[deviceName][]heldMessage
}

type heldMessage struct {
	from person
	m    Message
}

func (s *Server) holdBack(d *device, from person, m Message) {
	s.held.mu.Lock()
	defer s.held.mu.Unlock()
	if s.held.held == nil {
		s.held.held = map[deviceName][]heldMessage{}
	}
	s.held.held[d.name()] = append(s.held.held[d.name()], heldMessage{from, m})
}

// release puts what this phone has held back for a device into the outbox. What
// another phone holds back waits for that phone's next message.
func (p *phone) release(ctx context.Context, o *outbox, d *device) error {
	held := &p.s.held
	held.mu.Lock()
	var mine, others []heldMessage
	for _, h := range held.held[d.name()] {
		if h.from == p.p {
			mine = append(mine, h)
		} else {
			others = append(others, h)
		}
	}
	if len(others) > 0 {
		held.held[d.name()] = others
	} else {
		delete(held.held, d.name())
	}
	held.mu.Unlock()
	for _, h := range mine {
		if err := p.sendTo(ctx, o, d, h.m, nil, 0); err != nil {
			return err
		}
	}
	return nil
}
