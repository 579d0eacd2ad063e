package sqs

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"go.etcd.io/bbolt"

	"whatisup/local/aws/internal/store"
	"whatisup/local/aws/internal/wire"
)

// Buckets: definitions by queue name; below dataBucket one bucket a queue,
// named by the queue's id; when queues were deleted, by name.
var (
	queuesBucket  = []byte("sqs/queues")
	dataBucket    = []byte("sqs/data")
	deletedBucket = []byte("sqs/deleted")

	bodiesBucket = []byte("bodies") // sequence → what was sent
	statesBucket = []byte("states") // sequence → state
	orderBucket  = []byte("order")  // the order in which the queue is walked
	flightBucket = []byte("flight") // sequences of a FIFO queue's messages in flight
	dedupBucket  = []byte("dedup")  // deduplication id → what was answered, until when
)

const account = "000000000000"

// definition is what is kept of a queue; it is not changed after it was made.
type definition struct {
	Name       string
	ID         string
	ARN        string
	Created    int64 // unix seconds
	Modified   int64
	Purged     int64 // unix milliseconds; 0 is never
	Attributes map[string]string
}

func loadDefinition(b []byte) (*definition, error) {
	d := &definition{}
	if err := json.Unmarshal(b, d); err != nil {
		return nil, fmt.Errorf("a queue's definition: %w", err)
	}
	return d, nil
}

func (d *definition) save(tx *bbolt.Tx) {
	b, err := json.Marshal(d)
	store.Must(err)
	store.Must(tx.Bucket(queuesBucket).Put([]byte(d.Name), b))
}

func (d *definition) bucket(tx *bbolt.Tx) *bbolt.Bucket {
	return tx.Bucket(dataBucket).Bucket([]byte(d.ID))
}

func (d *definition) fifo() bool { return strings.HasSuffix(d.Name, ".fifo") }

func (d *definition) is(attribute string) bool { return d.Attributes[attribute] == "true" }

// number is an attribute or its default.
func (d *definition) number(attribute string) int {
	v, ok := d.Attributes[attribute]
	if !ok {
		return settings[attribute].def
	}
	n, _ := strconv.Atoi(v) // checked when it was set
	return n
}

func (d *definition) seconds(attribute string) time.Duration {
	return time.Duration(d.number(attribute)) * time.Second
}

// queue is a queue with those who wait for it.
type queue struct {
	mu     sync.Mutex
	def    *definition
	change chan struct{}
}

func newQueue(d *definition) *queue { return &queue{def: d, change: make(chan struct{})} }

func (q *queue) definition() *definition {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.def
}

// changed returns a channel that the next notify closes.
func (q *queue) changed() <-chan struct{} {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.change
}

func (q *queue) notify() {
	q.mu.Lock()
	defer q.mu.Unlock()
	close(q.change)
	q.change = make(chan struct{})
}

// queueName is the last part of a URL or of an ARN.
func queueName(url string) string {
	url = url[strings.LastIndexByte(url, '/')+1:]
	return url[strings.LastIndexByte(url, ':')+1:]
}

func (s *Service) queue(name string) (*queue, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if q := s.queues[name]; q != nil {
		return q, nil
	}
	return nil, errNoQueue
}

// target finds the queue of a request's URL.
func (s *Service) target(in *wire.Node) (*queue, error) {
	if in.Str("QueueUrl") == "" {
		return nil, missing("QueueUrl")
	}
	return s.queue(queueName(in.Str("QueueUrl")))
}

// setting is an attribute that is a number.
type setting struct{ min, max, def int }

var settings = map[string]setting{
	"DelaySeconds":                  {0, 900, 0},
	"MaximumMessageSize":            {1024, 1 << 20, 1 << 20},
	"MessageRetentionPeriod":        {60, 1209600, 345600},
	"ReceiveMessageWaitTimeSeconds": {0, 20, 0},
	"VisibilityTimeout":             {0, 43200, 30},
	"KmsDataKeyReusePeriodSeconds":  {60, 86400, 300},
}

