// Package tally counts what instances receive and send, and what webhooks deliver of
// them, and adds it to the rows that GET /v1/usage reads.
//
// A row for each count would cost as much as the message. So counts wait in memory: a
// host adds what it has counted for an hour in one write for each instance, and one for
// each customer, every 15 minutes for live instances and every 5 seconds for those of
// the sandbox, and when it stops. A host that dies takes along what it had not added:
// usage is a picture of what was done, and no bill. The ledger has the truth.
//
// What may have been added is added again under the same serial, which the row refuses
// if it was: see [Store].
package tally

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/google/uuid"

	"whatisup/shared/whatisup"
)

const (
	everyLive = 15 * time.Minute
	everyTest = 5 * time.Second
	// addWithin bounds one addition, and closeWithin all of those at the end.
	addWithin   = 5 * time.Second
	closeWithin = 10 * time.Second
	// most is how many rows wait; what comes above is not counted.
	most = 50_000
)

// Store keeps the rows. Of the additions of one writer to a row it takes each once, by
// its serial.
type Store interface {
	AddUsage(ctx context.Context, of whatisup.UsageOf, hour time.Time, u whatisup.Usage, writer string, serial int64) error
}

// Tally counts. It is safe for concurrent use.
type Tally struct {
	store  Store
	log    *slog.Logger
	now    func() time.Time
	every  time.Duration
	writer string

	mu      sync.Mutex
	serial  int64
	waiting map[row]whatisup.Usage
	asked   map[row]addition // whose outcome is not known
	full    bool
}

type row struct {
	whatisup.UsageOf
	hour time.Time
}

type addition struct {
	whatisup.Usage
	serial int64
}

// New returns a tally of the instances of one mode.
func New(s Store, m whatisup.Mode, now func() time.Time, log *slog.Logger) *Tally {
	t := &Tally{
		store: s, log: log, now: now, every: everyLive, writer: uuid.NewString(),
		waiting: make(map[row]whatisup.Usage), asked: make(map[row]addition),
	}
	if m == whatisup.Test {
		t.every = everyTest
	}
	return t
}

// Count counts something of an instance, or of the customer alone, now.
func (t *Tally) Count(r whatisup.Ref, u whatisup.Usage) {
	hour := t.now().UTC().Truncate(time.Hour)
	t.mu.Lock()
	defer t.mu.Unlock()
	of := []whatisup.InstanceID{"", r.ID}
	if r.ID == "" {
		of = of[:1]
	}
	for _, instance := range of {
		key := row{whatisup.UsageOf{Customer: r.Customer, Mode: r.Mode, Instance: instance}, hour}
		sum, ok := t.waiting[key]
		if !ok && len(t.waiting) >= most {
			if !t.full {
				t.full = true
				t.log.Warn("usage is not counted until what was counted is stored")
			}
			continue
		}
		sum.Add(u)
		t.waiting[key] = sum
	}
}

// Run adds what was counted until ctx ends, and then what is left.
func (t *Tally) Run(ctx context.Context) {
	for {
		timer := time.NewTimer(t.every/2 + rand.N(t.every))
		select {
		case <-timer.C:
			t.add(ctx)
		case <-ctx.Done():
			timer.Stop()
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeWithin)
			defer cancel()
			t.add(ctx)
			return
		}
	}
}

// add adds everything that waits. It ends with the first addition that fails: the
// others are tried the next time.
func (t *Tally) add(ctx context.Context) {
	for key, a := range t.take() {
		within, cancel := context.WithTimeout(ctx, addWithin)
		err := t.store.AddUsage(within, key.UsageOf, key.hour, a.Usage, t.writer, a.serial)
		cancel()
		if err != nil {
			t.log.Warn("usage is stored later", "error", err.Error())
			return
		}
		t.mu.Lock()
		delete(t.asked, key)
		t.mu.Unlock()
	}
}

// take makes additions of what waits. One that was asked for keeps its serial and its
// counts until it is known to have happened; what was counted since waits for it.
func (t *Tally) take() map[row]addition {
	t.mu.Lock()
	defer t.mu.Unlock()
	for key, u := range t.waiting {
		if _, ok := t.asked[key]; ok {
			continue
		}
		t.serial++
		t.asked[key] = addition{u, t.serial}
		delete(t.waiting, key)
	}
	t.full = false
	all := make(map[row]addition, len(t.asked))
	for key, a := range t.asked {
		all[key] = a
	}
	return all
}
