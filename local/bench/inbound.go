package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"golang.org/x/time/rate"

	"net/http"
)

// window is how many messages may be on their way to one session.
const window = 8

// flight sends messages and knows when each has arrived.
type flight struct {
	phones *simulator
	to     []instance

	ready chan int // a place in the window of a session
	mu    sync.Mutex
	sent  map[string]departure
	late  spread
	serial,
	arrivals atomic.Int64
	begun time.Time // samples before do not count
}

type departure struct {
	at time.Time
	to int
}

func newFlight(phones *simulator, to []instance) *flight {
	f := &flight{phones: phones, to: to, ready: make(chan int, window*len(to)), sent: make(map[string]departure)}
	for range window {
		for i := range to {
			f.ready <- i
		}
	}
	return f
}

// arrived is called with the id of each message that has arrived; a second time
// for the same one does nothing.
func (f *flight) arrived(id string) {
	now := time.Now()
	f.mu.Lock()
	d, ok := f.sent[id]
	delete(f.sent, id)
	if ok && !d.at.Before(f.begun) {
		f.late = append(f.late, ms(now.Sub(d.at)))
	}
	f.mu.Unlock()
	if ok {
		f.arrivals.Add(1)
		f.ready <- d.to
	}
}

// send sends for as long as it is told to, or n messages, at most so many a
// second, and waits until all have arrived.
func (f *flight) send(ctx context.Context, for_ time.Duration, n int, perSecond float64) (rateOf float64, late spread, err error) {
	limit := rate.NewLimiter(rate.Inf, 1)
	if perSecond > 0 {
		limit = rate.NewLimiter(rate.Limit(perSecond), max(1, int(perSecond/20)))
	}
	began := time.Now()
	f.mu.Lock()
	f.begun, f.late = began, nil
	f.mu.Unlock()
	f.arrivals.Store(0)
	sending, stop := context.WithTimeout(ctx, for_)
	defer stop()
	var left atomic.Int64
	left.Store(int64(n))
	var mu sync.Mutex
	var wg sync.WaitGroup
	for range min(16, window*len(f.to)) {
		wg.Go(func() {
			for left.Add(-1) >= 0 && limit.Wait(sending) == nil {
				var to int
				select {
				case to = <-f.ready:
				case <-sending.Done():
					return
				}
				if e := f.one(ctx, to); e != nil {
					mu.Lock()
					err = errors.Join(err, e)
					mu.Unlock()
					return
				}
			}
		})
	}
	wg.Wait()
	if err != nil {
		return 0, nil, err
	}
	sentFor := time.Since(began)
	during := f.arrivals.Load()
	err = await(ctx, time.Minute, "every message has arrived", func() (bool, error) {
		f.mu.Lock()
		defer f.mu.Unlock()
		return len(f.sent) == 0, nil
	})
	f.mu.Lock()
	defer f.mu.Unlock()
	return float64(during) / sentFor.Seconds(), f.late, err
}

func (f *flight) one(ctx context.Context, to int) error {
	i := f.to[to]
	id := fmt.Sprintf("B%X%08d", time.Now().UnixMilli(), f.serial.Add(1))
	f.mu.Lock()
	f.sent[id] = departure{time.Now(), to}
	f.mu.Unlock()
	return f.phones.write(ctx, i.World, "49155"+i.Number[5:], i.Number, id)
}

// said makes of what the floor says calls of arrived.
func said(arrived func(string)) func(json.RawMessage) {
	return func(body json.RawMessage) {
		var a arrival
		if json.Unmarshal(body, &a) == nil && a.Got != "" {
			arrived(a.Got)
		}
	}
}

// consumer reads the event queue as an integration would.
type consumer struct {
	client *sqs.Client
	url    string
	got    atomic.Pointer[func(id string)]         // of received messages
	status atomic.Pointer[func(id, status string)] // of sent ones
	events atomic.Int64
}

