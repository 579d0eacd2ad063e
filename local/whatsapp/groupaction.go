package whatsapp

import (
	"context"
	"errors"
	"strings"
)

// What people do with groups on their phones.

func (s *Server) peopleNamed(world string, numbers []string) ([]person, error) {
	var out []person
	for _, number := range numbers {
		p, err := personNamed(world, number)
		if err != nil {
			return nil, err
		}
		out = append(out, p)
	}
	return out, nil
}

func done(g groupRecord, err error) (Done, error) {
	if err != nil {
		return Done{}, err
	}
	view := g.view()
	return Done{Group: &view}, nil
}

func (s *Server) actCreateGroup(_ context.Context, p person, a *Action) (Done, error) {
	members, err := s.peopleNamed(p.world, a.Members)
	if err != nil {
		return Done{}, err
	}
	if a.Addressing != "" && a.Addressing != "lid" && a.Addressing != "pn" {
		return Done{}, badRequest("addressing must be lid or pn")
	}
	n := newGroup{subject: a.Subject, members: members, lids: a.Addressing != "pn", isParent: a.Community, parent: a.Parent}
	if a.Parent != "" {
		if parent, err := s.groupFor(p, a.Parent); err != nil || !parent.IsParent || a.Community {
			return Done{}, badRequest("parent must be a community of this person, and its groups are none")
		}
	}
	if a.Description != nil {
		n.description = *a.Description
	}
	n.announce = a.Announce != nil && *a.Announce
	n.locked = a.Locked != nil && *a.Locked
	n.approval = a.Approval != nil && *a.Approval
	if a.Seconds != nil {
		n.ephemeral = *a.Seconds
	}
	g, err := s.createGroup(p, n)
	if err == nil {
		s.tellCreated(&g, p, g.people(), nil)
	}
	if err == nil && g.IsParent {
		s.announcementsOf(p, &g)
	}
	return done(g, err)
}

func (s *Server) actJoin(_ context.Context, p person, a *Action) (Done, error) {
	code := a.Link[strings.LastIndexByte(a.Link, '/')+1:]
	g, err := s.joins(p, code)
	if errors.Is(err, errAsked) {
		return Done{}, refuse(409, "approval_needed", "an admin of the group has to let this person in")
	}
	return done(g, err)
}

func (s *Server) actLeave(_ context.Context, p person, a *Action) (Done, error) {
	return done(s.leaves(p, a.Group))
}

// actMembers is add, remove, promote and demote.
func (s *Server) actMembers(_ context.Context, p person, a *Action) (Done, error) {
	people, err := s.peopleNamed(p.world, a.Members)
	if err != nil || len(people) == 0 {
		return Done{}, badRequest("members must name one at least, each by a phone number")
	}
	g, outcomes, err := s.alters(p, a.Group, a.Kind, people)
	for _, o := range outcomes {
		if o.code != 0 && err == nil {
			err = refuse(409, "not_possible", "WhatsApp refuses that for %s with %d", o.person.number, o.code)
		}
	}
	return done(g, err)
}

func (s *Server) actSettings(_ context.Context, p person, a *Action) (Done, error) {
	g, err := s.groupFor(p, a.Group)
	var changes []setting
	if a.Subject != "" {
		changes = append(changes, s.setSubject(p, a.Subject))
	}
	if a.Description != nil {
		changes = append(changes, s.setDescription(p, *a.Description, ""))
	}
	for _, flag := range []struct {
		value   *bool
		on, off string
		apply   func(*groupRecord, bool)
	}{
		{a.Announce, "announcement", "not_announcement", func(g *groupRecord, on bool) { g.Announce = on }},
		{a.Locked, "locked", "unlocked", func(g *groupRecord, on bool) { g.Locked = on }},
	} {
		if flag.value == nil {
			continue
		}
		tag := flag.off
		if *flag.value {
			tag = flag.on
		}
		changes = append(changes, s.setFlag(p, tag, func(g *groupRecord) { flag.apply(g, *flag.value) }))
	}
	if a.Approval != nil {
		changes = append(changes, s.setApproval(p, *a.Approval))
	}
	if a.Seconds != nil {
		changes = append(changes, s.setTimer(*a.Seconds))
	}
	for _, change := range changes {
		if err == nil {
			g, err = s.sets(p, a.Group, change)
		}
	}
	if err == nil && a.Addressing != "" {
		g, err = s.changeAddressing(p, a)
	}
	if err == nil && a.Picture != nil {
		err = s.setGroupPicture(p, g, a.Picture)
	}
	return done(g, err)
}

// setGroupPicture is somebody changing the group's picture, as far as they may.
func (s *Server) setGroupPicture(p person, g groupRecord, picture []byte) error {
	if err := g.mayEdit(p.number); err != nil {
		return err
	}
	_, err := s.putPicture(person{p.world, g.jid().String()}, p, picture)
	return err
}

// changeAddressing lets a group name its members in the other form. Nobody is
// told: a device that still uses the old form is refused with 421.
func (s *Server) changeAddressing(p person, a *Action) (groupRecord, error) {
	if a.Addressing != "lid" && a.Addressing != "pn" {
		return groupRecord{}, badRequest("addressing must be lid or pn")
	}
	return s.changeGroup(p.world, a.Group, func(g *groupRecord) error {
		g.Addressing = a.Addressing
		return nil
	})
}
