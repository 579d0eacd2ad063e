package whatisup

import "strings"

// Address names one chat partner as WhatsApp writes it: a person by number
// (5511912345678@s.whatsapp.net) or by LID (123456789@lid), or a group
// (1203630...@g.us). It never has a device part. As it may hold a phone number,
// it prints and logs as a fixed word, like [PhoneNumber].
type Address string

// The servers of the addresses that messages can be sent to.
const (
	serverNumber = "s.whatsapp.net"
	serverLID    = "lid"
	serverGroup  = "g.us"
)

// maxUser is the longest user part of an address: 18 digits, a dash and 20 more
// make the longest group id in use.
const maxUser = 40

// NumberAddress, LIDAddress and GroupAddress make the address of what they name.
// None checks its argument: see [ParseAddress].
func NumberAddress(n PhoneNumber) Address { return Address(string(n) + "@" + serverNumber) }
func LIDAddress(lid string) Address       { return Address(lid + "@" + serverLID) }
func GroupAddress(id string) Address      { return Address(id + "@" + serverGroup) }

// ParseAddress reads what a request may name as a recipient: a phone number as
// people spell it (see [ParsePhoneNumber]), or one of the three written forms.
// Status, channels, broadcast lists and device parts are refused.
//
// The grammar is our own. The library's ParseJID takes a bare number for a
// server, "a@b@s.whatsapp.net" for the user a, and cuts a device to 16 bits.
func ParseAddress(s string) (Address, bool) {
	user, server, written := strings.Cut(strings.TrimSpace(s), "@")
	if !written {
		n, ok := ParsePhoneNumber(user)
		return NumberAddress(n), ok
	}

	switch server {
	case serverNumber:
		n, ok := ParsePhoneNumber(user)
		return NumberAddress(n), ok && string(n) == user
	case serverLID:
		return LIDAddress(user), len(user) <= maxUser && allDigits(user)
	case serverGroup:
		first, second, both := strings.Cut(user, "-")
		ok := len(user) <= maxUser && allDigits(first) && (!both || allDigits(second))
		return GroupAddress(user), ok
	}
	return "", false
}

// Number is the phone number that the address names, if it names one.
func (a Address) Number() (PhoneNumber, bool) {
	user, ok := strings.CutSuffix(string(a), "@"+serverNumber)
	return PhoneNumber(user), ok
}

// LID is the user part of a LID address.
func (a Address) LID() (string, bool) { return strings.CutSuffix(string(a), "@"+serverLID) }

// IsGroup says whether the address names a group.
func (a Address) IsGroup() bool { return strings.HasSuffix(string(a), "@"+serverGroup) }

// ChatType is the kind of chat that the address names.
func (a Address) ChatType() ChatType {
	if a.IsGroup() {
		return ChatGroup
	}
	return ChatDirect
}

func allDigits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return s != ""
}

// ChatType says what kind of chat a message belongs to. What comes through a
// sender's broadcast list is a message of that sender.
type ChatType string

const (
	ChatDirect    ChatType = "direct"
	ChatGroup     ChatType = "group"
	ChatStatus    ChatType = "status"
	ChatChannel   ChatType = "channel"
	ChatBroadcast ChatType = "broadcast"
)

// ChatTypes lists every kind of chat.
var ChatTypes = []ChatType{ChatDirect, ChatGroup, ChatStatus, ChatChannel, ChatBroadcast}

// Person is somebody on WhatsApp, by everything that is known of them. The name
// is what they call themselves, or what the phone's owner calls them.
type Person struct {
	PhoneNumber PhoneNumber
	LID         string
	Name        string
}

// Is says whether both are the same person, as far as is known.
func (p Person) Is(other Person) bool {
	return p.LID != "" && p.LID == other.LID || p.PhoneNumber != "" && p.PhoneNumber == other.PhoneNumber
}

// Chats are the ids that the direct chat with the person may have had, the present
// one first.
func (p Person) Chats() []Address {
	var all []Address
	if p.LID != "" {
		all = append(all, LIDAddress(p.LID))
	}
	if p.PhoneNumber != "" {
		all = append(all, NumberAddress(p.PhoneNumber))
	}
	return all
}

// Chat is the id of the direct chat with the person: by LID where it is known,
// else by number.
func (p Person) Chat() Address {
	if p.LID != "" {
		return LIDAddress(p.LID)
	}
	return NumberAddress(p.PhoneNumber)
}
