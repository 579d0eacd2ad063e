package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"sync/atomic"
	"time"

	sessionhost "whatisup/sessionhost/host"
)

// size is how much is measured.
type size struct {
	QR, QRTogether           int
	Scans, PairCodes         int
	Counted, CountedMessages int
	CountedSends             int
	Takeover                 int // linked sessions that change hosts
	Rolling, Kill            bool
	Density                  int
	Idle, Settle             time.Duration
	Busy, BusyMessages       int
	GOGC                     []int // further settings to try
	Inbound                  []int // sessions
	Flood                    time.Duration
	Hooks                    int // events of each customer of webhooks
	Senders, Sends           int // sessions, and what each of them sends
	Accepted, BackToBack     int // messages of one session
	Listened                 int
	Back, Drops              int // sessions, and connections that break
	Outage                   time.Duration
	Few, Creates, Lots       int
	Calls, Lists             int
	Functions, Starts        int // functions: 0 for all
	Arch                     string
	Only                     []string // steps; none: all
}

// full is `make bench`.
var full = size{
	QR: 40, QRTogether: 100, Scans: 20, PairCodes: 8, Counted: 5, CountedMessages: 50, CountedSends: 500,
	Takeover: 1000, Rolling: true, Kill: true,
	Density: 2000, Idle: 5 * time.Minute, Settle: 30 * time.Second, Busy: 100, BusyMessages: 100, GOGC: []int{100},
	Inbound: []int{1, 10, 200}, Flood: 8 * time.Second, Hooks: 400,
	Senders: 100, Sends: 5, Accepted: 30, BackToBack: 60, Listened: 200, Back: 50, Drops: 20, Outage: 30 * time.Second,
	Few: 100, Creates: 1500, Lots: 20_000, Calls: 4000, Lists: 320, Starts: 15, Arch: "arm64",
}

// tenth has every step of the full run, timed ones too, with a tenth of the
// sessions.
var tenth = size{
	QR: 10, QRTogether: 50, Scans: 5, PairCodes: 2, Counted: 2, CountedMessages: 50, CountedSends: 300,
	Takeover: 100, Rolling: true, Kill: true,
	Density: 200, Idle: 20 * time.Second, Settle: 5 * time.Second, Busy: 20, BusyMessages: 20, GOGC: []int{100},
	Inbound: []int{1, 20}, Flood: 3 * time.Second, Hooks: 100,
	Senders: 20, Sends: 10, Accepted: 20, BackToBack: 40, Listened: 60, Back: 20, Drops: 8, Outage: 10 * time.Second,
	Few: 100, Creates: 200, Lots: 2000, Calls: 500, Lists: 64, Functions: 1, Starts: 5, Arch: "arm64",
}

// short walks through every step with few of everything: for its structure and
// the counted requests, never for times.
var short = size{
	QR: 2, QRTogether: 4, Scans: 1, PairCodes: 1, Counted: 1, CountedMessages: 10, CountedSends: 20,
	Takeover: 4, Rolling: false, Kill: false,
	Density: 4, Idle: 2 * time.Second, Settle: 100 * time.Millisecond, Busy: 2, BusyMessages: 3,
	Inbound: []int{2}, Flood: 500 * time.Millisecond, Hooks: 2,
	Senders: 2, Sends: 2, Accepted: 2, BackToBack: 3, Listened: 3, Back: 2, Drops: 1, Outage: time.Second,
	Few: 10, Creates: 10, Lots: 120, Calls: 20, Lists: 5, Functions: 1, Starts: 1, Arch: "amd64",
}

// bench is one run.
type bench struct {
	size    size
	dir     string
	program string
	gogc    string
	report  *report

	stack    *stack
	phones   *simulator
	customer *customer
	others   map[string]*customer // who has an instance, where that is not the customer
	floor    *child

	host, spare *host
	hosts       int
	running     []*host

	phone  int
	linked []instance

	floorLinked  int
	floorNumbers []string
	floorArrived atomic.Pointer[func(id string)]

	empty        weights
	used         map[string]usage
	idleHour     usage
	idleShards   float64 // read units of it that grow with the sessions
	idleSessions int
}

// step is a part of a run.
type step struct {
	name string
	do   func(context.Context) error
}

