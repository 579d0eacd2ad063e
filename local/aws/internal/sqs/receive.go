package sqs

import (
	"context"
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.etcd.io/bbolt"

	"whatisup/local/aws/internal/store"
	"whatisup/local/aws/internal/wire"
)

// received is one message as it is handed out.
type received struct {
	MessageID     string `json:"MessageId"`
	ReceiptHandle string
	MD5           string                    `json:"MD5OfBody"`
	Body          string                    `json:"Body"`
	Attributes    map[string]string         `json:",omitempty"`
	MD5Attributes string                    `json:"MD5OfMessageAttributes,omitempty"`
	Message       map[string]attributeValue `json:"MessageAttributes,omitempty"`
}

type attributeValue struct {
	DataType    string
	StringValue string `json:",omitempty"`
	BinaryValue []byte `json:",omitempty"`
}

// reception is what a ReceiveMessage asks for.
type reception struct {
	max     int
	hide    time.Duration
	wait    time.Duration
	system  []string
	message []string
}

var systemAttributes = []string{
	"All", "SenderId", "SentTimestamp", "ApproximateReceiveCount", "ApproximateFirstReceiveTimestamp", "SequenceNumber",
	"MessageDeduplicationId", "MessageGroupId", "AWSTraceHeader", "DeadLetterQueueSourceArn",
}

func readReception(d *definition, in *wire.Node) (*reception, error) {
	rc := &reception{
		max:  in.Int("MaxNumberOfMessages", 1),
		hide: time.Duration(in.Int("VisibilityTimeout", d.number("VisibilityTimeout"))) * time.Second,
		wait: time.Duration(in.Int("WaitTimeSeconds", d.number("ReceiveMessageWaitTimeSeconds"))) * time.Second,
	}
	switch {
	case rc.max < 1 || rc.max > 10:
		return nil, badValue(rc.max, "MaxNumberOfMessages", "Must be between 1 and 10, if provided.")
	case rc.wait < 0 || rc.wait > 20*time.Second:
		return nil, badValue(in.Int("WaitTimeSeconds", 0), "WaitTimeSeconds", "Must be >= 0 and <= 20, if provided.")
	case rc.hide < 0 || rc.hide > maxHide:
		return nil, badValue(in.Int("VisibilityTimeout", 0), "VisibilityTimeout", "Must be between 0 and 43200, if provided.")
	}
	for _, member := range []string{"AttributeNames", "MessageSystemAttributeNames"} {
		for _, n := range in.Get(member).List {
			if !slices.Contains(systemAttributes, n.Text) {
				return nil, invalidAttribute(n.Text)
			}
			rc.system = append(rc.system, n.Text)
		}
	}
	for _, n := range in.Get("MessageAttributeNames").List {
		rc.message = append(rc.message, n.Text)
	}
	return rc, nil
}

const maxHide = 12 * time.Hour

// receiveMessage hands out what is visible; if nothing is, it waits until
// something may be.
func (s *Service) receiveMessage(ctx context.Context, r *Request) (any, error) {
	q, err := s.target(r.Input)
	if err != nil {
		return nil, err
	}
	rc, err := readReception(q.definition(), r.Input)
	if err != nil {
		return nil, err
	}
	deadline := time.Now().Add(rc.wait)
	for {
		change := q.changed()
		messages, next, err := s.take(q, rc)
		if err != nil {
			return nil, err
		}
		if len(messages) > 0 {
			return map[string]any{"Messages": messages}, nil
		}
		left := time.Until(deadline)
		if left <= 0 {
			return map[string]any{}, nil
		}
		if !s.pause(ctx, change, min(left, next)) {
			return map[string]any{}, nil
		}
	}
}

// pause waits for a change or for a time to pass; false means give up.
func (s *Service) pause(ctx context.Context, change <-chan struct{}, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-change:
	case <-timer.C:
	case <-s.closed:
		return false
	case <-ctx.Done():
		return false
	}
	return true
}

