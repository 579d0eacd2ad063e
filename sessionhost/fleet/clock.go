package fleet

import "time"

// Clock tells the time elapsed since some fixed moment.
type Clock func() time.Duration

// NewClock returns the larger of the monotonic clock and, where there is one, a
// clock that goes on while the machine sleeps. A lease must not look young to a
// host that has slept over it.
func NewClock() Clock {
	start, boot := time.Now(), sinceBoot()
	return func() time.Duration { return max(time.Since(start), sinceBoot()-boot) }
}
