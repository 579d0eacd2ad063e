package session

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"whatisup/sessionhost/courier"
	"whatisup/sessionhost/line"
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
		Device: device, Ref: s.ref, Trusted: s.tenure.Trusted, Handler: handler{s, s.auth, s.account}, Log: s.log, Background: &s.kit.Background,
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
	auth    Auth // of the session when it opened the line, as is
	account *courier.Account
}

// Received makes an event of a message: to the queues, or marked as owed to those
// that fail, then into the log and out of the buffer. Only then may it be
// acknowledged. A message that can't be stored is delivered again; after some tries
// its event has its ids alone, so that no message can hold up those behind it.
func (h handler) Received(ctx context.Context, m line.Message) (err error) {
	in, ok := h.auth.Inbound(m.Part)
	if !ok {
		// Unencrypted kinds of messages don't pass the buffer; none of them is
		// for the customer.
		return nil
	}
	data := m.Data
	if h.spoilt.tries(in.EventID) >= triesOfMessage {
		h.log.Error("a message can't be stored; its event has its ids alone", "event_id", string(in.EventID))
		h.kit.Metrics.SetAside("log", "message")
		data = unsupported(data)
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

	e, err := whatisup.NewEvent(whatisup.MessageReceived, h.ref.Customer, h.ref.Mode, h.ref.ID, time.Now(), data)
	if err != nil {
		return err
	}
	e.ID = in.EventID
	within, cancel := context.WithTimeout(ctx, handleWithin)
	defer cancel()
	if !h.tenure.Trusted() {
		return errFenced
	}
	return h.account.Keep(within, e, func(ctx context.Context) error { return in.Keep(ctx, e) })
}

// triesOfMessage is how often a message is tried as it is.
const triesOfMessage = 3

// unsupported is the data of a message that can't be stored: who wrote it, and
// when.
func unsupported(d whatisup.MessageData) whatisup.MessageData {
	return whatisup.MessageData{MessageID: d.MessageID, Chat: d.Chat, From: d.From, Type: "unsupported", ReceivedAt: d.ReceivedAt}
}

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
