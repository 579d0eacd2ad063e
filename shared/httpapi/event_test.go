package httpapi_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"whatisup/shared/dynamo"
	"whatisup/shared/httpapi"
	"whatisup/shared/whatisup"
)

// frame is one block of an event stream.
type frame struct {
	id, event, data, retry, comment string
}

// stream is an open event stream.
type stream struct {
	status int
	header http.Header
	frames chan frame
	close  func()
}

func (f *fixture) stream(key, query string, headers ...string) *stream {
	f.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	req, err := http.NewRequestWithContext(ctx, "GET", f.url+"/v1/events"+query, nil)
	if err != nil {
		f.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+key)
	req.Header.Set("Accept", "text/event-stream")
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		f.t.Fatal(err)
	}
	s := &stream{status: resp.StatusCode, header: resp.Header, frames: make(chan frame, 10000)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer close(s.frames)
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return
		}
		var now frame
		in := bufio.NewScanner(resp.Body)
		in.Buffer(nil, 1<<20)
		for in.Scan() {
			name, value, _ := strings.Cut(in.Text(), ":")
			value = strings.TrimPrefix(value, " ")
			switch {
			case in.Text() == "":
				if now.data == "" {
					f.t.Errorf("a block without data ends in an empty line: %+v", now)
				}
				s.frames <- now
				now = frame{}
			case name == "id":
				now.id = value
			case name == "event":
				now.event = value
			case name == "data":
				now.data = value
			case name == "retry":
				now.retry = value
			case name == "":
				s.frames <- frame{comment: value, retry: now.retry}
			default:
				f.t.Errorf("a stream's line is %q", in.Text())
			}
		}
	}()
	s.close = sync.OnceFunc(func() { cancel(); <-done })
	f.t.Cleanup(s.close)
	return s
}

// next waits for the next event.
func (s *stream) next(t *testing.T) (frame, whatisup.Event) {
	t.Helper()
	deadline := time.After(20 * time.Second)
	for {
		select {
		case fr, ok := <-s.frames:
			if !ok {
				t.Fatal("the stream ended")
			}
			if fr.event == string(whatisup.StreamOpened) {
				continue
			}
			var e whatisup.Event
			if err := json.Unmarshal([]byte(fr.data), &e); err != nil || string(e.Name) != fr.event {
				t.Fatalf("%v: %+v", err, fr)
			}
			return fr, e
		case <-deadline:
			t.Fatal("no event")
		}
	}
}

// first waits for the frame that begins a stream.
func (s *stream) first(t *testing.T) frame {
	t.Helper()
	select {
	case fr := <-s.frames:
		var e whatisup.Event
		if err := json.Unmarshal([]byte(fr.data), &e); err != nil || fr.id == "" || fr.retry == "" ||
			fr.event != string(whatisup.StreamOpened) || e.Name != whatisup.StreamOpened || e.ID == "" || string(e.Data) != "{}" {
			t.Fatalf("a stream began with %+v", fr)
		}
		return fr
	case <-time.After(20 * time.Second):
		t.Fatal("nothing came")
		panic("")
	}
}

func TestStream(t *testing.T) {
	t.Parallel()
	f := start(t)
	f.create(f.a.TestKey, "before")
	s := f.stream(f.a.TestKey, "")
	if s.status != 200 || s.header.Get("Content-Type") != "text/event-stream" || s.header.Get("Cache-Control") != "no-store" {
		t.Fatalf("%d %v", s.status, s.header)
	}
	began := s.first(t)
	path, id := f.create(f.a.TestKey, "one")
	f.create(f.b.TestKey, "another customer's")
	f.create(f.a.LiveKey, "another mode's")
	fr, e := s.next(t)
	if e.Name != whatisup.InstanceCreated || e.Instance != id || e.Customer != f.a.Customer || e.Mode != whatisup.Test || e.Version != "2026-12" {
		t.Errorf("%+v", e)
	}
	f.want(200, "", f.a.TestKey, "PATCH", path, `{"name":"two"}`)
	if _, e := s.next(t); e.Name != whatisup.InstanceUpdated {
		t.Errorf("%+v", e)
	}
	s.close()
	// From the first event on, and from the beginning of the stream.
	for _, from := range []string{fr.id, began.id} {
		again := f.stream(f.a.TestKey, "", "Last-Event-ID", from)
		seen := map[whatisup.EventName]bool{}
		for !seen[whatisup.InstanceUpdated] {
			_, e := again.next(t)
			seen[e.Name] = true
		}
		if from == began.id && !seen[whatisup.InstanceCreated] {
			t.Error("an event was lost")
		}
		again.close()
	}
	// A position is its customer's and mode's own.
	for _, key := range []string{f.b.TestKey, f.a.LiveKey} {
		if s := f.stream(key, "", "Last-Event-ID", fr.id); s.status != 400 {
			t.Errorf("another's position: %d", s.status)
		}
	}
	f.clock.advance(31 * 24 * time.Hour)
	if s := f.stream(f.a.TestKey, "", "Last-Event-ID", fr.id); s.status != 410 {
		t.Errorf("an old position: %d", s.status)
	}
}

