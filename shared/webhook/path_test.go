package webhook_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"

	localaws "whatisup/local/aws"
	"whatisup/local/aws/awstest"
	"whatisup/shared/dynamo"
	"whatisup/shared/foreign"
	"whatisup/shared/queue"
	"whatisup/shared/seal"
	"whatisup/shared/webhook"
	"whatisup/shared/webhook/takers"
	"whatisup/shared/whatisup"
)

// world is the way of events over real tables and queues, worked by hand.
type world struct {
	t        *testing.T
	aws      *awstest.Instance
	units    units
	db       *dynamo.DB
	sqs      *sqs.Client
	urls     queue.URLs
	path     *webhook.Path
	sealer   *webhook.Sealer
	key      string // of the sealer
	events   *queue.Events
	customer whatisup.CustomerID

	mu   sync.Mutex
	now  time.Time
	busy map[whatisup.CustomerID]int // deliveries under way, and the most of them
	most map[whatisup.CustomerID]int

	// die, if not nil, says whether the process dies at a step.
	die func(step string) bool
}

// killed is how a step ends the work on a message.
type killed struct{ step string }

func newWorld(t *testing.T) *world { return newWorldAt(t, "", "") }

// newWorldAt is in a file, with the key that sealed what is there; empty: new ones.
func newWorldAt(t *testing.T, path, key string) *world {
	t.Helper()
	a := awstest.StartWith(t, localaws.Config{Path: path})
	w := &world{t: t, aws: a, sqs: sqs.NewFromConfig(a.Config), customer: whatisup.NewCustomerID(), now: time.Now(),
		busy: map[whatisup.CustomerID]int{}, most: map[whatisup.CustomerID]int{}}
	client := dynamodb.NewFromConfig(a.Config, w.weigh)
	if err := dynamo.Local().Create(t.Context(), client); err != nil {
		t.Fatal(err)
	}
	var err error
	if w.urls, err = queue.Local().Create(t.Context(), w.sqs, 1); err != nil {
		t.Fatal(err)
	}
	// A test waits for nothing that is not there.
	for _, url := range []string{w.urls.WebhookEvents, w.urls.WebhookDeliveries, w.urls.WebhookWakes} {
		if _, err := w.sqs.SetQueueAttributes(t.Context(), &sqs.SetQueueAttributesInput{
			QueueUrl: aws.String(url), Attributes: map[string]string{"ReceiveMessageWaitTimeSeconds": "0"},
		}); err != nil {
			t.Fatal(err)
		}
	}
	if key == "" {
		made, err := kms.NewFromConfig(a.Config).CreateKey(t.Context(), &kms.CreateKeyInput{})
		if err != nil {
			t.Fatal(err)
		}
		key = aws.ToString(made.KeyMetadata.KeyId)
	}
	w.key = key
	guard, err := foreign.New(foreign.Config{OneMachine: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(guard.Close)
	w.db = dynamo.New(dynamo.Config{Client: client, Tables: dynamo.Local(), Queues: true})
	w.sealer = webhook.NewSealer(seal.NewKeyring(kms.NewFromConfig(a.Config), key))
	w.events = queue.NewEvents(w.sqs, nil).WithWebhooks(w.urls.WebhookEvents, takers.New(w.db))
	w.path = &webhook.Path{
		Store: w.db, Log: w.db, Events: w.events, Secrets: w.sealer, Slog: slog.New(slog.DiscardHandler),
		Queue:  queue.NewWebhooks(w.sqs, w.urls.WebhookDeliveries, w.urls.WebhookWakes),
		Client: func(test bool) *http.Client { return guard.Client(test, 0) },
		Now: func() time.Time {
			w.mu.Lock()
			defer w.mu.Unlock()
			return w.now
		},
		Halt: func(step string) {
			if w.die != nil && w.die(step) {
				panic(killed{step})
			}
		},
	}
	return w
}

func (w *world) pass(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.now = w.now.Add(d)
}

func (w *world) endpoint(url string, change func(*whatisup.Endpoint)) *whatisup.Endpoint {
	w.t.Helper()
	e := &whatisup.Endpoint{
		Customer: w.customer, Mode: whatisup.Test, ID: whatisup.NewEndpointID(), URL: url, Events: []string{"*"}, MaxInFlight: 4,
	}
	if change != nil {
		change(e)
	}
	if err := w.sealer.SealSecret(w.t.Context(), e, whatisup.NewSigningSecret(), time.Time{}); err != nil {
		w.t.Fatal(err)
	}
	if err := w.db.CreateEndpoint(w.t.Context(), e, nil); err != nil {
		w.t.Fatal(err)
	}
	return e
}

func (w *world) read(e *whatisup.Endpoint) *whatisup.Endpoint {
	w.t.Helper()
	now, err := w.db.Endpoint(w.t.Context(), e.Customer, e.Mode, e.ID)
	if err != nil {
		w.t.Fatal(err)
	}
	return now
}

func (w *world) queued(e *whatisup.Endpoint) int {
	w.t.Helper()
	n, err := w.db.CountQueued(w.t.Context(), e.ID)
	if err != nil {
		w.t.Fatal(err)
	}
	return n
}

// waiting is how many messages are in a queue.
func (w *world) waiting(url string) int {
	w.t.Helper()
	out, err := w.sqs.GetQueueAttributes(w.t.Context(), &sqs.GetQueueAttributesInput{
		QueueUrl: aws.String(url), AttributeNames: []types.QueueAttributeName{types.QueueAttributeNameApproximateNumberOfMessages},
	})
	if err != nil {
		w.t.Fatal(err)
	}
	n, _ := strconv.Atoi(out.Attributes["ApproximateNumberOfMessages"])
	return n
}

// happen puts an event into the log and the queue.
func (w *world) happen(i whatisup.InstanceID, n int) whatisup.Event {
	w.t.Helper()
	e, err := whatisup.NewEvent(whatisup.MessageReceived, w.customer, whatisup.Test, i, w.path.Now(), map[string]any{"n": n, "chat_type": "direct"})
	if err != nil {
		w.t.Fatal(err)
	}
	if err := w.db.PutEvent(w.t.Context(), e); err != nil {
		w.t.Fatal(err)
	}
	if err := w.events.Send(w.t.Context(), e); err != nil {
		w.t.Fatal(err)
	}
	return e
}

// work takes what is in the queues until they are empty. A message whose work dies or
// fails is seen again at once.
func (w *world) work() {
	w.t.Helper()
	queues := []struct {
		url string
		do  func(context.Context, webhook.Message) error
	}{{w.urls.WebhookEvents, w.fanOut}, {w.urls.WebhookDeliveries, w.path.Deliver}, {w.urls.WebhookWakes, w.path.Wake}}
	for again := true; again; {
		again = false
		for _, q := range queues {
			stopped := map[string]bool{}
			for _, m := range w.receive(q.url) {
				again = true
				group := m.Attributes["MessageGroupId"]
				if !stopped[group] && w.try(q.do, m) {
					w.remove(q.url, m)
					continue
				}
				stopped[group] = group != ""
				if _, err := w.sqs.ChangeMessageVisibility(w.t.Context(), &sqs.ChangeMessageVisibilityInput{QueueUrl: aws.String(q.url), ReceiptHandle: m.ReceiptHandle}); err != nil {
					w.t.Fatal(err)
				}
			}
		}
	}
}

func (w *world) receive(url string) []types.Message {
	w.t.Helper()
	out, err := w.sqs.ReceiveMessage(w.t.Context(), &sqs.ReceiveMessageInput{
		QueueUrl: aws.String(url), MaxNumberOfMessages: 10,
		MessageSystemAttributeNames: []types.MessageSystemAttributeName{types.MessageSystemAttributeNameAll},
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return out.Messages
}

func (w *world) remove(url string, m types.Message) {
	w.t.Helper()
	if _, err := w.sqs.DeleteMessage(w.t.Context(), &sqs.DeleteMessageInput{QueueUrl: aws.String(url), ReceiptHandle: m.ReceiptHandle}); err != nil {
		w.t.Fatal(err)
	}
}

func orderOf(m types.Message) string {
	ms, _ := strconv.ParseInt(m.Attributes["SentTimestamp"], 10, 64)
	return fmt.Sprintf("%015d#%s", ms, m.Attributes["SequenceNumber"])
}

func (w *world) fanOut(ctx context.Context, m webhook.Message) error {
	return w.path.FanOut(ctx, []webhook.Message{m})[0]
}

func (w *world) try(do func(context.Context, webhook.Message) error, m types.Message) (ok bool) {
	defer func() {
		if p := recover(); p != nil {
			if _, mine := p.(killed); !mine {
				panic(p)
			}
		}
	}()
	err := do(w.t.Context(), webhook.Message{Body: []byte(*m.Body), Order: orderOf(m)})
	if err != nil {
		w.t.Logf("again: %v", err)
	}
	return err == nil
}

func (w *world) sweep() {
	w.t.Helper()
	func() {
		defer func() {
			if p := recover(); p != nil {
				if _, mine := p.(killed); !mine {
					panic(p)
				}
			}
		}()
		if err := w.path.Sweep(w.t.Context()); err != nil {
			w.t.Logf("sweep: %v", err)
		}
	}()
	w.work()
}

func (w *world) deliveries() (all []*whatisup.Delivery) {
	w.t.Helper()
	for d, err := range w.db.Deliveries(w.t.Context(), w.customer, whatisup.Test, "", 0) {
		if err != nil {
			w.t.Fatal(err)
		}
		all = append(all, d)
	}
	slices.Reverse(all)
	return all
}

// receiver answers with what answer says, and keeps what it was sent.
type receiver struct {
	*httptest.Server
	mu     sync.Mutex
	status int
	header http.Header
	got    map[string][]string // bodies by event id
	order  []int
}

func receive(t *testing.T) *receiver {
	r := &receiver{status: http.StatusNoContent, got: map[string][]string{}, header: http.Header{}}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		b, _ := io.ReadAll(req.Body)
		var e struct{ Data struct{ N int } }
		_ = json.Unmarshal(b, &e)
		r.mu.Lock()
		defer r.mu.Unlock()
		id := req.Header.Get("X-WhatIsUp-Event-Id")
		r.got[id] = append(r.got[id], string(b))
		r.order = append(r.order, e.Data.N)
		for k, v := range r.header {
			w.Header()[k] = v
		}
		w.WriteHeader(r.status)
	}))
	t.Cleanup(r.Close)
	return r
}

func (r *receiver) answer(status int, header ...string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.status, r.header = status, http.Header{}
	for i := 0; i+1 < len(header); i += 2 {
		r.header.Set(header[i], header[i+1])
	}
}

func TestSixAttempts(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := receive(t)
	r.answer(http.StatusInternalServerError)
	w.endpoint(r.URL, nil)
	w.happen(whatisup.NewInstanceID(), 1)
	w.work()
	gaps := []time.Duration{10 * time.Second, time.Minute, 5 * time.Minute, 30 * time.Minute, 2 * time.Hour}
	for n, gap := range gaps {
		d := w.deliveries()[0]
		wait := d.NextAt.Sub(w.path.Now())
		if d.Status != whatisup.DeliveryRetrying || len(d.Attempts) != n+1 || wait < gap*9/10-time.Millisecond || wait > gap*11/10+time.Millisecond {
			t.Fatalf("after attempt %d: %s, %d attempts, next in %v, want about %v", n+1, d.Status, len(d.Attempts), wait, gap)
		}
		w.pass(gap * 8 / 10)
		w.sweep()
		if got := len(w.deliveries()[0].Attempts); got != n+1 {
			t.Fatalf("attempt %d came too early", got)
		}
		w.pass(gap * 4 / 10)
		w.sweep()
	}
	d := w.deliveries()[0]
	if d.Status != whatisup.DeliveryFailed || len(d.Attempts) != 6 || d.Error != "answered 500" || *d.Attempts[5].Status != 500 {
		t.Errorf("at the end: %+v", d)
	}
	for _, bodies := range r.got {
		if len(bodies) != 6 || slices.ContainsFunc(bodies, func(b string) bool { return b != bodies[0] || b != string(d.Payload) }) {
			t.Errorf("the bodies differ: %q", bodies)
		}
	}
}

func TestRetryAfterAndSuccess(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := receive(t)
	r.answer(http.StatusTooManyRequests, "Retry-After", "7200")
	e := w.endpoint(r.URL, nil)
	w.happen(whatisup.NewInstanceID(), 1)
	w.work()
	if d := w.deliveries()[0]; d.NextAt.Sub(w.path.Now()).Round(time.Second) != 2*time.Hour {
		t.Errorf("next at %v, it is %v", d.NextAt, w.path.Now())
	}
	r.answer(http.StatusOK)
	w.pass(2*time.Hour + time.Second)
	w.sweep()
	if d := w.deliveries()[0]; d.Status != whatisup.DeliverySuccess || len(d.Attempts) != 2 {
		t.Errorf("%+v", d)
	}
	if now := w.read(e); w.queued(e) > 0 || !now.FailingSince.IsZero() {
		t.Errorf("the endpoint: %+v", now)
	}
}

// TestDegraded has an endpoint fail for many deliveries: few of them use attempts, and
// the first success releases all, each instance's in its order.
func TestDegraded(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := receive(t)
	r.answer(http.StatusInternalServerError)
	e := w.endpoint(r.URL, func(e *whatisup.Endpoint) { e.MaxInFlight = 1 })
	i := whatisup.NewInstanceID()
	for n := range 12 {
		w.happen(i, n)
	}
	w.work()
	if now := w.read(e); now.Status() != whatisup.EndpointDegraded {
		t.Fatalf("status %s, %d failures", now.Status(), now.Failures)
	}
	tried := 0
	for _, d := range w.deliveries() {
		if len(d.Attempts) > 0 {
			tried++
		}
	}
	if tried != whatisup.DegradedAfter {
		t.Errorf("%d deliveries were tried, want %d", tried, whatisup.DegradedAfter)
	}
	before := len(r.order)
	w.pass(34 * time.Second)
	w.sweep()
	w.sweep()
	if probes := len(r.order) - before; probes != 1 {
		t.Errorf("%d probes at a time", probes)
	}
	r.answer(http.StatusNoContent)
	for range 10 {
		w.pass(6 * time.Minute)
		w.sweep()
	}
	var got []int
	r.mu.Lock()
	for _, n := range r.order {
		if n >= whatisup.DegradedAfter && !slices.Contains(got, n) { // first attempts: the probe failed once
			got = append(got, n)
		}
	}
	r.mu.Unlock()
	if !slices.IsSorted(got) || len(got) != 12-whatisup.DegradedAfter {
		t.Errorf("after the success: %v", got)
	}
	for _, d := range w.deliveries() {
		if d.Status != whatisup.DeliverySuccess {
			t.Errorf("%s is %s after %d attempts", d.ID, d.Status, len(d.Attempts))
		}
	}
	if now := w.read(e); now.Status() != whatisup.EndpointActive || now.Behind || w.queued(e) > 0 {
		t.Errorf("the endpoint: %+v", now)
	}
}

func TestGoneAndFailingEndpointsAreDisabled(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	gone, failing := receive(t), receive(t)
	gone.answer(http.StatusGone)
	failing.answer(http.StatusBadGateway)
	a, b := w.endpoint(gone.URL, nil), w.endpoint(failing.URL, nil)
	i := whatisup.NewInstanceID()
	w.happen(i, 1)
	w.work()
	if now := w.read(a); now.Disabled != whatisup.DisabledGone {
		t.Errorf("disabled %q after a 410", now.Disabled)
	}
	w.pass(whatisup.FailingFor - time.Hour)
	w.happen(i, 2)
	w.work()
	if now := w.read(b); now.Disabled != "" {
		t.Error("disabled too early")
	}
	w.pass(time.Hour + time.Second)
	w.happen(i, 3)
	w.work()
	if now := w.read(b); now.Disabled != whatisup.DisabledFailing {
		t.Errorf("disabled %q after five days", now.Disabled)
	}
	w.happen(i, 4)
	w.sweep()
	held := 0
	for _, d := range w.deliveries() {
		if d.Status == whatisup.DeliveryHeld {
			held++
		}
	}
	if held == 0 {
		t.Error("nothing is held")
	}
	reasons := map[string]bool{}
	for l, err := range w.db.EventsAfter(t.Context(), w.customer, whatisup.Test, whatisup.PositionAt(time.UnixMilli(0)), 0) {
		if err != nil {
			t.Fatal(err)
		}
		if l.Name == whatisup.WebhookDisabled {
			var data whatisup.WebhookDisabledData
			_ = json.Unmarshal(l.Data, &data)
			reasons[data.Reason] = true
		}
	}
	if !reasons[whatisup.DisabledGone] || !reasons[whatisup.DisabledFailing] {
		t.Errorf("events tell of %v", reasons)
	}
}

// TestBehind has more deliveries than an endpoint may have in the queue, and looks that
// the queue holds no more, and that the order is kept.
func TestBehind(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := receive(t)
	e := w.endpoint(r.URL, nil)
	i := whatisup.NewInstanceID()
	// What is in the queue is counted by a sample of marks, which varies by 60: this is
	// five times that.
	const spread = 300
	all := 0
	for more := 40; more > 0 && all < whatisup.MaxInQueue+spread+40; all++ {
		w.fan(i, all)
		if more < 40 || all%20 == 0 && w.read(e).Behind {
			more--
		}
	}
	if n := w.waiting(w.urls.WebhookDeliveries); n < whatisup.MaxInQueue-spread || n > min(whatisup.MaxInQueue+spread, all-1) || !w.read(e).Behind {
		t.Fatalf("behind %v, %d of %d in the queue", w.read(e).Behind, n, all)
	}
	if n := w.queued(e); n < whatisup.MaxInQueue || n > whatisup.MaxInQueue+spread {
		t.Errorf("by its marks it has %d in the queue", n)
	}
	w.work()
	for range 3 {
		w.pass(2 * time.Minute)
		w.sweep()
	}
	if len(r.order) != all || !slices.IsSorted(r.order) {
		t.Errorf("%d of %d arrived, in order: %v", len(r.order), all, slices.IsSorted(r.order))
	}
	if now := w.read(e); now.Behind || w.queued(e) > 0 {
		t.Errorf("the endpoint: %+v", now)
	}
}

// TestDeathAtEachStep kills the work at a step, each one in turn and by each count, and
// looks that every event arrived, with the same bytes, and that its row tells the truth.
// WEBHOOK_KILLS sets how often; the number is small unless it is set.
func TestDeathAtEachStep(t *testing.T) {
	t.Parallel()
	kills := 40
	if n, err := strconv.Atoi(os.Getenv("WEBHOOK_KILLS")); err == nil {
		kills = n
	}
	w := newWorld(t)
	r := receive(t)
	e := w.endpoint(r.URL, nil)
	i := whatisup.NewInstanceID()
	done, steps, deaths := 0, map[string]int{}, 0
	for n := 0; deaths < kills; n++ {
		if n%4 == 0 { // this one fails first, so that what retries do is killed too
			r.answer(http.StatusServiceUnavailable)
		}
		at := n % 21 // no divisor of the above, so every step of both is met
		count := 0
		w.die = func(step string) bool {
			if count++; count-1 == at {
				steps[step]++
				deaths++
				return true
			}
			return false
		}
		w.happen(i, n)
		done++
		w.work()
		r.answer(http.StatusNoContent)
		w.pass(time.Minute)
		w.sweep()
		w.die = nil
	}
	for range 8 {
		w.pass(15 * time.Minute)
		w.sweep()
	}
	all := w.deliveries()
	if len(all) != done {
		t.Errorf("%d rows of %d events", len(all), done)
	}
	for _, d := range all {
		bodies := r.got[string(d.EventID)]
		if d.Status != whatisup.DeliverySuccess || len(bodies) == 0 || slices.ContainsFunc(bodies, func(b string) bool { return b != string(d.Payload) }) {
			t.Errorf("%s is %s after %d attempts (turn %d, next %v); %d arrived", d.ID, d.Status, len(d.Attempts), d.Turn, d.NextAt, len(bodies))
		}
	}
	if len(r.got) != done {
		t.Errorf("%d of %d events arrived", len(r.got), done)
	}
	t.Logf("%d deaths, at %v; the endpoint: %+v", deaths, steps, w.read(e))
}
