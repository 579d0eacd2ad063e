package webhook_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"whatisup/local/gateway"
	"whatisup/shared/lambdahttp"
	"whatisup/shared/webhook"
	"whatisup/shared/whatisup"
)

// serve works on the queues as one machine does, and on so many deliveries at a time,
// until the context ends.
func (w *world) serve(ctx context.Context, many int) *sync.WaitGroup {
	var all sync.WaitGroup
	each := func(do func(context.Context, webhook.Message) error) func(context.Context, []webhook.Message) []error {
		return func(ctx context.Context, all []webhook.Message) []error { return []error{do(ctx, all[0])} }
	}
	for _, q := range []struct {
		url         string
		batch, many int
		do          func(context.Context, []webhook.Message) []error
	}{{w.urls.WebhookEvents, 10, 100, w.path.FanOut}, {w.urls.WebhookDeliveries, 1, many, each(w.deliver)}, {w.urls.WebhookWakes, 1, 20, each(w.path.Wake)}} {
		trigger := gateway.Trigger{
			Queue: w.sqs, QueueURL: q.url, Batch: q.batch, Concurrency: q.many, Timeout: time.Minute, Log: w.path.Slog,
			Handler: lambdahttp.Batches(func(ctx context.Context, all []lambdahttp.Message) []error {
				messages := make([]webhook.Message, len(all))
				for i, m := range all {
					messages[i] = webhook.Message{Body: m.Body, Group: m.Group, Order: m.Order}
				}
				return q.do(ctx, messages)
			}),
		}
		all.Go(func() {
			if err := trigger.Run(ctx); err != nil {
				w.t.Error(err)
			}
		})
	}
	return &all
}

// deliver counts what is under way of each customer.
func (w *world) deliver(ctx context.Context, m webhook.Message) error {
	var of struct {
		Customer whatisup.CustomerID `json:"customer_id"`
	}
	if err := json.Unmarshal(m.Body, &of); err != nil {
		return err
	}
	w.mu.Lock()
	w.busy[of.Customer]++
	w.most[of.Customer] = max(w.most[of.Customer], w.busy[of.Customer])
	w.mu.Unlock()
	defer func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.busy[of.Customer]--
	}()
	return w.path.Deliver(ctx, m)
}

// arrivals are what good receivers got: for each event's number how long after its
// making it came, once an endpoint.
type arrivals struct {
	mu   sync.Mutex
	took []time.Duration
	last time.Time
	more chan struct{}
}

func (a *arrivals) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	now := time.Now()
	b, _ := io.ReadAll(r.Body)
	var e struct{ Data struct{ At int64 } }
	_ = json.Unmarshal(b, &e)
	a.mu.Lock()
	a.took, a.last = append(a.took, now.Sub(time.UnixMicro(e.Data.At))), now
	a.mu.Unlock()
	a.more <- struct{}{}
}

// await waits for so many arrivals, and returns and forgets them, sorted.
func (a *arrivals) await(t *testing.T, n int) ([]time.Duration, time.Time) {
	t.Helper()
	limit := time.After(2 * time.Minute)
	for range n {
		select {
		case <-a.more:
		case <-limit:
			t.Fatalf("%d of %d arrived", len(a.took), n)
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	all := a.took
	a.took = nil
	slices.Sort(all)
	return all, a.last
}

func at(all []time.Duration, share float64) time.Duration {
	return all[min(int(float64(len(all))*share), len(all)-1)].Round(100 * time.Microsecond)
}

// badReceivers are programs of customers that do each wrong thing. Those that hang do
// so until the test is over.
func badReceivers(t *testing.T) map[string]string {
	t.Helper()
	over, mb := make(chan struct{}), []byte(strings.Repeat("x", 1<<20))
	serve := func(h http.HandlerFunc) string {
		s := httptest.NewServer(h)
		t.Cleanup(func() { s.CloseClientConnections(); s.Close() })
		return s.URL
	}
	all := map[string]string{
		"hangs":       serve(func(_ http.ResponseWriter, r *http.Request) { <-over }),
		"answers 500": serve(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) }),
		"a byte a second": serve(func(w http.ResponseWriter, r *http.Request) {
			for tick := time.NewTicker(time.Second); ; {
				if _, err := w.Write([]byte("x")); err != nil {
					return
				}
				w.(http.Flusher).Flush()
				select {
				case <-tick.C:
				case <-over:
					return
				case <-r.Context().Done():
					return
				}
			}
		}),
		"100 MB": serve(func(w http.ResponseWriter, _ *http.Request) {
			for range 100 {
				if _, err := w.Write(mb); err != nil {
					return
				}
			}
		}),
		"closes at once": serve(func(w http.ResponseWriter, _ *http.Request) {
			c, _, err := w.(http.Hijacker).Hijack()
			if err == nil {
				c.Close()
			}
		}),
	}
	s := httptest.NewServer(nil)
	s.Close()
	all["refuses"] = s.URL
	t.Cleanup(func() { close(over) }) // before the servers close
	return all
}

