package session

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"whatisup/sessionhost/courier"
	"whatisup/sessionhost/line"
	"whatisup/sessionhost/outbox"
	"whatisup/sessionhost/waconv"
	"whatisup/shared/whatisup"
)

// handleWithin bounds the handling of one message.
const handleWithin = 15 * time.Second

// connection is the session's hold on a line.
type connection struct {
	Line
	forget func() // takes the tenure's end back
}

// open begins to connect with a device. The line is shut at once when the tenure
// is lost.
func (s *Session) open(device *line.Device) *connection {
	l := s.kit.Open(s.ctx, line.Options{
		Device: device, Ref: s.ref, Trusted: s.tenure.Trusted, Handler: handler{s, s.auth, s.account, s.out}, Settings: s.setting,
		File: s.file, Log: s.log, Background: &s.kit.Background,
	})
	c := &connection{Line: l, forget: s.tenure.OnLost(l.Shut)}
	s.line.Store(c)
	if err := s.auth.Err(); err != nil { // it failed before it could know of this line
		c.Fail(err)
	}
	return c
}

// end shuts the line for the session itself, which keeps no trace of it.
func (c *connection) end() {
	c.Shut()
	c.forget()
}

// handler decides for a line while the library waits. It runs on the library's
// goroutines, so of the session it uses only what never changes.
type handler struct {
	*Session
	auth    Auth // of the session when it opened the line, as are
	account *courier.Account
	outbox  *outbox.Outbox
}

// Received makes a row and an event of a message. The row is put where nothing
// stands under its chat, sender and id, so that a message has one event, whatever
// is delivered or encrypted again. Then the event goes to the queues, or is marked
// as owed to those that fail, and into the log and out of the buffer. Only then may
// the message be acknowledged. A message that can't be stored is delivered again;
// after some tries it has its ids alone, so that none can hold up those behind it.
func (h handler) Received(ctx context.Context, m line.Message) (err error) {
	d := m.Decoded
	if err := h.hearTimer(ctx, d); err != nil {
		return err
	}
	if d.Event == "" || !h.settings.Load().Receive.Takes(d.ChatType) {
		return nil
	}
	in, buffered := h.auth.Inbound(m.Part)
	if !buffered {
		// Channels, and what could not be read, don't pass the buffer.
		in.EventID = whatisup.NewEventID()
	}
	if h.spoilt.tries(in.EventID) >= triesOfMessage {
		h.log.Error("a message can't be stored; its event has its ids alone", "event_id", string(in.EventID))
		h.kit.Metrics.SetAside("log", "message")
		d = d.IDsAlone()
	}
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %T", p)
		}
		// An outage is no fault of the message.
		if err != nil && ctx.Err() == nil && !errors.Is(err, whatisup.ErrUnavailable) && !errors.Is(err, whatisup.ErrFenced) && !errors.Is(err, errFenced) {
			h.spoilt.add(in.EventID)
		}
	}()

	within, cancel := context.WithTimeout(ctx, handleWithin)
	defer cancel()
	if !h.tenure.Trusted() {
		return errFenced
	}
	name, data, file, err := h.keepReceived(within, d, m.Self, in.EventID)
	if err != nil || name == "" {
		return err
	}
	if file != nil {
		defer func() {
			if err == nil && file.Status == whatisup.MediaFetching {
				h.received.add(file.ID)
			}
		}()
	}
	e, err := whatisup.NewEvent(name, h.ref.Customer, h.ref.Mode, h.ref.ID, h.kit.Now(), data)
	if err != nil {
		return err
	}
	e.ID = in.EventID
	if buffered {
		err = h.hand(ctx, e, in)
	} else {
		err = h.await(ctx, e)
	}
	if err == nil && name == whatisup.MessageReceived {
		h.kit.Usage.Count(h.ref, whatisup.Usage{In: 1})
	}
	return err
}

