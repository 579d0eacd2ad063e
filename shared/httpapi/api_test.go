package httpapi_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"

	"whatisup/local/aws/awstest"
	"whatisup/shared/bucket"
	"whatisup/shared/control"
	"whatisup/shared/dynamo"
	"whatisup/shared/httpapi"
	"whatisup/shared/httpapi/apitest"
	"whatisup/shared/integration"
	"whatisup/shared/operator"
	"whatisup/shared/webhook"
	"whatisup/shared/whatisup"
)

var peppers = whatisup.Peppers{1: "sixteen bytes or more of pepper"}

// fixture is the API over the embedded AWS, with two customers.
type fixture struct {
	desk        *webhook.Desk
	t           testing.TB
	aws         *awstest.Instance
	db          *dynamo.DB
	api         *httpapi.API
	integration *integration.Integration
	url         string
	operator    *operator.Operator
	a, b        operator.Made
	commands    *commands
	queued      *queued
	logs        *lockedBuffer
	clock       *clock
}

// commands is the shards' queues: it keeps what was sent, and lets a test act as
// the session host.
type commands struct {
	mu   sync.Mutex
	sent []whatisup.Command
	host func(whatisup.Command)
	fail error
}

func (c *commands) Send(_ context.Context, _ whatisup.Shard, cmd whatisup.Command) error {
	c.mu.Lock()
	c.sent = append(c.sent, cmd)
	host, err := c.host, c.fail
	c.mu.Unlock()
	if host != nil {
		host(cmd)
	}
	return err
}

func (c *commands) count(kind whatisup.CommandKind) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := 0
	for _, s := range c.sent {
		if s.Kind == kind {
			n++
		}
	}
	return n
}

func (c *commands) actAs(host func(whatisup.Command)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.host = host
}

// queued is the event queues.
type queued struct {
	mu     sync.Mutex
	events []whatisup.Event
	fail   error
}

func (q *queued) Send(_ context.Context, events ...whatisup.Event) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.fail != nil {
		return q.fail
	}
	q.events = append(q.events, events...)
	return nil
}

// works takes work on files, which nobody does.
type works struct{}

func (works) SendMedia(context.Context, whatisup.MediaWork) error { return nil }

// clock is the time, moved by hand on top of the real one.
type clock struct {
	mu    sync.Mutex
	ahead time.Duration
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Now().Add(c.ahead)
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ahead += d
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func start(t testing.TB, change ...func(*httpapi.Config)) *fixture {
	t.Helper()
	f := &fixture{t: t, aws: awstest.Start(t), commands: &commands{}, queued: &queued{}, logs: &lockedBuffer{}, clock: &clock{}}
	client := dynamodb.NewFromConfig(f.aws.Config)
	if err := dynamo.Local().Create(t.Context(), client); err != nil {
		t.Fatal(err)
	}
	f.db = dynamo.New(dynamo.Config{Client: client, Tables: dynamo.Local(), Queues: true, Clock: dynamo.NewClock(f.clock.now)})
	c := httpapi.Config{
		Store: f.db, Commands: f.commands, Events: f.queued, Peppers: peppers, Sandbox: true, Document: httpapi.Contract(),
		Limits:     whatisup.RateLimit{Burst: 1_000_000, PerSecond: 1_000_000},
		Log:        slog.New(slog.NewJSONHandler(f.logs, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Now:        f.clock.now,
		StreamPoll: 20 * time.Millisecond,
		Work:       works{}, PublicURL: "https://api.example.com",
	}
	files := bucket.New(bucket.Config{AWS: f.aws.Config, Name: "files"})
	if err := files.Create(t.Context()); err != nil {
		t.Fatal(err)
	}
	links, err := whatisup.NewMediaLinks(c.PublicURL, "a secret of this test alone")
	if err != nil {
		t.Fatal(err)
	}
	c.Objects, c.Links = files, links
	f.desk = f.hooks(&c)
	c.Webhooks = f.desk
	for _, do := range change {
		do(&c)
	}
	f.api = httpapi.New(c)
	f.integration = &integration.Integration{Store: f.db, Log: c.Log, Control: control.New(control.Config{
		Store: f.db, Commands: c.Commands, Events: c.Events, Peppers: peppers, Now: c.Now,
	})}
	server := httptest.NewServer(f.api)
	t.Cleanup(func() {
		server.Close()
		for line := range strings.Lines(f.logs.String()) {
			if t.Failed() && strings.Contains(line, `"level":"ERROR"`) {
				t.Logf("%.1000s", line)
			}
		}
	})
	f.url = server.URL
	f.operator = operator.New(f.db, peppers)
	f.a, f.b = f.customer("a"), f.customer("b")
	return f
}

func (f *fixture) customer(name string) operator.Made {
	f.t.Helper()
	made, err := f.operator.MakeCustomer(f.t.Context(), name)
	if err != nil {
		f.t.Fatal(err)
	}
	return made
}

// reply is an answer, read to its end.
type reply struct {
	status int
	header http.Header
	body   []byte
}

func (r reply) code() string {
	var e struct{ Error struct{ Code string } }
	json.Unmarshal(r.body, &e)
	return e.Error.Code
}

func into[T any](t testing.TB, r reply) T {
	t.Helper()
	var v T
	if err := json.Unmarshal(r.body, &v); err != nil {
		t.Fatalf("%v: %.300s", err, r.body)
	}
	return v
}

// call sends a request; headers are name, value, name, value.
func (f *fixture) call(key, method, path, body string, headers ...string) reply {
	f.t.Helper()
	r, err := f.send(f.t.Context(), key, method, path, body, headers...)
	if err != nil {
		f.t.Fatal(err)
	}
	return r
}

func (f *fixture) send(ctx context.Context, key, method, path, body string, headers ...string) (reply, error) {
	req, err := http.NewRequestWithContext(ctx, method, f.url+path, strings.NewReader(body))
	if err != nil {
		return reply{}, err
	}
	if body == "" {
		req.Body, req.ContentLength = nil, 0
	}
	if key != "" {
		req.Header.Set("Authorization", "Bearer "+key)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := apitest.Client(f.t).Do(req)
	if err != nil {
		return reply{}, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return reply{resp.StatusCode, resp.Header, b}, err
}

// want sends a request and fails unless it is answered so; code is "" for
// success.
func (f *fixture) want(status int, code, key, method, path, body string, headers ...string) reply {
	f.t.Helper()
	r := f.call(key, method, path, body, headers...)
	if r.status != status || r.code() != code {
		f.t.Fatalf("%s %s answered %d %q, want %d %q: %.500s", method, path, r.status, r.code(), status, code, r.body)
	}
	return r
}

// create makes an instance and returns its path.
func (f *fixture) create(key, name string) (path string, id whatisup.InstanceID) {
	f.t.Helper()
	w := into[whatisup.Wire](f.t, f.want(201, "", key, "POST", "/v1/instances", `{"name":"`+name+`"}`))
	return "/v1/instances/" + string(w.ID), w.ID
}

// start2 is another function over the same tables.
func start2(f *fixture, p whatisup.Peppers, l ...whatisup.RateLimit) string {
	return startWith(f, func(c *httpapi.Config) {
		c.Peppers = p
		if len(l) > 0 {
			c.Limits = l[0]
		}
	})
}

func startWith(f *fixture, change func(*httpapi.Config)) string {
	c := f.api.Config
	change(&c)
	server := httptest.NewServer(httpapi.New(c))
	f.t.Cleanup(server.Close)
	return server.URL
}
