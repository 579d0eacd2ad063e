package whatisup

import (
	"encoding/json"
	"time"
)

// CommandKind is what a message on a shard's queue is for.
type CommandKind string

const (
	// Wake says that something wanted of an instance has changed. It carries no
	// work and no order: losing it costs latency, for the host reconciles.
	Wake CommandKind = "wake"
	// WakeMessages says the same of the instance's messages, whose rows are others.
	WakeMessages CommandKind = "wake.messages"
	// WakeMedia says the same of a received file of the instance, which is to be fetched.
	WakeMedia CommandKind = "wake.media"
	// The sandbox calls: work of their own, for the simulated phone.
	SandboxScan      CommandKind = "sandbox.scan"
	SandboxEnterCode CommandKind = "sandbox.enter_code"
	SandboxUnlink    CommandKind = "sandbox.unlink"
	SandboxMessage   CommandKind = "sandbox.message"
	SandboxFault     CommandKind = "sandbox.fault"
	// SandboxPhone is a call about the phones of the customer's world; it names no
	// instance.
	SandboxPhone CommandKind = "sandbox.phone"
)

// CommandKinds lists every kind. A test of the shard holds that each reaches
// somebody who runs it.
var CommandKinds = append([]CommandKind{
	Wake, WakeMessages, WakeMedia, SandboxScan, SandboxEnterCode, SandboxUnlink, SandboxMessage, SandboxFault, SandboxPhone,
}, Asks...)

// Command is one message on a shard's queue.
type Command struct {
	ID        CommandID       `json:"id"`
	Kind      CommandKind     `json:"kind"`
	Customer  CustomerID      `json:"customer_id"`
	Mode      Mode            `json:"mode"`
	Instance  InstanceID      `json:"instance_id"`
	RequestID RequestID       `json:"request_id"`
	SentAt    Time            `json:"sent_at"`
	ExpiresAt Time            `json:"expires_at"`          // dropped afterwards; null for a wake-up
	Change    ChangeID        `json:"change_id,omitempty"` // of a command that changes something at WhatsApp
	Media     MediaID         `json:"media_id,omitempty"`  // of wake.media
	Args      json.RawMessage `json:"args,omitempty"`
}

// Group is what the command keeps its order with: others of its instance, or of
// its customer if it names none.
func (c *Command) Group() string {
	if c.Instance == "" {
		return string(c.Customer)
	}
	return string(c.Instance)
}

// Valid says whether the command names all that its kind needs.
func (c *Command) Valid() bool {
	return c.Customer != "" && (c.Instance != "" || c.Kind == SandboxPhone)
}

// HasWork says whether the command does more than wake.
func (c *Command) HasWork() bool {
	return c.Kind != Wake && c.Kind != WakeMessages && c.Kind != WakeMedia
}

// Expired says whether the command is too old to be acted on.
func (c *Command) Expired(now time.Time) bool {
	return !c.ExpiresAt.IsZero() && !now.Before(c.ExpiresAt.Time)
}

// SandboxArgs are the arguments of the sandbox commands; each uses its own.
type SandboxArgs struct {
	PhoneNumber string          `json:"phone_number,omitempty"`
	Code        string          `json:"code,omitempty"`
	Writing     json.RawMessage `json:"writing,omitempty"` // as the simulator takes it, without world, to and id
	Fault       *SandboxFaultOf `json:"fault,omitempty"`
	Call        *PhoneCall      `json:"call,omitempty"`
}

// SandboxFaultOf is a fault as the simulator takes it, without its target.
type SandboxFaultOf struct {
	Kind    string `json:"kind"`
	Seconds int    `json:"seconds,omitempty"`
	Millis  int    `json:"millis,omitempty"`
	Count   int    `json:"count,omitempty"`
	Code    int    `json:"code,omitempty"`
}

// PhoneCall is one call of the simulator's control interface, whose world the
// host adds: GET with a query, or another method with a body.
type PhoneCall struct {
	Method string            `json:"method"`
	Path   string            `json:"path"` // below /control/
	Query  map[string]string `json:"query,omitempty"`
	Body   json.RawMessage   `json:"body,omitempty"` // an object
}

// Result is the outcome of a command with work, which the calling function
// waits for.
type Result struct {
	Command   CommandID
	Error     Code   // empty: done
	Message   string // for the customer, with Error
	MessageID string // of sandbox.message
	// Answer is the JSON that the call answers with, for commands that ask
	// something; at most MaxAnswer bytes.
	Answer json.RawMessage
}

// MaxAnswer is how many bytes an answer may have: what fits into one row with
// room to spare.
const MaxAnswer = 300 << 10

// ResultKept is how long a result can be read.
const ResultKept = 5 * time.Minute
