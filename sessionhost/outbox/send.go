package outbox

import (
	"context"
	"errors"
	"time"

	"google.golang.org/protobuf/proto"

	"whatisup/sessionhost/waconv"
	"whatisup/shared/whatisup"
)

// send sends one message and writes what came of it. An error is one of the
// tables'; what WhatsApp or the connection did is the message's own.
func (o *Outbox) send(ctx context.Context, conn Conn, e *entry) error {
	if e.Status == whatisup.MessageScheduled {
		// From here on only the owner can cancel it.
		step := whatisup.Step{Status: whatisup.MessageQueued, At: o.c.Now()}
		err := o.c.Ledger.EndMessages(ctx, o.c.Ref, o.c.Epoch, map[whatisup.MessageID]whatisup.Step{e.ID: step})
		if errors.Is(err, whatisup.ErrConflict) {
			o.remove(e.ID) // cancelled a moment ago
			return nil
		}
		if err != nil {
			return err
		}
		e.Take(step)
	}

	to, m, again, ready, err := o.prepare(ctx, conn, e)
	if err != nil || !ready {
		return err
	}
	if e.Typing > 0 && !e.copied {
		if !o.typing(ctx, conn, to, e.Typing) {
			return nil // the connection or the session has ended
		}
		if _, ends := o.ending(e, o.c.Now()); ends {
			return nil // expired or cancelled meanwhile
		}
	}
	if e.copied || e.unknown > 0 {
		e.Attempts++
		if err := o.c.Ledger.TryMessage(ctx, o.c.Ref, e.ID, e.Attempts); err != nil && !errors.Is(err, whatisup.ErrConflict) {
			return err
		}
	}

	began := o.c.Now()
	outcome := conn.Send(ctx, to, e.ID, m, again)
	switch {
	case outcome.NoDevice:
		return o.fail(ctx, e, whatisup.NewMessageError(whatisup.NoRecipientDevice))
	case outcome.Err == nil && outcome.Refused == 0:
		o.c.Metrics.MessageAcked(o.c.Now().Sub(began))
		return o.sent(ctx, e, outcome)
	case outcome.Refused != 0:
		return o.refused(ctx, conn, e, to, outcome.Refused)
	}
	return o.unanswered(ctx, e, outcome.Err)
}

// prepare finds where the message goes and what it says. A second attempt sends
// the bytes of the first to the chat of the first.
func (o *Outbox) prepare(ctx context.Context, conn Conn, e *entry) (to waconv.JID, m *waconv.Content, again *Copy, ready bool, err error) {
	if e.copied || e.unknown > 0 {
		if again, err = o.c.Copies.Copy(ctx, e.ID); err != nil {
			return to, nil, nil, false, err
		}
		if again != nil {
			e.copied = true
			return again.Chat, again.Message, again, true, nil
		}
		e.copied, e.unknown = false, 0 // it never left
	}

	if ready, err := o.resolve(ctx, conn, e); !ready || err != nil {
		return to, nil, nil, false, err
	}
	to = waconv.JIDOf(e.Chat)
	m, code, err := o.encode(ctx, conn, e, to)
	if err != nil {
		return to, nil, nil, false, err
	}
	if code != "" {
		return to, nil, nil, false, o.fail(ctx, e, whatisup.NewMessageError(code))
	}
	return to, m, nil, true, nil
}

// resolve asks WhatsApp whom the recipient's number belongs to.
func (o *Outbox) resolve(ctx context.Context, conn Conn, e *entry) (ready bool, err error) {
	n, isNumber := e.To.Number()
	if !isNumber || e.Recipient.LID != "" {
		return true, nil
	}
	p, found, err := conn.Resolve(ctx, n)
	if err != nil {
		o.later(e, err)
		return false, nil
	}
	if !found {
		return false, o.fail(ctx, e, whatisup.NewMessageError(whatisup.NotOnWhatsApp))
	}
	e.Recipient, e.Chat = p, p.Chat()
	return true, nil
}

// encode makes the message's protocol buffer; a code says why it can't be sent.
func (o *Outbox) encode(ctx context.Context, conn Conn, e *entry, to waconv.JID) (*waconv.Content, whatisup.MessageCode, error) {
	body, problems := whatisup.ParseBody(e.Raw)
	if len(problems) > 0 {
		o.c.Log.Error("a message's body can't be read any more", "message_id", string(e.ID), "field", problems[0].Field)
		return nil, whatisup.MessageInternal, nil
	}
	out := &waconv.Outgoing{Body: body, Chat: to, Now: o.c.Now()}
	for _, mention := range body.Mentions {
		a, _ := whatisup.ParseAddress(mention)
		out.Mentions = append(out.Mentions, waconv.JIDOf(a))
	}
	if body.Target != nil {
		r, code, err := o.reference(ctx, conn, e, body.Target)
		if code != "" || err != nil {
			return nil, code, err
		}
		out.Target = r
	}
	if e.ReplyTo != nil {
		r, code, err := o.reference(ctx, conn, e, e.ReplyTo)
		if code != "" || err != nil {
			return nil, code, err
		}
		out.Quote = &waconv.Quote{Reference: *r, Content: &waconv.Content{Conversation: proto.String("")}}
	}
	m, err := waconv.Encode(out)
	if err != nil {
		o.c.Log.Error("a message can't be encoded", "message_id", string(e.ID), "error", err.Error())
		return nil, whatisup.MessageInternal, nil
	}
	return m, "", nil
}

// reference finds the message that e is about. One that was never sent fails it.
func (o *Outbox) reference(ctx context.Context, conn Conn, e *entry, t *whatisup.Target) (*waconv.Reference, whatisup.MessageCode, error) {
	id := whatisup.MessageID(t.MessageID)
	if t.From != "" {
		a, _ := whatisup.ParseAddress(t.From)
		return &waconv.Reference{ID: id, Author: waconv.JIDOf(a)}, "", nil
	}
	m, err := o.c.Ledger.Message(ctx, o.c.Ref, id)
	switch {
	case errors.Is(err, whatisup.ErrNotFound):
		// Not one of ours: of a direct chat it is the other's.
		return &waconv.Reference{ID: id, Author: waconv.JIDOf(e.Chat)}, "", nil
	case err != nil:
		return nil, "", err
	case m.Status.Rank() < whatisup.MessageSent.Rank() && !m.Status.Waiting() && !m.MayHaveBeenSent, m.Status == whatisup.MessageCanceled:
		return nil, whatisup.TargetNotSent, nil
	}
	return &waconv.Reference{ID: id, FromMe: true, Author: conn.Self()}, "", nil
}

// typing shows for a while that somebody writes.
func (o *Outbox) typing(ctx context.Context, conn Conn, to waconv.JID, d time.Duration) bool {
	if err := conn.Typing(ctx, to, true); err != nil {
		return ctx.Err() == nil // it is courtesy: what can't be shown holds up nothing
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
	}
	return true
}

// sent writes that WhatsApp's server has the message.
func (o *Outbox) sent(ctx context.Context, e *entry, outcome Outcome) error {
	at := outcome.At
	if at.IsZero() {
		at = o.c.Now()
	}
	step := whatisup.Step{Status: whatisup.MessageSent, At: at, Recipient: e.Recipient, Chat: e.Chat}
	if err := o.tell(ctx, e.Message, step); err != nil {
		return err
	}
	if _, err := o.c.Ledger.StepMessage(ctx, o.c.Ref, e.ID, step); err != nil && !errors.Is(err, whatisup.ErrNotFound) {
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
		if err := o.c.Teller.Restricted(ctx, whatisup.RestrictedData{Kind: restriction, Active: true}); err != nil {
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
