package local

import (
	"context"
	"encoding/json"
	"log/slog"
	"sync"
	"time"

	"whatisup/sessionhost/fair"
	"whatisup/shared/webhook"
	"whatisup/shared/whatisup"
)

// wakes works on wake-ups of endpoints, those of customers in turn. In a deployed stack
// the queue does so.
type wakes struct {
	do   func(context.Context, webhook.Message) error
	pool *fair.Pool
	log  *slog.Logger

	mu   sync.Mutex
	held map[whatisup.CustomerID]int // in hand, those that wait included
}

const (
	wakesInHand   = 1000 // at a time, those that wait for their turn included
	wakesEach     = 250  // of a customer
	wakesPatience = time.Minute
)

// newWakes works on so many at a time, on a quarter of them for one customer.
func newWakes(do func(context.Context, webhook.Message) error, size int, log *slog.Logger) *wakes {
	return &wakes{do: do, pool: fair.NewPool(size, max(size/4, 1)), log: log, held: map[whatisup.CustomerID]int{}}
}

// work waits for the customer's turn and does what the wake-up asks for. One whose turn
// doesn't come is dropped: what it was for is due, and the sweep finds that.
func (w *wakes) work(ctx context.Context, m webhook.Message) error {
	var of struct {
		Customer whatisup.CustomerID `json:"customer_id"`
	}
	_ = json.Unmarshal(m.Body, &of) // what can't be read is refused by do
	if !w.take(of.Customer) {
		w.log.Warn("a wake-up of an endpoint is left to the sweep", "customer_id", string(of.Customer))
		return nil
	}
	defer w.giveBack(of.Customer)
	granted, giveBack := w.pool.Ask(of.Customer)
	defer giveBack()
	patience := time.NewTimer(wakesPatience)
	defer patience.Stop()
	select {
	case <-granted:
		return w.do(ctx, m)
	case <-ctx.Done():
		return ctx.Err()
	case <-patience.C:
		w.log.Warn("a wake-up of an endpoint is left to the sweep", "customer_id", string(of.Customer))
		return nil
	}
}

func (w *wakes) take(c whatisup.CustomerID) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.held[c] >= wakesEach {
		return false
	}
	w.held[c]++
	return true
}

func (w *wakes) giveBack(c whatisup.CustomerID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.held[c]--; w.held[c] == 0 {
		delete(w.held, c)
	}
}