var choices = map[string][]string{
	"FifoQueue":                 {"true", "false"},
	"ContentBasedDeduplication": {"true", "false"},
	"SqsManagedSseEnabled":      {"true", "false"},
	"DeduplicationScope":        {"queue", "messageGroup"},
	"FifoThroughputLimit":       {"perQueue", "perMessageGroupId"},
}

var fifoOnly = []string{"FifoQueue", "ContentBasedDeduplication", "DeduplicationScope", "FifoThroughputLimit"}

// redrivePolicy is RedrivePolicy. Clients send the count as a number or as text.
type redrivePolicy struct {
	Target string      `json:"deadLetterTargetArn"`
	Max    json.Number `json:"maxReceiveCount"`
}

func (d *definition) redrive() (target string, max int, ok bool) {
	var p redrivePolicy
	if json.Unmarshal([]byte(d.Attributes["RedrivePolicy"]), &p) != nil {
		return "", 0, false
	}
	n, err := strconv.Atoi(p.Max.String())
	return queueName(p.Target), n, err == nil
}

// checkAttributes holds new attributes to SQS's rules. "" removes a policy.
func (s *Service) checkAttributes(name string, attributes map[string]string, creating bool) error {
	fifo := strings.HasSuffix(name, ".fifo")
	for _, a := range slices.Sorted(maps.Keys(attributes)) {
		v := attributes[a]
		set, isNumber := settings[a]
		words, isChoice := choices[a]
		switch {
		case slices.Contains(fifoOnly, a) && !fifo && a != "FifoQueue", a == "FifoQueue" && !creating:
			return invalidAttribute(a)
		case isNumber:
			if n, err := strconv.Atoi(v); err != nil || n < set.min || n > set.max {
				return invalidAttributeValue(a)
			}
		case isChoice:
			if !slices.Contains(words, v) {
				return invalidAttributeValue(a)
			}
		case a == "RedrivePolicy":
			if err := s.checkRedrive(v, fifo); err != nil {
				return err
			}
		case a == "Policy", a == "RedriveAllowPolicy":
			if v != "" && !json.Valid([]byte(v)) {
				return invalidAttributeValue(a)
			}
		case a == "KmsMasterKeyId":
		default:
			return invalidAttribute(a)
		}
	}
	return nil
}

// checkThroughput refuses a throughput a group where deduplication is not by
// group as well: the two together are SQS's high-throughput mode.
func checkThroughput(attributes map[string]string) error {
	if attributes["FifoThroughputLimit"] == "perMessageGroupId" && attributes["DeduplicationScope"] != "messageGroup" {
		return invalidValue("The request include parameter that is not valid. Reason: FifoThroughputLimit can be set to perMessageGroupId only when DeduplicationScope is set to messageGroup.")
	}
	return nil
}

func (s *Service) checkRedrive(v string, fifo bool) error {
	if v == "" {
		return nil
	}
	var p redrivePolicy
	bad := func(reason string) error { return badValue(v, "RedrivePolicy", reason) }
	if err := json.Unmarshal([]byte(v), &p); err != nil {
		return bad("Redrive policy is not a valid JSON map.")
	}
	switch n, err := strconv.Atoi(p.Max.String()); {
	case p.Target == "":
		return bad("Redrive policy does not contain mandatory attribute: deadLetterTargetArn.")
	case p.Max == "":
		return bad("Redrive policy does not contain mandatory attribute: maxReceiveCount.")
	case err != nil || n < 1 || n > 1000:
		return bad("Invalid value for maxReceiveCount: " + p.Max.String() + ", valid values are from 1 to 1000 both inclusive.")
	}
	dlq, err := s.queue(queueName(p.Target))
	if err != nil {
		return bad("Dead letter target does not exist.")
	}
	if dlq.definition().fifo() != fifo {
		return bad("Dead-letter queue must be same type of queue as the source.")
	}
	return nil
}

var (
	standardName = regexp.MustCompile(`^[a-zA-Z0-9_-]{1,80}$`)
	fifoName     = regexp.MustCompile(`^[a-zA-Z0-9_-]{1,75}\.fifo$`)
)

