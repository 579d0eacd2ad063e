package integration

import (
	"encoding/json"
	"slices"
	"strings"

	"whatisup/shared/input"
	"whatisup/shared/whatisup"
)

// Commands are the commands that the queue takes.
var Commands = []string{"create", "connect", "disconnect", "logout", "delete"}

// command is a message of the queue, read.
type command struct {
	id       whatisup.CommandID
	name     string
	customer whatisup.CustomerID
	mode     whatisup.Mode
	instance string
	title    string
	metadata json.RawMessage
}

// parse reads a message. What could be read is returned also with an error, so
// that the refusal finds its customer.
func parse(message []byte) (command, error) {
	var cmd command
	if len(message) > input.MaxBody {
		return cmd, whatisup.NewError(whatisup.CodePayloadTooLarge, "A command must have at most 262144 bytes.")
	}
	b, err := input.Parse(message)
	if err != nil {
		return cmd, err
	}
	if s, ok := b.Text("customer_id", true); ok {
		if cmd.customer, ok = whatisup.ParseCustomerID(s); !ok {
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
	default:
		cmd.instance, _ = b.Text("instance_id", true)
	}
	return cmd, b.Done()
}
