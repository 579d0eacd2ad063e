package session

import (
	"sync"
	"sync/atomic"
	"time"

	"whatisup/sessionhost/fair"
	"whatisup/shared/whatisup"
)

// The kinds of connecting, each with a budget of its own: a person who waits for
// a code must not queue behind a thousand sessions that come back, a hand-over
// must be quick, and after an outage of WhatsApp not all may connect at once.
type kind string

const (
	interactive kind = "interactive" // somebody asked for it just now
	resuming    kind = "resume"      // after a claim
	returning   kind = "reconnect"   // after a loss
)

// Interactive is how many interactive connects may be under way at a time, and how
// many of them may be one customer's.
const (
	Interactive     = 64
	InteractiveEach = Interactive / 2
)

// Adoptions is how many sessions that nobody asked for may adopt their instances
// at a time: each adoption checks the row of its shard's epoch, and DynamoDB
// refuses one of two transactions that meet on a row.
const Adoptions = 16

// Budgets limit how a host connects. One is shared by all its sessions; customers
// that wait have their turns.
type Budgets struct {
	interactive *fair.Pool
	adoptions   chan struct{}
	resume      *fair.Pace
	reconnect   *fair.Pace
	max         int64
	pairings    atomic.Int64
	sessions    atomic.Int64

	reached struct {
		sync.Mutex
		next chan struct{} // closed by the next login
	}
}

// NewBudgets with the rates a second, and the number of sessions above which new
// pairings are refused (0: none).
func NewBudgets(resume, reconnect float64, maxSessions int) *Budgets {
	return &Budgets{
		interactive: fair.NewPool(Interactive, InteractiveEach),
		adoptions:   make(chan struct{}, Adoptions),
		// A burst of a quarter of a second, so that few sessions don't wait at all.
		resume:    fair.NewPace(resume, max(int(resume/4), 1)),
		reconnect: fair.NewPace(reconnect, max(int(reconnect/4), 1)),
		max:       int64(maxSessions),
	}
}

// ask asks for a customer's turn to connect. It is there when turn is closed; done
// ends the wait for it, or the use of it.
func (b *Budgets) ask(k kind, c whatisup.CustomerID) (turn <-chan struct{}, done func()) {
	switch k {
	case resuming:
		return b.resume.Ask(c)
	case returning:
		return b.reconnect.Ask(c)
	}
	return b.interactive.Ask(c)
}

// reach tells that a session has logged in, so that those that wait for WhatsApp to be
// reachable needn't wait for their own next try to find it out.
func (b *Budgets) reach() {
	b.reached.Lock()
	defer b.reached.Unlock()
	if b.reached.next != nil {
		close(b.reached.next)
		b.reached.next = nil
	}
}

// nextReached is closed by the next login of any session.
func (b *Budgets) nextReached() <-chan struct{} {
	b.reached.Lock()
	defer b.reached.Unlock()
	if b.reached.next == nil {
		b.reached.next = make(chan struct{})
	}
	return b.reached.next
}

// beginPairing reserves room for one attempt: pairings use at most a fifth of the
// host, so that links always find room to come back.
func (b *Budgets) beginPairing() bool {
	if b.pairings.Add(1) > 0 && b.max > 0 &&
		(b.pairings.Load() > max(b.max/5, 1) || b.sessions.Load() > b.max) {
		b.pairings.Add(-1)
		return false
	}
	return true
}

func (b *Budgets) endPairing() { b.pairings.Add(-1) }

// Sessions is how many sessions run.
func (b *Budgets) Sessions() int { return int(b.sessions.Load()) }

// Pairings is how many attempts are open.
func (b *Budgets) Pairings() int { return int(b.pairings.Load()) }

// Backoff is how long to wait before the n-th try in a row, from 1: none before
// the first beyond a little spread, then doubling from two seconds, at most five
// minutes, with the upper half of each wait left to chance.
func Backoff(n int, chance func() float64) time.Duration {
	if n <= 1 {
		return time.Duration(chance() * float64(time.Second))
	}
	d := min(2*time.Second<<min(n-2, 10), 5*time.Minute)
	return d/2 + time.Duration(chance()*float64(d/2))
}
