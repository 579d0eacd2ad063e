package whatsapp

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"go.mau.fi/whatsmeow/types"
)

// profile is what a person says of themselves, and whom they keep away.
type profile struct {
	Name      string   `json:"name,omitempty"`
	About     string   `json:"about,omitempty"`
	AboutAt   int64    `json:"about_at,omitempty"`
	Picture   []byte   `json:"picture,omitempty"`
	PictureID string   `json:"picture_id,omitempty"`
	GroupAdd  string   `json:"group_add,omitempty"`   // none: must be invited
	ShowsTo   string   `json:"picture_for,omitempty"` // nobody: the picture is hidden
	Blocked   []string `json:"blocked,omitempty"`     // numbers
}

const usualAbout = "Hey there! I am using WhatsApp."

func (p *profile) about() string { return cmp.Or(p.About, usualAbout) }

func (s *Server) profileOf(p person) (out profile) {
	_ = s.db.view(func(tx *tx) error {
		_, err := getJSON(tx.Bucket(bucketProfiles), keyOf(p.world, p.number), &out)
		return err
	})
	return out
}

func (s *Server) changeProfile(p person, change func(*profile)) (out profile, err error) {
	err = s.db.update(func(tx *tx) error {
		bucket, key := tx.Bucket(bucketProfiles), keyOf(p.world, p.number)
		if _, err := getJSON(bucket, key, &out); err != nil {
			return err
		}
		change(&out)
		return putJSON(bucket, key, out)
	})
	return out, err
}

// shownPicture is the id of the picture that others see, empty if there is none.
func (p *profile) shownPicture() string {
	if p.ShowsTo == "nobody" {
		return ""
	}
	return p.PictureID
}

// blocks says whether a person keeps another away.
func (s *Server) blocks(p, other person) bool {
	return slices.Contains(s.profileOf(p).Blocked, other.number)
}

// A picture is kept in the open on the media host's listener, under a path that
// nobody can guess.
func (s *Server) pictureURL(c *conn, world, name string) (url, path string) {
	host := c.local
	if s.cfg.Host != "" || host == "" {
		host = s.mediaHost()
	}
	path = "/pps/" + world + "/" + name
	return "https://" + host + path, path
}

func (s *Server) servePicture(w http.ResponseWriter, r *http.Request) {
	name, id, _ := strings.Cut(r.PathValue("name"), "-")
	owner := person{r.PathValue("world"), name}
	profile := s.profileOf(owner)
	if profile.PictureID == "" || profile.PictureID != id {
		http.Error(w, "no such picture", http.StatusNotFound)
		return
	}
	w.Header().Set("Content-Type", "image/jpeg")
	_, _ = w.Write(profile.Picture)
}

const maxPicture = 512 << 10

// pictureQuery answers for the picture of a person or a group, or changes the
// device's own or a group's.
func (s *Server) pictureQuery(c *conn, d *device, q *Node) Node {
	owner := d.person()
	if target := jidAttr(q, "target"); !target.IsEmpty() {
		p, ok := s.personOf(c.world, target.ToNonAD())
		if target.Server == types.GroupServer {
			p, ok = person{c.world, target.String()}, true
		}
		if !ok {
			return iqError(q, 404, "item-not-found")
		}
		owner = p
	}
	if str(q, "type") == "set" {
		return s.setPicture(d, q, owner)
	}
	profile := s.profileOf(owner)
	switch {
	case owner == d.person() && profile.PictureID != "":
	case profile.PictureID == "" || s.blocks(owner, d.person()):
		return iqError(q, 404, "item-not-found")
	case profile.shownPicture() == "":
		return iqError(q, 401, "not-authorized")
	}
	asked, _ := child(q, "picture")
	if asked != nil && str(asked, "id") == profile.PictureID {
		return result(q, Node{Tag: "picture", Attrs: Attrs{"status": "304"}})
	}
	return result(q, s.pictureNode(c, owner, &profile))
}

func (s *Server) pictureNode(c *conn, owner person, profile *profile) Node {
	url, path := s.pictureURL(c, owner.world, owner.number+"-"+profile.PictureID)
	return Node{Tag: "picture", Attrs: Attrs{"id": profile.PictureID, "type": "image", "url": url, "direct_path": path, "hash": base64Of(sha256Of(profile.Picture))}}
}

// communityPicture answers for the picture of a community, which is asked for as a part
// of the group.
func (s *Server) communityPicture(c *conn, d *device, q *Node) Node {
	g, err := s.groupFor(d.person(), jidAttr(q, "to").String())
	if err != nil {
		return groupError(q, err)
	}
	owner := person{d.World, g.jid().String()}
	profile := s.profileOf(owner)
	if profile.PictureID == "" {
		return iqError(q, 404, "item-not-found")
	}
	return result(q, Node{Tag: "pictures", Content: []Node{s.pictureNode(c, owner, &profile)}})
}

