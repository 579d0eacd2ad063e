package httpapi

import (
	"context"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"net/http"
	"slices"
	"unicode/utf8"

	"whatisup/shared/whatisup"
)

// SandboxFunction is the handler of the simulated phones.
func (a *API) SandboxFunction() http.Handler {
	return &function{a, FunctionSandbox, map[string]operation{
		"sandboxScan":      sandboxScan,
		"sandboxEnterCode": sandboxEnterCode,
		"sandboxUnlink":    sandboxUnlink,
		"sandboxMessage":   sandboxMessage,
		"sandboxFault":     sandboxFault,
	}}
}

// Faults are the kinds of fault that can be asked for.
var Faults = []string{"drop", "replaced", "banned", "outdated", "unreachable", "silent", "passkey"}

const (
	maxText         = 4096 // characters
	maxFaultSeconds = 3600
)

func sandboxScan(c *call) (*answer, error) {
	return c.sandbox(whatisup.SandboxScan, func(b *body, args *whatisup.SandboxArgs) {
		args.PhoneNumber = phoneOr(b, c.instance.Config.ID)
	})
}

func sandboxEnterCode(c *call) (*answer, error) {
	return c.sandbox(whatisup.SandboxEnterCode, func(b *body, args *whatisup.SandboxArgs) {
		var ok bool
		if args.Code, ok = b.text("code", true); ok && (args.Code == "" || len(args.Code) > 32) {
			b.problem("code", "must be a pair code as it was given")
		}
		args.PhoneNumber = phoneOr(b, c.instance.Config.ID)
	})
}

func sandboxUnlink(c *call) (*answer, error) {
	return c.sandbox(whatisup.SandboxUnlink, func(*body, *whatisup.SandboxArgs) {})
}

func sandboxMessage(c *call) (*answer, error) {
	return c.sandbox(whatisup.SandboxMessage, func(b *body, args *whatisup.SandboxArgs) {
		from, _ := b.phone("from", true)
		args.From = string(from)
		text, ok := b.text("text", true)
		switch args.Text = text; {
		case !ok:
		case text == "":
			b.problem("text", "must not be empty")
		case utf8.RuneCountInString(text) > maxText:
			b.problem("text", fmt.Sprintf("must have at most %d characters", maxText))
		}
	})
}

func sandboxFault(c *call) (*answer, error) {
	return c.sandbox(whatisup.SandboxFault, func(b *body, args *whatisup.SandboxArgs) {
		kind, ok := b.text("kind", true)
		if ok && !slices.Contains(Faults, kind) {
			b.problem("kind", "must be one of "+join(Faults))
		}
		args.Fault = kind
		v, ok := b.take("seconds")
		if !ok {
			return
		}
		var n *int
		if err := json.Unmarshal(v, &n); err != nil || n == nil || *n < 1 || *n > maxFaultSeconds {
			b.problem("seconds", fmt.Sprintf("must be a whole number from 1 to %d", maxFaultSeconds))
			return
		}
		args.Seconds = *n
	})
}

// phoneOr reads the number of the simulated phone; without one it is the one
// that belongs to the instance.
func phoneOr(b *body, id whatisup.InstanceID) string {
	if b.has("phone_number") {
		n, _ := b.phone("phone_number", false)
		return string(n)
	}
	return SandboxNumber(id)
}

// SandboxNumber is the number of an instance's simulated phone, unless the call
// names another: of a country code that nobody has.
func SandboxNumber(id whatisup.InstanceID) string {
	h := fnv.New64a()
	h.Write([]byte(id))
	return fmt.Sprintf("999%010d", h.Sum64()%1e10)
}

type messageID struct {
	MessageID string `json:"message_id"`
}

// sandbox sends a command to the sandbox's host and waits for its result.
func (c *call) sandbox(kind whatisup.CommandKind, read func(*body, *whatisup.SandboxArgs)) (*answer, error) {
	if c.mode() != whatisup.Test {
		return nil, errInstanceNotFound
	}
	b, err := c.readBody()
	if err != nil {
		return nil, err
	}
	var args whatisup.SandboxArgs
	read(b, &args)
	if err := b.done(); err != nil {
		return nil, err
	}
	if !c.Sandbox {
		return nil, errNoHost.With("reason", "no_sandbox")
	}
	encoded, err := json.Marshal(args)
	if err != nil {
		return nil, err
	}
	return c.once(b, func(o *once) (*answer, error) {
		result, err := c.commandAndWait(kind, o.command(), encoded)
		switch {
		case err != nil:
			return nil, err
		case result.Error != "":
			return nil, whatisup.NewError(result.Error, result.Message)
		case kind == whatisup.SandboxMessage:
			return reply(http.StatusAccepted, messageID{result.MessageID}), nil
		default:
			return reply(http.StatusNoContent, nil), nil
		}
	})
}

// commandAndWait sends a command that carries work. It expires when nobody waits
// for it any more: what is answered as failed must not happen later.
func (c *call) commandAndWait(kind whatisup.CommandKind, id whatisup.CommandID, args json.RawMessage) (*whatisup.Result, error) {
	until := c.waitUntil()
	ctx, cancel := context.WithDeadline(c.ctx, until.Add(answerMargin/2))
	defer cancel()
	i := c.instance
	err := c.Commands.Send(ctx, i.Shard, whatisup.Command{
		ID: id, Kind: kind, Customer: i.Config.Customer, Mode: i.Config.Mode, Instance: i.Config.ID,
		RequestID: c.id, SentAt: whatisup.At(c.now()), ExpiresAt: whatisup.At(until), Args: args,
	})
	if err != nil {
		return nil, err
	}
	for began := c.now(); ; {
		asked := c.now()
		result, err := c.Store.Result(ctx, id)
		if result != nil {
			return result, nil
		}
		now := c.now()
		wait := pollWait(now.Sub(began), now.Sub(asked))
		over := !c.now().Add(wait).Before(until)
		if err == nil && !over {
			err = sleep(ctx, wait)
		}
		if over || err != nil && ctx.Err() != nil && c.ctx.Err() == nil {
			return nil, errNoHost.With("reason", whatisup.NoSessionHost)
		}
		if err != nil {
			return nil, err
		}
	}
}
