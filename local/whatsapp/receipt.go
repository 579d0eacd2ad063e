package whatsapp

import (
	"cmp"
	"encoding/binary"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.mau.fi/libsignal/keys/prekey"
	"google.golang.org/protobuf/proto"

	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/types"
)

// takeReceipt takes a device's receipt: it answers it, counts it as the
// acknowledgement of the message, and tells the sender of the message.
func (s *Server) takeReceipt(c *conn, d *device, n *Node) {
	id, kind := str(n, "id"), str(n, "type")
	ack := Attrs{"class": "receipt", "id": id, "from": n.Attrs["to"]}
	if kind != "" {
		ack["type"] = kind
	}
	if participant, ok := n.Attrs["participant"]; ok {
		ack["participant"] = participant
	}
	c.send(Node{Tag: "ack", Attrs: ack})

	author := jidAttr(n, "to")
	var group string
	if author.Server == types.GroupServer || author.Server == types.BroadcastServer {
		group, author = author.String(), jidAttr(n, "participant")
	}
	sender, ok := s.personOf(c.world, author)
	switch kind {
	case "retry":
		if ok {
			s.takeRetry(d, sender, author.Device, n)
		}
		return // not acknowledged: it was not read
	case "server-error":
		s.retryMedia(d, n)
		return
	}
	ids := receiptIDs(n)
	for _, id := range ids {
		s.acknowledge(d, queueKeyOf("message", id, "", jidAttr(n, "to"), jidAttr(n, "participant")))
	}
	if !ok {
		return
	}
	if sender == d.person() {
		if kind == "sender" {
			o := &outbox{s: s}
			s.passReceipt(o, d, sender, author, group, n)
			if err := o.flush(); err != nil {
				s.log.Error("cannot pass a receipt on", "error", err)
			}
		}
		return
	}
	now := s.now().UTC()
	for _, id := range ids {
		s.messages.update(d.World, sender.number, id, func(m *Message) {
			if m.Delivered.IsZero() && !strings.HasSuffix(kind, "-self") {
				m.Delivered = now
			}
			if (kind == "read" || kind == "played") && m.Read.IsZero() {
				m.Read = now
			}
		})
	}
	o := &outbox{s: s}
	if kind != "read-self" && kind != "played-self" {
		s.passReceipt(o, d, sender, author, group, n)
	}
	if strings.HasPrefix(kind, "read") || strings.HasPrefix(kind, "played") {
		s.noteRead(o, d.person(), sender, group, ids, kind, now)
		s.tellOwnRead(o, d.person(), d, sender, group, ids, kind, now)
	}
	if err := o.flush(); err != nil {
		s.log.Error("cannot keep a receipt", "error", err)
	}
}

// receiptIDs are all that a receipt is for.
func receiptIDs(n *Node) []string {
	ids := []string{str(n, "id")}
	if list, ok := child(n, "list"); ok {
		items, _ := list.Content.([]Node)
		for i := range items {
			ids = append(ids, str(&items[i], "id"))
		}
	}
	return ids
}

// passReceipt tells the device that sent a message, if it was not the phone. A receipt
// names the person alone where it tells of reading: then it is whoever is known to have
// sent it, and all of them while the reader's phone is away, which is where that is known
// from.
func (s *Server) passReceipt(o *outbox, d *device, sender person, author types.JID, group string, n *Node) {
	var others []*device
	known, ok := s.messages.get(d.World, sender.number, str(n, "id"))
	switch origin, err := types.ParseJID(known.Device); {
	case author.Device != 0:
		others = s.found(d.World, s.jidOf(sender, author.Device))
	case !ok:
		others = s.linkedTo(sender)
	case known.Device != "" && err == nil:
		others = s.found(d.World, s.jidOf(sender, origin.Device))
	}
	for _, other := range others {
		if other != d {
			s.passReceiptTo(o, other, d, author, group, n)
		}
	}
}

// found is the linked device of this address, if there is one.
func (s *Server) found(world string, jid types.JID) []*device {
	if d, ok := s.find(world, jid); ok {
		return []*device{d}
	}
	return nil
}

