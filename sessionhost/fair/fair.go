package fair

import (
	"slices"
	"sync"
	"time"

	"whatisup/shared/whatisup"
)

// line is who waits: each customer's in the order in which they asked, and the
// customers in turn.
type line struct {
	waiting map[whatisup.CustomerID][]chan struct{}
	turns   []whatisup.CustomerID // customers that wait, the next one first
}

func newLine() line { return line{waiting: make(map[whatisup.CustomerID][]chan struct{})} }

// join waits for a turn of the customer.
func (l *line) join(c whatisup.CustomerID) chan struct{} {
	turn := make(chan struct{})
	if len(l.waiting[c]) == 0 {
		l.turns = append(l.turns, c)
	}
	l.waiting[c] = append(l.waiting[c], turn)
	return turn
}

// leave ends a wait. It is false if the turn was granted.
func (l *line) leave(c whatisup.CustomerID, turn chan struct{}) bool {
	n := slices.Index(l.waiting[c], turn)
	if n < 0 {
		return false
	}
	l.waiting[c] = slices.Delete(l.waiting[c], n, n+1)
	l.forget(c)
	return true
}

// grant gives the next turn to a customer that may have one. It is false if there is
// none.
func (l *line) grant(may func(whatisup.CustomerID) bool) (c whatisup.CustomerID, ok bool) {
	n := slices.IndexFunc(l.turns, may)
	if n < 0 {
		return "", false
	}
	c = l.turns[n]
	l.turns = append(slices.Delete(l.turns, n, n+1), c) // its next turn comes last
	close(l.waiting[c][0])
	l.waiting[c] = l.waiting[c][1:]
	l.forget(c)
	return c, true
}

// forget drops a customer that waits no more.
func (l *line) forget(c whatisup.CustomerID) {
	if len(l.waiting[c]) > 0 {
		return
	}
	delete(l.waiting, c)
	if n := slices.Index(l.turns, c); n >= 0 {
		l.turns = slices.Delete(l.turns, n, n+1)
	}
}

// Pool is a number of places, of which no customer holds more than its share.
type Pool struct {
	mu   sync.Mutex
	line line
	each int
	free int
	held map[whatisup.CustomerID]int
}

// NewPool has size places, and each at most for one customer.
func NewPool(size, each int) *Pool {
	return &Pool{line: newLine(), each: each, free: size, held: make(map[whatisup.CustomerID]int)}
}

// Ask asks for a place. Granted is closed when it is there; giveBack ends the wait or
// the use of it, and must be called once.
func (p *Pool) Ask(c whatisup.CustomerID) (granted <-chan struct{}, giveBack func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	turn := p.line.join(c)
	p.grant()
	return turn, func() { p.giveBack(c, turn) }
}

func (p *Pool) giveBack(c whatisup.CustomerID, turn chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.line.leave(c, turn) {
		return
	}
	p.free++
	if p.held[c]--; p.held[c] == 0 {
		delete(p.held, c)
	}
	p.grant()
}

func (p *Pool) grant() {
	for p.free > 0 {
		c, ok := p.line.grant(func(c whatisup.CustomerID) bool { return p.held[c] < p.each })
		if !ok {
			return
		}
		p.free--
		p.held[c]++
	}
}

// Pace is how often something may begin.
type Pace struct {
	mu       sync.Mutex
	line     line
	interval time.Duration
	burst    int
	next     time.Time   // when the next one may begin; earlier by what is left of the burst
	timer    *time.Timer // of the next one that waits; nil: none
}

// NewPace lets a number begin a second, after a pause so many at once.
func NewPace(perSecond float64, burst int) *Pace {
	return &Pace{line: newLine(), interval: time.Duration(float64(time.Second) / perSecond), burst: burst}
}

// Ask asks for a beginning. Granted is closed when it may be; giveUp ends the wait, and
// does nothing after it.
func (p *Pace) Ask(c whatisup.CustomerID) (granted <-chan struct{}, giveUp func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	turn := p.line.join(c)
	p.grant()
	return turn, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.line.leave(c, turn)
	}
}

func (p *Pace) grant() {
	now := time.Now()
	if full := now.Add(-time.Duration(p.burst-1) * p.interval); p.next.Before(full) {
		p.next = full
	}
	for !p.next.After(now) {
		if _, ok := p.line.grant(func(whatisup.CustomerID) bool { return true }); !ok {
			return
		}
		p.next = p.next.Add(p.interval)
	}
	if len(p.line.turns) > 0 && p.timer == nil {
		p.timer = time.AfterFunc(p.next.Sub(now), func() {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.timer = nil
			p.grant()
		})
	}
}
