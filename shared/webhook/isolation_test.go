package webhook_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"whatisup/shared/webhook"
	"whatisup/shared/whatisup"
)

// serve works on the queues as functions would, so many messages of each at a time,
// until the context ends.
func (w *world) serve(ctx context.Context, many int) *sync.WaitGroup {
	var all sync.WaitGroup
	for url, do := range map[string]func(context.Context, webhook.Message) error{
		w.urls.WebhookEvents: w.path.FanOut, w.urls.WebhookDeliveries: w.path.Deliver, w.urls.WebhookWakes: w.path.Wake,
	} {
		n := many
		if url == w.urls.WebhookWakes {
			n = 2
		}
		for range n {
			all.Go(func() {
				for ctx.Err() == nil {
					out, err := w.sqs.ReceiveMessage(ctx, &sqs.ReceiveMessageInput{
						QueueUrl: aws.String(url), MaxNumberOfMessages: 1, WaitTimeSeconds: 20,
						MessageSystemAttributeNames: []types.MessageSystemAttributeName{types.MessageSystemAttributeNameAll},
					})
					if err != nil {
						continue
					}
					for _, m := range out.Messages {
						ms, _ := strconv.ParseInt(m.Attributes["SentTimestamp"], 10, 64)
						one := webhook.Message{Body: []byte(*m.Body), Order: fmt.Sprintf("%015d#%s", ms, m.Attributes["SequenceNumber"])}
						if do(ctx, one) == nil {
							_, _ = w.sqs.DeleteMessage(ctx, &sqs.DeleteMessageInput{QueueUrl: aws.String(url), ReceiptHandle: m.ReceiptHandle})
						}
					}
				}
			})
		}
	}
	return &all
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
	over := make(chan struct{})
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
			mb := []byte(strings.Repeat("x", 1<<20))
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
// so until all others have everything.
//
// With WEBHOOK_LOAD=1 it is longer, and prints how long the good ones wait without the
// bad ones and with them, beside a bare POST. WEBHOOK_OWED is how long the list is.
func TestIsolation(t *testing.T) {
	long := os.Getenv("WEBHOOK_LOAD") != ""
	perSecond, events, owed := 0, 20, 600
	if long {
		perSecond, events, owed = 50, 500, 5000
	}
	if n, err := strconv.Atoi(os.Getenv("WEBHOOK_OWED")); err == nil {
		owed = n
	}
	if !long {
		t.Parallel()
	}
	w := newWorld(t)
	w.path.Now = nil // the real clock: everything here goes by itself
	w.path.Halt = nil
	good := &arrivals{more: make(chan struct{}, 100_000)}
	goodServer := httptest.NewServer(good)
	t.Cleanup(goodServer.Close)

	customers := make([]whatisup.CustomerID, 5)
	instances := make([][]whatisup.InstanceID, 5)
	for c := range customers {
		customers[c] = whatisup.NewCustomerID()
		for range 4 {
			instances[c] = append(instances[c], whatisup.NewInstanceID())
		}
	}
	endpoint := func(n int, url string) *whatisup.Endpoint {
		return w.endpoint(url, func(e *whatisup.Endpoint) { e.Customer = customers[n%5] })
	}
	for n := range 14 {
		endpoint(n, goodServer.URL)
	}
	var goodOf [5]int
	for n := range 14 {
		goodOf[n%5]++
	}
	// load makes events of all customers, and returns how many deliveries the good
	// endpoints are to get, and when it began.
	load := func() (want int, began time.Time) {
		began = time.Now()
		for n := range events {
			if perSecond > 0 {
				time.Sleep(time.Until(began.Add(time.Duration(n) * time.Second / time.Duration(perSecond))))
			}
			c := n % 5
			e, err := whatisup.NewEvent(whatisup.MessageReceived, customers[c], whatisup.Test, instances[c][n/5%4], time.Now(),
				map[string]any{"n": n, "at": time.Now().UnixMicro(), "chat_type": "direct"})
			if err != nil {
				t.Fatal(err)
			}
			if err := w.events.Send(t.Context(), e); err != nil {
				t.Fatal(err)
			}
			want += goodOf[c]
		}
		return want, began
	}
	ctx, cancel := context.WithCancel(t.Context())
	workers := w.serve(ctx, 48)
	defer workers.Wait()
	defer cancel()

	var alone []time.Duration
	if long {
		floor(t, goodServer.URL, good)
		want, _ := load() // the first is to make connections
		good.await(t, want)
		want, _ = load()
		alone, _ = good.await(t, want)
	}
	n := 14
	for what, url := range badReceivers(t) {
		e := endpoint(n, url)
		n++
		if what != "hangs" {
			continue
		}
		// The list of what the hanging one is owed: rows, and no more in the queue than
		// may be.
		if err := w.db.SetBehind(t.Context(), e); err != nil {
			t.Fatal(err)
		}
		if err := w.owe(e, instances[n%5], owed); err != nil {
			t.Fatal(err)
		}
		if err := w.path.Pump(t.Context(), e.Customer, e.Mode, e.ID); err != nil {
			t.Fatal(err)
		}
		if in := w.queued(e); in == 0 || in > whatisup.MaxInQueue {
			t.Errorf("%d deliveries of the endpoint that hangs are in the queue", in)
		}
	}
	want, began := load()
	with, last := good.await(t, want)
	if !long {
		return
	}
	t.Logf("good endpoints at %d events a second: alone p50 %v p99 %v; with the bad ones and %d owed p50 %v p99 %v; ratio of p99 %.2f",
		perSecond, at(alone, .5), at(alone, .99), owed, at(with, .5), at(with, .99), float64(at(with, .99))/float64(at(alone, .99)))
	t.Logf("%d deliveries to good endpoints in %v: %.0f a second", want, last.Sub(began).Round(time.Millisecond), float64(want)/last.Sub(began).Seconds())
	perSecond = 0
	want, began = load()
	_, last = good.await(t, want)
	t.Logf("as fast as they go, beside the bad ones: %d in %v: %.0f a second", want, last.Sub(began).Round(time.Millisecond), float64(want)/last.Sub(began).Seconds())
}

// owe stores what an endpoint is owed, some at a time.
func (w *world) owe(e *whatisup.Endpoint, instances []whatisup.InstanceID, n int) error {
	var all sync.WaitGroup
	failed := make(chan error, 1)
	next := make(chan int)
	for range 8 {
		all.Go(func() {
			for n := range next {
				id := whatisup.NewEventID()
				i := instances[n%len(instances)]
				d := &whatisup.Delivery{
					Customer: e.Customer, Mode: e.Mode, ID: whatisup.DeliveryIDOf(e.ID, id, "", time.Now()), Endpoint: e.ID, Instance: i,
					Event: whatisup.MessageReceived, EventID: id, Status: whatisup.DeliveryPending, Payload: []byte(`{}`),
					Group: e.GroupOf(i), Order: fmt.Sprintf("%015d#%020d", time.Now().UnixMilli(), n),
				}
				var err error
				for range 20 { // the endpoint's row is one
					if err = w.db.OweDelivery(w.t.Context(), e, d, time.Now(), true); err == nil {
						break
					}
				}
				if err != nil {
					select {
					case failed <- err:
					default:
					}
				}
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	all.Wait()
	select {
	case err := <-failed:
		return err
	default:
		return nil
	}
}

// floor is a loop that does nothing but post the same bytes to the same receiver.
func floor(t *testing.T, url string, good *arrivals) {
	t.Helper()
	const n = 2000
	began := time.Now()
	for range n {
		body := fmt.Sprintf(`{"data":{"at":%d}}`, time.Now().UnixMicro())
		resp, err := http.Post(url, "application/json", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
	}
	took := time.Since(began)
	all, _ := good.await(t, n)
	t.Logf("floor: a bare POST, one after another: p50 %v p99 %v, %.0f a second", at(all, .5), at(all, .99), n/took.Seconds())
}
