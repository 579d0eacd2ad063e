package httpapi_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"

	"whatisup/shared/dynamo"
	"whatisup/shared/httpapi"
	"whatisup/shared/whatisup"
)

func (f *fixture) names(key string) []string {
	f.t.Helper()
	var names []string
	for _, w := range into[struct{ Data []whatisup.Wire }](f.t, f.want(200, "", key, "GET", "/v1/instances", "")).Data {
		names = append(names, w.Name)
	}
	return names
}

func TestRepeatedRequestHappensOnce(t *testing.T) {
	t.Parallel()
	f := start(t)
	key, idem := f.a.TestKey, []string{"Idempotency-Key", "a, b; c"}
	first := f.want(201, "", key, "POST", "/v1/instances", `{"name":"once"}`, idem...)
	again := f.want(201, "", key, "POST", "/v1/instances", `{"name":"once"}`, idem...)
	if string(first.body) != string(again.body) || again.header.Get("Idempotency-Replayed") != "true" ||
		again.header.Get("Location") != first.header.Get("Location") || again.header.Get("ETag") != `"1"` ||
		first.header.Get("Idempotency-Replayed") != "" {
		t.Errorf("first %s %v\nagain %s %v", first.body, first.header, again.body, again.header)
	}
	f.want(409, "idempotency_conflict", key, "POST", "/v1/instances", `{"name":"twice"}`, idem...)
	f.want(400, "invalid_request", key, "POST", "/v1/instances", `{"name":""}`, idem...)
	// Another path, another customer, another mode: other requests.
	f.want(201, "", f.b.TestKey, "POST", "/v1/instances", `{"name":"once"}`, idem...)
	f.want(201, "", f.a.LiveKey, "POST", "/v1/instances", `{"name":"once"}`, idem...)
	f.want(201, "", key, "POST", "/v1/api-keys", `{"name":"once"}`, idem...)
	if n := f.names(key); len(n) != 1 {
		t.Errorf("made %v", n)
	}
	// A day later the key is free again.
	f.clock.advance(25 * time.Hour)
	f.want(201, "", key, "POST", "/v1/instances", `{"name":"tomorrow"}`, idem...)
	for _, bad := range []string{"", strings.Repeat("x", 256), "ü"} {
		req, _ := http.NewRequest("POST", f.url+"/v1/instances", strings.NewReader(`{"name":"x"}`))
		req.Header = http.Header{"Authorization": {"Bearer " + key}, "Content-Type": {"application/json"}, "Idempotency-Key": {bad}}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != 400 {
			t.Errorf("key %.10q: %d", bad, resp.StatusCode)
		}
	}
}