// TestStreamIsTold: where somebody tells of events, a stream doesn't wait for its next
// look; and after something was sent it looks more often, for what may follow.
func TestStreamIsTold(t *testing.T) {
	t.Parallel()
	stirs := make(chan struct{})
	f := start(t, func(c *httpapi.Config) {
		c.StreamPoll = time.Hour
		c.Stirred = func(c whatisup.CustomerID, m whatisup.Mode) <-chan struct{} { return stirs }
	})
	s := f.stream(f.a.TestKey, "")
	s.first(t)
	m := f.message(1)
	if err := f.db.PutEvent(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	close(stirs)
	if _, e := s.next(t); e.ID != m.ID {
		t.Errorf("told of %+v", e)
	}
	s.close()

	f = start(t, func(c *httpapi.Config) { c.StreamPoll = time.Hour })
	before := f.stream(f.a.TestKey, "")
	from := before.first(t)
	before.close()
	if err := f.db.PutEvent(t.Context(), f.message(1)); err != nil {
		t.Fatal(err)
	}
	s = f.stream(f.a.TestKey, "", "Last-Event-ID", from.id)
	s.next(t)
	if err := f.db.PutEvent(t.Context(), f.message(2)); err != nil {
		t.Fatal(err)
	}
	s.next(t)
}

func TestStreamFilters(t *testing.T) {
	t.Parallel()
	f := start(t)
	path, id := f.create(f.a.TestKey, "one")
	other, _ := f.create(f.a.TestKey, "other")
	s := f.stream(f.a.TestKey, "?events=instance.updated,instance.deleted&instance_id="+string(id))
	s.first(t)
	f.want(202, "", f.a.TestKey, "POST", path+"/connect", "")
	f.want(200, "", f.a.TestKey, "PATCH", other, `{"name":"x"}`)
	f.want(200, "", f.a.TestKey, "PATCH", path, `{"name":"x"}`)
	f.want(204, "", f.a.TestKey, "DELETE", path, "")
	if _, e := s.next(t); e.Name != whatisup.InstanceUpdated || e.Instance != id {
		t.Errorf("%+v", e)
	}
	if _, e := s.next(t); e.Name != whatisup.InstanceDeleted || e.Instance != id {
		t.Errorf("%+v", e)
	}
	if s := f.stream(f.a.TestKey, "?events=nothing"); s.status != 400 {
		t.Errorf("%d", s.status)
	}
}

// put writes an event with a position of a moment of its own, and void a row
// that keeps such a position empty.
func (f *fixture) put(e whatisup.Event, p whatisup.Position) {
	f.write(e, p, (*dynamo.EventRows).Event)
}
func (f *fixture) void(e whatisup.Event) {
	f.write(e, whatisup.NewPosition(), (*dynamo.EventRows).Void)
}

func (f *fixture) write(e whatisup.Event, p whatisup.Position, row func(*dynamo.EventRows, whatisup.Position) types.Put) {
	f.t.Helper()
	rows, err := f.db.EventRows(e)
	if err != nil {
		f.t.Fatal(err)
	}
	put := row(rows, p)
	if _, err := dynamodb.NewFromConfig(f.aws.Config).PutItem(context.Background(), &dynamodb.PutItemInput{
		TableName: put.TableName, Item: put.Item, ConditionExpression: put.ConditionExpression,
	}); err != nil {
		f.t.Fatal(err)
	}
}

func (f *fixture) message(n int) whatisup.Event {
	f.t.Helper()
	text := fmt.Sprint(n)
	e, err := whatisup.NewEvent(whatisup.MessageReceived, f.a.Customer, whatisup.Test, whatisup.NewInstanceID(), f.clock.now(), whatisup.ReceivedData{
		MessageID: whatisup.MessageID(text), Chat: "4915112345678@s.whatsapp.net", ChatType: whatisup.ChatDirect, Type: "text", Text: &text,
		Body:   &whatisup.ReceivedBody{Body: whatisup.Body{Type: whatisup.BodyText, Text: text}},
		SentAt: whatisup.At(f.clock.now()), ReceivedAt: whatisup.At(f.clock.now()),
	})
	if err != nil {
		f.t.Fatal(err)
	}
	return e
}

// Writers take their positions and commit later, in any order; streams come and
// go meanwhile. Whoever resumes from the last frame sees every event.
func TestNothingIsLostToLateCommits(t *testing.T) {
	t.Parallel()
	f := start(t)
	const events = 60
	type late struct {
		e whatisup.Event
		p whatisup.Position
	}
	seen := map[whatisup.EventID]bool{}
	s := f.stream(f.a.TestKey, "")
	last := s.first(t).id
	var pending []late
	commit := func() {
		n := rand.N(len(pending))
		f.put(pending[n].e, pending[n].p)
		pending = slices.Delete(pending, n, n+1)
	}
	wanted := map[whatisup.EventID]bool{}
	drain := func() {
		for {
			select {
			case fr, ok := <-s.frames:
				if !ok {
					return
				}
				if fr.data != "" && fr.event != string(whatisup.StreamOpened) {
					var e whatisup.Event
					if err := json.Unmarshal([]byte(fr.data), &e); err != nil {
						t.Fatal(err)
					}
					seen[e.ID] = true
				}
				if fr.id != "" {
					last = fr.id
				}
			default:
				return
			}
		}
	}
	for n := range events {
		e := f.message(n)
		wanted[e.ID] = true
		pending = append(pending, late{e, whatisup.NewPosition()})
		f.void(e)
		if len(pending) > 8 {
			commit()
		}
		drain()
		if n%7 == 3 { // cut off, and back again
			s.close()
			drain()
			s = f.stream(f.a.TestKey, "", "Last-Event-ID", last)
		}
	}
	for len(pending) > 0 {
		commit()
	}
	eventually(t, func() bool { drain(); return len(seen) == events })
	for id := range wanted {
		if !seen[id] {
			t.Errorf("%s was lost", id)
		}
	}
}

func TestDeadCodesAreSkipped(t *testing.T) {
	t.Parallel()
	f := start(t)
	begin := f.stream(f.a.TestKey, "")
	from := begin.first(t).id
	begin.close()
	id := whatisup.NewInstanceID()
	for _, life := range []time.Duration{-time.Second, time.Minute} {
		e, err := whatisup.NewEvent(whatisup.QRUpdated, f.a.Customer, whatisup.Test, id, f.clock.now(),
			whatisup.QRData{QR: "data:", Raw: life.String(), ExpiresAt: whatisup.At(f.clock.now().Add(life))})
		if err != nil {
			t.Fatal(err)
		}
		if err := f.db.PutEvent(t.Context(), e); err != nil {
			t.Fatal(err)
		}
	}
	s := f.stream(f.a.TestKey, "", "Last-Event-ID", from)
	if _, e := s.next(t); !strings.Contains(string(e.Data), "1m0s") {
		t.Errorf("a dead code was sent: %s", e.Data)
	}
}

func TestStreamsAreLimited(t *testing.T) {
	t.Parallel()
	f := start(t)
	var open []*stream
	for range 10 {
		s := f.stream(f.a.TestKey, "")
		s.first(t)
		open = append(open, s)
	}
	if s := f.stream(f.a.TestKey, ""); s.status != 429 || s.header.Get("Retry-After") == "" {
		t.Errorf("the eleventh: %d", s.status)
	}
	f.stream(f.b.TestKey, "").first(t)
	f.stream(f.a.LiveKey, "").first(t) // a mode takes nothing from the other
	open[3].close()
	eventually(t, func() bool {
		s := f.stream(f.a.TestKey, "")
		return s.status == 200
	})
}

// A stream says that it is there, ends by itself with advice to come back, ends
// when its key is revoked, and gives its slot back each time.
func TestStreamEnds(t *testing.T) {
	t.Parallel()
	f := start(t)
	s := f.stream(f.a.TestKey, "")
	s.first(t)
	f.clock.advance(16 * time.Second)
	if fr := <-s.frames; fr.comment == "" {
		t.Errorf("%+v", fr)
	}
	f.clock.advance(5 * time.Minute)
	var last frame
	for fr := range s.frames {
		last = fr
	}
	if last.retry == "" {
		t.Errorf("ended with %+v", last)
	}
	made := into[struct{ ID, Secret string }](t, f.want(201, "", f.a.TestKey, "POST", "/v1/api-keys", `{"name":"x"}`))
	s = f.stream(made.Secret, "")
	s.first(t)
	f.want(204, "", f.a.TestKey, "DELETE", "/v1/api-keys/"+made.ID, "")
	f.clock.advance(61 * time.Second)
	for range s.frames {
	}
	s = f.stream(f.a.TestKey, "")
	s.first(t)
	if _, err := f.operator.Suspend(t.Context(), f.a.Customer); err != nil {
		t.Fatal(err)
	}
	f.clock.advance(51 * time.Second)
	for range s.frames {
	}
	taken, err := f.db.TakenSlots(t.Context(), whatisup.Slots{Customer: f.a.Customer, Mode: whatisup.Test, Kind: "streams"})
	if err != nil || len(taken) != 0 {
		t.Errorf("%v: %v are still taken", err, taken)
	}
}

func TestStreamEndsBeforeTheFunction(t *testing.T) {
	t.Parallel()
	f := start(t)
	ctx, cancel := context.WithTimeout(t.Context(), 11*time.Second)
	defer cancel()
	req, _ := http.NewRequestWithContext(ctx, "GET", "/v1/events", nil)
	req.Header.Set("Authorization", "Bearer "+f.a.TestKey)
	w := &plainWriter{header: http.Header{}}
	f.api.Function(httpapi.FunctionEvents).ServeHTTP(w, req)
	if ctx.Err() != nil || !strings.HasSuffix(w.body, "retry: 1000\n: bye\n") {
		t.Errorf("%v: %q", ctx.Err(), w.body)
	}
}

// plainWriter can't flush, as Lambda's writers can't.
type plainWriter struct {
	header http.Header
	body   string
}

func (w *plainWriter) Header() http.Header         { return w.header }
func (w *plainWriter) WriteHeader(int)             {}
func (w *plainWriter) Write(b []byte) (int, error) { w.body += string(b); return len(b), nil }

func TestLog(t *testing.T) {
	t.Parallel()
	f := start(t)
	for n := range 25 {
		if err := f.db.PutEvent(t.Context(), f.message(n)); err != nil {
			t.Fatal(err)
		}
		f.void(f.message(n)) // no page is shorter for it
	}
	path, id := f.create(f.a.TestKey, "x")
	f.want(204, "", f.a.TestKey, "DELETE", path, "")
	type page struct {
		Data []whatisup.Event
		Next *string `json:"next_cursor"`
	}
	read := func(query string) page {
		t.Helper()
		return into[page](t, f.want(200, "", f.a.TestKey, "GET", "/v1/events"+query, "", "Accept", "application/json"))
	}
	var texts []string
	query := "?events=message.received&limit=10"
	pages := 0
	for {
		p := read(query)
		pages++
		for _, e := range p.Data {
			var d whatisup.ReceivedData
			json.Unmarshal(e.Data, &d)
			texts = append(texts, string(d.MessageID))
		}
		if p.Next == nil {
			break
		}
		query = "?events=message.received&limit=10&cursor=" + *p.Next
	}
	if pages != 3 || len(texts) != 25 || texts[0] != "24" || texts[24] != "0" {
		t.Errorf("%d pages: %v", pages, texts)
	}
	// Also of a deleted instance.
	p := read("?instance_id=" + string(id))
	if len(p.Data) != 2 || p.Data[0].Name != whatisup.InstanceDeleted || p.Next != nil {
		t.Errorf("%+v", p)
	}
	// A cursor is bound to its filter.
	next := *read("?limit=5").Next
	f.want(400, "invalid_request", f.a.TestKey, "GET", "/v1/events?limit=5&instance_id="+string(id)+"&cursor="+next, "", "Accept", "application/json")
	f.want(400, "invalid_request", f.b.TestKey, "GET", "/v1/events?limit=5&cursor="+next, "", "Accept", "application/json")
	if f.clock.advance(31 * 24 * time.Hour); len(read("").Data) != 0 {
		t.Error("what is over is shown while the broom has not come")
	}
}
