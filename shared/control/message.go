package control

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"iter"
	"sync"
	"time"

	"whatisup/shared/whatisup"
)

// Messages are the rows of messages.
type Messages interface {
	// AcceptMessage stores a message that waits, or returns what stands under its id.
	AcceptMessage(context.Context, *whatisup.Message) (old *whatisup.Message, err error)
	// Message reads one of the instance's own messages: ErrNotFound.
	Message(context.Context, whatisup.Ref, whatisup.MessageID) (*whatisup.Message, error)
	// Messages lists an instance's messages, newest first.
	Messages(ctx context.Context, r whatisup.Ref, l whatisup.Listing, about int) iter.Seq2[whatisup.Listed, error]
	// Chats lists an instance's chats, the one with the last message first: those whose
	// last message is before a place. More says that there are others.
	Chats(ctx context.Context, r whatisup.Ref, before string, most int) (list []whatisup.Chat, more bool, err error)
	// Recipients is how far a message to a group has come with each member: ErrNotFound.
	Recipients(ctx context.Context, r whatisup.Ref, id whatisup.MessageID) (*whatisup.Recipients, error)
	CountWaiting(ctx context.Context, r whatisup.Ref, most int) (int, error)
	// AskCancel asks the owner to cancel a message that waits, and returns the row.
	AskCancel(context.Context, whatisup.Ref, whatisup.MessageID) (*whatisup.Message, error)
	// CancelScheduled cancels a message that is due after a time: ErrConflict.
	CancelScheduled(ctx context.Context, r whatisup.Ref, id whatisup.MessageID, after, now time.Time) error
}

// Once names a request to send that must not run twice. The message's id follows
// from the name, so the row itself is the record.
type Once struct {
	Name  string // what the caller named it; empty: every request is another one
	Print []byte // of what was asked for
}

// Sent is an accepted message.
type Sent struct {
	*whatisup.Message
	Connected bool // the instance is shown connected
	Replayed  bool // it was accepted before
}

// Wire is the message as the caller sees it.
func (s Sent) Wire() whatisup.MessageWire { return s.Message.Wire(s.Connected) }

// Send accepts a message: its row is stored when it returns, and its session has
// been woken. Nothing waits for WhatsApp.
func (c *Control) Send(ctx context.Context, who Caller, i *whatisup.Instance, s *whatisup.Send, once Once) (Sent, error) {
	shown, err := c.Show(ctx, i)
	if err != nil {
		return Sent{}, err
	}
	m := c.messageOf(who, i, s, once)
	connected := shown.Shown.Status == whatisup.Connected
	if once.Name != "" {
		// A repetition is answered whatever has become of the instance since.
		old, err := c.Store.Message(ctx, m.Ref, m.ID)
		if err == nil {
			return replay(old, once, connected)
		}
		if !errors.Is(err, whatisup.ErrNotFound) {
			return Sent{}, err
		}
	}

	if err := mayWait(i, shown.Shown, s.FailAtOnce); err != nil {
		return Sent{}, err
	}
	if err := c.checkTarget(ctx, m, s); err != nil {
		return Sent{}, err
	}
	if err := c.room(ctx, m.Ref); err != nil {
		return Sent{}, err
	}
	media, err := c.mediaOfBody(ctx, who, m, s)
	if err != nil {
		return Sent{}, err
	}
	if media != nil {
		m.Media = media.ID
		if err := c.keepMedia(ctx, who, m, media); err != nil {
			return Sent{}, err
		}
	}
	old, err := c.Store.AcceptMessage(ctx, m)
	if err != nil {
		return Sent{}, err
	}
	if old != nil {
		return replay(old, once, connected)
	}
	c.wakeFor(ctx, who, i, whatisup.WakeMessages, "")
	return Sent{Message: m, Connected: connected}, nil
}

// Accepted is the message that a request of this name was accepted as: ErrNotFound if
// it never was.
func (c *Control) Accepted(ctx context.Context, i *whatisup.Instance, once Once) (Sent, error) {
	shown, err := c.Show(ctx, i)
	if err != nil {
		return Sent{}, err
	}
	old, err := c.Store.Message(ctx, refOf(i), c.messageID(refOf(i), once.Name))
	if err != nil {
		return Sent{}, err
	}
	return replay(old, once, shown.Shown.Status == whatisup.Connected)
}

