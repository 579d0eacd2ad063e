package shard

import (
	"slices"
	"sync"

	"whatisup/shared/whatisup"
)

const (
	// workSlots is how many commands with work a shard runs at a time.
	workSlots = 16
	// slotsEach is how many of them may be one customer's.
	slotsEach = 4
)

// slots shares the work slots of a shard among customers: each customer that
// waits gets one in turn, whoever asked first, and none holds more than its
// share. So the slow commands of one customer hold up nobody else's.
type slots struct {
	mu      sync.Mutex
	free    int
	held    map[whatisup.CustomerID]int
	waiting map[whatisup.CustomerID][]chan struct{}
	turns   []whatisup.CustomerID // customers that wait, the next one first
}

func newSlots() *slots {
	return &slots{
		free: workSlots,
		held: make(map[whatisup.CustomerID]int), waiting: make(map[whatisup.CustomerID][]chan struct{}),
	}
}

// ask asks for a slot. Granted is closed when it is there; giveBack ends the wait
// or the use of it, and must be called once.
func (s *slots) ask(c whatisup.CustomerID) (granted <-chan struct{}, giveBack func()) {
	turn := make(chan struct{})
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.waiting[c]) == 0 {
		s.turns = append(s.turns, c)
	}
	s.waiting[c] = append(s.waiting[c], turn)
	s.grant()
	return turn, func() { s.giveBack(c, turn) }
}

func (s *slots) giveBack(c whatisup.CustomerID, turn chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := slices.Index(s.waiting[c], turn); n >= 0 {
		s.waiting[c] = slices.Delete(s.waiting[c], n, n+1)
		s.forget(c)
		return
	}
	s.free++
	if s.held[c]--; s.held[c] == 0 {
		delete(s.held, c)
	}
	s.grant()
}

// grant gives free slots away.
func (s *slots) grant() {
	for s.free > 0 {
		n := slices.IndexFunc(s.turns, func(c whatisup.CustomerID) bool { return s.held[c] < slotsEach })
		if n < 0 {
			return
		}
		c := s.turns[n]
		s.turns = append(slices.Delete(s.turns, n, n+1), c) // its next turn comes last
		close(s.waiting[c][0])
		s.waiting[c] = s.waiting[c][1:]
		s.free--
		s.held[c]++
		s.forget(c)
	}
}

// forget drops a customer that waits no more.
func (s *slots) forget(c whatisup.CustomerID) {
	if len(s.waiting[c]) > 0 {
		return
	}
	delete(s.waiting, c)
	if n := slices.Index(s.turns, c); n >= 0 {
		s.turns = slices.Delete(s.turns, n, n+1)
	}
}
