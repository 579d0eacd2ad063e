package whatsapp

import (
	"encoding/binary"
	"net/http"
	"strconv"
	"time"

	"go.mau.fi/whatsmeow/types"
)

// takeReceipt takes a device's receipt: it answers it, counts it as the
// acknowledgement of the message, and tells the sender of the message.
func (s *Server) takeReceipt(c *conn, d *device, n *Node) {
	id, kind, to := str(n, "id"), str(n, "type"), jidAttr(n, "to")
	ack := Attrs{"class": "receipt", "id": id, "from": n.Attrs["to"]}
	if kind != "" {
		ack["type"] = kind
	}
	if participant, ok := n.Attrs["participant"]; ok {
		ack["participant"] = participant
	}
	c.send(Node{Tag: "ack", Attrs: ack})

	ids := []string{id}
	if list, ok := child(n, "list"); ok {
		items, _ := list.Content.([]Node)
		for i := range items {
			ids = append(ids, str(&items[i], "id"))
		}
	}
	sender, ok := s.personOf(c.world, to)
	if kind == "retry" {
		if ok {
			s.takeRetry(d, sender, to.Device, n)
		}
		return // not acknowledged: it was not read
	}
	for _, id := range ids {
		s.acknowledge(d, "message", id)
	}
	if !ok || sender == d.person() {
		return
	}
	now := s.now().UTC()
	for _, id := range ids {
		s.messages.update(d.World, sender.number, id, func(m *Message) {
			if m.Delivered.IsZero() {
				m.Delivered = now
			}
			if (kind == "read" || kind == "played") && m.Read.IsZero() {
				m.Read = now
			}
		})
	}
	// Tell the device that sent the message, if it was not the phone.
	device := to.Device
	if known, ok := s.messages.get(d.World, sender.number, id); ok && device == 0 && known.Device != "" {
		if origin, err := types.ParseJID(known.Device); err == nil {
			device = origin.Device
		}
	}
	if other, ok := s.find(c.world, s.jidOf(sender, device)); ok && device != 0 {
		out := Node{Tag: "receipt", Attrs: Attrs{"from": s.lidOf(d.person(), d.ID), "id": id, "t": strconv.FormatInt(now.Unix(), 10)}, Content: n.Content}
		if kind != "" {
			out.Attrs["type"] = kind
		}
		if err := s.push(other, out, nil); err != nil {
			s.log.Error("cannot pass a receipt on", "error", err)
		}
	}
}

// sendReceipt tells a device what became of its message at a phone, which has
// the name here that the message had it under.
func (s *Server) sendReceipt(d *device, from types.JID, kind, id string, at time.Time) {
	n := Node{Tag: "receipt", Attrs: Attrs{"from": from, "id": id, "t": strconv.FormatInt(at.Unix(), 10)}}
	if kind != "" {
		n.Attrs["type"] = kind
	}
	if err := s.push(d, n, nil); err != nil {
		s.log.Error("cannot send a receipt", "error", err)
	}
}

// MarkRead is a person reading a message that a linked device sent.
func (s *Server) MarkRead(world, reader, sender, id string) error {
	world = orWorld(world)
	m, ok := s.messages.get(world, sender, id)
	if !ok || m.To != reader {
		return refuse(http.StatusNotFound, "no_such_message", "this phone has no such message")
	}
	now := s.now().UTC()
	s.messages.update(world, sender, id, func(m *Message) {
		if m.Read.IsZero() {
			m.Read = now
		}
	})
	s.mu.Lock()
	devices := s.devicesOf(person{world, sender})
	s.mu.Unlock()
	from := s.lidOf(person{world, reader}, 0)
	if m.pn {
		from = s.jidOf(person{world, reader}, 0)
	}
	for _, d := range devices {
		s.sendReceipt(d, from, "read", id, now)
	}
	return nil
}

// askAgain is a phone that could not read a device's message. From the second
// time on, or if it has no session, it sends its keys for a new one along.
func (s *Server) askAgain(d *device, at person, from, chat types.JID, n *Node, count int, keys bool) {
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
	if from.User != chat.User {
		out.Attrs["recipient"] = chat
	}
	if err := s.push(d, out, nil); err != nil {
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
		if err := s.push(other, out, nil); err != nil {
			s.log.Error("cannot pass a retry on", "error", err)
		}
		return
	}
	id := str(retry, "id")
	count, _ := strconv.Atoi(str(retry, "count"))
	m, ok := s.messages.get(d.World, sender.number, id)
	if !ok || m.plain == nil || count < 1 || count > maxRetries || m.To != d.Number && m.From != d.Number {
		return
	}
	s.messages.update(d.World, sender.number, id, func(m *Message) { m.Retries = max(m.Retries, count) })
	registration := content(n, "registration")
	keys, hasKeys := child(n, "keys")
	err := s.withPhone(sender, func(p *phone) error {
		if hasKeys {
			if bundle, ok := bundleFrom(d, registration, keys); ok {
				return p.sendTo(s.ctx, d, m, bundle, count)
			}
		}
		if count > 1 {
			bundle, err := s.takeBundle(d.name())
			if err != nil {
				return err
			}
			return p.sendTo(s.ctx, d, m, bundle, count)
		}
		return p.sendTo(s.ctx, d, m, nil, count)
	})
	if err != nil {
		s.log.Error("cannot send a message again", "error", err)
	}
}
