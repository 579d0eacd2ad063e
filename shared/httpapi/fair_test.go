package httpapi_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"whatisup/shared/dynamo"
	"whatisup/shared/httpapi"
	"whatisup/shared/whatisup"
)

// A customer's calls that wait are bounded for each mode, and take nothing from
// others.
func TestWaitingCallsAreLimited(t *testing.T) {
	t.Parallel()
	f := start(t)
	slots := whatisup.Slots{Customer: f.a.Customer, Mode: whatisup.Test, Kind: "waiting"}
	ctx, cancel := context.WithCancel(t.Context())
	var calls sync.WaitGroup
	defer calls.Wait()
	defer cancel()
	wait := func(key string) {
		path, _ := f.create(key, "x")
		calls.Go(func() { f.send(ctx, key, "GET", path+"/qr", "") }) // ends with the test
	}
	for range 20 {
		wait(f.a.TestKey)
	}
	taken := func(n int) func() bool {
		return func() bool {
			ids, err := f.db.TakenSlots(t.Context(), slots)
			return err == nil && len(ids) == n
		}
	}
	eventually(t, taken(20))
	path, _ := f.create(f.a.TestKey, "x")
	for _, call := range []struct{ method, path, body string }{
		{"GET", path + "/qr", ""},
		{"GET", path + "/qr.png", ""},
		{"POST", path + "/pair-code", `{"phone_number":"4915112345678"}`},
		{"POST", "/v1/sandbox" + path[len("/v1"):] + "/scan", `{}`},
	} {
		began := time.Now()
		r := f.want(429, "too_many_waiting", f.a.TestKey, call.method, call.path, call.body)
		if r.header.Get("Retry-After") == "" || time.Since(began) > 5*time.Second {
			t.Errorf("%s: after %v, Retry-After %q", call.path, time.Since(began), r.header.Get("Retry-After"))
		}
	}
	f.want(200, "", f.a.TestKey, "GET", path, "")
	// What is refused does not happen later: no command has left.
	if n := f.commands.count(whatisup.SandboxScan); n != 0 {
		t.Errorf("%d refused scans were sent to the host", n)
	}

	// Another mode and another customer wait as if nobody did.
	url := startWith(f, short(300*time.Millisecond))
	for _, key := range []string{f.a.LiveKey, f.b.TestKey} {
		path, _ := f.create(key, "x")
		f2 := *f
		f2.url = url
		f2.want(503, "no_session_host", key, "GET", path+"/qr", "")
	}
	cancel()
	eventually(t, taken(0))
}

// A bound key has at most three of its customer's ten streams, so that it can't
// lock its owner out.
func TestBoundKeyHasAShareOfTheStreams(t *testing.T) {
	t.Parallel()
	f := start(t)
	_, id := f.create(f.a.TestKey, "x")
	bound := into[struct{ Secret string }](t, f.want(201, "", f.a.TestKey, "POST", "/v1/api-keys", fmt.Sprintf(`{"name":"n","instance_id":%q}`, id))).Secret
	var last *stream
	for range 3 {
		last = f.stream(bound, "")
		last.first(t)
	}
	if s := f.stream(bound, ""); s.status != 429 {
		t.Errorf("a fourth stream of a bound key: %d", s.status)
	}
	for range 7 {
		f.stream(f.a.TestKey, "").first(t)
	}
	if s := f.stream(f.a.TestKey, ""); s.status != 429 {
		t.Errorf("an eleventh stream: %d", s.status)
	}
	last.close()
	eventually(t, func() bool { return f.stream(bound, "").status == 200 })
}

// A stream that resumes takes the slot of the one that it follows, which ends: a
// client whose connection died unnoticed is not shut out.
func TestStreamTakesItsPredecessorsSlot(t *testing.T) {
	t.Parallel()
	f := start(t)
	var streams []*stream
	var at []string
	for range 10 {
		s := f.stream(f.a.TestKey, "")
		streams, at = append(streams, s), append(at, s.first(t).id)
	}
	if s := f.stream(f.a.TestKey, ""); s.status != 429 {
		t.Fatalf("an eleventh stream: %d", s.status)
	}
	next := f.stream(f.a.TestKey, "", "Last-Event-ID", at[3])
	if next.status != 200 {
		t.Fatalf("a stream that resumes: %d", next.status)
	}
	f.clock.advance(6 * time.Second)
	for range streams[3].frames { // to its end
	}
	if s := f.stream(f.a.TestKey, "", "Last-Event-ID", at[3]); s.status != 429 {
		t.Errorf("a second successor: %d", s.status)
	}
	next.first(t)
}

