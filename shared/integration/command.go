package integration

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"whatisup/shared/input"
	"whatisup/shared/whatisup"
)

// Commands are the commands that the queue takes.
var Commands = []string{"create", "connect", "disconnect", "logout", "delete", "send"}

// unwrap takes off what senders put around a command without meaning to: a byte
// order mark, and the envelope of an SNS topic.
func unwrap(message []byte) []byte {
	bom := []byte("\ufeff")
	message = bytes.TrimPrefix(message, bom)
	var envelope struct{ Type, TopicArn, Message *string }
	if json.Unmarshal(message, &envelope) != nil || envelope.Type == nil || *envelope.Type != "Notification" ||
		envelope.TopicArn == nil || envelope.Message == nil {
		return message
	}
	return bytes.TrimPrefix([]byte(*envelope.Message), bom)
}

// clip keeps a word of a message short enough for an event.
func clip(s string) string {
	if r := []rune(s); len(r) > 64 {
		return string(r[:64]) + "…"
	}
	return s
}

// command is a message of the queue, read.
type command struct {
	id       whatisup.CommandID
	name     string // empty: none of [Commands]
	word     string // as it was given
	customer whatisup.CustomerID
	mode     whatisup.Mode
	instance string
	title    string
	metadata json.RawMessage
	send     *whatisup.Send
	asked    []byte // of a send: what was asked for, in one spelling
}

// same is what two deliveries of one command have in common, however the command
// is spelled.
func (c *command) same() []byte {
	metadata, err := input.Canonical(c.metadata)
	if err != nil { // none
		metadata = nil
	}
	b, _ := json.Marshal([]string{c.name, c.instance, c.title, string(metadata)}) // strings marshal
	return b
}

// parse reads a message. What could be read is returned also with an error, so
// that the refusal finds its customer.
func parse(message []byte, now time.Time) (command, error) {
	var cmd command
	if len(message) > input.MaxBody {
		return cmd, whatisup.NewError(whatisup.CodePayloadTooLarge, "A command must have at most 262144 bytes.")
	}
	b, err := input.Parse(message)
	if err != nil {
		return cmd, err
	}
	if s, ok := b.Text("customer_id", true); ok {
		if cmd.customer, ok = whatisup.ParseCustomerID(strings.ToLower(s)); !ok {
			cmd.customer = ""
			b.Problem("customer_id", "must be a customer's id")
		}
	}
	if s, ok := b.Text("mode", true); ok {
		if cmd.mode = whatisup.Mode(s); !cmd.mode.Valid() {
			b.Problem("mode", "must be live or test")
		}
	}
	if s, ok := b.Text("command_id", true); ok {
		if !input.Printable(s, 128) {
			b.Problem("command_id", "must be 1 to 128 printable ASCII characters")
		} else {
			cmd.id = whatisup.CommandID(s)
		}
	}
	if s, ok := b.Text("command", true); ok {
		cmd.word = clip(s)
		if !slices.Contains(Commands, s) {
			b.Problem("command", "must be one of "+strings.Join(Commands, ","))
		} else {
			cmd.name = s
		}
	}
	switch cmd.name {
	case "create":
		cmd.title, _ = b.Name(true)
		cmd.metadata, _ = b.Metadata()
	case "":
		b.Ignore("instance_id", "name", "metadata")
		b.Ignore(whatisup.SendFields...)
	case "send":
		cmd.instance, _ = b.Text("instance_id", true)
		cmd.instance = strings.ToLower(cmd.instance)
		if err := cmd.readSend(b, now); err != nil {
			return cmd, err
		}
	default:
		cmd.instance, _ = b.Text("instance_id", true)
		cmd.instance = strings.ToLower(cmd.instance)
	}
	return cmd, b.Done()
}

// readSend reads the fields of the call that sends a message.
func (c *command) readSend(b *input.Object, now time.Time) error {
	b.Ignore(whatisup.SendFields...)
	fields := make(map[string]json.RawMessage)
	for _, name := range whatisup.SendFields {
		if raw, ok := b.Fields[name]; ok {
			fields[name] = raw
		}
	}
	text, err := json.Marshal(fields)
	if err != nil {
		return err
	}
	if c.asked, err = input.Canonical(text); err != nil {
		return err
	}
	var problems []whatisup.Problem
	c.send, problems = whatisup.ParseSend(fields, now)
	b.Add(problems...)
	return nil
}
