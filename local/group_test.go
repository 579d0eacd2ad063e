package local_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"whatisup/local"
	"whatisup/local/localtest"
	"whatisup/local/whatsapp"
	"whatisup/shared/whatisup"
)

// asker is one connected instance of a stack, which asks WhatsApp.
type asker struct {
	*localtest.Client
	t         *testing.T
	stack     *local.Stack
	id, path  string
	number    string
	world     string
	simulator *whatsapp.Server
}

func newAsker(t *testing.T) *asker {
	t.Helper()
	s := localtest.Start(t, nil)
	c := localtest.NewClient(t, s.API, s.Keys[whatisup.Test])
	i := c.Pair("asks")
	a := &asker{Client: c, t: t, stack: s, id: i.ID, path: "/v1/instances/" + i.ID, number: *i.PhoneNumber, simulator: s.Simulator}
	a.world = customerOf(t, mailbox{c, t, a.path + "/messages"})
	return a
}

// refused asks and returns the error.
func (a *asker) refused(status int, code, method, path, body string) (details map[string]any) {
	a.t.Helper()
	var e struct {
		Error struct {
			Code    string
			Details map[string]any
		}
	}
	a.Must(status, method, a.path+path, body, &e)
	if e.Error.Code != code {
		a.t.Fatalf("%s %s: %s, want %s", method, path, e.Error.Code, code)
	}
	return e.Error.Details
}

// asked counts what WhatsApp was asked, with a text in the question.
func (a *asker) asked(text string) (n int) {
	for _, e := range a.simulator.Journal(whatsapp.JournalFilter{Target: whatsapp.Target{World: a.world}, Tag: "iq", Limit: 100_000}) {
		if e.Direction == whatsapp.In && strings.Contains(e.Stanza, text) {
			n++
		}
	}
	return n
}

// act lets a simulated phone do something.
func (a *asker) act(action whatsapp.Action) whatsapp.Done {
	a.t.Helper()
	action.World = a.world
	done, err := a.simulator.Act(context.Background(), action)
	if err != nil {
		a.t.Fatal(err)
	}
	return done
}

type human struct {
	PhoneNumber *string `json:"phone_number"`
	LID         *string `json:"lid"`
}

func (h human) is(number string) bool { return h.PhoneNumber != nil && *h.PhoneNumber == number }

type member struct {
	human
	Role string
}

type groupView struct {
	Chat, Subject    string
	Description      *string
	Owner            *human
	ParticipantCount int `json:"participant_count"`
	Participants     []member
	WhoMayWrite      string `json:"who_may_write"`
	WhoMayEdit       string `json:"who_may_edit"`
	EphemeralSeconds int    `json:"ephemeral_seconds"`
	Parent           *string
	Kind             string
	NotAdded         []outcomeView `json:"not_added"`
}

func (g groupView) role(number string) string {
	i := slices.IndexFunc(g.Participants, func(m member) bool { return m.is(number) })
	if i < 0 {
		return ""
	}
	return g.Participants[i].Role
}

type outcomeView struct {
	human
	Action, Outcome string
	WhatsAppCode    *int                   `json:"whatsapp_code"`
	Invitation      *struct{ Code string } `json:"invitation"`
}

// Numbers are checked in the request's order, as people spell them and as WhatsApp
// has them, and are asked for once only.
func TestNumbersAreChecked(t *testing.T) {
	t.Parallel()
	a := newAsker(t)
	if _, err := a.simulator.SetPhone(a.world, "4915100000009", whatsapp.Behaviour{OnWhatsApp: new(bool)}); err != nil {
		t.Fatal(err)
	}
	var checked struct {
		Data []struct {
			Query  string
			Exists bool
			human
		}
	}
	body := `{"phone_numbers":["+55 11 91234-5678","4915100000009","+49 (151) 000-00001","4915100000001"]}`
	for range 2 {
		a.Must(200, "POST", a.path+"/contacts/check", body, &checked)
		d := checked.Data
		if len(d) != 4 || d[0].Query != "+55 11 91234-5678" || !d[0].Exists || d[0].LID == nil || d[1].Exists || d[1].LID != nil ||
			d[2].Query != "+49 (151) 000-00001" || !d[2].is("4915100000001") || !d[3].is("4915100000001") || *d[2].LID != *d[3].LID {
			t.Fatalf("%+v", d)
		}
	}

	// 50 at once, then the bucket is empty; what is kept still has its answer.
	many := func(from, n int) string {
		list := make([]string, n)
		for i := range list {
			list[i] = fmt.Sprintf("4916%09d", from+i)
		}
		b, _ := json.Marshal(map[string]any{"phone_numbers": list})
		return string(b)
	}
	a.Must(200, "POST", a.path+"/contacts/check", many(0, 45), nil)
	a.refused(429, "rate_limited", "POST", "/contacts/check", many(100, 50))
	a.Must(200, "POST", a.path+"/contacts/check", many(0, 45), nil)
	a.refused(400, "invalid_request", "POST", "/contacts/check", many(0, 51))
	a.refused(400, "invalid_request", "POST", "/contacts/check", `{"phone_numbers":["12a"]}`)
}

