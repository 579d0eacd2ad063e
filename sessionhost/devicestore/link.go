package devicestore

import (
	"context"
	"errors"
	"sync"
	"time"

	"go.mau.fi/whatsmeow/store"

	"whatisup/shared/seal"
	"whatisup/shared/whatisup"
)

// link is the store of one paired device: it implements every store interface
// of whatsmeow. The methods of one interface are in one file.
type link struct {
	h      *Handle
	number whatisup.Link
	pk     string // the partition of its rows

	keyMu   sync.Mutex // held while KMS is asked
	key     *seal.Key  // nil until known; never changes afterwards
	wrapped []byte

	// commitMu is held from before a write is put together until its outcome is
	// known and applied. One write at a time is under way for a device, so that
	// writes don't conflict with each other on the device row, and each is
	// conditional on the number of the one before it.
	commitMu sync.Mutex
	queue    []*waiting // changes on their way to the next write; guarded by mu

	contactMu sync.Mutex // one change of contacts at a time
	markMu    sync.Mutex // one change of who has a sender key at a time

	mu        sync.Mutex
	dead      error // why everything is refused
	stored    bool  // the device row holds this link
	confirmed bool
	commits   uint64
	hot       *hot
	cache     *cache
	large     map[string]int    // rows with continuation rows, and how many
	staged    map[string]*write // visible here, written with the next commit
	stagedHot []func(*hot)
	stagedAt  time.Time
	usedAt    time.Time
	txns      map[*txn]struct{}
	loads     map[*load]struct{}
	migrated  map[string]struct{} // phone number users whose rows were moved to their LID
	device    []byte              // the device as stored, to skip saves that change nothing
	histories map[string]History  // not read yet

	events eventBuffer
	log    *linkLog // nil: the link is not stored as a log
}

func newLink(h *Handle, number whatisup.Link) *link {
	return &link{
		h: h, number: number, pk: linkPartition(h.instance, number),
		hot:      &hot{preKeys: preKeyRange{next: 1}, room: hotLimit},
		cache:    newCache(h.store.cacheBytes),
		large:    make(map[string]int),
		staged:   make(map[string]*write),
		txns:     make(map[*txn]struct{}),
		loads:    make(map[*load]struct{}),
		migrated: make(map[string]struct{}),
		events:   newEventBuffer(),
		usedAt:   time.Now(),
	}
}

// place is where a row's value belongs.
func (l *link) place(sk string) seal.Place {
	return seal.Place{Table: l.h.store.table, Partition: l.pk, Kind: kindOf(sk), Key: sk}
}

// retire makes the link refuse everything, with err, and frees its memory.
func (l *link) retire(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.dead != nil {
		return
	}
	l.dead = err
	l.cache.trim(0)
	clear(l.staged)
	l.stagedHot, l.events.finished = nil, nil
	if l.log != nil {
		clear(l.log.dirty)
	}
	clear(l.migrated)
	for t := range l.txns {
		t.stale = true
	}
	for ld := range l.loads {
		ld.stale = true
	}
}

// drain retires the link and waits for the commit that is under way, if any, so
// that what is read or written next comes after it.
func (l *link) drain(err error) {
	l.retire(err)
	l.commitMu.Lock()
	defer l.commitMu.Unlock()
	if l.log != nil {
		l.log.folds.Wait()
	}
}

// usable says why nothing can be done, or nil.
func (l *link) usable() error {
	if err := l.h.usable(); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.dead != nil {
		if errors.Is(l.dead, ErrClosed) {
			return &failure{cause: ErrClosed}
		}
		return l.dead
	}
	return nil
}

// maintain is the link's share of [Store.Run].
func (l *link) maintain(ctx context.Context, now time.Time) {
	l.mu.Lock()
	due := (len(l.staged) > 0 || len(l.stagedHot) > 0) && now.Sub(l.stagedAt) >= flushAfter
	if now.Sub(l.usedAt) >= idleAfter {
		l.cache.trim(idleCacheBytes)
	}
	l.mu.Unlock()
	if due {
		if err := l.flush(ctx); err != nil && l.usable() == nil {
			l.h.store.log.Warn("staged rows were not written", "instance_id", string(l.h.instance.ID), "error", err)
		}
	}
	l.maintainLog(ctx, now)
}

var (
	_ store.AllStores       = (*link)(nil)
	_ store.DeviceContainer = (*link)(nil)
)
