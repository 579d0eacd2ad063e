package whatsapp

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"time"

	"go.mau.fi/whatsmeow/proto/waWa6"
)

// failure is the answer to a login or registration that is refused.
type failure struct {
	reason  int
	code    int           // of a temporary ban
	expires time.Duration // of a temporary ban
}

func (f failure) node() Node {
	attrs := Attrs{"reason": strconv.Itoa(f.reason), "location": "sim"}
	if f.reason == 402 {
		attrs["code"] = strconv.Itoa(f.code)
		attrs["expire"] = strconv.FormatInt(int64((f.expires+time.Second-1)/time.Second), 10)
	}
	return Node{Tag: "failure", Attrs: attrs}
}

// admit decides what a client that has shaken hands may do: log in as a
// device that its Noise key proves, register as a new one, or nothing.
func (c *conn) admit(shaken *session) error {
	payload := shaken.payload
	version := versionOf(payload)
	c.s.record(c, In, payloadNode(payload, version))
	if refused, ok := c.s.outdated(c, version); ok {
		c.sendLast(refused.node())
		return nil
	}
	if payload.DevicePairingData != nil {
		return c.register(shaken)
	}
	return c.login(shaken)
}

func versionOf(payload *waWa6.ClientPayload) [3]uint32 {
	v := payload.GetUserAgent().GetAppVersion()
	return [3]uint32{v.GetPrimary(), v.GetSecondary(), v.GetTertiary()}
}

// outdated refuses clients below the minimum version, with 405.
func (s *Server) outdated(c *conn, version [3]uint32) (failure, bool) {
	minimum := s.cfg.MinVersion
	if f := s.meets(kindMinVersion, c); f != nil && slices.Compare(f.version[:], minimum[:]) > 0 {
		minimum = f.version
	}
	return failure{reason: 405}, slices.Compare(version[:], minimum[:]) < 0
}

func payloadNode(payload *waWa6.ClientPayload, version [3]uint32) *Node {
	n := &Node{Tag: "login", Attrs: Attrs{"version": fmt.Sprintf("%d.%d.%d", version[0], version[1], version[2])}}
	if payload.DevicePairingData != nil {
		n.Tag = "registration"
		return n
	}
	n.Attrs["username"] = strconv.FormatUint(payload.GetUsername(), 10)
	n.Attrs["device"] = strconv.FormatUint(uint64(payload.GetDevice()), 10)
	n.Attrs["passive"] = strconv.FormatBool(payload.GetPassive())
	return n
}

func (c *conn) login(shaken *session) error {
	s, payload := c.s, shaken.payload
	name := deviceName{person{c.world, strconv.FormatUint(payload.GetUsername(), 10)}, uint16(payload.GetDevice())}
	s.mu.Lock()
	d := s.devices[name]
	if d == nil || !bytes.Equal(d.Noise, shaken.client[:]) {
		s.mu.Unlock()
		// Unlinked, never linked, or somebody else's key: one answer for all.
		c.sendLast(failure{reason: 401}.node())
		return nil
	}
	if c.instance == "" {
		c.instance = d.Instance
	} else {
		d.Instance = c.instance
	}
	c.device = d
	s.mu.Unlock()

	if s.meets(kindUnreachable, c) != nil {
		c.close("unreachable")
		return nil
	}
	if s.meets(kindSilent, c) != nil {
		c.goDeaf(s.faultEnd(kindSilent, c))
		return nil
	}
	if refused, remove, ok := s.refused(c); ok {
		if remove {
			return s.forgetAndTell(c, d, refused.node())
		}
		s.detach(c)
		c.sendLast(refused.node())
		return nil
	}

	s.mu.Lock()
	if s.devices[name] != d { // unlinked in this moment
		s.mu.Unlock()
		c.sendLast(failure{reason: 401}.node())
		return nil
	}
	before := d.conn
	d.conn, d.since = c, s.now()
	d.logins++
	c.active = !payload.GetPassive()
	s.mu.Unlock()
	if before != nil {
		before.sendLast(*streamError("", "replaced"))
	}
	c.send(Node{Tag: "success", Attrs: Attrs{
		"t":        strconv.FormatInt(s.now().Unix(), 10),
		"lid":      s.lidOf(d.person(), d.ID),
		"location": "sim",
		"props":    "27",
		"creation": strconv.FormatInt(d.LinkedAt.Unix(), 10),
	}})
	if s.meets(kindReplaced, c) != nil {
		c.sendLast(*streamError("", "replaced"))
		return nil
	}
	if payload.GetPassive() {
		s.activateLater(c)
	} else {
		s.deliverQueue(c)
	}
	return nil
}

// detach undoes that a connection belongs to a device.
func (s *Server) detach(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c.device = nil
}

// forgetAndTell ends a link in the answer to its own login.
func (s *Server) forgetAndTell(c *conn, d *device, farewell Node) error {
	err := s.forget(d, nil)
	s.detach(c)
	c.sendLast(farewell)
	return err
}

// activate marks a passive connection active and delivers what waited.
func (s *Server) activate(c *conn) {
	s.mu.Lock()
	was := c.active
	c.active = true
	if c.passive != nil {
		c.passive.Stop()
		c.passive = nil
	}
	s.mu.Unlock()
	if !was {
		s.deliverQueue(c)
	}
}

// activateLater serves clients that stay passive: after a grace they get
// their stanzas all the same.
func (s *Server) activateLater(c *conn) {
	timer := time.AfterFunc(s.cfg.PassiveGrace, func() {
		if !c.ended() {
			s.activate(c)
		}
	})
	s.mu.Lock()
	c.passive = timer
	s.mu.Unlock()
}
