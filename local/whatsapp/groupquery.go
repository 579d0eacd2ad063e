package whatsapp

import (
	"errors"
	"slices"
	"strconv"
	"strings"

	"go.mau.fi/whatsmeow/types"
)

// groupQuery answers what a device asks about groups, or wants of one. Every
// change is told to the devices of all members.
func (s *Server) groupQuery(d *device, q *Node) Node {
	children, _ := q.Content.([]Node)
	if len(children) == 0 {
		return iqError(q, 400, "bad-request")
	}
	set, to, what := str(q, "type") == "set", jidAttr(q, "to"), &children[0]
	if to.Server == types.GroupServer && to.User != "" {
		return s.oneGroupQuery(d, q, to.String(), what, set)
	}
	switch what.Tag {
	case "participating":
		return s.participating(d, q)
	case "create":
		return s.createQuery(d, q, what)
	case "leave":
		return s.leaveQuery(d, q, what)
	case "invite":
		return s.inviteQuery(d, q, str(what, "code"), set)
	}
	return iqError(q, 501, "feature-not-implemented")
}

func (s *Server) oneGroupQuery(d *device, q *Node, id string, what *Node, set bool) Node {
	g, err := s.group(d.World, id)
	switch {
	case err != nil:
		return groupError(q, err)
	case g.role(d.Number) == "" && what.Tag != "accept" && what.Tag != "query":
		return groupError(q, errNotMember)
	}
	switch what.Tag {
	case "query":
		if request, ok := child(what, "add_request"); ok && str(request, "code") == g.Code {
			return result(q, s.groupNode(&g, true))
		}
		if g.role(d.Number) == "" {
			return groupError(q, errNotMember)
		}
		return result(q, s.groupNode(&g, true))
	case "add", "remove", "promote", "demote":
		return s.membersQuery(d, q, &g, what)
	case "invite":
		if !g.isAdmin(d.Number) {
			return iqError(q, 401, "not-authorized")
		}
		if set {
			g, err = s.renewLink(d.person(), id)
		}
		if err != nil {
			return groupError(q, err)
		}
		return result(q, Node{Tag: "invite", Attrs: Attrs{"code": g.Code}})
	case "accept":
		return s.inviteQuery(d, q, str(what, "code"), true)
	case "membership_approval_requests":
		return result(q, s.approvals(&g))
	case "membership_requests_action":
		return s.approveQuery(d, q, &g, what)
	case "sub_groups", "linked_groups_participants":
		return s.communityQuery(q, &g, what.Tag)
	}
	return s.settingQuery(d, q, id, what)
}

// groupError is the refusal that WhatsApp gives for what went wrong.
func groupError(q *Node, err error) Node {
	e, _ := errors.AsType[*Error](err)
	switch {
	case e == errNoGroup:
		return iqError(q, 404, "item-not-found")
	case e == errNotMember:
		return iqError(q, 403, "forbidden")
	case e == errNotAllowed:
		return iqError(q, 401, "not-authorized")
	case e == errBadCode:
		return iqError(q, 406, "not-acceptable")
	case e != nil && e.Status < 500:
		return iqError(q, e.Status, strings.ReplaceAll(e.Code, "_", "-"))
	}
	return iqError(q, 500, "internal-server-error")
}

// groupNode describes a group, with its members or without.
func (s *Server) groupNode(g *groupRecord, members bool) Node {
	id, _, _ := strings.Cut(g.ID, "@")
	owner, subjectBy := person{g.World, g.Owner}, person{g.World, g.SubjectBy}
	n := Node{Tag: "group", Attrs: Attrs{
		"id": id, "subject": g.Subject, "addressing_mode": g.Addressing, "size": strconv.Itoa(len(g.Members)),
		"creation": unix(g.CreatedAt.Unix()), "creator": s.memberJID(owner, g.lids()), "creator_pn": s.jidOf(owner, 0),
		"s_t": unix(g.SubjectAt.Unix()), "s_o": s.memberJID(subjectBy, g.lids()), "s_o_pn": s.jidOf(subjectBy, 0),
		"p_v_id": strconv.FormatUint(g.Version, 10), "a_v_id": "1",
	}}
	var content []Node
	if members {
		for _, m := range g.Members {
			content = append(content, s.memberNode(g, person{g.World, m.PhoneNumber}, m.Role))
		}
	}
	if g.Description != "" {
		content = append(content, Node{Tag: "description", Attrs: Attrs{
			"id": g.DescriptionID, "t": unix(g.DescriptionAt.Unix()), "participant": s.memberJID(person{g.World, g.DescriptionBy}, g.lids()),
		}, Content: []Node{{Tag: "body", Content: []byte(g.Description)}}})
	}
	n.Content = append(content, groupFlags(g)...)
	return n
}