func TestTwinsMakeOneInstance(t *testing.T) {
	t.Parallel()
	f := start(t)
	var calls sync.WaitGroup
	var mu sync.Mutex
	ids := map[string]int{}
	for range 16 {
		calls.Go(func() {
			r, err := f.send(t.Context(), f.a.TestKey, "POST", "/v1/instances", `{"name":"twin"}`, "Idempotency-Key", "k")
			if err != nil || r.status != 201 {
				t.Errorf("%v %d %s", err, r.status, r.body)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			ids[r.header.Get("Location")]++
		})
	}
	calls.Wait()
	if n := f.names(f.a.TestKey); len(n) != 1 || len(ids) != 1 {
		t.Errorf("made %v, answered %v", n, ids)
	}
}

// A refusal that the operation itself decided is kept; one that says only that
// something is wrong just now is not.
func TestKeptRefusals(t *testing.T) {
	t.Parallel()
	f := start(t)
	if err := f.db.SetLimits(t.Context(), f.a.Customer, 1, whatisup.RateLimit{}, whatisup.SendLimits{}); err != nil {
		t.Fatal(err)
	}
	path, _ := f.create(f.a.TestKey, "x")
	f.want(409, "instance_limit_reached", f.a.TestKey, "POST", "/v1/instances", `{"name":"y"}`, "Idempotency-Key", "k")
	f.want(204, "", f.a.TestKey, "DELETE", path, "")
	r := f.want(409, "instance_limit_reached", f.a.TestKey, "POST", "/v1/instances", `{"name":"y"}`, "Idempotency-Key", "k")
	if r.header.Get("Idempotency-Replayed") != "true" {
		t.Error("not replayed")
	}
	f.want(201, "", f.a.TestKey, "POST", "/v1/instances", `{"name":"y"}`, "Idempotency-Key", "other")
}

func TestConnectUnderIdempotencyKey(t *testing.T) {
	t.Parallel()
	f := start(t)
	path, id := f.create(f.a.TestKey, "x")
	for range 2 {
		f.want(202, "", f.a.TestKey, "POST", path+"/connect", "", "Idempotency-Key", "c")
		f.want(202, "", f.a.TestKey, "POST", path+"/logout", "", "Idempotency-Key", "l")
		f.want(202, "", f.a.TestKey, "POST", path+"/disconnect", "{}", "Idempotency-Key", "d")
	}
	i, err := f.db.Instance(t.Context(), f.a.Customer, whatisup.Test, id)
	if err != nil || i.Wanted.Generation != 1 || i.Wanted.Online || i.Wanted.UnlinkThrough != 1 {
		t.Errorf("%v %+v", err, i.Wanted)
	}
}

// A call dies at any write of a request; its repetition finishes it, and it has
// happened once.
func TestCrashAtEveryWrite(t *testing.T) {
	t.Parallel()
	f := start(t)
	for n := 1; ; n++ {
		name := fmt.Sprintf("crash-%d", n)
		crashed := false
		writes := 0
		client := dynamodb.NewFromConfig(f.aws.Config, func(o *dynamodb.Options) {
			o.RetryMaxAttempts = 1
			o.HTTPClient = &http.Client{Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
				resp, err := http.DefaultTransport.RoundTrip(r)
				target := r.Header.Get("X-Amz-Target")
				if strings.Contains(target, "Get") || strings.Contains(target, "Query") {
					return resp, err
				}
				if writes++; writes >= n { // the write happened; nobody hears of it, nor does anything else happen
					crashed = true
					if err == nil {
						resp.Body.Close()
					}
					return nil, io.ErrUnexpectedEOF
				}
				return resp, err
			})}
		})
		dying := httpapi.New(httpapi.Config{
			Store:    dynamo.New(dynamo.Config{Client: client, Tables: dynamo.Local(), Clock: dynamo.NewClock(f.clock.now)}),
			Commands: f.commands, Peppers: peppers, Sandbox: true, Now: f.clock.now,
		})
		req := httptest.NewRequest("POST", "/v1/instances", strings.NewReader(`{"name":"`+name+`"}`))
		req.Header.Set("Authorization", "Bearer "+f.a.TestKey)
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Idempotency-Key", name)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		w := httptest.NewRecorder()
		dying.ServeHTTP(w, req.WithContext(ctx))
		cancel()
		if !crashed && w.Code != 201 {
			t.Fatalf("without a crash: %d %s", w.Code, w.Body)
		}
		f.clock.advance(20 * time.Second) // the dead call's claim lapses
		f.want(201, "", f.a.TestKey, "POST", "/v1/instances", `{"name":"`+name+`"}`, "Idempotency-Key", name)
		made := 0
		for _, other := range f.names(f.a.TestKey) {
			if other == name {
				made++
			}
		}
		if made != 1 {
			t.Errorf("a crash at write %d: made %d", n, made)
		}
		if !crashed {
			if n < 4 {
				t.Fatalf("only %d writes seen", n)
			}
			return
		}
	}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// No table holds a readable secret, and no log line does.
func TestNoReadableSecret(t *testing.T) {
	t.Parallel()
	f := start(t)
	h := f.host()
	f.commands.actAs(func(cmd whatisup.Command) { go h.show(cmd, rawCode) })
	made := into[struct{ Secret string }](t, f.want(201, "", f.a.TestKey, "POST", "/v1/api-keys", `{"name":"n"}`, "Idempotency-Key", "secret-key"))
	again := into[struct{ Secret string }](t, f.want(201, "", f.a.TestKey, "POST", "/v1/api-keys", `{"name":"n"}`, "Idempotency-Key", "secret-key"))
	if made.Secret == "" || made.Secret != again.Secret {
		t.Fatalf("made %q, then %q", made.Secret, again.Secret)
	}
	path, _ := f.create(f.a.TestKey, "x")
	f.want(200, "", f.a.TestKey, "POST", path+"/pair-code", `{"phone_number":"4915199999999"}`, "Idempotency-Key", "p")
	var all bytes.Buffer
	client := dynamodb.NewFromConfig(f.aws.Config)
	for _, d := range dynamo.Local().Definitions() {
		out, err := client.Scan(t.Context(), &dynamodb.ScanInput{TableName: aws.String(d.Name)})
		if err != nil {
			t.Fatal(err)
		}
		for _, row := range out.Items {
			b, _ := json.Marshal(row)
			if d.Name == dynamo.Local().Calls {
				// The code row and the wish hold the number; the kept answer must not.
				if strings.Contains(string(b), "idem#") && strings.Contains(string(b), "ABCD-2345") {
					t.Error("a kept answer is readable")
				}
			}
			all.Write(b)
		}
	}
	f.commands.actAs(nil)
	secrets := []string{made.Secret, made.Secret[len(made.Secret)-49:], f.a.TestKey, f.a.LiveKey, "secret-key"}
	for _, s := range secrets {
		if strings.Contains(all.String(), s) {
			t.Errorf("a table holds %.20q", s)
		}
		if strings.Contains(f.logs.String(), s) {
			t.Errorf("the log holds %.20q", s)
		}
	}
	if strings.Contains(f.logs.String(), "4915199999999") {
		t.Error("the log holds a phone number")
	}
	// With another key of the same customer the kept answer stays closed.
	f.want(409, "idempotency_conflict", made.Secret, "POST", "/v1/api-keys", `{"name":"n"}`, "Idempotency-Key", "secret-key")
}

