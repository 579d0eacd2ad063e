package outbox

import (
	"context"
	"errors"
	"time"

	"whatisup/sessionhost/waconv"
	"whatisup/shared/whatisup"
)

// prepareMost is how many messages are prepared at once. Each is of another chat.
const prepareMost = 8

// prepared is a message that is ready to be sent, or what keeps it from that.
type prepared struct {
	conn      Conn // for which it was prepared
	to        waconv.JID
	content   *waconv.Content
	again     *Copy           // of an earlier attempt, whose bytes go to its chat
	recipient whatisup.Person // learnt on the way
	chat      whatisup.Address
	members   []whatisup.Person // of a group

	fail *whatisup.MessageError // it can't be sent
	hold whatisup.WaitingFor    // it can't be sent before a time
	till time.Time
	wait whatisup.MessageID // ... nor before this message
	err  error              // it could not be found out; it is tried again
}

// prepare begins to prepare a message. The result is the worker's.
func (o *Outbox) prepare(ctx context.Context, conn Conn, e *entry) {
	o.mu.Lock()
	e.preparing, e.ready = true, nil
	m := *e.Message
	copied, typed := e.copied || e.unknown > 0, e.typed
	o.preparing++
	o.mu.Unlock()

	o.c.Go(func() {
		p := o.makeReady(ctx, conn, &m, copied)
		p.conn = conn
		typing := m.Typing > 0 && !typed && p.again == nil && p.content != nil
		if typing && conn.Typing(ctx, p.to, true) != nil {
			typing = false // it is courtesy: what can't be shown holds up nothing
		}

		o.mu.Lock()
		e.preparing, e.ready = false, p
		if typing {
			e.typed, e.before = true, o.c.Now().Add(m.Typing)
		}
		o.preparing--
		o.again = true
		o.mu.Unlock()
		o.Work(ctx)
	})
}

// makeReady finds where a message goes and what it says. A second attempt sends
// the bytes of the first to the chat of the first.
func (o *Outbox) makeReady(ctx context.Context, conn Conn, m *whatisup.Message, copied bool) *prepared {
	p := &prepared{recipient: m.Recipient, chat: m.Chat}
	if copied {
		if p.again, p.err = o.c.Copies.Copy(ctx, m.ID); p.err != nil {
			return p
		}
		if p.again != nil {
			p.to, p.content = p.again.Chat, p.again.Message
			return p
		}
	}

	out := &waconv.Outgoing{Now: o.c.Now()}
	byLID := true
	if m.ChatType == whatisup.ChatGroup {
		group, err := conn.Group(ctx, waconv.JIDOf(m.To))
		if whatisup.ErrorCode(err) == whatisup.CodeNotInGroup {
			return p.failed(whatisup.NotInGroup)
		}
		if err != nil {
			return p.tryAgain(err)
		}
		p.members, byLID, out.Timer = group.Members, group.ByLID, group.Timer
	} else if !o.resolve(ctx, conn, m, p) {
		return p
	}
	if m.ChatType != whatisup.ChatGroup && o.c.Timers != nil {
		timer, err := o.c.Timers.Timer(ctx, p.chat)
		if err != nil {
			return p.tryAgain(err)
		}
		out.Timer, out.TimerSetAt = time.Duration(timer.Seconds)*time.Second, timer.SetAt
	}
	p.to = waconv.JIDOf(p.chat)
	out.Chat = p.to

	body, problems := whatisup.ParseBody(m.Raw)
	if len(problems) > 0 {
		o.c.Log.Error("a message's body can't be read any more", "message_id", string(m.ID), "field", problems[0].Field)
		return p.failed(whatisup.MessageInternal)
	}
	out.Body = body
	if !o.refer(ctx, conn, m, p, out, byLID) {
		return p
	}
	if m.Media != "" && !o.file(ctx, conn, m, p, out) {
		return p
	}
	content, err := waconv.Encode(out)
	if err != nil {
		o.c.Log.Error("a message can't be encoded", "message_id", string(m.ID), "error", err.Error())
		return p.failed(whatisup.MessageInternal)
	}
	p.content = content
	return p
}