// TestIsolation has 14 endpoints of 5 customers get everything while 6 others each do
// another wrong thing, one of which owes a long list. It holds by counts: what hangs does
// so until all others have everything. TestLoad measures it.
func TestIsolation(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	l := newLoad(t, w, 14)
	stop := l.run()
	defer stop()
	n := 14
	for what, url := range badReceivers(t) {
		e := l.endpoint(n, url)
		n++
		if what != "hangs" {
			continue
		}
		// The list of what the hanging one is owed: rows, and no more in the queue than
		// may be.
		if err := w.db.SetBehind(t.Context(), e); err != nil {
			t.Fatal(err)
		}
		if err := w.owe(e, l.instances[n%5], 600); err != nil {
			t.Fatal(err)
		}
		if err := w.path.Pump(t.Context(), e.Customer, e.Mode, e.ID); err != nil {
			t.Fatal(err)
		}
		if in := w.queued(e); in == 0 || in > whatisup.MaxInQueue/5 {
			t.Errorf("%d deliveries of the endpoint that hangs are in the queue", in)
		}
	}
	l.good.await(t, l.send(20, 0))
}

// TestCustomerWithManyEndpointsThatHang has a customer take every place with endpoints
// that hang, and delete them and take every place anew while the first ones still do. It
// never has more under way than its places have lanes, and whoever comes beside it gets
// everything.
func TestCustomerWithManyEndpointsThatHang(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.path.Now, w.path.Halt = nil, nil // the real clock: everything here goes by itself
	const lanes = whatisup.MaxEndpoints * whatisup.LanesOfPlace
	over, open := make(chan struct{}), make(chan struct{}, 10_000)
	hangs := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		open <- struct{}{}
		<-over
	}))
	t.Cleanup(hangs.Close)
	good := &arrivals{more: make(chan struct{}, 1000)}
	goodServer := httptest.NewServer(good)
	t.Cleanup(goodServer.Close)

	hostile, honest := whatisup.NewCustomerID(), whatisup.NewCustomerID()
	var instances []whatisup.InstanceID
	for range 200 {
		instances = append(instances, whatisup.NewInstanceID())
	}
	tell := func(c whatisup.CustomerID, i whatisup.InstanceID) {
		e, err := whatisup.NewEvent(whatisup.MessageReceived, c, whatisup.Test, i, time.Now(), map[string]any{"at": time.Now().UnixMicro()})
		if err != nil {
			t.Fatal(err)
		}
		if err := w.events.Send(t.Context(), e); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	workers := w.serve(ctx, lanes+10)
	defer workers.Wait()
	defer close(over)
	defer cancel()
	takeAll := func(each int) (all []*whatisup.Endpoint) {
		for range lanes / each {
			all = append(all, w.endpoint(hangs.URL, func(e *whatisup.Endpoint) { e.Customer, e.MaxInFlight = hostile, each }))
		}
		one := &whatisup.Endpoint{Customer: hostile, Mode: whatisup.Test, ID: whatisup.NewEndpointID(), URL: hangs.URL, MaxInFlight: 1}
		if err := w.db.CreateEndpoint(t.Context(), one, nil); !errors.Is(err, whatisup.ErrTooMany) {
			t.Errorf("one endpoint more: %v", err)
		}
		return all
	}
	// await waits until so many of the hostile one's requests have come in.
	await := func(n int) {
		limit := time.After(2 * time.Minute)
		for got := range n {
			select {
			case <-open:
			case <-limit:
				t.Fatalf("%d requests of %d are open", got, n)
			}
		}
	}
	first := takeAll(whatisup.LanesOfPlace)
	for _, i := range instances[:20] {
		tell(hostile, i)
	}
	await(lanes / 2) // those that some instance falls to, whatever their ids
	for _, e := range first {
		if err := w.db.DeleteEndpoint(t.Context(), e); err != nil {
			t.Fatal(err)
		}
	}
	takeAll(whatisup.MostMaxInFlight)
	for _, i := range instances {
		tell(hostile, i)
	}
	for range 3 {
		w.endpoint(goodServer.URL, func(e *whatisup.Endpoint) { e.Customer = honest })
	}
	for _, i := range instances[:20] {
		tell(honest, i)
	}
	good.await(t, 3*20)
	w.mu.Lock()
	defer w.mu.Unlock()
	if n := w.most[hostile]; n < lanes/2 || n > lanes {
		t.Errorf("%d deliveries of one customer were under way at a time, of %d lanes", n, lanes)
	}
}

// owe stores what an endpoint is owed, in bulk.
func (w *world) owe(e *whatisup.Endpoint, instances []whatisup.InstanceID, n int) error {
	now := time.Now()
	for from := 0; from < n; from += whatisup.MaxOweTogether {
		var all []whatisup.Owing
		for nth := from; nth < min(n, from+whatisup.MaxOweTogether); nth++ {
			id, i := whatisup.NewEventID(), instances[nth%len(instances)]
			all = append(all, whatisup.Owing{Due: now, Delivery: &whatisup.Delivery{
				Customer: e.Customer, Mode: e.Mode, ID: whatisup.DeliveryIDOf(e.ID, id, "", now), Endpoint: e.ID, Instance: i,
				Event: whatisup.MessageReceived, EventID: id, Status: whatisup.DeliveryPending, Payload: []byte(`{}`),
				Group: e.GroupOf(i), Order: fmt.Sprintf("%015d#%020d", now.UnixMilli(), nth),
			}})
		}
		if _, err := w.db.OweDeliveries(w.t.Context(), e, all, now, true); err != nil {
			return err
		}
	}
	return nil
}
