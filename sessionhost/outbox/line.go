package outbox

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"whatisup/shared/whatisup"
)

// sorted is the line in its order, without what WhatsApp has already.
func (o *Outbox) sorted() []*entry {
	o.mu.Lock()
	defer o.mu.Unlock()
	line := make([]*entry, 0, len(o.waiting))
	for _, e := range o.waiting {
		if !e.acked {
			line = append(line, e)
		}
	}
	slices.SortFunc(line, func(a, b *entry) int {
		return cmp.Or(a.DueAt.Compare(b.DueAt), cmp.Compare(a.ID, b.ID))
	})
	return line
}

// clockAgain is how long it takes until it is looked again whether the clock can be
// trusted.
const clockAgain = 5 * time.Second

func (o *Outbox) clockOff() bool { return o.c.ClockOff != nil && o.c.ClockOff() }

// endMost is how many messages one transaction ends.
const endMost = 25

// end ends what must not be sent any more: what was cancelled, what expired, and
// what belongs to a link that is over.
func (o *Outbox) end(ctx context.Context) error {
	now := o.c.Now()
	steps := make(map[whatisup.MessageID]whatisup.Step)
	for _, e := range o.sorted() {
		s, ends := o.ending(e, now)
		if !ends {
			continue
		}
		if steps[e.ID] = s; len(steps) == endMost {
			break
		}
	}
	if len(steps) == 0 {
		return nil
	}
	if err := o.endAll(ctx, steps); err != nil {
		return err
	}
	return o.end(ctx) // until none is left
}

// EndLink ends every message of the link, before the link is wiped: what its
// copies tell can't be read afterwards.
func (o *Outbox) EndLink(ctx context.Context) error {
	if !o.stop(ctx) {
		return ctx.Err()
	}
	o.wholeAt, o.old = time.Time{}, true
	if err := o.read(ctx); err != nil {
		return err
	}
	o.mu.Lock()
	o.over = true
	o.mu.Unlock()
	return o.end(ctx)
}

