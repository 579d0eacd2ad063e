package devicestore

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/smithy-go"
)

// bound returns a context for one operation: it ends with the handle, with the
// caller's context, and after d.
func (h *Handle) bound(caller context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithTimeout(h.ctx, d)
	stop := context.AfterFunc(caller, cancel)
	return ctx, func() { stop(); cancel() }
}

// retry calls f until it succeeds, fails for good, or d is over. Throttling,
// conflicts and lost connections are tried again, with jitter. A call that runs
// out of time comes back as [ErrUnavailable], one whose caller went away as the
// caller's error.
func retry[T any](h *Handle, caller context.Context, d time.Duration, f func(context.Context) (T, error)) (T, error) {
	ctx, cancel := h.bound(caller, d)
	defer cancel()
	pause := firstPause
	for {
		out, err := f(ctx)
		if err == nil {
			return out, nil
		}
		if ctx.Err() == nil && transient(err) {
			timer := time.NewTimer(pause/2 + rand.N(pause))
			select {
			case <-timer.C:
				pause = min(2*pause, lastPause)
				continue
			case <-ctx.Done():
				timer.Stop()
			}
		}
		var none T
		switch {
		case h.ctx.Err() != nil:
			if unusable := h.usable(); unusable != nil {
				return none, unusable
			}
		case caller.Err() != nil:
			return none, fmt.Errorf("devicestore: %w", caller.Err())
		case ctx.Err() != nil || transient(err):
			return none, fmt.Errorf("%w: %w", ErrUnavailable, err)
		}
		return none, err
	}
}

const (
	firstPause = 20 * time.Millisecond
	lastPause  = time.Second
)

// transient says whether the same call may succeed a moment later. What
// DynamoDB says about the request itself (validation, access, conditions) is
// for good; everything that isn't an answer of the service is not.
func transient(err error) bool {
	var cancelled *types.TransactionCanceledException
	if errors.As(err, &cancelled) {
		found := false
		for _, r := range cancelled.CancellationReasons {
			switch code(r) {
			case "None":
			case "TransactionConflict", "ThrottlingError", "ProvisionedThroughputExceeded":
				found = true
			default:
				return false
			}
		}
		return found
	}
	var api smithy.APIError
	if !errors.As(err, &api) {
		return true // no answer: connection, timeout, an unreadable body
	}
	switch api.ErrorCode() {
	case "TransactionConflictException", "TransactionInProgressException",
		"ThrottlingException", "Throttling", "ProvisionedThroughputExceededException", "RequestLimitExceeded",
		"InternalServerError", "InternalFailure", "ServiceUnavailable":
		return true
	}
	return api.ErrorFault() == smithy.FaultServer
}

func code(r types.CancellationReason) string {
	if r.Code == nil {
		return "None"
	}
	return *r.Code
}