func newConsumer(s *stack) *consumer {
	conf := aws.Config{
		Region: s.Env["AWS_REGION"], BaseEndpoint: aws.String(s.AWS),
		Credentials: credentials.NewStaticCredentialsProvider(s.Env["AWS_ACCESS_KEY_ID"], s.Env["AWS_SECRET_ACCESS_KEY"], ""),
		HTTPClient: awshttp.NewBuildableClient().WithTransportOptions(func(t *http.Transport) {
			t.MaxIdleConnsPerHost = 32
		}),
	}
	return &consumer{client: sqs.NewFromConfig(conf), url: s.Env["EVENT_QUEUE_URLS"]}
}

// consume begins to take events off the queue. The function returned ends it and
// waits for that.
func (b *bench) consume(ctx context.Context) (*consumer, func()) {
	ctx, cancel := context.WithCancel(ctx)
	c := newConsumer(b.stack)
	var wg sync.WaitGroup
	wg.Go(func() { c.run(ctx) })
	return c, func() { cancel(); wg.Wait() }
}

// run consumes until ctx ends.
func (c *consumer) run(ctx context.Context) {
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for ctx.Err() == nil {
				if c.batch(ctx) != nil && ctx.Err() == nil {
					time.Sleep(100 * time.Millisecond) // the queue answers again or the run fails by itself
				}
			}
		})
	}
	wg.Wait()
}

func (c *consumer) batch(ctx context.Context) error {
	out, err := c.client.ReceiveMessage(ctx, &sqs.ReceiveMessageInput{
		QueueUrl: &c.url, MaxNumberOfMessages: 10, WaitTimeSeconds: 5,
	})
	if err != nil || len(out.Messages) == 0 {
		return err
	}
	entries := make([]types.DeleteMessageBatchRequestEntry, len(out.Messages))
	for i, m := range out.Messages {
		entries[i] = types.DeleteMessageBatchRequestEntry{Id: aws.String(fmt.Sprint(i)), ReceiptHandle: m.ReceiptHandle}
		var e struct {
			Event string `json:"event"`
			Data  struct {
				MessageID string `json:"message_id"`
				Status    string `json:"status"`
			} `json:"data"`
		}
		if json.Unmarshal([]byte(aws.ToString(m.Body)), &e) != nil {
			e.Event = ""
		}
		switch got, status := c.got.Load(), c.status.Load(); {
		case e.Event == "message.received" && got != nil:
			(*got)(e.Data.MessageID)
		case e.Event == "message.status" && status != nil:
			(*status)(e.Data.MessageID, e.Data.Status)
		}
		c.events.Add(1)
	}
	_, err = c.client.DeleteMessageBatch(ctx, &sqs.DeleteMessageBatchInput{QueueUrl: &c.url, Entries: entries})
	return err
}

// inbound measures messages from phones to the event queue, for some numbers of
// sessions: how many a second at most, and how long one takes at half of that.
func (b *bench) inbound(ctx context.Context) error {
	if err := b.fill(ctx, slices.Max(b.size.Inbound)); err != nil {
		return err
	}
	c, stop := b.consume(ctx)
	defer stop()
	if err := b.drained(ctx, c); err != nil {
		return err
	}
	for _, n := range b.size.Inbound {
		n = min(n, len(b.linked), b.floorLinked)
		ours := newFlight(b.phones, b.linked[:n])
		got := ours.arrived
		c.got.Store(&got)
		theirs := newFlight(b.phones, b.floorInstances(n))
		got2 := theirs.arrived
		b.floorArrived.Store(&got2)

		cpu, err := b.cpus(ctx)
		if err != nil {
			return err
		}
		most, late, err := b.flood(ctx, ours)
		if err != nil {
			return fmt.Errorf("inbound, %d sessions: %w", n, err)
		}
		spent, err := b.cpus(ctx)
		if err != nil {
			return err
		}
		total := float64(ours.serial.Load())
		floorMost, floorLate, err := b.flood(ctx, theirs)
		if err != nil {
			return fmt.Errorf("inbound, floor, %d sessions: %w", n, err)
		}
		name := fmt.Sprintf("Inbound, %d sessions", n)
		b.report.add(name+": messages a second", most, "1/s", floorOf(floorMost), note("%d on their way to a session at most", window))
		b.report.spread(name+": latency at half of that", late, floorLate, nil, nil)
		b.report.add(name+": processor time of the host a message", 1000*(spent.host-cpu.host)/total, "ms",
			note("API, AWS and simulator together %.3g ms", 1000*(spent.stack-cpu.stack)/total))
	}
	return nil
}