// A group's whole life, as its first admin and as somebody who is none.
func TestGroups(t *testing.T) {
	t.Parallel()
	a := newAsker(t)
	const ann, bob, cleo = "4915111111111", "4915122222222", "4915133333333"

	var g groupView
	a.Must(201, "POST", a.path+"/groups", fmt.Sprintf(`{"subject":"Orders","participants":["+%s","%s"],"description":"What we sell","who_may_edit":"admins","ephemeral_seconds":86400}`, ann, bob), &g)
	if g.Subject != "Orders" || g.role(a.number) != "owner" || g.role(ann) != "member" || g.role(bob) != "member" || g.Owner == nil || !g.Owner.is(a.number) || len(g.NotAdded) != 0 {
		t.Fatalf("%+v", g)
	}
	at := "/groups/" + url.PathEscape(g.Chat)
	a.Must(200, "GET", a.path+at, "", &g)
	if g.Description == nil || *g.Description != "What we sell" || g.WhoMayEdit != "admins" || g.WhoMayWrite != "everyone" || g.EphemeralSeconds != 86400 || g.ParticipantCount != 3 || g.Kind != "group" {
		t.Fatalf("%+v", g)
	}
	var list struct {
		Data []groupView
		Next *string `json:"next_cursor"`
	}
	a.Must(200, "GET", a.path+"/groups", "", &list)
	if len(list.Data) != 1 || list.Data[0].Chat != g.Chat || list.Data[0].Participants != nil || list.Data[0].ParticipantCount != 3 || list.Next != nil {
		t.Fatalf("%+v", list)
	}

	a.Must(200, "PATCH", a.path+at, `{"subject":"Sales","description":"","who_may_write":"admins","who_may_edit":"everyone","ephemeral_seconds":0}`, &g)
	if g.Subject != "Sales" || g.Description != nil || g.WhoMayWrite != "admins" || g.WhoMayEdit != "everyone" || g.EphemeralSeconds != 0 {
		t.Fatalf("%+v", g)
	}

	// Each person has an outcome of their own.
	a.act(whatsapp.Action{PhoneNumber: cleo, Kind: "profile", GroupAdd: "none"})
	if _, err := a.simulator.SetPhone(a.world, "4915100000009", whatsapp.Behaviour{OnWhatsApp: new(bool)}); err != nil {
		t.Fatal(err)
	}
	var out struct{ Data []outcomeView }
	a.Must(200, "POST", a.path+at+"/participants", fmt.Sprintf(`{"add":[%q,"4915100000009"],"promote":[%q],"remove":[%q]}`, cleo, ann, bob), &out)
	if len(out.Data) != 4 {
		t.Fatalf("%+v", out)
	}
	for _, o := range out.Data {
		want := "done"
		switch {
		case o.is(cleo):
			want = "invitation_needed"
			if o.Invitation == nil || o.Invitation.Code == "" || o.WhatsAppCode == nil {
				t.Errorf("no invitation: %+v", o)
			}
		case o.is("4915100000009"):
			want = "not_on_whatsapp"
		}
		if o.Outcome != want {
			t.Errorf("%+v, want %s", o, want)
		}
	}
	a.Must(200, "GET", a.path+at, "", &g)
	if g.role(ann) != "admin" || g.role(bob) != "" {
		t.Errorf("%+v", g)
	}

	// Links.
	var link, renewed struct{ Link string }
	a.Must(200, "GET", a.path+at+"/invite", "", &link)
	a.Must(200, "POST", a.path+at+"/invite/renew", "", &renewed)
	if !strings.HasPrefix(link.Link, "https://chat.whatsapp.com/") || renewed.Link == link.Link {
		t.Errorf("%q, %q", link, renewed)
	}
	a.Must(204, "POST", a.path+at+"/leave", "", nil)
	a.refused(409, "not_in_group", "GET", at, "")
	a.refused(404, "group_not_found", "POST", "/groups/join", fmt.Sprintf(`{"link":%q}`, link.Link))
	a.Must(200, "POST", a.path+"/groups/join", fmt.Sprintf(`{"link":%q}`, renewed.Link), &g)
	if g.role(a.number) != "member" || g.role(ann) != "admin" {
		t.Errorf("%+v", g)
	}

	// A member may not do what admins do; what is no group is not there.
	a.refused(409, "not_allowed_in_group", "GET", at+"/invite", "")
	a.refused(404, "group_not_found", "GET", "/groups/120363000000000000%40g.us", "")
	a.refused(404, "group_not_found", "GET", "/groups/x", "")
	a.refused(400, "invalid_request", "POST", at+"/participants", `{}`)
}