func groupFlags(g *groupRecord) (out []Node) {
	for tag, set := range map[string]bool{"announcement": g.Announce, "locked": g.Locked, "default_sub_group": g.Announcements} {
		if set {
			out = append(out, Node{Tag: tag})
		}
	}
	slices.SortFunc(out, func(a, b Node) int { return strings.Compare(a.Tag, b.Tag) })
	if g.EphemeralSeconds > 0 {
		out = append(out, Node{Tag: "ephemeral", Attrs: Attrs{"expiration": strconv.FormatUint(uint64(g.EphemeralSeconds), 10)}})
	}
	if g.Approval {
		out = append(out, Node{Tag: "membership_approval_mode", Content: []Node{{Tag: "group_join", Attrs: Attrs{"state": "on"}}}})
	}
	if parent, err := types.ParseJID(g.Parent); err == nil && g.Parent != "" {
		out = append(out, Node{Tag: "linked_parent", Attrs: Attrs{"jid": parent}})
	}
	if g.IsParent {
		out = append(out, Node{Tag: "parent", Attrs: Attrs{"default_membership_approval_mode": "request_required"}})
	}
	return append(out, Node{Tag: "member_add_mode", Content: []byte("all_member_add")})
}

func unix(t int64) string { return strconv.FormatInt(t, 10) }

// memberNode names a member in both forms.
func (s *Server) memberNode(g *groupRecord, p person, role string) Node {
	n := Node{Tag: "participant", Attrs: Attrs{"jid": s.memberJID(p, g.lids())}}
	if g.lids() {
		n.Attrs["phone_number"] = s.jidOf(p, 0)
	} else {
		n.Attrs["lid"] = s.lidOf(p, 0)
	}
	if kind := roleAttr(role); kind != "" {
		n.Attrs["type"] = kind
	}
	return n
}

func (s *Server) participating(d *device, q *Node) Node {
	_, members := child(q, "participating", "participants")
	list, err := s.groupsOf(d.person())
	if err != nil {
		return groupError(q, err)
	}
	var nodes []Node
	for i := range list {
		nodes = append(nodes, s.groupNode(&list[i], members))
	}
	return result(q, Node{Tag: "groups", Content: nodes})
}

// peopleIn reads the participants that a query names.
func (s *Server) peopleIn(world string, n *Node) (out []person) {
	children, _ := n.Content.([]Node)
	for i := range children {
		if children[i].Tag != "participant" {
			continue
		}
		if p, ok := s.personOf(world, jidAttr(&children[i], "jid").ToNonAD()); ok {
			out = append(out, p)
		} else if p, ok := s.personOf(world, jidAttr(&children[i], "phone_number").ToNonAD()); ok {
			out = append(out, p)
		}
	}
	return out
}

func (s *Server) createQuery(d *device, q, what *Node) Node {
	n := newGroup{subject: str(what, "subject"), members: s.peopleIn(d.World, what), lids: true}
	_, n.announce = child(what, "announcement")
	_, n.locked = child(what, "locked")
	_, n.isParent = child(what, "parent")
	if e, ok := child(what, "ephemeral"); ok {
		seconds, _ := strconv.ParseUint(str(e, "expiration"), 10, 32)
		n.ephemeral = uint32(seconds)
	}
	if mode, ok := child(what, "membership_approval_mode", "group_join"); ok {
		n.approval = str(mode, "state") == "on"
	}
	if parent, ok := child(what, "linked_parent"); ok {
		n.parent = jidAttr(parent, "jid").String()
	}
	g, err := s.createGroup(d.person(), n)
	if err != nil {
		return iqError(q, 406, "not-acceptable")
	}
	s.tellCreated(&g, d.person(), g.people(), d)
	node := s.groupNode(&g, false)
	var members []Node
	for _, p := range append([]person{d.person()}, n.members...) {
		member := s.memberNode(&g, p, g.role(p.number))
		if g.role(p.number) == "" {
			member.Attrs["error"] = "404"
		}
		members = append(members, member)
	}
	node.Content = append(members, node.Content.([]Node)...)
	if n.isParent {
		s.announcementsOf(d.person(), &g)
	}
	return result(q, node)
}

// announcementsOf makes the announcement group that every community has, with everybody
// in it.
func (s *Server) announcementsOf(p person, parent *groupRecord) {
	g, err := s.createGroup(p, newGroup{subject: parent.Subject, members: parent.people(), announce: true, lids: true, parent: parent.ID})
	if err == nil {
		g, err = s.changeGroup(p.world, g.ID, func(g *groupRecord) error { g.Announcements = true; return nil })
	}
	if err != nil {
		s.log.Error("cannot make a community's announcement group", "error", err)
		return
	}
	s.tellCreated(&g, p, g.people(), nil)
}

