// Package takers says which events some webhook endpoint takes, for whoever puts
// events into the queue that begins the way to endpoints. It stands apart from that
// way, so that a function that only announces events does not link it.
package takers

import (
	"context"
	"sync"
	"time"

	"whatisup/shared/whatisup"
)

// Kept is how long a program may go on with a customer's endpoints as it read
// them.
const Kept = 2 * time.Second

// Takers remembers the endpoints of customers for a while.
type Takers struct {
	store interface {
		Endpoints(context.Context, whatisup.CustomerID, whatisup.Mode) ([]*whatisup.Endpoint, error)
	}
	mu  sync.Mutex
	all map[customerMode]taken
}

type customerMode struct {
	c whatisup.CustomerID
	m whatisup.Mode
}

type taken struct {
	at        time.Time
	endpoints []*whatisup.Endpoint
}

// takersMost bounds how many customers are remembered.
const takersMost = 10_000

// New reads endpoints from the store.
func New(store interface {
	Endpoints(context.Context, whatisup.CustomerID, whatisup.Mode) ([]*whatisup.Endpoint, error)
}) *Takers {
	return &Takers{store: store, all: make(map[customerMode]taken)}
}

// Takes says whether some endpoint takes an event.
func (t *Takers) Takes(ctx context.Context, e *whatisup.Event) (bool, error) {
	k := customerMode{e.Customer, e.Mode}
	t.mu.Lock()
	known, ok := t.all[k]
	t.mu.Unlock()
	if now := time.Now(); !ok || now.Sub(known.at) >= Kept {
		endpoints, err := t.store.Endpoints(ctx, e.Customer, e.Mode)
		if err != nil {
			return false, err
		}
		known = taken{now, endpoints}
		t.mu.Lock()
		if len(t.all) >= takersMost {
			clear(t.all)
		}
		t.all[k] = known
		t.mu.Unlock()
	}
	for _, ep := range known.endpoints {
		if ep.Takes(e) {
			return true, nil
		}
	}
	return false, nil
}
