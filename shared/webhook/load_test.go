package webhook_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"whatisup/sessionhost/tally"
	"whatisup/shared/whatisup"
)

// load is what 5 customers with 4 instances each send to good endpoints.
type load struct {
	t         *testing.T
	w         *world
	customers [5]whatisup.CustomerID
	instances [5][]whatisup.InstanceID
	goodOf    [5]int // endpoints that are to get everything
	good      *arrivals
	goodURL   string
}

// newLoad makes so many good endpoints.
func newLoad(t *testing.T, w *world, endpoints int) *load {
	t.Helper()
	w.path.Now, w.path.Halt = nil, nil // the real clock: everything here goes by itself
	l := &load{t: t, w: w, good: &arrivals{more: make(chan struct{}, 100_000)}}
	server := httptest.NewServer(l.good)
	t.Cleanup(server.Close)
	l.goodURL = server.URL
	for c := range l.customers {
		l.customers[c] = whatisup.NewCustomerID()
		for range 4 {
			l.instances[c] = append(l.instances[c], whatisup.NewInstanceID())
		}
	}
	for n := range endpoints {
		l.endpoint(n, server.URL)
		l.goodOf[n%5]++
	}
	return l
}

// endpoint makes one of the customer whose turn it is.
func (l *load) endpoint(n int, url string) *whatisup.Endpoint {
	return l.w.endpoint(url, func(e *whatisup.Endpoint) { e.Customer = l.customers[n%5] })
}

// run works on the queues as one machine does, until stop is called.
func (l *load) run() (stop func()) {
	counts := tally.New(l.w.db, whatisup.Test, time.Now, l.w.path.Slog)
	l.w.path.Tally = counts
	ctx, cancel := context.WithCancel(l.t.Context())
	workers := l.w.serve(ctx, 400)
	workers.Go(func() { counts.Run(ctx) })
	return func() {
		cancel()
		workers.Wait()
	}
}

// send makes events of all customers, so many a second or, with 0, as fast as they go in,
// and returns how many deliveries good endpoints are to get.
func (l *load) send(events, perSecond int) (want int) {
	l.t.Helper()
	var all sync.WaitGroup
	began := time.Now()
	event := func(n int) whatisup.Event {
		c := n % 5
		e, err := whatisup.NewEvent(whatisup.MessageReceived, l.customers[c], whatisup.Test, l.instances[c][n/5%4], time.Now(),
			map[string]any{"n": n, "at": time.Now().UnixMicro(), "chat_type": "direct"})
		if err != nil {
			l.t.Error(err)
		}
		return e
	}
	send := func(some ...whatisup.Event) {
		if err := l.w.events.Send(l.t.Context(), some...); err != nil {
			l.t.Error(err)
		}
	}
	for n := range events {
		want += l.goodOf[n%5]
		if perSecond > 0 {
			time.Sleep(time.Until(began.Add(time.Duration(n) * time.Second / time.Duration(perSecond))))
			all.Go(func() { send(event(n)) })
		}
	}
	for c := 0; perSecond == 0 && c < 5; c++ { // each customer's by themselves, as hosts do
		all.Go(func() {
			var some []whatisup.Event
			for n := c; n < events; n += 5 {
				if some = append(some, event(n)); len(some) == 10 {
					send(some...)
					some = nil
				}
			}
			send(some...)
		})
	}
	all.Wait()
	return want
}

// setting is a number for TestLoad from the environment.
func setting(name string, otherwise int) int {
	if n, err := strconv.Atoi(os.Getenv(name)); err == nil {
		return n
	}
	return otherwise
}

// TestLoad measures, in rounds of which each has every case once, and prints each round
// and the medians: deliveries a second to 20 good endpoints of 5 customers, and how long
// 14 good ones wait alone, beside six that do each wrong thing, and beside one that hangs,
// one that refuses and one that is owed WEBHOOK_OWED deliveries (made in bulk by the
// store) and answers, so that they drain meanwhile. Each case has tables and queues of its
// own. WEBHOOK_LOAD=1 turns it on; WEBHOOK_ROUNDS, WEBHOOK_RATE (events a second) and
// WEBHOOK_CASES are to be set.
func TestLoad(t *testing.T) {
	if os.Getenv("WEBHOOK_LOAD") == "" {
		t.Skip("it measures, and takes minutes: WEBHOOK_LOAD=1")
	}
	cases := []struct {
		name string
		do   func(*testing.T) figures
	}{
		{"rate", measureRate},
		{"alone", func(t *testing.T) figures { return measureWait(t, newWorld(t), nil) }},
		{"six bad", func(t *testing.T) figures { return measureWait(t, newWorld(t), (*load).addBad) }},
		{"owed", owedCase(t, setting("WEBHOOK_OWED", 5000))},
	}
	only := strings.Split(os.Getenv("WEBHOOK_CASES"), ",")
	found := map[string][]figures{}
	for n := range setting("WEBHOOK_ROUNDS", 5) {
		for _, c := range cases {
			if only[0] != "" && !slices.Contains(only, c.name) {
				continue
			}
			t.Run(c.name, func(t *testing.T) {
				f := c.do(t)
				found[c.name] = append(found[c.name], f)
				t.Logf("round %d: %s", n+1, f)
			})
		}
	}
	for _, c := range cases {
		if len(found[c.name]) > 0 {
			t.Logf("%s: %s", c.name, medians(found[c.name]))
		}
	}
	for _, name := range []string{"six bad", "owed"} {
		var ratios []float64
		for n, f := range found[name] {
			if n < len(found["alone"]) {
				ratios = append(ratios, f["p99 ms"]/found["alone"][n]["p99 ms"])
			}
		}
		if slices.Sort(ratios); len(ratios) > 0 {
			t.Logf("%s: p99 beside them is %.2f times what it is alone (%.2f to %.2f)", name, ratios[len(ratios)/2], ratios[0], ratios[len(ratios)-1])
		}
	}
}

