package line

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"time"

	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/types/events"

	"whatisup/sessionhost/waconv"
	"whatisup/shared/whatisup"
)

// ackWithin is how long WhatsApp may take to acknowledge a message. Then the
// connection counts as dead.
const ackWithin = 30 * time.Second

// Sent is what came of a send. Without an error WhatsApp's server has the message.
type Sent struct {
	At      time.Time // WhatsApp's time
	Refused int       // WhatsApp's code; 0: it refused nothing
	Err     error     // no answer
}

// Send sends one message and waits for WhatsApp's answer. Nothing cuts the wait
// short from above: if it ends early, by a context or the library's own timeout,
// the library may write to a channel that it has closed, which ends the process.
// So ctx must not end before the connection does, and a connection that does not
// answer in time is shut, which ends the wait from below.
func (l *Line) Send(ctx context.Context, to waconv.JID, id whatisup.MessageID, m *waconv.Content) Sent {
	watchdog := time.AfterFunc(ackWithin, func() { l.end(Ended{Cause: Silent}) })
	defer watchdog.Stop()
	answer, err := l.cli.SendMessage(ctx, to, m, whatsmeow.SendRequestExtra{ID: string(id), Timeout: -1})
	if errors.Is(err, whatsmeow.ErrServerReturnedError) {
		return Sent{Refused: codeOf(err)}
	}
	return Sent{At: precise(answer.Timestamp), Err: err}
}

// precise is a time of WhatsApp's, which has whole seconds, to the millisecond
// where it is of just now: else a message would be read before it was queued.
func precise(t time.Time) time.Time {
	if now := time.Now(); now.Sub(t).Abs() < 2*time.Second {
		return now
	}
	return t
}

// codeOf is WhatsApp's code in the library's error, which has it in its text only.
func codeOf(err error) int {
	words := strings.Fields(err.Error())
	code, parseErr := strconv.Atoi(words[len(words)-1])
	if parseErr != nil {
		return -1
	}
	return code
}

// resolveWithin bounds the question who has a number.
const resolveWithin = 20 * time.Second

// Resolve asks WhatsApp who has a number, unless it is known already; found is
// false if nobody has it. WhatsApp alone normalises: the number that it answers
// may be another spelling than the one that was asked for.
func (l *Line) Resolve(ctx context.Context, n whatisup.PhoneNumber) (p whatisup.Person, found bool, err error) {
	asked := types.NewJID(string(n), types.DefaultUserServer)
	if lid, err := l.device.LIDs.GetLIDForPN(ctx, asked); err == nil && !lid.IsEmpty() {
		return whatisup.Person{PhoneNumber: n, LID: lid.User}, true, nil
	}

	ctx, cancel := context.WithTimeout(ctx, resolveWithin)
	defer cancel()
	answers, err := l.cli.IsOnWhatsApp(ctx, []string{"+" + string(n)})
	if err != nil {
		return p, false, redact(err)
	}
	for _, a := range answers {
		if a.IsIn {
			p = waconv.Person(nil, "", a.JID, a.PhoneNumber)
			l.learnt(n, p)
			return p, true, nil
		}
	}
	return p, false, nil
}

// Typing shows the recipient that somebody writes, or has stopped.
func (l *Line) Typing(ctx context.Context, to waconv.JID, on bool) error {
	state := types.ChatPresencePaused
	if on {
		state = types.ChatPresenceComposing
	}
	return redact(l.cli.SendChatPresence(ctx, to, state, types.ChatPresenceMediaText))
}

// Self is the number's own address.
func (l *Line) Self(byLID bool) waconv.JID {
	if byLID {
		return l.device.GetLID().ToNonAD()
	}
	return l.device.GetJID().ToNonAD()
}

// Receipt tells how far messages of ours have come.
type Receipt struct {
	IDs    []whatisup.MessageID
	Status whatisup.MessageStatus
	Group  bool
	By     whatisup.Person
	At     time.Time
}

// receiptOf is the receipt of another person's device for messages of ours; ok is
// false for the others: those of our own devices, the requests to send again
// (which the library answers), and housekeeping.
func receiptOf(r *events.Receipt) (receipt Receipt, ok bool) {
	switch r.Type {
	case types.ReceiptTypeDelivered, types.ReceiptTypeInactive:
		// A linked device in the background has decrypted the message too.
		receipt.Status = whatisup.MessageDelivered
	case types.ReceiptTypeRead:
		receipt.Status = whatisup.MessageRead
	case types.ReceiptTypePlayed:
		receipt.Status = whatisup.MessagePlayed
	default:
		return receipt, false
	}
	if r.IsFromMe {
		return receipt, false
	}
	for _, id := range r.MessageIDs {
		if mid := whatisup.MessageID(id); mid.IsOwn() {
			receipt.IDs = append(receipt.IDs, mid)
		}
	}
	receipt.Group, receipt.At = r.IsGroup, precise(r.Timestamp)
	receipt.By = waconv.Person(nil, "", r.Sender, r.SenderAlt)
	return receipt, len(receipt.IDs) > 0
}
