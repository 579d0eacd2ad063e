package courier

import (
	"context"
	"errors"
	"iter"
	"log/slog"
	"maps"
	"math/rand/v2"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"

	"whatisup/shared/whatisup"
)

const (
	// directWithin bounds one try to send an event at once.
	directWithin = 2 * time.Second
	// roundWithin bounds one batch of a round.
	roundWithin = 10 * time.Second
	// batch is how many events a round sends at a time.
	batch = 10
	// longest is the longest pause of a breaker, and between two tries of a round.
	longest = time.Minute
)

// Queues are where events go. [queue.Events] is one.
type Queues interface {
	// Queues lists them by name.
	Queues() []string
	// SendTo gives events to one queue, in their order. What the queue refuses for
	// good is no error.
	SendTo(ctx context.Context, queue string, events ...whatisup.Event) error
}

// Log reads a customer's events from a position on, in order.
type Log interface {
	// Position takes the position of this moment.
	Position() whatisup.Position
	EventsAfter(ctx context.Context, c whatisup.CustomerID, m whatisup.Mode, after whatisup.Position, about int) iter.Seq2[whatisup.Logged, error]
}

// Courier is shared by all sessions of a host.
type Courier struct {
	queues Queues
	log    Log
	slog   *slog.Logger
	sent   func(late time.Duration) // of each event that a queue has taken

	mu       sync.Mutex
	shares   map[string]share
	breakers map[string]*breaker
	accounts map[whatisup.InstanceID]*Account
	rounds   map[round]bool
	wg       sync.WaitGroup
}

// round is one queue's round for a customer.
type round struct {
	customer whatisup.CustomerID
	mode     whatisup.Mode
	queue    string
}

// New returns a courier that has nothing to do yet. Sent hears how old each event
// was when it was sent.
func New(q Queues, l Log, log *slog.Logger, sent func(late time.Duration)) *Courier {
	return &Courier{
		queues: q, log: l, slog: log, sent: sent,
		shares: make(map[string]share), breakers: make(map[string]*breaker), accounts: make(map[whatisup.InstanceID]*Account), rounds: make(map[round]bool),
	}
}

// Wait waits for the rounds, which end with the contexts of their accounts.
func (c *Courier) Wait() { c.wg.Wait() }

// Owes says whether this host is paying what the instance owes.
func (c *Courier) Owes(id whatisup.InstanceID) bool {
	c.mu.Lock()
	a := c.accounts[id]
	c.mu.Unlock()
	return a != nil && a.ctx.Err() == nil && a.Owes()
}

// Store writes what an instance owes, for each queue from which position on, under
// the owner's epoch. Nothing owed is an empty map.
type Store func(ctx context.Context, owed map[string]whatisup.Position) error

// Open is the account of an adopted instance: what it owed, and how that is
// stored. There is one account of an instance as long as ctx lasts, which ends when
// the shard is given up or lost; it outlives its session, so Open may find it.
func (c *Courier) Open(ctx context.Context, r whatisup.Ref, owed map[string]whatisup.Position, store Store) *Account {
	c.mu.Lock()
	defer c.mu.Unlock()
	if a := c.accounts[r.ID]; a != nil && a.ctx.Err() == nil {
		return a
	}
	a := &Account{c: c, ref: r, ctx: ctx, store: store, owed: maps.Clone(owed), passing: semaphore.NewWeighted(everyPlace)}
	if a.owed == nil {
		a.owed = make(map[string]whatisup.Position)
	}
	c.accounts[r.ID] = a
	context.AfterFunc(ctx, a.Close)
	for q := range a.owed {
		c.beginLocked(a, q)
	}
	return a
}

// Close drops the account, of an instance that is gone.
func (a *Account) Close() {
	a.c.mu.Lock()
	defer a.c.mu.Unlock()
	if a.c.accounts[a.ref.ID] == a {
		delete(a.c.accounts, a.ref.ID)
	}
}

// beginLocked begins the round that pays the account's debt to a queue.
func (c *Courier) beginLocked(a *Account, queue string) {
	r := round{a.ref.Customer, a.ref.Mode, queue}
	if !c.rounds[r] {
		c.rounds[r] = true
		c.wg.Go(func() { c.run(r) })
	}
}

