package sqs

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"strings"
	"time"

	"go.etcd.io/bbolt"

	"whatisup/local/aws/internal/wire"
)

// A receipt handle names the queue, the message and the receive.

func (d *definition) handle(sequence, receipt uint64) string {
	b := append([]byte(d.ID), 0)
	b = binary.BigEndian.AppendUint64(b, sequence)
	b = binary.BigEndian.AppendUint64(b, receipt)
	return base64.StdEncoding.EncodeToString(b)
}

func (d *definition) openHandle(handle string) (sequence, receipt uint64, err error) {
	b, decodeErr := base64.StdEncoding.DecodeString(handle)
	rest, ok := strings.CutPrefix(string(b), d.ID+"\x00")
	if decodeErr != nil || !ok || len(rest) != 16 {
		return 0, 0, modelled("ReceiptHandleIsInvalid", "ReceiptHandleIsInvalid", "The input receipt handle %q is not a valid receipt handle.", handle)
	}
	return binary.BigEndian.Uint64([]byte(rest)), binary.BigEndian.Uint64([]byte(rest[8:])), nil
}

// discard is DeleteMessage. What is gone already is no error. In a standard
// queue an older receipt deletes nothing; in a FIFO queue only a receipt whose
// timeout still runs deletes.
func (s *Service) discard(d *definition, data *bbolt.Bucket, n *wire.Node) (func(), error) {
	handle := n.Str("ReceiptHandle")
	if handle == "" {
		return nil, missing("ReceiptHandle")
	}
	sequence, receipt, err := d.openHandle(handle)
	if err != nil {
		return nil, err
	}
	v := data.Bucket(statesBucket).Get(sequenceKey(sequence))
	if v == nil {
		return func() {}, nil
	}
	st := readState(v)
	if d.fifo() && (st.receipt != receipt || st.visible <= s.Clock().UnixMilli()) {
		return nil, badValue(handle, "ReceiptHandle", "The receipt handle has expired.")
	}
	if st.receipt != receipt {
		return func() {}, nil
	}
	return func() { d.remove(data, sequence, st) }, nil
}

// hide is ChangeMessageVisibility.
func (s *Service) hide(d *definition, data *bbolt.Bucket, n *wire.Node) (func(), error) {
	handle, seconds := n.Str("ReceiptHandle"), n.Int("VisibilityTimeout", 0)
	switch {
	case handle == "":
		return nil, missing("ReceiptHandle")
	case !n.Has("VisibilityTimeout"):
		return nil, missing("VisibilityTimeout")
	case seconds < 0 || seconds > 43200:
		return nil, badValue(seconds, "VisibilityTimeout", "Must be between 0 and 43200, if provided.")
	}
	sequence, receipt, err := d.openHandle(handle)
	if err != nil {
		return nil, err
	}
	v := data.Bucket(statesBucket).Get(sequenceKey(sequence))
	if v == nil {
		return nil, badValue(handle, "ReceiptHandle", "Message does not exist or is not available for visibility timeout change.")
	}
	old := readState(v)
	now := s.Clock()
	switch {
	case old.receipt != receipt:
		return nil, badValue(handle, "ReceiptHandle", "Message does not exist or is not available for visibility timeout change.")
	case old.visible <= now.UnixMilli():
		return nil, modelled("MessageNotInflight", "AWS.SimpleQueueService.MessageNotInflight", "Value %s for parameter ReceiptHandle is invalid. Reason: Message does not exist or is not available for visibility timeout change.", handle)
	}
	st := old
	st.visible = now.Add(time.Duration(seconds) * time.Second).UnixMilli()
	return func() { d.update(data, sequence, old, st) }, nil
}

type change func(*Service, *definition, *bbolt.Bucket, *wire.Node) (func(), error)

// one applies a change to one message.
func (s *Service) one(r *Request, c change) (any, error) {
	q, err := s.target(r.Input)
	if err != nil {
		return nil, err
	}
	d := q.definition()
	err = s.Store.Update(func(tx *bbolt.Tx) error {
		data := d.bucket(tx)
		if data == nil {
			return errNoQueue
		}
		do, err := c(s, d, data, r.Input)
		if err == nil {
			do()
		}
		return err
	})
	if err == nil {
		q.notify() // a group may be free, or a message visible again
	}
	return nil, err
}

// many applies a change to the messages of a batch, each on its own.
func (s *Service) many(r *Request, class string, c change) (any, error) {
	q, err := s.target(r.Input)
	if err != nil {
		return nil, err
	}
	entries, err := entriesOf(r.Input, class)
	if err != nil {
		return nil, err
	}
	d := q.definition()
	var answer *batch
	err = s.Store.Update(func(tx *bbolt.Tx) error {
		answer = &batch{}
		data := d.bucket(tx)
		if data == nil {
			return errNoQueue
		}
		for i := range entries {
			id := entries[i].Str("Id")
			do, err := c(s, d, data, &entries[i])
			if err == nil {
				do()
				answer.Successful = append(answer.Successful, map[string]string{"Id": id})
			} else if err := answer.fail(id, err); err != nil {
				panic(err)
			}
		}
		return nil
	})
	if err == nil {
		q.notify()
	}
	return answer, err
}

func (s *Service) deleteMessage(_ context.Context, r *Request) (any, error) {
	return s.one(r, (*Service).discard)
}

func (s *Service) deleteMessageBatch(_ context.Context, r *Request) (any, error) {
	return s.many(r, "DeleteMessageBatchRequestEntry", (*Service).discard)
}

func (s *Service) changeMessageVisibility(_ context.Context, r *Request) (any, error) {
	return s.one(r, (*Service).hide)
}

func (s *Service) changeMessageVisibilityBatch(_ context.Context, r *Request) (any, error) {
	return s.many(r, "ChangeMessageVisibilityBatchRequestEntry", (*Service).hide)
}
