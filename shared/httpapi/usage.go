package httpapi

import (
	"net/http"
	"time"

	"whatisup/shared/whatisup"
)

// usage answers GET /v1/usage.
type usage struct {
	From  whatisup.Time        `json:"from"`
	To    whatisup.Time        `json:"to"`
	Total whatisup.Usage       `json:"total"`
	Data  []whatisup.UsageHour `json:"data"`
}

// usageDefault is how far back the answer goes if the caller does not say.
const usageDefault = 24 * time.Hour

func getUsage(c *call) (*answer, error) {
	q, err := c.readQuery()
	if err != nil {
		return nil, err
	}
	now := c.Now()
	to := q.time("to")
	if to.IsZero() {
		to = now
	}
	from := q.time("from")
	if from.IsZero() {
		from = to.Add(-usageDefault)
	}
	instance := q.instanceID("instance_id")
	if len(q.problems) == 0 {
		switch {
		case to.Before(from):
			q.problem("to", "must not be before from")
		case to.After(now.Add(time.Hour)): // the caller's clock may be ahead
			q.problem("to", "must not be in the future")
		case from.Before(now.Add(-whatisup.UsageKept - time.Hour)):
			q.problem("from", "must be within the last 30 days")
		}
	}
	if err := q.done(); err != nil {
		return nil, err
	}
	if bound := c.caller.key.Instance; bound != "" {
		if instance != "" && instance != bound {
			return nil, errScoped
		}
		instance = bound
	}
	hours, err := c.control.Usage(c.ctx, c.who(), instance, from, to)
	if err != nil {
		return nil, err
	}
	u := usage{From: whatisup.At(from), To: whatisup.At(to), Data: hours}
	for _, h := range hours {
		u.Total.Add(h.Usage)
	}
	return reply(http.StatusOK, u), nil
}