// A group of 1,024 members is one question to WhatsApp.
func TestLargeGroupIsOneQuestion(t *testing.T) {
	t.Parallel()
	a := newAsker(t)
	members := []string{a.number}
	for i := range 1022 {
		members = append(members, fmt.Sprintf("49160%08d", i))
	}
	made := a.act(whatsapp.Action{PhoneNumber: "4915111111111", Kind: "create_group", Subject: "Crowd", Members: members})
	queries := a.asked
	before := [2]int{queries("w:g2"), queries("")}
	began := time.Now()
	var g groupView
	a.Must(200, "GET", a.path+"/groups/"+url.PathEscape(made.Group.ID), "", &g)
	t.Logf("%d participants in %v", len(g.Participants), time.Since(began))
	if len(g.Participants) != 1024 || g.role("4915111111111") != "owner" {
		t.Errorf("%d participants", len(g.Participants))
	}
	// One about the group, and one about its picture, however many are in it.
	if asked := queries("w:g2") - before[0]; asked != 1 {
		t.Errorf("%d questions about the group", asked)
	}
	if asked := queries("") - before[1]; asked != 2 {
		t.Errorf("%d questions", asked)
	}
}

// Whatever WhatsApp does, a call ends within its ten seconds, and says what it
// knows. A change that was sent and not answered is not sent again.
func TestAsksUnderFaults(t *testing.T) {
	t.Parallel()
	a := newAsker(t)
	path := a.path + "/groups"
	asks := []struct{ method, path, body string }{
		{"GET", "/groups", ""}, {"GET", "/profile", ""}, {"GET", "/blocks", ""},
		{"POST", "/contacts/check", `{"phone_numbers":["4915155555555"]}`},
		{"POST", "/groups", `{"subject":"x","participants":["4915111111111"]}`},
	}
	a.Must(200, "POST", a.path+"/contacts/check", `{"phone_numbers":["4915111111111"]}`, nil)

	if _, err := a.simulator.Inject(whatsapp.Fault{Target: whatsapp.Target{World: a.world}, Kind: "half_open"}); err != nil {
		t.Fatal(err)
	}
	type made struct {
		status int
		code   string
		took   time.Duration
	}
	results := make([]made, len(asks))
	var wg sync.WaitGroup
	for i, c := range asks {
		wg.Go(func() {
			began := time.Now()
			resp, b := a.DoWith(c.method, a.path+c.path, c.body, "Idempotency-Key", "fault")
			var e struct{ Error struct{ Code string } }
			_ = json.Unmarshal(b, &e)
			results[i] = made{resp.StatusCode, e.Error.Code, time.Since(began)}
		})
	}
	wg.Wait()
	unknown := false
	for i, r := range results {
		t.Logf("%s %s: %+v", asks[i].method, asks[i].path, r)
		if r.took > 10*time.Second+time.Second/2 {
			t.Errorf("%s %s took %v", asks[i].method, asks[i].path, r.took)
		}
		if r.status != 503 && r.status != 409 {
			t.Errorf("%s %s: %+v", asks[i].method, asks[i].path, r)
		}
		unknown = unknown || asks[i].method+asks[i].path == "POST/groups" && r.code == "outcome_unknown"
	}

	// The connection comes back. What was asked for with the key is answered as it
	// was if it was sent, and made now if it was not; either way there is one group at
	// most.
	a.AwaitStatus(a.id, "connected")
	resp, b := a.DoWith("POST", path, asks[4].body, "Idempotency-Key", "fault")
	if unknown && (resp.StatusCode != 503 || resp.Header.Get("Idempotency-Replayed") != "true") {
		t.Errorf("the repetition: %d %s", resp.StatusCode, b)
	}
	var list struct{ Data []groupView }
	localtest.Await(t, "the groups", func() bool {
		resp, b := a.Do("GET", path, "")
		return resp.StatusCode == 200 && json.Unmarshal(b, &list) == nil
	})
	if len(list.Data) > 1 {
		t.Errorf("%d groups", len(list.Data))
	}
}