func (s *Server) passReceiptTo(o *outbox, other, d *device, author types.JID, group string, n *Node) {
	out := Node{Tag: "receipt", Attrs: Attrs{
		"from": s.lidOf(d.person(), d.ID), "id": str(n, "id"), "t": strconv.FormatInt(s.now().Unix(), 10),
	}, Content: n.Content}
	if group != "" {
		out.Attrs["from"], _ = types.ParseJID(group)
		out.Attrs["participant"] = s.memberJIDOf(d, author.Server == types.HiddenUserServer)
	}
	if kind := str(n, "type"); kind != "" {
		out.Attrs["type"] = kind
	}
	if recipient, ok := n.Attrs["recipient"]; ok {
		out.Attrs["recipient"] = recipient
	}
	o.receipt(other, out)
}

// memberJID is how a person is named in a group's stanzas.
func (s *Server) memberJID(p person, lids bool) types.JID {
	if lids {
		return s.lidOf(p, 0)
	}
	return s.jidOf(p, 0)
}

func (s *Server) memberJIDOf(d *device, lids bool) types.JID {
	jid := s.memberJID(d.person(), lids)
	jid.Device = d.ID
	return jid
}

// noteRead lets the owner's phone know what was read on a linked device.
func (s *Server) noteRead(o *outbox, at, sender person, group string, ids []string, kind string, now time.Time) {
	o.withScreens(func(tx *tx) error {
		for _, id := range ids {
			if err := s.reshow(tx, at, cmp.Or(group, sender.number), sender.number, id, func(r *shownRecord) {
				r.seen(now, strings.HasPrefix(kind, "played"))
			}); err != nil {
				return err
			}
		}
		return nil
	})
}

func (r *shownRecord) seen(now time.Time, played bool) {
	if r.Read.IsZero() {
		r.Read = now
	}
	if played && r.Played.IsZero() {
		r.Played = now
	}
}

// tellOwnRead tells the other devices of somebody that a message was read there:
// on the phone, or on one of them.
func (s *Server) tellOwnRead(o *outbox, reader person, on *device, sender person, group string, ids []string, kind string, now time.Time) {
	device := uint16(0)
	if on != nil {
		device = on.ID
	}
	for _, d := range s.linkedTo(reader) {
		if d == on {
			continue
		}
		n := Node{Tag: "receipt", Attrs: Attrs{
			"from": s.lidOf(reader, device), "id": ids[0], "type": kind, "t": strconv.FormatInt(now.Unix(), 10), "recipient": s.lidOf(sender, 0),
		}}
		if group != "" {
			n.Attrs["from"], _ = types.ParseJID(group)
			n.Attrs["participant"] = s.lidOf(reader, device)
		}
		if len(ids) > 1 {
			var items []Node
			for _, id := range ids[1:] {
				items = append(items, Node{Tag: "item", Attrs: Attrs{"id": id}})
			}
			n.Content = []Node{{Tag: "list", Content: items}}
		}
		o.receipt(d, n)
	}
}

// sendReceipts tells the devices of a sender what became of a message at a phone,
// which has the name here that the message had it under.
func (s *Server) sendReceipts(o *outbox, sender, at person, where place, from types.JID, kind, id string, now time.Time) {
	for _, d := range s.linkedTo(sender) {
		n := Node{Tag: "receipt", Attrs: Attrs{"from": from, "id": id, "t": strconv.FormatInt(now.Unix(), 10)}}
		if where.group != "" {
			n.Attrs["from"], _ = types.ParseJID(where.group)
			n.Attrs["participant"] = from
		}
		if kind != "" {
			n.Attrs["type"] = kind
		}
		o.receipt(d, n)
	}
}

// MarkRead is a person reading a message that somebody sent in a direct chat.
func (s *Server) MarkRead(world, reader, sender, id string) error {
	at, err := personNamed(world, reader)
	if err != nil {
		return err
	}
	from, err := personNamed(world, sender)
	if err != nil {
		return err
	}
	return s.markRead(at, from.number, from, id, "read")
}

