package webhook

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"whatisup/shared/whatisup"
)

// FanOut makes the deliveries of events that the queue gave together, in its order. What
// errs has for an event repeats it, and so those of its group behind it.
func (p *Path) FanOut(ctx context.Context, all []Message) (errs []error) {
	f := fan{p: p, messages: all, events: make([]whatisup.Event, len(all)), errs: make([]error, len(all)), stopped: map[string]bool{}}
	f.read(ctx)
	// Those of a group one after another; the rest together, as it takes fewer requests.
	for _, round := range rounds(len(all), func(i int) string { return all[i].Group }) {
		each := f.parts(round)
		together(len(each), func(i int) { f.hand(ctx, each[i]) })
		for _, i := range round {
			f.stopped[all[i].Group] = f.errs[i] != nil
		}
	}
	return f.errs
}

// together does things at a time. A panic of one is the caller's, after all have ended.
func together(n int, do func(int)) {
	if n == 1 {
		do(0)
		return
	}
	panicked := make([]any, n)
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() {
			defer func() { panicked[i] = recover() }()
			do(i)
		})
	}
	all.Wait()
	if i := slices.IndexFunc(panicked, func(p any) bool { return p != nil }); i >= 0 {
		panic(panicked[i])
	}
}

// rounds puts things into rounds that have at most one of each group, in the order of
// each group.
func rounds(n int, group func(int) string) (all [][]int) {
	nth := map[string]int{}
	for i := range n {
		g := group(i)
		if nth[g] == len(all) {
			all = append(all, nil)
		}
		all[nth[g]] = append(all[nth[g]], i)
		nth[g]++
	}
	return all
}

// fan is one fan-out of some events.
type fan struct {
	p         *Path
	messages  []Message
	events    []whatisup.Event
	errs      []error
	stopped   map[string]bool // groups whose last event failed
	endpoints map[customerMode]known
}

type customerMode struct {
	c whatisup.CustomerID
	m whatisup.Mode
}

// known are a customer's endpoints, as they are read after the events came.
type known struct {
	all []*whatisup.Endpoint
	err error
}

// read reads the events, and the endpoints of their customers.
func (f *fan) read(ctx context.Context) {
	var whose []customerMode
	for i := range f.messages {
		if err := json.Unmarshal(f.messages[i].Body, &f.events[i]); err != nil {
			f.errs[i] = fmt.Errorf("event: %w", err)
			continue
		}
		if k := (customerMode{f.events[i].Customer, f.events[i].Mode}); !slices.Contains(whose, k) {
			whose = append(whose, k)
		}
	}
	found := make([]known, len(whose))
	together(len(whose), func(i int) {
		found[i].all, found[i].err = f.p.Store.Endpoints(ctx, whose[i].c, whose[i].m)
	})
	f.endpoints = map[customerMode]known{}
	for i, k := range whose {
		f.endpoints[k] = found[i]
	}
}

// part are events of a round that are of one customer and mode, by their index.
type part struct {
	endpoints []*whatisup.Endpoint
	events    []int
}

// parts parts a round, and leaves out what stands behind an event that failed.
func (f *fan) parts(round []int) (each []*part) {
	of := map[customerMode]*part{}
	for _, i := range round {
		k := customerMode{f.events[i].Customer, f.events[i].Mode}
		switch {
		case f.stopped[f.messages[i].Group]:
			f.errs[i] = errBehindFailed
		case f.errs[i] == nil:
			f.errs[i] = f.endpoints[k].err
		}
		if f.errs[i] != nil {
			continue
		}
		if of[k] == nil {
			of[k] = &part{endpoints: f.endpoints[k].all}
			each = append(each, of[k])
		}
		of[k].events = append(of[k].events, i)
	}
	return each
}

var errBehindFailed = errors.New("an event before it was not fanned out")

