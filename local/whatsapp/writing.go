package whatsapp

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"

	"go.mau.fi/libsignal/keys/prekey"
	"google.golang.org/protobuf/proto"

	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/types"
)

// Text is a text that a person writes on the phone: the short form of Writing.
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

// Writing is whatever a person sends from the phone. It has one of Text, Body
// and Raw, and goes to a person, or to a group that the person is a member of.
type Writing struct {
	Text
	Group string `json:"group"` // instead of to: a group's id
	Body  *Body  `json:"body"`
	Raw   []byte `json:"raw"` // an encoded waE2E.Message, as it is

	ReplyTo          *Reference `json:"reply_to"`
	Forwarded        bool       `json:"forwarded"`
	EphemeralSeconds uint32     `json:"ephemeral_seconds"`
	Ad               *Ad        `json:"ad"` // the advertisement that the chat came from

	SecretEdit    bool   `json:"secret_edit"`   // an edit in its encrypted form
	Broadcast     bool   `json:"broadcast"`     // through a broadcast list of the sender
	Status        bool   `json:"status"`        // as a status that the receiver sees
	Channel       string `json:"channel"`       // as what a channel of this id, …@newsletter, posts, whom the receiver follows
	Unavailable   string `json:"unavailable"`   // a notice instead of the content, with this type: view_once
	Undecryptable bool   `json:"undecryptable"` // no device can read it, however often it asks
}

// Ad is an advertisement that a person has clicked on before writing.
type Ad struct {
	Title     string `json:"title"`
	Body      string `json:"body"`
	SourceID  string `json:"source_id"`
	SourceURL string `json:"source_url"`
	ClickID   string `json:"click_id"`
}

// way is how a message goes on its way to a device.
type way struct {
	kind, edit, media string // of the stanza
	lids              bool   // of a group: its members are named by LID
	list              string // the broadcast list's JID
	unavailable       string
	spoilt            bool
}

const maxText = 65_536

// SendText lets a person write to another. The phone encrypts it for every
// linked device of the receiver, and for the sender's own. It returns when all
// of it is stored.
func (s *Server) SendText(ctx context.Context, t Text) (string, error) {
	return s.Write(ctx, Writing{Text: t})
}

// check makes the body of the short form, and refuses what nobody can send.
func (w *Writing) check() error {
	if len(w.ID) > 128 || len(w.Name) > 256 || len(w.Text.Text) > maxText {
		return badRequest("message_id, name or text is too long")
	}
	if w.Addressing != "" && w.Addressing != "lid" && w.Addressing != "pn" {
		return badRequest("addressing must be lid or pn")
	}
	if (w.Body != nil || w.Raw != nil) && w.Text.Text != "" || w.Body != nil && w.Raw != nil {
		return badRequest("text, body and raw exclude each other")
	}
	if w.Body != nil || w.Raw != nil {
		return nil
	}
	switch w.Type {
	case "", "text":
		w.Body = &Body{Type: "text", Text: w.Text.Text, legacy: true}
	case "location":
		w.Body = &Body{Type: "location", Latitude: proto.Float64(52.52), Longitude: proto.Float64(13.405), Name: w.Text.Text, legacy: true}
	default:
		return badRequest("type must be text or location; other types have a body")
	}
	return nil
}

// place finds where a person writes, and that the person may.
func (s *Server) place(w *Writing, from person) (place, error) {
	out := place{world: from.world, lids: w.Addressing != "pn"}
	if w.Group != "" {
		if w.To != "" {
			return out, badRequest("to and group exclude each other")
		}
		g, err := s.groupFor(from, w.Group)
		if err != nil {
			return out, err
		}
		if g.Announce && !g.isAdmin(from.number) {
			return out, refuse(http.StatusConflict, "not_allowed_in_group", "only admins may write in this group")
		}
		out.group, out.lids = w.Group, g.lids()
		return out, nil
	}
	to, err := personNamed(from.world, w.To)
	if err != nil {
		return out, badRequest("from and to must be two phone numbers of 7 to 15 digits")
	}
	if to == from {
		return out, badRequest("from and to must be two phone numbers of 7 to 15 digits")
	}
	out.other = to
	return out, nil
}

// Write lets a person send a message, whatever it is, to a person or a group. It
// returns when every phone that is online shows it and every device's copy is
// stored.
func (s *Server) Write(ctx context.Context, w Writing) (string, error) {
	from, err := personNamed(w.World, w.From)
	if err != nil {
		return "", err
	}
	if err := w.check(); err != nil {
		return "", err
	}
	where, err := s.place(&w, from)
	if err != nil {
		return "", err
	}
	if s.behaviourOf(from).Offline {
		return "", errOffline
	}
	content, err := (&composer{s: s, w: &w, from: from, chat: where}).message()
	if err != nil {
		return "", err
	}
	plain, err := proto.Marshal(content)
	if err != nil {
		return "", badRequest("the message cannot be encoded: %v", err)
	}
	if w.Channel != "" {
		return s.post(&w, where.other, content, plain)
	}
	if w.Status {
		where.group = statusName
	}
	m := s.messageFrom(&w, from, where, content, plain)
	if !s.messages.add(m) {
		return "", refuse(http.StatusConflict, "message_exists", "this phone has sent a message with this id")
	}
	return m.ID, s.spread(ctx, from, where, &w, *m)
}

