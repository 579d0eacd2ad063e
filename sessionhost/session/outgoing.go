package session

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"time"

	"whatisup/sessionhost/courier"
	"whatisup/sessionhost/line"
	"whatisup/sessionhost/outbox"
	"whatisup/sessionhost/waconv"
	"whatisup/shared/whatisup"
)

// sender is an outbox's connection: the line, and the auth state that keeps each
// message's copy before its frame.
type sender struct {
	Line
	auth Auth
	log  *slog.Logger
}

func (c sender) Send(ctx context.Context, to waconv.JID, id whatisup.MessageID, m *waconv.Content, again *outbox.Copy) outbox.Outcome {
	attempt, err := c.auth.Sending(ctx, id, again)
	if err != nil {
		return outbox.Outcome{Err: err}
	}
	sent := c.Line.Send(attempt, to, id, m)
	if sent.Err == nil && sent.Refused == 0 {
		if err := c.auth.Acked(ctx, attempt); err != nil {
			// The devices of the group are given its key once more, which harms nothing.
			c.log.Warn("it is not noted who has a group's key", "error", err.Error())
		}
	}
	return outbox.Outcome{At: sent.At, Refused: sent.Refused, NoDevice: errors.Is(sent.Err, ErrNoRecipientDevice), Err: sent.Err}
}

// newOutbox is the outbox of the session's link, under its epoch.
func (s *Session) newOutbox() *outbox.Outbox {
	return outbox.New(outbox.Config{
		Ref: s.ref, Epoch: s.tenure.Epoch(),
		Ledger: s.kit.Ledger, Files: s.kit.Files, Copies: s.auth, Teller: teller{s.kit, s.ref, s.account}, Metrics: counting{s.kit, s.ref},
		Log: s.log, Trusted: s.tenure.Trusted, Changed: s.outChanged, Go: s.kit.Background.Go, Now: s.kit.Now, ClockOff: s.kit.ClockOff,
		Settings: s.setting, Timers: &s.timers,
		Stops: func() (all, newChats bool) {
			if s.kit.Stops == nil {
				return false, false
			}
			return s.kit.Stops(s.ref)
		},
		Restricted: func(r whatisup.Restriction) {
			if s.kit.Restricted != nil {
				s.kit.Restricted(s.ref.ID, r)
			}
		},
	})
}

// counting counts what becomes of an instance's messages.
type counting struct {
	*Kit
	ref whatisup.Ref
}

func (c counting) MessageEnded(status whatisup.MessageStatus, code whatisup.MessageCode) {
	c.Metrics.MessageEnded(status, code)
	switch status {
	case whatisup.MessageSent:
		c.Usage.Count(c.ref, whatisup.Usage{Out: 1})
	case whatisup.MessageFailed, whatisup.MessageExpired:
		c.Usage.Count(c.ref, whatisup.Usage{Failed: 1})
	}
}

func (c counting) MessageAcked(took time.Duration) { c.Metrics.MessageAcked(took) }

// teller makes events of messages.
type teller struct {
	kit     *Kit
	ref     whatisup.Ref
	account *courier.Account
}

func (t teller) Status(ctx context.Context, m *whatisup.Message, previous, all whatisup.MessageStatus) error {
	e, err := whatisup.StatusEvent(m, previous, all, t.kit.Now())
	if err != nil {
		return err
	}
	return t.tell(ctx, e)
}

func (t teller) Restricted(ctx context.Context, d whatisup.RestrictedData) error {
	e, err := whatisup.NewEvent(whatisup.InstanceRestricted, t.ref.Customer, t.ref.Mode, t.ref.ID, t.kit.Now(), d)
	if err != nil {
		return err
	}
	return t.tell(ctx, e)
}

// tell sends an event to the queues, or marks what fails as owed, and writes it to
// the log.
func (t teller) tell(ctx context.Context, e whatisup.Event) error {
	return t.account.Keep(ctx, e, func(ctx context.Context) error { return t.kit.EventLog.PutEvent(ctx, e) })
}