func (s *Server) setPicture(d *device, q *Node, owner person) Node {
	if owner != d.person() {
		g, err := s.group(owner.world, owner.number)
		if err != nil {
			return iqError(q, 401, "not-authorized") // somebody else's
		}
		if err := g.mayEdit(d.Number); err != nil {
			return groupError(q, err)
		}
	}
	picture := content(q, "picture")
	if len(picture) > maxPicture || len(picture) > 0 && http.DetectContentType(picture) != "image/jpeg" {
		return iqError(q, 406, "not-acceptable")
	}
	id, err := s.putPicture(owner, d.person(), picture)
	if err != nil {
		return iqError(q, 500, "internal-server-error")
	}
	if id == "" {
		return result(q)
	}
	return result(q, Node{Tag: "picture", Attrs: Attrs{"id": id}})
}

// putPicture changes a picture and tells who is concerned: a group's members, or
// the owner's devices and all that have exchanged messages with the owner.
func (s *Server) putPicture(owner, by person, picture []byte) (id string, err error) {
	if len(picture) > 0 {
		id = strconv.FormatInt(s.now().UnixMilli(), 10) + newID("")[:6]
	}
	if _, err = s.changeProfile(owner, func(p *profile) { p.Picture, p.PictureID = bytes.Clone(picture), id }); err != nil {
		return "", err
	}
	jid, people := s.lidOf(owner, 0), s.acquaintances(owner)
	if g, err := s.group(owner.world, owner.number); err == nil {
		jid, people = g.jid(), g.people()
	}
	change := Node{Tag: "set", Attrs: Attrs{"jid": jid, "id": id, "author": s.lidOf(by, 0)}}
	if id == "" {
		change = Node{Tag: "delete", Attrs: Attrs{"jid": jid, "author": s.lidOf(by, 0)}}
	}
	for _, p := range people {
		for _, d := range s.linkedTo(p) {
			s.notify(d, Node{Tag: "notification", Attrs: Attrs{"type": "picture", "from": jid}, Content: []Node{change}})
		}
	}
	return id, nil
}

// acquaintances are the people with linked devices that a person has exchanged
// messages with, and the person.
func (s *Server) acquaintances(p person) []person {
	out := []person{p}
	s.mu.Lock()
	var linked []person
	for other := range s.people {
		if other.world == p.world && other != p {
			linked = append(linked, other)
		}
	}
	s.mu.Unlock()
	for _, other := range linked {
		if s.haveExchanged(p, other) || s.haveExchanged(other, p) {
			out = append(out, other)
		}
	}
	return out
}

// setAbout changes what a person says of themselves, and tells who knows them.
func (s *Server) setAbout(p person, about string) error {
	if len([]rune(about)) > 139 {
		return refuse(http.StatusNotAcceptable, "not_acceptable", "this is longer than 139 characters")
	}
	if _, err := s.changeProfile(p, func(profile *profile) { profile.About, profile.AboutAt = about, s.now().Unix() }); err != nil {
		return err
	}
	for _, other := range s.acquaintances(p) {
		for _, d := range s.linkedTo(other) {
			s.notify(d, Node{Tag: "notification", Attrs: Attrs{"type": "status", "from": s.lidOf(p, 0)},
				Content: []Node{{Tag: "set", Content: []byte(about)}}})
		}
	}
	return nil
}

// statusQuery is a device changing its owner's words in the older way.
func (s *Server) statusQuery(d *device, q *Node) Node {
	if str(q, "type") != "set" {
		return result(q)
	}
	if err := s.setAbout(d.person(), string(content(q, "status"))); err != nil {
		return groupError(q, err)
	}
	return result(q)
}

// mexQuery answers the queries in JSON, of which one is modelled: the change of
// the owner's words.
func (s *Server) mexQuery(d *device, q *Node) Node {
	var in struct {
		Variables struct {
			Input struct {
				Text *string `json:"text"`
			} `json:"input"`
		} `json:"variables"`
	}
	if json.Unmarshal(content(q, "query"), &in) != nil || in.Variables.Input.Text == nil {
		return iqError(q, 501, "feature-not-implemented")
	}
	if err := s.setAbout(d.person(), *in.Variables.Input.Text); err != nil {
		return groupError(q, err)
	}
	return result(q, Node{Tag: "result", Content: []byte(`{"data":{"xwa2_users_update_text_status":{"result":"SUCCESS"}}}`)})
}

// blocklistQuery lists whom a device's owner keeps away, or changes it.
func (s *Server) blocklistQuery(d *device, q *Node) Node {
	profile := s.profileOf(d.person())
	if item, ok := child(q, "item"); ok {
		p, known := s.personOf(d.World, jidAttr(item, "jid"))
		action := str(item, "action")
		if !known || action != "block" && action != "unblock" {
			return iqError(q, 400, "bad-request")
		}
		var err error
		if profile, err = s.setBlocked(d.person(), p, action == "block", d); err != nil {
			return iqError(q, 500, "internal-server-error")
		}
	}
	var items []Node
	for _, number := range profile.Blocked {
		p := person{d.World, number}
		items = append(items, Node{Tag: "item", Attrs: Attrs{"jid": s.lidOf(p, 0), "pn_jid": s.jidOf(p, 0)}})
	}
	return result(q, Node{Tag: "list", Attrs: Attrs{"dhash": blockHash(profile.Blocked), "addressing_mode": "lid"}, Content: items})
}