// take receives once. If there is nothing, next says when the clock alone may
// bring something.
func (s *Service) take(q *queue, rc *reception) (out []*received, next time.Duration, err error) {
	d := q.definition()
	now := s.Clock()
	found := false
	next = time.Hour
	err = s.Store.View(func(tx *bbolt.Tx) error {
		data := d.bucket(tx)
		if data == nil {
			return errNoQueue
		}
		ready, at := s.available(d, data, now.UnixMilli(), 1)
		found = len(ready) > 0
		if at > 0 {
			next = time.Duration(max(1, at-now.UnixMilli())) * time.Millisecond
		}
		return nil
	})
	if err != nil || !found {
		return nil, next, err
	}
	var wake []*queue
	err = s.Store.Update(func(tx *bbolt.Tx) error {
		out, wake = nil, nil
		data := d.bucket(tx)
		if data == nil {
			return errNoQueue
		}
		now := s.Clock().UnixMilli()
		moved := map[uint64]bool{}
		for len(out) < rc.max {
			ready, _ := s.available(d, data, now, rc.max-len(out))
			if len(ready) == 0 {
				break
			}
			again := false
			for _, sequence := range ready {
				st := readState(data.Bucket(statesBucket).Get(sequenceKey(sequence)))
				if dlq := s.redrive(tx, d, data, sequence, st, now); dlq != nil {
					wake = append(wake, dlq)
					again = !moved[sequence]
					moved[sequence] = true
					continue
				}
				out = append(out, s.hand(d, data, sequence, st, now, rc))
			}
			if !again || len(out) > 0 {
				break
			}
		}
		return nil
	})
	for _, w := range wake {
		w.notify()
	}
	if len(out) == 0 {
		next = time.Millisecond // somebody else was faster, or all was moved on
	}
	return out, next, err
}

// available lists up to max messages that can be received, in order; at is
// when the next one will be if nothing else happens (0: never).
func (s *Service) available(d *definition, data *bbolt.Bucket, now int64, max int) (ready []uint64, at int64) {
	if d.fifo() {
		return d.availableInOrder(data, now, max, s.SearchWindow)
	}
	states := data.Bucket(statesBucket)
	c := data.Bucket(orderBucket).Cursor()
	for k, _ := c.First(); k != nil && len(ready) < max; k, _ = c.Next() {
		if visible := int64(binary.BigEndian.Uint64(k)); visible > now {
			return ready, visible
		}
		sequence := binary.BigEndian.Uint64(k[8:])
		if !d.expired(readState(states.Get(sequenceKey(sequence))), now) {
			ready = append(ready, sequence)
		}
	}
	return ready, 0
}

// availableInOrder leaves out the groups that have a message in flight, and
// what stands behind a message that cannot be received yet. It looks at no more
// than the first messages of the queue, as SQS does: behind a backlog of that
// many in groups that are not free, other groups are not found.
func (d *definition) availableInOrder(data *bbolt.Bucket, now int64, max, window int) (ready []uint64, at int64) {
	states := data.Bucket(statesBucket)
	order := data.Bucket(orderBucket)
	locked := map[string]bool{}
	later := func(visible int64) {
		if at == 0 || visible < at {
			at = visible
		}
	}
	flight := data.Bucket(flightBucket).Cursor()
	for k, _ := flight.First(); k != nil; k, _ = flight.Next() {
		if st := readState(states.Get(k)); st.visible > now && !d.expired(st, now) {
			locked[string(order.Get(k))] = true
			later(st.visible)
		}
	}
	c := order.Cursor()
	for k, group := c.First(); k != nil && len(ready) < max && window > 0; k, group = c.Next() {
		window--
		if locked[string(group)] {
			continue
		}
		switch st := readState(states.Get(k)); {
		case d.expired(st, now):
		case st.visible > now:
			locked[string(group)] = true
			later(st.visible)
		default:
			ready = append(ready, binary.BigEndian.Uint64(k))
		}
	}
	return ready, at
}

// redrive moves a message to the dead-letter queue if it was received too
// often; it returns that queue, or nil if the message stays.
func (s *Service) redrive(tx *bbolt.Tx, d *definition, data *bbolt.Bucket, sequence uint64, st state, now int64) *queue {
	target, limit, ok := d.redrive()
	if !ok || st.count < uint64(limit) {
		return nil
	}
	dlq, err := s.queue(target)
	if err != nil {
		return nil
	}
	dead := dlq.definition()
	there := dead.bucket(tx)
	if there == nil {
		return nil
	}
	m := loadBody(data, sequence)
	m.Source = d.ARN
	d.remove(data, sequence, st)
	next := state{visible: now, sent: st.sent, first: st.first, count: st.count}
	if dead.fifo() {
		next.sent = now // a FIFO queue's messages begin their retention anew
	}
	dead.add(there, m, next)
	return dlq
}

