package outbox

import (
	"context"
	"slices"
	"sync"
	"time"

	"whatisup/shared/whatisup"
)

// What keeps a message from being sent although it is ready: the pace that the settings
// ask for, a restriction of the account, and stops by the operator. Only messages that
// begin a chat are held by a restriction; who is known is read from the ledger, once,
// when that is first of interest. A message that may have left is held by none of it.

// stopAgain is how often it is looked again whether a stop was taken back.
const stopAgain = 15 * time.Second

// pace is what the outbox knows of its account's pace.
type pace struct {
	mu           sync.Mutex // also over the writes, so that the row has the newest
	loaded       bool
	restrictions whatisup.Restrictions

	sentAt time.Time                 // of the newest send
	known  map[whatisup.Address]bool // with whom messages were exchanged; nil: not read
	day    time.Time                 // that begun is of
	begun  int                       // chats
}

// gap is when the next message may be sent, zero for now. The first one of an owner
// waits, too: the former owner may have sent a moment ago.
func (o *Outbox) gap(now time.Time) time.Time {
	gap := time.Duration(o.settings().MinGapMS) * time.Millisecond
	if gap <= 0 {
		return time.Time{}
	}
	o.pace.mu.Lock()
	defer o.pace.mu.Unlock()
	if o.pace.sentAt.IsZero() {
		o.pace.sentAt = now
	}
	if next := o.pace.sentAt.Add(gap); next.After(now) {
		return next
	}
	return time.Time{}
}

func (o *Outbox) settings() whatisup.Settings {
	if o.c.Settings == nil {
		return whatisup.DefaultSettings()
	}
	return o.c.Settings()
}

func (o *Outbox) stops() (all, newChats bool) {
	if o.c.Stops == nil {
		return false, false
	}
	return o.c.Stops()
}

// mayGo says whether a message that is ready may be sent. One that may not is held, or
// has ended.
func (o *Outbox) mayGo(ctx context.Context, conn Conn, e *entry) (bool, error) {
	if e.ready.again != nil {
		return true, nil
	}
	all, newChats := o.stops()
	if all {
		o.holdUp(e, whatisup.ForRestriction, time.Time{})
		return false, nil
	}
	if e.ChatType != whatisup.ChatDirect || e.ready.to == conn.Self(true) || e.ready.to == conn.Self(false) {
		return true, nil
	}

	p := &o.pace
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.loaded {
		kept, err := o.c.Ledger.Restrictions(ctx, o.c.Ref)
		if err != nil {
			return false, err
		}
		p.restrictions, p.loaded = kept, true
	}
	now := o.c.Now()
	kind, restricted := p.restrictions.Active(now)
	most := o.settings().NewChatsDay
	if kind == "" && most == nil && !newChats {
		return true, nil
	}
	if known, err := o.isKnown(ctx, e, now); known || err != nil {
		return known, err
	}
	switch {
	case kind != "" && !restricted.Until.IsZero() && e.ExpiresAt.After(restricted.Until):
		o.holdUp(e, whatisup.ForRestriction, restricted.Until)
	case kind != "":
		e.ready = nil
		why := whatisup.NewMessageError(kind.Code())
		why.Until = whatisup.At(restricted.Until)
		return false, o.fail(ctx, e, why)
	case newChats:
		o.holdUp(e, whatisup.ForRestriction, time.Time{})
	case p.begun >= *most:
		o.holdUp(e, whatisup.ForPace, p.day.Add(24*time.Hour))
	default:
		return true, nil
	}
	return false, nil
}

// holdUp has a message wait until a time, or until a stop is taken back.
func (o *Outbox) holdUp(e *entry, why whatisup.WaitingFor, until time.Time) {
	e.ready = nil
	e.hold, e.before, e.vague = why, until, until.IsZero()
	if e.vague {
		e.before = o.c.Now().Add(stopAgain)
	}
}

// isKnown says whether a message was exchanged with the recipient. The pace's mutex is
// held.
func (o *Outbox) isKnown(ctx context.Context, e *entry, now time.Time) (bool, error) {
	p := &o.pace
	day := now.UTC().Truncate(24 * time.Hour)
	if p.known == nil {
		known, begun, err := o.c.Ledger.Exchanged(ctx, o.c.Ref, day)
		if err != nil {
			return false, err
		}
		p.known, p.begun, p.day = known, begun, day
	}
	if !p.day.Equal(day) {
		p.begun, p.day = 0, day
	}
	return slices.ContainsFunc(e.addresses(), func(a whatisup.Address) bool { return p.known[a] }), nil
}

// sends notes that a message is about to leave.
func (o *Outbox) sends(at time.Time) {
	o.pace.mu.Lock()
	defer o.pace.mu.Unlock()
	o.pace.sentAt = at
}

// wasSent counts a message that WhatsApp has taken.
func (o *Outbox) wasSent(e *entry) {
	p := &o.pace
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.known == nil || e.ChatType != whatisup.ChatDirect {
		return
	}
	addresses := e.addresses()
	if !slices.ContainsFunc(addresses, func(a whatisup.Address) bool { return p.known[a] }) {
		p.begun++
	}
	for _, a := range addresses {
		p.known[a] = true
	}
}

// Heard says that somebody has written: a message to them begins no chat.
func (o *Outbox) Heard(by whatisup.Person) {
	o.pace.mu.Lock()
	defer o.pace.mu.Unlock()
	if o.pace.known == nil {
		return
	}
	for _, a := range by.Chats() {
		o.pace.known[a] = true
	}
}

// Restricted takes in, and tells, that WhatsApp keeps the account from beginning chats,
// or does so no more.
func (o *Outbox) Restricted(ctx context.Context, d whatisup.RestrictedData) error {
	p := &o.pace
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.loaded {
		kept, err := o.c.Ledger.Restrictions(ctx, o.c.Ref)
		if err != nil {
			return err
		}
		p.restrictions, p.loaded = kept, true
	}
	now := o.c.Now()
	was, active := p.restrictions[d.Kind]
	active = active && now.Before(was.Held)
	if active == d.Active && (!active || d.Until.IsZero() || d.Until.Equal(was.Until)) {
		return nil // told already
	}
	if err := o.c.Teller.Restricted(ctx, d); err != nil {
		return err
	}
	all := make(whatisup.Restrictions, 2)
	for kind, one := range p.restrictions {
		if kind != d.Kind && now.Before(one.Held) {
			all[kind] = one
		}
	}
	if d.Active {
		held := d.Until.Time
		if held.IsZero() {
			held = now.Add(whatisup.RestrictedFor(d.Kind))
		}
		all[d.Kind] = whatisup.Restricted{Until: d.Until.Time, Held: held}
		if o.c.Restricted != nil {
			o.c.Restricted(d.Kind)
		}
	}
	if err := o.c.Ledger.KeepRestrictions(ctx, o.c.Ref, all); err != nil {
		return err
	}
	p.restrictions = all
	o.Unhold(ctx)
	return nil
}

// Unhold looks again at everything that a pace, a restriction or a stop holds up.
func (o *Outbox) Unhold(ctx context.Context) {
	o.mu.Lock()
	held := false
	for _, e := range o.waiting {
		if e.hold == whatisup.ForPace || e.hold == whatisup.ForRestriction {
			e.before, held = time.Time{}, true
		}
	}
	o.again = o.again || held
	o.mu.Unlock()
	if held {
		o.Work(ctx)
	}
}