var errNoMessage = refuse(http.StatusNotFound, "no_such_message", "this phone has no such message")

// markRead is a phone's owner reading or playing a message. Who wrote it is told,
// unless the owner never tells.
func (s *Server) markRead(at person, chat string, sender person, id, kind string) error {
	record, ok, err := s.lookUp(at, chat, sender.number, id)
	if err != nil {
		return err
	}
	if !ok || sender == at {
		return errNoMessage
	}
	o, now := &outbox{s: s}, s.now().UTC()
	if s.see(o, at, chat, sender, id, kind, now) {
		where := place{world: at.world}
		if inGroup(chat) {
			where.group = chat
		}
		s.sendReceipts(o, sender, at, where, s.memberJID(at, !record.PN), kind, id, now)
	}
	return o.flush()
}

// inGroup says that what is shown in a chat was written in a group, or as a status.
func inGroup(chat string) bool { return isGroupName(chat) || chat == statusName }

// see notes that a message was read or played on a phone, and tells the owner's
// devices. It says whether who wrote it is to know.
func (s *Server) see(o *outbox, at person, chat string, sender person, id, kind string, now time.Time) bool {
	o.withScreens(func(tx *tx) error {
		return s.reshow(tx, at, chat, sender.number, id, func(r *shownRecord) { r.seen(now, kind == "played") })
	})
	var group string
	if inGroup(chat) {
		group = chat
	}
	if s.behaviourOf(at).Reads == ReadsNever && group == "" {
		s.tellOwnRead(o, at, nil, sender, group, []string{id}, kind+"-self", now)
		return false
	}
	o.then(func() {
		s.messages.update(at.world, sender.number, id, func(m *Message) {
			if m.Read.IsZero() {
				m.Read = now
			}
		})
	})
	s.tellOwnRead(o, at, nil, sender, group, []string{id}, kind, now)
	return true
}

// sendGrouped tells the devices of a sender of many phones in one receipt.
func (s *Server) sendGrouped(o *outbox, sender person, where place, kind string, list []*reaction, now time.Time) {
	group, _ := types.ParseJID(where.group)
	stamp := strconv.FormatInt(now.Unix(), 10)
	var users []Node
	for _, r := range list {
		users = append(users, Node{Tag: "user", Attrs: Attrs{"jid": r.from, "t": stamp}})
	}
	id := list[0].a.id
	for _, d := range s.linkedTo(sender) {
		n := Node{Tag: "receipt", Attrs: Attrs{"from": group, "id": id, "t": stamp}, Content: []Node{{Tag: "participants", Attrs: Attrs{"key": id}, Content: users}}}
		if kind != "" {
			n.Attrs["type"] = kind
		}
		o.receipt(d, n)
	}
}

// askAgain is a phone that could not read a device's message. From the second
// time on, or if it has no session, it sends its keys for a new one along.
func (s *Server) askAgain(d *device, at person, from types.JID, where place, n *Node, count int, keys bool) {
	id := str(n, "id")
	stamp := str(n, "t")
	if stamp == "" {
		stamp = strconv.FormatInt(s.now().Unix(), 10)
	}
	content := []Node{
		{Tag: "retry", Attrs: Attrs{"count": strconv.Itoa(count), "id": id, "t": stamp, "v": "1"}},
		{Tag: "registration", Content: binary.BigEndian.AppendUint32(nil, registrationIDOf(s, at))},
	}
	if keys || count > 1 {
		var bundle []Node
		for _, part := range s.phoneBundle(at) {
			if part.Tag != "registration" {
				bundle = append(bundle, part)
			}
		}
		content = append(content, Node{Tag: "keys", Content: bundle})
	}
	out := Node{Tag: "receipt", Attrs: Attrs{
		"from": from, "id": id, "type": "retry", "t": strconv.FormatInt(s.now().Unix(), 10),
	}, Content: content}
	switch {
	case where.group != "":
		out.Attrs["from"], out.Attrs["participant"] = n.Attrs["to"], from
	case at != where.other:
		out.Attrs["recipient"] = n.Attrs["to"]
	}
	if err := s.push(d, out); err != nil {
		s.log.Error("cannot ask for a message again", "error", err)
	}
}

