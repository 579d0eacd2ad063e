package whatsapp

import (
	"cmp"
	"context"
	"net/http"
	"strconv"
	"sync"
	"time"

	"go.mau.fi/whatsmeow/types"
)

// calls are those that ring. They end with the process.
type calls struct {
	mu   sync.Mutex
	list map[string]call // by id
}

type call struct {
	from, to person
	group    string
	video    bool
	began    time.Time
}

const maxCalls = 10_000

// callNode is something about a call, as the callee's devices get it.
func (s *Server) callNode(id string, c call, tag string, attrs Attrs) Node {
	part := Node{Tag: tag, Attrs: Attrs{"call-id": id, "call-creator": s.lidOf(c.from, 0), "caller_pn": s.jidOf(c.from, 0)}}
	for name, value := range attrs {
		part.Attrs[name] = value
	}
	return Node{Tag: "call", Attrs: Attrs{
		"from": s.lidOf(c.from, 0), "id": newID(""), "t": strconv.FormatInt(s.now().Unix(), 10), "platform": "android", "version": "2.26.10.1",
		"notify": nameOf(c.from),
	}, Content: []Node{part}}
}

func (s *Server) tellCall(id string, c call, tag string, attrs Attrs, media ...Node) {
	people := []person{c.to}
	if c.group != "" {
		people = without(s.membersOf(c.group, c.from.world), c.from)
		jid, _ := types.ParseJID(c.group)
		attrs["group-jid"] = jid
	}
	for _, p := range people {
		if s.blocks(p, c.from) {
			continue
		}
		for _, d := range s.linkedTo(p) {
			n := s.callNode(id, c, tag, attrs)
			if len(media) > 0 {
				n.Content.([]Node)[0].Content = media
			}
			if err := s.push(d, n); err != nil {
				s.log.Error("cannot tell a device of a call", "error", err)
			}
		}
	}
}

// actCall is a person calling somebody, or a group: it rings until somebody
// hangs up.
func (s *Server) actCall(_ context.Context, p person, a *Action) (Done, error) {
	c := call{from: p, group: a.Group, video: a.Video, began: s.now()}
	if a.Group != "" {
		if _, err := s.groupFor(p, a.Group); err != nil {
			return Done{}, err
		}
	} else {
		to, err := personNamed(p.world, a.To)
		if err != nil {
			return Done{}, err
		}
		c.to = to
	}
	id := cmp.Or(a.CallID, newID(""))
	if len(id) > 128 {
		return Done{}, badRequest("call_id is too long")
	}
	s.calls.mu.Lock()
	if s.calls.list == nil || len(s.calls.list) >= maxCalls {
		s.calls.list = map[string]call{}
	}
	_, rings := s.calls.list[p.world+" "+id]
	s.calls.list[p.world+" "+id] = c
	s.calls.mu.Unlock()
	if rings {
		return Done{}, refuse(http.StatusConflict, "call_exists", "a call with this id rings already")
	}

	kind := Node{Tag: "audio", Attrs: Attrs{"enc": "opus", "rate": "16000"}}
	media := []Node{kind}
	if c.video {
		media = append(media, Node{Tag: "video", Attrs: Attrs{"enc": "vp8", "dec": "vp8"}})
	}
	if c.group != "" {
		s.tellCall(id, c, "offer_notice", Attrs{"media": map[bool]string{true: "video", false: "audio"}[c.video], "type": "group"})
	} else {
		s.tellCall(id, c, "offer", Attrs{}, media...)
	}
	return Done{CallID: id}, nil
}

// actHangUp ends a call: the caller gives up, or the called phone answers or
// refuses it (outcome accept or reject).
func (s *Server) actHangUp(_ context.Context, p person, a *Action) (Done, error) {
	id := a.CallID
	s.calls.mu.Lock()
	if id == "" {
		for key, c := range s.calls.list {
			if c.from == p || c.to == p {
				id = key[len(p.world)+1:]
			}
		}
	}
	c, ok := s.calls.list[p.world+" "+id]
	ok = ok && (c.from == p || c.to == p)
	if ok {
		delete(s.calls.list, p.world+" "+id)
	}
	s.calls.mu.Unlock()
	if !ok {
		return Done{}, refuse(http.StatusNotFound, "no_such_call", "no such call rings at this phone")
	}
	switch {
	case a.Outcome == "accept" || a.Outcome == "reject":
		s.tellCall(id, c, a.Outcome, Attrs{})
		s.tellCall(id, c, "terminate", Attrs{"reason": map[string]string{"accept": "accepted_elsewhere", "reject": "rejected_elsewhere"}[a.Outcome]})
	default:
		s.tellCall(id, c, "terminate", Attrs{"reason": cmp.Or(a.Outcome, "timeout")})
	}
	return Done{CallID: id}, nil
}

// takeCall is a device refusing a call.
func (s *Server) takeCall(d *device, n *Node) {
	parts, _ := n.Content.([]Node)
	if len(parts) != 1 || parts[0].Tag != "reject" {
		return
	}
	key := d.World + " " + str(&parts[0], "call-id")
	s.calls.mu.Lock()
	c, ok := s.calls.list[key]
	ok = ok && (c.to == d.person() || c.group != "")
	if ok && c.group == "" {
		delete(s.calls.list, key)
	}
	s.calls.mu.Unlock()
	if !ok || c.group != "" {
		return
	}
	for _, other := range s.linkedTo(d.person()) {
		if other == d {
			continue
		}
		if err := s.push(other, s.callNode(str(&parts[0], "call-id"), c, "terminate", Attrs{"reason": "rejected_elsewhere"})); err != nil {
			s.log.Error("cannot tell a device of a call", "error", err)
		}
	}
}

// Rings says whether a call still does.
func (s *Server) Rings(world, id string) bool {
	s.calls.mu.Lock()
	defer s.calls.mu.Unlock()
	_, ok := s.calls.list[orWorld(world)+" "+id]
	return ok
}