// Each call ends within its ten seconds under each fault of the connection, with an
// answer that says what is known. Nothing but a change may have an unknown outcome.
func TestEveryAskUnderEveryFault(t *testing.T) {
	t.Parallel()
	const ann = "4915111111111"
	kinds := []string{"silent", "drop", "unreachable", "half_open"}
	if testing.Short() {
		kinds = kinds[:1]
	}
	for _, kind := range kinds {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			a := newAsker(t)
			var g groupView
			a.Must(201, "POST", a.path+"/groups", fmt.Sprintf(`{"subject":"Orders","participants":[%q]}`, ann), &g)
			face := give(t, a.Client, "image/jpeg", picture(t, 64, 64))
			group := "/groups/" + url.PathEscape(g.Chat)
			type ask struct {
				method, path, body string
				changes            bool
				unanswered         bool // sends and waits for nothing, or asks nobody
			}
			asks := []ask{
				{"POST", "/contacts/check", `{"phone_numbers":["4915155555555"]}`, false, false},
				{"GET", "/contacts", "", false, true},
				{"GET", "/contacts/" + ann, "", false, false},
				{"GET", "/profile", "", false, false},
				{"PATCH", "/profile", `{"about":"closed"}`, true, false},
				{"GET", "/blocks", "", false, false},
				{"PUT", "/blocks/" + ann, "", true, false},
				{"DELETE", "/blocks/" + ann, "", true, false},
				{"GET", "/groups", "", false, false},
				{"POST", "/groups", fmt.Sprintf(`{"subject":"x","participants":[%q]}`, ann), true, false},
				{"GET", group, "", false, false},
				{"PATCH", group, `{"subject":"y"}`, true, false},
				{"PATCH", group, `{"picture":null}`, true, false},
				{"PATCH", "/profile", fmt.Sprintf(`{"picture":%q}`, face.MediaID), true, false},
				{"POST", group + "/participants", fmt.Sprintf(`{"promote":[%q]}`, ann), true, false},
				{"GET", group + "/invite", "", false, false},
				{"POST", group + "/invite/renew", "", true, false},
				{"POST", "/groups/join", `{"link":"https://chat.whatsapp.com/AAAAAAAAAAAAAAAAAAAAAA"}`, true, false},
				{"POST", "/chats/" + ann + "/read", `{"message_ids":["3A00"]}`, false, true},
				{"PUT", "/chats/" + ann + "/presence", `{"state":"typing"}`, false, true},
				{"PUT", "/presence", `{"state":"available"}`, false, true},
				{"POST", "/contacts/" + ann + "/presence", "", false, true},
				{"POST", group + "/leave", "", true, false},
			}
			if _, err := a.simulator.Inject(whatsapp.Fault{Target: whatsapp.Target{World: a.world}, Kind: kind, Seconds: 60}); err != nil {
				t.Fatal(err)
			}
			var wg sync.WaitGroup
			slots := make(chan struct{}, 8) // more at once would be 429 too_many_waiting
			for _, c := range asks {
				wg.Go(func() {
					slots <- struct{}{}
					defer func() { <-slots }()
					began := time.Now()
					resp, b := a.Do(c.method, a.path+c.path, c.body)
					took := time.Since(began)
					var e struct{ Error struct{ Code string } }
					_ = json.Unmarshal(b, &e)
					what := fmt.Sprintf("%s %s: %d %s after %v", c.method, c.path, resp.StatusCode, e.Error.Code, took)
					if took > 10*time.Second+time.Second/2 {
						t.Error(what)
					}
					switch {
					case resp.StatusCode == 503 && (e.Error.Code == "outcome_unknown") == c.changes,
						resp.StatusCode == 503 && e.Error.Code != "outcome_unknown",
						resp.StatusCode == 409 && e.Error.Code == "not_connected":
					case kind == "drop": // the next connection may answer, whatever the answer is
					case c.unanswered && (resp.StatusCode < 300 || resp.StatusCode == 422):
					default:
						t.Error(what)
					}
				})
			}
			wg.Wait()
		})
	}
}

