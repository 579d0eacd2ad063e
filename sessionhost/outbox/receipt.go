package outbox

import (
	"context"
	"errors"
	"time"

	"whatisup/shared/whatisup"
)

// Receipt tells how far messages have come with one person.
type Receipt struct {
	IDs    []whatisup.MessageID
	Status whatisup.MessageStatus
	Group  bool
	By     whatisup.Person
	At     time.Time
}

// The times of a group's members are written at most every five seconds a message.
const (
	recipientsEvery = 5 * time.Second
	recipientsKept  = 500 // messages to groups whose recipients are held in memory
)

// recipients is what is held in memory of a message to a group.
type recipients struct {
	*whatisup.Recipients
	rank    int // that the message has come to, as far as is known here
	written time.Time
	due     bool // they are written at the end of the five seconds
}

// Receipt writes how far messages have come. When it returns, a step of a message is
// durable; of the members of a group, whose times are gathered, that is so within
// five seconds.
func (o *Outbox) Receipt(ctx context.Context, r Receipt) error {
	for _, id := range r.IDs {
		o.mu.Lock()
		if e := o.waiting[id]; e != nil {
			e.received = true // it has left, whatever became of its ack
		}
		o.mu.Unlock()
		step := whatisup.Step{Status: r.Status, At: r.At}
		var err error
		if r.Group {
			err = o.groupReceipt(ctx, id, r.By, step)
		} else {
			err = o.advance(ctx, id, step, "")
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (o *Outbox) groupReceipt(ctx context.Context, id whatisup.MessageID, by whatisup.Person, s whatisup.Step) error {
	o.recipientsMu.Lock()
	defer o.recipientsMu.Unlock()
	held := o.recipients[id]
	if held == nil {
		p, err := o.c.Ledger.Recipients(ctx, o.c.Ref, id)
		if errors.Is(err, whatisup.ErrNotFound) {
			return o.advance(ctx, id, s, "") // of before its members were kept
		}
		if err != nil {
			return err
		}
		held = &recipients{Recipients: p}
		o.hold(id, held)
	}
	before := held.Counts()
	if !held.Take(by, s.Status, s.At) {
		return nil // a second device of the member, or nobody who was one
	}
	counts := held.Counts()
	s.Recipients = counts
	all := whatisup.MessageStatus("")
	for _, step := range []whatisup.MessageStatus{whatisup.MessageDelivered, whatisup.MessageRead, whatisup.MessagePlayed} {
		if counts.Of(step) == counts.Total && before.Of(step) < counts.Total {
			all = step
		}
	}
	if s.Status.Rank() > held.rank || all != "" {
		err := o.advanceGroup(ctx, id, held, s, all)
		if err != nil {
			held.Forget(by, s.Status) // its receipt comes again
		}
		return err
	}
	if held.due {
		return nil
	}
	wait := recipientsEvery - o.c.Now().Sub(held.written)
	held.due = true
	o.tellers.Add(1)
	o.c.Go(func() {
		defer o.tellers.Done()
		o.gatherRecipients(id, held, wait)
	})
	return nil
}

// advanceGroup writes that a message has come further, with some member or with all.
func (o *Outbox) advanceGroup(ctx context.Context, id whatisup.MessageID, held *recipients, s whatisup.Step, all whatisup.MessageStatus) error {
	if err := o.keepRecipients(ctx, id, held); err != nil {
		return err
	}
	if s.Status.Rank() <= held.rank {
		if err := o.c.Ledger.CountRecipients(ctx, o.c.Ref, id, s.Recipients); err != nil && !errors.Is(err, whatisup.ErrNotFound) {
			return err
		}
	}
	if err := o.advance(ctx, id, s, all); err != nil {
		return err
	}
	held.rank = max(held.rank, s.Status.Rank())
	return nil
}

// hold keeps the recipients of a message in memory. Those that are forgotten are read
// again when they are needed.
func (o *Outbox) hold(id whatisup.MessageID, p *recipients) {
	if len(o.recipients) >= recipientsKept {
		for other, q := range o.recipients {
			if !q.due {
				delete(o.recipients, other)
			}
		}
	}
	o.recipients[id] = p
}

// gatherRecipients writes the recipients of a message after a time, or when the outbox
// is closed.
func (o *Outbox) gatherRecipients(id whatisup.MessageID, p *recipients, wait time.Duration) {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	for tries := 1; ; tries++ {
		select {
		case <-timer.C:
		case <-o.closing:
		}
		ctx, cancel := context.WithTimeout(context.Background(), tellWithin)
		o.recipientsMu.Lock()
		err := o.keepRecipients(ctx, id, p)
		if err == nil {
			p.due = false
			err = o.c.Ledger.CountRecipients(ctx, o.c.Ref, id, p.Counts())
		}
		o.recipientsMu.Unlock()
		cancel()
		if err == nil || errors.Is(err, whatisup.ErrNotFound) || tries == 5 || o.isClosed() {
			if err != nil {
				o.c.Log.Warn("the times of a message's recipients are not written", "message_id", string(id), "error", err.Error())
			}
			return
		}
		timer.Reset(backoff(tries))
	}
}

func (o *Outbox) isClosed() bool {
	o.tellMu.Lock()
	defer o.tellMu.Unlock()
	return o.closed
}

func (o *Outbox) keepRecipients(ctx context.Context, id whatisup.MessageID, p *recipients) error {
	if err := o.c.Ledger.PutRecipients(ctx, o.c.Ref, id, p.Recipients, false); err != nil {
		return err
	}
	p.written = o.c.Now()
	return nil
}

// address keeps whom a message to a group is sent to, before it is sent.
func (o *Outbox) address(ctx context.Context, id whatisup.MessageID, members []whatisup.Person) error {
	p := &recipients{Recipients: &whatisup.Recipients{
		Base: o.c.Now().Truncate(time.Second), Members: members, At: make([][3]uint32, len(members)),
	}}
	if err := o.c.Ledger.PutRecipients(ctx, o.c.Ref, id, p.Recipients, true); err != nil {
		return err
	}
	o.recipientsMu.Lock()
	defer o.recipientsMu.Unlock()
	o.hold(id, p)
	return nil
}