// hand hands the deliveries of a customer's events over, and ends the endpoints of
// instances whose end is among the events.
func (f *fan) hand(ctx context.Context, of *part) {
	var all []handing
	for _, ep := range of.endpoints {
		h := handing{ep: ep}
		for _, i := range of.events {
			if e := &f.events[i]; ep.Takes(e) {
				h.deliveries = append(h.deliveries, deliveryOf(ep, e, f.messages[i], "", e.OccurredAt.Time))
				h.of = append(h.of, i)
			}
		}
		if len(h.deliveries) > 0 {
			all = append(all, h)
		}
	}
	f.p.handAll(ctx, all)
	for _, h := range all {
		for n, i := range h.of {
			f.errs[i] = errors.Join(f.errs[i], h.errs[n])
		}
	}
	for _, i := range of.events {
		e := &f.events[i]
		if e.Name != whatisup.InstanceDeleted || e.Instance == "" || f.errs[i] != nil {
			continue
		}
		for _, ep := range of.endpoints {
			if ep.Instance == e.Instance && f.errs[i] == nil {
				f.errs[i] = f.p.disable(ctx, ep, whatisup.DisabledInstance)
			}
		}
	}
}

func deliveryOf(ep *whatisup.Endpoint, e *whatisup.Event, m Message, replay whatisup.ReplayID, at time.Time) *whatisup.Delivery {
	return &whatisup.Delivery{
		Customer: e.Customer, Mode: e.Mode, ID: whatisup.DeliveryIDOf(ep.ID, e.ID, replay, at), Endpoint: ep.ID,
		Instance: e.Instance, Event: e.Name, EventID: e.ID, Status: whatisup.DeliveryPending,
		Payload: m.Body, Group: ep.GroupOf(e.Instance), Order: m.Order, Replay: replay,
	}
}

// handing is the handing over of new deliveries of one endpoint, no two of an instance,
// and how it ended for each.
type handing struct {
	ep         *whatisup.Endpoint
	deliveries []*whatisup.Delivery
	of         []int // the caller's, by index
	errs       []error
	panicked   any
}

func (h *handing) fail(err error) {
	for i := range h.errs {
		h.errs[i] = errors.Join(h.errs[i], err)
	}
}

// hand gives a new delivery to the queue, or stores it where that is not its way.
func (p *Path) hand(ctx context.Context, ep *whatisup.Endpoint, d *whatisup.Delivery) error {
	one := []handing{{ep: ep, deliveries: []*whatisup.Delivery{d}}}
	p.handAll(ctx, one)
	return one[0].errs[0]
}

// handAll hands new deliveries over. Those that may go straight into the queue go
// together, and do not wait for those that are stored, which takes longer.
func (p *Path) handAll(ctx context.Context, all []handing) {
	var stored sync.WaitGroup
	decided := make(chan *handing, len(all))
	for i := range all {
		h := &all[i]
		h.errs = make([]error, len(h.deliveries))
		for _, d := range h.deliveries {
			d.UpdatedAt = p.now()
		}
		stored.Go(func() {
			told := false
			defer func() {
				if h.panicked = recover(); !told {
					decided <- nil
				}
			}()
			direct, err := p.direct(ctx, h.ep, len(h.deliveries))
			if err != nil {
				h.fail(err)
				return
			}
			if direct {
				told = true
				decided <- h
				return
			}
			decided <- nil
			told = true
			p.store(ctx, h)
		})
	}
	var direct []*handing
	for range all {
		if h := <-decided; h != nil {
			direct = append(direct, h)
		}
	}
	defer func() {
		stored.Wait()
		for i := range all { // here, where the caller may recover it
			if all[i].panicked != nil {
				panic(all[i].panicked)
			}
		}
	}()
	p.giveNew(ctx, direct)
	stored.Wait()
	// One that was behind and is not any more is given, too.
	for i := range all {
		p.handLate(ctx, &all[i])
	}
}

// errDirect says of a delivery that its endpoint has caught up meanwhile.
var errDirect = errors.New("the endpoint is not behind any more")