func (s *Server) communityQuery(q *Node, parent *groupRecord, tag string) Node {
	list, err := s.groupsOf(person{world: parent.World})
	if err != nil {
		return groupError(q, err)
	}
	out := Node{Tag: tag}
	var content []Node
	seen := map[string]bool{}
	for i := range list {
		g := &list[i]
		if g.Parent != parent.ID {
			continue
		}
		if tag == "sub_groups" {
			n := s.groupNode(g, false)
			content = append(content, Node{Tag: "group", Attrs: Attrs{"id": n.Attrs["id"], "subject": g.Subject, "s_t": n.Attrs["s_t"]}, Content: groupFlags(g)})
			continue
		}
		for _, m := range g.Members {
			if !seen[m.PhoneNumber] {
				seen[m.PhoneNumber] = true
				content = append(content, s.memberNode(g, person{g.World, m.PhoneNumber}, ""))
			}
		}
	}
	out.Content = content
	return result(q, out)
}

func (s *Server) leaveQuery(d *device, q, what *Node) Node {
	children, _ := what.Content.([]Node)
	var answers []Node
	for i := range children {
		id := jidAttr(&children[i], "id")
		if _, err := s.leaves(d.person(), id.String()); err != nil {
			return groupError(q, err)
		}
		answers = append(answers, Node{Tag: "group", Attrs: Attrs{"id": id}})
	}
	return result(q, Node{Tag: "leave", Content: answers})
}

// leaves takes a person out of a group and tells those who stay, and the
// person's own devices.
func (s *Server) leaves(p person, id string) (groupRecord, error) {
	g, err := s.leaveGroup(p, id)
	if err != nil {
		return g, err
	}
	s.tellGroup(&g, p, append(g.people(), p), s.membersChange(&g, "remove", []person{p}))
	return g, nil
}

// inviteQuery is a look at a group through its link, or joining by it.
func (s *Server) inviteQuery(d *device, q *Node, code string, joins bool) Node {
	if !joins {
		list, err := s.groupsOf(person{world: d.World})
		if err != nil {
			return groupError(q, err)
		}
		for i := range list {
			if list[i].Code == code {
				return result(q, s.groupNode(&list[i], true))
			}
		}
		return groupError(q, errBadCode)
	}
	g, err := s.joins(d.person(), code)
	jid := g.jid()
	switch {
	case errors.Is(err, errAsked):
		return result(q, Node{Tag: "membership_approval_request", Attrs: Attrs{"jid": jid}})
	case err != nil:
		return groupError(q, err)
	}
	return result(q, Node{Tag: "group", Attrs: Attrs{"jid": jid}})
}

// joins lets a person into a group by its link, and tells everybody.
func (s *Server) joins(p person, code string) (groupRecord, error) {
	g, err := s.joinGroup(p, code)
	if err != nil {
		return g, err
	}
	change := s.membersChange(&g, "add", []person{p})
	change.Attrs["reason"] = "invite"
	s.tellGroup(&g, p, without(g.people(), p), change)
	s.tellCreated(&g, p, []person{p}, nil)
	return g, nil
}

func without(people []person, p person) []person {
	return slices.DeleteFunc(slices.Clone(people), func(other person) bool { return other == p })
}

func (s *Server) renewLink(by person, id string) (groupRecord, error) {
	g, err := s.changeGroup(by.world, id, func(g *groupRecord) error {
		if !g.isAdmin(by.number) {
			return errNotAllowed
		}
		g.Code = newID("")[:22]
		return nil
	})
	if err == nil {
		s.tellGroup(&g, by, g.people(), Node{Tag: "invite", Attrs: Attrs{"code": g.Code}})
	}
	return g, err
}

func (s *Server) membersQuery(d *device, q *Node, before *groupRecord, what *Node) Node {
	g, outcomes, err := s.alters(d.person(), before.ID, what.Tag, s.peopleIn(d.World, what))
	if err != nil {
		return groupError(q, err)
	}
	var nodes []Node
	for _, o := range outcomes {
		n := s.memberNode(&g, o.person, g.role(o.person.number))
		if o.code != 0 {
			n.Attrs["error"] = strconv.Itoa(o.code)
		}
		if o.invite != "" {
			n.Content = []Node{{Tag: "add_request", Attrs: Attrs{"code": o.invite, "expiration": unix(s.now().Unix() + 3*86400)}}}
		}
		nodes = append(nodes, n)
	}
	return result(q, Node{Tag: what.Tag, Content: nodes})
}