// file has the message's file at WhatsApp.
func (o *Outbox) file(ctx context.Context, conn Conn, m *whatisup.Message, p *prepared, out *waconv.Outgoing) (ok bool) {
	if o.c.Files == nil {
		p.failed(whatisup.MediaUnavailable)
		return false
	}
	u, wait, why, err := o.c.Files.Ready(ctx, conn, m.Ref, m.Media, out.Body)
	switch {
	case err != nil:
		p.tryAgain(err)
	case why != nil:
		p.fail = why
	case wait > 0:
		p.hold, p.till = whatisup.ForMedia, o.c.Now().Add(wait)
	default:
		out.File, out.Thumbnail = u, u.Thumbnail
		return true
	}
	return false
}

func (p *prepared) failed(code whatisup.MessageCode) *prepared {
	p.fail = whatisup.NewMessageError(code)
	return p
}

func (p *prepared) tryAgain(err error) *prepared {
	p.err = err
	return p
}

// resolve asks WhatsApp whom the recipient's number belongs to.
func (o *Outbox) resolve(ctx context.Context, conn Conn, m *whatisup.Message, p *prepared) (ok bool) {
	n, isNumber := m.To.Number()
	if !isNumber || p.recipient.LID != "" {
		return true
	}
	who, found, err := conn.Resolve(ctx, n)
	switch {
	case err != nil:
		p.tryAgain(err)
	case !found:
		p.failed(whatisup.NotOnWhatsApp)
	default:
		p.recipient, p.chat = who, who.Chat()
		return true
	}
	return false
}

// refer takes into the message what it refers to: persons, the target, the message
// that it answers.
func (o *Outbox) refer(ctx context.Context, conn Conn, m *whatisup.Message, p *prepared, out *waconv.Outgoing, byLID bool) (ok bool) {
	for _, mention := range out.Body.Mentions {
		a, _ := whatisup.ParseAddress(mention)
		out.Mentions = append(out.Mentions, conn.Address(ctx, a, byLID))
	}
	if out.Body.Target != nil {
		t := m.Target
		if t == nil {
			t = out.Body.Target
		}
		quote, ok := o.reference(ctx, conn, m, p, t, byLID)
		if !ok {
			return false
		}
		out.Target = &quote.Reference
	}
	if m.ReplyTo != nil {
		if out.Quote, ok = o.reference(ctx, conn, m, p, m.ReplyTo, byLID); !ok {
			return false
		}
	}
	return true
}

// targetAgain is how long a message waits before it looks again whether its target
// was sent.
const targetAgain = 5 * time.Second

// writtenAgain is the same where the target was sent a moment ago.
const writtenAgain = 20 * time.Millisecond

// reference finds the message that another one is about. One that was never sent
// fails it; one that may have been, or still waits, is waited for.
func (o *Outbox) reference(ctx context.Context, conn Conn, m *whatisup.Message, p *prepared, t *whatisup.Target, byLID bool) (*waconv.Quote, bool) {
	id := whatisup.MessageID(t.MessageID)
	if t.From != "" {
		from, _ := whatisup.ParseAddress(t.From)
		q := &waconv.Quote{Reference: waconv.Reference{ID: id, Author: conn.Address(ctx, from, byLID)}}
		received, err := o.c.Ledger.Received(ctx, o.c.Ref, p.chat, from, id)
		switch {
		case errors.Is(err, whatisup.ErrNotFound):
			q.Content = waconv.Quoted(nil) // its row went meanwhile
		case err != nil:
			p.tryAgain(err)
			return nil, false
		default:
			q.Content = waconv.Quoted(received.Raw)
		}
		return q, true
	}

	again := targetAgain
	if o.beingWritten(id) {
		again = writtenAgain
	}
	target, err := o.c.Ledger.Message(ctx, o.c.Ref, id)
	switch {
	case errors.Is(err, whatisup.ErrNotFound):
		p.failed(whatisup.TargetNotSent) // its row went: 30 days have passed
	case err != nil:
		p.tryAgain(err)
	case target.Status.Rank() >= whatisup.MessageSent.Rank() && target.Status != whatisup.MessageCanceled:
		return &waconv.Quote{
			Reference: waconv.Reference{ID: id, FromMe: true, Author: conn.Self(byLID)}, Content: waconv.Quoted(target.Raw),
		}, true
	case target.Status.Waiting() || target.MayHaveBeenSent:
		p.hold, p.till, p.wait = whatisup.ForChatOrder, o.c.Now().Add(again), id
	default:
		p.failed(whatisup.TargetNotSent)
	}
	return nil, false
}
