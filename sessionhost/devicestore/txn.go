package devicestore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// write is a new value of a row; a nil value deletes it.
type write struct {
	value   []byte
	expires time.Time
}

// change is what one commit does, all of it or nothing.
type change struct {
	rows    map[string]*write
	hot     []func(*hot)
	buffer  *pendingEvent // to be added to the event buffer
	handled *handled      // to be removed from it
	confirm bool
	create  bool     // the device row takes this link
	upgrade bool     // the link becomes a log
	lower   bool     // and is one no more
	touches []string // what it changes that is no row of its own
}

func (c *change) empty() bool {
	return len(c.rows) == 0 && len(c.hot) == 0 && c.buffer == nil && c.handled == nil && !c.confirm && !c.create && !c.upgrade && !c.lower
}

func (c *change) put(sk string, value []byte) { c.set(sk, &write{value: value}) }
func (c *change) delete(sk string)            { c.set(sk, &write{}) }

func (c *change) set(sk string, w *write) {
	if c.rows == nil {
		c.rows = make(map[string]*write)
	}
	c.rows[sk] = w
}

// txn is a change being made, with what it has read. A row that somebody else
// changes meanwhile makes it stale, and its function runs again.
type txn struct {
	change
	l        *link
	reads    map[string]struct{}
	prefixes []string
	stale    bool // guarded by the link's mutex
}

type txnKey struct{}

// txnOf returns the transaction of this link that the context carries, if any.
func (l *link) txnOf(ctx context.Context) *txn {
	t, _ := ctx.Value(txnKey{}).(*txn)
	if t == nil || t.l != l {
		return nil
	}
	return t
}

// hasRead says whether the transaction has read a row. The caller holds l.mu.
func (t *txn) hasRead(sk string) bool {
	if _, ok := t.reads[sk]; ok {
		return true
	}
	return slices.ContainsFunc(t.prefixes, func(p string) bool { return strings.HasPrefix(sk, p) })
}

// touched makes stale what others have read of a row. The caller holds l.mu.
func (l *link) touched(sk string) {
	for t := range l.txns {
		if !t.stale && t.hasRead(sk) {
			t.stale = true
		}
	}
	for ld := range l.loads {
		if ld.covers(sk) {
			ld.stale = true
		}
	}
}

// errRerun asks for the transaction's function to run again.
var errRerun = errors.New("devicestore: transaction is stale")

// atomically runs fn with a context whose reads and writes are one transaction,
// and commits it. If a row that fn read has changed by then, fn runs again: it
// must have no effect but through the context and what it assigns. Within a
// transaction of this link it joins that one.
func (l *link) atomically(ctx context.Context, fn func(context.Context, *txn) error) error {
	if t := l.txnOf(ctx); t != nil {
		return fn(ctx, t)
	}
	for try := 0; ; try++ {
		if err := l.usable(); err != nil {
			return err
		}
		err := l.attempt(ctx, fn, try >= 3)
		if !errors.Is(err, errRerun) {
			return err
		}
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("devicestore: %w", err)
		}
	}
}

// attempt runs fn once. An exclusive attempt keeps every other commit out
// meanwhile, so it cannot become stale by one.
func (l *link) attempt(ctx context.Context, fn func(context.Context, *txn) error, exclusive bool) error {
	t := &txn{l: l, reads: make(map[string]struct{})}
	l.mu.Lock()
	l.txns[t] = struct{}{}
	l.mu.Unlock()
	defer func() {
		l.mu.Lock()
		delete(l.txns, t)
		l.mu.Unlock()
	}()
	if exclusive {
		l.commitMu.Lock()
		defer l.commitMu.Unlock()
	}
	if err := fn(context.WithValue(ctx, txnKey{}, t), t); err != nil {
		if unusable := l.usable(); unusable != nil {
			return unusable
		}
		if l.isStale(t) {
			return errRerun // it may have failed for what it read
		}
		return err
	}
	if t.empty() {
		return nil
	}
	if exclusive {
		return l.commitLocked(ctx, &t.change, t)
	}
	return l.commit(ctx, &t.change, t)
}

func (l *link) isStale(t *txn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return t.stale
}
