package httpapi

import (
	"encoding/json"
	"fmt"
	"hash/fnv"
	"net/http"
	"slices"
	"unicode/utf8"

	"whatisup/shared/control"
	"whatisup/shared/input"
	"whatisup/shared/whatisup"
)

// Faults are the kinds of fault that can be asked for.
var Faults = []string{"drop", "replaced", "banned", "outdated", "unreachable", "silent", "passkey"}

const (
	maxText         = 4096 // characters
	maxFaultSeconds = 3600
)

func sandboxScan(c *call) (*answer, error) {
	return c.sandbox(whatisup.SandboxScan, func(b *input.Object, args *whatisup.SandboxArgs) {
		args.PhoneNumber = phoneOr(b, c.instance.Config.ID)
	})
}

func sandboxEnterCode(c *call) (*answer, error) {
	return c.sandbox(whatisup.SandboxEnterCode, func(b *input.Object, args *whatisup.SandboxArgs) {
		var ok bool
		if args.Code, ok = b.Text("code", true); ok && (args.Code == "" || len(args.Code) > 32) {
			b.Problem("code", "must be a pair code as it was given")
		}
		args.PhoneNumber = phoneOr(b, c.instance.Config.ID)
	})
}

func sandboxUnlink(c *call) (*answer, error) {
	return c.sandbox(whatisup.SandboxUnlink, func(*input.Object, *whatisup.SandboxArgs) {})
}

func sandboxMessage(c *call) (*answer, error) {
	return c.sandbox(whatisup.SandboxMessage, func(b *input.Object, args *whatisup.SandboxArgs) {
		from, _ := b.Phone("from", true)
		args.From = string(from)
		text, ok := b.Text("text", true)
		switch args.Text = text; {
		case !ok:
		case text == "":
			b.Problem("text", "must not be empty")
		case utf8.RuneCountInString(text) > maxText:
			b.Problem("text", fmt.Sprintf("must have at most %d characters", maxText))
		}
	})
}

func sandboxFault(c *call) (*answer, error) {
	return c.sandbox(whatisup.SandboxFault, func(b *input.Object, args *whatisup.SandboxArgs) {
		kind, ok := b.Text("kind", true)
		if ok && !slices.Contains(Faults, kind) {
			b.Problem("kind", "must be one of "+join(Faults))
		}
		args.Fault = kind
		v, ok := b.Take("seconds")
		if !ok {
			return
		}
		var n *int
		if err := json.Unmarshal(v, &n); err != nil || n == nil || *n < 1 || *n > maxFaultSeconds {
			b.Problem("seconds", fmt.Sprintf("must be a whole number from 1 to %d", maxFaultSeconds))
			return
		}
		args.Seconds = *n
	})
}

// phoneOr reads the number of the simulated phone; without one it is the one
// that belongs to the instance.
func phoneOr(b *input.Object, id whatisup.InstanceID) string {
	if b.Has("phone_number") {
		n, _ := b.Phone("phone_number", false)
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

// sandbox serves a call that acts as the person who holds the simulated phone.
func (c *call) sandbox(kind whatisup.CommandKind, read func(*input.Object, *whatisup.SandboxArgs)) (*answer, error) {
	if c.mode() != whatisup.Test {
		return nil, control.ErrInstanceNotFound
	}
	b, err := c.readBody()
	if err != nil {
		return nil, err
	}
	var args whatisup.SandboxArgs
	read(b, &args)
	if err := b.Done(); err != nil {
		return nil, err
	}
	return c.idempotent(b, func(r *claim) (*answer, error) {
		result, err := c.control.Phone(c.ctx, c.who(), c.instance, kind, r.command(), args)
		switch {
		case err != nil:
			return nil, err
		case kind == whatisup.SandboxMessage:
			return reply(http.StatusAccepted, messageID{result.MessageID}), nil
		default:
			return reply(http.StatusNoContent, nil), nil
		}
	})
}
