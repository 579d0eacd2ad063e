package outbox

import (
	"context"
	"errors"
	"time"

	"whatisup/sessionhost/waconv"
	"whatisup/shared/whatisup"
)

// send sends one message that is ready and writes what came of it. An error is one
// of the tables'; what WhatsApp or the connection did is the message's own.
func (o *Outbox) send(ctx context.Context, conn Conn, e *entry) error {
	p := e.ready
	e.ready = nil
	o.mu.Lock()
	received := e.received
	o.mu.Unlock()
	if received {
		o.remove(e.ID) // its receipt is in its row
		return nil
	}
	if p.again == nil {
		e.copied, e.unknown = false, 0 // it never left
	}
	if e.copied || e.unknown > 0 {
		e.Attempts++
		if err := o.c.Ledger.TryMessage(ctx, o.c.Ref, e.ID, e.Attempts); err != nil && !errors.Is(err, whatisup.ErrConflict) {
			return err
		}
	}

	if len(p.members) > 0 {
		e.members = p.members
		if err := o.address(ctx, e.ID, p.members); err != nil {
			return err
		}
	}

	began := o.c.Now()
	o.sends(began)
	outcome := conn.Send(ctx, p.to, e.ID, p.content, p.again)
	switch {
	case outcome.NoDevice:
		return o.fail(ctx, e, whatisup.NewMessageError(whatisup.NoRecipientDevice))
	case outcome.Err == nil && outcome.Refused == 0:
		o.c.Metrics.MessageAcked(o.c.Now().Sub(began))
		return o.acked(ctx, e, outcome)
	case outcome.Refused != 0:
		return o.refused(ctx, conn, e, p.to, outcome.Refused)
	}
	return o.unanswered(ctx, e, outcome.Err)
}

// due writes that a message's time has come. From here on only the owner can
// cancel it. It is false if it was cancelled a moment ago.
func (o *Outbox) due(ctx context.Context, e *entry) (bool, error) {
	if e.Status != whatisup.MessageScheduled {
		return true, nil
	}
	step := whatisup.Step{Status: whatisup.MessageQueued, At: o.c.Now()}
	err := o.c.Ledger.EndMessages(ctx, o.c.Ref, o.c.Epoch, map[whatisup.MessageID]whatisup.Step{e.ID: step})
	if errors.Is(err, whatisup.ErrConflict) {
		o.remove(e.ID)
		return false, nil
	}
	if err != nil {
		return false, err
	}
	e.Take(step)
	return true, nil
}

// settle acts on what came of preparing a message: it is ready, or has ended, or
// waits.
func (o *Outbox) settle(ctx context.Context, e *entry) (ready bool, err error) {
	p := e.ready
	switch {
	case p.err != nil:
		e.ready = nil
		o.later(e, p.err)
	case p.fail != nil:
		e.ready = nil
		return false, o.fail(ctx, e, p.fail)
	case p.hold != "":
		e.ready = nil
		e.hold, e.before, e.target, e.vague = p.hold, p.till, p.wait, false
	default:
		e.hold, e.target, e.Recipient, e.Chat = "", "", p.recipient, p.chat
		return true, nil
	}
	return false, nil
}

// ackedMost is how many messages WhatsApp has of which that is still being written.
const ackedMost = 8

// ackedTries is how often that is tried, which takes about half a minute. Then the message
// waits again: one whose row can't be written must not keep its link from ending.
const ackedTries = 6

// acked has it written that WhatsApp's server has the message, while the next one
// leaves. A write that fails is tried again; what is not written in the end, or is left by
// a death, is found waiting with its copy, as after a death before the ack.
func (o *Outbox) acked(ctx context.Context, e *entry, outcome Outcome) error {
	o.wasSent(e)
	e.copied = true // if it is sent again, it is the copy
	o.mu.Lock()
	full := o.writing >= ackedMost
	if !full {
		e.acked = true
		o.writing++
	}
	o.mu.Unlock()
	if full {
		return o.sent(ctx, e, outcome)
	}
	o.c.Go(func() {
		err := o.sent(ctx, e, outcome)
		for n := 1; err != nil && ctx.Err() == nil && n < ackedTries; n++ {
			o.c.Log.Warn("that a message was sent is written later", "message_id", string(e.ID), "error", err.Error())
			select {
			case <-ctx.Done():
			case <-time.After(backoff(n)):
				err = o.sent(ctx, e, outcome)
			}
		}
		o.mu.Lock()
		e.acked = false // with an error it is found waiting
		if err != nil {
			e.before, o.again = o.c.Now().Add(backoff(ackedTries)), true
		}
		o.writing--
		o.mu.Unlock()
		if err != nil {
			o.Work(ctx)
		}
		if o.c.Changed != nil {
			o.c.Changed() // the last one of an idle outbox
		}
	})
	return nil
}

