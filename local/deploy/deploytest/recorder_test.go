package deploytest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
)

// call is one thing that a program did to one resource, in IAM's words.
type call struct {
	action    string // "dynamodb:PutItem"
	resource  string // "table/whatisup-access", "queue/…", "key"
	partition string // of the table, or of its index: IAM's leading key; of a list of keys its prefix
}

func (c call) String() string { return c.action + " on " + c.resource }

// recorder stands between programs and the embedded AWS and notes what each of
// them asks for. Programs know it only as their AWS endpoint.
type recorder struct {
	mu    sync.Mutex
	calls map[string]map[call]int // by program
	odd   []string                // what it could not make out
}

func newRecorder() *recorder { return &recorder{calls: make(map[string]map[call]int)} }

// endpoint is the AWS of one program, in front of the real one.
func (r *recorder) endpoint(t *testing.T, program, aws string) string {
	t.Helper()
	target, err := url.Parse(aws)
	if err != nil {
		t.Fatal(err)
	}
	proxy := &httputil.ReverseProxy{
		Rewrite:       func(p *httputil.ProxyRequest) { p.SetURL(target); p.Out.Host = p.In.Host },
		FlushInterval: -1,
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) {
			w.WriteHeader(http.StatusBadGateway) // the client left, or the end is near
		},
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		body, err := io.ReadAll(q.Body)
		if err != nil {
			return
		}
		if c, ok := ofBucket(q, body); ok {
			r.add(program, c)
		} else {
			r.note(program, q.Header.Get("X-Amz-Target"), body)
		}
		q.Body = io.NopCloser(bytes.NewReader(body))
		proxy.ServeHTTP(w, q)
	}))
	t.Cleanup(server.CloseClientConnections)
	return server.URL
}

// bucketName is the one bucket.
const bucketName = "whatisup-media"

// ofBucket tells what a request does to the bucket, in the words of IAM.
func ofBucket(q *http.Request, body []byte) ([]call, bool) {
	key, ok := strings.CutPrefix(q.URL.Path, "/"+bucketName)
	if !ok {
		return nil, false
	}
	resource := "bucket/" + bucketName + strings.TrimSuffix(key, "/")
	action := map[string]string{"GET": "s3:GetObject", "HEAD": "s3:GetObject", "PUT": "s3:PutObject", "POST": "s3:PutObject", "DELETE": "s3:DeleteObject"}[q.Method]
	switch {
	case key == "" || key == "/":
		if q.Method == "POST" && q.URL.Query().Has("delete") {
			var calls []call
			for _, m := range deleted.FindAllSubmatch(body, -1) {
				calls = append(calls, call{"s3:DeleteObject", resource + "/" + string(m[1]), ""})
			}
			return calls, true
		}
		return []call{{"s3:ListBucket", "bucket/" + bucketName, q.URL.Query().Get("prefix")}}, true
	case q.Method == "DELETE" && q.URL.Query().Has("uploadId"):
		action = "s3:AbortMultipartUpload"
	}
	calls := []call{{action, resource, ""}}
	if from := q.Header.Get("X-Amz-Copy-Source"); from != "" {
		calls = append(calls, call{"s3:GetObject", "bucket/" + from, ""})
	}
	return calls, true
}

func (r *recorder) add(program string, calls []call) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.calls[program] == nil {
		r.calls[program] = make(map[call]int)
	}
	for _, c := range calls {
		r.calls[program][c]++
	}
}

func (r *recorder) note(program, target string, body []byte) {
	calls, err := understand(target, body)
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil {
		r.odd = append(r.odd, fmt.Sprintf("%s: %s: %v", program, target, err))
		return
	}
	if r.calls[program] == nil {
		r.calls[program] = make(map[call]int)
	}
	for _, c := range calls {
		r.calls[program][c]++
	}
}

// of lists what a program did.
func (r *recorder) of(program string) []call {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.SortedFunc(maps.Keys(r.calls[program]), func(a, b call) int { return strings.Compare(a.String(), b.String()) })
}

// understand tells what a request does, in the words of IAM: parts of
// transactions and batches count as what they are.
func understand(target string, body []byte) ([]call, error) {
	service, operation, _ := strings.Cut(target, ".")
	var in struct {
		single
		TransactItems []map[string]single
		RequestItems  map[string]json.RawMessage
		Statements    []insert
		QueueURL      string `json:"QueueUrl"`
		KeyID         string `json:"KeyId"`
	}
	if err := json.Unmarshal(body, &in); err != nil {
		return nil, err
	}
	var calls []call
	switch service {
	case "DynamoDB_20120810":
		for _, item := range in.TransactItems {
			for part, on := range item {
				action := map[string]string{
					"Put": "PutItem", "Update": "UpdateItem", "Delete": "DeleteItem", "ConditionCheck": "ConditionCheckItem", "Get": "GetItem",
				}[part]
				calls = append(calls, call{"dynamodb:" + action, "table/" + on.TableName, on.partition()})
			}
		}
		for _, s := range in.Statements {
			calls = append(calls, s.call())
		}
		for table, text := range in.RequestItems {
			// However they are wrapped: a key or an item begins with its partition.
			for _, m := range partitions.FindAllSubmatch(text, -1) {
				calls = append(calls, call{"dynamodb:" + operation, "table/" + table, string(m[1])})
			}
		}
		if in.TableName != "" {
			resource := "table/" + in.TableName
			if in.IndexName != "" {
				resource += "/index/" + in.IndexName
			}
			calls = append(calls, call{"dynamodb:" + operation, resource, in.partition()})
		}
	case "AmazonSQS":
		action := strings.TrimSuffix(operation, "Batch")
		calls = append(calls, call{"sqs:" + action, "queue/" + in.QueueURL[strings.LastIndex(in.QueueURL, "/")+1:], ""})
	case "TrentService":
		// By the key's id, which every call must name.
		calls = append(calls, call{"kms:" + operation, "key/" + in.KeyID, ""})
	}
	if len(calls) == 0 {
		return nil, fmt.Errorf("not understood")
	}
	return calls, nil
}

// insert is an INSERT of PartiQL, whose values are all parameters.
type insert struct {
	Statement  string
	Parameters []text
}

var inserts = regexp.MustCompile(`^INSERT INTO "([^"]+)" VALUE \{(.*)\}$`)

func (s insert) call() call {
	parts := inserts.FindStringSubmatch(s.Statement)
	if parts == nil {
		return call{"dynamodb:PartiQL of another kind", s.Statement, ""}
	}
	at := slices.Index(strings.Split(parts[2], ", "), "'pk': ?")
	return call{"dynamodb:PartiQLInsert", "table/" + parts[1], s.Parameters[at].S}
}

// single is a request, or a part of one, on one partition.
type single struct {
	TableName                 string
	IndexName                 string
	Key, Item                 map[string]text
	KeyConditionExpression    string
	ExpressionAttributeValues map[string]text
}

type text struct{ S string }

var (
	equals     = regexp.MustCompile(`^\(?\s*[#\w]+\s*=\s*(:\w+)`)
	deleted    = regexp.MustCompile(`<Key>([^<]*)</Key>`)
	partitions = regexp.MustCompile(`"pk":\{"S":"([^"]*)"\}`)
)

func (r single) partition() string {
	if m := equals.FindStringSubmatch(r.KeyConditionExpression); m != nil {
		return r.ExpressionAttributeValues[m[1]].S
	}
	return r.Key["pk"].S + r.Item["pk"].S
}