// debtors are the accounts that owe the round's queue.
func (c *Courier) debtors(r round) (all []*Account) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, a := range c.accounts {
		if a.ctx.Err() == nil && a.ref.Customer == r.customer && a.ref.Mode == r.mode && a.since(r.queue) != "" {
			all = append(all, a)
		}
	}
	if len(all) == 0 {
		delete(c.rounds, r)
	}
	return all
}

// run pays the debts to one queue until there are none.
func (c *Courier) run(r round) {
	b := c.breaker(r.queue)
	for failures := 0; ; {
		debtors := c.debtors(r)
		if len(debtors) == 0 {
			return
		}
		ctx, cancel := anyOf(debtors)
		err := c.pay(ctx, r, debtors)
		passing := errors.Is(err, errPassing)
		if err == nil || passing {
			b.closed() // the queue takes what it is given
		}
		if err == nil {
			failures = 0
			cancel()
			continue
		}
		failures++
		if ctx.Err() == nil && !passing {
			c.slog.Warn("a queue does not get its events", "queue", r.queue, "customer_id", string(r.customer), "error", err.Error())
		}
		pause(ctx, backoff(failures))
		cancel()
	}
}

// anyOf is a context that lasts as long as one of the accounts'.
func anyOf(accounts []*Account) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(context.Background())
	var left sync.WaitGroup
	left.Add(len(accounts))
	stops := make([]func() bool, len(accounts))
	for i, a := range accounts {
		stops[i] = context.AfterFunc(a.ctx, left.Done)
	}
	done := make(chan struct{})
	go func() { // ends with the accounts, or with cancel
		left.Wait()
		cancel()
		close(done)
	}()
	return ctx, func() {
		for _, stop := range stops {
			if stop() {
				left.Done()
			}
		}
		<-done
	}
}

// delivery is one pass of a round through the log.
type delivery struct {
	c       *Courier
	round   round
	cursor  whatisup.Position
	pending []whatisup.Event
	within  time.Duration // of one batch
	// recent are the events sent of the last stretch of the log, which is read
	// again: its neighbours may be committed late.
	recent map[whatisup.EventID]whatisup.Position
}

// pay sends from the log what the accounts owe, and settles each of them.
func (c *Courier) pay(ctx context.Context, r round, debtors []*Account) error {
	since := make(map[whatisup.InstanceID]whatisup.Position)
	var first whatisup.Position
	for _, a := range debtors {
		from := before(a.since(r.queue))
		since[a.ref.ID] = from
		if first == "" || from < first {
			first = from
		}
	}
	d := &delivery{c: c, round: r, cursor: first, within: roundWithin, recent: make(map[whatisup.EventID]whatisup.Position)}
	if err := d.send(ctx, since); err != nil {
		return err
	}
	var later error
	for _, a := range debtors {
		if a.ctx.Err() != nil {
			continue
		}
		err := d.settle(ctx, a)
		if errors.Is(err, errPassing) { // the others are not held up by it
			later = err
			err = d.shorten(ctx, a)
		}
		if err != nil {
			return err
		}
	}
	return later
}

// errPassing is how settle ends if an event of the account stays on its way into the
// log, which takes no rows.
var errPassing = errors.New("an event is on its way into the log")

// shorten moves the mark of an account to what was sent, so that the next round does
// not send it again.
func (d *delivery) shorten(ctx context.Context, a *Account) error {
	return a.change(ctx, func(owed map[string]whatisup.Position) {
		if old := owed[d.round.queue]; old != "" {
			owed[d.round.queue] = max(old, before(d.cursor))
		}
	})
}

// before is the position from which on the log is read for a mark: what is
// committed late may be in the log before it.
func before(p whatisup.Position) whatisup.Position {
	return whatisup.PositionAt(p.Time().Add(-whatisup.PositionLag))
}

// send reads the log from the cursor to its end and sends the events of those
// instances.
func (d *delivery) send(ctx context.Context, since map[whatisup.InstanceID]whatisup.Position) error {
	for e, err := range d.c.log.EventsAfter(ctx, d.round.customer, d.round.mode, d.cursor, 100) {
		if err != nil {
			return err
		}
		from, owed := since[e.Instance]
		if _, sent := d.recent[e.ID]; owed && e.Position >= from && !sent {
			d.pending = append(d.pending, e.Event)
			d.recent[e.ID] = e.Position
		}
		d.cursor = e.Position
		if len(d.pending) == batch {
			if err := d.flush(ctx); err != nil {
				return err
			}
		}
	}
	return d.flush(ctx)
}

