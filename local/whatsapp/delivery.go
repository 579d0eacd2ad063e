package whatsapp

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"strconv"
	"time"

	"google.golang.org/protobuf/proto"

	"go.mau.fi/whatsmeow/proto/waAdv"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/types"
)

// sending is one message that a device sends, on its way through the server.
type sending struct {
	s     *Server
	c     *conn
	d     *device
	n     *Node
	id    string
	to    types.JID
	where place
	after []*reaction // which follow the answer
}

// takeMessage takes what a device sends: it answers it, gives phones what is
// for them, and passes on what is for other devices.
func (s *Server) takeMessage(c *conn, d *device, n *Node) {
	m := &sending{s: s, c: c, d: d, n: n, id: str(n, "id"), to: jidAttr(n, "to")}
	where, ok := s.destination(c.world, n)
	if m.id == "" || len(m.id) > 128 || !ok {
		m.refuse(ackNotAllowed) // broadcasts and channels are not modelled
		return
	}
	m.where = where
	if code := m.refusal(); code != 0 {
		m.refuse(code)
		return
	}
	var hash string
	if where.group != "" {
		hash = m.fanOut()
	} else {
		hash = m.handOver()
	}
	m.answer(hash)
	s.reactAll(d, m.where, m.after)
}

// destination reads to whom a device's message goes.
func (s *Server) destination(world string, n *Node) (place, bool) {
	to := jidAttr(n, "to")
	if to.Server == types.GroupServer {
		return place{world: world, group: to.String(), lids: str(n, "addressing_mode") == "lid"}, true
	}
	p, ok := s.personOf(world, to)
	return place{world: world, other: p, lids: to.Server == types.HiddenUserServer}, ok
}

// refusal is the error that the message meets, 0 if none.
func (m *sending) refusal() int {
	if !m.isMessage() {
		return 0
	}
	if f, ok := m.s.takeFor(kindAckError, m.d); ok {
		return f.Code
	}
	if m.where.group != "" {
		return m.s.groupRefusal(m.d, m.where, m.n)
	}
	if !m.s.isOnWhatsApp(m.where.other) {
		return ackNotFound
	}
	if m.s.blocks(m.where.other, m.d.person()) {
		return 0 // taken, and shown to nobody: see phoneReceives
	}
	code := m.s.restricted(m.d, m.where.other, m.n)
	if code == ackReachout {
		m.s.remindOfRestriction(m.d, m.where.other)
	}
	return code
}

// isMessage says that this is a message of its own: neither something that the
// device tells its own phone, nor a copy for somebody who could not read it.
func (m *sending) isMessage() bool {
	return str(m.n, "category") != "peer" && str(m.n, "device_fanout") != "false" && jidAttr(m.n, "participant").IsEmpty()
}

func (m *sending) ack(attrs ...string) {
	a := Attrs{"class": "message", "id": m.id, "from": m.n.Attrs["to"], "t": strconv.FormatInt(m.s.now().Unix(), 10)}
	for i := 0; i+1 < len(attrs); i += 2 {
		a[attrs[i]] = attrs[i+1]
	}
	m.c.send(Node{Tag: "ack", Attrs: a})
}

func (m *sending) refuse(code int) { m.ack("error", strconv.Itoa(code)) }

// answer tells the device that the server has its message, as its faults have
// it. With a hash the device learns that others should have got it too.
func (m *sending) answer(hash string) {
	var attrs []string
	if hash != "" {
		attrs = []string{"phash", hash}
	}
	if !m.isMessage() {
		m.ack(attrs...)
		return
	}
	if _, ok := m.s.takeFor(kindAckLost, m.d); ok {
		return
	}
	if f, ok := m.s.takeFor(kindAckLate, m.d); ok {
		m.s.wg.Go(func() {
			if m.c.pause(time.Duration(f.Millis) * time.Millisecond) {
				m.ack(attrs...)
			}
		})
		return
	}
	m.ack(attrs...)
	if _, ok := m.s.takeFor(kindAckTwice, m.d); ok {
		m.ack(attrs...)
	}
}

// handOver takes a message to one person: to the phone, the linked devices, and
// the sender's others.
func (m *sending) handOver() (hash string) {
	s, sender, receiver := m.s, m.d.person(), m.where.other
	reached := map[deviceName]bool{}
	for _, part := range addressedTo(m.n) {
		p, ok := s.personOf(m.c.world, part.to)
		if !ok || p != receiver && p != sender {
			continue
		}
		name := deviceName{p, part.to.Device}
		reached[name] = true
		m.handTo(name, part)
	}
	if _, fanned := child(m.n, "participants"); fanned {
		if hash, differs := s.missed(m.d, receiver, m.to.Server, reached); differs {
			return hash
		}
	}
	return ""
}