// beingWritten says whether WhatsApp has a message, and its row may not say so yet.
func (o *Outbox) beingWritten(id whatisup.MessageID) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	e := o.waiting[id]
	return e != nil && e.acked
}

// sent writes that WhatsApp's server has the message.
func (o *Outbox) sent(ctx context.Context, e *entry, outcome Outcome) error {
	at := outcome.At
	if at.IsZero() {
		at = o.c.Now()
	}
	step := whatisup.Step{Status: whatisup.MessageSent, At: at, Recipient: e.Recipient, Chat: e.Chat}
	o.mu.Lock()
	received := e.received
	o.mu.Unlock()
	if n := len(e.members); n > 0 && !received {
		step.Recipients = &whatisup.RecipientCounts{Total: n}
	}
	if err := o.advance(ctx, e.ID, step, ""); err != nil {
		return err
	}
	o.c.Metrics.MessageEnded(whatisup.MessageSent, "")
	o.remove(e.ID)
	return nil
}

// fail ends a message that can't be sent.
func (o *Outbox) fail(ctx context.Context, e *entry, why *whatisup.MessageError) error {
	return o.endAll(ctx, map[whatisup.MessageID]whatisup.Step{e.ID: {
		Status: whatisup.MessageFailed, At: o.c.Now(), Error: why, MayHaveBeenSent: e.unknown > 0,
	}})
}

// refused acts on WhatsApp's code. WhatsApp publishes no list: the meanings are
// those that other open clients give the codes of WhatsApp Web.
func (o *Outbox) refused(ctx context.Context, conn Conn, e *entry, to waconv.JID, code int) error {
	if e.unknown > 0 {
		// An error on a second attempt says nothing about the first.
		o.unknown(e)
		return nil
	}
	if (code == 421 || code == 479) && !e.retried {
		conn.Forget(to)
		e.retried = true
		return nil
	}

	kind := whatisup.RejectedByWhatsApp
	switch code {
	case 404:
		kind = whatisup.NotOnWhatsApp
	case 403:
		if e.ChatType == whatisup.ChatGroup {
			kind = whatisup.NotInGroup
		}
	case 405:
		if e.ChatType == whatisup.ChatGroup {
			kind = whatisup.NotAllowedInGroup
		}
	case 463:
		kind = whatisup.ReachoutRestricted
	case 475:
		kind = whatisup.NewChatLimit
	}
	why := whatisup.NewMessageError(kind)
	why.WhatsAppCode = code
	if restriction := restrictionOf(kind); restriction != "" {
		if err := o.Restricted(ctx, whatisup.RestrictedData{Kind: restriction, Active: true}); err != nil {
			return err
		}
	}
	return o.fail(ctx, e, why)
}

func restrictionOf(c whatisup.MessageCode) whatisup.Restriction {
	switch c {
	case whatisup.ReachoutRestricted:
		return whatisup.RestrictReachout
	case whatisup.NewChatLimit:
		return whatisup.RestrictNewChats
	}
	return ""
}

// unanswered: the copy decides whether the message may have left.
func (o *Outbox) unanswered(ctx context.Context, e *entry, cause error) error {
	copied, err := o.c.Copies.Copy(ctx, e.ID)
	if err != nil {
		e.copied = true // not known: as if
		o.unknown(e)
		return err
	}
	if copied == nil {
		o.later(e, cause)
		return nil
	}
	e.copied = true
	o.unknown(e)
	return nil
}

// unknown counts a send whose outcome is not known. It is tried again on the next
// connection, as this one has ended.
func (o *Outbox) unknown(e *entry) {
	e.unknown++
	e.before = o.c.Now().Add(time.Second)
	o.c.Log.Info("a send has an unknown outcome; it is sent again under its id", "message_id", string(e.ID), "times", e.unknown)
}

// later tries a message again that surely was not sent.
func (o *Outbox) later(e *entry, cause error) {
	e.tries++
	e.before = o.c.Now().Add(backoff(e.tries))
	o.c.Log.Warn("a message was not sent; it is tried again", "message_id", string(e.ID), "tries", e.tries, "error", cause.Error())
}
