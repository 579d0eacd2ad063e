package whatisup

import (
	"slices"
	"time"
)

// The commands that ask WhatsApp something, or change something there, through the
// instance's session. A function waits for each; delivered late it is dropped,
// delivered twice it is run again if it only asks, and at most once if it changes
// something (see [Change]).
const (
	ContactsCheck     CommandKind = "contacts.check"     // CheckArgs: CheckAnswer
	ContactsList      CommandKind = "contacts.list"      // PageArgs: Page
	ContactGet        CommandKind = "contact.get"        // ContactArgs: Contact
	ProfileGet        CommandKind = "profile.get"        // NoArgs: Profile
	ProfileUpdate     CommandKind = "profile.update"     // ProfileArgs: Profile
	BlocksList        CommandKind = "blocks.list"        // NoArgs: Page
	BlockSet          CommandKind = "block.set"          // BlockArgs: Nothing
	GroupsList        CommandKind = "groups.list"        // PageArgs: Page
	GroupCreate       CommandKind = "group.create"       // GroupCreateArgs: Group
	GroupGet          CommandKind = "group.get"          // GroupArgs: Group
	GroupUpdate       CommandKind = "group.update"       // GroupUpdateArgs: Group
	GroupLeave        CommandKind = "group.leave"        // GroupArgs: Nothing
	GroupParticipants CommandKind = "group.participants" // MembersArgs: Outcomes
	GroupInviteGet    CommandKind = "group.invite"       // GroupArgs: InviteLink
	GroupInviteRenew  CommandKind = "group.invite_renew" // GroupArgs: InviteLink
	GroupJoin         CommandKind = "group.join"         // JoinArgs: Group
	ChatRead          CommandKind = "chat.read"          // ReadArgs: Nothing
	ChatTyping        CommandKind = "chat.presence"      // TypingArgs: Nothing
	PresenceSet       CommandKind = "presence.set"       // PresenceArgs: Nothing
	PresenceSubscribe CommandKind = "presence.subscribe" // ContactArgs: Nothing
)

// Asks lists the commands above.
var Asks = []CommandKind{
	ContactsCheck, ContactsList, ContactGet, ProfileGet, ProfileUpdate, BlocksList, BlockSet,
	GroupsList, GroupCreate, GroupGet, GroupUpdate, GroupLeave, GroupParticipants, GroupInviteGet, GroupInviteRenew, GroupJoin,
	ChatRead, ChatTyping, PresenceSet, PresenceSubscribe,
}

// changes are the commands that change something at WhatsApp, and must not happen
// twice. A presence is not among them: it is sent and not answered, and a second
// one is as good as the first.
var changes = []CommandKind{
	ProfileUpdate, BlockSet, GroupCreate, GroupUpdate, GroupLeave, GroupParticipants, GroupInviteRenew, GroupJoin,
}

// Changes says whether the command changes something at WhatsApp.
func (k CommandKind) Changes() bool { return slices.Contains(changes, k) }

// ChangeID names a change over all tries of the request that asks for it.
type ChangeID string

// Change is what is recorded of a change before its stanza leaves, so that nobody
// makes it a second time.
type Change struct {
	State   ChangeState
	Command CommandID // the try that the state is of
	Answer  []byte    // of ChangeMade: JSON
}

// ChangeState says how far a change has come.
type ChangeState string

const (
	// ChangeBegun: it was sent, or is about to be, and nobody knows its outcome.
	ChangeBegun ChangeState = "begun"
	// ChangeMade: WhatsApp has made it.
	ChangeMade ChangeState = "made"
	// ChangeOff: this try has not made it and never will: WhatsApp refused, or the
	// call stopped waiting before anything was sent. Another try may.
	ChangeOff ChangeState = "off"
)

// ChangeKept is how long a change is recorded: longer than the record of its
// request.
const ChangeKept = 25 * time.Hour

// CheckedMost is how many numbers are checked at once.
const CheckedMost = 50

// Checked is what WhatsApp says of a number that somebody asked for.
type Checked struct {
	Asked  PhoneNumber // its digits
	Exists bool
	Person Person // what WhatsApp makes of it
}

// How long an answer is kept.
const (
	KnownKept   = 30 * 24 * time.Hour
	UnknownKept = time.Hour
)

