package httpapi

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"whatisup/shared/input"
	"whatisup/shared/whatisup"
)

func listGroups(c *call) (*answer, error) { return c.askPage(whatisup.GroupsList) }

func createGroup(c *call) (*answer, error) {
	b, err := c.readBody()
	if err != nil {
		return nil, err
	}
	var args whatisup.GroupCreateArgs
	if s := words(b, "subject", true, 1, whatisup.MaxSubject); s != nil {
		args.Subject = *s
	}
	args.Participants = people(b, "participants", true, whatisup.MaxParticipants)
	args.Settings = groupSettings(b)
	if err := b.Done(); err != nil {
		return nil, err
	}
	return c.idempotent(b, func(r *claim) (*answer, error) {
		return c.askAs(http.StatusCreated, whatisup.GroupCreate, r, args)
	})
}

// timers are how long WhatsApp lets messages of a chat live, in seconds.
var timers = []uint32{0, 86_400, 604_800, 7_776_000}

// groupSettings reads what is set of a group; the subject is read apart, because a
// new group must have one.
func groupSettings(b *input.Object) whatisup.GroupSettings {
	s := whatisup.GroupSettings{
		Description: words(b, "description", false, 0, whatisup.MaxGroupDescription),
		WhoMayWrite: choice(b, "who_may_write", false, whatisup.GroupAudiences),
		WhoMayEdit:  choice(b, "who_may_edit", false, whatisup.GroupAudiences),
	}
	if raw, ok := b.Take("ephemeral_seconds"); ok {
		if err := json.Unmarshal(raw, &s.EphemeralSeconds); err != nil || s.EphemeralSeconds == nil || !slices.Contains(timers, *s.EphemeralSeconds) {
			b.Problem("ephemeral_seconds", "must be 0, 86400, 604800 or 7776000")
		}
	}
	return s
}

func getGroup(c *call) (*answer, error) {
	g, err := c.group()
	if err != nil {
		return nil, err
	}
	return c.groupDetails(whatisup.GroupGet, whatisup.GroupArgs{Group: g})
}

func updateGroup(c *call) (*answer, error) {
	g, err := c.group()
	if err != nil {
		return nil, err
	}
	b, err := c.readBody()
	if err != nil {
		return nil, err
	}
	args := whatisup.GroupUpdateArgs{Group: g, Settings: groupSettings(b)}
	args.Settings.Subject = words(b, "subject", false, 1, whatisup.MaxSubject)
	picture := readPicture(b)
	if err := b.Done(); err != nil {
		return nil, err
	}
	if args.Picture, err = c.setPicture(picture); err != nil {
		return nil, err
	}
	if args.Picture == nil && args.Settings == (whatisup.GroupSettings{}) {
		return getGroup(c)
	}
	return c.groupDetails(whatisup.GroupUpdate, args)
}

func leaveGroup(c *call) (*answer, error) {
	return c.changeGroup(http.StatusNoContent, whatisup.GroupLeave)
}

func renewGroupInvite(c *call) (*answer, error) {
	return c.changeGroup(http.StatusOK, whatisup.GroupInviteRenew)
}

// changeGroup serves a change that has no arguments but the group.
func (c *call) changeGroup(status int, kind whatisup.CommandKind) (*answer, error) {
	g, err := c.group()
	if err != nil {
		return nil, err
	}
	b, err := c.emptyBody()
	if err != nil {
		return nil, err
	}
	return c.idempotent(b, func(r *claim) (*answer, error) {
		return c.askAs(status, kind, r, whatisup.GroupArgs{Group: g})
	})
}

func changeParticipants(c *call) (*answer, error) {
	g, err := c.group()
	if err != nil {
		return nil, err
	}
	b, err := c.readBody()
	if err != nil {
		return nil, err
	}
	args := whatisup.MembersArgs{Group: g}
	named := 0
	for _, action := range whatisup.MemberActions {
		if list := people(b, string(action), false, whatisup.MaxParticipants); len(list) > 0 {
			args.Changes = append(args.Changes, whatisup.MembersEdit{Action: action, Persons: list})
			named += len(list)
		}
	}
	if named > whatisup.MaxParticipants {
		b.Problem("add", fmt.Sprintf("all lists together must have at most %d entries", whatisup.MaxParticipants))
	}
	if err := b.Done(); err != nil {
		return nil, err
	}
	if named == 0 {
		return nil, input.Invalid(input.Problem{Field: "add", Problem: "one of add, remove, promote and demote is required"})
	}
	return c.idempotent(b, func(r *claim) (*answer, error) {
		return c.askAs(http.StatusOK, whatisup.GroupParticipants, r, args)
	})
}

func getGroupInvite(c *call) (*answer, error) {
	g, err := c.group()
	if err != nil {
		return nil, err
	}
	return c.ask(http.StatusOK, whatisup.GroupInviteGet, whatisup.GroupArgs{Group: g})
}

// maxCode is the longest code of a link that is passed on to WhatsApp.
const maxCode = 64

func joinGroup(c *call) (*answer, error) {
	b, err := c.readBody()
	if err != nil {
		return nil, err
	}
	var args whatisup.JoinArgs
	if link, ok := b.Text("link", true); ok {
		code, _, _ := strings.Cut(strings.TrimPrefix(strings.TrimSpace(link), whatisup.InviteLinkPrefix), "?")
		if args.Code = strings.TrimPrefix(code, "invite/"); !isCode(args.Code) {
			b.Problem("link", "must be an invitation link: "+whatisup.InviteLinkPrefix+" and a code")
		}
	}
	if err := b.Done(); err != nil {
		return nil, err
	}
	return c.idempotent(b, func(r *claim) (*answer, error) {
		return c.askAs(http.StatusOK, whatisup.GroupJoin, r, args)
	})
}

func isCode(s string) bool {
	for _, r := range s {
		if (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && r != '-' && r != '_' {
			return false
		}
	}
	return s != "" && len(s) <= maxCode
}
