package sqs

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"regexp"
	"time"

	"github.com/google/uuid"
	"go.etcd.io/bbolt"

	"whatisup/local/aws/internal/store"
	"whatisup/local/aws/internal/wire"
)

// dedupFor is how long a deduplication id is remembered, whatever becomes of
// its message.
const dedupFor = 5 * time.Minute

// sent is the answer to one message.
type sent struct {
	ID             string `json:"Id,omitempty"` // of the batch's entry
	MessageID      string `json:"MessageId"`
	MD5            string `json:"MD5OfMessageBody"`
	MD5Attributes  string `json:"MD5OfMessageAttributes,omitempty"`
	MD5System      string `json:"MD5OfMessageSystemAttributes,omitempty"`
	SequenceNumber string `json:"SequenceNumber,omitempty"`
}

// sequenceNumber prints a FIFO queue's sequence as SQS does: 20 digits.
func sequenceNumber(sequence uint64) string {
	return fmt.Sprintf("%020d", 18_000_000_000_000_000_000+sequence<<8)
}

// prepared is a message that has passed every check.
type prepared struct {
	*body
	delay time.Duration
	entry string
}

func (s *Service) prepare(d *definition, n *wire.Node) (*prepared, error) {
	m, err := d.readBody(n)
	if err != nil {
		return nil, err
	}
	m.ID = uuid.NewString()
	p := &prepared{body: m, delay: d.seconds("DelaySeconds"), entry: n.Str("Id")}
	if n.Has("DelaySeconds") && !d.fifo() {
		p.delay = time.Duration(n.Int("DelaySeconds", 0)) * time.Second
	}
	p.delay += s.Late(d.Name)
	if d.fifo() && m.Dedup == "" {
		sum := sha256.Sum256([]byte(m.Text))
		m.Dedup = hex.EncodeToString(sum[:])
	}
	return p, nil
}

// post puts a message into the queue, unless it is the copy of one.
func (s *Service) post(d *definition, data *bbolt.Bucket, p *prepared) *sent {
	now := s.Clock()
	answer := &sent{ID: p.entry, MessageID: p.body.ID, MD5: md5Hex(p.Text)}
	if len(p.Attributes) > 0 {
		answer.MD5Attributes = md5OfAttributes(p.Attributes)
	}
	if p.Trace != "" {
		answer.MD5System = md5OfAttributes([]messageAttribute{{Name: "AWSTraceHeader", Type: "String", Text: p.Trace}})
	}
	var key []byte
	if d.fifo() {
		key = []byte(p.Dedup)
		if d.Attributes["DeduplicationScope"] == "messageGroup" {
			key = []byte(p.Group + "\x00" + p.Dedup)
		}
		if v := data.Bucket(dedupBucket).Get(key); v != nil && int64(binary.BigEndian.Uint64(v)) > now.UnixMilli() {
			answer.SequenceNumber = sequenceNumber(binary.BigEndian.Uint64(v[8:]))
			answer.MessageID = string(v[16:])
			return answer
		}
	}
	sequence := d.add(data, p.body, state{visible: now.Add(p.delay).UnixMilli(), sent: now.UnixMilli()})
	if d.fifo() {
		answer.SequenceNumber = sequenceNumber(sequence)
		v := binary.BigEndian.AppendUint64(nil, uint64(now.Add(dedupFor).UnixMilli()))
		v = binary.BigEndian.AppendUint64(v, sequence)
		store.Must(data.Bucket(dedupBucket).Put(key, append(v, p.body.ID...)))
	}
	return answer
}

func (s *Service) sendMessage(_ context.Context, r *Request) (any, error) {
	q, err := s.target(r.Input)
	if err != nil {
		return nil, err
	}
	d := q.definition()
	p, err := s.prepare(d, r.Input)
	if err != nil {
		return nil, err
	}
	var answer *sent
	err = s.Store.Update(func(tx *bbolt.Tx) error {
		data := d.bucket(tx)
		if data == nil {
			return errNoQueue
		}
		answer = s.post(d, data, p)
		return nil
	})
	if err != nil {
		return nil, err
	}
	q.notify()
	return answer, nil
}