// replay answers a repetition of a request.
func replay(old *whatisup.Message, once Once, connected bool) (Sent, error) {
	if !hmac.Equal(old.BodyHash, once.Print) {
		return Sent{}, ErrSendConflict
	}
	return Sent{Message: old, Connected: connected, Replayed: true}, nil
}

func refOf(i *whatisup.Instance) whatisup.Ref {
	return whatisup.Ref{Customer: i.Config.Customer, Mode: i.Config.Mode, ID: i.Config.ID}
}

// messageOf is the row of a request.
func (c *Control) messageOf(who Caller, i *whatisup.Instance, s *whatisup.Send, once Once) *whatisup.Message {
	now := c.Now().UTC().Truncate(time.Millisecond)
	m := &whatisup.Message{
		Ref: refOf(i), ID: whatisup.NewMessageID(), Direction: whatisup.Outgoing,
		To: s.To, Chat: s.To, ChatType: s.To.ChatType(), Raw: s.Raw, ReplyTo: s.ReplyTo, ClientRef: s.ClientRef,
		Typing: s.Typing, BodyHash: once.Print, RequestID: who.Request, CommandID: who.Command,
		Link: i.Observed.Link, Status: whatisup.MessageQueued, StatusAt: now, DueAt: now, ExpiresAt: s.ExpiresAt,
		Times: whatisup.MessageTimes{Created: now, Queued: now},
	}
	if n, ok := s.To.Number(); ok {
		m.Recipient.PhoneNumber = n
	} else if lid, ok := s.To.LID(); ok {
		m.Recipient.LID = lid
	}
	if !s.ScheduledAt.IsZero() {
		m.Status, m.DueAt = whatisup.MessageScheduled, s.ScheduledAt
		m.Times.Scheduled, m.Times.Queued = now, time.Time{}
	}
	if once.Name != "" {
		m.ID = c.messageID(m.Ref, once.Name)
	}
	return m
}

// messageID follows from the instance and the name that a caller gave the request.
// Nobody without the pepper can foresee it.
func (c *Control) messageID(r whatisup.Ref, name string) whatisup.MessageID {
	sum := hmac.New(sha256.New, []byte(string(c.Peppers.Oldest())))
	for _, part := range []string{"message", string(r.Customer), string(r.Mode), string(r.ID), name} {
		h := sha256.Sum256([]byte(part)) // so that no two lists of parts look alike
		sum.Write(h[:])
	}
	return whatisup.MessageIDFrom(sum.Sum(nil))
}

// mayWait refuses a message that nothing would send by itself.
func mayWait(i *whatisup.Instance, shown whatisup.Shown, failAtOnce bool) error {
	reason := whatisup.NoReason
	if shown.Reason != nil {
		reason = *shown.Reason
	}
	comesBack := i.HasLink() && i.Wanted.Online && reason != whatisup.KickedOtherDevice && reason != whatisup.Stopped &&
		!(shown.Status == whatisup.Failed && shown.NextRetryAt.IsZero() && reason != whatisup.ClientOutdated) &&
		shown.Status != whatisup.Pending && shown.Status != whatisup.QR
	if comesBack && (!failAtOnce || shown.Status == whatisup.Connected) {
		return nil
	}
	e := transition("The instance is not connected.", shown)
	e.Code = whatisup.CodeNotConnected
	return e
}

// checkTarget refuses what the rows already show to be impossible, and completes
// the message with the senders of what it refers to.
func (c *Control) checkTarget(ctx context.Context, m *whatisup.Message, s *whatisup.Send) error {
	if s.ReplyTo != nil {
		t, _, err := c.target(ctx, m, "reply_to", s.ReplyTo, false)
		if err != nil {
			return err
		}
		m.ReplyTo = t
	}
	if s.Body.Target == nil {
		return nil
	}
	mustBeOwn := s.Body.Type == whatisup.BodyEdit || s.Body.Type == whatisup.BodyRevoke && m.ChatType != whatisup.ChatGroup
	t, own, err := c.target(ctx, m, "body.target", s.Body.Target, mustBeOwn)
	if err != nil {
		return err
	}
	m.Target = t
	if s.Body.Type == whatisup.BodyEdit && own != nil && !own.Times.Sent.IsZero() && c.Now().Sub(own.Times.Sent) > whatisup.EditWindow {
		return ErrEditWindow
	}
	return nil
}

