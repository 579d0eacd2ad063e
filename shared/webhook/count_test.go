package webhook_test

import (
	"context"
	"maps"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/smithy-go/middleware"

	"whatisup/shared/webhook"
	"whatisup/shared/whatisup"
)

// units are the write units of the table.
type units struct {
	mu  sync.Mutex
	sum float64
}

func (u *units) add(all ...types.ConsumedCapacity) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, c := range all {
		if c.CapacityUnits != nil {
			u.sum += *c.CapacityUnits
		}
	}
}

func (u *units) read() float64 {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.sum
}

// weigh has DynamoDB say what each write takes.
func (w *world) weigh(o *dynamodb.Options) {
	o.APIOptions = append(o.APIOptions, func(s *middleware.Stack) error {
		return s.Initialize.Add(middleware.InitializeMiddlewareFunc("weigh", func(ctx context.Context, in middleware.InitializeInput, next middleware.InitializeHandler) (middleware.InitializeOutput, middleware.Metadata, error) {
			const total = types.ReturnConsumedCapacityTotal
			switch in := in.Parameters.(type) {
			case *dynamodb.PutItemInput:
				in.ReturnConsumedCapacity = total
			case *dynamodb.UpdateItemInput:
				in.ReturnConsumedCapacity = total
			case *dynamodb.DeleteItemInput:
				in.ReturnConsumedCapacity = total
			case *dynamodb.BatchWriteItemInput:
				in.ReturnConsumedCapacity = total
			case *dynamodb.TransactWriteItemsInput:
				in.ReturnConsumedCapacity = total
			}
			out, metadata, err := next.HandleInitialize(ctx, in)
			one := func(c *types.ConsumedCapacity) {
				if c != nil {
					w.units.add(*c)
				}
			}
			switch out := out.Result.(type) {
			case *dynamodb.PutItemOutput:
				one(out.ConsumedCapacity)
			case *dynamodb.UpdateItemOutput:
				one(out.ConsumedCapacity)
			case *dynamodb.DeleteItemOutput:
				one(out.ConsumedCapacity)
			case *dynamodb.BatchWriteItemOutput:
				w.units.add(out.ConsumedCapacity...)
			case *dynamodb.TransactWriteItemsOutput:
				w.units.add(out.ConsumedCapacity...)
			}
			return out, metadata, err
		}), middleware.After)
	})
}

// uncounted is a tally that counts nothing: what a delivery adds to the rows of usage is
// not the delivery's.
type uncounted struct{}

func (uncounted) Count(whatisup.Ref, whatisup.Usage) {}

// spent is what do asks the tables and queues for, by operation, and its write units.
func (w *world) spent(do func()) (requests map[string]int, units float64) {
	before, weight := w.aws.Requests(), w.units.read()
	do()
	requests = maps.Clone(w.aws.Requests())
	for name, n := range before {
		if requests[name] -= n; requests[name] == 0 {
			delete(requests, name)
		}
	}
	return requests, w.units.read() - weight
}

// batch is so many events of as many instances, as the queue gives them to a function.
func (w *world) batch(n int) (all []webhook.Message) {
	w.t.Helper()
	for range n {
		e, err := whatisup.NewEvent(whatisup.MessageReceived, w.customer, whatisup.Test, whatisup.NewInstanceID(), w.path.Now(),
			map[string]any{"text": strings.Repeat("x", 300), "chat_type": "direct"})
		if err != nil {
			w.t.Fatal(err)
		}
		if err := w.events.Send(w.t.Context(), e); err != nil {
			w.t.Fatal(err)
		}
	}
	for len(all) < n {
		for _, m := range w.receive(w.urls.WebhookEvents) {
			all = append(all, webhook.Message{Body: []byte(*m.Body), Group: m.Attributes["MessageGroupId"], Order: orderOf(m)})
			w.remove(w.urls.WebhookEvents, m)
		}
	}
	return all
}

