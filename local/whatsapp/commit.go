package whatsapp

import (
	"cmp"
	"errors"
	"sync"
	"time"
)

// To write once costs more than what is written. So who writes while another does so
// waits, and then one writes for all who wait; and what was acknowledged is deleted
// with the next change, or a little later.

// commits is what waits to be written.
type commits struct {
	lead chan struct{} // holds one: who has it commits for all who wait

	mu      sync.Mutex
	waiting []*change
	gone    [][]byte      // keys of the queue to delete
	idle    chan struct{} // told when the first of them has come
}

type change struct {
	fn    func(*tx) error
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

// update writes what fn changes, together with what others change at the time. When it
// returns, that outlives the process. What a function that fails has changed is undone,
// and nobody else notices. A function runs on any goroutine, and takes no locks that are
// before the database's in the order; it reads and writes by its transaction only.
func (d *database) update(fn func(*tx) error) error {
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
	if err := d.commit(batch, gone); err != nil {
		for _, c := range batch {
			c.err = cmp.Or(c.err, err)
		}
		d.commits.mu.Lock()
		d.commits.gone = append(gone, d.commits.gone...)
		d.commits.mu.Unlock()
	}
	for _, c := range batch {
		close(c.done)
	}
}

// commit deletes keys and writes changes, those that do not fail. An error of its own
// is everybody's.
func (d *database) commit(batch []*change, gone [][]byte) (err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err = d.begin(); err != nil {
		return err
	}
	d.open.ops = d.open.ops[:0]
	for _, key := range gone {
		if err = d.open.Bucket(bucketQueue).Delete(key); err != nil {
			return errors.Join(err, d.restore(nil))
		}
	}
	for _, c := range batch {
		before := len(d.open.ops)
		c.err = c.run(d.open)
		if c.err == nil || c.panic == nil && len(d.open.ops) == before {
			continue
		}
		if err = d.restore(d.open.ops[:before]); err != nil {
			return err
		}
	}
	if len(d.open.ops) == 0 {
		return nil
	}
	d.writes++
	if err = d.ahead.append(d.open.ops); err != nil {
		return errors.Join(err, d.restore(nil))
	}
	if d.ahead.size > maxLog {
		_ = d.checkpoint() // what it cannot do now, the next one tries again: see sync
	}
	return nil
}

var errPanicked = errors.New("a change of the database panicked")

// run keeps a panic for the goroutine that waits.
func (c *change) run(tx *tx) (err error) {
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
	return d.update(func(*tx) error { return nil })
}
