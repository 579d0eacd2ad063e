package whatsapp

import (
	"cmp"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strconv"

	crand "crypto/rand"

	"go.etcd.io/bbolt"

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

// push stores a stanza for a device and sends it if the device is listening.
// With a phone, the phone's sessions are stored in the same transaction.
func (s *Server) push(d *device, n Node, from *phone) error {
	stanza, err := waBinary.Marshal(n)
	if err != nil {
		return fmt.Errorf("encode a stanza: %w", err)
	}
	item := queued{Class: n.Tag, ID: str(&n, "id"), Stanza: stanza[1:]}
	item.Key = queueKeyOf(n.Tag, item.ID, str(&n, "type"), jidAttr(&n, "from"), jidAttr(&n, "participant"))
	d.queueLock.Lock()
	defer d.queueLock.Unlock()
	var position uint64
	var dropped int
	err = s.db.bolt.Update(func(tx *bbolt.Tx) error {
		if from != nil {
			if err := from.commit(tx); err != nil {
				return err
			}
		}
		if tx.Bucket(bucketDevices).Get(d.name().key()) == nil {
			return nil // unlinked by now
		}
		bucket := tx.Bucket(bucketQueue)
		if before, ok := d.pending[item.key()]; ok {
			if err := bucket.Delete(d.queueKey(before)); err != nil {
				return err
			}
		}
		var err error
		if dropped, err = s.trimQueue(bucket, d); err != nil {
			return err
		}
		if position, err = bucket.NextSequence(); err != nil {
			return err
		}
		return putJSON(bucket, d.queueKey(position), item)
	})
	if err != nil {
		return fmt.Errorf("store a stanza: %w", err)
	}
	if position == 0 {
		return nil
	}
	if dropped > 0 {
		s.log.Warn("a device's queue is full: its oldest stanza was dropped", "world", d.World, "instance", d.Instance)
	}
	if d.pending == nil {
		d.pending = map[string]uint64{}
	}
	d.pending[item.key()] = position
	s.mu.Lock()
	d.queued = len(d.pending)
	c := d.conn
	live := c != nil && c.live
	s.mu.Unlock()
	if live {
		c.send(n)
	}
	return nil
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

func (s *Server) trimQueue(bucket *bbolt.Bucket, d *device) (int, error) {
	if len(d.pending) < s.cfg.QueueLimit {
		return 0, nil
	}
	cursor, prefix := bucket.Cursor(), d.name().key()
	key, value := cursor.Seek(prefix)
	if key == nil || len(key) != len(prefix)+8 || string(key[:len(prefix)]) != string(prefix) {
		return 0, nil
	}
	var item queued
	if err := json.Unmarshal(value, &item); err != nil {
		return 0, err
	}
	delete(d.pending, item.key())
	return 1, bucket.Delete(append([]byte(nil), key...))
}

// loadQueue finds what waits for a device at start.
func (d *device) loadQueue(tx *bbolt.Tx) error {
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

// acknowledge forgets a stored stanza.
func (s *Server) acknowledge(d *device, key string) {
	d.queueLock.Lock()
	defer d.queueLock.Unlock()
	position, ok := d.pending[key]
	if !ok {
		return
	}
	err := s.db.bolt.Update(func(tx *bbolt.Tx) error {
		return tx.Bucket(bucketQueue).Delete(d.queueKey(position))
	})
	if err != nil {
		s.log.Error("cannot forget a stanza", "error", err)
		return
	}
	if delete(d.pending, key); len(d.pending) == 0 {
		d.pending = nil
	}
	s.mu.Lock()
	d.queued = len(d.pending)
	s.mu.Unlock()
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
	err := s.db.bolt.View(func(tx *bbolt.Tx) error {
		return under(tx.Bucket(bucketQueue), d.name().key(), func(_, value []byte) error {
			var item queued
			if err := json.Unmarshal(value, &item); err != nil {
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
	if err := s.push(d, n, nil); err != nil {
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