func (s *Service) createQueue(_ context.Context, r *Request) (any, error) {
	name := r.Input.Str("QueueName")
	if name == "" {
		return nil, missing("QueueName")
	}
	attributes := map[string]string{}
	for _, f := range r.Input.Get("Attributes").Fields {
		if f.Value.Kind != wire.Null {
			attributes[f.Name] = f.Value.Text
		}
	}
	switch fifo := attributes["FifoQueue"] == "true"; {
	case strings.HasSuffix(name, ".fifo") != fifo && fifo:
		return nil, invalidValue("The name of a FIFO queue can only include alphanumeric characters, hyphens, or underscores, must end with .fifo suffix and be 1 to 80 in length")
	case fifo && !fifoName.MatchString(name):
		return nil, invalidValue("The name of a FIFO queue can only include alphanumeric characters, hyphens, or underscores, must end with .fifo suffix and be 1 to 80 in length")
	case !fifo && !standardName.MatchString(name):
		return nil, invalidValue("Can only include alphanumeric characters, hyphens, or underscores. 1 to 80 in length")
	}
	if err := s.checkAttributes(name, attributes, true); err != nil {
		return nil, err
	}
	if err := checkThroughput(attributes); err != nil {
		return nil, err
	}
	now := s.Clock()
	d := &definition{Name: name, ID: uuid.NewString(), ARN: "arn:aws:sqs:" + r.Region + ":" + account + ":" + name,
		Created: now.Unix(), Modified: now.Unix(), Attributes: attributes}
	created := false
	err := s.Store.Update(func(tx *bbolt.Tx) error {
		created = false
		if b := tx.Bucket(queuesBucket).Get([]byte(name)); b != nil {
			old, err := loadDefinition(b)
			store.Must(err)
			return old.same(attributes)
		}
		if b := tx.Bucket(deletedBucket).Get([]byte(name)); b != nil && now.UnixMilli()-int64(binary.BigEndian.Uint64(b)) < 60_000 {
			return modelled("QueueDeletedRecently", "AWS.SimpleQueueService.QueueDeletedRecently", "You must wait 60 seconds after deleting a queue before you can create another with the same name.")
		}
		store.Must(tx.Bucket(deletedBucket).Delete([]byte(name)))
		d.save(tx)
		d.makeBuckets(tx)
		created = true
		return nil
	})
	if err != nil {
		return nil, err
	}
	if created {
		s.mu.Lock()
		s.queues[name] = newQueue(d)
		s.mu.Unlock()
	}
	return map[string]string{"QueueUrl": r.url(name)}, nil
}

func (d *definition) makeBuckets(tx *bbolt.Tx) {
	b, err := tx.Bucket(dataBucket).CreateBucket([]byte(d.ID))
	store.Must(err)
	for _, name := range [][]byte{bodiesBucket, statesBucket, orderBucket, flightBucket, dedupBucket} {
		_, err := b.CreateBucket(name)
		store.Must(err)
	}
}

// same refuses to create a queue again with other attributes.
func (d *definition) same(attributes map[string]string) error {
	for _, a := range slices.Sorted(maps.Keys(attributes)) {
		have, ok := d.Attributes[a]
		if set, number := settings[a]; !ok && number {
			have = strconv.Itoa(set.def)
		}
		if have != attributes[a] {
			return modelled("QueueNameExists", "QueueAlreadyExists", "A queue already exists with the same name and a different value for attribute %s", a)
		}
	}
	return nil
}

func (r *Request) url(name string) string { return r.BaseURL + "/" + account + "/" + name }

func (s *Service) deleteQueue(_ context.Context, r *Request) (any, error) {
	q, err := s.target(r.Input)
	if err != nil {
		return nil, err
	}
	d := q.definition()
	err = s.Store.Update(func(tx *bbolt.Tx) error {
		if d.bucket(tx) == nil {
			return errNoQueue
		}
		store.Must(tx.Bucket(queuesBucket).Delete([]byte(d.Name)))
		store.Must(tx.Bucket(dataBucket).DeleteBucket([]byte(d.ID)))
		store.Must(tx.Bucket(deletedBucket).Put([]byte(d.Name), binary.BigEndian.AppendUint64(nil, uint64(s.Clock().UnixMilli()))))
		return nil
	})
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	if s.queues[d.Name] == q {
		delete(s.queues, d.Name)
	}
	s.mu.Unlock()
	q.notify()
	return nil, nil
}

