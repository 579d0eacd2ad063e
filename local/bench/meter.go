package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

// meter stands in front of the embedded AWS and counts what one side, functions
// or hosts, asks it for, and the capacity that it says it took. Callers know it
// only as their AWS endpoint. Switched off it is a function call.
type meter struct {
	aws   http.Handler
	on    atomic.Bool
	signs atomic.Pointer[aws.Config] // with the credentials of who calls

	mu    sync.Mutex
	count map[operation]*tally
	trace []moment
}

// operation is a kind of request: what on which table or queue.
type operation struct {
	Service  string // dynamodb, sqs, kms
	Name     string
	Resource string // table or queue; the tables of a transaction, by name
	Index    bool   // a query of an index
	Empty    bool   // a receive that brought nothing
	Usage    bool   // an addition to what was used, every 15 minutes where it is paid for
}

// tally is what requests of one kind came to.
type tally struct {
	Requests, Failed int
	Units            float64 // capacity
	Items            int     // parts of a transaction
	Bytes            int     // of the requests
	Took             time.Duration
}

// moment is a request that says which instances it is about.
type moment struct {
	Name, Resource string
	Began, Ended   time.Time
	Instances      []string
}

// counted is what a meter has counted, in a form that can be sent.
type counted struct {
	Count []countedOperation
	Trace []moment
}

type countedOperation struct {
	operation
	tally
}

// maxTrace bounds the trace; a measurement that needs it is far below.
const maxTrace = 50_000

// reset begins a new count, or with on=false ends it, and returns the last one.
func (m *meter) reset(on bool) counted {
	m.on.Store(on)
	m.mu.Lock()
	defer m.mu.Unlock()
	out := counted{Trace: m.trace}
	for op, t := range m.count {
		out.Count = append(out.Count, countedOperation{op, *t})
	}
	m.count, m.trace = make(map[operation]*tally), nil
	return out
}

// instanceOf finds ids, which are UUIDs of version 7.
var instanceOf = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}`)

func (m *meter) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	service, name, _ := strings.Cut(r.Header.Get("X-Amz-Target"), ".")
	op := operation{Service: map[string]string{"DynamoDB_20120810": "dynamodb", "AmazonSQS": "sqs", "TrentService": "kms"}[service], Name: name}
	// A poll may be long: it counts when it ends.
	poll := name == "ReceiveMessage"
	if op.Service == "" || !m.on.Load() && !poll {
		m.aws.ServeHTTP(w, r)
		return
	}
	began := time.Now()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // the caller is gone
	}
	var t tally
	t.Requests, t.Bytes = 1, len(body)
	op.Resource, op.Index, t.Items = aboutOf(body)
	op.Usage = bytes.Contains(body, []byte("#usage#"))
	sent := body
	if op.Service == "dynamodb" {
		sent = slices.Concat([]byte(`{"ReturnConsumedCapacity":"TOTAL",`), bytes.TrimPrefix(body, []byte("{")))
	}
	r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(sent)), int64(len(sent))
	if err := m.sign(r, op.Service, sent); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	answer := httptest.NewRecorder()
	m.aws.ServeHTTP(answer, r)
	if r.Context().Err() != nil {
		return // a poll that was given up; nobody pays for it twice
	}
	maps.Copy(w.Header(), answer.Header())
	w.WriteHeader(answer.Code)
	w.Write(answer.Body.Bytes()) //nolint:errcheck // the caller is gone

	t.Took = time.Since(began)
	if answer.Code != http.StatusOK {
		t.Failed = 1
	}
	text := answer.Body.Bytes()
	t.Units = unitsOf(text)
	about := body
	if poll {
		if !m.on.Load() {
			return
		}
		op.Empty = !bytes.Contains(text, []byte(`"MessageId"`))
		about = text
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.count[op] == nil {
		m.count[op] = &tally{}
	}
	m.count[op].add(t)
	if op.Service == "sqs" && !op.Empty || op.Resource == "calls" {
		if ids := instanceOf.FindAllString(string(about), -1); len(ids) > 0 && len(m.trace) < maxTrace {
			m.trace = append(m.trace, moment{name, op.Resource, began, began.Add(t.Took), ids})
		}
	}
}

// sign signs a request anew, as its body is another one now.
func (m *meter) sign(r *http.Request, service string, body []byte) error {
	conf := m.signs.Load()
	if conf == nil {
		return nil // nobody has called yet who is counted
	}
	who, err := conf.Credentials.Retrieve(r.Context())
	if err != nil {
		return err
	}
	hash := sha256.Sum256(body)
	signed := r.Clone(r.Context())
	signed.URL.Host = r.Host
	err = v4.NewSigner().SignHTTP(r.Context(), who, signed, hex.EncodeToString(hash[:]), service, conf.Region, time.Now())
	r.Header = signed.Header
	return err
}

func (t *tally) add(o tally) {
	t.Requests += o.Requests
	t.Failed += o.Failed
	t.Units += o.Units
	t.Items += o.Items
	t.Bytes += o.Bytes
	t.Took += o.Took
}

// aboutOf says what a request is about: a table by the last part of its name, a
// queue by its kind.
func aboutOf(body []byte) (resource string, index bool, items int) {
	var in struct {
		TableName     string
		IndexName     string
		TransactItems []map[string]struct{ TableName string }
		RequestItems  map[string]json.RawMessage
		Statements    []struct{ Statement string }
		QueueURL      string `json:"QueueUrl"`
	}
	if json.Unmarshal(body, &in) != nil {
		return "?", false, 0
	}
	tables := map[string]bool{}
	for _, item := range in.TransactItems {
		for _, on := range item {
			tables[tableOf(on.TableName)] = true
		}
	}
	for name := range in.RequestItems {
		tables[tableOf(name)] = true
	}
	for _, s := range in.Statements {
		_, name, _ := strings.Cut(s.Statement, `"`)
		name, _, _ = strings.Cut(name, `"`)
		tables[tableOf(name)] = true
	}
	switch {
	case len(tables) > 0:
		return strings.Join(slices.Sorted(maps.Keys(tables)), "+"), false, len(in.TransactItems)
	case in.TableName != "":
		return tableOf(in.TableName), in.IndexName != "", 0
	case in.QueueURL != "":
		return queueOf(in.QueueURL), false, 0
	}
	return "", false, 0
}

