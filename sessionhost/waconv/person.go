package waconv

import (
	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/types"

	"whatisup/shared/whatisup"
)

// JID and Content are the library's names of a chat partner and of what a message
// says, for rooms that pass them on and look at neither.
type (
	JID     = types.JID
	Content = waE2E.Message
)

// Directory knows the other address of a person: the LID of a number, the number
// of a LID. It answers the empty JID for what it does not know.
type Directory func(types.JID) types.JID

// Person is everything that is known of whom the addresses name.
func Person(directory Directory, name string, jids ...types.JID) whatisup.Person {
	p := whatisup.Person{Name: name}
	take := func(j types.JID) {
		switch j.Server {
		case types.DefaultUserServer, types.HostedServer:
			if p.PhoneNumber == "" {
				p.PhoneNumber = whatisup.PhoneNumber(j.User)
			}
		case types.HiddenUserServer, types.HostedLIDServer:
			if p.LID == "" {
				p.LID = j.User
			}
		}
	}
	for _, j := range jids {
		take(j)
	}
	if directory == nil {
		return p
	}
	switch {
	case p.LID == "" && p.PhoneNumber != "":
		take(directory(types.NewJID(string(p.PhoneNumber), types.DefaultUserServer)))
	case p.PhoneNumber == "" && p.LID != "":
		take(directory(types.NewJID(p.LID, types.HiddenUserServer)))
	}
	return p
}

// JIDOf is an address as the library has it.
func JIDOf(a whatisup.Address) types.JID {
	if n, ok := a.Number(); ok {
		return types.NewJID(string(n), types.DefaultUserServer)
	}
	if lid, ok := a.LID(); ok {
		return types.NewJID(lid, types.HiddenUserServer)
	}
	j, _ := types.ParseJID(string(a)) // a group, whose form ParseAddress has checked
	return j
}

// chatOf is the chat that a message belongs to, and its kind. What comes through
// a sender's broadcast list is a message of that sender.
func chatOf(directory Directory, i *types.MessageInfo) (whatisup.Address, whatisup.ChatType, whatisup.Person) {
	switch {
	case i.Chat.Server == types.GroupServer:
		return whatisup.GroupAddress(i.Chat.User), whatisup.ChatGroup, whatisup.Person{}
	case i.Chat == types.StatusBroadcastJID:
		return whatisup.Address(i.Chat.String()), whatisup.ChatStatus, whatisup.Person{}
	case i.Chat.Server == types.NewsletterServer:
		return whatisup.Address(i.Chat.String()), whatisup.ChatChannel, whatisup.Person{}
	case i.Chat.Server == types.BroadcastServer:
		p := Person(directory, "", i.Sender, i.SenderAlt)
		return p.Chat(), whatisup.ChatBroadcast, p
	}
	p := Person(directory, "", i.Chat, i.RecipientAlt)
	if !i.IsFromMe {
		p = Person(directory, "", i.Sender, i.SenderAlt)
	}
	if p == (whatisup.Person{}) { // a bot, or somebody of another app
		return whatisup.Address(i.Chat.ToNonAD().String()), whatisup.ChatDirect, p
	}
	return p.Chat(), whatisup.ChatDirect, p
}
