package control

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"time"

	"whatisup/shared/whatisup"
)

// Numbers are what is kept of WhatsApp's answers about numbers, and the buckets of
// those that were not kept.
type Numbers interface {
	KeptNumbers(context.Context, whatisup.InstanceID, []whatisup.PhoneNumber) (map[whatisup.PhoneNumber]whatisup.Checked, error)
	KeepNumbers(context.Context, whatisup.InstanceID, []whatisup.Checked) error
	// TakeChecks takes n tokens or none: ErrTooMany.
	TakeChecks(ctx context.Context, r whatisup.Ref, n int, l whatisup.RateLimit) (whatisup.Bucket, error)
}

// CheckNumbers says who of the numbers is on WhatsApp, in their order. WhatsApp is
// asked only for those whose answer is not kept, in one question.
func (c *Control) CheckNumbers(ctx context.Context, who Caller, i *whatisup.Instance, numbers []whatisup.PhoneNumber) ([]whatisup.Checked, error) {
	if err := c.connected(ctx, i); err != nil {
		return nil, err
	}
	distinct := slices.Clone(numbers)
	slices.Sort(distinct)
	distinct = slices.Compact(distinct)
	known, err := c.Store.KeptNumbers(ctx, i.Config.ID, distinct)
	if err != nil {
		return nil, err
	}
	unknown := slices.DeleteFunc(distinct, func(n whatisup.PhoneNumber) bool {
		_, ok := known[n]
		return ok
	})
	if len(unknown) > 0 {
		if err := c.takeChecks(ctx, i, len(unknown)); err != nil {
			return nil, err
		}
		raw, err := c.Ask(ctx, who, i, whatisup.ContactsCheck, "", whatisup.CheckArgs{PhoneNumbers: unknown})
		if err != nil {
			return nil, err
		}
		var answer whatisup.CheckAnswer
		if err := json.Unmarshal(raw, &answer); err != nil {
			return nil, err
		}
		fresh := make([]whatisup.Checked, 0, len(answer.Numbers))
		for _, n := range answer.Numbers {
			one := whatisup.Checked{Asked: n.Asked, Exists: n.Exists, Person: whatisup.Person{PhoneNumber: n.PhoneNumber, LID: n.LID}}
			fresh, known[n.Asked] = append(fresh, one), one
		}
		if err := c.Store.KeepNumbers(ctx, i.Config.ID, fresh); err != nil {
			who.Log.Warn("answers about numbers not kept", "error", err)
		}
	}
	out := make([]whatisup.Checked, len(numbers))
	for k, n := range numbers {
		out[k] = known[n]
		out[k].Asked = n
	}
	return out, nil
}

// takeChecks takes a token of each bucket for each number. The wider one goes
// first: what the narrower one then refuses has cost tokens of the day, which keeps
// a caller who asks on and on from asking for more.
func (c *Control) takeChecks(ctx context.Context, i *whatisup.Instance, n int) error {
	for _, l := range slices.Backward(whatisup.CheckLimits) {
		b, err := c.Store.TakeChecks(ctx, refOf(i), n, l)
		if errors.Is(err, whatisup.ErrTooMany) {
			// Until there are n tokens, not one.
			missing := float64(n-b.Remaining) / l.PerSecond
			return ErrTooManyChecks.After(max(time.Duration(missing*float64(time.Second)), time.Second))
		}
		if err != nil {
			return err
		}
	}
	return nil
}
