package outbox

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"whatisup/shared/whatisup"
)

// sorted is the line in its order.
func (o *Outbox) sorted() []*entry {
	o.mu.Lock()
	defer o.mu.Unlock()
	line := make([]*entry, 0, len(o.waiting))
	for _, e := range o.waiting {
		line = append(line, e)
	}
	slices.SortFunc(line, func(a, b *entry) int {
		return cmp.Or(a.DueAt.Compare(b.DueAt), cmp.Compare(a.ID, b.ID))
	})
	return line
}

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

// stop lets no worker begin any more, and waits for the one that runs.
func (o *Outbox) stop(ctx context.Context) bool {
	for {
		o.mu.Lock()
		free := !o.working || o.over
		if free {
			o.working, o.stale = true, true
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
	case !now.Before(e.ExpiresAt):
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
	return o.c.Teller.Status(ctx, &told, previous)
}

// pick returns the message whose turn it is, or when one will be ready. The first
// message of a chat holds up the others of that chat, and no other chat.
func (o *Outbox) pick() (e *entry, next time.Time) {
	now := o.c.Now()
	blocked := make(map[whatisup.Address]bool)
	soonest := func(t time.Time) {
		if next.IsZero() || t.Before(next) {
			next = t
		}
	}
	for _, e := range o.sorted() {
		soonest(e.ExpiresAt)
		if blocked[e.Chat] {
			continue
		}
		switch {
		case e.DueAt.After(now):
			soonest(e.DueAt) // what is scheduled holds up nobody before its time
		case e.before.After(now):
			soonest(e.before)
			blocked[e.Chat] = true
		default:
			return e, time.Time{}
		}
	}
	return nil, next
}