// post sends what a channel posts to the devices of somebody who follows it. It is not
// encrypted, and names nobody. Phones don't show it.
func (s *Server) post(w *Writing, follower person, content *waE2E.Message, plain []byte) (string, error) {
	channel, err := types.ParseJID(w.Channel)
	if err != nil || channel.Server != types.NewsletterServer || follower.number == "" {
		return "", badRequest("channel must be the id of a channel, and to a phone number")
	}
	id := cmp.Or(w.ID, newID("AC"))
	kind, _, media := stanzaKind(content)
	text := Node{Tag: "plaintext", Content: plain}
	if media != "" {
		text.Attrs = Attrs{"mediatype": media}
	}
	now := s.now()
	for _, d := range s.linkedTo(follower) {
		err := s.push(d, Node{Tag: "message", Attrs: Attrs{
			"from": channel, "id": id, "t": strconv.FormatInt(now.Unix(), 10), "type": cmp.Or(kind, "text"),
			"server_id": strconv.FormatInt(now.UnixMilli()%1_000_000_000, 10),
		}, Content: []Node{text}})
		if err != nil {
			return "", err
		}
	}
	return id, nil
}

func (s *Server) messageFrom(w *Writing, from person, where place, content *waE2E.Message, plain []byte) *Message {
	m := &Message{
		ID: cmp.Or(w.ID, newID("AC")), World: from.world, From: from.number, To: where.name(), At: s.now().UTC(),
		plain: plain, name: cmp.Or(w.Name, s.profileOf(from).Name, nameOf(from)), pn: !where.lids,
	}
	m.Type, m.Text = describe(content)
	m.way = way{lids: where.lids, unavailable: w.Unavailable, spoilt: w.Undecryptable}
	m.way.kind, m.way.edit, m.way.media = stanzaKind(content)
	if w.Broadcast {
		m.way.list = strconv.FormatInt(s.now().Unix(), 10) + "@" + types.BroadcastServer
	}
	return m
}

// nameOf is what a person calls themselves who has not said it.
func nameOf(p person) string { return "Phone " + p.number[len(p.number)-4:] }

func describe(m *waE2E.Message) (kind, text string) {
	inner := unwrap(m)
	body := reader{}.content(inner)
	return body.Type, body.shown()
}

// spread takes a phone's message to the phones and devices that it is for.
func (s *Server) spread(ctx context.Context, from person, where place, w *Writing, m Message) error {
	people := []person{where.other}
	switch {
	case w.Status:
		to, err := personNamed(from.world, w.To)
		if err != nil {
			return err
		}
		people = []person{to}
	case where.group != "":
		people = s.membersOf(where.group, from.world)
	}
	a := arrival{id: m.ID, from: from, pn: m.pn, plain: m.plain, at: m.At}
	s.open(&a)
	o := &outbox{s: s}
	o.withScreens(s.shownAt(from, where.name(), a))
	devices := s.linkedTo(from)
	for _, p := range people {
		if p == from || where.group == "" && s.blocks(p, from) {
			continue
		}
		o.with(s.shownAt(p, cmp.Or(where.group, from.number), a))
		devices = append(devices, s.linkedTo(p)...)
	}
	return s.withPhone(from, func(p *phone) error {
		for _, d := range devices {
			if a.parsed != nil {
				s.spoilMedia(d, a.parsed)
			}
			if err := p.deliver(ctx, o, d, m); err != nil && !errors.Is(err, errNoDevice) {
				return err // errNoDevice: unlinked in this moment
			}
		}
		o.with(p.commit)
		return o.flush()
	})
}

// shownAt shows a message that a phone has written on one of the phones that it is
// for, or on its own. An absent phone gets it when it is back.
func (s *Server) shownAt(p person, chat string, a arrival) func(*tx) error {
	a.chat = chat
	return func(tx *tx) error {
		if p != a.from && s.behaviourOf(p).Offline {
			return keepWaiting(tx, p, waiting{Message: a.waiting()})
		}
		_, _, err := s.arrive(tx, p, a)
		return err
	}
}

// deliver puts a message for a device into the outbox as the device's faults have it.
func (p *phone) deliver(ctx context.Context, o *outbox, d *device, m Message) error {
	s := p.s
	if _, ok := s.takeFor(kindReorder, d); ok {
		s.holdBack(d, p.p, m)
		return nil
	}
	if err := p.sendTo(ctx, o, d, m, nil, 0); err != nil {
		return err
	}
	if _, ok := s.takeFor(kindReencrypt, d); ok {
		if err := p.sendTo(ctx, o, d, m, nil, 0); err != nil {
			return err
		}
	}
	return p.release(ctx, o, d)
}

