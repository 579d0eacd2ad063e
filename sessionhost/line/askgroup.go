package line

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/types"

	"whatisup/sessionhost/waconv"
	"whatisup/shared/whatisup"
)

var errBadLink = whatisup.NewError(whatisup.CodeGroupNotFound, "There is no group behind this link, or the link was renewed.")

// groupOf is a group as the API shows it.
func (l *Line) groupOf(ctx context.Context, g *types.GroupInfo) whatisup.Group {
	out := whatisup.Group{
		Chat: string(whatisup.GroupAddress(g.JID.User)), Subject: g.Name, Description: some(g.Topic),
		CreatedAt: whatisup.At(g.GroupCreated), ParticipantCount: g.ParticipantCount,
		WhoMayWrite: waconv.Audience(g.IsAnnounce), WhoMayEdit: waconv.Audience(g.IsLocked),
		Kind: whatisup.GroupPlain, Approval: g.IsJoinApprovalRequired,
	}
	if g.IsEphemeral {
		out.EphemeralSeconds = g.DisappearingTimer
	}
	if !g.OwnerJID.IsEmpty() {
		owner := l.person(ctx, g.OwnerJID, g.OwnerPN).Wire()
		out.Owner = &owner
	}
	if !g.LinkedParentJID.IsEmpty() {
		out.Parent = some(string(whatisup.GroupAddress(g.LinkedParentJID.User)))
	}
	switch {
	case g.IsParent:
		out.Kind = whatisup.GroupCommunity
	case g.IsDefaultSubGroup:
		out.Kind = whatisup.GroupAnnouncements
	}
	return out
}

// withMembers is the group with everybody in it. The members come with both
// addresses, so that nothing is asked or read for each.
func (l *Line) withMembers(ctx context.Context, g *types.GroupInfo) whatisup.Group {
	out := l.groupOf(ctx, g)
	out.Participants = []whatisup.Member{}
	for _, p := range g.Participants {
		if p.Error != 0 {
			continue
		}
		m := whatisup.Member{PersonWire: waconv.Person(nil, "", p.LID, p.PhoneNumber, p.JID).Wire(), Role: whatisup.RoleMember}
		switch {
		case p.IsSuperAdmin:
			m.Role = whatisup.RoleOwner
		case p.IsAdmin:
			m.Role = whatisup.RoleAdmin
		}
		out.Participants = append(out.Participants, m)
	}
	out.ParticipantCount = len(out.Participants)
	return out
}

func (l *Line) listGroups(ctx context.Context, args whatisup.PageArgs) (whatisup.Page, error) {
	list, err := l.cli.GetJoinedGroups(ctx)
	if err != nil {
		return whatisup.Page{}, err
	}
	return pageOf(list, args,
		func(g *types.GroupInfo) string {
			return fmt.Sprintf("%020d %s", max(g.GroupCreated.Unix(), 0), g.JID.User)
		},
		func(g *types.GroupInfo) any {
			out := l.groupOf(ctx, g)
			l.groupNamed(g.JID, g.Name)
			if len(g.Participants) > 0 {
				out.ParticipantCount = len(g.Participants)
			}
			return out
		})
}

func (l *Line) group(ctx context.Context, args whatisup.GroupArgs) (whatisup.Group, error) {
	g, err := l.groupInfo(ctx, waconv.JIDOf(args.Group))
	if err != nil {
		return whatisup.Group{}, ofGroup(err)
	}
	pictured, err := l.pictureOf(ctx, g.JID, g.IsParent)
	if err != nil {
		return whatisup.Group{}, err
	}
	out := l.withMembers(ctx, g)
	out.Pictured = &pictured
	return out, nil
}

