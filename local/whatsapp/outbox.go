package whatsapp

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"slices"

	waBinary "go.mau.fi/whatsmeow/binary"
)

// outbox collects stanzas for devices, which are then stored in one transaction,
// with what has led to them, and sent to those that are listening.
type outbox struct {
	s       *Server
	letters []*letter
	changes []func(*tx) error // stored with them; see database.update
	after   []func()          // done when all is stored, before anything is sent
}

type letter struct {
	d        *device
	n        Node
	plain    []byte // n, encoded
	key      string // among what waits for the device
	stored   []byte
	position uint64 // in the queue, 0: not stored
	dropped  string // the key of what had to make room
}

// put adds a stanza for a device. The node must not change any more.
func (o *outbox) put(d *device, n Node) error {
	stanza, err := waBinary.Marshal(n)
	if err != nil {
		return fmt.Errorf("encode a stanza: %w", err)
	}
	item := queued{Class: n.Tag, ID: str(&n, "id"), Stanza: stanza[1:]}
	item.Key = queueKeyOf(n.Tag, item.ID, str(&n, "type"), jidAttr(&n, "from"), jidAttr(&n, "participant"))
	o.letters = append(o.letters, &letter{d: d, n: n, plain: stanza, key: item.key(), stored: item.encode()})
	return nil
}

// receipt is put for a receipt, which is not worth to fail for.
func (o *outbox) receipt(d *device, n Node) {
	if err := o.put(d, n); err != nil {
		o.s.log.Error("cannot send a receipt", "error", err)
	}
}

// push stores one stanza for a device and sends it if the device is listening.
func (s *Server) push(d *device, n Node) error {
	o := outbox{s: s}
	if err := o.put(d, n); err != nil {
		return err
	}
	return o.flush()
}

// with adds what is to be stored in the same transaction.
func (o *outbox) with(change func(*tx) error) { o.changes = append(o.changes, change) }

// withScreens is with, for what phones show.
func (o *outbox) withScreens(change func(*tx) error) {
	o.with(change)
	o.then(o.s.screens.changed)
}

// then adds what is to be done when all is stored, and before anything is sent.
func (o *outbox) then(do func()) { o.after = append(o.after, do) }

// flush stores what was collected, and sends it.
func (o *outbox) flush() error {
	if len(o.letters) == 0 && len(o.changes) == 0 {
		return nil
	}
	devices := o.devices()
	for _, d := range devices {
		d.queueLock.Lock()
		defer d.queueLock.Unlock()
	}
	if err := o.s.db.update(func(tx *tx) error {
		for _, change := range o.changes {
			if err := change(tx); err != nil {
				return err
			}
		}
		return o.store(tx)
	}); err != nil {
		return err
	}
	for _, do := range o.after {
		do()
	}
	o.send(devices)
	return nil
}

// devices lists those that something is for, in the order that their queues may be
// locked in.
func (o *outbox) devices() []*device {
	var out []*device
	for _, l := range o.letters {
		out = append(out, l.d)
	}
	slices.SortFunc(out, func(a, b *device) int {
		return cmp.Or(cmp.Compare(a.World, b.World), cmp.Compare(a.Number, b.Number), cmp.Compare(a.ID, b.ID), cmp.Compare(a.KeyIndex, b.KeyIndex))
	})
	return slices.Compact(out)
}

func (o *outbox) store(tx *tx) error {
	bucket := tx.Bucket(bucketQueue)
	for i, l := range o.letters {
		l.position, l.dropped = 0, ""
		if tx.Bucket(bucketDevices).Get(l.d.name().key()) == nil {
			continue // unlinked by now
		}
		if err := o.replace(bucket, i); err != nil {
			return err
		}
		if err := o.trim(bucket, i); err != nil {
			return err
		}
		var err error
		if l.position, err = bucket.NextSequence(); err != nil {
			return err
		}
		if err := bucket.Put(l.d.queueKey(l.position), l.stored); err != nil {
			return err
		}
	}
	return nil
}

// replace removes what waits under the key of a letter.
func (o *outbox) replace(bucket *bucket, i int) error {
	l := o.letters[i]
	if before, ok := l.d.pending[l.key]; ok {
		if err := bucket.Delete(l.d.queueKey(before)); err != nil {
			return err
		}
	}
	for _, other := range o.letters[:i] {
		if other.d == l.d && other.key == l.key && other.position != 0 {
			if err := bucket.Delete(l.d.queueKey(other.position)); err != nil {
				return err
			}
		}
	}
	return nil
}

// trim makes room for a letter, if the device's queue is full.
func (o *outbox) trim(bucket *bucket, i int) error {
	l := o.letters[i]
	before := 0
	for _, other := range o.letters[:i] {
		if other.d == l.d && other.dropped == "" {
			before++
		}
	}
	if len(l.d.pending)+before < o.s.cfg.QueueLimit {
		return nil
	}
	cursor, prefix := bucket.Cursor(), l.d.name().key()
	for key, value := cursor.Seek(prefix); len(key) == len(prefix)+8 && bytes.HasPrefix(key, prefix); key, value = cursor.Next() {
		var item queued
		if err := json.Unmarshal(value, &item); err != nil {
			return err
		}
		if !l.d.waits(&item, key) {
			continue // acknowledged, and soon deleted
		}
		l.dropped = item.key()
		return bucket.Delete(bytes.Clone(key))
	}
	return nil
}

// send lets devices that are listening have what was stored. The caller holds their
// queues.
func (o *outbox) send(devices []*device) {
	for _, l := range o.letters {
		if l.position == 0 {
			continue
		}
		if l.dropped != "" {
			delete(l.d.pending, l.dropped)
			o.s.log.Warn("a device's queue is full: its oldest stanza was dropped", "world", l.d.World, "instance", l.d.Instance)
		}
		if l.d.pending == nil {
			l.d.pending = map[string]uint64{}
		}
		l.d.pending[l.key] = l.position
	}
	conns := make(map[*device]*conn, len(devices))
	o.s.mu.Lock()
	for _, d := range devices {
		d.queued = len(d.pending)
		if d.conn != nil && d.conn.live {
			conns[d] = d.conn
		}
	}
	o.s.mu.Unlock()
	for _, l := range o.letters {
		if c := conns[l.d]; c != nil && l.position != 0 {
			c.sendEncoded(l.n, l.plain)
		}
	}
}
