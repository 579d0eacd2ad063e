package httpapi

import (
	"errors"
	"math"
	"net/http"
	"strconv"
	"time"

	"whatisup/shared/whatisup"
)

// Limits answers GET /v1/limits.
type limits struct {
	PerCustomer bucket `json:"per_customer"`
}

type bucket struct {
	Limit     int           `json:"limit"`
	Remaining int           `json:"remaining"`
	ResetAt   whatisup.Time `json:"reset_at"`
}

// limit is the bucket of the caller's customer.
func (c *call) limit() whatisup.RateLimit {
	l := c.caller.customer.Limits
	if l.Burst <= 0 {
		l.Burst = c.Limits.Burst
	}
	if l.PerSecond <= 0 {
		l.PerSecond = c.Limits.PerSecond
	}
	return l
}

// takeToken takes the request's token, or tells how the bucket stands for a
// request that costs none.
func (c *call) takeToken() error {
	if c.route.free {
		return nil
	}
	if c.route.sends {
		return c.takeSendToken("", DefaultSendLimits)
	}
	b, err := c.Store.Take(c.ctx, c.customer(), c.mode(), c.limit())
	if err != nil && !errors.Is(err, whatisup.ErrTooMany) {
		return err
	}
	limitHeaders(c.w.Header(), b)
	if err != nil {
		return errRateLimited.After(max(b.NextIn, time.Second))
	}
	return nil
}

func limitHeaders(h http.Header, b whatisup.Bucket) {
	h.Set("X-RateLimit-Limit", strconv.Itoa(b.Limit))
	h.Set("X-RateLimit-Remaining", strconv.Itoa(b.Remaining))
	h.Set("X-RateLimit-Reset", strconv.FormatInt(int64(math.Ceil(float64(b.FullAt.UnixMilli())/1000)), 10))
}

func getLimits(c *call) (*answer, error) {
	b, err := c.Store.Bucket(c.ctx, c.customer(), c.mode(), c.limit())
	if err != nil {
		return nil, err
	}
	limitHeaders(c.w.Header(), b)
	return reply(http.StatusOK, limits{bucket{b.Limit, b.Remaining, whatisup.At(b.FullAt)}}), nil
}