func (l *Line) createGroup(ctx context.Context, args whatisup.GroupCreateArgs) (whatisup.Group, error) {
	found, err := l.find(ctx, args.Participants...)
	if err != nil {
		return whatisup.Group{}, err
	}
	request := whatsmeow.ReqCreateGroup{Name: args.Subject}
	missing := []whatisup.MemberOutcome{}
	for _, a := range args.Participants {
		p, ok := found[a]
		switch {
		case !ok:
			missing = append(missing, outcomeOf(whatisup.MemberAdd, l.person(ctx, waconv.JIDOf(a)), whatisup.MemberNotOnWhatsApp))
		case !slices.Contains(request.Participants, jidOf(p)):
			request.Participants = append(request.Participants, jidOf(p))
		}
	}
	s := args.Settings
	request.IsAnnounce = s.WhoMayWrite != nil && *s.WhoMayWrite == whatisup.Admins
	request.IsLocked = s.WhoMayEdit != nil && *s.WhoMayEdit == whatisup.Admins
	if s.EphemeralSeconds != nil && *s.EphemeralSeconds > 0 {
		request.IsEphemeral, request.DisappearingTimer = true, *s.EphemeralSeconds
	}
	g, err := l.cli.CreateGroup(ctx, request)
	if err != nil {
		return whatisup.Group{}, err
	}

	// From here on there is a group, whatever else fails: the answer has to say so.
	l.groupMade(g)
	out := l.withMembers(ctx, g)
	for _, p := range g.Participants {
		if p.Error != 0 {
			missing = append(missing, l.memberOutcome(ctx, whatisup.MemberAdd, p))
		}
	}
	out.NotAdded = missing
	if s.Description != nil && *s.Description != "" {
		if err := l.cli.SetGroupTopic(ctx, g.JID, "", "", *s.Description); err != nil {
			l.log.Warn("a new group has no description", "error", redact(err))
		} else {
			out.Description = s.Description
		}
	}
	return out, nil
}

// updateGroup makes the changes one after the other. What was made before one is
// refused stays, and is named in the error.
func (l *Line) updateGroup(ctx context.Context, args whatisup.GroupUpdateArgs) (whatisup.Group, error) {
	jid, s := waconv.JIDOf(args.Group), args.Settings
	picture, err := l.pictureFile(ctx, args.Picture)
	if err != nil {
		return whatisup.Group{}, err
	}
	before, err := l.groupInfo(ctx, jid)
	if err != nil {
		return whatisup.Group{}, ofGroup(err)
	}
	err = inSteps(ofGroup, []step{
		{"subject", s.Subject != nil, func() error { return l.cli.SetGroupName(ctx, jid, *s.Subject) }},
		{"description", s.Description != nil && *s.Description != before.Topic, func() error {
			return l.cli.SetGroupTopic(ctx, jid, before.TopicID, "", *s.Description)
		}},
		{"who_may_write", s.WhoMayWrite != nil, func() error { return l.cli.SetGroupAnnounce(ctx, jid, *s.WhoMayWrite == whatisup.Admins) }},
		{"who_may_edit", s.WhoMayEdit != nil, func() error { return l.cli.SetGroupLocked(ctx, jid, *s.WhoMayEdit == whatisup.Admins) }},
		{"ephemeral_seconds", s.EphemeralSeconds != nil, func() error {
			return l.cli.SetDisappearingTimer(ctx, jid, time.Duration(*s.EphemeralSeconds)*time.Second, time.Time{})
		}},
		{"picture", args.Picture != nil, func() error { return l.setPicture(ctx, jid, picture) }},
	}...)
	if err != nil {
		return whatisup.Group{}, err
	}
	return l.group(ctx, whatisup.GroupArgs{Group: args.Group})
}

// step is one of several changes that one call asks for.
type step struct {
	name   string
	wanted bool
	do     func() error
}

// inSteps makes changes one after the other. What was made before one is refused stays,
// and is named in the error. Of says what an error of the library means here.
func inSteps(of func(error) error, steps ...step) error {
	changed := []string{}
	for _, s := range steps {
		if !s.wanted {
			continue
		}
		if err := s.do(); err != nil {
			if refused, ok := errors.AsType[*whatisup.Error](refusal(of(err))); ok && len(changed) > 0 {
				return refused.With("changed", changed)
			}
			return of(err)
		}
		changed = append(changed, s.name)
	}
	return nil
}

func (l *Line) leaveGroup(ctx context.Context, args whatisup.GroupArgs) (whatisup.Nothing, error) {
	return whatisup.Nothing{}, ofGroup(l.cli.LeaveGroup(ctx, waconv.JIDOf(args.Group)))
}

func outcomeOf(action whatisup.MemberAction, p whatisup.Person, r whatisup.MemberResult) whatisup.MemberOutcome {
	return whatisup.MemberOutcome{Action: action, PersonWire: p.Wire(), Outcome: r}
}

// memberOutcome is what WhatsApp says of one person.
func (l *Line) memberOutcome(ctx context.Context, action whatisup.MemberAction, p types.GroupParticipant) whatisup.MemberOutcome {
	out := outcomeOf(action, l.person(ctx, p.LID, p.PhoneNumber, p.JID), whatisup.MemberDone)
	if p.Error == 0 {
		return out
	}
	code := p.Error
	out.Outcome, out.WhatsAppCode = whatisup.MemberRefused, &code
	if p.AddRequest != nil {
		out.Outcome = whatisup.MemberInvite
		out.Invitation = &whatisup.Invitation{Code: p.AddRequest.Code, ExpiresAt: whatisup.At(p.AddRequest.Expiration)}
	}
	return out
}

