package whatisup

import "cmp"

// Chat is a chat in the list of chats.
type Chat struct {
	ID     Address
	Type   ChatType
	Person Person // of a direct chat, with the name that the person goes by
	Unread int    // messages of others that were not marked as read

	// Places of messages in the list: the last one, the last one that somebody else
	// wrote, and the one through which the chat was marked as read.
	Last, Heard, ReadThrough string

	Subject string   // of a group, empty where it is not known
	Message *Message // the last one, as it is now
}

// Take counts the next message of the chat.
func (c *Chat) Take(l Listed) {
	c.Type, c.Last = l.ChatType, l.Place
	if c.Type == ChatBroadcast {
		c.Type = ChatDirect // it is in the chat with its sender
	}
	if c.Type == ChatDirect {
		c.learn(l.Message)
	}
	switch {
	case l.Direction == Outgoing: // a program that answers has not read the chat
	case l.FromMe:
		c.Unread = 0 // the owner has it open
	default:
		c.Heard = l.Place
		if l.Times.Read.IsZero() && l.Place > c.ReadThrough && l.ChatType != ChatBroadcast {
			c.Unread++
		}
	}
}

// learn takes what a message tells of the person that the chat is with.
func (c *Chat) learn(m *Message) {
	known := []Person{m.Recipient}
	if m.Direction == Incoming && !m.FromMe {
		known = append(known, m.From)
	}
	for _, p := range known {
		c.Person.PhoneNumber = cmp.Or(p.PhoneNumber, c.Person.PhoneNumber)
		c.Person.LID = cmp.Or(p.LID, c.Person.LID)
		c.Person.Name = cmp.Or(p.Name, c.Person.Name)
	}
}

// Absorb takes in what was counted of the same chat under its other id.
func (c *Chat) Absorb(o *Chat) {
	c.Unread += o.Unread
	c.Last, c.Heard, c.ReadThrough = max(c.Last, o.Last), max(c.Heard, o.Heard), max(c.ReadThrough, o.ReadThrough)
	c.Person.Name, c.Type = cmp.Or(c.Person.Name, o.Person.Name), cmp.Or(c.Type, o.Type)
}

// ChatWire is a chat in the list of chats of the API.
type ChatWire struct {
	Chat     string   `json:"chat"`
	ChatType ChatType `json:"chat_type"`
	Name     *string  `json:"name"`
	PersonWire
	LastMessage any `json:"last_message"`
	Unread      int `json:"unread"`
}

// Wire is the chat as its customer sees it. Connected says whether the instance is
// shown connected.
func (c *Chat) Wire(connected bool) ChatWire {
	w := ChatWire{Chat: string(c.ID), ChatType: c.Type, Unread: c.Unread}
	if c.Type == ChatDirect {
		w.PersonWire, w.Name = c.Person.Wire(), c.Person.From().Name
	} else if c.Subject != "" {
		w.Name = &c.Subject
	}
	w.LastMessage = c.Message.Wire(connected)
	if c.Message.Direction == Incoming {
		w.LastMessage = c.Message.ReceivedWire()
	}
	return w
}
