package whatsapp

import (
	"cmp"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"time"

	"go.mau.fi/whatsmeow/types"
)

// Member is somebody in a group.
type Member struct {
	PhoneNumber string `json:"phone_number"`
	Role        string `json:"role"` // member, admin or owner
}

// Group is a group as the control interface shows it.
type Group struct {
	World            string    `json:"world"`
	ID               string    `json:"id"` // a JID
	Subject          string    `json:"subject"`
	Description      string    `json:"description"`
	Owner            string    `json:"owner"` // phone number
	CreatedAt        time.Time `json:"created_at"`
	Members          []Member  `json:"members"`
	Announce         bool      `json:"announce"` // only admins write
	Locked           bool      `json:"locked"`   // only admins change the group
	Approval         bool      `json:"approval"` // admins let people in
	EphemeralSeconds uint32    `json:"ephemeral_seconds"`
	Addressing       string    `json:"addressing"`    // lid, or pn
	Parent           string    `json:"parent"`        // the community's JID
	Announcements    bool      `json:"announcements"` // the announcement group of that community
	Link             string    `json:"link"`
}

// groupRecord is a group as it is kept.
type groupRecord struct {
	Group
	SubjectBy     string    `json:"subject_by"`
	SubjectAt     time.Time `json:"subject_at"`
	DescriptionID string    `json:"description_id"`
	DescriptionBy string    `json:"description_by"`
	DescriptionAt time.Time `json:"description_at"`
	Code          string    `json:"code"`    // of the invitation
	Version       uint64    `json:"version"` // of the members
	IsParent      bool      `json:"is_parent"`
	Asked         []string  `json:"asked"` // numbers that want to join
}

// Roles in a group.
const (
	RoleMember = "member"
	RoleAdmin  = "admin"
	RoleOwner  = "owner"
)

const (
	maxMembers     = 1024
	maxSubject     = 100
	maxDescription = 2048
)

var (
	errNoGroup    = refuse(http.StatusNotFound, "no_such_group", "there is no such group")
	errNotMember  = refuse(http.StatusConflict, "not_in_group", "this person is no member of the group")
	errNotAllowed = refuse(http.StatusConflict, "not_allowed_in_group", "only admins may do that")
)

func (g *groupRecord) lids() bool { return g.Addressing != "pn" }

func (g *groupRecord) role(number string) string {
	for _, m := range g.Members {
		if m.PhoneNumber == number {
			return m.Role
		}
	}
	return ""
}

func (g *groupRecord) isAdmin(number string) bool {
	role := g.role(number)
	return role == RoleAdmin || role == RoleOwner
}

func (g *groupRecord) jid() types.JID {
	jid, _ := types.ParseJID(g.ID)
	return jid
}

func (g *groupRecord) people() []person {
	out := make([]person, len(g.Members))
	for i, m := range g.Members {
		out[i] = person{g.World, m.PhoneNumber}
	}
	return out
}

func (g *groupRecord) view() Group {
	out := g.Group
	out.Members = slices.Clone(g.Members)
	out.Link = "https://chat.whatsapp.com/" + g.Code
	return out
}

func groupIn(tx *tx, world, id string) (g groupRecord, ok bool, err error) {
	ok, err = getJSON(tx.Bucket(bucketGroups), keyOf(world, id), &g)
	return g, ok, err
}

// group finds a group.
func (s *Server) group(world, id string) (g groupRecord, err error) {
	found := false
	err = s.db.view(func(tx *tx) (err error) {
		g, found, err = groupIn(tx, world, id)
		return err
	})
	if err == nil && !found {
		err = errNoGroup
	}
	return g, err
}

// groupFor finds a group for one of its members.
func (s *Server) groupFor(p person, id string) (groupRecord, error) {
	g, err := s.group(p.world, id)
	if err == nil && g.role(p.number) == "" {
		err = errNotMember
	}
	return g, err
}

// mayEdit says why somebody may not change what a group shows of itself.
func (g *groupRecord) mayEdit(number string) error {
	switch {
	case g.role(number) == "":
		return errNotMember
	case g.Locked && !g.isAdmin(number):
		return errNotAllowed
	}
	return nil
}