// CheckLimits are the buckets of numbers that were not kept, of an instance: for
// the moment, and for the day.
var CheckLimits = []RateLimit{
	{Burst: 50, PerSecond: 20.0 / 60},
	{Burst: 500, PerSecond: 500.0 / (24 * 60 * 60)},
}

// The arguments and answers of asks. They stand in queues and rows, never in logs.
type (
	NoArgs  struct{}
	Nothing struct{}

	CheckArgs struct {
		PhoneNumbers []PhoneNumber `json:"phone_numbers"`
	}
	CheckAnswer struct {
		Numbers []CheckedNumber `json:"numbers"`
	}
	CheckedNumber struct {
		Asked       PhoneNumber `json:"asked"`
		Exists      bool        `json:"exists"`
		PhoneNumber PhoneNumber `json:"phone_number,omitempty"`
		LID         string      `json:"lid,omitempty"`
	}

	// PageArgs asks for a page of a list: what stands behind the place After.
	PageArgs struct {
		Limit int    `json:"limit"`
		After string `json:"after,omitempty"`
	}
	// Page is one page of a list; Next is the place to go on after, if there is more.
	Page struct {
		Data []any  `json:"data"`
		Next string `json:"next,omitempty"`
	}

	ContactArgs struct {
		Contact Address `json:"contact"`
	}
	ProfileArgs struct {
		Name    *string     `json:"name,omitempty"`
		About   *string     `json:"about,omitempty"`
		Picture *SetPicture `json:"picture,omitempty"`
	}
	// SetPicture is a file that becomes a picture; without one the picture is removed.
	SetPicture struct {
		Media MediaID `json:"media_id,omitempty"`
	}
	BlockArgs struct {
		Contact Address `json:"contact"`
		Blocked bool    `json:"blocked"`
	}

	GroupArgs struct {
		Group Address `json:"group"`
	}
	GroupCreateArgs struct {
		Subject      string        `json:"subject"`
		Participants []Address     `json:"participants"`
		Settings     GroupSettings `json:"settings"`
	}
	// GroupSettings are changes of a group; nil changes nothing.
	GroupSettings struct {
		Subject          *string        `json:"subject,omitempty"`
		Description      *string        `json:"description,omitempty"`
		WhoMayWrite      *GroupAudience `json:"who_may_write,omitempty"`
		WhoMayEdit       *GroupAudience `json:"who_may_edit,omitempty"`
		EphemeralSeconds *uint32        `json:"ephemeral_seconds,omitempty"`
	}
	GroupUpdateArgs struct {
		Group    Address       `json:"group"`
		Settings GroupSettings `json:"settings"`
		Picture  *SetPicture   `json:"picture,omitempty"`
	}
	MembersArgs struct {
		Group   Address       `json:"group"`
		Changes []MembersEdit `json:"changes"`
	}
	MembersEdit struct {
		Action  MemberAction `json:"action"`
		Persons []Address    `json:"persons"`
	}
	JoinArgs struct {
		Code string `json:"code"`
	}

	ReadArgs struct {
		Chat     Address    `json:"chat"`
		Messages []ReadMark `json:"messages"`
	}
	ReadMark struct {
		MessageID string  `json:"message_id"`
		From      Address `json:"from,omitempty"` // who wrote it, in a group
	}
	TypingArgs struct {
		Chat  Address     `json:"chat"`
		State TypingState `json:"state"`
	}
	PresenceArgs struct {
		State PresenceState `json:"state"`
	}
)

// TypingState is what a chat is shown of somebody who writes.
type TypingState string

const (
	Typing    TypingState = "typing"
	Recording TypingState = "recording"
	Paused    TypingState = "paused"
)

// TypingStates lists every state.
var TypingStates = []TypingState{Typing, Recording, Paused}

// PresenceState is whether somebody has WhatsApp open.
type PresenceState string

const (
	Available   PresenceState = "available"
	Unavailable PresenceState = "unavailable"
)

// PresenceStates lists every state.
var PresenceStates = []PresenceState{Available, Unavailable}

// Wire is the outcome as the API shows it; query is the number as it was asked for.
func (c Checked) Wire(query string) CheckedWire {
	return CheckedWire{Query: query, Exists: c.Exists, PersonWire: c.Person.Wire()}
}

// CheckedWire is one number of the answer to a check.
type CheckedWire struct {
	Query  string `json:"query"`
	Exists bool   `json:"exists"`
	PersonWire
}
