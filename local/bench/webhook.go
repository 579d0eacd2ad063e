package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"whatisup/shared/queue"
	"whatisup/shared/whatisup"
)

// The endpoints of which the most deliveries a second are measured.
const (
	hookCustomers = 5
	hookEndpoints = 4 // of each
	hookInstances = 4 // of each
	hookRate      = 50
)

// hookReceiver is a program of customers: it answers at once.
type hookReceiver struct {
	url      string
	got      atomic.Pointer[func(messageID string)]
	requests atomic.Int64
	last     atomic.Int64 // when the last one came, in nanoseconds
}

func (b *bench) receiveHooks() (*hookReceiver, func(), error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, nil, err
	}
	r := &hookReceiver{url: "http://" + l.Addr().String()}
	server := &http.Server{Handler: r, ReadHeaderTimeout: 10 * time.Second}
	var served sync.WaitGroup
	served.Go(func() { _ = server.Serve(l) }) // ends with its listener
	return r, func() { server.Close(); served.Wait() }, nil
}

func (r *hookReceiver) ServeHTTP(_ http.ResponseWriter, in *http.Request) {
	var e struct {
		Data struct {
			MessageID string `json:"message_id"`
		} `json:"data"`
	}
	_ = json.NewDecoder(in.Body).Decode(&e)
	if got := r.got.Load(); got != nil {
		(*got)(e.Data.MessageID)
	}
	r.last.Store(time.Now().UnixNano())
	r.requests.Add(1)
}

// endpoint makes one of the customer.
func (c *customer) endpoint(ctx context.Context, url string) (id string, err error) {
	var made struct {
		ID string `json:"id"`
	}
	_, err = c.do(ctx, "POST", "/v1/webhook-endpoints", map[string]any{"url": url, "events": []string{"message.received"}}, &made)
	return made.ID, err
}

// webhooks measures how long a message takes to the request of its webhook, and how many
// deliveries there are a second.
func (b *bench) webhooks(ctx context.Context) error {
	r, stop, err := b.receiveHooks()
	if err != nil {
		return err
	}
	defer stop()
	if err := b.hookLatency(ctx, r); err != nil {
		return err
	}
	return b.hookRate(ctx, r)
}

func (b *bench) hookLatency(ctx context.Context, r *hookReceiver) error {
	to := 10
	if err := b.fill(ctx, min(to, b.size.Density)); err != nil {
		return err
	}
	own := slices.DeleteFunc(slices.Clone(b.linked), func(i instance) bool { return b.of(i.ID) != b.customer })
	f := newFlight(b.phones, own[:min(to, len(own))])
	got := f.arrived
	r.got.Store(&got)
	defer r.got.Store(nil)
	id, err := b.customer.endpoint(ctx, r.url)
	if err != nil {
		return err
	}
	if _, _, err := f.send(ctx, time.Minute, 2*len(f.to), hookRate); err != nil {
		return err
	}
	_, late, err := f.send(ctx, b.size.Flood, 1<<40, hookRate)
	if err != nil {
		return err
	}
	b.report.spread(fmt.Sprintf("Webhooks: a message until its request arrives, at %d a second", hookRate), late, nil, []option{goal(40)}, []option{goal(500)})
	_, err = b.customer.do(ctx, "DELETE", "/v1/webhook-endpoints/"+id, nil, nil)
	return err
}

// everyEvent says of each event that some endpoint takes it.
type everyEvent struct{}

func (everyEvent) Takes(context.Context, *whatisup.Event) (bool, error) { return true, nil }

// hookRate gives events to the queue before the fan-out, as hosts do: what they do
// before is measured by itself.
func (b *bench) hookRate(ctx context.Context, r *hookReceiver) error {
	sends := queue.NewEvents(newConsumer(b.stack).client, nil).WithWebhooks(b.stack.Env["WEBHOOK_EVENTS_QUEUE_URL"], everyEvent{})
	var customers []*customer
	for n := range hookCustomers {
		c, err := b.newCustomer(ctx, fmt.Sprintf("webhooks %d", n), false)
		if err != nil {
			return err
		}
		for range hookEndpoints {
			if _, err := c.endpoint(ctx, r.url); err != nil {
				return err
			}
		}
		customers = append(customers, c)
	}
	round := func(each int) error {
		before, want := r.requests.Load(), int64(hookCustomers*hookEndpoints*each)
		errs := make(chan error, len(customers))
		for _, c := range customers {
			go func() { errs <- sendEvents(ctx, sends, c, each) }()
		}
		for range customers {
			if err := <-errs; err != nil {
				return err
			}
		}
		return await(ctx, 2*time.Minute, "every delivery has arrived", func() (bool, error) { return r.requests.Load()-before >= want, nil })
	}
	if err := round(hookInstances); err != nil { // makes connections
		return err
	}
	began := time.Now()
	if err := round(b.size.Hooks); err != nil {
		return err
	}
	took, n := time.Duration(r.last.Load()-began.UnixNano()), hookCustomers*hookEndpoints*b.size.Hooks
	b.report.add("Webhooks: a delivery, 20 endpoints of 5 customers as fast as they go", ms(took)/float64(n), "ms", goal(1000.0/300),
		note("%.0f a second", float64(n)/took.Seconds()))
	return nil
}

func sendEvents(ctx context.Context, to *queue.Events, c *customer, n int) error {
	var instances []whatisup.InstanceID
	for range hookInstances {
		instances = append(instances, whatisup.NewInstanceID())
	}
	var some []whatisup.Event
	for i := range n {
		e, err := whatisup.NewEvent(whatisup.MessageReceived, whatisup.CustomerID(c.id), whatisup.Test, instances[i%len(instances)], time.Now(),
			map[string]any{"message_id": "", "chat_type": "direct"})
		if err != nil {
			return err
		}
		if some = append(some, e); len(some) == 10 || i == n-1 {
			if err := to.Send(ctx, some...); err != nil {
				return err
			}
			some = nil
		}
	}
	return nil
}