func (d *delivery) flush(ctx context.Context) error {
	if len(d.pending) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, d.within)
	defer cancel()
	if err := d.c.queues.SendTo(ctx, d.round.queue, d.pending...); err != nil {
		d.c.breaker(d.round.queue).failed()
		return err
	}
	for _, e := range d.pending {
		d.c.sent(time.Since(e.OccurredAt.Time))
	}
	d.pending = nil
	if len(d.recent) > 1000 {
		last := before(d.cursor)
		maps.DeleteFunc(d.recent, func(_ whatisup.EventID, p whatisup.Position) bool { return p < last })
	}
	return nil
}

// settle sends the last stretch of an account's events while none is on its way
// into the log, and removes the mark.
func (d *delivery) settle(ctx context.Context, a *Account) error {
	stopping, stopped := context.WithTimeout(ctx, directWithin)
	defer stopped()
	if err := a.passing.Acquire(stopping, everyPlace); err != nil {
		return errPassing
	}
	defer a.passing.Release(everyPlace)
	d.within = directWithin // messages of the instance wait for this
	defer func() { d.within = roundWithin }()
	end := d.cursor
	d.cursor = before(end)
	if err := d.send(ctx, map[whatisup.InstanceID]whatisup.Position{a.ref.ID: before(a.since(d.round.queue))}); err != nil {
		return err
	}
	d.cursor = max(d.cursor, end)
	ctx, cancel := context.WithTimeout(ctx, roundWithin)
	defer cancel()
	return a.change(ctx, func(owed map[string]whatisup.Position) { delete(owed, d.round.queue) })
}

// everyPlace is more than the events of one instance that are ever on their way at once.
const everyPlace = 1 << 30

// Account is what one instance owes to the queues.
type Account struct {
	c     *Courier
	ref   whatisup.Ref
	ctx   context.Context // ends with the tenure
	store Store

	// passing has a place for each event between the decision which queues it goes
	// to and the log. Who takes every place knows that there is none.
	passing *semaphore.Weighted

	writing sync.Mutex // one write of the marks at a time
	mu      sync.Mutex
	owed    map[string]whatisup.Position
}

// Owes says whether any queue lacks something.
func (a *Account) Owes() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.owed) > 0
}

// since is the mark of a queue, empty if it lacks nothing.
func (a *Account) since(queue string) whatisup.Position {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.owed[queue]
}

// change stores other marks.
func (a *Account) change(ctx context.Context, f func(owed map[string]whatisup.Position)) error {
	a.writing.Lock()
	defer a.writing.Unlock()
	a.mu.Lock()
	owed := maps.Clone(a.owed)
	a.mu.Unlock()
	f(owed)
	if err := a.store(ctx, owed); err != nil {
		return err
	}
	a.mu.Lock()
	a.owed = owed
	a.mu.Unlock()
	return nil
}

// Owe stores that these queues (none named: all) may lack the events from a
// position on, and begins to pay.
func (a *Account) Owe(ctx context.Context, from whatisup.Position, queues ...string) error {
	if len(queues) == 0 {
		queues = a.c.queues.Queues()
	}
	if len(queues) == 0 {
		return nil
	}
	err := a.change(ctx, func(owed map[string]whatisup.Position) {
		for _, q := range queues {
			if p, ok := owed[q]; !ok || from < p {
				owed[q] = from
			}
		}
	})
	if err != nil {
		return err
	}
	a.c.mu.Lock()
	defer a.c.mu.Unlock()
	if a.ctx.Err() == nil {
		for _, q := range queues {
			a.c.beginLocked(a, q)
		}
	}
	return nil
}

// Send sends events that are in the log to every queue that lacks nothing. What
// fails is owed. An error means that not even that could be stored.
func (a *Account) Send(ctx context.Context, from whatisup.Position, events ...whatisup.Event) error {
	if err := a.passing.Acquire(ctx, 1); err != nil {
		return err
	}
	defer a.passing.Release(1)
	return a.send(ctx, from, events...)
}