// TestRequestsOfADelivery holds what the way from an event to its rows asks for, beside
// what receives and deletes the messages of the queues: 40 events in batches of ten, taken
// by three endpoints. One delivery in eight is marked by chance, so these bounds are seven
// times what that varies by above what there is on average.
func TestRequestsOfADelivery(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.path.Tally = uncounted{}
	r := receive(t)
	for range 3 {
		w.endpoint(r.URL, nil)
	}
	w.happen(whatisup.NewInstanceID(), 0) // opens the endpoints' secrets
	w.work()
	const deliveries = 120
	var batches [][]webhook.Message
	for range 4 {
		batches = append(batches, w.batch(10))
	}
	requests, units := w.spent(func() {
		for _, b := range batches {
			for _, err := range w.path.FanOut(t.Context(), b) {
				if err != nil {
					t.Error(err)
				}
			}
		}
	})
	t.Logf("fan-out of %d deliveries: %v, %v write units", deliveries, requests, units)
	marks := requests["dynamodb.BatchWriteItem"] + requests["dynamodb.PutItem"]
	if requests["sqs.SendMessageBatch"] > 28 || marks > 8 || requests["dynamodb.Query"] > 8 || units > 40 {
		t.Errorf("the fan-out of %d deliveries asked for %v, and took %v write units", deliveries, requests, units)
	}
	var got []webhook.Message
	for len(got) < deliveries {
		for _, m := range w.receive(w.urls.WebhookDeliveries) {
			got = append(got, webhook.Message{Body: []byte(*m.Body), Group: m.Attributes["MessageGroupId"], Order: orderOf(m)})
			w.remove(w.urls.WebhookDeliveries, m)
		}
	}
	requests, units = w.spent(func() {
		for _, m := range got {
			if err := w.path.Deliver(t.Context(), m); err != nil {
				t.Error(err)
			}
		}
	})
	t.Logf("%d deliveries: %v, %v write units", deliveries, requests, units)
	if requests["dynamodb.BatchGetItem"] != deliveries || requests["dynamodb.PutItem"] != deliveries || requests["dynamodb.DeleteItem"] > 40 || len(requests) > 3 || units > 2*deliveries+40 {
		t.Errorf("%d deliveries asked for %v, and took %v write units", deliveries, requests, units)
	}
}

// TestRequestsOfABadEndpoint holds what an endpoint that fails asks for: few requests for
// each of the attempts that degrade it, and some transactions for ten events afterwards.
func TestRequestsOfABadEndpoint(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.path.Tally = uncounted{}
	r := receive(t)
	r.answer(http.StatusInternalServerError)
	e := w.endpoint(r.URL, nil)
	fail := func() {
		for _, m := range w.receive(w.urls.WebhookDeliveries) {
			if err := w.path.Deliver(t.Context(), webhook.Message{Body: []byte(*m.Body), Group: m.Attributes["MessageGroupId"], Order: orderOf(m)}); err != nil {
				t.Error(err)
			}
			w.remove(w.urls.WebhookDeliveries, m)
		}
	}
	fan := func(n int) {
		for _, err := range w.path.FanOut(t.Context(), w.batch(n)) {
			if err != nil {
				t.Error(err)
			}
		}
	}
	fan(1)
	fail() // opens its secrets, and sends the wake-up
	fan(3)
	w.pass(3 * time.Second) // more than the jitter of the retries: the first one is the first
	// What receives and removes them is in the count: a delivery's two.
	requests, _ := w.spent(fail)
	t.Logf("three deliveries that fail: %v", requests)
	if requests["dynamodb.BatchGetItem"] != 3 || requests["dynamodb.UpdateItem"] != 3 || requests["dynamodb.TransactWriteItems"] != 3 || requests["sqs.SendMessage"] != 0 || requests["dynamodb.Query"] != 0 {
		t.Errorf("three deliveries that fail asked for %v", requests)
	}
	fan(1)
	fail()
	if !w.read(e).Degraded() {
		t.Fatal("not degraded")
	}
	events := w.batch(10)
	requests, _ = w.spent(func() {
		for _, err := range w.path.FanOut(t.Context(), events) {
			if err != nil {
				t.Error(err)
			}
		}
	})
	t.Logf("ten events of a degraded endpoint: %v", requests)
	// One for each round of the groups; ten events in sixteen lanes make three, seldom four.
	if n := requests["dynamodb.TransactWriteItems"]; n > 7 || requests["sqs.SendMessageBatch"] != 0 || requests["sqs.SendMessage"] > 1 || requests["dynamodb.PutItem"] > 0 {
		t.Errorf("ten events of a degraded endpoint asked for %v", requests)
	}
}