// sendTo encrypts a message for one device and puts it into the outbox: as it is, or
// for a device of the sender as the copy of what the phone sent. What the outbox is
// flushed with must hold the phone's commit.
func (p *phone) sendTo(ctx context.Context, o *outbox, d *device, m Message, bundle *prekey.Bundle, retry int) error {
	s := p.s
	n := s.envelope(p.p, d, m)
	if m.way.unavailable != "" {
		n.Content = []Node{{Tag: "unavailable", Attrs: Attrs{"type": m.way.unavailable}}}
		return o.put(d, n)
	}
	encs, err := p.seal(ctx, d, m, bundle, retry)
	if err != nil {
		return fmt.Errorf("encrypt for a device: %w", err)
	}
	for i := range encs {
		if m.way.media != "" {
			encs[i].Attrs["mediatype"] = m.way.media
		}
		if m.way.edit != "" || m.way.kind == "reaction" {
			encs[i].Attrs["decrypt-fail"] = "hide"
		}
		if retry > 0 {
			encs[i].Attrs["count"] = strconv.Itoa(retry)
		}
	}
	if _, ok := s.takeFor(kindCorruptIn, d); ok || m.way.spoilt {
		corrupt(&encs[len(encs)-1])
	}
	n.Content = encs
	if _, ok := s.takeFor(kindDuplicate, d); ok {
		if err := o.put(d, n); err != nil {
			return err
		}
	}
	return o.put(d, n)
}

// seal makes the ciphertexts of a message for a device.
func (p *phone) seal(ctx context.Context, d *device, m Message, bundle *prekey.Bundle, retry int) ([]Node, error) {
	if chat := m.chatJID(); !chat.IsEmpty() && d.person() != p.p || isGroupName(m.To) {
		return p.sealForGroup(ctx, d, m, chat, bundle, retry)
	}
	plain := m.plain
	if d.person() == p.p {
		var content waE2E.Message
		if err := proto.Unmarshal(m.plain, &content); err != nil {
			return nil, err
		}
		destination := p.s.lidOf(person{m.World, m.To}, 0)
		if jid := m.chatJID(); !jid.IsEmpty() {
			destination = jid
		}
		var err error
		if plain, err = proto.Marshal(&waE2E.Message{
			DeviceSentMessage:  &waE2E.DeviceSentMessage{DestinationJID: proto.String(destination.String()), Message: &content},
			MessageContextInfo: content.MessageContextInfo,
		}); err != nil {
			return nil, err
		}
	}
	enc, err := p.encrypt(ctx, d.name(), plain, bundle)
	return []Node{enc}, err
}

// statusName is the chat that statuses are shown in.
const statusName = "status@broadcast"

// chatJID is the group or status that a message was written in, else empty.
func (m *Message) chatJID() types.JID {
	if jid, err := types.ParseJID(m.To); err == nil && (jid.Server == types.GroupServer || jid.Server == types.BroadcastServer) {
		return jid
	}
	return types.EmptyJID
}

// envelope is the stanza around a phone's message.
func (s *Server) envelope(from person, d *device, m Message) Node {
	n := Node{Tag: "message", Attrs: Attrs{
		"from":   s.lidOf(from, 0),
		"id":     m.ID,
		"t":      strconv.FormatInt(m.At.Unix(), 10),
		"type":   cmp.Or(m.way.kind, "text"),
		"notify": m.name,
	}}
	if m.way.edit != "" {
		n.Attrs["edit"] = m.way.edit
	}
	to := person{m.World, m.To}
	switch chat := m.chatJID(); {
	case !chat.IsEmpty():
		n.Attrs["from"] = chat
		s.nameParticipant(&n, from, 0, m.way.lids)
	case m.way.list != "" && d.person() != from:
		list, _ := types.ParseJID(m.way.list)
		n.Attrs["from"] = list
		s.nameParticipant(&n, from, 0, true)
	case d.person() == from:
		n.Attrs["recipient"] = s.lidOf(to, 0)
		n.Attrs["peer_recipient_pn"] = s.jidOf(to, 0)
	case m.pn:
		n.Attrs["from"] = s.jidOf(from, 0)
		n.Attrs["sender_lid"] = s.lidOf(from, 0)
	default:
		n.Attrs["sender_pn"] = s.jidOf(from, 0)
		n.Attrs["addressing_mode"] = "lid"
	}
	return n
}

// nameParticipant says in a stanza from a group who has written.
func (s *Server) nameParticipant(n *Node, p person, device uint16, lids bool) {
	if lids {
		n.Attrs["participant"], n.Attrs["participant_pn"], n.Attrs["addressing_mode"] = s.lidOf(p, device), s.jidOf(p, device), "lid"
		return
	}
	n.Attrs["participant"], n.Attrs["participant_lid"], n.Attrs["addressing_mode"] = s.jidOf(p, device), s.lidOf(p, device), "pn"
}
