package host

import (
	"context"
	"time"
)

// clockBad is how far a clock may be off before something else must be wrong with the
// machine; what is compared between machines has to bear it.
const clockBad = time.Minute

// watchClock tells when this machine's clock begins to differ from DynamoDB's, and
// when it agrees again.
func (h *Host) watchClock(ctx context.Context) {
	t := time.NewTicker(time.Second)
	defer t.Stop()
	off, bad := false, false
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		ahead := h.clock.Ahead()
		isOff, isBad := ahead != 0, ahead.Abs() > clockBad
		if isOff == off && isBad == bad {
			continue
		}
		off, bad = isOff, isBad
		if !off {
			h.log.Info("this machine's clock agrees with DynamoDB's again")
			continue
		}
		h.log.Error("this machine's clock is off; its host reckons with the difference, and calls no message expired",
			"ahead_ms", ahead.Milliseconds(), "over_a_minute", bad)
	}
}