// A stream ends with its key.
func TestStreamEndsWithItsKey(t *testing.T) {
	t.Parallel()
	f := start(t)
	key := into[struct{ Secret string }](t, f.want(201, "", f.a.TestKey, "POST", "/v1/api-keys",
		fmt.Sprintf(`{"name":"x","expires_at":%q}`, whatisup.At(f.clock.now().Add(30*time.Second))))).Secret
	s := f.stream(key, "")
	s.first(t)
	f.clock.advance(31 * time.Second)
	for range s.frames { // to its end
	}
}

// A bound key takes at most a third of its customer's tokens.
func TestBoundKeyHasAShareOfTheTokens(t *testing.T) {
	t.Parallel()
	f := start(t)
	_, id := f.create(f.a.TestKey, "x")
	bound := into[struct{ Secret string }](t, f.want(201, "", f.a.TestKey, "POST", "/v1/api-keys", fmt.Sprintf(`{"name":"n","instance_id":%q}`, id))).Secret
	f.clock.advance(time.Hour)
	f.url = startWith(f, func(c *httpapi.Config) { c.Limits = whatisup.RateLimit{Burst: 30, PerSecond: 0.001} })
	for n := range 10 {
		r := f.want(200, "", bound, "GET", "/v1/instances/"+string(id), "")
		if left := r.header.Get("X-RateLimit-Remaining"); left != strconv.Itoa(9-n) {
			t.Errorf("call %d: %s tokens left", n, left)
		}
	}
	if r := f.want(429, "rate_limited", bound, "GET", "/v1/instances/"+string(id), ""); r.header.Get("Retry-After") == "" || r.header.Get("X-RateLimit-Limit") != "10" {
		t.Errorf("%v", r.header)
	}
	if r := f.want(200, "", bound, "GET", "/v1/limits", ""); r.header.Get("X-RateLimit-Remaining") != "0" {
		t.Errorf("%s", r.body)
	}
	if r := f.want(200, "", f.a.TestKey, "GET", "/v1/instances", ""); r.header.Get("X-RateLimit-Remaining") != "19" {
		t.Errorf("its owner has %s tokens left", r.header.Get("X-RateLimit-Remaining"))
	}
}

