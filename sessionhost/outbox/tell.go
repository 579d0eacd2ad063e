package outbox

import (
	"context"
	"errors"
	"time"

	"whatisup/shared/whatisup"
)

// How steps are told. What WhatsApp says (sent, delivered, read, played) is written at
// once and told two seconds later, so that steps in between are one event with the
// furthest. That an event may be missing is marked before: whoever comes after a
// death tells, under the same ids, what was written since the mark. The mark is
// renewed every ten minutes and goes when the outbox is closed.
const (
	tellAfter   = 2 * time.Second
	tellWithin  = 15 * time.Second
	markFor     = 10 * time.Minute
	untoldMost  = 5_000          // messages that are looked through after a death
	untoldBack  = 24 * time.Hour // ... and how old they are at most
	clocksApart = 90 * time.Second
	// tellingsMost is how many steps wait to be told; more are told at once.
	tellingsMost = 5_000
)

// telling is a step that was written and is told later.
type telling struct {
	m        *whatisup.Message
	previous whatisup.MessageStatus
	all      whatisup.MessageStatus // that everybody in a group has come to
	due      time.Time
	fails    int
}

// advance writes what WhatsApp says of a message, and has it told. all is the furthest
// step that everybody in a group has come to by it, empty for none.
func (o *Outbox) advance(ctx context.Context, id whatisup.MessageID, s whatisup.Step, all whatisup.MessageStatus) error {
	if err := o.mark(ctx); err != nil {
		return err
	}
	m, previous, err := o.c.Ledger.StepMessage(ctx, o.c.Ref, id, s)
	if errors.Is(err, whatisup.ErrNotFound) {
		return nil // of another device of the number, or of before
	}
	if err != nil {
		o.doubtStep(id)
		return err
	}
	if o.doubted(id) {
		previous = whatisup.MessageQueued // so that it is told, whoever wrote it
	}
	if m.Status == previous && all == "" {
		return nil
	}
	o.tellLater(&telling{m: m, previous: previous, all: all})
	return nil
}

// doubtStep notes that a step of a message may have been written, though no answer says so.
func (o *Outbox) doubtStep(id whatisup.MessageID) {
	o.tellMu.Lock()
	defer o.tellMu.Unlock()
	if len(o.doubt) < tellingsMost {
		o.doubt[id] = struct{}{}
	} else {
		o.unsure = true
	}
}

// doubted says whether that was so, and ends it.
func (o *Outbox) doubted(id whatisup.MessageID) bool {
	o.tellMu.Lock()
	defer o.tellMu.Unlock()
	_, was := o.doubt[id]
	delete(o.doubt, id)
	return was
}

// mark writes, if it was not written lately, that steps may be untold.
func (o *Outbox) mark(ctx context.Context) error {
	now := o.c.Now()
	o.tellMu.Lock()
	defer o.tellMu.Unlock()
	if now.Sub(o.marked) < markFor {
		return nil
	}
	if err := o.c.Ledger.MarkUntold(ctx, o.c.Ref, now.Add(-tellAfter-clocksApart)); err != nil {
		return err
	}
	o.marked = now
	return nil
}

// join adds another telling of the same message: the furthest step is told, since the
// nearest that was told before. An acknowledgement and a receipt are written by two
// goroutines, and either may come here first.
func (t *telling) join(other *telling) {
	if other.m.Status.Rank() > t.m.Status.Rank() {
		t.m = other.m
	}
	if other.previous.Rank() < t.previous.Rank() {
		t.previous = other.previous
	}
	if other.all.Rank() > t.all.Rank() {
		t.all = other.all
	}
	t.fails = max(t.fails, other.fails)
}

