package whatsapp

import (
	"cmp"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"strconv"

	crand "crypto/rand"

	waBinary "go.mau.fi/whatsmeow/binary"
	"go.mau.fi/whatsmeow/types"
)

// A stanza for a device is stored before it is sent, and stays until the
// device acknowledges it: a message by a receipt or an ack, a receipt or a
// notification by an ack. What is not acknowledged is sent again after the
// next login, in order.

// queued is one stored stanza.
type queued struct {
	Class  string `json:"class"` // the stanza's tag
	ID     string `json:"id"`
	Key    string `json:"key,omitempty"` // see queueKeyOf
	Stanza []byte `json:"stanza"`
}

func (q *queued) key() string { return cmp.Or(q.Key, q.Class+" "+q.ID) }

// queueKeyOf is what tells one stored stanza from another when a device
// acknowledges it. The sender of a message chooses its id, and many tell of many
// things under a message's id.
func queueKeyOf(class, id, kind string, from, participant types.JID) string {
	key := class + " " + id
	switch class {
	case "message":
		key += " " + from.User + " " + participant.User
	case "receipt":
		key += " " + from.User + " " + participant.String() + " " + kind
	}
	return key
}

func (d *device) queueKey(position uint64) []byte {
	return append(d.name().key(), order64(position)...)
}

// waits says that a stored stanza was not acknowledged; one that was may be in the
// file for a little longer. The caller holds the queue.
func (d *device) waits(item *queued, key []byte) bool {
	position, ok := d.pending[item.key()]
	return ok && position == binary.BigEndian.Uint64(key[len(key)-8:])
}

// loadQueue finds what waits for a device at start.
func (d *device) loadQueue(tx *tx) error {
	prefix := d.name().key()
	err := under(tx.Bucket(bucketQueue), prefix, func(key, value []byte) error {
		var item queued
		if err := json.Unmarshal(value, &item); err != nil {
			return err
		}
		if d.pending == nil {
			d.pending = map[string]uint64{}
		}
		d.pending[item.key()] = binary.BigEndian.Uint64(key[len(prefix):])
		return nil
	})
	d.queued = len(d.pending)
	return err
}

// acknowledge forgets a stored stanza. It leaves the file with the next transaction:
// if the process is killed before, the device gets it again.
func (s *Server) acknowledge(d *device, key string) {
	d.queueLock.Lock()
	defer d.queueLock.Unlock()
	position, ok := d.pending[key]
	if !ok {
		return
	}
	if delete(d.pending, key); len(d.pending) == 0 {
		d.pending = nil
	}
	s.mu.Lock()
	d.queued = len(d.pending)
	s.mu.Unlock()
	if err := s.db.drop(d.queueKey(position)); err != nil {
		s.log.Error("cannot forget a stanza", "error", err)
	}
}

// acknowledged takes a client's ack.
func (s *Server) acknowledged(d *device, n *Node) {
	s.acknowledge(d, queueKeyOf(str(n, "class"), str(n, "id"), str(n, "type"), jidAttr(n, "to"), jidAttr(n, "participant")))
}

// deliverQueue sends a device what waited for it, and lets new stanzas through
// from then on.
func (s *Server) deliverQueue(c *conn) {
	s.mu.Lock()
	d := c.device
	s.mu.Unlock()
	if d == nil {
		return
	}
	d.queueLock.Lock()
	defer d.queueLock.Unlock()
	var stanzas []Node
	count := map[string]int{}
	err := s.db.view(func(tx *tx) error {
		return under(tx.Bucket(bucketQueue), d.name().key(), func(key, value []byte) error {
			var item queued
			if err := json.Unmarshal(value, &item); err != nil || !d.waits(&item, key) {
				return err
			}
			n, err := waBinary.Unmarshal(item.Stanza)
			if err != nil {
				return err
			}
			n.Attrs["offline"] = strconv.Itoa(len(stanzas))
			stanzas = append(stanzas, *n)
			count[item.Class]++
			return nil
		})
	})
	if err != nil {
		s.log.Error("cannot read a device's queue", "error", err)
		c.close("internal error")
		return
	}
	c.send(Node{Tag: "ib", Attrs: Attrs{"from": types.ServerJID}, Content: []Node{{Tag: "offline_preview", Attrs: Attrs{
		"count":        strconv.Itoa(len(stanzas)),
		"appdata":      "0",
		"message":      strconv.Itoa(count["message"]),
		"notification": strconv.Itoa(count["notification"]),
		"receipt":      strconv.Itoa(count["receipt"]),
	}}}})
	for _, n := range stanzas {
		c.send(n)
	}
	c.send(Node{Tag: "ib", Attrs: Attrs{"from": types.ServerJID}, Content: []Node{{Tag: "offline", Attrs: Attrs{
		"count": strconv.Itoa(len(stanzas)),
	}}}})
	s.mu.Lock()
	c.live = true
	s.mu.Unlock()
}

// notify stores and sends a notification.
func (s *Server) notify(d *device, n Node) {
	if _, ok := n.Attrs["from"]; !ok {
		n.Attrs["from"] = types.ServerJID
	}
	n.Attrs["id"] = newID("")
	n.Attrs["t"] = strconv.FormatInt(s.now().Unix(), 10)
	if err := s.push(d, n); err != nil {
		s.log.Error("cannot notify a device", "error", err)
	}
}

// newID makes an id as phones do for their messages.
func newID(prefix string) string {
	var raw [16]byte
	_, _ = crand.Read(raw[:])
	id := []byte(prefix + hex.EncodeToString(raw[len(prefix)/2:]))
	for i, b := range id {
		if b >= 'a' {
			id[i] = b - 'a' + 'A'
		}
	}
	return string(id)
}
