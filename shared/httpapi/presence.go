package httpapi

import (
	"encoding/json"
	"fmt"
	"net/http"

	"whatisup/shared/input"
	"whatisup/shared/whatisup"
)

// readMarks is how many messages one call may mark as read.
const readMarks = 1000

func readChat(c *call) (*answer, error) {
	chat, err := c.chat()
	if err != nil {
		return nil, err
	}
	b, err := c.readBody()
	if err != nil {
		return nil, err
	}
	args := whatisup.ReadArgs{Chat: chat, Messages: messageMarks(b, chat)}
	if err := b.Done(); err != nil {
		return nil, err
	}
	return c.idempotent(b, func(r *claim) (*answer, error) {
		return c.askAs(http.StatusNoContent, whatisup.ChatRead, r, args)
	})
}

// messageMarks reads which messages were read: an id, or {message_id, from} in a
// group, where WhatsApp has to be told who wrote it.
func messageMarks(b *input.Object, chat whatisup.Address) (marks []whatisup.ReadMark) {
	raw, ok := b.Take("message_ids")
	if !ok {
		return nil // all that are unread
	}
	var all []json.RawMessage
	if err := json.Unmarshal(raw, &all); err != nil || len(all) == 0 || len(all) > readMarks {
		b.Problem("message_ids", fmt.Sprintf("must be a list of 1 to %d messages", readMarks))
		return nil
	}
	for n, one := range all {
		field := fmt.Sprintf("message_ids[%d]", n)
		var id string
		var m struct {
			MessageID string `json:"message_id"`
			From      string `json:"from"`
		}
		if json.Unmarshal(one, &id) == nil {
			m.MessageID = id
		} else if json.Unmarshal(one, &m) != nil {
			b.Problem(field, "must be an id, or {message_id, from}")
			continue
		}
		mark := whatisup.ReadMark{MessageID: m.MessageID}
		if m.MessageID == "" || len(m.MessageID) > maxMessageID {
			b.Problem(field, fmt.Sprintf("must have a message_id of at most %d characters", maxMessageID))
			continue
		}
		if chat.IsGroup() {
			from, ok := whatisup.ParseAddress(m.From)
			if !ok || from.IsGroup() {
				b.Problem(field, "must be {message_id, from} in a group: from is who wrote it")
				continue
			}
			mark.From = from
		}
		marks = append(marks, mark)
	}
	return marks
}

// maxMessageID is the longest id of a received message.
const maxMessageID = 128

func setChatPresence(c *call) (*answer, error) {
	chat, err := c.chat()
	if err != nil {
		return nil, err
	}
	b, err := c.readBody()
	if err != nil {
		return nil, err
	}
	state := choice(b, "state", true, whatisup.TypingStates)
	if err := b.Done(); err != nil {
		return nil, err
	}
	return c.ask(http.StatusNoContent, whatisup.ChatTyping, whatisup.TypingArgs{Chat: chat, State: *state})
}

func setPresence(c *call) (*answer, error) {
	b, err := c.readBody()
	if err != nil {
		return nil, err
	}
	state := choice(b, "state", true, whatisup.PresenceStates)
	if err := b.Done(); err != nil {
		return nil, err
	}
	return c.ask(http.StatusNoContent, whatisup.PresenceSet, whatisup.PresenceArgs{State: *state})
}

func subscribePresence(c *call) (*answer, error) {
	a, err := c.contact()
	if err != nil {
		return nil, err
	}
	b, err := c.emptyBody()
	if err != nil {
		return nil, err
	}
	return c.idempotent(b, func(r *claim) (*answer, error) {
		return c.askAs(http.StatusNoContent, whatisup.PresenceSubscribe, r, whatisup.ContactArgs{Contact: a})
	})
}