// figures are what a case came to.
type figures map[string]float64

func (f figures) String() string {
	var all []string
	for _, name := range []string{"a second", "ms of a processor", "p50 ms", "p99 ms", "drained a second"} {
		if v, ok := f[name]; ok {
			all = append(all, fmt.Sprintf("%s %.1f", name, v))
		}
	}
	return strings.Join(all, ", ")
}

// medians are those of several rounds, with the least and the most of each.
func medians(all []figures) string {
	var out []string
	for _, name := range []string{"a second", "ms of a processor", "p50 ms", "p99 ms", "drained a second"} {
		var values []float64
		for _, f := range all {
			if v, ok := f[name]; ok {
				values = append(values, v)
			}
		}
		if slices.Sort(values); len(values) > 0 {
			out = append(out, fmt.Sprintf("%s %.1f (%.1f to %.1f)", name, values[len(values)/2], values[0], values[len(values)-1]))
		}
	}
	return strings.Join(out, ", ")
}

// measureRate is how many deliveries to 20 good endpoints there are a second.
func measureRate(t *testing.T) figures {
	l := newLoad(t, newWorld(t), 20)
	stop := l.run()
	defer stop()
	l.good.await(t, l.send(100, 0)) // to make connections
	worked, began := processor(t), time.Now()
	want := l.send(500, 0)
	_, last := l.good.await(t, want)
	worked = processor(t) - worked
	return figures{"a second": float64(want) / last.Sub(began).Seconds(), "ms of a processor": float64(worked.Microseconds()) / 1000 / float64(want)}
}

// measureWait is how long 14 good endpoints wait, with what is beside them.
func measureWait(t *testing.T, w *world, beside func(*load)) figures {
	l := newLoad(t, w, 14)
	stop := l.run()
	defer stop()
	l.good.await(t, l.send(100, 0)) // to make connections
	if beside != nil {
		beside(l)
	}
	rate := setting("WEBHOOK_RATE", 50)
	began := time.Now()
	want := l.send(rate*10, rate)
	all, last := l.good.await(t, want)
	return figures{"p50 ms": ms(at(all, .5)), "p99 ms": ms(at(all, .99)), "a second": float64(want) / last.Sub(began).Seconds()}
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// addBad adds six endpoints that do each wrong thing.
func (l *load) addBad() {
	n := 14
	for _, url := range badReceivers(l.t) {
		l.endpoint(n, url)
		n++
	}
}

// owedCase has an endpoint be owed so many deliveries, which are made once and copied for
// each round.
func owedCase(t *testing.T, n int) func(*testing.T) figures {
	var answered atomic.Int64
	answers := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { answered.Add(1) }))
	t.Cleanup(answers.Close)
	path := filepath.Join(t.TempDir(), "owed.db")
	made := whatisup.NewCustomerID()
	var owes *whatisup.Endpoint
	key := ""
	prepare := sync.OnceFunc(func() {
		t.Run("make what is owed", func(t *testing.T) {
			w := newWorldAt(t, path, "")
			key = w.key
			owes = w.endpoint(answers.URL, func(e *whatisup.Endpoint) { e.Customer = made })
			if err := w.db.SetBehind(t.Context(), owes); err != nil {
				t.Fatal(err)
			}
			var instances []whatisup.InstanceID
			for range 20 {
				instances = append(instances, whatisup.NewInstanceID())
			}
			began := time.Now()
			if err := w.owe(owes, instances, n); err != nil {
				t.Fatal(err)
			}
			t.Logf("%d are owed, made in %v", n, time.Since(began).Round(time.Second))
		})
	})
	return func(t *testing.T) figures {
		prepare()
		copied := filepath.Join(t.TempDir(), "aws.db")
		copyFile(t, path, copied)
		w := newWorldAt(t, copied, key)
		before := answered.Load()
		var began time.Time
		f := measureWait(t, w, func(l *load) {
			bad := badReceivers(t)
			l.endpoint(14, bad["hangs"])
			l.endpoint(15, bad["refuses"])
			if err := w.path.Pump(t.Context(), owes.Customer, owes.Mode, owes.ID); err != nil {
				t.Fatal(err)
			}
			began = time.Now()
		})
		f["drained a second"] = float64(answered.Load()-before) / time.Since(began).Seconds()
		return f
	}
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	in, err := os.Open(from)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := os.Create(to)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(out, in); err != nil {
		t.Fatal(err)
	}
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
}

// processor is how long the test has had one so far.
func processor(t *testing.T) time.Duration {
	t.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