// hearTimer takes up the chat's timer that a message says.
func (h handler) hearTimer(ctx context.Context, d *waconv.Decoded) error {
	if d.Timer == nil {
		return nil
	}
	if !h.tenure.Trusted() {
		return errFenced
	}
	ctx, cancel := context.WithTimeout(ctx, handleWithin)
	defer cancel()
	return h.timers.heard(ctx, d)
}

// hand has the event sent and written to the log. That has no end of its own: while the
// log takes no rows the message waits, unacknowledged, and the connection goes on.
func (h handler) hand(ctx context.Context, e whatisup.Event, in Inbound) error {
	return h.inTurn(ctx, e, func(ctx context.Context, send func(context.Context) error) error {
		return in.Keep(ctx, e, func(ctx context.Context) error {
			ctx, cancel := context.WithTimeout(ctx, handleWithin)
			defer cancel()
			return send(ctx)
		})
	})
}

// keepReceived puts the row of a message or of a change, and returns the event that
// is to be told, and the file that is to be fetched. The name is empty if it was told
// already, under another event id.
func (h handler) keepReceived(ctx context.Context, d *waconv.Decoded, self whatisup.Person, id whatisup.EventID) (whatisup.EventName, any, *whatisup.Media, error) {
	if d.FromMe && d.ID.IsOwn() {
		switch _, err := h.kit.Ledger.Message(ctx, h.ref, d.ID); {
		case err == nil:
			return "", nil, nil, nil // sent by this API
		case !errors.Is(err, whatisup.ErrNotFound):
			return "", nil, nil, err
		}
	}
	row, err := h.rowOf(d, id)
	if err != nil {
		return "", nil, nil, err
	}
	file := h.fileOf(d, row)
	if file != nil {
		row.Media = file.ID
	}
	old, err := h.kit.Incoming.KeepReceived(ctx, row)
	if err != nil {
		return "", nil, nil, err
	}

	name := d.Event
	switch {
	case old == nil, old.EventID == id && old.UpdatedBy == "":
		// New, or delivered again before it was acknowledged.
	case old.UpdatedBy == id:
		name = whatisup.MessageUpdated
		row.EventID, row.Times.Created = old.EventID, old.Times.Created
		file = h.fileOf(d, row)
	case old.Undecryptable() && !row.Undecryptable() && !row.Change:
		name = whatisup.MessageUpdated
		row.EventID, row.UpdatedBy, row.Times.Created = old.EventID, id, old.Times.Created
		if file = h.fileOf(d, row); file != nil {
			row.Media = file.ID
		}
		if err := h.kit.Incoming.UpdateReceived(ctx, row); err != nil {
			return "", nil, nil, err
		}
	default:
		return "", nil, nil, nil
	}
	if !d.FromMe && d.ChatType != whatisup.ChatGroup {
		h.outbox.Heard(d.From)
	}
	if d.Received != nil {
		if d.Received.Type == whatisup.BodyUnsupported {
			h.kit.Metrics.Unsupported(d.Received.Body.WhatsAppType)
		}
		if file != nil {
			// The key of the file is durable before its message is acknowledged.
			if err := h.kit.Files.Keep(ctx, file); err != nil {
				return "", nil, nil, err
			}
			d.Received.Media = h.kit.Files.Wire(file)
		}
		return name, d.Received, file, nil
	}
	data, err := h.changeOf(ctx, d, self)
	return name, data, nil, err
}

// rowOf is the row of what was received. It is received when it was first
// decrypted, so a repetition of its event says the same.
func (h handler) rowOf(d *waconv.Decoded, id whatisup.EventID) (*whatisup.Message, error) {
	at := id.Time()
	if d.Received != nil {
		d.Received.ReceivedAt = whatisup.At(at)
		row, err := d.Received.Row(h.ref, d.Chat, d.Peer, d.From, d.FromMe)
		if err == nil {
			row.EventID = id
			if h.settings.Load().ReadOnReceive {
				row.Times.Read = at
			}
		}
		return row, err
	}
	return &whatisup.Message{
		Ref: h.ref, ID: d.ID, Direction: whatisup.Incoming, Chat: d.Chat, ChatType: d.ChatType, From: d.From, FromMe: d.FromMe,
		Times: whatisup.MessageTimes{Created: at, Sent: d.SentAt}, Change: true, EventID: id,
	}, nil
}

