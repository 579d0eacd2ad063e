package whatsapp

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"time"

	"go.mau.fi/libsignal/keys/prekey"
	"google.golang.org/protobuf/proto"

	"go.mau.fi/whatsmeow/proto/waAdv"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/types"
)

// Message is one 1:1 message as the phones know it.
type Message struct {
	Position  uint64    `json:"position"`
	ID        string    `json:"message_id"`
	World     string    `json:"world"`
	From      string    `json:"from"` // phone number
	To        string    `json:"to"`   // phone number
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

// Text is something that a person writes on the phone.
type Text struct {
	World      string `json:"world"`
	From       string `json:"from"` // phone number
	To         string `json:"to"`   // phone number
	Text       string `json:"text"`
	ID         string `json:"message_id"` // made up by default
	Name       string `json:"name"`       // of the sender, as the receiver is shown it
	Type       string `json:"type"`       // text by default, or location
	Addressing string `json:"addressing"` // lid by default, as WhatsApp does it in 2026, or pn
}

const maxText = 32 << 10

func (t *Text) message() (*waE2E.Message, error) {
	if !validNumber(t.From) || !validNumber(t.To) || t.From == t.To {
		return nil, badRequest("from and to must be two phone numbers of 7 to 15 digits")
	}
	if len(t.ID) > 128 || len(t.Name) > 256 || len(t.Text) > maxText {
		return nil, badRequest("message_id, name or text is too long")
	}
	if t.Addressing != "" && t.Addressing != "lid" && t.Addressing != "pn" {
		return nil, badRequest("addressing must be lid or pn")
	}
	switch t.Type {
	case "", "text":
		if t.Text == "" {
			return nil, badRequest("text must not be empty")
		}
		return &waE2E.Message{Conversation: &t.Text}, nil
	case "location":
		return &waE2E.Message{LocationMessage: &waE2E.LocationMessage{
			DegreesLatitude: proto.Float64(52.52), DegreesLongitude: proto.Float64(13.405), Name: &t.Text,
		}}, nil
	}
	return nil, badRequest("type must be text or location")
}

// SendText lets a person write to another. The phone encrypts it for every
// linked device of the receiver, and for the sender's own. It returns when all
// of it is stored.
func (s *Server) SendText(ctx context.Context, t Text) (string, error) {
	t.World = orWorld(t.World)
	content, err := t.message()
	if err != nil {
		return "", err
	}
	plain, err := proto.Marshal(content)
	if err != nil {
		return "", err
	}
	from, to := person{t.World, t.From}, person{t.World, t.To}
	message := &Message{
		ID: t.ID, World: t.World, From: t.From, To: t.To, Type: t.Type, Text: t.Text, At: s.now().UTC(),
		plain: plain, name: t.Name, pn: t.Addressing == "pn",
	}
	if message.ID == "" {
		message.ID = newID("AC")
	}
	if message.Type == "" {
		message.Type = "text"
	}
	if message.name == "" {
		message.name = "Phone " + t.From[len(t.From)-4:]
	}
	if !s.messages.add(message) {
		return "", refuse(http.StatusConflict, "message_exists", "this phone has sent a message with this id")
	}
	s.mu.Lock()
	theirs, own := s.devicesOf(to), s.devicesOf(from)
	s.mu.Unlock()
	err = s.withPhone(from, func(p *phone) error {
		for _, d := range append(theirs, own...) {
			if err := p.sendTo(ctx, d, *message, nil, 0); err != nil && !errors.Is(err, errNoDevice) {
				return err // errNoDevice: unlinked in this moment
			}
		}
		return nil
	})
	return message.ID, err
}

// sendTo encrypts a message for one device and puts it on its way: as it is, or
// for a device of the sender as the copy of what the phone sent.
func (p *phone) sendTo(ctx context.Context, d *device, m Message, bundle *prekey.Bundle, retry int) error {
	s := p.s
	to := person{m.World, m.To}
	plain, own := m.plain, d.person() == p.p
	if own {
		var content waE2E.Message
		if err := proto.Unmarshal(m.plain, &content); err != nil {
			return err
		}
		var err error
		if plain, err = proto.Marshal(&waE2E.Message{DeviceSentMessage: &waE2E.DeviceSentMessage{
			DestinationJID: proto.String(s.lidOf(to, 0).String()),
			Message:        &content,
		}}); err != nil {
			return err
		}
	}
	enc, err := p.encrypt(ctx, d.name(), plain, bundle)
	if err != nil {
		return fmt.Errorf("encrypt for a device: %w", err)
	}
	if retry > 0 {
		enc.Attrs["count"] = strconv.Itoa(retry)
	}
	if _, ok := s.takeFor(kindCorruptIn, d); ok {
		corrupt(&enc)
	}
	n := Node{Tag: "message", Attrs: Attrs{
		"from":   s.lidOf(p.p, 0),
		"id":     m.ID,
		"t":      strconv.FormatInt(m.At.Unix(), 10),
		"type":   stanzaType(m.Type),
		"notify": m.name,
	}, Content: []Node{enc}}
	switch {
	case own:
		n.Attrs["recipient"] = s.lidOf(to, 0)
		n.Attrs["peer_recipient_pn"] = s.jidOf(to, 0)
	case m.pn:
		n.Attrs["from"] = s.jidOf(p.p, 0)
		n.Attrs["sender_lid"] = s.lidOf(p.p, 0)
	default:
		n.Attrs["sender_pn"] = s.jidOf(p.p, 0)
		n.Attrs["addressing_mode"] = "lid"
	}
	return s.push(d, n, p)
}

func stanzaType(messageType string) string {
	if messageType == "location" {
		return "media"
	}
	return "text"
}

// takeMessage takes what a device sends: it answers it, gives phones what is
// for them, and passes on what is for other devices.
func (s *Server) takeMessage(c *conn, d *device, n *Node) {
	id, to := str(n, "id"), jidAttr(n, "to")
	ack := func(attrs ...string) {
		a := Attrs{"class": "message", "id": id, "from": n.Attrs["to"], "t": strconv.FormatInt(s.now().Unix(), 10)}
		for i := 0; i+1 < len(attrs); i += 2 {
			a[attrs[i]] = attrs[i+1]
		}
		c.send(Node{Tag: "ack", Attrs: a})
	}
	receiver, ok := s.personOf(c.world, to)
	if id == "" || len(id) > 128 || !ok {
		ack("error", "405") // groups, broadcasts and channels are not modelled
		return
	}
	sender := d.person()
	encs := addressedTo(n)
	reached := map[deviceName]bool{}
	var receipts []func() // which follow the answer
	defer func() {
		for _, send := range receipts {
			send()
		}
	}()
	for i := range encs {
		p, ok := s.personOf(c.world, encs[i].to)
		if !ok || p != receiver && p != sender {
			continue
		}
		name := deviceName{p, encs[i].to.Device}
		reached[name] = true
		if name.id == 0 {
			if receipt := s.phoneReceives(d, p, receiver, n, encs[i]); receipt != nil {
				receipts = append(receipts, receipt)
			}
			continue
		}
		s.mu.Lock()
		other := s.devices[name]
		s.mu.Unlock()
		if other != nil && other != d {
			s.passOn(d, other, receiver, n, encs[i].enc)
		}
	}
	if _, fanned := child(n, "participants"); fanned {
		if hash, differs := s.missed(d, receiver, to.Server, reached); differs {
			ack("phash", hash)
			return
		}
	}
	ack()
}

type addressed struct {
	to  types.JID
	enc *Node
}

// addressedTo lists the ciphertexts of a message and whom they are for: one
// for each of the participants, or a single one for the receiver.
func addressedTo(n *Node) (out []addressed) {
	if participants, ok := child(n, "participants"); ok {
		list, _ := participants.Content.([]Node)
		for i := range list {
			if enc, ok := child(&list[i], "enc"); ok && list[i].Tag == "to" {
				out = append(out, addressed{jidAttr(&list[i], "jid"), enc})
			}
		}
		return out
	}
	if enc, ok := child(n, "enc"); ok {
		out = append(out, addressed{jidAttr(n, "to"), enc})
	}
	return out
}

// missed compares whom a message went to with whom it should have gone to. If
// they differ the hash of the right list tells the client to ask again.
func (s *Server) missed(d *device, receiver person, server string, reached map[deviceName]bool) (string, bool) {
	sender := d.person()
	jid := func(p person, id uint16) types.JID {
		if server == types.HiddenUserServer {
			return s.lidOf(p, id)
		}
		return s.jidOf(p, id)
	}
	differs := false
	var all []types.JID
	people := []person{receiver}
	if receiver != sender {
		people = append(people, sender)
	}
	s.mu.Lock()
	expected := 0
	for _, p := range people {
		for _, id := range s.deviceIDs(p) {
			name := deviceName{p, id}
			all = append(all, jid(p, id))
			if name == d.name() {
				continue
			}
			expected++
			differs = differs || !reached[name]
		}
	}
	s.mu.Unlock()
	delete(reached, d.name())
	return participantHash(all), differs || len(reached) != expected
}

// deviceIDs lists a person's devices, the phone first. The caller holds mu.
func (s *Server) deviceIDs(p person) []uint16 {
	ids := []uint16{0}
	for _, d := range s.devicesOf(p) {
		ids = append(ids, d.ID)
	}
	return ids
}

// passOn carries a ciphertext from one linked device to another.
func (s *Server) passOn(from, to *device, receiver person, n, enc *Node) {
	out := Node{Tag: "message", Attrs: Attrs{
		"from":            s.lidOf(from.person(), from.ID),
		"id":              str(n, "id"),
		"t":               strconv.FormatInt(s.now().Unix(), 10),
		"type":            str(n, "type"),
		"notify":          "Phone " + from.Number[len(from.Number)-4:],
		"sender_pn":       s.jidOf(from.person(), from.ID),
		"addressing_mode": "lid",
	}, Content: []Node{*enc}}
	if to.person() == from.person() {
		out.Attrs["recipient"] = s.lidOf(receiver, 0)
		out.Attrs["peer_recipient_pn"] = s.jidOf(receiver, 0)
	}
	if identity, ok := child(n, "device-identity"); ok {
		out.Content = append(out.Content.([]Node), *identity)
	}
	if err := s.push(to, out, nil); err != nil {
		s.log.Error("cannot pass a message on", "error", err)
	}
}

const maxRetries = 5

// phoneReceives lets a phone read a ciphertext from a linked device. What it
// cannot read it asks for again, as phones do. It returns what sends the
// receipt, if there is to be one.
func (s *Server) phoneReceives(d *device, at, receiver person, n *Node, part addressed) (receipt func()) {
	enc := part.enc
	id := str(n, "id")
	if _, known := s.messages.get(at.world, d.Number, id); known && at == receiver {
		return nil // sent again, because the answer was lost
	}
	sealed, _ := enc.Content.([]byte)
	if at == d.person() {
		// Faults are about messages, not about what a device tells its own phone.
	} else if _, ok := s.takeFor(kindCorruptOut, d); ok {
		damaged := *enc
		corrupt(&damaged)
		sealed = damaged.Content.([]byte)
	}
	kind := str(enc, "type")
	var plain []byte
	var hadSession bool
	err := s.withPhone(at, func(p *phone) error {
		if kind == "pkmsg" && !s.vouched(d, n) {
			return errNotVouched
		}
		var err error
		if hadSession, err = p.ContainsSession(s.ctx, addressOf(d.name())); err != nil {
			return err
		}
		if plain, err = p.decrypt(s.ctx, d.name(), kind, sealed); err != nil {
			return err
		}
		return p.save()
	})
	switch {
	case err == nil:
	case isOld(err):
		return nil
	default:
		s.log.Info("a phone cannot read a message", "world", d.World, "instance", d.Instance, "error", err)
		count := s.messages.askAgain(d.World, d.Number+" at "+at.number, id)
		if count > maxRetries {
			return nil
		}
		return func() { s.askAgain(d, at, part.to.ToNonAD(), jidAttr(n, "to"), n, count, !hadSession) }
	}
	if at != receiver || str(n, "category") == "peer" {
		return nil // the sender's own phone keeps no list of what its devices sent
	}
	var content waE2E.Message
	if proto.Unmarshal(plain, &content) != nil {
		return nil
	}
	now := s.now().UTC()
	message := &Message{
		ID: id, World: d.World, From: d.Number, To: receiver.number,
		Device: s.jidOf(d.person(), d.ID).String(), At: now, Delivered: now,
		pn: part.to.Server == types.DefaultUserServer,
	}
	message.Type, message.Text = describe(&content)
	message.Retries = s.messages.askedAgain(d.World, d.Number+" at "+at.number, id)
	if !s.messages.add(message) {
		return nil
	}
	return func() { s.sendReceipt(d, part.to.ToNonAD(), "", id, now) }
}

var errNotVouched = fmt.Errorf("%w: the sending device is not vouched for by its account", errUnreadable)

// vouched checks what a device says of itself when it begins a session: that
// its account and the device itself signed for its key.
func (s *Server) vouched(d *device, n *Node) bool {
	var identity waAdv.ADVSignedDeviceIdentity
	raw := content(n, "device-identity")
	if raw == nil || proto.Unmarshal(raw, &identity) != nil {
		return false
	}
	account := s.identityKey(d.person()).Pub[:]
	if key := identity.GetAccountSignatureKey(); len(key) > 0 && !bytes.Equal(key, account) {
		return false
	}
	return verify(account, identity.GetAccountSignature(), advAccountSignature, identity.GetDetails(), d.Identity) &&
		verify(d.Identity, identity.GetDeviceSignature(), advDeviceSignature, identity.GetDetails(), d.Identity, account)
}

func describe(m *waE2E.Message) (kind, text string) {
	switch {
	case m.Conversation != nil:
		return "text", m.GetConversation()
	case m.ExtendedTextMessage != nil:
		return "text", m.GetExtendedTextMessage().GetText()
	case m.ReactionMessage != nil:
		return "reaction", m.GetReactionMessage().GetText()
	case m.LocationMessage != nil:
		return "location", m.GetLocationMessage().GetName()
	case m.ImageMessage != nil:
		return "image", m.GetImageMessage().GetCaption()
	case m.DocumentMessage != nil:
		return "document", m.GetDocumentMessage().GetCaption()
	case m.ProtocolMessage != nil:
		return "protocol", ""
	}
	return "other", ""
}
