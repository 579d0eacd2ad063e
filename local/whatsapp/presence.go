package whatsapp

import (
	"context"
	"strconv"
)

// takePresence takes what a device says of itself, or asks of others. An
// available device is told of the people it has asked for, and of those who type.
func (s *Server) takePresence(c *conn, d *device, n *Node) {
	switch kind := str(n, "type"); kind {
	case "", "available", "unavailable":
		s.mu.Lock()
		c.available = kind != "unavailable"
		s.mu.Unlock()
		if name := str(n, "name"); name != "" && len(name) <= 256 {
			s.keepName(d, name)
		}
		s.tellPresence(d.person(), kind == "unavailable", d)
	case "subscribe":
		p, ok := s.personOf(c.world, jidAttr(n, "to"))
		if !ok {
			return
		}
		s.mu.Lock()
		if c.watches == nil {
			c.watches = map[person]bool{}
		}
		if len(c.watches) < 1000 {
			c.watches[p] = true
		}
		s.mu.Unlock()
		if s.behaviourOf(p).Offline {
			c.send(s.presenceNode(p, true))
		} else {
			c.send(s.presenceNode(p, false))
		}
	}
}

func (s *Server) keepName(d *device, name string) {
	if s.profileOf(d.person()).Name == name {
		return
	}
	if _, err := s.changeProfile(d.person(), func(p *profile) { p.Name = name }); err != nil {
		s.log.Error("cannot keep a name", "error", err)
	}
}

func (s *Server) presenceNode(p person, unavailable bool) Node {
	n := Node{Tag: "presence", Attrs: Attrs{"from": s.lidOf(p, 0)}}
	if unavailable {
		n.Attrs["type"], n.Attrs["last"] = "unavailable", strconv.FormatInt(s.now().Unix(), 10)
	}
	return n
}

// tellPresence tells those who watch somebody.
func (s *Server) tellPresence(p person, unavailable bool, but *device) {
	var watchers []*conn
	s.mu.Lock()
	for c := range s.conns {
		if c.watches[p] && c.device != nil && c.device != but {
			watchers = append(watchers, c)
		}
	}
	s.mu.Unlock()
	for _, c := range watchers {
		c.send(s.presenceNode(p, unavailable))
	}
}

// takeChatState passes on that somebody types on a linked device.
func (s *Server) takeChatState(d *device, n *Node) {
	where, ok := s.destination(d.World, n)
	states, _ := n.Content.([]Node)
	if !ok || len(states) != 1 {
		return
	}
	s.tellTyping(d.person(), where, states[0])
}

// tellTyping tells the available devices of a chat that somebody types there.
// Nothing waits for those that are not.
func (s *Server) tellTyping(by person, where place, state Node) {
	people := []person{where.other}
	n := Node{Tag: "chatstate", Attrs: Attrs{"from": s.lidOf(by, 0), "sender_pn": s.jidOf(by, 0)}, Content: []Node{state}}
	if where.group != "" {
		g, err := s.groupFor(by, where.group)
		if err != nil {
			return
		}
		people = without(g.people(), by)
		n.Attrs = Attrs{"from": g.jid()}
		s.nameParticipant(&n, by, 0, g.lids())
	}
	for _, p := range people {
		for _, d := range s.linkedTo(p) {
			s.mu.Lock()
			c := d.conn
			listens := c != nil && c.available
			s.mu.Unlock()
			if listens {
				c.send(n)
			}
		}
	}
}

var typingStates = map[string]Node{
	"": {Tag: "composing"}, "typing": {Tag: "composing"}, "recording": {Tag: "composing", Attrs: Attrs{"media": "audio"}}, "paused": {Tag: "paused"},
}

func (s *Server) actTyping(_ context.Context, p person, a *Action) (Done, error) {
	state, ok := typingStates[a.State]
	if !ok {
		return Done{}, badRequest("state must be typing, recording or paused")
	}
	where := place{world: p.world, group: a.Group}
	if a.Group == "" {
		other, err := personNamed(p.world, a.To)
		if err != nil {
			return Done{}, err
		}
		where.other = other
	} else if _, err := s.groupFor(p, a.Group); err != nil {
		return Done{}, err
	}
	s.tellTyping(p, where, state)
	return Done{}, nil
}