// stop lets no worker begin any more, and waits for the one that runs and for what is
// being written.
func (o *Outbox) stop(ctx context.Context) bool {
	for {
		o.mu.Lock()
		free := o.writing == 0 && (!o.working || o.over)
		if free {
			o.working, o.stale, o.next = true, true, time.Time{}
			clear(o.waiting)
		}
		o.mu.Unlock()
		if free {
			return true
		}
		select {
		case <-ctx.Done():
			return false
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// ending says whether a message must not be sent any more, and what it becomes.
func (o *Outbox) ending(e *entry, now time.Time) (whatisup.Step, bool) {
	may := e.copied || e.unknown > 0
	switch {
	case e.Link != o.current():
		return whatisup.Step{
			Status: whatisup.MessageFailed, At: now, Error: whatisup.NewMessageError(whatisup.LinkLost),
			MayHaveBeenSent: may || e.Attempts > 0,
		}, true
	case e.canceled && !may:
		return whatisup.Step{Status: whatisup.MessageCanceled, At: now}, true
	case !now.Before(e.ExpiresAt) && !o.clockOff():
		return whatisup.Step{Status: whatisup.MessageExpired, At: now, MayHaveBeenSent: may}, true
	case e.unknown >= whatisup.UnknownTriesMost:
		o.c.Log.Error("a message is given up: its outcome stayed unknown", "message_id", string(e.ID), "attempts", e.unknown)
		return whatisup.Step{
			Status: whatisup.MessageFailed, At: now, Error: whatisup.NewMessageError(whatisup.MessageInternal), MayHaveBeenSent: true,
		}, true
	}
	return whatisup.Step{}, false
}

// endAll writes steps that only the owner may write, each told before.
func (o *Outbox) endAll(ctx context.Context, steps map[whatisup.MessageID]whatisup.Step) error {
	for id, s := range steps {
		o.mu.Lock()
		e := o.waiting[id]
		o.mu.Unlock()
		if err := o.tell(ctx, e.Message, s); err != nil {
			return err
		}
	}
	err := o.c.Ledger.EndMessages(ctx, o.c.Ref, o.c.Epoch, steps)
	if errors.Is(err, whatisup.ErrConflict) && len(steps) > 1 {
		// One of them has moved on by itself: the others don't wait for it.
		for id, s := range steps {
			one := map[whatisup.MessageID]whatisup.Step{id: s}
			if err = o.c.Ledger.EndMessages(ctx, o.c.Ref, o.c.Epoch, one); err != nil && !errors.Is(err, whatisup.ErrConflict) {
				return err
			}
		}
		err = nil
	}
	if err != nil && !errors.Is(err, whatisup.ErrConflict) {
		return err
	}
	for id, s := range steps {
		code := whatisup.MessageCode("")
		if s.Error != nil {
			code = s.Error.Code
		}
		o.c.Metrics.MessageEnded(s.Status, code)
		o.remove(id)
	}
	return nil
}

func (o *Outbox) remove(id whatisup.MessageID) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.waiting, id)
}

// tell tells of a step before it is written.
func (o *Outbox) tell(ctx context.Context, m *whatisup.Message, s whatisup.Step) error {
	told, previous := *m, m.Status
	told.Take(s)
	return o.c.Teller.Status(ctx, &told, previous, "")
}

// plan is what can be done with the line at this moment.
type plan struct {
	send    *entry   // is ready, and its turn has come
	prepare []*entry // may be prepared: the first of their chats
	settle  []*entry // have been prepared
	waits   []*entry // hold up others, or are held up: what they wait for may have to be written
	next    time.Time
}

// gapShown is how long a gap between two messages must be for the row to say that it
// is waited for.
const gapShown = 2 * time.Second

// look makes the plan. The first message of a chat holds up the others of that
// chat, and no other chat.
func (o *Outbox) look(conn Conn) plan {
	var p plan
	now := o.c.Now()
	soonest := func(t time.Time) {
		if p.next.IsZero() || t.Before(p.next) {
			p.next = t
		}
	}
	line := o.sorted()
	gap := o.gap(now)
	o.mu.Lock()
	defer o.mu.Unlock()
	heads := make(map[whatisup.Address]*entry) // by every address of a chat
	room := prepareMost - o.preparing
	paced := false
	for _, e := range line {
		if e.received {
			delete(o.waiting, e.ID) // it has left: its receipt is in its row
			continue
		}
		if !now.Before(e.ExpiresAt) {
			// It has expired since, or would have been ended but for the clock.
			again := e.ExpiresAt
			if o.clockOff() {
				again = now.Add(clockAgain)
			}
			soonest(again)
			continue
		}
		soonest(e.ExpiresAt)
		if e.DueAt.After(now) {
			soonest(e.DueAt) // what is scheduled holds up nobody before its time
			continue
		}
		chat := e.addresses()
		var head *entry
		for _, a := range chat {
			if head == nil {
				head = heads[a]
			}
		}
		if head != nil && head.target != e.ID {
			if head.hold != "" {
				e.waitFor(whatisup.ForChatOrder, time.Time{})
				p.waits = append(p.waits, e)
			}
			continue
		}
		for _, a := range chat {
			heads[a] = e
		}
		if (e.copied || e.unknown > 0) && o.resendAt.After(now) {
			soonest(o.resendAt)
			continue
		}
		if e.before.After(now) {
			soonest(e.before)
			until := e.before
			if e.vague {
				until = time.Time{}
			}
			e.waitFor(e.hold, until)
			p.waits = append(p.waits, e)
			continue
		}
		if e.hold == "" {
			e.waitFor("", time.Time{})
		}
		p.waits = append(p.waits, e)
		switch {
		case e.preparing:
		case e.ready == nil || e.ready.conn != conn:
			if conn != nil && room > 0 {
				p.prepare = append(p.prepare, e)
				room--
			}
		case e.ready.content == nil:
			p.settle = append(p.settle, e)
		case p.send == nil && gap.IsZero():
			p.send = e
			e.waits, e.waitsUntil = e.WaitingFor, e.WaitingUntil // its end says so
		case p.send == nil && !paced:
			paced = true
			soonest(gap)
			if gap.Sub(now) > gapShown {
				e.waitFor(whatisup.ForPace, gap)
			}
		}
	}
	return p
}

// addresses are all names of the message's chat that are known: a person has a
// number and a LID, and one message knows of one what the next doesn't.
func (e *entry) addresses() []whatisup.Address {
	chat := []whatisup.Address{e.To, e.Chat}
	if e.Recipient.PhoneNumber != "" {
		chat = append(chat, whatisup.NumberAddress(e.Recipient.PhoneNumber))
	}
	if e.Recipient.LID != "" {
		chat = append(chat, whatisup.LIDAddress(e.Recipient.LID))
	}
	return chat
}

// waitFor notes what a message waits for. Until is of interest only where
// something else than its turn is waited for.
func (e *entry) waitFor(why whatisup.WaitingFor, until time.Time) {
	if why == "" || why == whatisup.ForChatOrder {
		until = time.Time{}
	}
	e.waits, e.waitsUntil = why, until
}

// waitsMost is how many messages are written to be waiting in one pass.
const waitsMost = 50

// tellWaits writes for what messages wait, where the row says something else.
func (o *Outbox) tellWaits(ctx context.Context, waits []*entry) error {
	written := 0
	for _, e := range waits {
		if e.WaitingFor == e.waits && e.WaitingUntil.Equal(e.waitsUntil) {
			continue
		}
		if written++; written > waitsMost {
			return nil
		}
		err := o.c.Ledger.WaitMessage(ctx, o.c.Ref, e.ID, e.waits, e.waitsUntil)
		if err != nil && !errors.Is(err, whatisup.ErrConflict) && !errors.Is(err, whatisup.ErrNotFound) {
			return err
		}
		e.WaitingFor, e.WaitingUntil = e.waits, e.waitsUntil
	}
	return nil
}