// hand gives a message out: hides it and writes its receipt.
func (s *Service) hand(d *definition, data *bbolt.Bucket, sequence uint64, st state, now int64, rc *reception) *received {
	m := loadBody(data, sequence)
	old := st
	st.count++
	if st.first == 0 {
		st.first = now
	}
	st.receipt = rand.Uint64() | 1
	st.visible = now + rc.hide.Milliseconds()
	if s.Duplicate(d.Name) {
		st.visible = now
	}
	d.update(data, sequence, old, st)
	out := &received{MessageID: m.ID, ReceiptHandle: d.handle(sequence, st.receipt), MD5: md5Hex(m.Text), Body: m.Text}
	out.Attributes = s.systemOf(d, m, sequence, st, rc.system)
	var shown []messageAttribute
	for _, a := range m.Attributes {
		if asked(rc.message, a.Name) {
			shown = append(shown, a)
		}
	}
	if shown != nil {
		out.MD5Attributes = md5OfAttributes(shown)
		out.Message = map[string]attributeValue{}
		for _, a := range shown {
			out.Message[a.Name] = attributeValue{a.Type, a.Text, a.Binary}
		}
	}
	return out
}

// asked says whether a list of names, "All" and "prefix.*" names an attribute.
func asked(names []string, name string) bool {
	return slices.ContainsFunc(names, func(n string) bool {
		prefix, wild := strings.CutSuffix(n, "*")
		return n == "All" || n == name || wild && strings.HasPrefix(name, strings.TrimSuffix(prefix, "."))
	})
}

func (s *Service) systemOf(d *definition, m *body, sequence uint64, st state, names []string) map[string]string {
	if len(names) == 0 {
		return nil
	}
	all := map[string]string{
		"SenderId":                         "AIDA" + account,
		"SentTimestamp":                    strconv.FormatInt(st.sent, 10),
		"ApproximateReceiveCount":          strconv.FormatUint(st.count, 10),
		"ApproximateFirstReceiveTimestamp": strconv.FormatInt(st.first, 10),
		"MessageGroupId":                   m.Group,
		"AWSTraceHeader":                   m.Trace,
		"DeadLetterQueueSourceArn":         m.Source,
	}
	if d.fifo() {
		all["SequenceNumber"] = sequenceNumber(sequence)
		all["MessageDeduplicationId"] = m.Dedup
	}
	out := map[string]string{}
	for a, v := range all {
		if v != "" && (slices.Contains(names, "All") || slices.Contains(names, a)) {
			out[a] = v
		}
	}
	return out
}

// Sweep removes messages whose retention is over and deduplication ids whose
// time is, a few at a time.
func (s *Service) Sweep(ctx context.Context) error {
	s.mu.RLock()
	queues := make([]*queue, 0, len(s.queues))
	for _, q := range s.queues {
		queues = append(queues, q)
	}
	s.mu.RUnlock()
	for _, q := range queues {
		d := q.definition()
		for ctx.Err() == nil {
			dead, ids, err := s.stale(d)
			if err != nil {
				return err
			}
			if len(dead)+len(ids) == 0 {
				break
			}
			err = s.Store.Update(func(tx *bbolt.Tx) error {
				data := d.bucket(tx)
				if data == nil {
					return nil
				}
				for _, sequence := range dead {
					if v := data.Bucket(statesBucket).Get(sequenceKey(sequence)); v != nil {
						d.remove(data, sequence, readState(v))
					}
				}
				now := s.Clock().UnixMilli()
				for _, id := range ids {
					if v := data.Bucket(dedupBucket).Get(id); v != nil && int64(binary.BigEndian.Uint64(v)) <= now {
						store.Must(data.Bucket(dedupBucket).Delete(id))
					}
				}
				return nil
			})
			if err != nil {
				return err
			}
		}
	}
	return ctx.Err()
}

const sweepStep = 100

func (s *Service) stale(d *definition) (dead []uint64, ids [][]byte, err error) {
	now := s.Clock().UnixMilli()
	err = s.Store.View(func(tx *bbolt.Tx) error {
		data := d.bucket(tx)
		if data == nil {
			return nil
		}
		c := data.Bucket(statesBucket).Cursor()
		// Messages stand in the order in which they were sent.
		for k, v := c.First(); k != nil && len(dead) < sweepStep && d.expired(readState(v), now); k, v = c.Next() {
			dead = append(dead, binary.BigEndian.Uint64(k))
		}
		c = data.Bucket(dedupBucket).Cursor()
		for k, v := c.First(); k != nil && len(ids) < sweepStep; k, v = c.Next() {
			if int64(binary.BigEndian.Uint64(v)) <= now {
				ids = append(ids, slices.Clone(k))
			}
		}
		return nil
	})
	return dead, ids, err
}