// handTo gives a part of a message to the phone or device that it is for.
func (m *sending) handTo(name deviceName, part addressed) {
	s := m.s
	if name.person == m.where.other && s.blocks(m.where.other, m.d.person()) {
		return
	}
	if name.id == 0 {
		if r := s.phoneReceives(m.d, name.person, m.where, m.n, part); r != nil {
			m.after = append(m.after, r)
		}
		return
	}
	s.mu.Lock()
	other := s.devices[name]
	s.mu.Unlock()
	if other != nil && other != m.d {
		s.passOn(m.d, other, m.where, m.n, part.enc)
	}
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
	if enc, ok := child(n, "enc"); ok && str(enc, "type") != "skmsg" {
		to := jidAttr(n, "to")
		if member := jidAttr(n, "participant"); !member.IsEmpty() {
			to = member // of a group, who has asked again
		}
		out = append(out, addressed{to, enc})
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
func (s *Server) passOn(from, to *device, where place, n, enc *Node) {
	out := Node{Tag: "message", Attrs: Attrs{
		"from":   s.lidOf(from.person(), from.ID),
		"id":     str(n, "id"),
		"t":      strconv.FormatInt(s.now().Unix(), 10),
		"type":   str(n, "type"),
		"notify": nameOf(from.person()),
	}}
	if edit := str(n, "edit"); edit != "" {
		out.Attrs["edit"] = edit
	}
	switch {
	case where.group != "":
		out.Attrs["from"], _ = types.ParseJID(where.group)
		s.nameParticipant(&out, from.person(), from.ID, where.lids)
	default:
		out.Attrs["sender_pn"], out.Attrs["addressing_mode"] = s.jidOf(from.person(), from.ID), "lid"
		if to.person() == from.person() {
			out.Attrs["recipient"] = s.lidOf(where.other, 0)
			out.Attrs["peer_recipient_pn"] = s.jidOf(where.other, 0)
		}
	}
	var parts []Node
	if enc != nil {
		parts = append(parts, *enc)
	}
	if where.group != "" {
		if sealed, ok := child(n, "enc"); ok && (enc == nil || str(sealed, "type") == "skmsg") && sealed != enc {
			parts = append(parts, *sealed)
		}
	}
	if identity, ok := child(n, "device-identity"); ok {
		parts = append(parts, *identity)
	}
	out.Content = parts
	if err := s.push(to, out); err != nil {
		s.log.Error("cannot pass a message on", "error", err)
	}
}

const maxRetries = 5

// reaction is what a phone does about a message after the device has its answer:
// something of its own, or what follows from showing it.
type reaction struct {
	do    func()
	at    person
	from  types.JID // as the message named the phone
	a     arrival
	fresh bool // it was not shown before
}

// phoneReceives lets a phone read a message from a linked device. What it cannot
// read it asks for again, as phones do. It returns what is to follow the answer.
func (s *Server) phoneReceives(d *device, at person, where place, n *Node, part addressed) *reaction {
	id := str(n, "id")
	if s.behaviourOf(at).Offline {
		if err := s.keepStanza(at, d, n, part); err != nil {
			s.log.Error("cannot keep a message for an absent phone", "error", err)
		}
		return nil
	}
	chat := s.chatAt(at, where, d.person())
	from := part.to.ToNonAD()
	if where.group != "" {
		from = s.memberJID(at, where.lids)
	}
	damaged, again := false, false
	if at != d.person() { // faults are about messages, not about what a device tells its own phone
		_, damaged = s.takeFor(kindCorruptOut, d)
		_, again = s.takeFor(kindRetryReceipt, d)
	}
	a := arrival{id: id, from: d.person(), chat: chat, device: s.jidOf(d.person(), d.ID).String(), pn: part.to.Server == types.DefaultUserServer, at: s.now().UTC()}
	var hadSession, fresh, shown bool
	err := errAskedFor
	if !again {
		err = s.withPhone(at, func(p *phone) (err error) {
			if hadSession, err = p.ContainsSession(s.ctx, addressOf(d.name())); err != nil {
				return err
			}
			if a.plain, err = p.open(d, where, n, part, damaged); err != nil {
				return err
			}
			s.open(&a)
			return s.onScreens(func(tx *tx) error {
				if err := p.commit(tx); err != nil || str(n, "category") == "peer" {
					return err
				}
				r, isNew, err := s.arrive(tx, at, a)
				shown, fresh = r != nil, isNew
				return err
			})
		})
	}
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
		return &reaction{do: func() { s.askAgain(d, at, from, where, n, count, !hadSession && !again) }}
	}
	if at == d.person() {
		if str(n, "category") != "peer" {
			return nil
		}
		return &reaction{do: func() { s.peerMessage(d, a) }}
	}
	if !shown {
		return nil
	}
	retries := s.messages.askedAgain(d.World, d.Number+" at "+at.number, id)
	if fresh {
		s.note(d, where, a, retries)
	}
	return &reaction{at: at, from: from, a: a, fresh: fresh}
}

var errAskedFor = fmt.Errorf("%w: a fault says so", errUnreadable)

// chatAt is how a phone shows the place where a person writes.
func (s *Server) chatAt(at person, where place, from person) string {
	if where.group != "" {
		return where.group
	}
	if at == from {
		return where.other.number
	}
	return from.number
}

// note keeps a device's message for who awaits it.
func (s *Server) note(d *device, where place, a arrival, retries int) {
	if a.parsed == nil {
		return
	}
	message := &Message{
		ID: a.id, World: d.World, From: d.Number, To: where.name(), Device: a.device, At: a.at, Delivered: a.at,
		pn: a.pn, Retries: retries,
	}
	message.Type, message.Text = describe(a.parsed)
	s.messages.add(message)
}

// open decrypts what came for a phone.
func (p *phone) open(d *device, where place, n *Node, part addressed, damaged bool) ([]byte, error) {
	var plain []byte
	if part.enc != nil {
		kind := str(part.enc, "type")
		if kind == "pkmsg" && !p.s.vouched(d, n) {
			return nil, errNotVouched
		}
		enc := *part.enc
		if damaged {
			corrupt(&enc)
		}
		sealed, _ := enc.Content.([]byte)
		var err error
		if plain, err = p.decrypt(p.s.ctx, d.name(), kind, sealed); err != nil {
			return nil, err
		}
	}
	if where.group == "" {
		return plain, nil
	}
	return p.openGroup(d, where, n, plain)
}

// manyPhones of a group tell in one receipt that they have a message.
const manyPhones = 5

// reactAll lets phones do what follows a message.
func (s *Server) reactAll(d *device, where place, list []*reaction) {
	var showing []*reaction
	for _, r := range list {
		if r.do != nil {
			r.do()
			continue
		}
		showing = append(showing, r)
	}
	o, now := &outbox{s: s}, s.now().UTC()
	s.tellAll(o, d, where, "", showing, now)
	var readers []*reaction
	for _, r := range showing {
		if s.react(o, d, where, r, now) {
			readers = append(readers, r)
		}
	}
	s.tellAll(o, d, where, "read", readers, now)
	if err := o.flush(); err != nil {
		s.log.Error("cannot keep what follows a message", "error", err)
	}
	for _, r := range showing {
		if r.fresh && where.group == "" && s.behaviourOf(r.at).Replies == RepliesEcho {
			s.echo(r.at, d.person(), r.a)
		}
	}
}

// tellAll tells a sender's devices what phones have done with a message.
func (s *Server) tellAll(o *outbox, d *device, where place, kind string, list []*reaction, now time.Time) {
	if where.group != "" && len(list) >= manyPhones {
		s.sendGrouped(o, d.person(), where, kind, list, now)
		return
	}
	for _, r := range list {
		s.sendReceipts(o, d.person(), r.at, where, r.from, kind, r.a.id, now)
	}
}

// react is a phone getting a message's file, and its owner reading it at once if
// that is the owner's way. It says whether the sender is to know of that.
func (s *Server) react(o *outbox, d *device, where place, r *reaction, now time.Time) bool {
	if r.a.readable != nil && !*r.a.readable {
		s.sendReceipts(o, d.person(), r.at, where, r.from, "server-error", r.a.id, now)
	}
	if !r.fresh || s.behaviourOf(r.at).Reads != ReadsAuto {
		return false // not fresh: sent again, because the answer was lost
	}
	return s.see(o, r.at, r.a.chat, d.person(), r.a.id, "read", now)
}

// echo writes back what came, if it is something that one can write.
func (s *Server) echo(at, to person, a arrival) {
	var content waE2E.Message
	if proto.Unmarshal(a.plain, &content) != nil {
		return
	}
	inner := unwrap(&content)
	w := Writing{Text: Text{World: at.world, From: at.number, To: to.number}}
	switch body := (reader{}).content(inner); body.Type {
	case "text":
		w.Text.Text = body.Text
	case "image", "video", "audio", "document", "sticker", "location", "contacts":
		inner.MessageContextInfo = nil
		raw, err := proto.Marshal(inner)
		if err != nil {
			return
		}
		w.Raw = raw
	default:
		return
	}
	if _, err := s.Write(context.WithoutCancel(s.ctx), w); err != nil {
		s.log.Error("a phone cannot write back", "error", err)
	}
}

var errNotVouched = fmt.Errorf("%w: the sending device is not vouched for by its account", errUnreadable)

// vouched checks what a device says of itself when it begins a session: that
// its account and the device itself signed for its key.
func (s *Server) vouched(d *device, n *Node) bool {
	var identity waAdv.ADVSignedDeviceIdentity
	raw := content(n, "device-identity")
	known := sha256.Sum256(raw)
	s.mu.Lock()
	same := d.vouched == known
	s.mu.Unlock()
	if same {
		return true
	}
	if raw == nil || proto.Unmarshal(raw, &identity) != nil {
		return false
	}
	account := s.identityKey(d.person()).Pub[:]
	if key := identity.GetAccountSignatureKey(); len(key) > 0 && !bytes.Equal(key, account) {
		return false
	}
	if !verify(account, identity.GetAccountSignature(), advAccountSignature, identity.GetDetails(), d.Identity) ||
		!verify(d.Identity, identity.GetDeviceSignature(), advDeviceSignature, identity.GetDetails(), d.Identity, account) {
		return false
	}
	s.mu.Lock()
	d.vouched = known
	s.mu.Unlock()
	return true
}