func (s *Service) getQueueURL(_ context.Context, r *Request) (any, error) {
	name := r.Input.Str("QueueName")
	if name == "" {
		return nil, missing("QueueName")
	}
	if _, err := s.queue(name); err != nil {
		return nil, err
	}
	return map[string]string{"QueueUrl": r.url(name)}, nil
}

func (s *Service) listQueues(_ context.Context, r *Request) (any, error) {
	limit := r.Input.Int("MaxResults", 0)
	if r.Input.Has("MaxResults") && (limit < 1 || limit > 1000) {
		return nil, badValue(limit, "MaxResults", "Must be >= 1 and <= 1000, if provided.")
	}
	s.mu.RLock()
	var names []string
	for name := range s.queues {
		if strings.HasPrefix(name, r.Input.Str("QueueNamePrefix")) && name > r.Input.Str("NextToken") {
			names = append(names, name)
		}
	}
	s.mu.RUnlock()
	slices.Sort(names)
	out := map[string]any{}
	if limit == 0 {
		names = names[:min(len(names), 1000)]
	} else if len(names) > limit {
		names = names[:limit]
		out["NextToken"] = names[limit-1]
	}
	var urls []string
	for _, name := range names {
		urls = append(urls, r.url(name))
	}
	if urls != nil {
		out["QueueUrls"] = urls
	}
	return out, nil
}

func (s *Service) setQueueAttributes(_ context.Context, r *Request) (any, error) {
	q, err := s.target(r.Input)
	if err != nil {
		return nil, err
	}
	if !r.Input.Has("Attributes") {
		return nil, missing("Attributes")
	}
	attributes := map[string]string{}
	for _, f := range r.Input.Get("Attributes").Fields {
		attributes[f.Name] = f.Value.Text
	}
	if err := s.checkAttributes(q.definition().Name, attributes, false); err != nil {
		return nil, err
	}
	err = s.redefine(q, func(d *definition) error {
		d.Modified = s.Clock().Unix()
		for a, v := range attributes {
			if d.Attributes[a] = v; v == "" {
				delete(d.Attributes, a)
			}
		}
		return checkThroughput(d.Attributes)
	})
	return nil, err
}

// redefine replaces a queue's definition by a changed copy.
func (s *Service) redefine(q *queue, change func(*definition) error) error {
	var next definition
	err := s.Store.Update(func(tx *bbolt.Tx) error {
		now := q.definition()
		if now.bucket(tx) == nil {
			return errNoQueue
		}
		b := tx.Bucket(queuesBucket).Get([]byte(now.Name))
		d, err := loadDefinition(b)
		store.Must(err)
		next = *d
		if next.Attributes == nil {
			next.Attributes = map[string]string{}
		}
		if err := change(&next); err != nil {
			return err
		}
		next.save(tx)
		return nil
	})
	if err != nil {
		return err
	}
	q.mu.Lock()
	q.def = &next
	q.mu.Unlock()
	q.notify()
	return nil
}

func (s *Service) purgeQueue(_ context.Context, r *Request) (any, error) {
	q, err := s.target(r.Input)
	if err != nil {
		return nil, err
	}
	now := s.Clock().UnixMilli()
	err = s.redefine(q, func(d *definition) error {
		if d.Purged != 0 && now-d.Purged < 60_000 {
			return modelled("PurgeQueueInProgress", "AWS.SimpleQueueService.PurgeQueueInProgress", "Only one PurgeQueue operation on %s is allowed every 60 seconds.", d.Name)
		}
		d.Purged = now
		return nil
	})
	if err != nil {
		return nil, err
	}
	d := q.definition()
	return nil, s.Store.Update(func(tx *bbolt.Tx) error {
		b := d.bucket(tx)
		if b == nil {
			return errNoQueue
		}
		for _, name := range [][]byte{bodiesBucket, statesBucket, orderBucket, flightBucket} {
			sequence := b.Bucket(name).Sequence()
			store.Must(b.DeleteBucket(name))
			n, err := b.CreateBucket(name)
			store.Must(err)
			store.Must(n.SetSequence(sequence))
		}
		return nil
	})
}

