package whatisup

// Group is a group as the API shows it.
type Group struct {
	Chat             string        `json:"chat"`
	Subject          string        `json:"subject"`
	Description      *string       `json:"description"`
	Owner            *PersonWire   `json:"owner"` // null: WhatsApp names none
	CreatedAt        Time          `json:"created_at"`
	ParticipantCount int           `json:"participant_count"`
	Participants     []Member      `json:"participants,omitempty"` // not in lists
	WhoMayWrite      GroupAudience `json:"who_may_write"`
	WhoMayEdit       GroupAudience `json:"who_may_edit"`
	EphemeralSeconds uint32        `json:"ephemeral_seconds"` // 0: messages stay
	// Parent is the community that the group belongs to.
	Parent *string `json:"parent"`
	// Kind says what the group is within a community.
	Kind GroupKind `json:"kind"`
	// Approval: who joins by the link is let in by an admin.
	Approval bool `json:"join_approval"`
	// NotAdded are those who could not be put into a group that was just made.
	NotAdded []MemberOutcome `json:"not_added,omitempty"`
	// Pending: the own number has asked to join, and waits for an admin.
	Pending bool `json:"join_pending,omitempty"`
	// Pictured is not in lists: WhatsApp has to be asked for it.
	*Pictured
}

// GroupKind is what a group is within a community.
type GroupKind string

const (
	GroupPlain         GroupKind = "group"
	GroupCommunity     GroupKind = "community"
	GroupAnnouncements GroupKind = "announcements" // the community's own group, in which its admins write
)

// GroupKinds lists every kind.
var GroupKinds = []GroupKind{GroupPlain, GroupCommunity, GroupAnnouncements}

// GroupAudience is who may do something in a group.
type GroupAudience string

const (
	Everyone GroupAudience = "everyone"
	Admins   GroupAudience = "admins"
)

// GroupAudiences lists every audience.
var GroupAudiences = []GroupAudience{Everyone, Admins}

// Member is somebody in a group.
type Member struct {
	PersonWire
	Role MemberRole `json:"role"`
}

// MemberRole is what a member may do.
type MemberRole string

const (
	RoleMember MemberRole = "member"
	RoleAdmin  MemberRole = "admin"
	RoleOwner  MemberRole = "owner"
)

// MemberRoles lists every role.
var MemberRoles = []MemberRole{RoleMember, RoleAdmin, RoleOwner}

// MemberAction is what is done to members of a group.
type MemberAction string

const (
	MemberAdd     MemberAction = "add"
	MemberRemove  MemberAction = "remove"
	MemberPromote MemberAction = "promote"
	MemberDemote  MemberAction = "demote"
)

// MemberActions lists every action, in the order in which they are done.
var MemberActions = []MemberAction{MemberAdd, MemberRemove, MemberPromote, MemberDemote}

// MemberOutcome is what came of an action for one person.
type MemberOutcome struct {
	Action MemberAction `json:"action"`
	PersonWire
	Outcome MemberResult `json:"outcome"`
	// WhatsAppCode is WhatsApp's reason, where it gave one.
	WhatsAppCode *int        `json:"whatsapp_code"`
	Invitation   *Invitation `json:"invitation"` // where the person has to be asked
}

// MemberResult is what came of it.
type MemberResult string

const (
	MemberDone          MemberResult = "done"
	MemberInvite        MemberResult = "invitation_needed"
	MemberNotOnWhatsApp MemberResult = "not_on_whatsapp"
	MemberRefused       MemberResult = "refused"
	// MemberUnanswered: it was sent and not answered, or not sent after that.
	MemberUnanswered MemberResult = "unknown"
)

// MemberResults lists every result.
var MemberResults = []MemberResult{MemberDone, MemberInvite, MemberNotOnWhatsApp, MemberRefused, MemberUnanswered}

// Invitation is what lets one person into a group.
type Invitation struct {
	Code      string `json:"code"`
	ExpiresAt Time   `json:"expires_at"`
}

// MemberOutcomes are the outcomes for everybody who was named.
type MemberOutcomes struct {
	Data []MemberOutcome `json:"data"`
}

// InviteLink is the link by which people join a group.
type InviteLink struct {
	Link string `json:"link"`
}

// InviteLinkPrefix stands in front of the code in a link.
const InviteLinkPrefix = "https://chat.whatsapp.com/"

// Limits of groups, as WhatsApp has them.
const (
	MaxSubject          = 100 // characters
	MaxGroupDescription = 2048
	MaxParticipants     = 1023 // named in one request
)
