package courier

import (
	"context"
	"slices"
	"sync"

	"whatisup/shared/whatisup"
)

const (
	// lanes is how many requests to one queue are under way at a time.
	lanes = 4
	// company is how many events share a request.
	company = 10
)

// share has the sessions of a host share their requests to one queue. While few
// requests are under way an event leaves at once; those that come meanwhile wait
// for one of them to end, and then leave together. So nothing waits for company,
// and a busy host sends a tenth of the requests.
type share struct {
	send func(ctx context.Context, events []whatisup.Event) error

	mu      sync.Mutex
	busy    int
	waiting []*parcel
}

// parcel is what one caller sends.
type parcel struct {
	ctx    context.Context // of the caller
	events []whatisup.Event
	result chan error
}

// do sends events, and returns when the queue has answered or ctx has ended. What
// was on its way then may have been sent; what still waited never is.
func (s *share) do(ctx context.Context, events []whatisup.Event) error {
	p := &parcel{ctx, events, make(chan error, 1)}
	s.mu.Lock()
	s.waiting = append(s.waiting, p)
	if s.busy < lanes {
		s.busy++
		go s.run()
	}
	s.mu.Unlock()
	select {
	case err := <-p.result:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// run sends what waits, until nothing does.
func (s *share) run() {
	for {
		parcels, events := s.next()
		if len(parcels) == 0 {
			return
		}
		ctx, cancel := context.WithTimeout(context.Background(), directWithin)
		err := s.send(ctx, events)
		cancel()
		for _, p := range parcels {
			p.result <- err
		}
	}
}

// next takes the parcels that leave together, or gives the lane back. Parcels whose
// caller has gone are dropped: what is in them is owed by now, and comes from the log.
func (s *share) next() (parcels []*parcel, events []whatisup.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.waiting = slices.DeleteFunc(s.waiting, func(p *parcel) bool { return p.ctx.Err() != nil })
	n := 0
	for n < len(s.waiting) && (n == 0 || len(events)+len(s.waiting[n].events) <= company) {
		events = append(events, s.waiting[n].events...)
		n++
	}
	if n == 0 {
		s.busy--
		return nil, nil
	}
	parcels = slices.Clone(s.waiting[:n])
	s.waiting = slices.Delete(s.waiting, 0, n)
	return parcels, events
}