// alters changes the members of a group for somebody, and tells everybody.
func (s *Server) alters(by person, id, action string, people []person) (groupRecord, []outcome, error) {
	g, outcomes, err := s.alter(by, id, action, people)
	if err != nil {
		return g, outcomes, err
	}
	var done []person
	for _, o := range outcomes {
		if o.code == 0 {
			done = append(done, o.person)
		}
	}
	if len(done) == 0 {
		return g, outcomes, nil
	}
	told := g.people()
	switch action {
	case "add":
		told = slices.DeleteFunc(told, func(p person) bool { return slices.Contains(done, p) })
		defer s.tellCreated(&g, by, done, nil)
	case "remove":
		told = append(told, done...)
	}
	s.tellGroup(&g, by, told, s.membersChange(&g, action, done))
	return g, outcomes, nil
}

func (s *Server) approvals(g *groupRecord) Node {
	var content []Node
	for _, number := range g.Asked {
		content = append(content, Node{Tag: "membership_approval_request", Attrs: Attrs{
			"jid": s.memberJID(person{g.World, number}, g.lids()), "request_time": unix(s.now().Unix()),
		}})
	}
	return Node{Tag: "membership_approval_requests", Content: content}
}

func (s *Server) approveQuery(d *device, q *Node, g *groupRecord, what *Node) Node {
	choices, _ := what.Content.([]Node)
	if len(choices) == 0 || !g.isAdmin(d.Number) {
		return groupError(q, errNotAllowed)
	}
	choice := &choices[0]
	people := s.peopleIn(d.World, choice)
	changed, err := s.changeGroup(d.World, g.ID, func(g *groupRecord) error {
		for _, p := range people {
			g.Asked = slices.DeleteFunc(g.Asked, func(number string) bool { return number == p.number })
		}
		return nil
	})
	if err == nil && choice.Tag == "approve" {
		changed, _, err = s.alters(d.person(), g.ID, "add", people)
	}
	if err != nil {
		return groupError(q, err)
	}
	var nodes []Node
	for _, p := range people {
		nodes = append(nodes, s.memberNode(&changed, p, ""))
	}
	return result(q, Node{Tag: what.Tag, Content: []Node{{Tag: choice.Tag, Content: nodes}}})
}

// settingQuery changes one thing of a group.
func (s *Server) settingQuery(d *device, q *Node, id string, what *Node) Node {
	change, ok := s.settingIn(d.person(), what)
	if !ok {
		return iqError(q, 501, "feature-not-implemented")
	}
	if _, err := s.sets(d.person(), id, change); err != nil {
		return groupError(q, err)
	}
	return result(q)
}

// setting is one change of a group, and how its members are told.
type setting struct {
	apply func(*groupRecord) error
	told  func(*groupRecord) Node
}

// sets applies a setting for somebody who may, and tells everybody.
func (s *Server) sets(by person, id string, change setting) (groupRecord, error) {
	g, err := s.changeGroup(by.world, id, func(g *groupRecord) error {
		if err := g.mayEdit(by.number); err != nil {
			return err
		}
		return change.apply(g)
	})
	if err == nil {
		s.tellGroup(&g, by, g.people(), change.told(&g))
	}
	return g, err
}

// settingIn reads a setting from a query.
func (s *Server) settingIn(by person, what *Node) (setting, bool) {
	switch what.Tag {
	case "subject":
		return s.setSubject(by, string(textOf(what))), true
	case "description":
		return s.setDescription(by, string(content(what, "body")), str(what, "id")), true
	case "announcement", "not_announcement":
		return s.setFlag(by, what.Tag, func(g *groupRecord) { g.Announce = what.Tag == "announcement" }), true
	case "locked", "unlocked":
		return s.setFlag(by, what.Tag, func(g *groupRecord) { g.Locked = what.Tag == "locked" }), true
	case "ephemeral", "not_ephemeral":
		seconds, _ := strconv.ParseUint(str(what, "expiration"), 10, 32)
		return s.setTimer(uint32(seconds)), true
	case "membership_approval_mode":
		mode, _ := child(what, "group_join")
		return s.setApproval(by, mode != nil && str(mode, "state") == "on"), true
	}
	return setting{}, false
}

func textOf(n *Node) []byte {
	switch v := n.Content.(type) {
	case []byte:
		return v
	case string:
		return []byte(v)
	}
	return nil
}

