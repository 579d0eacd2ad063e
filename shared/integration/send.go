package integration

import (
	"crypto/sha256"
	"errors"
	"time"

	"whatisup/shared/control"
	"whatisup/shared/whatisup"
)

// sendWithin is how long a send may have been in the queue. What was written for a
// moment that is long over would surprise its recipient.
const sendWithin = time.Hour

var errSendTooLate = whatisup.NewError(whatisup.CodeInvalidRequest, "The command was in the queue for more than an hour.")

// send accepts a message. Its id follows from the command's, and its row is the
// record: the same command_id never sends twice as long as the row lives, which is 30
// days at least. So it needs no claim, and a command that is refused now (refused is
// what its fields show) was accepted if there is a row.
func (d *delivery) send(refused error) (problem, err error) {
	cmd := &d.command
	if cmd.id == "" || cmd.instance == "" {
		return refused, nil
	}
	print := sha256.Sum256(append([]byte("message\x00"), cmd.asked...))
	once := control.Once{Name: "command\x00" + string(cmd.id), Print: print[:16]}
	i, err := d.Control.Find(d.ctx, d.who, cmd.instance)
	if err != nil {
		return told(err)
	}
	if refused == nil && !d.sent.IsZero() && d.Control.Now().Sub(d.sent) > sendWithin {
		refused = errSendTooLate
	}
	if refused != nil {
		s, err := d.Control.Accepted(d.ctx, i, once)
		if errors.Is(err, whatisup.ErrNotFound) {
			return refused, nil
		}
		if err != nil {
			return told(err)
		}
		return nil, d.accepted(s)
	}
	s, err := d.Control.Send(d.ctx, d.who, i, cmd.send, once)
	if err != nil {
		return told(err)
	}
	return nil, d.accepted(s)
}

// told separates what the customer is told from what is tried again.
func told(err error) (problem, again error) {
	if e, ok := errors.AsType[*whatisup.Error](err); ok && e.Code != whatisup.CodeInternal && e.Code != whatisup.CodeUnavailable {
		return e, nil
	}
	return nil, err
}

// accepted tells that the message waits. A repetition tells it again, as the same
// event: the delivery before may have ended between the row and the event.
func (d *delivery) accepted(s control.Sent) error {
	m := *s.Message
	m.Status = whatisup.MessageQueued
	if !m.Times.Scheduled.IsZero() {
		m.Status = whatisup.MessageScheduled
	}
	m.StatusAt = m.Times.Created
	m.Times = whatisup.MessageTimes{Created: m.Times.Created, Scheduled: m.Times.Scheduled, Queued: m.Times.Queued}
	if m.Status == whatisup.MessageScheduled {
		m.Times.Queued = time.Time{}
	}
	m.Error, m.MayHaveBeenSent, m.Attempts, m.Recipients = nil, false, 0, nil
	data := m.Wire(s.Connected)
	data.Body = nil
	e, err := d.Control.Event(d.who, whatisup.MessageStatusChanged, m.Ref.ID, data)
	if err != nil {
		return err
	}
	e.ID = whatisup.StepEventID(m.Ref.ID, m.ID, m.Status, m.Times.Created)
	return d.tell(e)
}