// target finds the message that m refers to among the rows of its chat: the own
// one of that id, or the only received one. Of another's message the target names
// the sender then.
func (c *Control) target(ctx context.Context, m *whatisup.Message, field string, t *whatisup.Target, mustBeOwn bool) (*whatisup.Target, *whatisup.Message, error) {
	if id := whatisup.MessageID(t.MessageID); t.From == "" && id.IsOwn() {
		own, err := c.Store.Message(ctx, m.Ref, id)
		if err != nil && !errors.Is(err, whatisup.ErrNotFound) {
			return nil, nil, err
		}
		if err == nil && sameChat(own, m) {
			return t, own, nil
		}
	}
	if mustBeOwn {
		return nil, nil, problem(field, "must be a message that this instance has sent to this chat")
	}

	from, _ := whatisup.ParseAddress(t.From)
	var found *whatisup.Message
	read := 0
	for l, err := range c.Store.Messages(ctx, m.Ref, whatisup.Listing{Direction: whatisup.Incoming}, targetsRead) {
		if err != nil {
			return nil, nil, err
		}
		if read++; read > targetsRead {
			break
		}
		if string(l.ID) != t.MessageID || !sameChat(l.Message, m) || from != "" && !isPerson(from, l.From) {
			continue
		}
		if found != nil && found.From != l.From {
			return nil, nil, problem(field, "is the id of several messages of this chat: name the sender with from")
		}
		found = l.Message
	}
	if found == nil {
		return nil, nil, problem(field, "must be a message of this chat")
	}
	return &whatisup.Target{MessageID: t.MessageID, From: string(found.From.Chat())}, nil, nil
}

// targetsRead is how many received messages, of all chats and from the newest on,
// are looked through for a target.
const targetsRead = 2_000

func isPerson(a whatisup.Address, p whatisup.Person) bool {
	if n, ok := a.Number(); ok {
		return n == p.PhoneNumber
	}
	lid, ok := a.LID()
	return ok && lid == p.LID
}

// sameChat compares by everything that is known of both.
func sameChat(a, b *whatisup.Message) bool {
	if a.ChatType == whatisup.ChatDirect && b.ChatType == whatisup.ChatDirect && a.Direction == whatisup.Incoming &&
		isPerson(b.To, a.From) {
		return true
	}
	return a.To != "" && a.To == b.To || a.Chat == b.Chat || a.Chat == b.To || a.To == b.Chat ||
		a.Recipient.PhoneNumber != "" && a.Recipient.PhoneNumber == b.Recipient.PhoneNumber ||
		a.Recipient.LID != "" && a.Recipient.LID == b.Recipient.LID
}

func problem(field, text string) error {
	return whatisup.NewError(whatisup.CodeInvalidRequest, field+" "+text).
		With("fields", []whatisup.Problem{{Field: field, Problem: text}})
}

// countKept is how long a count of what waits is trusted, plus what this process
// has accepted since. It bounds by how much several processes can pass the limit.
const countKept = 10 * time.Second

// counts remembers about how many messages of an instance wait.
type counts struct {
	mu  sync.Mutex
	all map[whatisup.Ref]count
}

type count struct {
	at time.Time
	n  int
}

// room refuses a message for which the line has no room.
func (c *Control) room(ctx context.Context, r whatisup.Ref) error {
	now := c.Now()
	c.counts.mu.Lock()
	known, ok := c.counts.all[r]
	c.counts.mu.Unlock()
	if !ok || now.Sub(known.at) >= countKept || known.n >= whatisup.WaitingMost {
		n, err := c.Store.CountWaiting(ctx, r, whatisup.WaitingMost)
		if err != nil {
			return err
		}
		known = count{now, n}
	}
	if known.n >= whatisup.WaitingMost {
		return ErrQueueFull
	}
	known.n++
	c.counts.mu.Lock()
	defer c.counts.mu.Unlock()
	if c.counts.all == nil || len(c.counts.all) > countsMost {
		c.counts.all = map[whatisup.Ref]count{}
	}
	c.counts.all[r] = known
	return nil
}

