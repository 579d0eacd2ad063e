package local

import (
	"sync"

	"whatisup/shared/dynamo"
	"whatisup/shared/whatisup"
)

// stirs tell the streams of a customer that the log of events has something new. Where
// the log is a table of this very process nobody need look for it every second.
type stirs struct {
	table string

	mu   sync.Mutex
	next map[string]chan struct{} // by partition, of those who wait; closed by the next event
}

func newStirs(table string) *stirs {
	return &stirs{table: table, next: make(map[string]chan struct{})}
}

// hear is told of every item that was written.
func (s *stirs) hear(table, partition string) {
	if table != s.table {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if c := s.next[partition]; c != nil {
		close(c)
		delete(s.next, partition)
	}
}

// await is closed by the customer's next event.
func (s *stirs) await(c whatisup.CustomerID, m whatisup.Mode) <-chan struct{} {
	partition := dynamo.EventPartition(c, m)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.next[partition] == nil {
		s.next[partition] = make(chan struct{})
	}
	return s.next[partition]
}