// run measures everything, in the order in which sessions come to be.
func run(ctx context.Context, s size, dir string, out io.Writer) (*report, map[string]usage, error) {
	b := &bench{
		size: s, dir: dir, gogc: sessionhost.GOGC, used: make(map[string]usage), others: make(map[string]*customer),
		report: &report{Versions: versions(), out: out},
	}
	defer b.close()
	steps := []step{
		{"start", b.open},
		{"first codes", b.firstCodes},
		{"scans", b.scans},
		{"requests", b.counts},
		{"requests of messages", b.countMessages},
		{"requests of sends", b.countSends},
		{"functions", b.lambdas},
		{"coming back", b.comingBack},
		{"stream", b.listening},
		{"sending", b.sending},
		{"link", func(ctx context.Context) error { return b.fill(ctx, s.Takeover) }},
		{"rolling replacement", func(ctx context.Context) error {
			if !s.Rolling {
				_, err := b.replace(ctx)
				return err
			}
			return b.rolling(ctx)
		}},
		{"killed host", func(ctx context.Context) error {
			if !s.Kill {
				return nil
			}
			return b.killed(ctx)
		}},
		{"link more", func(ctx context.Context) error { return b.fill(ctx, s.Density) }},
		{"density", b.density},
		{"inbound", b.inbound},
		{"webhooks", b.webhooks},
		{"API", b.calls},
		{"density after messages", b.busyDensity},
		{"cost", func(context.Context) error { return b.bill() }},
		{"garbage collector", b.gogcs},
	}
	for _, name := range s.Only {
		if !slices.ContainsFunc(steps, func(step step) bool { return step.name == name }) {
			return b.report, b.used, fmt.Errorf("there is no step %q", name)
		}
	}
	for i, step := range steps {
		if i > 0 && len(s.Only) > 0 && !slices.Contains(s.Only, step.name) {
			continue
		}
		began := time.Now()
		fmt.Fprintf(out, "%s\n", step.name)
		if err := within(ctx, stepMost, step.do); err != nil {
			if b.host != nil {
				err = fmt.Errorf("%w; the host's log ends with:\n%s", err, b.host.log)
			}
			return b.report, b.used, fmt.Errorf("%s: %w", step.name, err)
		}
		fmt.Fprintf(out, "  (%v)\n", time.Since(began).Round(time.Millisecond))
	}
	return b.report, b.used, nil
}

// stepMost is how long a step may take. None takes half of it on a machine that
// has nothing else to do; one that hangs ends the run.
const stepMost = 12 * time.Minute

func within(ctx context.Context, most time.Duration, do func(context.Context) error) error {
	ctx, stop := context.WithTimeout(ctx, most)
	defer stop()
	return do(ctx)
}

// open builds and starts everything, and weighs it empty.
func (b *bench) open(ctx context.Context) (err error) {
	if b.program, err = buildHost(ctx, b.dir); err != nil {
		return err
	}
	if b.stack, err = startStack(ctx, b.dir); err != nil {
		return err
	}
	b.phones = newSimulator(b.stack.WhatsApp)
	if b.customer, err = b.newCustomer(ctx, "bench", false); err != nil {
		return err
	}
	b.floor, err = startFloor(b.stack, b.gogc, func(id string) {
		if arrived := b.floorArrived.Load(); arrived != nil {
			(*arrived)(id)
		}
	})
	if err != nil {
		return err
	}
	if b.host, err = b.startHost(ctx); err != nil {
		return err
	}
	err = await(ctx, 2*time.Minute, "the host owns every shard", func() (bool, error) {
		n, err := shards(ctx, b.host)
		return n == shardCount, err
	})
	if err != nil {
		return err
	}
	b.empty, err = b.weights(ctx)
	return err
}

// newCustomer makes a customer, with its live or its test key.
func (b *bench) newCustomer(ctx context.Context, name string, live bool) (*customer, error) {
	made, err := b.stack.customer(ctx, name)
	if err != nil {
		return nil, err
	}
	key := made.TestKey
	if live {
		key = made.LiveKey
	}
	return newCustomer(b.stack.API, string(made.Customer), key), nil
}

// fill links sessions, in the host and bare, until there are n of each.
func (b *bench) fill(ctx context.Context, n int) error {
	if more := n - len(b.linked); more > 0 {
		if err := b.link(ctx, more); err != nil {
			return err
		}
	}
	return b.fillFloor(ctx, n)
}

// close ends every process.
func (b *bench) close() {
	for _, h := range b.running {
		h.kill()
	}
	if b.floor != nil {
		b.floor.stop()
	}
	if b.stack != nil {
		b.stack.stop()
	}
}