// await is tell, however long the log takes no rows: what WhatsApp says next waits
// behind it, and the connection goes on. It ends with ctx. The queues get the event
// once; a write whose answer is lost may leave it in the log twice, under one id.
func (h handler) await(ctx context.Context, e whatisup.Event) error {
	return h.inTurn(ctx, e, func(ctx context.Context, send func(context.Context) error) error {
		within := func(do func(context.Context) error) error {
			ctx, cancel := context.WithTimeout(ctx, handleWithin)
			defer cancel()
			return do(ctx)
		}
		if err := within(send); err != nil {
			return err
		}
		for pause := firstLogPause; ; pause = min(2*pause, lastLogPause) {
			err := within(func(ctx context.Context) error { return h.kit.EventLog.PutEvent(ctx, e) })
			if err == nil || errors.Is(err, whatisup.ErrRefused) {
				return err
			}
			select {
			case <-time.After(pause/2 + rand.N(pause)):
			case <-ctx.Done():
				return err
			}
		}
	})
}

// The time between two tries to write to a log that takes no rows.
const (
	firstLogPause = 100 * time.Millisecond
	lastLogPause  = 10 * time.Second
)

// inTurn hands over one event after another, in the order in which they came: the
// library goes on to the next message when one has waited for five minutes.
func (h handler) inTurn(ctx context.Context, e whatisup.Event, keep func(context.Context, func(context.Context) error) error) error {
	waits := time.AfterFunc(handleWithin, func() {
		h.log.Error("an event waits until the log of events takes rows", "event_id", string(e.ID))
		h.kit.Metrics.SetAside("log", "waits")
	})
	defer waits.Stop()
	if err := h.handing.Acquire(ctx, 1); err != nil {
		return err
	}
	defer h.handing.Release(1)
	return h.account.Hand(ctx, e, keep)
}

// Receipt moves messages of ours forward. It returns after the rows are written,
// and only then is the receipt acknowledged.
func (h handler) Receipt(ctx context.Context, r line.Receipt) error {
	ctx, cancel := context.WithTimeout(ctx, handleWithin)
	defer cancel()
	return h.outbox.Receipt(ctx, outbox.Receipt{IDs: r.IDs, Status: r.Status, Group: r.Group, By: r.By, At: r.At})
}

// MembersLeft makes a new key of a group, so that who has left can't read on.
func (h handler) MembersLeft(ctx context.Context, group, own waconv.JID) error {
	ctx, cancel := context.WithTimeout(ctx, handleWithin)
	defer cancel()
	return h.auth.RenewKey(ctx, group, own)
}

// GroupNamed keeps the name of a group for the list of chats.
func (h handler) GroupNamed(ctx context.Context, group waconv.JID, name string) (kept string, err error) {
	ctx, cancel := context.WithTimeout(ctx, handleWithin)
	defer cancel()
	return h.kit.Chats.KeepGroupName(ctx, h.ref, whatisup.GroupAddress(group.User), name)
}

// AskedAgain: the device gets the key with the next message, too.
func (h handler) AskedAgain(ctx context.Context, group, device waconv.JID) {
	ctx, cancel := context.WithTimeout(ctx, handleWithin)
	defer cancel()
	if err := h.auth.ForgetKey(ctx, group, device); err != nil {
		h.log.Warn("a device that asked for a message again is not given the group's key anew", "error", err.Error())
	}
}

// Histories are what the phone has told of, see [Auth].
func (h handler) Histories() []line.History { return h.auth.Histories() }

// HistoryTried notes a try to read one.
func (h handler) HistoryTried(ctx context.Context, id string) (int, error) {
	return h.auth.HistoryTried(ctx, id)
}

// HistoryRead forgets one.
func (h handler) HistoryRead(ctx context.Context, id string) error {
	return h.auth.HistoryRead(ctx, id)
}

// Restricted lets the outbox know, and tell, of a restriction.
func (h handler) Restricted(ctx context.Context, d whatisup.RestrictedData) error {
	ctx, cancel := context.WithTimeout(ctx, handleWithin)
	defer cancel()
	return h.outbox.Restricted(ctx, d)
}

// outChanged makes wait look at the outbox's time again.
func (s *Session) outChanged() {
	select {
	case s.turned <- struct{}{}:
	default:
	}
}

// tidyMessages stays with an instance that has nothing to do but messages that
// wait, as those of one that was stopped: they expire, or are cancelled. It says
// whether the duties are to be looked at again.
func (s *Session) tidyMessages(ctx context.Context) (again bool, err error) {
	s.out.Work(ctx)
	for !s.out.Idle() {
		got, err := s.wait(ctx, time.Time{}, nil, nil)
		if err != nil {
			return false, err
		}
		if _, ok := got.(changed); ok {
			return true, nil
		}
	}
	return false, nil
}