// countsMost bounds the memory of counts.
const countsMost = 10_000

// GetMessage reads one of the instance's own messages. Of one to a group it lists the
// recipients, if that is asked for.
func (c *Control) GetMessage(ctx context.Context, i *whatisup.Instance, id string, recipients bool) (Sent, error) {
	shown, err := c.Show(ctx, i)
	if err != nil {
		return Sent{}, err
	}
	m, err := c.message(ctx, i, id)
	if err == nil && recipients && m.Recipients != nil {
		switch list, err := c.Store.Recipients(ctx, m.Ref, m.ID); {
		case err == nil:
			m.Recipients = list.Counts()
			m.Recipients.List = list.Wire()
		case !errors.Is(err, whatisup.ErrNotFound):
			return Sent{}, err
		}
	}
	return Sent{Message: m, Connected: shown.Shown.Status == whatisup.Connected}, err
}

// message reads an own message. A text that is no id of ours is read like one.
func (c *Control) message(ctx context.Context, i *whatisup.Instance, id string) (*whatisup.Message, error) {
	parsed := whatisup.MessageID(id)
	if !parsed.IsOwn() {
		parsed = "3EB0000000000000000000"
	}
	m, err := c.Store.Message(ctx, refOf(i), parsed)
	if errors.Is(err, whatisup.ErrNotFound) {
		return nil, ErrMessageNotFound
	}
	return m, err
}

// cancelAhead is how far ahead a message must be scheduled for the API to cancel
// it by itself; nearer, its session may be about to send it.
const cancelAhead = 5 * time.Second

// CancelMessage cancels a message that waits. Requested: nobody can tell yet
// whether it will be.
func (c *Control) CancelMessage(ctx context.Context, who Caller, i *whatisup.Instance, id string) (s Sent, requested bool, err error) {
	m, err := c.message(ctx, i, id)
	if err != nil {
		return Sent{}, false, err
	}
	now := c.Now()
	if m.Status == whatisup.MessageScheduled && m.DueAt.After(now.Add(cancelAhead)) {
		err := c.Store.CancelScheduled(ctx, m.Ref, m.ID, now.Add(cancelAhead), now)
		if err != nil && !errors.Is(err, whatisup.ErrConflict) {
			return Sent{}, false, err
		}
	} else if m.Status.Waiting() {
		if _, err := c.Store.AskCancel(ctx, m.Ref, m.ID); err != nil {
			return Sent{}, false, err
		}
		c.wakeFor(ctx, who, i, whatisup.WakeMessages, "")
	}

	err = Poll(ctx, c.Now, c.waitUntil(ctx, who), false, func(ctx context.Context) (bool, error) {
		m, err = c.message(ctx, i, id)
		return err == nil && !m.Status.Waiting(), err
	})
	switch {
	case errors.Is(err, ErrOver):
		return Sent{Message: m}, true, nil
	case err != nil:
		return Sent{}, false, err
	case m.Status != whatisup.MessageCanceled:
		return Sent{}, false, ErrNotCancelable.With("status", m.Status).With("may_have_been_sent", m.MayHaveBeenSent)
	}
	return Sent{Message: m}, false, nil
}

// Messages lists an instance's messages, newest first.
func (c *Control) Messages(ctx context.Context, i *whatisup.Instance, l whatisup.Listing, about int) iter.Seq2[whatisup.Listed, error] {
	return c.Store.Messages(ctx, refOf(i), l, about)
}

// Chats lists an instance's chats, the one with the last message first.
func (c *Control) Chats(ctx context.Context, i *whatisup.Instance, before string, most int) ([]whatisup.Chat, bool, error) {
	return c.Store.Chats(ctx, refOf(i), before, most)
}
