package whatsapp

import (
	"errors"
	"slices"
	"sync"
	"time"

	"go.etcd.io/bbolt"
)

// A transaction costs more than what is written in it. So who writes while
// another transaction is under way waits, and the next one takes all who wait; and
// what was acknowledged is deleted with the next one, or a little later.

// commits is what waits for the next transaction.
type commits struct {
	lead chan struct{} // holds one: who has it commits for all who wait

	mu      sync.Mutex
	waiting []*change
	gone    [][]byte      // keys of the queue to delete
	idle    chan struct{} // told when the first of them has come
}

type change struct {
	fn    func(*bbolt.Tx) error
	err   error
	panic any
	done  chan struct{}
}

const (
	maxGone  = 1024                   // keys to delete, before somebody does so at once
	goneLife = 100 * time.Millisecond // of such a key
)

func newCommits() commits {
	return commits{lead: make(chan struct{}, 1), idle: make(chan struct{}, 1)}
}

// update is bbolt's Update, in one transaction with others. What a function that
// fails has written is undone, and nobody else notices. That is why a function may
// be called more than once: it must begin anew each time, and change nothing but
// the database and what it returns. It runs on any goroutine and under the locks of
// its caller; so it takes none that is before the database's in the order.
func (d *database) update(fn func(*bbolt.Tx) error) error {
	c := &change{fn: fn, done: make(chan struct{})}
	d.commits.mu.Lock()
	d.commits.waiting = append(d.commits.waiting, c)
	d.commits.mu.Unlock()
	select {
	case <-c.done:
	case d.commits.lead <- struct{}{}:
		if !c.isDone() { // else the last leader has just served this one too
			d.commitWaiting()
		}
		<-d.commits.lead
	}
	if c.panic != nil {
		panic(c.panic)
	}
	return c.err
}

func (c *change) isDone() bool {
	select {
	case <-c.done:
		return true
	default:
		return false
	}
}

// commitWaiting writes what waits. The caller leads.
func (d *database) commitWaiting() {
	d.commits.mu.Lock()
	batch, gone := d.commits.waiting, d.commits.gone
	d.commits.waiting, d.commits.gone = nil, nil
	d.commits.mu.Unlock()
	failed, err := d.commit(batch, gone)
	for rest := batch; failed != nil; {
		rest = slices.DeleteFunc(slices.Clone(rest), func(c *change) bool { return c == failed })
		failed, err = d.commit(rest, gone)
	}
	if err != nil {
		d.commits.mu.Lock()
		d.commits.gone = append(gone, d.commits.gone...)
		d.commits.mu.Unlock()
	}
	for _, c := range batch {
		close(c.done)
	}
}

// commit writes changes and deletes keys in one transaction. If a change fails,
// nothing is written.
func (d *database) commit(batch []*change, gone [][]byte) (failed *change, err error) {
	if len(batch) == 0 && len(gone) == 0 {
		return nil, nil
	}
	err = d.bolt.Update(func(tx *bbolt.Tx) error {
		queue := tx.Bucket(bucketQueue)
		for _, key := range gone {
			if err := queue.Delete(key); err != nil {
				return err
			}
		}
		for _, c := range batch {
			if c.err = c.run(tx); c.err != nil {
				failed = c
				return c.err
			}
		}
		return nil
	})
	if failed == nil {
		for _, c := range batch {
			c.err = err
		}
	}
	return failed, err
}

var errPanicked = errors.New("a change of the database panicked")

// run keeps a panic for the goroutine that waits.
func (c *change) run(tx *bbolt.Tx) (err error) {
	defer func() {
		if c.panic = recover(); c.panic != nil {
			err = errPanicked
		}
	}()
	return c.fn(tx)
}

// drop deletes a key of the queue, in its time.
func (d *database) drop(key []byte) error {
	d.commits.mu.Lock()
	d.commits.gone = append(d.commits.gone, key)
	count := len(d.commits.gone)
	d.commits.mu.Unlock()
	if count >= maxGone {
		return d.flush()
	}
	if count == 1 {
		select {
		case d.commits.idle <- struct{}{}:
		default:
		}
	}
	return nil
}

// flush deletes what is still to be deleted.
func (d *database) flush() error {
	d.commits.mu.Lock()
	count := len(d.commits.gone)
	d.commits.mu.Unlock()
	if count == 0 {
		return nil
	}
	return d.update(func(*bbolt.Tx) error { return nil })
}
