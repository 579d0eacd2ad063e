package control

import (
	"context"
	"encoding/json"
	"errors"

	"whatisup/shared/whatisup"
)

// connected refuses a call that needs a connection where there is none.
func (c *Control) connected(ctx context.Context, i *whatisup.Instance) error {
	if i.Config.Mode == whatisup.Test && !c.Sandbox {
		return ErrNoHost.With("reason", "no_sandbox")
	}
	shown, err := c.Show(ctx, i)
	if err != nil {
		return err
	}
	if shown.Shown.Status != whatisup.Connected {
		return notConnected(shown.Shown)
	}
	return nil
}

func notConnected(shown whatisup.Shown) error {
	e := transition("The instance is not connected.", shown)
	e.Code = whatisup.CodeNotConnected
	return e
}

// Ask has the instance's session ask WhatsApp something, or change something
// there, and waits for the answer. A change is named, so that no repetition of the
// request makes it twice.
//
// A change that was not begun when the wait is over is called off: it will not be
// made, and the error says why it was not. One that was begun and has no outcome is
// ErrOutcomeUnknown.
func (c *Control) Ask(ctx context.Context, who Caller, i *whatisup.Instance, kind whatisup.CommandKind, change whatisup.ChangeID, args any) (json.RawMessage, error) {
	if err := c.connected(ctx, i); err != nil {
		return nil, err
	}
	encoded, err := json.Marshal(args)
	if err != nil {
		return nil, err
	}
	until := c.waitUntil(ctx, who)
	command := whatisup.Command{
		ID: whatisup.NewCommandID(), Kind: kind, Customer: i.Config.Customer, Mode: i.Config.Mode, Instance: i.Config.ID,
		RequestID: who.Request, SentAt: whatisup.At(c.Now()), ExpiresAt: whatisup.At(until), Args: encoded,
	}
	if kind.Changes() {
		command.Change = change
	}

	// The command is sent once there is a slot to wait in: what was refused must not
	// happen later.
	var result *whatisup.Result
	sent := false
	err = c.Wait(ctx, who, until, true, func(ctx context.Context) (bool, error) {
		if !sent {
			sent = true
			return false, c.Commands.Send(ctx, i.Shard, command)
		}
		var err error
		result, err = c.Store.Result(ctx, command.ID)
		return result != nil, err
	})
	switch {
	case err != nil && !sent:
		return nil, err
	case err != nil && kind.Changes():
		return c.settle(ctx, who, i, &command, err)
	case errors.Is(err, ErrOver):
		return nil, c.unanswered(ctx, i)
	case err != nil:
		return nil, err
	case result.Error != "":
		return nil, refused(result)
	}
	return result.Answer, nil
}

// settle ends the wait for a change: it is called off, or was begun.
func (c *Control) settle(ctx context.Context, who Caller, i *whatisup.Instance, command *whatisup.Command, cause error) (json.RawMessage, error) {
	settling, cancel := context.WithTimeout(context.WithoutCancel(ctx), freeFor)
	defer cancel()
	begun, err := c.Store.CallOffChange(settling, command.Change, command.ID)
	switch {
	case err != nil:
		who.Log.Warn("change not called off", "error", err)
		return nil, ErrOutcomeUnknown.Because(err)
	case begun == nil && errors.Is(cause, ErrOver):
		return nil, c.unanswered(settling, i)
	case begun == nil:
		return nil, cause
	case begun.State == whatisup.ChangeMade:
		return begun.Answer, nil
	}
	return nil, ErrOutcomeUnknown
}

// unanswered says why nobody has answered.
func (c *Control) unanswered(ctx context.Context, i *whatisup.Instance) error {
	owner, err := c.owner(ctx, i.Config.Mode, i.Shard)
	if err != nil {
		return err
	}
	if c.Now().Sub(owner.Seen) > whatisup.OwnerLost {
		return ErrNoHost.With("reason", whatisup.NoSessionHost)
	}
	return ErrNoAnswer.With("reason", whatisup.Network)
}

// refused is the error of a command that its host did not run, or WhatsApp refused.
func refused(r *whatisup.Result) error {
	switch r.Error {
	case whatisup.CodeOutcomeUnknown:
		return ErrOutcomeUnknown
	case whatisup.CodeWhatsAppUnreachable:
		return ErrNoAnswer.With("reason", whatisup.Network)
	case whatisup.CodeUnavailable:
		return ErrNoHost.With("reason", whatisup.NoSessionHost)
	}
	e := whatisup.NewError(r.Error, r.Message)
	if len(r.Answer) > 0 {
		if err := json.Unmarshal(r.Answer, &e.Details); err != nil {
			return err
		}
	}
	return e
}