// Contacts, the own profile, blocked contacts, typing and presence, as they are
// asked for and changed.
func TestContactsAndProfile(t *testing.T) {
	t.Parallel()
	a := newAsker(t)
	const ann, bob = "4915111111111", "4915122222222"
	a.act(whatsapp.Action{PhoneNumber: ann, Kind: "profile", About: new("At work"), Picture: []byte("\xff\xd8\xff\xe0")})
	a.act(whatsapp.Action{PhoneNumber: a.number, Kind: "sync", Name: "Shop"})
	a.act(whatsapp.Action{PhoneNumber: a.number, Kind: "save_contact", To: ann, Name: "Ann from work"})

	var c struct {
		human
		Chat    string
		Name    *string
		About   *string
		Picture *struct{ ID string }
	}
	localtest.Await(t, "the saved name", func() bool {
		a.Must(200, "GET", a.path+"/contacts/+49%20151%2011111111", "", &c)
		return c.Name != nil && *c.Name == "Ann from work"
	})
	if !c.is(ann) || c.LID == nil || c.Chat != *c.LID+"@lid" || c.About == nil || *c.About != "At work" || c.Picture == nil || c.Picture.ID == "" {
		t.Errorf("%+v", c)
	}
	byLID := c
	a.Must(200, "GET", a.path+"/contacts/"+url.PathEscape(c.Chat), "", &byLID)
	if !byLID.is(ann) || byLID.Chat != c.Chat {
		t.Errorf("by LID: %+v", byLID)
	}
	var list struct{ Data []struct{ human } }
	a.Must(200, "GET", a.path+"/contacts", "", &list)
	n := 0
	for _, one := range list.Data {
		if one.is(ann) {
			n++
		}
	}
	if n != 1 {
		t.Errorf("Ann is %d of %+v", n, list)
	}
	if _, err := a.simulator.SetPhone(a.world, "4915100000009", whatsapp.Behaviour{OnWhatsApp: new(bool)}); err != nil {
		t.Fatal(err)
	}
	a.refused(404, "contact_not_found", "GET", "/contacts/4915100000009", "")
	a.refused(404, "contact_not_found", "GET", "/contacts/nobody", "")

	var profile struct {
		human
		Name  string
		About *string
	}
	localtest.Await(t, "the name can be changed", func() bool {
		r, b := a.Do("PATCH", a.path+"/profile", `{"name":"The shop","about":"Open"}`)
		return r.StatusCode == 200 && json.Unmarshal(b, &profile) == nil
	})
	a.Must(200, "GET", a.path+"/profile", "", &profile)
	if !profile.is(a.number) || profile.Name != "The shop" || profile.About == nil || *profile.About != "Open" {
		t.Errorf("%+v", profile)
	}

	for range 2 { // again is the same
		a.Must(204, "PUT", a.path+"/blocks/"+bob, "", nil)
	}
	var blocks struct{ Data []struct{ human } }
	a.Must(200, "GET", a.path+"/blocks", "", &blocks)
	if len(blocks.Data) != 1 || !blocks.Data[0].is(bob) {
		t.Errorf("%+v", blocks)
	}
	a.Must(204, "DELETE", a.path+"/blocks/"+bob, "", nil)
	a.Must(200, "GET", a.path+"/blocks", "", &blocks)
	if len(blocks.Data) != 0 {
		t.Errorf("%+v", blocks)
	}

	a.Must(204, "PUT", a.path+"/presence", `{"state":"available"}`, nil)
	a.Must(204, "PUT", a.path+"/chats/"+ann+"/presence", `{"state":"recording"}`, nil)
	said := func(tag, text string) bool {
		for _, e := range a.simulator.Journal(whatsapp.JournalFilter{Target: whatsapp.Target{World: a.world}, Tag: tag, Limit: 1000}) {
			if e.Direction == whatsapp.In && strings.Contains(e.Stanza, text) {
				return true
			}
		}
		return false
	}
	localtest.Await(t, "WhatsApp is told", func() bool { return said("presence", "available") && said("chatstate", "audio") })
	a.refused(400, "invalid_request", "PUT", "/presence", `{"state":"away"}`)
	a.refused(400, "invalid_request", "PUT", "/chats/"+ann+"/presence", `{"state":"asleep"}`)
}