func (s *Server) setSubject(by person, subject string) setting {
	return setting{
		apply: func(g *groupRecord) error {
			if subject == "" || len([]rune(subject)) > maxSubject {
				return refuse(406, "not_acceptable", "a subject has 1 to %d characters", maxSubject)
			}
			g.Subject, g.SubjectBy, g.SubjectAt = subject, by.number, s.now().UTC()
			return nil
		},
		told: func(g *groupRecord) Node {
			return Node{Tag: "subject", Attrs: Attrs{"subject": g.Subject, "s_t": unix(g.SubjectAt.Unix()), "s_o": s.memberJID(by, g.lids()), "s_o_pn": s.jidOf(by, 0)}}
		},
	}
}

func (s *Server) setDescription(by person, text, id string) setting {
	return setting{
		apply: func(g *groupRecord) error {
			if len([]rune(text)) > maxDescription || len(id) > 128 {
				return refuse(406, "not_acceptable", "a description has at most %d characters", maxDescription)
			}
			if id == "" {
				id = newID("3EB0")[:22]
			}
			g.Description, g.DescriptionID, g.DescriptionBy, g.DescriptionAt = text, id, by.number, s.now().UTC()
			return nil
		},
		told: func(g *groupRecord) Node {
			n := Node{Tag: "description", Attrs: Attrs{"id": g.DescriptionID}, Content: []Node{{Tag: "body", Content: []byte(g.Description)}}}
			if g.Description == "" {
				n.Content = []Node{{Tag: "delete"}}
			}
			return n
		},
	}
}

// setFlag is what only admins may switch.
func (s *Server) setFlag(by person, tag string, apply func(*groupRecord)) setting {
	return setting{
		apply: func(g *groupRecord) error {
			if !g.isAdmin(by.number) {
				return errNotAllowed
			}
			apply(g)
			return nil
		},
		told: func(*groupRecord) Node { return Node{Tag: tag, Attrs: Attrs{"v_id": "1"}} },
	}
}

func (s *Server) setTimer(seconds uint32) setting {
	return setting{
		apply: func(g *groupRecord) error { g.EphemeralSeconds = seconds; return nil },
		told: func(g *groupRecord) Node {
			if g.EphemeralSeconds == 0 {
				return Node{Tag: "not_ephemeral"}
			}
			return Node{Tag: "ephemeral", Attrs: Attrs{"expiration": strconv.FormatUint(uint64(g.EphemeralSeconds), 10)}}
		},
	}
}

func (s *Server) setApproval(by person, on bool) setting {
	out := s.setFlag(by, "membership_approval_mode", func(g *groupRecord) { g.Approval = on })
	out.told = func(*groupRecord) Node {
		state := map[bool]string{true: "on", false: "off"}[on]
		return Node{Tag: "membership_approval_mode", Content: []Node{{Tag: "group_join", Attrs: Attrs{"state": state}}}}
	}
	return out
}

// membersChange is the notice of a change of members.
func (s *Server) membersChange(g *groupRecord, action string, people []person) Node {
	n := Node{Tag: action, Attrs: Attrs{"prev_v_id": strconv.FormatUint(g.Version-1, 10), "v_id": strconv.FormatUint(g.Version, 10)}}
	var members []Node
	for _, p := range people {
		members = append(members, s.memberNode(g, p, g.role(p.number)))
	}
	n.Content = members
	return n
}

// tellGroup tells the devices of people what somebody has changed in a group.
func (s *Server) tellGroup(g *groupRecord, by person, people []person, change Node) {
	for _, p := range people {
		for _, d := range s.linkedTo(p) {
			n := Node{Tag: "notification", Attrs: Attrs{"type": "w:gp2", "from": g.jid(), "notify": nameOf(by)}, Content: []Node{change}}
			s.nameParticipant(&n, by, 0, g.lids())
			s.notify(d, n)
		}
	}
}

// tellCreated tells people that they are in a group now, but for the device that
// has made it.
func (s *Server) tellCreated(g *groupRecord, by person, people []person, maker *device) {
	create := Node{Tag: "create", Attrs: Attrs{"type": "new", "key": newID("3EB0")[:22]}, Content: []Node{s.groupNode(g, true)}}
	if by.number != g.Owner || len(people) != len(g.Members) {
		delete(create.Attrs, "key")
		create.Attrs["reason"] = "invite"
	}
	for _, p := range people {
		for _, d := range s.linkedTo(p) {
			if d == maker {
				continue
			}
			n := Node{Tag: "notification", Attrs: Attrs{"type": "w:gp2", "from": g.jid(), "notify": nameOf(by)}, Content: []Node{create}}
			s.nameParticipant(&n, by, 0, g.lids())
			s.notify(d, n)
		}
	}
}