// membersOf lists who is in a group.
func (s *Server) membersOf(id, world string) []person {
	g, err := s.group(world, id)
	if err != nil {
		return nil
	}
	return g.people()
}

func (s *Server) isAdminOf(tx *tx, world, id, number string) bool {
	g, ok, err := groupIn(tx, world, id)
	return ok && err == nil && g.isAdmin(number)
}

// changeGroup changes a group in one transaction. The change may refuse.
func (s *Server) changeGroup(world, id string, change func(*groupRecord) error) (g groupRecord, err error) {
	err = s.db.update(func(tx *tx) error {
		var found bool
		if g, found, err = groupIn(tx, world, id); err != nil {
			return err
		}
		if !found {
			return errNoGroup
		}
		if err := change(&g); err != nil {
			return err
		}
		return putJSON(tx.Bucket(bucketGroups), keyOf(world, id), g)
	})
	return g, err
}

// Groups lists the groups of a world, of one person if a number is given.
func (s *Server) Groups(world, number string) ([]Group, error) {
	list, err := s.groupsOf(person{orWorld(world), canonical(digits(number))})
	out := make([]Group, len(list))
	for i := range list {
		out[i] = list[i].view()
	}
	return out, err
}

func (s *Server) groupsOf(p person) (out []groupRecord, err error) {
	err = s.db.view(func(tx *tx) error {
		return under(tx.Bucket(bucketGroups), keyOf(p.world), func(_, value []byte) error {
			var g groupRecord
			if err := json.Unmarshal(value, &g); err != nil {
				return err
			}
			if p.number == "" || g.role(p.number) != "" {
				out = append(out, g)
			}
			return nil
		})
	})
	return out, err
}

// newGroup is what somebody asks for who creates a group.
type newGroup struct {
	subject, description string
	members              []person
	lids, announce       bool
	locked, approval     bool
	ephemeral            uint32
	parent               string
	isParent             bool
}

// createGroup makes a group of its creator and those given.
func (s *Server) createGroup(creator person, n newGroup) (groupRecord, error) {
	if n.subject == "" || len([]rune(n.subject)) > maxSubject || len(n.members) >= maxMembers {
		return groupRecord{}, badRequest("a group has a subject of 1 to %d characters and at most %d members", maxSubject, maxMembers)
	}
	now := s.now().UTC()
	g := groupRecord{Group: Group{
		World: creator.world, Subject: n.subject, Description: n.description, Owner: creator.number, CreatedAt: now,
		Members:  []Member{{creator.number, RoleOwner}},
		Announce: n.announce, Locked: n.locked, Approval: n.approval, EphemeralSeconds: n.ephemeral, Parent: n.parent,
		Addressing: "pn",
	}, SubjectBy: creator.number, SubjectAt: now, Code: newID("")[:22], Version: 1, IsParent: n.isParent}
	if n.lids {
		g.Addressing = "lid"
	}
	if n.description != "" {
		g.DescriptionID, g.DescriptionBy, g.DescriptionAt = newID("3EB0")[:22], creator.number, now
	}
	for _, p := range n.members {
		if g.role(p.number) == "" && s.isOnWhatsApp(p) {
			g.Members = append(g.Members, Member{p.number, RoleMember})
		}
	}
	err := s.db.update(func(tx *tx) error {
		bucket := tx.Bucket(bucketGroups)
		serial, err := bucket.NextSequence()
		if err != nil {
			return err
		}
		g.ID = "1203634" + padded(serial) + "@" + types.GroupServer
		return putJSON(bucket, keyOf(g.World, g.ID), g)
	})
	return g, err
}

func padded(serial uint64) string {
	text := strconv.FormatUint(serial, 10)
	for len(text) < 11 {
		text = "0" + text
	}
	return text
}

// outcome is what became of one person in a change of members.
type outcome struct {
	person person
	code   int    // 0: done
	invite string // a code with which a person that cannot be added may be invited
}