// A customer that calls without pause while it is suspended has nothing running
// afterwards, and nothing that it made in that time.
func TestSuspensionHoldsAgainstARelentlessCustomer(t *testing.T) {
	t.Parallel()
	f := start(t, short(0))
	var paths []string
	for range 4 {
		path, _ := f.create(f.a.TestKey, "x")
		paths = append(paths, path)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var calls sync.WaitGroup
	for n := range 8 {
		calls.Go(func() {
			for ctx.Err() == nil { // the functions know the key, and trust it for a while
				path := paths[n%len(paths)]
				for _, call := range [][3]string{
					{"POST", path + "/connect", ""}, {"GET", path + "/qr", ""}, {"POST", "/v1/instances", `{"name":"late"}`},
					{"POST", "/v1/api-keys", `{"name":"late"}`}, {"POST", path + "/disconnect", ""},
				} {
					f.send(ctx, f.a.TestKey, call[0], call[1], call[2]) // what it answers is looked at below
				}
			}
		})
	}
	eventually(t, func() bool { return f.commands.count(whatisup.Wake) > 20 })
	if _, err := f.operator.Suspend(t.Context(), f.a.Customer); err != nil {
		t.Fatal(err)
	}
	at := f.clock.now()
	keys := 0
	for k, err := range f.db.Keys(t.Context(), f.a.Customer, whatisup.Test) {
		if err != nil || k.CreatedAt.After(at) {
			t.Errorf("%v, a key was made at %v", err, k.CreatedAt)
		}
		keys++
	}
	// The customer goes on for as long as it takes to be refused often.
	eventually(t, func() bool { return strings.Count(f.logs.String(), "customer_suspended") > 50 })
	cancel()
	calls.Wait()

	for i, err := range f.db.Instances(t.Context(), f.a.Customer, whatisup.Test, "", 0) {
		if err != nil || i.Wanted.Online || !i.Wanted.Suspended || i.Config.ID.CreatedAt().After(at) {
			t.Errorf("%v: an instance of a suspended customer: %+v", err, i.Wanted)
		}
	}
	after := 0
	for range f.db.Keys(t.Context(), f.a.Customer, whatisup.Test) {
		after++
	}
	if after != keys {
		t.Errorf("%d keys were made by a suspended customer", after-keys)
	}
	r := f.call(f.a.TestKey, "POST", paths[0]+"/connect", "")
	if r.status != 403 || r.code() != "customer_suspended" {
		t.Errorf("a call that the functions still take: %d %s", r.status, r.body)
	}
	if err := f.operator.Resume(t.Context(), f.a.Customer); err != nil {
		t.Fatal(err)
	}
	f.want(202, "", f.a.TestKey, "POST", paths[0]+"/connect", "")
}

// Keys that are made while their instance is deleted end with it.
func TestNoKeyOutlivesItsInstance(t *testing.T) {
	t.Parallel()
	f := start(t)
	for range 6 {
		path, id := f.create(f.a.TestKey, "x")
		one := fmt.Sprintf(`{"name":"n","instance_id":%q}`, id)
		eventually(t, func() bool {
			var calls sync.WaitGroup
			for range 3 {
				calls.Go(func() {
					if r := f.call(f.a.TestKey, "POST", "/v1/api-keys", one); r.status != 201 && r.status != 404 && r.status != 503 {
						t.Errorf("%d %s", r.status, r.body)
					}
				})
			}
			r := f.call(f.a.TestKey, "DELETE", path, "")
			calls.Wait()
			return r.status == 204
		})
		f.want(404, "instance_not_found", f.a.TestKey, "POST", "/v1/api-keys", one)
	}
	for k, err := range f.db.Keys(t.Context(), f.a.Customer, whatisup.Test) {
		if err != nil || k.Instance != "" {
			t.Errorf("%v: key %s outlives instance %s", err, k.ID, k.Instance)
		}
	}
}

// The last of connect and disconnect wins, and is shown at once.
func TestLastRequestWins(t *testing.T) {
	t.Parallel()
	f := start(t)
	h := f.host()
	path, id := f.create(f.a.TestKey, "x")
	cmd := whatisup.Command{Customer: f.a.Customer, Mode: whatisup.Test, Instance: id}
	h.observe(cmd, func(i *whatisup.Instance, o *whatisup.Observed) {
		o.Status, o.Link, o.LastLink, o.Confirmed, o.PhoneNumber = whatisup.Connected, 1, 1, true, "4915112345678"
	})
	i, err := f.db.Instance(t.Context(), f.a.Customer, whatisup.Test, id)
	if err != nil {
		t.Fatal(err)
	}
	w, _ := i.WantConnect(f.clock.now(), "")
	if err := f.db.Want(t.Context(), i, w, nil); err != nil {
		t.Fatal(err)
	}
	h.observe(cmd, func(i *whatisup.Instance, o *whatisup.Observed) { o.ObservedGeneration = i.Wanted.Generation })
	f.want(409, "invalid_lifecycle_transition", f.a.TestKey, "POST", path+"/connect", "")

	status := func(r reply) string {
		var d struct {
			Status string
			Reason *string
		}
		json.Unmarshal(r.body, &d)
		if d.Reason != nil {
			return d.Status + " " + *d.Reason
		}
		return d.Status
	}
	for range 3 { // no host acts in between
		if r := f.want(202, "", f.a.TestKey, "POST", path+"/disconnect", ""); status(r) != "disconnected stopped" {
			t.Errorf("disconnect answers %s", r.body)
		}
		if r := f.want(200, "", f.a.TestKey, "GET", path+"/status", ""); status(r) != "disconnected stopped" {
			t.Errorf("after disconnect: %s", r.body)
		}
		r := f.want(409, "invalid_lifecycle_transition", f.a.TestKey, "GET", path+"/qr", "")
		if got := into[failure](t, r); got.Error.Details.Resolve != "connect" {
			t.Errorf("a QR fetch after disconnect: %s", r.body)
		}
		f.want(202, "", f.a.TestKey, "POST", path+"/connect", "")
	}
	if i, err = f.db.Instance(t.Context(), f.a.Customer, whatisup.Test, id); err != nil || !i.Wanted.Online {
		t.Errorf("%v: connect was last, and %+v is wanted", err, i.Wanted)
	}
}

// The log and the picture have paths of their own, for clients that can't set
// Accept.
func TestPathsWithoutAccept(t *testing.T) {
	t.Parallel()
	f := start(t)
	f.create(f.a.TestKey, "x")
	log := f.want(200, "", f.a.TestKey, "GET", "/v1/event-log?limit=1", "")
	same := f.want(200, "", f.a.TestKey, "GET", "/v1/events?limit=1", "", "Accept", "application/json")
	if string(log.body) != string(same.body) || len(into[struct{ Data []whatisup.Event }](t, log).Data) != 1 {
		t.Errorf("%s\n%s", log.body, same.body)
	}
	head := f.want(200, "", f.a.TestKey, "HEAD", "/v1/event-log?limit=1", "")
	if head.header.Get("Content-Length") != strconv.Itoa(len(log.body)) || len(head.body) != 0 {
		t.Errorf("HEAD tells %s bytes, GET has %d", head.header.Get("Content-Length"), len(log.body))
	}
	if log.body[len(log.body)-1] != '\n' {
		t.Error("the body does not end with a line feed")
	}
	f.want(400, "invalid_request", f.a.TestKey, "GET", "/v1/event-log?events=no", "")

	// Several values of a filter come in one parameter or in several.
	for _, query := range []string{"events=instance.created,qr.updated", "events=qr.updated&events=instance.created"} {
		if got := into[struct{ Data []whatisup.Event }](t, f.want(200, "", f.a.TestKey, "GET", "/v1/event-log?"+query, "")); len(got.Data) != 1 {
			t.Errorf("%s: %+v", query, got)
		}
	}
}

// A store that does not answer is an outage, with a time to come back.
func TestOutageIsUnavailable(t *testing.T) {
	t.Parallel()
	f := start(t)
	path, _ := f.create(f.a.TestKey, "x")
	f.url = startWith(f, func(c *httpapi.Config) { c.Store = brokenStore{c.Store} })
	r := f.want(503, "unavailable", f.a.TestKey, http.MethodGet, path, "")
	if r.header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
}

type brokenStore struct{ httpapi.Store }

func (brokenStore) Instance(context.Context, whatisup.CustomerID, whatisup.Mode, whatisup.InstanceID) (*whatisup.Instance, error) {
	return nil, fmt.Errorf("throttled: %w", whatisup.ErrUnavailable)
}

// ghostly is a gateway that never tells a function that its client has gone: Lambda
// runs such a stream to its end, and takes what it writes. over ends them all.
func ghostly(api http.Handler, over context.Context) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithCancel(context.WithoutCancel(r.Context()))
		defer context.AfterFunc(over, cancel)()
		api.ServeHTTP(ghost{w}, r.WithContext(ctx))
	})
}