// tellLater has a step told in two seconds, together with what comes until then.
func (o *Outbox) tellLater(t *telling) {
	o.tellMu.Lock()
	defer o.tellMu.Unlock()
	t.due = o.c.Now().Add(tellAfter)
	if before := o.tellings[t.m.ID]; before != nil {
		t.due = before.due
		t.join(before)
	}
	if len(o.tellings) >= tellingsMost || o.closed {
		t.due = o.c.Now()
	}
	o.tellings[t.m.ID] = t
	if o.telling {
		return
	}
	o.telling = true
	o.tellers.Add(1)
	o.c.Go(func() {
		defer o.tellers.Done()
		o.tellAll()
	})
}

// tellAll tells what is due until nothing is left. It ends at once when the outbox is
// closed, which tells the rest.
func (o *Outbox) tellAll() {
	for {
		t, wait := o.nextTelling()
		if t == nil && wait < 0 {
			return
		}
		if t != nil {
			o.tellOne(t)
			continue
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-o.closing:
		}
		timer.Stop()
	}
}

// nextTelling takes the first telling that is due, or says how long to wait for one;
// less than zero: there is none. After the outbox was closed all are due.
func (o *Outbox) nextTelling() (*telling, time.Duration) {
	o.tellMu.Lock()
	defer o.tellMu.Unlock()
	var first *telling
	for _, t := range o.tellings {
		if first == nil || t.due.Before(first.due) {
			first = t
		}
	}
	switch {
	case first == nil:
		o.telling = false
		return nil, -1
	case o.closed && first.fails > 0:
		o.telling = false
		return nil, -1 // the mark stays: the next owner tells it
	case !o.closed && first.due.After(o.c.Now()):
		return nil, first.due.Sub(o.c.Now())
	}
	delete(o.tellings, first.m.ID)
	return first, 0
}

func (o *Outbox) tellOne(t *telling) {
	ctx, cancel := context.WithTimeout(context.Background(), tellWithin)
	defer cancel()
	err := errNotOwner
	if o.c.Trusted() {
		err = o.c.Teller.Status(ctx, t.m, t.previous, t.all)
	}
	if err == nil {
		return
	}
	o.c.Log.Warn("the step of a message is told later", "message_id", string(t.m.ID), "error", err.Error())
	o.tellMu.Lock()
	defer o.tellMu.Unlock()
	t.fails++
	t.due = o.c.Now().Add(backoff(t.fails))
	if newer := o.tellings[t.m.ID]; newer != nil {
		newer.join(t)
		return
	}
	o.tellings[t.m.ID] = t
}

// Close tells what is left to tell, until ctx ends. Nothing is lost with what could not
// be told: its mark stays.
func (o *Outbox) Close(ctx context.Context) {
	o.tellMu.Lock()
	if !o.closed {
		o.closed = true
		close(o.closing)
	}
	o.tellMu.Unlock()
	done := make(chan struct{})
	go func() { // ends with the tellers, each of which has its own bounds
		o.tellers.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-ctx.Done():
		return
	}
	o.tellMu.Lock()
	clean := len(o.tellings) == 0 && len(o.doubt) == 0 && !o.unsure && !o.marked.IsZero()
	o.marked = time.Time{}
	o.tellMu.Unlock()
	if clean && o.c.Trusted() {
		if err := o.c.Ledger.MarkUntold(ctx, o.c.Ref, time.Time{}); err != nil {
			o.c.Log.Info("the mark of untold steps stays", "error", err.Error())
		}
	}
}

// makeGood tells what an owner that died may have written and not told. The events
// have the ids that they would have had.
func (o *Outbox) makeGood(ctx context.Context) error {
	since, err := o.c.Ledger.Untold(ctx, o.c.Ref)
	if err != nil || since.IsZero() {
		return err
	}
	stepped, err := o.c.Ledger.Stepped(ctx, o.c.Ref, since.Add(-untoldBack), since, untoldMost)
	if err != nil {
		return err
	}
	for i := len(stepped) - 1; i >= 0; i-- { // oldest first
		m := stepped[i]
		if err := o.c.Teller.Status(ctx, m, whatisup.MessageQueued, ""); err != nil {
			return err
		}
	}
	return o.c.Ledger.MarkUntold(ctx, o.c.Ref, time.Time{})
}