// handLate hands over what an endpoint's catching up left over.
func (p *Path) handLate(ctx context.Context, h *handing) {
	for try := 0; len(h.errs) > 0 && errors.Is(h.errs[0], errDirect); try++ {
		clear(h.errs)
		direct, err := p.direct(ctx, h.ep, len(h.deliveries))
		switch {
		case err != nil:
			h.fail(err)
		case direct:
			p.giveNew(ctx, []*handing{h})
		case try == 2:
			h.fail(fmt.Errorf("endpoint %s: behind and not: %w", h.ep.ID, whatisup.ErrUnavailable))
		default:
			p.store(ctx, h)
		}
	}
}

// giveNew gives new deliveries to the queue, those of all endpoints together.
func (p *Path) giveNew(ctx context.Context, all []*handing) {
	var deliveries []*whatisup.Delivery
	for _, h := range all {
		deliveries = append(deliveries, h.deliveries...)
	}
	if len(deliveries) == 0 {
		return
	}
	errs := p.give(ctx, deliveries)
	for _, h := range all {
		copy(h.errs, errs)
		errs = errs[len(h.errs):]
	}
}

// store makes rows of new deliveries: they are owed, or held. Their errors are errDirect
// if the endpoint turns out not to be behind.
func (p *Path) store(ctx context.Context, h *handing) {
	ep := h.ep
	if ep.Holds() {
		for i, d := range h.deliveries {
			d.Status = whatisup.DeliveryHeld
			h.errs[i] = ignore(p.Store.PutDelivery(ctx, d), whatisup.ErrConflict)
		}
		return
	}
	p.halt("owe")
	if !ep.Behind { // as it was read
		if err := p.Store.SetBehind(ctx, ep); err != nil {
			h.fail(ignore(err, whatisup.ErrNotFound))
			return
		}
		ep.Behind = true
	}
	next := time.Time{}
	owing := make([]whatisup.Owing, len(h.deliveries))
	for i, d := range h.deliveries {
		owing[i] = whatisup.Owing{Delivery: d, Due: due(d)}
		if next.IsZero() || owing[i].Due.Before(next) {
			next = owing[i].Due
		}
	}
	if ep.Degraded() {
		next = ep.ProbeAt
	}
	_, err := p.owe(ctx, ep, owing, next, true)
	switch {
	case errors.Is(err, whatisup.ErrCaughtUp):
		ep.Behind = false
		h.fail(errDirect)
		return
	case errors.Is(err, whatisup.ErrNotFound):
		return
	case err != nil:
		h.fail(err)
		return
	}
	p.halt("owed")
	if !ep.Slow() || ep.Degraded() {
		return
	}
	// After the delivery in the queue these get their turn; if there is none, now.
	n, err := p.Store.CountQueued(ctx, ep.ID)
	if err == nil && n == 0 {
		p.wakeAfter(ctx, dueRow(ep), 0)
	}
	h.fail(err)
}

// owe stores what an endpoint is owed, where it is not stored yet.
func (p *Path) owe(ctx context.Context, ep *whatisup.Endpoint, all []whatisup.Owing, next time.Time, behind bool) (sooner bool, err error) {
	for some := range slices.Chunk(all, whatisup.MaxOweTogether) {
		is, err := p.Store.OweDeliveries(ctx, ep, some, next, behind)
		if errors.Is(err, whatisup.ErrConflict) && len(some) > 1 {
			for i := range some { // one of them is there
				one, err := p.Store.OweDeliveries(ctx, ep, some[i:i+1], next, behind)
				if ignore(err, whatisup.ErrConflict) != nil {
					return false, err
				}
				is = is || one
			}
		} else if ignore(err, whatisup.ErrConflict) != nil {
			return false, err
		}
		sooner = sooner || is
	}
	return sooner, nil
}