// takeRetry is a device that could not read a message. The sender encrypts it
// again: with the session there is, or with a new one from the keys that came
// along, or from a fresh bundle if it is asked repeatedly.
func (s *Server) takeRetry(d *device, sender person, device uint16, n *Node) {
	retry, ok := child(n, "retry")
	if !ok {
		return
	}
	if device != 0 {
		other, ok := s.find(d.World, s.jidOf(sender, device))
		if !ok {
			return
		}
		out := Node{Tag: "receipt", Attrs: Attrs{
			"from": s.lidOf(d.person(), d.ID), "id": str(n, "id"), "type": "retry", "t": strconv.FormatInt(s.now().Unix(), 10),
		}, Content: n.Content}
		if recipient := jidAttr(n, "recipient"); !recipient.IsEmpty() {
			out.Attrs["recipient"] = recipient
		}
		if group := jidAttr(n, "to"); group.Server == types.GroupServer {
			out.Attrs["from"], out.Attrs["participant"] = group, s.memberJIDOf(d, jidAttr(n, "participant").Server == types.HiddenUserServer)
		}
		if err := s.push(other, out); err != nil {
			s.log.Error("cannot pass a retry on", "error", err)
		}
		return
	}
	id := str(retry, "id")
	count, _ := strconv.Atoi(str(retry, "count"))
	m, ok := s.sent(sender, id)
	if !ok || m.plain == nil || count < 1 || count > maxRetries || !s.isFor(d, m) {
		return
	}
	s.messages.update(d.World, sender.number, id, func(m *Message) { m.Retries = max(m.Retries, count) })
	registration := content(n, "registration")
	keys, hasKeys := child(n, "keys")
	err := s.withPhone(sender, func(p *phone) error {
		if hasKeys {
			if bundle, ok := bundleFrom(d, registration, keys); ok {
				return p.sendAgain(d, m, bundle, count)
			}
		}
		if count > 1 {
			bundle, err := s.takeBundle(d.name())
			if err != nil {
				return err
			}
			return p.sendAgain(d, m, bundle, count)
		}
		return p.sendAgain(d, m, nil, count)
	})
	if err != nil {
		s.log.Error("cannot send a message again", "error", err)
	}
}

func (p *phone) sendAgain(d *device, m Message, bundle *prekey.Bundle, count int) error {
	o := &outbox{s: p.s}
	if err := p.sendTo(p.s.ctx, o, d, m, bundle, count); err != nil {
		return err
	}
	o.with(p.commit)
	return o.flush()
}

// sent finds a message that a phone wrote, to send it again: in memory, or from
// before the simulator's restart on the phone's own screen.
func (s *Server) sent(by person, id string) (Message, bool) {
	if m, ok := s.messages.get(by.world, by.number, id); ok {
		return m, true
	}
	rows, _, err := s.screen(by, ShownFilter{From: by.number, ID: id, Limit: 1})
	if err != nil || len(rows) == 0 || rows[0].Device != "" {
		return Message{}, false
	}
	r := rows[0]
	m := Message{ID: r.ID, World: by.world, From: r.From, To: r.Chat, Type: r.Type, Text: r.Text, At: r.At, plain: r.Plain, name: nameOf(by), pn: r.PN}
	var content waE2E.Message
	if proto.Unmarshal(r.Plain, &content) == nil {
		m.way.kind, m.way.edit, m.way.media = stanzaKind(&content)
	}
	m.way.lids = !r.PN
	return m, true
}

// isFor says whether a device is one of those that a message was for.
func (s *Server) isFor(d *device, m Message) bool {
	if isGroupName(m.To) {
		return slices.Contains(s.membersOf(m.To, d.World), d.person())
	}
	return m.To == d.Number || m.From == d.Number || m.To == statusName
}