func tableOf(name string) string { return name[strings.LastIndex(name, "-")+1:] }

func queueOf(url string) string {
	if strings.HasSuffix(url, ".fifo") {
		return "commands"
	}
	return url[strings.LastIndex(url, "/")+1:]
}

var units = regexp.MustCompile(`"CapacityUnits":([0-9.]+)`)

// unitsOf adds up what an answer says of the capacity that was taken.
func unitsOf(answer []byte) (sum float64) {
	at := bytes.Index(answer, []byte(`"ConsumedCapacity":`))
	if at < 0 {
		return 0
	}
	for _, found := range units.FindAllSubmatch(answer[at:], -1) {
		u, err := strconv.ParseFloat(string(found[1]), 64)
		if err == nil {
			sum += u
		}
	}
	return sum
}

// writes are the operations that DynamoDB bills as writes.
var writes = map[string]bool{
	"PutItem": true, "UpdateItem": true, "DeleteItem": true, "BatchWriteItem": true, "TransactWriteItems": true,
	"BatchExecuteStatement": true,
}

// upkeep is what a system does whether or not something happens to an
// instance, or at its own times: leases, polls that bring nothing, looks at a shard's
// index, counts of what was used.
func (o operation) upkeep() bool {
	return o.Resource == "fleet" || o.Index || o.Empty || o.Usage
}

// usage is what something costs in requests.
type usage struct {
	Writes, Reads         float64 // requests
	WriteUnits, ReadUnits float64
	Standard, FIFO        float64 // SQS requests
	Sends                 float64 // of the SQS requests, to event queues
	Wakes                 float64 // ... and to the shards' queues
	KMS                   float64
}

// usage sums a count up. With all=false upkeep is left out.
func (c counted) usage(all bool) (u usage) {
	for _, o := range c.Count {
		if !all && o.upkeep() {
			continue
		}
		n := float64(o.Requests)
		switch {
		case o.Service == "kms":
			u.KMS += n
		case o.Service == "sqs":
			if o.Resource == "commands" {
				u.FIFO += n
			} else {
				u.Standard += n
			}
			switch {
			case !strings.HasPrefix(o.Name, "SendMessage"):
			case o.Resource == "commands":
				u.Wakes += n
			default:
				u.Sends += n
			}
		case writes[o.Name]:
			u.Writes += n
			u.WriteUnits += o.Units
		default:
			u.Reads += n
			u.ReadUnits += o.Units
		}
	}
	return u
}

func (u usage) plus(o usage) usage {
	return usage{
		u.Writes + o.Writes, u.Reads + o.Reads, u.WriteUnits + o.WriteUnits, u.ReadUnits + o.ReadUnits,
		u.Standard + o.Standard, u.FIFO + o.FIFO, u.Sends + o.Sends, u.Wakes + o.Wakes, u.KMS + o.KMS,
	}
}

func (u usage) times(f float64) usage {
	return usage{
		u.Writes * f, u.Reads * f, u.WriteUnits * f, u.ReadUnits * f,
		u.Standard * f, u.FIFO * f, u.Sends * f, u.Wakes * f, u.KMS * f,
	}
}