// due is the place of a delivery that was not tried yet among those that are owed:
// when its event came.
func due(d *whatisup.Delivery) time.Time {
	var ms int64
	if _, err := fmt.Sscanf(d.Order, "%d#", &ms); err != nil {
		return d.ID.CreatedAt()
	}
	return time.UnixMilli(ms)
}

// direct says whether so many new deliveries may go straight into the queue. It may become
// a few more than MaxInQueue, as several look at one moment.
func (p *Path) direct(ctx context.Context, ep *whatisup.Endpoint, more int) (bool, error) {
	if ep.Holds() || ep.Behind || ep.Degraded() || ep.Slow() {
		return false, nil
	}
	n, err := p.inQueue(ctx, ep.ID, more)
	return n < whatisup.MaxInQueue, err
}

// countKept is how long a count of what is in the queue is trusted, plus what this process
// has given to it since, and countsMost of how many endpoints it is remembered.
const (
	countKept  = time.Second
	countsMost = 10_000
)

// counts remembers about how many deliveries of each endpoint are in the queue.
type counts struct {
	mu  sync.Mutex
	all map[whatisup.EndpointID]count
}

type count struct {
	at time.Time
	n  int
}

// inQueue is about how many deliveries of an endpoint are in the queue, before so many
// more.
func (p *Path) inQueue(ctx context.Context, id whatisup.EndpointID, more int) (int, error) {
	now := p.now()
	p.counts.mu.Lock()
	c, ok := p.counts.all[id]
	ok = ok && c.n < whatisup.MaxInQueue && now.Sub(c.at) < countKept
	if ok {
		p.counts.all[id] = count{c.at, c.n + more}
	}
	p.counts.mu.Unlock()
	if ok {
		return c.n, nil
	}
	n, err := p.Store.CountQueued(ctx, id)
	if err != nil {
		return 0, err
	}
	p.counts.mu.Lock()
	defer p.counts.mu.Unlock()
	if p.counts.all == nil || len(p.counts.all) >= countsMost {
		p.counts.all = map[whatisup.EndpointID]count{}
	}
	p.counts.all[id] = count{now, n + more}
	return n, nil
}

// give gives deliveries to the queue, with their envelopes. No two are of one group, or
// their order is of no matter.
func (p *Path) give(ctx context.Context, all []*whatisup.Delivery) []error {
	errs := make([]error, len(all))
	p.halt("mark queued")
	marks, messages := make([]*whatisup.Delivery, len(all)), make([]whatisup.Queued, len(all))
	for i, d := range all {
		mark := *d
		mark.UpdatedAt = p.now()
		marks[i], messages[i] = &mark, queuedAs(d, false)
	}
	err := p.Store.MarkQueued(ctx, marks...)
	if err == nil {
		p.halt("send delivery")
		copy(errs, p.Queue.SendDeliveries(ctx, messages))
		return errs
	}
	for i := range errs {
		errs[i] = err
	}
	return errs
}

// test gives a delivery to the queue that is tried once, and whatever state the
// endpoint is in.
func (p *Path) test(ctx context.Context, d *whatisup.Delivery) error {
	return errors.Join(p.Queue.SendDeliveries(ctx, []whatisup.Queued{queuedAs(d, true)})...)
}

func queuedAs(d *whatisup.Delivery, test bool) whatisup.Queued {
	return handed{
		Customer: d.Customer, Mode: d.Mode, Endpoint: d.Endpoint, Delivery: d.ID, Turn: d.Turn, Test: test,
		Instance: d.Instance, Event: d.Event, EventID: d.EventID, ReplayOf: d.ReplayOf, Replay: d.Replay,
		Group: d.Group, Order: d.Order, Payload: string(d.Payload),
	}.queued()
}

func (h handed) queued() whatisup.Queued {
	body, err := json.Marshal(h)
	if err != nil {
		panic(err) // numbers and texts
	}
	return whatisup.Queued{Group: h.Group, Name: fmt.Sprintf("%s#%d", h.Delivery, h.Turn), Body: body}
}
