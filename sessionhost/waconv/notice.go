package waconv

import (
	"strconv"
	"time"

	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/types/events"

	"whatisup/shared/whatisup"
)

// Notice is something that WhatsApp tells, beside messages: the event that it
// makes, and the event's data.
type Notice struct {
	Event whatisup.EventName
	Data  any
	At    time.Time // WhatsApp's time; zero: now
	// Key tells two notices apart that say the same at the same second.
	Key string
}

// GroupChanged is what somebody has changed in a group. Everybody who was added, or
// removed, at once is in one event.
func GroupChanged(directory Directory, g *events.GroupInfo) (all []Notice) {
	chat, actor := string(whatisup.GroupAddress(g.JID.User)), actorOf(directory, g.Sender, g.SenderPN)
	add := func(name whatisup.EventName, data any) {
		all = append(all, Notice{Event: name, Data: data, At: g.Timestamp, Key: g.ParticipantVersionID})
	}
	for _, m := range []struct {
		name   whatisup.EventName
		people []types.JID
	}{
		{whatisup.ParticipantAdded, g.Join}, {whatisup.ParticipantRemoved, g.Leave},
		{whatisup.AdminPromoted, g.Promote}, {whatisup.AdminDemoted, g.Demote},
	} {
		if len(m.people) == 0 {
			continue
		}
		participants := make([]whatisup.PersonWire, len(m.people))
		for i, j := range m.people {
			participants[i] = Person(directory, "", j.ToNonAD()).Wire()
		}
		add(m.name, whatisup.GroupMembersData{Chat: chat, Actor: actor, Participants: participants})
	}

	d := whatisup.GroupUpdatedData{Chat: chat, Actor: actor}
	changed := func(is bool, c whatisup.GroupChange) bool {
		if is {
			d.Changed = append(d.Changed, c)
		}
		return is
	}
	if changed(g.Name != nil, whatisup.GroupSubject) {
		d.Subject = &g.Name.Name
	}
	if changed(g.Topic != nil, whatisup.GroupDescription) {
		d.Description = &g.Topic.Topic
	}
	if changed(g.Announce != nil, whatisup.GroupWhoWrites) {
		a := Audience(g.Announce.IsAnnounce)
		d.WhoMayWrite = &a
	}
	if changed(g.Locked != nil, whatisup.GroupWhoEdits) {
		a := Audience(g.Locked.IsLocked)
		d.WhoMayEdit = &a
	}
	if changed(g.Ephemeral != nil, whatisup.GroupEphemeral) {
		seconds := uint32(0)
		if g.Ephemeral.IsEphemeral {
			seconds = g.Ephemeral.DisappearingTimer
		}
		d.EphemeralSeconds = &seconds
	}
	changed(g.MembershipApprovalMode != nil, whatisup.GroupApproval)
	changed(g.NewInviteLink != nil, whatisup.GroupInviteLink)
	changed(g.Link != nil || g.Unlink != nil, whatisup.GroupParent)
	changed(g.Suspended || g.Unsuspended, whatisup.GroupSuspended)
	changed(g.Delete != nil, whatisup.GroupDeleted)
	if len(d.Changed) > 0 {
		add(whatisup.GroupUpdated, d)
	}
	return all
}

// Audience is who may do something in a group.
func Audience(adminsOnly bool) whatisup.GroupAudience {
	if adminsOnly {
		return whatisup.Admins
	}
	return whatisup.Everyone
}

func actorOf(directory Directory, jids ...*types.JID) *whatisup.PersonWire {
	var known []types.JID
	for _, j := range jids {
		if j != nil && !j.IsEmpty() {
			known = append(known, j.ToNonAD())
		}
	}
	if len(known) == 0 {
		return nil
	}
	w := Person(directory, "", known...).Wire()
	return &w
}

