package httpapi

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/google/uuid"

	"whatisup/shared/whatisup"
)

// Integration carries out the commands of the queue integration-commands: the
// same as the HTTP calls of their names, for whoever may send to the queue.
type Integration struct{ api *API }

// Integration returns the handler of the queue.
func (a *API) Integration() *Integration { return &Integration{a} }

// IntegrationCommands are the commands that the queue takes.
var IntegrationCommands = []string{"create", "connect", "disconnect", "logout", "delete"}

// integrationCommand is a message of the queue, taken apart.
type integrationCommand struct {
	id       whatisup.CommandID
	name     string
	customer whatisup.CustomerID
	mode     whatisup.Mode
	instance string
	title    string
	metadata json.RawMessage
}

// Carry carries one message out. An error means that it can be carried out
// later, and should be delivered again. What can't be carried out ever is
// answered by an event; so is what nobody could be told of, in the log of the
// function alone: neither comes back.
func (in *Integration) Carry(ctx context.Context, message []byte) error {
	c := &call{API: in.api, ctx: ctx, began: in.api.now(), log: in.api.Log}
	cmd, problem := parseCommand(message)
	c.log = c.log.With("command_id", string(cmd.id), "command", cmd.name)
	if cmd.customer == "" || !cmd.mode.Valid() {
		c.log.Error("integration command without a customer dropped", "error", problem)
		return nil
	}
	customer, err := c.Store.Customer(ctx, cmd.customer)
	if errors.Is(err, whatisup.ErrNotFound) {
		c.log.Error("integration command of an unknown customer dropped", "customer_id", string(cmd.customer))
		return nil
	}
	if err != nil {
		return err
	}
	c.caller = caller{customer: customer, key: whatisup.APIKey{Customer: cmd.customer, Mode: cmd.mode}}
	c.log = c.log.With("customer_id", string(cmd.customer), "mode", string(cmd.mode))
	c.id = whatisup.RequestOf(cmd.id)
	if problem == nil {
		problem, err = c.integrate(cmd, message)
		if err != nil {
			c.log.Error("integration command put back", "error", err)
			return err
		}
	}
	if problem == nil {
		c.log.Info("integration command carried out")
		return nil
	}
	c.log.Info("integration command refused", "code", string(whatisup.ErrorCode(problem)))
	return c.refuse(cmd, message, problem)
}

// parseCommand takes a message apart. What could be read is answered also with
// an error, so that the refusal finds its customer.
func parseCommand(message []byte) (integrationCommand, error) {
	var cmd integrationCommand
	if len(message) > maxBody {
		return cmd, errTooLarge
	}
	b, err := parseBody(message)
	if err != nil {
		return cmd, err
	}
	if s, ok := b.text("customer_id", true); ok {
		if cmd.customer, ok = whatisup.ParseCustomerID(s); !ok {
			cmd.customer = ""
			b.problem("customer_id", "must be a customer's id")
		}
	}
	if s, ok := b.text("mode", true); ok {
		if cmd.mode = whatisup.Mode(s); !cmd.mode.Valid() {
			b.problem("mode", "must be live or test")
		}
	}
	if s, ok := b.text("command_id", true); ok {
		if !printable(s, 128) {
			b.problem("command_id", "must be 1 to 128 printable ASCII characters")
		} else {
			cmd.id = whatisup.CommandID(s)
		}
	}
	if s, ok := b.text("command", true); ok {
		if !slices.Contains(IntegrationCommands, s) {
			b.problem("command", "must be one of "+join(IntegrationCommands))
		} else {
			cmd.name = s
		}
	}
	switch cmd.name {
	case "create":
		cmd.title, _ = b.name(true)
		cmd.metadata, _ = b.metadata()
	case "":
		b.used = append(b.used, "instance_id", "name", "metadata")
	default:
		cmd.instance, _ = b.text("instance_id", true)
	}
	return cmd, b.done()
}

func printable(s string, most int) bool {
	if len(s) < 1 || len(s) > most {
		return false
	}
	for i := range len(s) {
		if s[i] < 0x20 || s[i] > 0x7e {
			return false
		}
	}
	return true
}

// integrate carries a command out under the record of its id, so that it happens
// once however often it is delivered. problem is what the customer is told.
func (c *call) integrate(cmd integrationCommand, message []byte) (problem, err error) {
	if c.caller.customer.Suspended {
		return errSuspended, nil
	}
	key := sha256.Sum256(fmt.Appendf(nil, "integration\x00%s\x00%s\x00%s", cmd.customer, cmd.mode, cmd.id))
	print := sha256.Sum256(message)
	o := &once{c: c, record: whatisup.Once{
		Key: hex.EncodeToString(key[:]), Claim: uuid.NewString(), Print: print[:],
		ExpiresAt: c.now().Add(onceKept),
	}}
	there, err := c.Store.Claim(c.ctx, o.record, c.now().Add(claimFor))
	if err != nil {
		return nil, err
	}
	if there != nil {
		switch {
		case string(there.Print) != string(print[:]):
			return whatisup.NewError(whatisup.CodeIdempotencyConflict, "This command_id was used for another command."), nil
		case len(there.Answer) > 0:
			return nil, nil // carried out before
		}
		return nil, errors.New("the same command is being carried out")
	}
	err = c.carry(cmd, o)
	if e, ok := errors.AsType[*whatisup.Error](err); ok && e.Code != whatisup.CodeInternal {
		// The refusal is the outcome; a repetition gets its event again.
		if err := c.Store.Abandon(c.ctx, o.record); err != nil {
			return nil, err
		}
		return e, nil
	}
	if err != nil {
		if err := c.Store.Abandon(c.ctx, o.record); err != nil {
			c.log.Warn("claim not given back", "error", err)
		}
		return nil, err
	}
	if !o.completed {
		record, err := o.with(nil)
		if err == nil {
			err = c.Store.Complete(c.ctx, *record)
		}
		return nil, err
	}
	return nil, nil
}

func (c *call) carry(cmd integrationCommand, o *once) error {
	if cmd.name == "create" {
		_, err := c.create(cmd.title, cmd.metadata, cmd.id, o)
		return err
	}
	var err error
	if c.instance, err = c.find(cmd.instance); err != nil {
		return err
	}
	switch cmd.name {
	case "connect":
		_, err = c.connect(o)
	case "disconnect":
		_, err = c.disconnect(o)
	case "logout":
		_, err = c.logout(o)
	case "delete":
		_, err = c.remove(cmd.id, o)
	}
	return err
}

// refuse answers a command by an event, on the queues and then in the log. Its
// id is made of the message, so that a repetition is the same event.
func (c *call) refuse(cmd integrationCommand, message []byte, problem error) error {
	id, ok := whatisup.ParseInstanceID(cmd.instance)
	if !ok {
		id = ""
	}
	e, err := c.event(whatisup.CommandRefused, id, whatisup.RefusedData{Command: cmd.name, Error: errorJSON(problem)})
	if err != nil {
		return err
	}
	e.ID = whatisup.EventID(uuid.NewSHA1(uuid.NameSpaceOID, fmt.Appendf(nil, "refused\x00%s\x00%s",
		whatisup.ErrorCode(problem), message)).String())
	e.Command = cmd.id
	if c.Events != nil {
		if err := c.Events.Send(c.ctx, e); err != nil {
			return err
		}
	}
	return c.Store.PutEvent(c.ctx, e)
}