type ghost struct{ http.ResponseWriter }

func (g ghost) Write(b []byte) (int, error) {
	g.ResponseWriter.Write(b) //nolint:errcheck // nobody is told
	return len(b), nil
}

func (g ghost) FlushError() error {
	http.NewResponseController(g.ResponseWriter).Flush() //nolint:errcheck // as above
	return nil
}

func (g ghost) SetWriteDeadline(time.Time) error { return nil }

// A page that is loaded again and again behind such a gateway is not shut out: each
// stream that resumes ends the one before. What is left for good is free within a
// stream's time.
func TestStreamsWhoseClientsLeaveUnseen(t *testing.T) {
	t.Parallel()
	f := start(t)
	over, end := context.WithCancel(context.Background())
	server := httptest.NewServer(ghostly(httpapi.New(f.api.Config), over))
	t.Cleanup(server.Close)
	t.Cleanup(end)
	f.url = server.URL
	at := ""
	for n := range 25 { // more than there are slots
		var headers []string
		if at != "" {
			headers = []string{"Last-Event-ID", at}
		}
		s := f.stream(f.a.TestKey, "", headers...)
		if s.status != 200 {
			t.Fatalf("reload %d: %d", n, s.status)
		}
		at = s.first(t).id
		s.close()
	}

	// Nine more clients, which leave without a word, and nobody resumes.
	for n := range 9 {
		s := f.stream(f.a.TestKey, "")
		if s.status != 200 {
			t.Fatalf("client %d beside the one: %d", n, s.status)
		}
		s.first(t)
		s.close()
	}
	if s := f.stream(f.a.TestKey, ""); s.status != 429 {
		t.Fatalf("an eleventh stream: %d", s.status)
	}
	for range 8 { // to the end of the five minutes, with what streams do on the way
		f.clock.advance(40 * time.Second)
		time.Sleep(50 * time.Millisecond)
	}
	eventually(t, func() bool {
		s := f.stream(f.a.TestKey, "")
		s.close()
		return s.status == 200
	})
}

// A key that is given an end later takes its stream with it within a minute.
func TestStreamEndsWithAnEndThatCameLater(t *testing.T) {
	t.Parallel()
	f := start(t)
	key := into[struct{ ID, Secret string }](t, f.want(201, "", f.a.TestKey, "POST", "/v1/api-keys", `{"name":"x"}`))
	s := f.stream(key.Secret, "")
	s.first(t)
	_, err := dynamodb.NewFromConfig(f.aws.Config).UpdateItem(t.Context(), &dynamodb.UpdateItemInput{
		TableName:        aws.String(dynamo.Local().Access),
		Key:              map[string]types.AttributeValue{"pk": &types.AttributeValueMemberS{Value: "key#" + key.ID}, "sk": &types.AttributeValueMemberS{Value: "key"}},
		UpdateExpression: aws.String("SET expires_at = :at"), ConditionExpression: aws.String("attribute_exists(pk)"),
		ExpressionAttributeValues: map[string]types.AttributeValue{":at": &types.AttributeValueMemberN{Value: strconv.FormatInt(f.clock.now().Add(5*time.Second).UnixMilli(), 10)}},
	})
	if err != nil {
		t.Fatal(err)
	}
	f.clock.advance(55 * time.Second)
	for range s.frames { // to its end
	}
}