// changeMembers makes the changes in their order, with one stanza for each action.
// A refusal of the first is the call's; later ones are the outcomes of those whom
// they are about, so that what was done is never hidden.
func (l *Line) changeMembers(ctx context.Context, args whatisup.MembersArgs) (whatisup.MemberOutcomes, error) {
	jid := waconv.JIDOf(args.Group)
	var all []whatisup.Address
	for _, c := range args.Changes {
		all = append(all, c.Persons...)
	}
	found, err := l.find(ctx, all...)
	if err != nil {
		return whatisup.MemberOutcomes{}, err
	}

	out := whatisup.MemberOutcomes{Data: []whatisup.MemberOutcome{}}
	sent := false
	for _, c := range args.Changes {
		var jids []types.JID
		var people []whatisup.Person
		for _, a := range c.Persons {
			p, ok := found[a]
			switch {
			case !ok:
				out.Data = append(out.Data, outcomeOf(c.Action, l.person(ctx, waconv.JIDOf(a)), whatisup.MemberNotOnWhatsApp))
			case !slices.Contains(jids, jidOf(p)):
				jids, people = append(jids, jidOf(p)), append(people, p)
			}
		}
		if len(jids) == 0 {
			continue
		}
		answers, err := l.cli.UpdateGroupParticipants(ctx, jid, jids, whatsmeow.ParticipantChange(c.Action))
		if err != nil {
			if !sent {
				return out, ofGroup(err)
			}
			out.Data = append(out.Data, failedFor(c.Action, people, err)...)
			continue
		}
		sent = true
		for _, p := range answers {
			out.Data = append(out.Data, l.memberOutcome(ctx, c.Action, p))
		}
	}
	if !sent {
		// Nobody who was named is on WhatsApp: whether there is such a group was not
		// asked yet.
		if _, err := l.groupInfo(ctx, jid); err != nil {
			return out, ofGroup(err)
		}
	}
	return out, nil
}

// failedFor is the outcome of an action that failed for everybody.
func failedFor(action whatisup.MemberAction, people []whatisup.Person, err error) (out []whatisup.MemberOutcome) {
	result, code := whatisup.MemberUnanswered, (*int)(nil)
	if e, ok := errors.AsType[*whatsmeow.IQError](err); ok && e.Code != 0 {
		result, code = whatisup.MemberRefused, &e.Code
	}
	for _, p := range people {
		one := outcomeOf(action, p, result)
		one.WhatsAppCode = code
		out = append(out, one)
	}
	return out
}

func (l *Line) inviteLink(ctx context.Context, args whatisup.GroupArgs) (whatisup.InviteLink, error) {
	return l.link(ctx, args, false)
}

func (l *Line) renewInviteLink(ctx context.Context, args whatisup.GroupArgs) (whatisup.InviteLink, error) {
	return l.link(ctx, args, true)
}

func (l *Line) link(ctx context.Context, args whatisup.GroupArgs, renew bool) (whatisup.InviteLink, error) {
	link, err := l.cli.GetGroupInviteLink(ctx, waconv.JIDOf(args.Group), renew)
	if err != nil {
		return whatisup.InviteLink{}, ofGroup(err)
	}
	return whatisup.InviteLink{Link: whatisup.InviteLinkPrefix + strings.TrimPrefix(link, whatsmeow.InviteLinkPrefix)}, nil
}

func (l *Line) joinGroup(ctx context.Context, args whatisup.JoinArgs) (whatisup.Group, error) {
	jid, err := l.cli.JoinGroupWithLink(ctx, args.Code)
	if errors.Is(err, whatsmeow.ErrInviteLinkRevoked) || errors.Is(err, whatsmeow.ErrInviteLinkInvalid) || errors.Is(err, whatsmeow.ErrIQNotFound) {
		return whatisup.Group{}, errBadLink
	}
	if err != nil {
		return whatisup.Group{}, err
	}
	g, err := l.groupInfo(ctx, jid)
	if err == nil {
		return l.withMembers(ctx, g), nil
	}
	// An admin has to let the number in: until then only the link shows the group.
	if g, linkErr := l.cli.GetGroupInfoFromLink(ctx, args.Code); linkErr == nil && errors.Is(err, whatsmeow.ErrNotInGroup) {
		out := l.groupOf(ctx, g)
		out.Pending = true
		return out, nil
	}
	return whatisup.Group{}, ErrNoAnswer // it has joined, and what it joined can't be shown
}
