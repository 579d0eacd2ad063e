package whatisup

import (
	"crypto/sha256"
	"encoding/json"
	"slices"
	"time"

	"github.com/google/uuid"
)

// What WhatsApp tells beside messages.
const (
	GroupCreated       EventName = "group.created"             // data: GroupCreatedData
	GroupUpdated       EventName = "group.updated"             // data: GroupUpdatedData
	ParticipantAdded   EventName = "group.participant_added"   // data: GroupMembersData
	ParticipantRemoved EventName = "group.participant_removed" // data: GroupMembersData
	AdminPromoted      EventName = "group.admin_promoted"      // data: GroupMembersData
	AdminDemoted       EventName = "group.admin_demoted"       // data: GroupMembersData
	ContactUpdated     EventName = "contact.updated"           // data: ContactData
	PresenceUpdated    EventName = "presence.updated"          // data: PresenceData; see NamedOnly
	CallOffered        EventName = "call.offered"              // data: CallData
	CallEnded          EventName = "call.ended"                // data: CallData
)

// The data of these events. Actor is who made the change,
// null where WhatsApp does not say.
type (
	// GroupMembersData: the participants are added, removed, promoted or demoted.
	GroupMembersData struct {
		Chat         string       `json:"chat"`
		Actor        *PersonWire  `json:"actor"`
		Participants []PersonWire `json:"participants"`
	}
	GroupCreatedData struct {
		GroupMembersData
		Subject string `json:"subject"`
	}
	// GroupUpdatedData has the new values of what is named in changed, where they are
	// settings.
	GroupUpdatedData struct {
		Chat    string        `json:"chat"`
		Actor   *PersonWire   `json:"actor"`
		Changed []GroupChange `json:"changed"`
		GroupSettings
	}
	ContactData struct {
		Chat         string  `json:"chat"`
		PreviousChat *string `json:"previous_chat"` // where the chat's id has changed
		PersonWire
		Changed []ContactChange `json:"changed"`
	}
	PresenceData struct {
		Chat       string     `json:"chat"`
		From       PersonWire `json:"from"`
		State      string     `json:"state"` // a PresenceState or a TypingState
		LastSeenAt Time       `json:"last_seen_at"`
	}
	CallData struct {
		CallID  string       `json:"call_id"`
		Chat    string       `json:"chat"`
		From    PersonWire   `json:"from"`
		Video   *bool        `json:"video"` // null: WhatsApp told of the end alone
		Outcome *CallOutcome `json:"outcome"`
	}
)

// GroupChange names what has changed of a group.
type GroupChange string

const (
	GroupSubject     GroupChange = "subject"
	GroupDescription GroupChange = "description"
	GroupWhoWrites   GroupChange = "who_may_write"
	GroupWhoEdits    GroupChange = "who_may_edit"
	GroupEphemeral   GroupChange = "ephemeral_seconds"
	GroupApproval    GroupChange = "approval"
	GroupInviteLink  GroupChange = "invite_link"
	GroupPicture     GroupChange = "picture"
	GroupParent      GroupChange = "parent"
	GroupSuspended   GroupChange = "suspended"
	GroupDeleted     GroupChange = "deleted"
)

// ContactChange names what has changed of a contact.
type ContactChange string

const (
	ContactName         ContactChange = "name"
	ContactPushName     ContactChange = "push_name"
	ContactBusinessName ContactChange = "business_name"
	ContactAbout        ContactChange = "about"
	ContactPicture      ContactChange = "picture"
	ContactPhoneNumber  ContactChange = "phone_number"
	ContactLID          ContactChange = "lid"
)

// CallOutcome says how a call has ended.
type CallOutcome string

const (
	CallMissed   CallOutcome = "missed"   // nobody took it
	CallAnswered CallOutcome = "answered" // on the phone, or on another of its devices
	CallRejected CallOutcome = "rejected" // there, or by the setting reject_calls
	CallOver     CallOutcome = "ended"    // for another reason
)

// namedOnly are the events that "*" and a list without names do not have: there can
// be many of them, and few want them.
var namedOnly = []EventName{PresenceUpdated}

// NamedOnly says whether only those get the event who name it.
func (n EventName) NamedOnly() bool { return slices.Contains(namedOnly, n) }

// NoticeEventID is the id of an event that WhatsApp may tell again. It follows from
// what is told, so a repetition has the same id. Its time is WhatsApp's.
func NoticeEventID(i InstanceID, name EventName, at time.Time, key string, data json.RawMessage) EventID {
	sum := sha256.Sum256([]byte("notice\x00" + string(i) + "\x00" + string(name) + "\x00" + key + "\x00" + string(data)))
	return hashedEventID(sum, at)
}

// hashedEventID is a version 7 UUID of a time and a hash.
func hashedEventID(sum [sha256.Size]byte, at time.Time) EventID {
	u := uuid.UUID(sum[:16])
	ms := uint64(max(at.UnixMilli(), 0))
	for i := range 6 {
		u[i] = byte(ms >> (8 * (5 - i)))
	}
	u[6] = u[6]&0x0f | 0x70 // version 7
	u[8] = u[8]&0x3f | 0x80
	return EventID(u.String())
}