// A call that meets its twin waits for it; one that never ends is waited for
// ten seconds.
func TestTwinInFlight(t *testing.T) {
	t.Parallel()
	f := start(t)
	path, _ := f.create(f.a.TestKey, "x")
	sandbox := strings.Replace(path, "/v1/", "/v1/sandbox/", 1)
	body := `{"from":"4915112345678","text":"x"}`
	sent := make(chan whatisup.Command, 10)
	f.commands.actAs(func(cmd whatisup.Command) { sent <- cmd })
	first := make(chan reply, 2)
	send := func() {
		r, err := f.send(t.Context(), f.a.TestKey, "POST", sandbox+"/messages", body, "Idempotency-Key", "m")
		if err != nil {
			t.Error(err)
		}
		first <- r
	}
	go send()
	cmd := <-sent
	go send()
	if err := f.db.PutResult(t.Context(), whatisup.Result{Command: cmd.ID, MessageID: "3EB0"}); err != nil {
		t.Fatal(err)
	}
	a, b := <-first, <-first
	if a.status != 202 || b.status != 202 || string(a.body) != string(b.body) || len(sent) != 0 {
		t.Errorf("%d %s, %d %s, %d more commands", a.status, a.body, b.status, b.body, len(sent))
	}
}

// A claim that is held, by a call that is at work elsewhere, is in the way for
// ten seconds of waiting.
func TestTwinNeverEnds(t *testing.T) {
	t.Parallel()
	f := start(t)
	held := make(chan struct{})
	client := dynamodb.NewFromConfig(f.aws.Config, func(o *dynamodb.Options) {
		o.HTTPClient = &http.Client{Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
			if strings.Contains(r.Header.Get("X-Amz-Target"), "TransactWrite") {
				close(held)
				<-r.Context().Done()
			}
			return http.DefaultTransport.RoundTrip(r)
		})}
	})
	stuck := startWith(f, func(c *httpapi.Config) {
		c.Store = dynamo.New(dynamo.Config{Client: client, Tables: dynamo.Local(), Clock: dynamo.NewClock(f.clock.now)})
	})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	g := *f
	g.url = stuck
	go g.send(ctx, f.a.TestKey, "POST", "/v1/instances", `{"name":"x"}`, "Idempotency-Key", "k")
	<-held
	began := time.Now()
	f.want(409, "idempotency_in_progress", f.a.TestKey, "POST", "/v1/instances", `{"name":"x"}`, "Idempotency-Key", "k")
	if took := time.Since(began); took < 8*time.Second {
		t.Errorf("waited %v", took)
	}
	f.want(409, "idempotency_conflict", f.a.TestKey, "POST", "/v1/instances", `{"name":"y"}`, "Idempotency-Key", "k")
}

// A request that says the same in other words is a repetition.
func TestIdempotencyComparesValues(t *testing.T) {
	t.Parallel()
	f := start(t)
	once := []string{"Idempotency-Key", "k"}
	first := f.want(201, "", f.a.TestKey, "POST", "/v1/instances", `{"name":"x\u00e9","metadata":{"a":1,"b":[2]}}`, once...)
	again := f.want(201, "", f.a.TestKey, "POST", "/v1/instances", `{ "metadata" : {"b":[ 2 ],"a":1.0},"name":"xé" }`, once...)
	if again.header.Get("Idempotency-Replayed") != "true" || string(again.body) != string(first.body) {
		t.Errorf("%s\n%s", first.body, again.body)
	}
	f.want(409, "idempotency_conflict", f.a.TestKey, "POST", "/v1/instances", `{"name":"xé","metadata":{"a":1.5,"b":[2]}}`, once...)
}