// GroupJoined is a group that the number is in from now on: a new one, with
// everybody in it, or one that it has come into.
func GroupJoined(directory Directory, own whatisup.Person, j *events.JoinedGroup) Notice {
	d := whatisup.GroupMembersData{
		Chat: string(whatisup.GroupAddress(j.JID.User)), Actor: actorOf(directory, j.Sender, j.SenderPN),
		Participants: []whatisup.PersonWire{own.Wire()},
	}
	key := strconv.FormatInt(j.GroupCreated.Unix(), 10) + j.GroupInfo.ParticipantVersionID
	if !NewGroup(j) {
		return Notice{Event: whatisup.ParticipantAdded, Data: d, Key: key}
	}
	d.Participants = make([]whatisup.PersonWire, len(j.Participants))
	for i, p := range j.Participants {
		d.Participants[i] = Person(nil, "", p.LID, p.PhoneNumber, p.JID).Wire()
	}
	return Notice{Event: whatisup.GroupCreated, Data: whatisup.GroupCreatedData{GroupMembersData: d, Subject: j.Name}, At: j.GroupCreated, Key: key}
}

// NewGroup says whether the group did not exist before.
func NewGroup(j *events.JoinedGroup) bool { return j.Type == "new" && j.Reason == "" }

// PictureChanged is a new picture of a group or of a person.
func PictureChanged(directory Directory, p *events.Picture) Notice {
	if p.JID.Server == types.GroupServer {
		return Notice{Event: whatisup.GroupUpdated, At: p.Timestamp, Key: p.PictureID, Data: whatisup.GroupUpdatedData{
			Chat: string(whatisup.GroupAddress(p.JID.User)), Actor: actorOf(directory, &p.Author),
			Changed: []whatisup.GroupChange{whatisup.GroupPicture},
		}}
	}
	n := ContactChanged(Person(directory, "", p.JID.ToNonAD()), whatisup.ContactPicture)
	n.At, n.Key = p.Timestamp, p.PictureID
	return n
}

// ContactChanged is something new about a person.
func ContactChanged(p whatisup.Person, changed ...whatisup.ContactChange) Notice {
	return Notice{Event: whatisup.ContactUpdated, Data: whatisup.ContactData{Chat: string(p.Chat()), PersonWire: p.Wire(), Changed: changed}}
}

// Presence says that somebody has WhatsApp open, or has closed it.
func Presence(directory Directory, e *events.Presence) whatisup.PresenceData {
	p := Person(directory, "", e.From.ToNonAD())
	d := whatisup.PresenceData{Chat: string(p.Chat()), From: p.Wire(), State: string(whatisup.Available)}
	if e.Unavailable {
		d.State = string(whatisup.Unavailable)
	}
	if !e.LastSeen.IsZero() {
		d.LastSeenAt = whatisup.At(e.LastSeen)
	}
	return d
}

// Typing says that somebody writes, or has stopped.
func Typing(directory Directory, e *events.ChatPresence) whatisup.PresenceData {
	p := Person(directory, "", e.Sender.ToNonAD(), e.SenderAlt.ToNonAD())
	d := whatisup.PresenceData{Chat: string(p.Chat()), From: p.Wire(), State: string(whatisup.Typing)}
	if e.IsGroup {
		d.Chat = string(whatisup.GroupAddress(e.Chat.User))
	}
	switch {
	case e.State == types.ChatPresencePaused:
		d.State = string(whatisup.Paused)
	case e.Media == types.ChatPresenceMediaAudio:
		d.State = string(whatisup.Recording)
	}
	return d
}

// Call is a call that rings, or has rung. Video is nil where it is not known.
func Call(directory Directory, m *types.BasicCallMeta, video *bool) whatisup.CallData {
	p := Person(directory, "", m.CallCreator.ToNonAD(), m.CallCreatorAlt.ToNonAD())
	d := whatisup.CallData{CallID: m.CallID, Chat: string(p.Chat()), From: p.Wire(), Video: video}
	if !m.GroupJID.IsEmpty() {
		d.Chat = string(whatisup.GroupAddress(m.GroupJID.User))
	}
	return d
}

// CallOutcome is what WhatsApp's reason for the end of a call means.
func CallOutcome(reason string) whatisup.CallOutcome {
	switch reason {
	case "", "timeout":
		return whatisup.CallMissed
	case "accepted_elsewhere":
		return whatisup.CallAnswered
	case "rejected_elsewhere":
		return whatisup.CallRejected
	}
	return whatisup.CallOver
}
