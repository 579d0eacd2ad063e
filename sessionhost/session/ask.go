package session

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"whatisup/sessionhost/line"
	"whatisup/shared/whatisup"
)

// Changes records the changes that instances ask WhatsApp for.
type Changes interface {
	// BeginChange records that a try of a change is about to be sent, unless a try
	// before has begun it, or this one was called off: then nothing is written, and
	// that record is returned.
	BeginChange(ctx context.Context, id whatisup.ChangeID, try whatisup.CommandID) (before *whatisup.Change, err error)
	// EndChange records what has become of the change.
	EndChange(ctx context.Context, id whatisup.ChangeID, c whatisup.Change) error
}

const (
	// answerBy is how long before the end of the caller's wait a command gives up
	// on WhatsApp, so that its result still gets there in time.
	answerBy = 700 * time.Millisecond
	// recordWithin bounds the record of a change's outcome.
	recordWithin = 3 * time.Second
)

var (
	errUnreachable    = whatisup.NewError(whatisup.CodeWhatsAppUnreachable, "WhatsApp has not answered.")
	errOutcomeUnknown = whatisup.NewError(whatisup.CodeOutcomeUnknown, "The change was sent to WhatsApp, and no answer came.")
	errTooLate        = whatisup.NewError(whatisup.CodeUnavailable, "The command came too late to be sent.")
)

// Asker is the performer of [whatisup.Asks].
//
// A command that only asks may run any number of times. A change is recorded before
// its stanza leaves. Whoever finds it begun does not send it again: it was sent, or
// its host died just before, and nobody can tell. A change that WhatsApp refused
// may be tried again by another command.
func Asker(changes Changes) Performer {
	return func(ctx context.Context, l Line, c *whatisup.Command) (whatisup.Result, error) {
		if !c.ExpiresAt.IsZero() {
			var cancel context.CancelFunc
			ctx, cancel = context.WithDeadline(ctx, c.ExpiresAt.Add(-answerBy))
			defer cancel()
		}
		if c.Kind.Changes() {
			return change(ctx, changes, l, c)
		}
		answer, err := l.Ask(ctx, c.Kind, c.Args)
		if errors.Is(err, line.ErrNoAnswer) {
			err = errUnreachable
		}
		return resultOf(answer, err)
	}
}

func change(ctx context.Context, changes Changes, l Line, c *whatisup.Command) (whatisup.Result, error) {
	if ctx.Err() != nil {
		return whatisup.Result{}, errTooLate
	}
	before, err := changes.BeginChange(ctx, c.Change, c.ID)
	if err != nil {
		return whatisup.Result{}, err // nothing was sent: it may come again
	}
	if before != nil {
		switch before.State {
		case whatisup.ChangeMade:
			return whatisup.Result{Answer: before.Answer}, nil
		case whatisup.ChangeOff:
			return whatisup.Result{}, errTooLate
		}
		return whatisup.Result{}, errOutcomeUnknown
	}

	answer, err := l.Ask(ctx, c.Kind, c.Args)
	if errors.Is(err, line.ErrNoAnswer) {
		return whatisup.Result{}, errOutcomeUnknown
	}
	end := whatisup.Change{State: whatisup.ChangeMade, Command: c.ID, Answer: answer}
	if err != nil {
		end = whatisup.Change{State: whatisup.ChangeOff, Command: c.ID}
	}
	recording, cancel := context.WithTimeout(context.WithoutCancel(ctx), recordWithin)
	defer cancel()
	if endErr := changes.EndChange(recording, c.Change, end); endErr != nil && err == nil {
		// The caller learns that it was made; a repetition will be told that nobody
		// knows.
		return whatisup.Result{Answer: answer}, nil
	}
	return resultOf(answer, err)
}

// resultOf is the result of a command, with the details of a refusal as its answer.
func resultOf(answer json.RawMessage, err error) (whatisup.Result, error) {
	refused, ok := errors.AsType[*whatisup.Error](err)
	if !ok {
		return whatisup.Result{Answer: answer}, err
	}
	r := whatisup.Result{Error: refused.Code, Message: refused.Message}
	if len(refused.Details) > 0 {
		var encodeErr error
		if r.Answer, encodeErr = json.Marshal(refused.Details); encodeErr != nil {
			return whatisup.Result{}, encodeErr
		}
	}
	return r, nil
}
