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
	result, err := c.commandAndWait(ctx, who, i, kind, id, encoded)
	if err != nil {
		return nil, err
	}
	if result.Error != "" {
		return nil, whatisup.NewError(result.Error, result.Message)
	}
	return result, nil
}

// commandAndWait sends a command that carries work. The command expires when
// nobody waits for it any more: what was answered as failed must not happen
// later.
func (c *Control) commandAndWait(ctx context.Context, who Caller, i *whatisup.Instance, kind whatisup.CommandKind, id whatisup.CommandID, args json.RawMessage) (*whatisup.Result, error) {
	until := c.waitUntil(ctx, who)
	sending, cancel := context.WithTimeout(ctx, until.Sub(c.Now()))
	defer cancel()
	err := c.Commands.Send(sending, i.Shard, whatisup.Command{
		ID: id, Kind: kind, Customer: i.Config.Customer, Mode: i.Config.Mode, Instance: i.Config.ID,
		RequestID: who.Request, SentAt: whatisup.At(c.Now()), ExpiresAt: whatisup.At(until), Args: args,
	})
	if err != nil {
		return nil, err
	}
	var result *whatisup.Result
	err = c.Wait(ctx, who, until, true, func(ctx context.Context) (done bool, err error) {
		result, err = c.Store.Result(ctx, id)
		return result != nil, err
	})
	if errors.Is(err, ErrOver) {
		return nil, ErrNoHost.With("reason", whatisup.NoSessionHost)
	}
	return result, err
}
