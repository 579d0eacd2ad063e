package courier

import (
	"context"

	"whatisup/shared/together"
	"whatisup/shared/whatisup"
)

const (
	// lanes is how many requests to one queue are under way at a time.
	lanes = 4
	// company is how many events share a request.
	company = 10
)

// share has the sessions of a host share their requests to one queue: see [together].
// An event that comes alone leaves at once, and a busy host makes a tenth of the
// requests.
type share struct {
	*together.Group[[]whatisup.Event]
}

// newShare shares requests that send makes. All events of one have its answer.
func newShare(send func(ctx context.Context, events []whatisup.Event) error) share {
	return share{&together.Group[[]whatisup.Event]{
		Lanes: lanes, Most: company, Size: func(events []whatisup.Event) int { return len(events) },
		Send: func(parcels [][]whatisup.Event) []error {
			var all []whatisup.Event
			for _, events := range parcels {
				all = append(all, events...)
			}
			ctx, cancel := context.WithTimeout(context.Background(), directWithin)
			defer cancel()
			err := send(ctx, all)
			answers := make([]error, len(parcels))
			for i := range answers {
				answers[i] = err
			}
			return answers
		},
	}}
}