// Keep sends an event that is not in the log yet, and then has keep write it
// there. So a crash in between repeats it and never omits it.
func (a *Account) Keep(ctx context.Context, e whatisup.Event, keep func(context.Context) error) error {
	return a.Hand(ctx, e, func(ctx context.Context, send func(context.Context) error) error {
		if err := send(ctx); err != nil {
			return err
		}
		return keep(ctx)
	})
}

// Hand has keep write an event to the log and send it, in either order or at once.
// Keep repeats both until both are done, over deaths too.
func (a *Account) Hand(ctx context.Context, e whatisup.Event, keep func(ctx context.Context, send func(context.Context) error) error) error {
	if err := a.passing.Acquire(ctx, 1); err != nil {
		return err
	}
	defer a.passing.Release(1)
	from := a.c.log.Position()
	return keep(ctx, func(ctx context.Context) error { return a.send(ctx, from, e) })
}

func (a *Account) send(ctx context.Context, from whatisup.Position, events ...whatisup.Event) error {
	type outcome struct {
		queue string
		err   error
	}
	queues := a.c.queues.Queues()
	outcomes := make(chan outcome, len(queues))
	asked := 0
	for _, q := range queues {
		if a.since(q) == "" {
			asked++
			go func() { outcomes <- outcome{q, a.c.direct(ctx, q, events)} }()
		}
	}
	var failed []string
	for range asked {
		if o := <-outcomes; o.err != nil {
			failed = append(failed, o.queue)
		}
	}
	if asked > len(failed) {
		for _, e := range events {
			a.c.sent(time.Since(e.OccurredAt.Time))
		}
	}
	if len(failed) == 0 {
		return nil
	}
	return a.Owe(ctx, from, failed...)
}

var errBroken = errors.New("the queue failed a moment ago")

// direct is one try to send at once.
func (c *Courier) direct(ctx context.Context, queue string, events []whatisup.Event) error {
	if !c.breaker(queue).open() {
		return errBroken
	}
	ctx, cancel := context.WithTimeout(ctx, directWithin)
	defer cancel()
	return c.share(queue).Do(ctx, events)
}

func (c *Courier) share(queue string) share {
	c.mu.Lock()
	defer c.mu.Unlock()
	s, ok := c.shares[queue]
	if !ok {
		s = newShare(func(ctx context.Context, events []whatisup.Event) error { return c.request(ctx, queue, events) })
		c.shares[queue] = s
	}
	return s
}

// request sends what shares a request, and lets the breaker know.
func (c *Courier) request(ctx context.Context, queue string, events []whatisup.Event) error {
	b := c.breaker(queue)
	err := c.queues.SendTo(ctx, queue, events...)
	if err == nil {
		b.closed()
		return nil
	}
	if pause := b.failed(); pause > 0 {
		c.slog.Warn("a queue is left alone for a while; what it misses is sent from the log", "queue", queue, "for", pause, "error", err.Error())
	}
	return err
}

func (c *Courier) breaker(queue string) *breaker {
	c.mu.Lock()
	defer c.mu.Unlock()
	b := c.breakers[queue]
	if b == nil {
		b = new(breaker)
		c.breakers[queue] = b
	}
	return b
}

// breaker keeps everybody from a queue that has failed, for a while.
type breaker struct {
	mu       sync.Mutex
	failures int
	until    time.Time
}

// open says whether the queue may be tried. After the pause one try at a time is
// let through.
func (b *breaker) open() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.failures == 0 {
		return true
	}
	if time.Now().Before(b.until) {
		return false
	}
	b.until = time.Now().Add(directWithin)
	return true
}

func (b *breaker) closed() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.failures, b.until = 0, time.Time{}
}

// failed begins a pause, and says how long it is; 0 if there was one already.
func (b *breaker) failed() time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	if time.Now().Before(b.until) && b.failures > 1 {
		return 0
	}
	b.failures++
	d := backoff(b.failures)
	b.until = time.Now().Add(d)
	return d
}

// backoff is the pause after the n-th failure in a row: doubling from one second,
// a minute at most, with half of it left to chance.
func backoff(n int) time.Duration {
	d := min(time.Second<<min(n-1, 10), longest)
	return d/2 + rand.N(d/2)
}

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}
