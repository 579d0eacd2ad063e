package sqs

import (
	"crypto/md5"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"go.etcd.io/bbolt"

	"whatisup/local/aws/internal/attribute"
	"whatisup/local/aws/internal/store"
	"whatisup/local/aws/internal/wire"
)

// body is what was sent; it never changes.
type body struct {
	ID         string
	Text       string
	Attributes []messageAttribute `json:",omitempty"`
	Trace      string             `json:",omitempty"` // AWSTraceHeader
	Group      string             `json:",omitempty"`
	Dedup      string             `json:",omitempty"`
	Source     string             `json:",omitempty"` // ARN of the queue it was moved from
}

type messageAttribute struct {
	Name, Type string
	Text       string `json:",omitempty"`
	Binary     []byte `json:",omitempty"`
}

func (a *messageAttribute) binary() bool { return strings.HasPrefix(a.Type, "Binary") }

// state is what becomes of a message. Times are unix milliseconds.
type state struct {
	visible int64 // from when it can be received
	sent    int64
	first   int64 // first received; 0 is never
	count   uint64
	receipt uint64 // of the last receive, while it hides the message; 0 is none
}

func readState(v []byte) state {
	u := func(i int) uint64 { return binary.BigEndian.Uint64(v[8*i:]) }
	return state{int64(u(0)), int64(u(1)), int64(u(2)), u(3), u(4)}
}

func (st state) bytes() []byte {
	var b []byte
	for _, u := range []uint64{uint64(st.visible), uint64(st.sent), uint64(st.first), st.count, st.receipt} {
		b = binary.BigEndian.AppendUint64(b, u)
	}
	return b
}

func (d *definition) expired(st state, now int64) bool {
	return now-st.sent > d.seconds("MessageRetentionPeriod").Milliseconds()
}

// orderKey is where a message stands in the walk of its queue.
func (d *definition) orderKey(sequence uint64, st state) []byte {
	if d.fifo() {
		return binary.BigEndian.AppendUint64(nil, sequence)
	}
	return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, uint64(st.visible)), sequence)
}

func sequenceKey(sequence uint64) []byte { return binary.BigEndian.AppendUint64(nil, sequence) }

// add puts a message at the queue's end.
func (d *definition) add(data *bbolt.Bucket, m *body, st state) (sequence uint64) {
	sequence, err := data.Bucket(bodiesBucket).NextSequence()
	store.Must(err)
	b, err := json.Marshal(m)
	store.Must(err)
	store.Must(data.Bucket(bodiesBucket).Put(sequenceKey(sequence), b))
	store.Must(data.Bucket(statesBucket).Put(sequenceKey(sequence), st.bytes()))
	store.Must(data.Bucket(orderBucket).Put(d.orderKey(sequence, st), []byte(m.Group)))
	return sequence
}

// update rewrites a message's state.
func (d *definition) update(data *bbolt.Bucket, sequence uint64, old, st state) {
	store.Must(data.Bucket(statesBucket).Put(sequenceKey(sequence), st.bytes()))
	if d.fifo() {
		updateFlight(data, sequence, st)
		return
	}
	order := data.Bucket(orderBucket)
	group := slices.Clone(order.Get(d.orderKey(sequence, old)))
	store.Must(order.Delete(d.orderKey(sequence, old)))
	store.Must(order.Put(d.orderKey(sequence, st), group))
}

// remove takes a message out.
func (d *definition) remove(data *bbolt.Bucket, sequence uint64, st state) {
	store.Must(data.Bucket(bodiesBucket).Delete(sequenceKey(sequence)))
	store.Must(data.Bucket(statesBucket).Delete(sequenceKey(sequence)))
	store.Must(data.Bucket(orderBucket).Delete(d.orderKey(sequence, st)))
	if d.fifo() {
		store.Must(data.Bucket(flightBucket).Delete(sequenceKey(sequence)))
	}
}

