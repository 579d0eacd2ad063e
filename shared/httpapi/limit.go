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

// boundShare is how much of its customer's tokens a bound key may take: a third,
// so that it can't lock its owner out.
const boundShare = 3

// buckets are those that a request draws on, the narrowest first.
func (c *call) buckets() []bucketOf {
	whole := bucketOf{"", c.limit()}
	if c.caller.key.Instance == "" {
		return []bucketOf{whole}
	}
	share := whatisup.RateLimit{Burst: max(whole.limit.Burst/boundShare, 1), PerSecond: whole.limit.PerSecond / boundShare}
	return []bucketOf{{c.caller.key.ID, share}, whole}
}

type bucketOf struct {
	key   whatisup.KeyID // empty: the customer's
	limit whatisup.RateLimit
}

// takeToken takes the request's token. The headers tell of the bucket with fewer
// tokens left.
func (c *call) takeToken() error {
	if c.route.free {
		return nil
	}
	if c.route.sends {
		return c.takeSendToken("", DefaultSendLimits)
	}
	var fewest *whatisup.Bucket
	for _, of := range c.buckets() {
		b, err := c.Store.Take(c.ctx, c.customer(), c.mode(), of.key, of.limit)
		if err != nil && !errors.Is(err, whatisup.ErrTooMany) {
			return err
		}
		if fewest == nil || err != nil || b.Remaining < fewest.Remaining {
			fewest = &b
		}
		if err != nil {
			limitHeaders(c.w.Header(), b)
			return errRateLimited.After(max(b.NextIn, time.Second))
		}
	}
	limitHeaders(c.w.Header(), *fewest)
	return nil
}

func limitHeaders(h http.Header, b whatisup.Bucket) {
	h.Set("X-RateLimit-Limit", strconv.Itoa(b.Limit))
	h.Set("X-RateLimit-Remaining", strconv.Itoa(b.Remaining))
	h.Set("X-RateLimit-Reset", strconv.FormatInt(int64(math.Ceil(float64(b.FullAt.UnixMilli())/1000)), 10))
}

func getLimits(c *call) (*answer, error) {
	var fewest *whatisup.Bucket
	for _, of := range c.buckets() {
		b, err := c.Store.Bucket(c.ctx, c.customer(), c.mode(), of.key, of.limit)
		if err != nil {
			return nil, err
		}
		if fewest == nil || b.Remaining < fewest.Remaining {
			fewest = &b
		}
	}
	limitHeaders(c.w.Header(), *fewest)
	return reply(http.StatusOK, limits{bucket{fewest.Limit, fewest.Remaining, whatisup.At(fewest.FullAt)}}), nil
}
