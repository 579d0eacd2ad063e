package local_test

import (
	"fmt"
	"net/url"
	"slices"
	"testing"

	"whatisup/local/localtest"
	"whatisup/local/whatsapp"
)

// A community, its announcement group and the groups in it are shown as what they are,
// in the list and alone; its picture too.
func TestCommunities(t *testing.T) {
	t.Parallel()
	a := newAsker(t)
	const ann = "4915111111111"
	act := func(body string) (id string) {
		t.Helper()
		var done struct{ Group string }
		a.Must(200, "POST", "/v1/sandbox/phones/"+ann+"/actions", body, &done)
		return done.Group
	}
	town := act(fmt.Sprintf(`{"kind":"create_group","subject":"Town","community":true,"instance_id":%q}`, a.id))
	street := act(fmt.Sprintf(`{"kind":"create_group","subject":"Street","parent":%q,"instance_id":%q}`, town, a.id))
	plain := act(fmt.Sprintf(`{"kind":"create_group","subject":"Others","instance_id":%q}`, a.id))

	var list struct{ Data []groupView }
	a.Must(200, "GET", a.path+"/groups", "", &list)
	if len(list.Data) != 4 {
		t.Fatalf("%+v", list)
	}
	for _, g := range list.Data {
		kind, parent := "group", ""
		switch g.Chat {
		case town:
			kind = "community"
		case street:
			parent = town
		case plain:
		default:
			kind, parent = "announcements", town
		}
		if g.Kind != kind || g.parent() != parent {
			t.Errorf("in the list: %+v, want %s of %q", g, kind, parent)
		}
		var one groupView
		a.Must(200, "GET", a.path+"/groups/"+url.PathEscape(g.Chat), "", &one)
		if one.Kind != kind || one.parent() != parent || one.Subject != g.Subject || one.role(a.number) != "member" {
			t.Errorf("alone: %+v, want %s of %q", one, kind, parent)
		}
	}
	if i := slices.IndexFunc(list.Data, func(g groupView) bool { return g.Kind == "announcements" }); i < 0 || list.Data[i].WhoMayWrite != "admins" {
		t.Errorf("%+v", list)
	}

	// WhatsApp is asked for a community's picture in another way than for a group's.
	file := picture(t, 64, 64)
	a.pictured("/groups/"+url.PathEscape(town), "none")
	a.act(whatsapp.Action{PhoneNumber: ann, Kind: "settings", Group: town, Picture: file})
	a.fetched(a.pictured("/groups/"+url.PathEscape(town), "shown"), file)
}

func (g groupView) parent() string {
	if g.Parent == nil {
		return ""
	}
	return *g.Parent
}

// Who joins by a link where an admin decides has to wait, and is told so.
func TestJoiningNeedsAnAdmin(t *testing.T) {
	t.Parallel()
	a := newAsker(t)
	const ann = "4915111111111"
	made := a.act(whatsapp.Action{PhoneNumber: ann, Kind: "create_group", Subject: "Closed", Approval: new(true)})
	var g struct {
		groupView
		Pending  bool `json:"join_pending"`
		Approval bool `json:"join_approval"`
	}
	path := "/groups/" + url.PathEscape(made.Group.ID)
	a.Must(200, "POST", a.path+"/groups/join", fmt.Sprintf(`{"link":%q}`, made.Group.Link), &g)
	if !g.Pending || !g.Approval || g.Chat != made.Group.ID || g.Subject != "Closed" {
		t.Errorf("%+v", g)
	}
	a.refused(409, "not_in_group", "GET", path, "")
	a.act(whatsapp.Action{PhoneNumber: ann, Kind: "add", Group: made.Group.ID, Members: []string{a.number}})
	localtest.Await(t, "the group", func() bool {
		r, _ := a.Do("GET", a.path+path, "")
		return r.StatusCode == 200
	})
}
