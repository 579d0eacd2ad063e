package httpapi

import (
	"cmp"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"net/http"
	"slices"
	"time"

	"whatisup/shared/control"
	"whatisup/shared/input"
	"whatisup/shared/whatisup"
)

// Faults are the kinds of fault that can be asked for.
var Faults = []string{
	"drop", "replaced", "banned", "session_invalidated", "outdated", "unreachable", "silent", "passkey",
	"ack_lost", "ack_late", "ack_error", "retry_receipt", "media_gone",
}

const (
	maxFaultSeconds = 3600
	maxFaultCount   = 100
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

func sandboxFault(c *call) (*answer, error) {
	return c.sandbox(whatisup.SandboxFault, func(b *input.Object, args *whatisup.SandboxArgs) {
		args.Fault = readFault(b, c.now())
	})
}

// readFault reads a fault and says it in the simulator's words.
func readFault(b *input.Object, now time.Time) *whatisup.SandboxFaultOf {
	kind, ok := b.Text("kind", true)
	if ok && !slices.Contains(Faults, kind) {
		b.Problem("kind", "must be one of "+join(Faults))
		return nil
	}
	f := &whatisup.SandboxFaultOf{
		Kind:    cmp.Or(simulatorFaults[kind], kind),
		Seconds: whole(b, "seconds", 1, maxFaultSeconds),
	}
	only := func(field string, kinds ...string) bool {
		if b.Has(field) && !slices.Contains(kinds, kind) {
			b.Problem(field, "belongs to "+join(kinds)+" only")
		}
		return b.Has(field)
	}
	if only("count", "ack_lost", "ack_late", "ack_error", "retry_receipt", "media_gone") {
		f.Count = whole(b, "count", 1, maxFaultCount)
	}
	if only("code", "ack_error") {
		f.Code = whole(b, "code", 400, 599)
	} else if kind == "ack_error" {
		b.Problem("code", "is required")
	}
	if only("until", "banned") {
		if until, ok := b.Later("until", now); ok {
			f.Seconds = min(int(until.Sub(now)/time.Second)+1, maxFaultSeconds)
			if b.Has("seconds") {
				b.Problem("until", "excludes seconds")
			}
		}
	}
	if kind == "ack_late" {
		f.Millis, f.Seconds = 1000*cmp.Or(f.Seconds, 5), 0
	}
	return f
}

// simulatorFaults has the kinds that the simulator calls otherwise.
var simulatorFaults = map[string]string{"session_invalidated": "forbidden"}

// whole reads a whole number that may be missing, which is 0.
func whole(b *input.Object, name string, least, most int) int {
	v, ok := b.Take(name)
	if !ok {
		return 0
	}
	var n *int
	if err := json.Unmarshal(v, &n); err != nil || n == nil || *n < least || *n > most {
		b.Problem(name, fmt.Sprintf("must be a whole number from %d to %d", least, most))
		return 0
	}
	return *n
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
