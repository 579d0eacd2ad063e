package control

import (
	"context"
	"errors"
	"time"

	"whatisup/shared/whatisup"
)

const (
	// waitFor is how long a call waits for a session host, counted from when
	// API Gateway took it.
	waitFor = 10 * time.Second
	// lambdaMargin is left of a function's own time to answer in.
	lambdaMargin = time.Second
	// answerMargin is left of the wait, so that the answer is on its way when
	// the wait is over.
	answerMargin = 150 * time.Millisecond
)

const (
	pollWaitLeast = 10 * time.Millisecond
	pollWaitMost  = 250 * time.Millisecond
)

// pollWait is the time between two looks: a host that is awake has a code within
// a few hundredths of a second on one machine, within half a second on AWS. It
// grows with the time waited, so that a look comes at most a sixth of it late.
// It also grows with how long a look takes: where many callers wait, the looks
// themselves are part of the load.
func pollWait(waited, look time.Duration) time.Duration {
	return min(max(pollWaitLeast, waited/6, 4*look), pollWaitMost)
}

// ErrOver is what [Poll] answers when the time is over.
var ErrOver = errors.New("the wait is over")

// Poll looks again and again until look is done or fails, and answers ErrOver at
// the time until. patient leaves out the first look, where nothing can be there
// yet. A look that is on its way at the end is cut off shortly afterwards.
func Poll(ctx context.Context, now func() time.Time, until time.Time, patient bool, look func(context.Context) (done bool, err error)) error {
	looking, cancel := context.WithTimeout(ctx, until.Sub(now())+answerMargin/2)
	defer cancel()
	began := now()
	took := time.Duration(0)
	for {
		if !patient {
			asked := now()
			done, err := look(looking)
			if err != nil && looking.Err() != nil && ctx.Err() == nil {
				return ErrOver
			}
			if done || err != nil {
				return err
			}
			took = now().Sub(asked)
		}
		patient = false
		wait := pollWait(now().Sub(began), took)
		if !now().Add(wait).Before(until) {
			return ErrOver
		}
		if err := sleep(ctx, wait); err != nil {
			return err
		}
	}
}

// maxWaiting is how many calls of a customer and mode may wait at one time: each
// holds a Lambda function while it waits.
const maxWaiting = 20

// freeFor bounds how long a call that has waited takes to give its slot back.
const freeFor = 2 * time.Second

// Wait is [Poll] for a call, which takes one of its customer's slots for calls
// that wait. A call whose first look is done needs none.
func (c *Control) Wait(ctx context.Context, who Caller, until time.Time, patient bool, look func(context.Context) (done bool, err error)) error {
	if !patient {
		done, err := look(ctx)
		if done || err != nil {
			return err
		}
	}
	slots := whatisup.Slots{Customer: who.Customer.ID, Mode: who.Mode, Kind: "waiting", Limit: maxWaiting}
	id := string(who.Request)
	err := c.Store.TakeSlot(ctx, slots, id, until.Add(freeFor), "")
	if errors.Is(err, whatisup.ErrTooMany) {
		return ErrTooManyWaiting
	}
	if err != nil {
		return err
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), freeFor)
		defer cancel()
		if err := c.Store.FreeSlots(ctx, slots, id); err != nil {
			who.Log.Warn("slot of a waiting call not given back", "error", err)
		}
	}()
	return Poll(ctx, c.Now, until, true, look)
}

// waitUntil is when a call that waits must have its answer.
func (c *Control) waitUntil(ctx context.Context, who Caller) time.Time {
	until := who.Began.Add(waitFor)
	if deadline, ok := ctx.Deadline(); ok {
		if ends := c.Now().Add(time.Until(deadline) - lambdaMargin); ends.Before(until) {
			until = ends
		}
	}
	return until.Add(-answerMargin)
}

// sleep waits, or ends with the caller's patience.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