// attributeNames are those GetQueueAttributes knows, as they may be asked for.
var attributeNames = []string{
	"All", "Policy", "VisibilityTimeout", "MaximumMessageSize", "MessageRetentionPeriod", "ApproximateNumberOfMessages",
	"ApproximateNumberOfMessagesNotVisible", "CreatedTimestamp", "LastModifiedTimestamp", "QueueArn",
	"ApproximateNumberOfMessagesDelayed", "DelaySeconds", "ReceiveMessageWaitTimeSeconds", "RedrivePolicy", "FifoQueue",
	"ContentBasedDeduplication", "KmsMasterKeyId", "KmsDataKeyReusePeriodSeconds", "DeduplicationScope",
	"FifoThroughputLimit", "RedriveAllowPolicy", "SqsManagedSseEnabled",
}

func (s *Service) getQueueAttributes(_ context.Context, r *Request) (any, error) {
	q, err := s.target(r.Input)
	if err != nil {
		return nil, err
	}
	d := q.definition()
	all := map[string]string{
		"QueueArn": d.ARN, "CreatedTimestamp": strconv.FormatInt(d.Created, 10), "LastModifiedTimestamp": strconv.FormatInt(d.Modified, 10),
		"SqsManagedSseEnabled": "true",
	}
	for a, set := range settings {
		if a != "KmsDataKeyReusePeriodSeconds" || d.Attributes["KmsMasterKeyId"] != "" {
			all[a] = strconv.Itoa(set.def)
		}
	}
	if d.fifo() {
		all["ContentBasedDeduplication"], all["DeduplicationScope"], all["FifoThroughputLimit"] = "false", "queue", "perQueue"
	}
	if d.Attributes["KmsMasterKeyId"] != "" {
		all["SqsManagedSseEnabled"] = "false"
	}
	maps.Copy(all, d.Attributes)
	wanted := map[string]bool{}
	for _, n := range r.Input.Get("AttributeNames").List {
		if !slices.Contains(attributeNames, n.Text) {
			return nil, invalidAttribute(n.Text)
		}
		wanted[n.Text] = true
	}
	if wanted["All"] || wanted["ApproximateNumberOfMessages"] || wanted["ApproximateNumberOfMessagesNotVisible"] || wanted["ApproximateNumberOfMessagesDelayed"] {
		visible, hidden, delayed, err := s.count(d)
		if err != nil {
			return nil, err
		}
		all["ApproximateNumberOfMessages"] = strconv.Itoa(visible)
		all["ApproximateNumberOfMessagesNotVisible"] = strconv.Itoa(hidden)
		all["ApproximateNumberOfMessagesDelayed"] = strconv.Itoa(delayed)
	}
	out := map[string]string{}
	for a, v := range all {
		if wanted["All"] || wanted[a] {
			out[a] = v
		}
	}
	if len(out) == 0 {
		return map[string]any{}, nil
	}
	return map[string]any{"Attributes": out}, nil
}

// count counts a queue's messages by what they are.
func (s *Service) count(d *definition) (visible, inFlight, delayed int, err error) {
	now := s.Clock().UnixMilli()
	err = s.Store.View(func(tx *bbolt.Tx) error {
		b := d.bucket(tx)
		if b == nil {
			return errNoQueue
		}
		return b.Bucket(statesBucket).ForEach(func(_, v []byte) error {
			switch st := readState(v); {
			case d.expired(st, now):
			case st.visible <= now:
				visible++
			case st.receipt != 0:
				inFlight++
			default:
				delayed++
			}
			return nil
		})
	})
	return visible, inFlight, delayed, err
}