// updateFlight keeps the list of a FIFO queue's messages that were handed out.
// One whose timeout is over stays in it until it is handed out again: whoever
// reads the list looks at the clock.
func updateFlight(data *bbolt.Bucket, sequence uint64, st state) {
	if st.receipt != 0 {
		store.Must(data.Bucket(flightBucket).Put(sequenceKey(sequence), nil))
	} else {
		store.Must(data.Bucket(flightBucket).Delete(sequenceKey(sequence)))
	}
}

// listFlights makes that list for queues from before there was one.
func listFlights(tx *bbolt.Tx) error {
	return tx.Bucket(queuesBucket).ForEach(func(_, v []byte) error {
		d, err := loadDefinition(v)
		if err != nil {
			return err
		}
		data := d.bucket(tx)
		if !d.fifo() || data == nil || data.Bucket(flightBucket) != nil {
			return nil
		}
		if _, err := data.CreateBucket(flightBucket); err != nil {
			return err
		}
		return data.Bucket(statesBucket).ForEach(func(k, v []byte) error {
			updateFlight(data, binary.BigEndian.Uint64(k), readState(v))
			return nil
		})
	})
}

func loadBody(data *bbolt.Bucket, sequence uint64) *body {
	m := &body{}
	store.Must(json.Unmarshal(data.Bucket(bodiesBucket).Get(sequenceKey(sequence)), m))
	return m
}

func md5Hex(s string) string {
	sum := md5.Sum([]byte(s))
	return hex.EncodeToString(sum[:])
}

// md5OfAttributes is the digest that SDKs compare with their own.
func md5OfAttributes(attributes []messageAttribute) string {
	var b []byte
	put := func(s string) {
		b = binary.BigEndian.AppendUint32(b, uint32(len(s)))
		b = append(b, s...)
	}
	sorted := slices.Clone(attributes)
	slices.SortFunc(sorted, func(x, y messageAttribute) int { return strings.Compare(x.Name, y.Name) })
	for _, a := range sorted {
		put(a.Name)
		put(a.Type)
		if a.binary() {
			b = append(b, 2)
			put(string(a.Binary))
		} else {
			b = append(b, 1)
			put(a.Text)
		}
	}
	return md5Hex(string(b))
}

// validText says whether SQS carries every character of s.
func validText(s string) bool {
	for _, r := range s {
		switch {
		case r == 0x9, r == 0xA, r == 0xD, r >= 0x20 && r <= 0xD7FF, r >= 0xE000 && r <= 0xFFFD, r >= 0x10000:
		default:
			return false
		}
	}
	return true
}

var (
	attributeName = regexp.MustCompile(`^[a-zA-Z0-9_.-]{1,256}$`)
	idPattern     = regexp.MustCompile("^[a-zA-Z0-9!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~]{1,128}$")
)

// readAttributes reads and checks message attributes.
func readAttributes(n *wire.Node) ([]messageAttribute, error) {
	if len(n.Fields) > 10 {
		return nil, invalidValue("Number of message attributes [%d] exceeds the allowed maximum [10].", len(n.Fields))
	}
	var out []messageAttribute
	for i := range n.Fields {
		f := &n.Fields[i]
		a := messageAttribute{Name: f.Name, Type: f.Value.Str("DataType"), Text: f.Value.Str("StringValue")}
		lower := strings.ToLower(a.Name)
		switch {
		case !attributeName.MatchString(a.Name), strings.HasPrefix(a.Name, "."), strings.HasSuffix(a.Name, "."), strings.Contains(a.Name, ".."),
			strings.HasPrefix(lower, "aws."), strings.HasPrefix(lower, "amazon."):
			return nil, invalidValue("Invalid attribute name %s.", a.Name)
		case a.Type == "":
			return nil, invalidValue("The message attribute '%s' must contain non-empty message attribute type.", a.Name)
		case f.Value.Has("StringListValues"), f.Value.Has("BinaryListValues"):
			return nil, &wire.Error{Status: 400, Type: "com.amazonaws.sqs#UnsupportedOperation", QueryCode: "AWS.SimpleQueueService.UnsupportedOperation;Sender", Message: "Message attribute list values in SendMessage operation are not supported."}
		}
		kind, label, custom := strings.Cut(a.Type, ".")
		switch {
		case kind != "String" && kind != "Number" && kind != "Binary", custom && label == "", len(a.Type) > 256:
			return nil, invalidValue("The message attribute '%s' has an invalid message attribute type, the set of supported type prefixes is Binary, Number, and String.", a.Name)
		case kind == "Binary":
			if !f.Value.Has("BinaryValue") || f.Value.Str("BinaryValue") == "" {
				return nil, invalidValue("The message attribute '%s' must contain non-empty message attribute value for message attribute type '%s'.", a.Name, kind)
			}
			a.Binary, _ = base64.StdEncoding.DecodeString(f.Value.Str("BinaryValue")) // checked with the shape
		case a.Text == "":
			return nil, invalidValue("The message attribute '%s' must contain non-empty message attribute value for message attribute type '%s'.", a.Name, kind)
		case kind == "Number":
			if _, err := attribute.ParseNumber(a.Text); err != nil {
				return nil, invalidValue("Can't cast the value of message (user) attribute '%s' to a number.", a.Name)
			}
		}
		if !validText(a.Text) {
			return nil, errContents
		}
		out = append(out, a)
	}
	return out, nil
}