func blockHash(numbers []string) string {
	if len(numbers) == 0 {
		return "none"
	}
	return base64Of(sha256Of([]byte(strings.Join(numbers, " ")))[:12])
}

// setBlocked keeps somebody away, or no longer, and tells the owner's other
// devices.
func (s *Server) setBlocked(p, other person, blocked bool, by *device) (profile, error) {
	var before string
	out, err := s.changeProfile(p, func(profile *profile) {
		before = blockHash(profile.Blocked)
		profile.Blocked = slices.DeleteFunc(profile.Blocked, func(number string) bool { return number == other.number })
		if blocked {
			profile.Blocked = append(profile.Blocked, other.number)
		}
	})
	if err != nil {
		return out, err
	}
	action := map[bool]string{true: "block", false: "unblock"}[blocked]
	for _, d := range s.linkedTo(p) {
		if d == by {
			continue
		}
		s.notify(d, Node{Tag: "notification", Attrs: Attrs{"type": "account_sync", "from": s.jidOf(p, 0)}, Content: []Node{{
			Tag: "blocklist", Attrs: Attrs{"action": "modify", "dhash": blockHash(out.Blocked), "prev_dhash": before},
			Content: []Node{{Tag: "item", Attrs: Attrs{"jid": s.lidOf(other, 0), "action": action}}},
		}}})
	}
	return out, nil
}

// actBlock is block and unblock.
func (s *Server) actBlock(_ context.Context, p person, a *Action) (Done, error) {
	other, err := personNamed(p.world, a.To)
	if err != nil {
		return Done{}, err
	}
	_, err = s.setBlocked(p, other, a.Kind == "block", nil)
	return Done{}, err
}

// actProfile is a person changing what others see.
func (s *Server) actProfile(_ context.Context, p person, a *Action) (Done, error) {
	if a.GroupAdd != "" && a.GroupAdd != "everybody" && a.GroupAdd != "none" || len(a.Name) > 256 {
		return Done{}, badRequest("group_add must be everybody or none, name at most 256 bytes long")
	}
	if a.PictureFor != "" && a.PictureFor != "everybody" && a.PictureFor != "nobody" {
		return Done{}, badRequest("picture_for must be everybody or nobody")
	}
	if _, err := s.changeProfile(p, func(profile *profile) {
		profile.Name, profile.GroupAdd = cmp.Or(a.Name, profile.Name), cmp.Or(a.GroupAdd, profile.GroupAdd)
		profile.ShowsTo = cmp.Or(a.PictureFor, profile.ShowsTo)
	}); err != nil {
		return Done{}, err
	}
	if a.About != nil {
		if err := s.setAbout(p, *a.About); err != nil {
			return Done{}, err
		}
	}
	if a.Picture != nil {
		if _, err := s.putPicture(p, p, a.Picture); err != nil {
			return Done{}, err
		}
	}
	return Done{}, nil
}

// issueTokens is a device or a phone trusting people: each gets a token with
// which to write without being taken for a stranger.
func (s *Server) issueTokens(d *device, q *Node) {
	list, ok := child(q, "tokens")
	if !ok {
		return
	}
	tokens, _ := list.Content.([]Node)
	for i := range tokens {
		if p, ok := s.personOf(d.World, jidAttr(&tokens[i], "jid")); ok && tokens[i].Tag == "token" {
			s.trust(d.person(), p)
		}
	}
}

// trust gives the devices of somebody a person's token.
func (s *Server) trust(p, other person) {
	for _, d := range s.linkedTo(other) {
		s.notify(d, Node{Tag: "notification", Attrs: Attrs{"type": "privacy_token", "from": s.jidOf(p, 0), "sender_lid": s.lidOf(p, 0)}, Content: []Node{{
			Tag: "tokens", Content: []Node{{
				Tag: "token", Attrs: Attrs{"type": "trusted_contact", "t": strconv.FormatInt(s.now().Unix(), 10)}, Content: s.tokenOf(p, other),
			}},
		}}})
	}
}

// actTrust is a phone giving somebody its token.
func (s *Server) actTrust(_ context.Context, p person, a *Action) (Done, error) {
	other, err := personNamed(p.world, a.To)
	if err == nil {
		s.trust(p, other)
	}
	return Done{}, err
}

// tokenOf is derived, like all that lasts of a person.
func (s *Server) tokenOf(p, other person) []byte {
	token := s.seed.bytes(p.label("token for " + other.number))
	return token[:16]
}
