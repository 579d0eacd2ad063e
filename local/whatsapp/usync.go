package whatsapp

import (
	"cmp"
	"crypto/sha256"
	"encoding/base64"
	"slices"
	"strconv"
	"strings"

	"google.golang.org/protobuf/proto"

	"go.mau.fi/whatsmeow/proto/waAdv"
	"go.mau.fi/whatsmeow/types"
)

// usync answers what a client wants to know of other users. Everybody whose
// number could be one is on WhatsApp here, but for phones that are said not to
// be. Asked by a number, in whatever form, the server answers with the one that
// WhatsApp knows; by a JID of another form it knows nobody.
func (s *Server) usync(d *device, q *Node) Node {
	request, _ := child(q, "usync")
	query, asks := child(q, "usync", "query")
	list, _ := child(q, "usync", "list")
	if !asks || list == nil {
		return iqError(q, 400, "bad-request")
	}
	users, _ := list.Content.([]Node)
	if len(users) > 1000 {
		return iqError(q, 400, "bad-request")
	}
	protocols, _ := query.Content.([]Node)
	var answers, results []Node
	for i := range users {
		answers = append(answers, s.usyncUser(d, &users[i], protocols))
	}
	for i := range protocols {
		results = append(results, Node{Tag: protocols[i].Tag})
	}
	attrs := Attrs{}
	for _, name := range []string{"sid", "mode", "context", "last", "index"} {
		attrs[name] = str(request, name)
	}
	return result(q, Node{Tag: "usync", Attrs: attrs, Content: []Node{
		{Tag: "result", Content: results},
		{Tag: "list", Content: answers},
	}})
}

func (s *Server) usyncUser(d *device, user *Node, protocols []Node) Node {
	world := d.World
	asked := jidAttr(user, "jid")
	contact := string(content(user, "contact"))
	if asked.IsEmpty() {
		if lid, ok := child(user, "lid"); ok {
			asked = jidAttr(lid, "jid")
		}
	}
	if asked.IsEmpty() && contact != "" {
		digits, _, _ := strings.Cut(strings.TrimPrefix(contact, "+"), "@")
		asked = types.NewJID(digits, types.DefaultUserServer)
		if here := canonical(digits); validNumber(digits) && here != digits {
			asked.User = here // WhatsApp answers with the form that it knows
		}
	}
	p, known := s.personOf(world, asked)
	known = known && s.isOnWhatsApp(p)
	out := Node{Tag: "user", Attrs: Attrs{"jid": asked.ToNonAD()}}
	if known {
		out.Attrs["pn_jid"] = s.jidOf(p, 0)
	}
	var children []Node
	for i := range protocols {
		n := Node{Tag: protocols[i].Tag}
		switch n.Tag {
		case "contact":
			if known && str(&protocols[i], "addressing_mode") == "lid" {
				out.Attrs["jid"] = s.lidOf(p, 0)
			}
			n.Attrs = Attrs{"type": "in"}
			if !known {
				n.Attrs["type"] = "out"
			}
			if contact != "" {
				n.Content = []byte(contact)
			}
		case "devices":
			if known {
				n.Content = s.deviceList(p)
			}
		case "lid":
			if known {
				n.Attrs = Attrs{"val": s.lidOf(p, 0)}
			}
		case "status":
			if known {
				profile := s.profileOf(p)
				n.Attrs = Attrs{"t": strconv.FormatInt(cmp.Or(profile.AboutAt, 1_700_000_000), 10)}
				n.Content = []byte(profile.about())
			}
		case "picture":
			profile := s.profileOf(p)
			id := profile.shownPicture()
			if d.person() == p {
				id = profile.PictureID
			}
			if known && id != "" {
				n.Attrs = Attrs{"id": id, "type": "image"}
			}
		case "disappearing_mode":
			n.Attrs = Attrs{"duration": "0", "t": "0"}
		}
		children = append(children, n)
	}
	if len(children) > 0 {
		out.Content = children
	}
	return out
}

// deviceList says which devices an account has: the phone, and those linked,
// vouched for by the account's signature over their key indexes.
func (s *Server) deviceList(p person) []Node {
	s.mu.Lock()
	linked := s.devicesOf(p)
	devices := []Node{{Tag: "device", Attrs: Attrs{"id": "0"}}}
	valid := []uint32{0}
	changed := int64(1_700_000_000)
	for _, d := range linked {
		devices = append(devices, Node{Tag: "device", Attrs: Attrs{
			"id":        strconv.Itoa(int(d.ID)),
			"key-index": strconv.Itoa(int(d.KeyIndex)),
		}})
		valid = append(valid, d.KeyIndex)
		changed = max(changed, d.LinkedAt.Unix())
	}
	s.mu.Unlock()
	out := []Node{{Tag: "device-list", Content: devices}}
	if len(linked) == 0 {
		return out
	}
	details, err := proto.Marshal(&waAdv.ADVKeyIndexList{
		RawID:        proto.Uint32(s.rawID(p)),
		Timestamp:    proto.Uint64(uint64(changed)),
		CurrentIndex: proto.Uint32(slices.Max(valid)),
		ValidIndexes: valid,
		AccountType:  waAdv.ADVEncryptionType_E2EE.Enum(),
	})
	if err != nil {
		return out
	}
	signed, err := proto.Marshal(&waAdv.ADVSignedKeyIndexList{
		Details:          details,
		AccountSignature: sign(s.identityKey(p), advKeyIndexList, details),
	})
	if err != nil {
		return out
	}
	return append(out, Node{Tag: "key-index-list", Attrs: Attrs{"ts": strconv.FormatInt(changed, 10)}, Content: signed})
}

// participantHash is how server and client compare whom a message went to.
func participantHash(jids []types.JID) string {
	names := make([]string, len(jids))
	for i, jid := range jids {
		names[i] = jid.ADString()
	}
	slices.Sort(names)
	sum := sha256.Sum256([]byte(strings.Join(names, "")))
	return "2:" + base64.RawStdEncoding.EncodeToString(sum[:6])
}

// tellOwnDevices lets the other devices of an account know that one was added
// or removed.
func (s *Server) tellOwnDevices(changed *device, _ string) {
	p := changed.person()
	s.mu.Lock()
	others := s.devicesOf(p)
	s.mu.Unlock()
	if len(others) == 0 {
		return
	}
	list := s.deviceList(p)
	jids := []types.JID{s.jidOf(p, 0)}
	devices := []Node{{Tag: "device", Attrs: Attrs{"jid": s.jidOf(p, 0)}}}
	for _, d := range others {
		jids = append(jids, s.jidOf(p, d.ID))
		devices = append(devices, Node{Tag: "device", Attrs: Attrs{
			"jid":       s.jidOf(p, d.ID),
			"key-index": strconv.Itoa(int(d.KeyIndex)),
		}})
	}
	if len(list) > 1 {
		devices = append(devices, list[1])
	}
	for _, d := range others {
		if d == changed {
			continue
		}
		s.notify(d, Node{Tag: "notification", Attrs: Attrs{"type": "account_sync", "from": s.jidOf(p, 0)},
			Content: []Node{{Tag: "devices", Attrs: Attrs{"dhash": participantHash(jids)}, Content: devices}}})
	}
}