func (m *body) size() int {
	n := len(m.Text)
	for _, a := range m.Attributes {
		n += len(a.Name) + len(a.Type) + len(a.Text) + len(a.Binary)
	}
	return n
}

// readBody reads and checks one message of a request for a queue.
func (d *definition) readBody(n *wire.Node) (*body, error) {
	m := &body{Text: n.Str("MessageBody"), Group: n.Str("MessageGroupId"), Dedup: n.Str("MessageDeduplicationId")}
	switch {
	case !n.Has("MessageBody"):
		return nil, missing("MessageBody")
	case m.Text == "":
		return nil, missing("MessageBody")
	case !validText(m.Text):
		return nil, errContents
	}
	var err error
	if m.Attributes, err = readAttributes(n.Get("MessageAttributes")); err != nil {
		return nil, err
	}
	system := n.Get("MessageSystemAttributes")
	for i := range system.Fields {
		f := &system.Fields[i]
		if f.Name != "AWSTraceHeader" {
			return nil, badValue(f.Name, "MessageSystemAttributes", "Must be one of: [AWSTraceHeader].")
		}
		if f.Value.Str("DataType") != "String" || f.Value.Str("StringValue") == "" {
			return nil, invalidValue("The message system attribute '%s' must contain non-empty message attribute value for message attribute type 'String'.", f.Name)
		}
		m.Trace = f.Value.Str("StringValue")
	}
	if limit := d.number("MaximumMessageSize"); m.size() > limit {
		return nil, invalidValue("One or more parameters are invalid. Reason: Message must be shorter than %d bytes.", limit)
	}
	if delay := n.Int("DelaySeconds", 0); delay < 0 || delay > 900 {
		return nil, badValue(delay, "DelaySeconds", "DelaySeconds must be >= 0 and <= 900.")
	}
	return m, d.checkIDs(n, m)
}

const idReason = "%s can only include alphanumeric and punctuation characters. 1 to 128 in length."

func (d *definition) checkIDs(n *wire.Node, m *body) error {
	for _, p := range []string{"MessageGroupId", "MessageDeduplicationId"} {
		if v := n.Get(p); v.Kind != wire.Null && !idPattern.MatchString(v.Text) {
			return badValue(v.Text, p, fmt.Sprintf(idReason, p))
		}
	}
	if !d.fifo() {
		if m.Dedup != "" {
			return badValue(m.Dedup, "MessageDeduplicationId", notForType)
		}
		return nil
	}
	switch {
	case m.Group == "":
		return missing("MessageGroupId")
	case n.Int("DelaySeconds", 0) != 0:
		return badValue(n.Int("DelaySeconds", 0), "DelaySeconds", notForType)
	case m.Dedup == "" && !d.is("ContentBasedDeduplication"):
		return invalidValue("The queue should either have ContentBasedDeduplication enabled or MessageDeduplicationId provided explicitly")
	}
	return nil
}
