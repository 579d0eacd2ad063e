package webhook_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"whatisup/shared/webhook"
	"whatisup/shared/whatisup"
)

// partial is a queue that refuses parts of what it is given.
type partial struct {
	webhook.Queue
	refuse func(whatisup.Queued) bool
}

func (p *partial) SendDeliveries(ctx context.Context, all []whatisup.Queued) []error {
	errs := make([]error, len(all))
	for i := range all {
		if errs[i] = errors.New("refused"); !p.refuse(all[i]) {
			errs[i] = errors.Join(p.Queue.SendDeliveries(ctx, all[i:i+1])...)
		}
	}
	return errs
}

// TestFanOutOfABatch has the queue refuse one delivery of a batch of events: that event
// and those of its instance behind it come again, in their order, and nobody else's do.
func TestFanOutOfABatch(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a, b := receive(t), receive(t)
	w.endpoint(a.URL, nil)
	w.endpoint(b.URL, nil)
	one, two := whatisup.NewInstanceID(), whatisup.NewInstanceID()
	var batch []webhook.Message
	for n := range 6 {
		i := []whatisup.InstanceID{one, two}[n%2]
		m := w.message(i, n)
		m.Group = string(i)
		batch = append(batch, m)
	}
	refused := 0
	w.path.Queue = &partial{Queue: w.path.Queue, refuse: func(m whatisup.Queued) bool {
		if strings.Contains(string(m.Body), string(one)) && strings.Contains(string(m.Body), `\"n\":2`) && refused == 0 {
			refused++
			return true
		}
		return false
	}}
	for n, err := range w.path.FanOut(t.Context(), batch) {
		if again := n == 2 || n == 4; again != (err != nil) {
			t.Errorf("event %d: %v", n, err)
		}
	}
	for _, err := range w.path.FanOut(t.Context(), []webhook.Message{batch[2], batch[4]}) {
		if err != nil {
			t.Error(err)
		}
	}
	w.work()
	if refused != 1 {
		t.Fatal("nothing was refused")
	}
	for _, r := range []*receiver{a, b} {
		for odd := range 2 {
			of := slices.DeleteFunc(slices.Clone(r.order), func(n int) bool { return n%2 != odd })
			if !slices.Equal(of, []int{odd, odd + 2, odd + 4}) {
				t.Errorf("received %v", r.order)
			}
		}
	}
}

// TestUnreadableEvent has an event that can't be read in a batch: it alone comes again.
func TestUnreadableEvent(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := receive(t)
	w.endpoint(r.URL, nil)
	good := w.message(whatisup.NewInstanceID(), 1)
	good.Group = "good"
	errs := w.path.FanOut(t.Context(), []webhook.Message{{Body: []byte("{"), Group: "bad"}, good})
	w.work()
	if errs[0] == nil || errs[1] != nil || !slices.Equal(r.order, []int{1}) {
		t.Errorf("%v, received %v", errs, r.order)
	}
}