// alter does one change of members for somebody, and says what became of each.
func (s *Server) alter(by person, id, action string, people []person) (g groupRecord, out []outcome, err error) {
	asked := map[person]bool{} // who wants to be asked first
	for _, p := range people {
		asked[p] = s.profileOf(p).GroupAdd == "none"
	}
	g, err = s.changeGroup(by.world, id, func(g *groupRecord) error {
		out = out[:0]
		switch {
		case g.role(by.number) == "":
			return errNotMember
		case !g.isAdmin(by.number) && (action != "add" || g.Locked):
			return errNotAllowed
		}
		for _, p := range people {
			out = append(out, s.alterOne(g, action, p, asked[p]))
		}
		g.Version++
		return nil
	})
	return g, out, err
}

func (s *Server) alterOne(g *groupRecord, action string, p person, asks bool) outcome {
	out := outcome{person: p}
	role := g.role(p.number)
	switch {
	case action == "add" && !s.isOnWhatsApp(p):
		out.code = 404
	case action == "add" && role != "":
		out.code = 409
	case action == "add" && len(g.Members) >= maxMembers:
		out.code = 419
	case action == "add" && asks:
		out.code, out.invite = 403, newID("")[:16]
	case action != "add" && role == "":
		out.code = 404
	case action == "remove" && role == RoleOwner, action == "demote" && role == RoleOwner:
		out.code = 406
	case action == "add":
		g.Members = append(g.Members, Member{p.number, RoleMember})
	case action == "remove":
		g.Members = slices.DeleteFunc(g.Members, func(m Member) bool { return m.PhoneNumber == p.number })
	default:
		g.setRole(p.number, map[string]string{"promote": RoleAdmin, "demote": RoleMember}[action])
	}
	return out
}

func (g *groupRecord) setRole(number, role string) {
	for i := range g.Members {
		if g.Members[i].PhoneNumber == number && g.Members[i].Role != RoleOwner {
			g.Members[i].Role = role
		}
	}
}

// leaveGroup takes a person out of a group. An owner hands over to the next.
func (s *Server) leaveGroup(p person, id string) (groupRecord, error) {
	return s.changeGroup(p.world, id, func(g *groupRecord) error {
		if g.role(p.number) == "" {
			return errNotMember
		}
		g.Members = slices.DeleteFunc(g.Members, func(m Member) bool { return m.PhoneNumber == p.number })
		if len(g.Members) > 0 && !slices.ContainsFunc(g.Members, func(m Member) bool { return m.Role != RoleMember }) {
			g.Members[0].Role = RoleAdmin
		}
		g.Version++
		return nil
	})
}

var (
	errBadCode = refuse(http.StatusUnprocessableEntity, "no_such_link", "no group has this link")
	errAsked   = errors.New("the group's admins have been asked")
)

// joinGroup lets a person in who has a group's link, or puts the question to the
// group's admins.
func (s *Server) joinGroup(p person, code string) (groupRecord, error) {
	id := ""
	list, err := s.groupsOf(person{world: p.world})
	if err != nil {
		return groupRecord{}, err
	}
	for i := range list {
		if list[i].Code == code {
			id = list[i].ID
		}
	}
	if id == "" {
		return groupRecord{}, errBadCode
	}
	asked := false
	g, err := s.changeGroup(p.world, id, func(g *groupRecord) error {
		switch {
		case g.role(p.number) != "":
			return refuse(http.StatusConflict, "already_in_group", "this person is a member already")
		case len(g.Members) >= maxMembers:
			return refuse(http.StatusConflict, "group_full", "the group has %d members", maxMembers)
		case g.Approval:
			asked = true
			if !slices.Contains(g.Asked, p.number) {
				g.Asked = append(g.Asked, p.number)
			}
			return nil
		}
		g.Members = append(g.Members, Member{p.number, RoleMember})
		g.Version++
		return nil
	})
	if err == nil && asked {
		err = errAsked
	}
	return g, err
}

// role as a client reads it.
func roleAttr(role string) string {
	return cmp.Or(map[string]string{RoleAdmin: "admin", RoleOwner: "superadmin"}[role])
}