// failed is an entry of a batch that did not come off.
type failed struct {
	ID          string `json:"Id"`
	Code        string
	Message     string
	SenderFault bool
}

func failure(id string, err error) (failed, error) {
	e, ok := err.(*wire.Error)
	if !ok {
		return failed{}, err
	}
	code := e.QueryCode
	for i := range code {
		if code[i] == ';' {
			code = code[:i]
			break
		}
	}
	return failed{id, code, e.Message, true}, nil
}

// batch is the answer to a batch.
type batch struct {
	Successful []any
	Failed     []failed
}

// MarshalJSON leaves Failed out if it is empty, as SQS does.
func (b *batch) MarshalJSON() ([]byte, error) {
	out := map[string]any{}
	if len(b.Successful) > 0 {
		out["Successful"] = b.Successful
	}
	if len(b.Failed) > 0 {
		out["Failed"] = b.Failed
	}
	return json.Marshal(out)
}

func (b *batch) fail(id string, err error) error {
	f, err := failure(id, err)
	if err == nil {
		b.Failed = append(b.Failed, f)
	}
	return err
}

var entryID = regexp.MustCompile(`^[a-zA-Z0-9_-]{1,80}$`)

// entriesOf reads a batch's entries and checks their ids.
func entriesOf(in *wire.Node, class string) ([]wire.Node, error) {
	list := in.Get("Entries").List
	switch {
	case len(list) == 0:
		return nil, modelled("EmptyBatchRequest", "AWS.SimpleQueueService.EmptyBatchRequest", "There should be at least one %s in the request.", class)
	case len(list) > 10:
		return nil, modelled("TooManyEntriesInBatchRequest", "AWS.SimpleQueueService.TooManyEntriesInBatchRequest", "Maximum number of entries per request are 10. You have sent %d.", len(list))
	}
	seen := map[string]bool{}
	for i := range list {
		id := list[i].Str("Id")
		switch {
		case id == "":
			return nil, missing(fmt.Sprintf("%s.%d.Id", class, i+1))
		case !entryID.MatchString(id):
			return nil, modelled("InvalidBatchEntryId", "AWS.SimpleQueueService.InvalidBatchEntryId", "A batch entry id can only contain alphanumeric characters, hyphens and underscores. It can be at most 80 letters long.")
		case seen[id]:
			return nil, modelled("BatchEntryIdsNotDistinct", "AWS.SimpleQueueService.BatchEntryIdsNotDistinct", "Id %s repeated.", id)
		}
		seen[id] = true
	}
	return list, nil
}

const maxBatch = 1 << 20

func (s *Service) sendMessageBatch(_ context.Context, r *Request) (any, error) {
	q, err := s.target(r.Input)
	if err != nil {
		return nil, err
	}
	entries, err := entriesOf(r.Input, "SendMessageBatchRequestEntry")
	if err != nil {
		return nil, err
	}
	d := q.definition()
	var refused batch
	var good []*prepared
	size := 0
	for i := range entries {
		size += len(entries[i].Str("MessageBody"))
		p, err := s.prepare(d, &entries[i])
		if err == nil {
			good = append(good, p)
			size += p.size() - len(p.Text)
		} else if err := refused.fail(entries[i].Str("Id"), err); err != nil {
			return nil, err
		}
	}
	if size > maxBatch {
		return nil, modelled("BatchRequestTooLong", "AWS.SimpleQueueService.BatchRequestTooLong", "Batch requests cannot be longer than %d bytes. You have sent %d bytes.", maxBatch, size)
	}
	var answer *batch
	err = s.Store.Update(func(tx *bbolt.Tx) error {
		answer = &batch{Failed: refused.Failed}
		data := d.bucket(tx)
		if data == nil {
			return errNoQueue
		}
		for _, p := range good {
			answer.Successful = append(answer.Successful, s.post(d, data, p))
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	q.notify()
	return answer, nil
}
