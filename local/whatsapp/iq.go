package whatsapp

import (
	"strconv"

	"go.mau.fi/whatsmeow/types"
)

// handle takes one stanza of a client. It runs on the connection's goroutine,
// so that a client's stanzas are handled in order.
func (s *Server) handle(c *conn, n *Node) {
	c.out.Lock()
	closing := c.out.closing
	c.out.Unlock()
	if closing {
		return
	}
	s.mu.Lock()
	d, registering := c.device, c.registration != nil
	s.mu.Unlock()
	switch n.Tag {
	case "iq":
		switch str(n, "type") {
		case "result", "error":
			c.answered(n)
		case "get", "set":
			s.query(c, d, registering, n)
		}
	case "message":
		if d != nil {
			s.takeMessage(c, d, n)
		}
	case "receipt":
		if d != nil {
			s.takeReceipt(c, d, n)
		}
	case "ack":
		if d != nil {
			s.acknowledged(d, n)
		}
	case "ib":
		if _, ok := child(n, "offline_batch"); ok && d != nil {
			s.activate(c)
		}
	case "presence":
		if d != nil {
			s.takePresence(c, d, n)
		}
	case "chatstate":
		if d != nil {
			s.takeChatState(d, n)
		}
	case "call", "notification":
		if id := str(n, "id"); id != "" && d != nil {
			c.send(Node{Tag: "ack", Attrs: Attrs{"class": n.Tag, "id": id, "from": n.Attrs["to"]}})
		}
		if d != nil && n.Tag == "call" {
			s.takeCall(d, n)
		}
	}
}

// result answers a query.
func result(query *Node, children ...Node) Node {
	n := Node{Tag: "iq", Attrs: Attrs{"from": types.ServerJID, "type": "result", "id": str(query, "id")}}
	if len(children) > 0 {
		n.Content = children
	}
	return n
}

func iqError(query *Node, code int, text string) Node {
	n := Node{Tag: "iq", Attrs: Attrs{"from": types.ServerJID, "type": "error", "id": str(query, "id")}}
	n.Content = []Node{{Tag: "error", Attrs: Attrs{"code": strconv.Itoa(code), "text": text}}}
	return n
}

// query answers one iq. What is not modelled gets the error that WhatsApp
// gives to a namespace that it does not know.
func (s *Server) query(c *conn, d *device, registering bool, q *Node) {
	if hook := s.cfg.Hooks.IQ; hook != nil {
		if answer, handled := hook(c.describe(), q); handled {
			if answer != nil {
				c.send(*answer)
			}
			return
		}
	}
	xmlns, set := str(q, "xmlns"), str(q, "type") == "set"
	has := func(path ...string) bool { _, ok := child(q, path...); return ok }
	switch {
	case xmlns == "w:p":
		c.send(result(q))
	case registering && xmlns == "md":
		s.registrationQuery(c, q)
	case d == nil:
		c.send(iqError(q, 401, "not-authorized"))
	case xmlns == "md" && has("remove-companion-device"):
		s.removeDevice(c, d, q)
	case xmlns == "passive":
		if has("active") {
			c.send(result(q))
			s.activate(c)
			return
		}
		s.mu.Lock()
		c.active = false
		s.mu.Unlock()
		c.send(result(q))
	case xmlns == "encrypt" && has("count"):
		c.send(result(q, s.preKeyCount(d)))
	case xmlns == "encrypt" && has("digest"):
		c.send(s.preKeyDigest(d, q))
	case xmlns == "encrypt" && has("key"):
		c.send(s.bundles(c, q))
	case xmlns == "encrypt" && has("rotate"):
		c.send(s.rotateSignedKey(d, q))
	case xmlns == "encrypt" && set:
		c.send(s.uploadPreKeys(d, q))
	case xmlns == "usync":
		c.send(s.usync(d, q))
	case xmlns == "w:m":
		c.send(s.mediaConn(c, d, q))
	case xmlns == "privacy" && set:
		c.send(result(q))
		s.issueTokens(d, q)
	case xmlns == "privacy":
		c.send(result(q, privacySettings()))
	case xmlns == "w:sync:app:state":
		c.send(s.appState(d, q))
	case xmlns == "blocklist":
		c.send(s.blocklistQuery(d, q))
	case xmlns == "w:profile:picture":
		c.send(s.pictureQuery(c, d, q))
	case xmlns == "status":
		c.send(s.statusQuery(d, q))
	case xmlns == "w:mex":
		c.send(s.mexQuery(d, q))
	case xmlns == "w" || xmlns == "abt":
		c.send(result(q, Node{Tag: "props", Attrs: Attrs{"version": "1", "hash": "sim", "refresh": "86400"}}))
	case xmlns == "w:g2" && !set && has("pictures"):
		c.send(s.communityPicture(c, d, q))
	case xmlns == "w:g2":
		c.send(s.groupQuery(d, q))
	case xmlns == "urn:xmpp:whatsapp:dirty", xmlns == "urn:xmpp:whatsapp:push", xmlns == "urn:xmpp:whatsapp:account",
		xmlns == "urn:xmpp:ping", xmlns == "w:stats", xmlns == "tos", xmlns == "disappearing_mode":
		c.send(result(q))
	default:
		c.send(iqError(q, 501, "feature-not-implemented"))
	}
}

// removeDevice is a device that logs out, itself or another of its account.
func (s *Server) removeDevice(c *conn, d *device, q *Node) {
	n, _ := child(q, "remove-companion-device")
	victims := []*device{}
	if str(n, "all") == "true" {
		s.mu.Lock()
		victims = s.devicesOf(d.person())
		s.mu.Unlock()
	} else {
		other, ok := s.find(c.world, jidAttr(n, "jid"))
		if !ok || other.person() != d.person() {
			c.send(iqError(q, 404, "item-not-found"))
			return
		}
		victims = append(victims, other)
	}
	own := false
	for _, victim := range victims {
		if victim == d {
			own = true
			continue
		}
		if err := s.forget(victim, streamError("401", "device_removed")); err != nil {
			s.log.Error("cannot remove a device", "error", err)
			c.send(iqError(q, 500, "internal-server-error"))
			return
		}
		s.tellOwnDevices(victim, "remove")
	}
	if own {
		s.mu.Lock()
		d.conn = nil // its own connection gets the answer first
		s.mu.Unlock()
		if err := s.forget(d, nil); err != nil {
			s.log.Error("cannot remove a device", "error", err)
			c.send(iqError(q, 500, "internal-server-error"))
			return
		}
		c.sendLast(result(q)) // the client closes; there is nothing more to tell it
		s.tellOwnDevices(d, "remove")
		return
	}
	c.send(result(q))
}

func privacySettings() Node {
	var categories []Node
	for _, name := range []string{"readreceipts", "profile", "status", "online", "last", "groupadd", "calladd", "messages", "defense", "stickers"} {
		categories = append(categories, Node{Tag: "category", Attrs: Attrs{"name": name, "value": "all"}})
	}
	return Node{Tag: "privacy", Content: categories}
}