// flood warms a flight up, finds what it can carry and how late messages are at
// half of that.
func (b *bench) flood(ctx context.Context, f *flight) (most float64, late spread, err error) {
	if _, _, err = f.send(ctx, time.Minute, 2*len(f.to), 0); err != nil {
		return 0, nil, err
	}
	if most, _, err = f.send(ctx, b.size.Flood, 1<<40, 0); err != nil {
		return 0, nil, err
	}
	_, late, err = f.send(ctx, b.size.Flood, 1<<40, most/2)
	return most, late, err
}

// drained waits until the consumer has read what lay in the queue.
func (b *bench) drained(ctx context.Context, c *consumer) error {
	for last := int64(-1); c.events.Load() != last; {
		last = c.events.Load()
		if err := wait(ctx, time.Second); err != nil {
			return err
		}
	}
	return nil
}

// countMessages counts what a received message costs, when its session is warm. Of
// three counts it takes the middle one: what a host does at its own times, such as
// sweeping what was deleted before, falls into one of them and is no cost of a message.
func (b *bench) countMessages(ctx context.Context) error {
	c, stop := b.consume(ctx)
	defer stop()
	f := newFlight(b.phones, b.linked[:1])
	got := f.arrived
	c.got.Store(&got)
	if _, _, err := f.send(ctx, time.Minute, 8, 0); err != nil {
		return err
	}
	n := b.size.CountedMessages
	type count struct {
		all float64
		readings
	}
	var counts []count
	for range 3 {
		r, err := b.stack.metering(ctx, func() error {
			if _, _, err := f.send(ctx, time.Minute, n, 0); err != nil {
				return err
			}
			return wait(ctx, 500*time.Millisecond) // the last message's row follows its event
		})
		if err != nil {
			return err
		}
		u := r.API.usage(false).plus(r.Host.usage(false))
		counts = append(counts, count{u.Writes + u.Reads + u.Standard + u.FIFO, r})
	}
	slices.SortFunc(counts, func(a, b count) int { return cmp.Compare(a.all, b.all) })
	b.uses("received message", counts[1].readings, n)
	return nil
}

// floorInstances are clients of the floor that are linked.
func (b *bench) floorInstances(n int) []instance {
	all := make([]instance, n)
	for i := range all {
		all[i] = instance{World: floorWorld, Number: b.floorNumbers[i]}
	}
	return all
}

// cpus is the processor time that each process has used, in seconds.
type cpus struct{ host, stack, floor float64 }

func (b *bench) cpus(ctx context.Context) (cpus, error) {
	h, err := b.host.weigh(ctx)
	if err != nil {
		return cpus{}, err
	}
	var s, f weight
	err = errors.Join(b.stack.ask(ctx, "process", struct{}{}, &s), b.floor.ask(ctx, "process", struct{}{}, &f))
	return cpus{h.CPU, s.CPU, f.CPU}, err
}

// spending is what they use while f runs.
func (b *bench) spending(ctx context.Context, f func() error) (cpus, error) {
	before, err := b.cpus(ctx)
	if err != nil {
		return cpus{}, err
	}
	if err := f(); err != nil {
		return cpus{}, err
	}
	after, err := b.cpus(ctx)
	return cpus{after.host - before.host, after.stack - before.stack, after.floor - before.floor}, err
}
