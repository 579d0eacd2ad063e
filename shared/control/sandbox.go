package control

import (
	"context"
	"encoding/json"
	"errors"

	"whatisup/shared/whatisup"
)

// Phone asks the sandbox's host to act as the person who holds a simulated
// phone, and waits for the outcome. id names the command: a repetition of the
// request has the same one.
func (c *Control) Phone(ctx context.Context, who Caller, i *whatisup.Instance, kind whatisup.CommandKind, id whatisup.CommandID, args whatisup.SandboxArgs) (*whatisup.Result, error) {
	if !c.Sandbox {
		return nil, ErrNoHost.With("reason", "no_sandbox")
	}
	encoded, err := json.Marshal(args)
	if err != nil {
		return nil, err
	}
	return c.commandAndWait(ctx, who, i.Shard, whatisup.Command{ID: id, Kind: kind, Instance: i.Config.ID, Args: encoded})
}

// AskPhones makes a call about the phones of the customer's world, of which the
// sandbox's host keeps one simulator for everybody, and decodes its answer. id
// names the command, as for Phone.
func (c *Control) AskPhones(ctx context.Context, who Caller, id whatisup.CommandID, call whatisup.PhoneCall, answer any) error {
	if !c.Sandbox {
		return ErrNoHost.With("reason", "no_sandbox")
	}
	encoded, err := json.Marshal(whatisup.SandboxArgs{Call: &call})
	if err != nil {
		return err
	}
	result, err := c.commandAndWait(ctx, who, c.Store.WorldShard(who.Customer.ID),
		whatisup.Command{ID: id, Kind: whatisup.SandboxPhone, Args: encoded})
	if err != nil {
		return err
	}
	return json.Unmarshal(result.Answer, answer)
}

// commandAndWait sends a command that carries work, and waits for its result; one
// that was refused is an error. The command expires when nobody waits for it any
// more: what was answered as failed must not happen later.
func (c *Control) commandAndWait(ctx context.Context, who Caller, shard whatisup.Shard, cmd whatisup.Command) (*whatisup.Result, error) {
	until := c.waitUntil(ctx, who)
	cmd.Customer, cmd.Mode, cmd.RequestID = who.Customer.ID, who.Mode, who.Request
	cmd.SentAt, cmd.ExpiresAt = whatisup.At(c.Now()), whatisup.At(until)
	// The command is sent once there is a slot to wait in: what was refused must not
	// happen later.
	var result *whatisup.Result
	sent := false
	err := c.Wait(ctx, who, until, true, func(ctx context.Context) (done bool, err error) {
		if !sent {
			sent = true
			return false, c.Commands.Send(ctx, shard, cmd)
		}
		result, err = c.Store.Result(ctx, cmd.ID)
		return result != nil, err
	})
	switch {
	case errors.Is(err, ErrOver):
		return nil, ErrNoHost.With("reason", whatisup.NoSessionHost)
	case err != nil:
		return nil, err
	case result.Error != "":
		return nil, whatisup.NewError(result.Error, result.Message)
	}
	return result, nil
}
