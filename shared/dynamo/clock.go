package dynamo

import (
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/google/uuid"

	"whatisup/shared/whatisup"
)

// ClockBears is how far a machine's clock may differ from DynamoDB's before the
// difference is taken into account, and said.
const ClockBears = 2 * time.Second

// clockWindow is how long what an answer told of the difference counts, at least;
// at most it is twice as long.
const clockWindow = time.Minute

// Clock tells the deployment's time. Machines compare times that others wrote: when
// a command expires, until when a code is vouched for, where in the log an event
// stands. What all of them talk to is DynamoDB, whose answers carry its time. So a
// machine whose clock is off by more than [ClockBears] reckons with the difference,
// and what it writes and compares is as right as everybody else's.
//
// An answer's Date has whole seconds. It says that the difference is in an interval,
// from the request's departure to the answer's arrival and one second more. The
// intervals of the last minute or two have one in common; an answer that contradicts
// it tells that the clock has been set, and begins a new one.
//
// It is safe for concurrent use.
type Clock struct {
	machine func() time.Time
	ahead   atomic.Int64 // nanoseconds; 0 within ClockBears
	last    atomic.Int64 // of the last position, in its units

	mu       sync.Mutex
	now, was interval // of this window and of the one before
	began    time.Time
}

// interval is where the difference lies; the zero one is everywhere.
type interval struct {
	low, high time.Duration
	known     bool
}

func (i interval) with(o interval) interval {
	switch {
	case !i.known:
		return o
	case !o.known:
		return i
	}
	return interval{low: max(i.low, o.low), high: min(i.high, o.high), known: true}
}

// NewClock returns a clock over this machine's (nil: time.Now), which it believes
// until it has watched an answer.
func NewClock(machine func() time.Time) *Clock {
	if machine == nil {
		machine = time.Now
	}
	return &Clock{machine: machine}
}

// Now is the deployment's time.
func (c *Clock) Now() time.Time { return c.machine().Add(-c.Ahead()) }

// Ahead is how far this machine's clock is known to be ahead of DynamoDB's; below
// zero it is behind. A difference within [ClockBears] is none.
func (c *Clock) Ahead() time.Duration { return time.Duration(c.ahead.Load()) }

// Position takes the position of this moment. Each is above the one before, also
// when the clock has been put back.
func (c *Clock) Position() whatisup.Position {
	// The 48 bits of the millisecond, and 12 of its fraction, as whatisup's ids.
	nano := c.Now().UnixNano()
	at := nano/1e6<<12 | nano%1e6>>8
	for {
		last := c.last.Load()
		at = max(at, last+1)
		if c.last.CompareAndSwap(last, at) {
			break
		}
	}
	id := uuid.New()
	for i, ms := 0, at>>12; i < 6; i++ {
		id[i] = byte(ms >> (8 * (5 - i)))
	}
	id[6], id[7] = 0x70|byte(at>>8&0xf), byte(at)
	return whatisup.Position(id.String())
}

// Watch returns the client with its answers watched. It is for a client of DynamoDB.
func (c *Clock) Watch(client aws.HTTPClient) aws.HTTPClient { return watched{client, c} }

type watched struct {
	aws.HTTPClient
	clock *Clock
}

func (w watched) Do(r *http.Request) (*http.Response, error) {
	sent := w.clock.machine()
	answer, err := w.HTTPClient.Do(r)
	if err == nil {
		if date, bad := http.ParseTime(answer.Header.Get("Date")); bad == nil {
			w.clock.learn(sent, w.clock.machine(), date)
		}
	}
	return answer, err
}

// learn takes what an answer tells: somewhere between sent and got it was date, or
// up to a second later.
func (c *Clock) learn(sent, got, date time.Time) {
	told := interval{low: sent.Sub(date) - time.Second, high: got.Sub(date), known: true}
	c.mu.Lock()
	defer c.mu.Unlock()
	if got.Sub(c.began).Abs() >= clockWindow {
		c.was, c.now, c.began = c.now, interval{}, got
	}
	c.now = c.now.with(told)
	all := c.now.with(c.was)
	if all.low > all.high {
		c.was, c.now, c.began, all = interval{}, told, got, told
	}
	ahead := time.Duration(0)
	if all.low > ClockBears || all.high < -ClockBears {
		ahead = (all.low + all.high) / 2
	}
	c.ahead.Store(int64(ahead))
}