// changeOf is the data of an edit, a revoke, a reaction or a vote.
func (h handler) changeOf(ctx context.Context, d *waconv.Decoded, self whatisup.Person) (any, error) {
	target, err := h.target(ctx, d, self)
	if err != nil {
		return nil, err
	}
	change := whatisup.ChangeData{
		MessageID: d.ID, Chat: string(d.Chat), ChatType: d.ChatType, Target: d.Target.Wire(),
		From: d.From.From(), FromMe: d.FromMe, SentAt: whatisup.At(d.SentAt),
	}
	if target != nil {
		may := d.MayChange()
		change.ByAuthor = &may
	}
	switch d.Event {
	case whatisup.MessageEdited:
		return whatisup.EditedData{ChangeData: change, Text: d.Text}, nil
	case whatisup.MessageRevoked:
		return whatisup.RevokedData{ChangeData: change}, nil
	case whatisup.MessageReaction:
		return whatisup.ReactionData{ChangeData: change, Emoji: d.Emoji}, nil
	}
	vote := whatisup.VotedData{ChangeData: change}
	var poll whatisup.Body
	if target != nil && d.Vote != nil && json.Unmarshal(target.Raw, &poll) == nil && poll.Type == whatisup.BodyPoll {
		vote.Options = waconv.Chosen(d.Vote, poll.Options)
	}
	return vote, nil
}

// target is the message that a change is about, nil if it is in no row.
func (h handler) target(ctx context.Context, d *waconv.Decoded, self whatisup.Person) (*whatisup.Message, error) {
	found := func(m *whatisup.Message, err error) (*whatisup.Message, error) {
		if errors.Is(err, whatisup.ErrNotFound) {
			return nil, nil
		}
		return m, err
	}
	author := d.Target.Author
	if d.Target.FromMe {
		if d.Target.ID.IsOwn() {
			m, err := found(h.kit.Ledger.Message(ctx, h.ref, d.Target.ID))
			if err != nil || m != nil && (m.Chat == d.Chat || m.To == d.Chat || d.Peer.Is(m.Recipient)) {
				return m, err
			}
		}
		author = self
	}
	if len(d.Target.ID) > whatisup.MaxReceivedID {
		return nil, nil
	}
	for _, from := range author.Chats() {
		for _, chat := range d.Chats() {
			if m, err := found(h.kit.Ledger.Received(ctx, h.ref, chat, from, d.Target.ID)); m != nil || err != nil {
				return m, err
			}
		}
	}
	return nil, nil
}

// triesOfMessage is how often a message is tried as it is.
const triesOfMessage = 3

// spoilt counts the tries of messages that could not be stored.
type spoilt struct {
	mu     sync.Mutex
	counts map[whatisup.EventID]int
}

func (s *spoilt) tries(id whatisup.EventID) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.counts[id]
}

// add counts one more. It forgets everything when there is too much of it: each
// message is then tried some times more.
func (s *spoilt) add(id whatisup.EventID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.counts == nil || len(s.counts) >= 1000 {
		s.counts = make(map[whatisup.EventID]int)
	}
	s.counts[id]++
}

// MayLink refuses the scan of an attempt that was given up meanwhile, which the
// phone shows. When the rows can't be read the scan goes on; a link that should
// not be is given up right after.
func (h handler) MayLink(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	i, err := h.kit.Store.Owned(ctx, h.ref)
	if err != nil {
		return !errors.Is(err, whatisup.ErrNotFound)
	}
	return i.DeletedAt.IsZero() && i.AttemptOpen()
}

// Linking: a link may be stored any moment.
func (h handler) Linking() { h.linking.Store(true) }

// scanOver: no scan is under way any more. A session that went on only for it
// ends.
func (s *Session) scanOver() {
	if s.linking.Swap(false) && s.owned.Err() != nil {
		s.stop()
	}
}
