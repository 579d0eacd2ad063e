// Package fault is the set of faults that a test or a developer has asked for.
package fault

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"
)

// Kind is what goes wrong.
type Kind string

// What can go wrong.
const (
	// Throttle answers as a service that is over its capacity.
	Throttle Kind = "throttle"
	// Conflict answers a write to DynamoDB as if another transaction had the item.
	Conflict Kind = "conflict"
	// Unprocessed leaves items of a DynamoDB batch undone, one Times each.
	Unprocessed Kind = "unprocessed"
	// Internal answers 500 and does nothing.
	Internal Kind = "internal"
	// Lost does what was asked and answers 500.
	Lost Kind = "lost"
	// Latency waits for Delay before it goes on.
	Latency Kind = "latency"
	// Duplicate leaves an SQS message visible that was just handed out.
	Duplicate Kind = "duplicate"
	// Late keeps an SQS message that is sent for Delay before it arrives.
	Late Kind = "late"
	// Missing answers as if the table, queue, bucket or key did not exist.
	Missing Kind = "missing"
	// Full answers as a queue over its limit of messages in flight, or a table
	// over that of an item collection.
	Full Kind = "full"
	// Forbidden answers as if no policy allowed the call.
	Forbidden Kind = "forbidden"
)

var kinds = []Kind{Throttle, Conflict, Unprocessed, Internal, Lost, Latency, Duplicate, Late, Missing, Full, Forbidden}

// Fault is one thing to go wrong, and where. An empty field fits everything.
type Fault struct {
	Kind      Kind
	Service   string // dynamodb, sqs, kms or s3
	Operation string // PutItem
	Resource  string // a table's, a queue's or a bucket's name
	// Skip lets this many requests pass before the fault begins; Times is how
	// often it happens, 0 for until it is cleared.
	Skip, Times int
	// Probability, if it is not 0, leaves it to chance.
	Probability float64
	Delay       time.Duration
}

// wire is a Fault as it is written in JSON.
type wire struct {
	Kind        Kind    `json:"kind"`
	Service     string  `json:"service,omitempty"`
	Operation   string  `json:"operation,omitempty"`
	Resource    string  `json:"resource,omitempty"`
	Skip        int     `json:"skip,omitempty"`
	Times       int     `json:"times,omitempty"`
	Probability float64 `json:"probability,omitempty"`
	Delay       string  `json:"delay,omitempty"`
}

// MarshalJSON writes the delay as "50ms".
func (f Fault) MarshalJSON() ([]byte, error) {
	w := wire{f.Kind, f.Service, f.Operation, f.Resource, f.Skip, f.Times, f.Probability, ""}
	if f.Delay != 0 {
		w.Delay = f.Delay.String()
	}
	return json.Marshal(w)
}

// UnmarshalJSON reads what MarshalJSON writes.
func (f *Fault) UnmarshalJSON(b []byte) error {
	var w wire
	if err := json.Unmarshal(b, &w); err != nil {
		return err
	}
	*f = Fault{w.Kind, w.Service, w.Operation, w.Resource, w.Skip, w.Times, w.Probability, 0}
	if w.Delay == "" {
		return nil
	}
	var err error
	f.Delay, err = time.ParseDuration(w.Delay)
	return err
}

// Check refuses a fault that could never happen.
func (f Fault) Check() error {
	switch {
	case !slices.Contains(kinds, f.Kind):
		return fmt.Errorf("kind %q is none of %v", f.Kind, kinds)
	case f.Skip < 0, f.Times < 0, f.Probability < 0, f.Probability > 1, f.Delay < 0:
		return fmt.Errorf("%s: skip, times, probability and delay must not be negative, and probability not over 1", f.Kind)
	case (f.Kind == Latency || f.Kind == Late) && f.Delay == 0:
		return fmt.Errorf("%s needs a delay", f.Kind)
	}
	return nil
}

// Set is the faults in force. The zero Set is empty and ready.
type Set struct {
	mu     sync.Mutex
	faults []*Fault
}

// Add puts a fault in force.
func (s *Set) Add(f Fault) error {
	if err := f.Check(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = append(s.faults, &f)
	return nil
}

// Clear ends all faults.
func (s *Set) Clear() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = nil
}

// List returns the faults in force, with the Times that are left.
func (s *Set) List() []Fault {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]Fault, 0, len(s.faults))
	for _, f := range s.faults {
		out = append(out, *f)
	}
	return out
}

// Take says whether a fault of this kind happens here and now, and counts it.
// A request may be about several resources; one that fits is enough.
func (s *Set) Take(kind Kind, service, operation string, resources ...string) (Fault, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, f := range s.faults {
		if f.Kind != kind || !fits(f.Service, service) || !fits(f.Operation, operation) || f.Resource != "" && !slices.Contains(resources, f.Resource) {
			continue
		}
		if f.Skip > 0 {
			f.Skip--
			continue
		}
		if f.Probability > 0 && rand.Float64() >= f.Probability {
			continue
		}
		if f.Times > 0 {
			if f.Times--; f.Times == 0 {
				s.faults = slices.Delete(s.faults, i, i+1)
			}
		}
		return *f, true
	}
	return Fault{}, false
}

func fits(want, have string) bool { return want == "" || want == have }
