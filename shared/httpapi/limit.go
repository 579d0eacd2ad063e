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
	Sends       struct {
		PerCustomer bucket `json:"per_customer"`
	} `json:"sends"`
}

type bucket struct {
	Limit     int           `json:"limit"`
	Remaining int           `json:"remaining"`
	ResetAt   whatisup.Time `json:"reset_at"`
}

// limit is the bucket of the caller's customer.
func (c *call) limit() whatisup.RateLimit {
	return c.caller.customer.Limits.Or(c.Limits)
}

// sendLimits are the buckets that the caller's messages draw on.
func (c *call) sendLimits() whatisup.SendLimits { return c.caller.customer.Sends.Or(c.SendLimits) }

// boundShare is how much of its customer's tokens a bound key may take: a third,
// so that it can't lock its owner out.
const boundShare = 3

// buckets are those that a request draws on, the narrowest first.
func (c *call) buckets() []bucketOf { return c.bucketsOf(c.limit()) }

// bucketsOf is a bucket of the customer, and before it the share of a bound key.
func (c *call) bucketsOf(whole whatisup.RateLimit) []bucketOf {
	if c.caller.key.Instance == "" {
		return []bucketOf{{"", whole}}
	}
	share := whatisup.RateLimit{Burst: max(whole.Burst/boundShare, 1), PerSecond: whole.PerSecond / boundShare}
	return []bucketOf{{c.caller.key.ID, share}, {"", whole}}
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
		for _, of := range c.bucketsOf(c.sendLimits().Customer) {
			if err := c.takeSendToken(string(of.key), of.limit); err != nil {
				return err
			}
		}
		return nil
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
	calls, err := fewestOf(c.buckets(), func(of bucketOf) (whatisup.Bucket, error) {
		return c.Store.Bucket(c.ctx, c.customer(), c.mode(), of.key, of.limit)
	})
	if err != nil {
		return nil, err
	}
	sends, err := fewestOf(c.bucketsOf(c.sendLimits().Customer), func(of bucketOf) (whatisup.Bucket, error) {
		return c.Store.SendBucket(c.ctx, c.customer(), c.mode(), string(of.key), of.limit)
	})
	if err != nil {
		return nil, err
	}
	limitHeaders(c.w.Header(), calls)
	answer := limits{PerCustomer: bucketWire(calls)}
	answer.Sends.PerCustomer = bucketWire(sends)
	return reply(http.StatusOK, answer), nil
}

func bucketWire(b whatisup.Bucket) bucket {
	return bucket{b.Limit, b.Remaining, whatisup.At(b.FullAt)}
}

// fewestOf reads buckets and returns the one with the fewest tokens left.
func fewestOf(all []bucketOf, read func(bucketOf) (whatisup.Bucket, error)) (fewest whatisup.Bucket, err error) {
	for i, of := range all {
		b, err := read(of)
		if err != nil {
			return b, err
		}
		if i == 0 || b.Remaining < fewest.Remaining {
			fewest = b
		}
	}
	return fewest, nil
}
