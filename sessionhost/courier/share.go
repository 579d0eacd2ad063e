package courier

import (
	"context"
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
	events []whatisup.Event
	result chan error
}

// do sends events, and returns when the queue has answered or ctx has ended. What
// was not answered may have been sent.
func (s *share) do(ctx context.Context, events []whatisup.Event) error {
	p := &parcel{events, make(chan error, 1)}
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

// next takes the parcels that leave together, or gives the lane back.
func (s *share) next() (parcels []*parcel, events []whatisup.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for n < len(s.waiting) && (n == 0 || len(events)+len(s.waiting[n].events) <= company) {
		events = append(events, s.waiting[n].events...)
		n++
	}
	if n == 0 {
		s.busy--
		return nil, nil
	}
	parcels, s.waiting = s.waiting[:n:n], s.waiting[n:]
	return parcels, events
}
