package session

import (
	"context"
	"errors"
	"time"

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
		Device: device, Ref: s.ref, Trusted: s.tenure.Trusted, Handler: handler{s, s.auth}, Log: s.log, Background: &s.kit.Background,
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
	auth Auth // of the session when it opened the line
}

// Received makes an event of a message: on the queues first, then in the log and
// out of the buffer. Only then may it be acknowledged.
func (h handler) Received(ctx context.Context, m line.Message) error {
	in, ok := h.auth.Inbound(m.Part)
	if !ok {
		// Unencrypted kinds of messages don't pass the buffer; none of them is
		// for the customer.
		return nil
	}
	e, err := whatisup.NewEvent(whatisup.MessageReceived, h.ref.Customer, h.ref.Mode, h.ref.ID, time.Now(), m.Data)
	if err != nil {
		return err
	}
	e.ID = in.EventID
	ctx, cancel := context.WithTimeout(ctx, handleWithin)
	defer cancel()
	if !h.tenure.Trusted() {
		return errFenced
	}
	if err := h.kit.Events.Send(ctx, e); err != nil {
		return err
	}
	if err := in.Keep(ctx, e); err != nil {
		return err
	}
	h.kit.Metrics.EventSent(time.Since(m.SentAt))
	return nil
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
