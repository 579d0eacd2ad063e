package local_test

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"testing"

	"whatisup/local/localtest"
	"whatisup/shared/whatisup"
)

// noticed is the data of any event of a group, a contact, a presence or a call.
type noticed struct {
	Chat         string
	Previous     *string `json:"previous_chat"`
	Actor        *human
	Participants []human
	Changed      []string
	Subject      string
	Seconds      *int   `json:"ephemeral_seconds"`
	PhoneNumber  string `json:"phone_number"`
	From         human
	State        string
	CallID       string `json:"call_id"`
	Video        *bool
	Outcome      *string
}

func (n noticed) names(numbers ...string) bool {
	if len(n.Participants) != len(numbers) {
		return false
	}
	for i := range numbers {
		found := false
		for _, p := range n.Participants {
			found = found || p.is(numbers[i])
		}
		if !found {
			return false
		}
	}
	return true
}

// notices are the events of an instance with a name, oldest first.
func (p people) notices(name string) (all []noticed) {
	var page struct {
		Data []struct{ Data json.RawMessage }
	}
	p.Must(200, "GET", "/v1/events?limit=1000&instance_id="+p.instance+"&events="+name, "", &page)
	for i := len(page.Data) - 1; i >= 0; i-- {
		var n noticed
		_ = json.Unmarshal(page.Data[i].Data, &n)
		all = append(all, n)
	}
	return all
}

// await waits for an event, and returns it.
func (p people) await(t *testing.T, name string, is func(noticed) bool) (found noticed) {
	t.Helper()
	var seen []noticed
	localtest.Await(t, name, func() bool {
		seen = p.notices(name)
		for _, n := range seen {
			if is(n) {
				found = n
				return true
			}
		}
		return false
	}, func() string { return fmt.Sprintf("%+v", seen) })
	return found
}

func newPeople(t *testing.T) (p people, number string) {
	t.Helper()
	s := localtest.Start(t, nil)
	c := localtest.NewClient(t, s.API, s.Keys[whatisup.Test])
	i := c.Pair("notices")
	return people{c, i.ID}, *i.PhoneNumber
}

// What people do in a group is told, by whom and to whom.
func TestGroupsAreTold(t *testing.T) {
	t.Parallel()
	p, own := newPeople(t)
	const anna, ben, cleo = "4915100000001", "4915100000002", "4915100000003"

	made := p.act(anna, "create_group", fmt.Sprintf(`,"subject":"Orders","members":[%q,%q]`, own, ben))
	group := *made.Group
	of := func(n noticed) bool { return n.Chat == group && n.Actor != nil && n.Actor.is(anna) }
	created := p.await(t, "group.created", of)
	if created.Subject != "Orders" || !created.names(anna, ben, own) {
		t.Errorf("created: %+v", created)
	}
	at := fmt.Sprintf(`,"group":%q`, group)
	for _, c := range []struct{ kind, event string }{
		{"add", "group.participant_added"}, {"promote", "group.admin_promoted"}, {"demote", "group.admin_demoted"}, {"remove", "group.participant_removed"},
	} {
		p.act(anna, c.kind, at+fmt.Sprintf(`,"members":[%q]`, cleo))
		p.await(t, c.event, func(n noticed) bool { return of(n) && n.names(cleo) })
	}
	// Somebody comes by the link, and goes again.
	self := func(n noticed) bool { return n.Chat == group && n.names(cleo) && n.Actor != nil && n.Actor.is(cleo) }
	p.act(cleo, "join", fmt.Sprintf(`,"link":%q`, *made.Link))
	p.await(t, "group.participant_added", self)
	p.act(cleo, "leave", at)
	p.await(t, "group.participant_removed", self)
	p.act(anna, "settings", at+`,"subject":"Sales","seconds":86400`)
	p.await(t, "group.updated", func(n noticed) bool { return of(n) && n.Subject == "Sales" && fmt.Sprint(n.Changed) == "[subject]" })
	p.await(t, "group.updated", func(n noticed) bool { return of(n) && n.Seconds != nil && *n.Seconds == 86400 })

	// What the instance does itself is told too; and that it leaves, and comes back.
	p.Must(204, "POST", "/v1/instances/"+p.instance+"/groups/"+url.PathEscape(group)+"/leave", "", nil)
	p.await(t, "group.participant_removed", func(n noticed) bool { return n.Chat == group && n.names(own) })
	p.Must(200, "POST", "/v1/instances/"+p.instance+"/groups/join", fmt.Sprintf(`{"link":%q}`, *made.Link), nil)
	p.await(t, "group.participant_added", func(n noticed) bool { return n.Chat == group && n.names(own) })

	// A group of 1,024 that the number is taken into is one event, and so are 1,000
	// people who come at once.
	before := len(p.notices("group.participant_added"))
	list := func(n int) string {
		all := make([]string, n)
		for i := range all {
			all[i] = fmt.Sprintf(`"49160%08d"`, i)
		}
		return strings.Join(all, ",")
	}
	crowd := p.act(anna, "create_group", fmt.Sprintf(`,"subject":"Crowd","members":[%q]`, own))
	p.await(t, "group.created", func(n noticed) bool { return n.Chat == *crowd.Group })
	p.act(anna, "add", fmt.Sprintf(`,"group":%q,"members":[%s]`, *crowd.Group, list(1000)))
	joined := p.await(t, "group.participant_added", func(n noticed) bool { return n.Chat == *crowd.Group })
	if len(joined.Participants) != 1000 || len(p.notices("group.participant_added")) != before+1 {
		t.Errorf("1,000 people are %d events, the first of %d", len(p.notices("group.participant_added"))-before, len(joined.Participants))
	}
}

// Calls are told, and rejected where the settings want it.
func TestCallsAreTold(t *testing.T) {
	t.Parallel()
	p, _ := newPeople(t)
	const anna = "4915100000001"
	ended := func(id, outcome string) {
		t.Helper()
		got := p.await(t, "call.ended", func(n noticed) bool { return n.CallID == id && n.Outcome != nil })
		if *got.Outcome != outcome || !got.From.is(anna) {
			t.Errorf("it ended %+v, want %s", got, outcome)
		}
	}
	rings := *p.act(anna, "call", `,"video":true`).CallID
	offered := p.await(t, "call.offered", func(n noticed) bool { return n.CallID == rings })
	if offered.Video == nil || !*offered.Video || offered.Outcome != nil || !offered.From.is(anna) || !strings.HasSuffix(offered.Chat, "@lid") {
		t.Errorf("offered: %+v", offered)
	}
	p.act(anna, "hang_up", fmt.Sprintf(`,"call_id":%q`, rings))
	ended(rings, "missed")
	taken := *p.act(anna, "call", "").CallID
	p.await(t, "call.offered", func(n noticed) bool { return n.CallID == taken && n.Video != nil && !*n.Video })
	p.act(anna, "hang_up", fmt.Sprintf(`,"call_id":%q,"outcome":"accept"`, taken))
	ended(taken, "answered")

	p.Must(200, "PATCH", "/v1/instances/"+p.instance+"/settings", `{"reject_calls":true}`, nil)
	localtest.Await(t, "a call is rejected", func() bool { // the session reads the settings a moment later
		id := *p.act(anna, "call", "").CallID
		p.await(t, "call.offered", func(n noticed) bool { return n.CallID == id })
		r, _ := p.Do("POST", "/v1/sandbox/phones/"+anna+"/actions", fmt.Sprintf(`{"kind":"hang_up","instance_id":%q,"call_id":%q}`, p.instance, id))
		p.await(t, "call.ended", func(n noticed) bool { return n.CallID == id })
		return r.StatusCode == 404 // it rings no more
	})
	found := false
	for _, n := range p.notices("call.ended") {
		found = found || n.Outcome != nil && *n.Outcome == "rejected"
	}
	if !found {
		t.Errorf("no call was rejected: %+v", p.notices("call.ended"))
	}
}

// What is new about a person is told; a presence only to those who name it.
func TestPeopleAreTold(t *testing.T) {
	t.Parallel()
	p, own := newPeople(t)
	const anna = "4915100000001"
	of := func(field string) func(noticed) bool {
		return func(n noticed) bool { return n.PhoneNumber == anna && fmt.Sprint(n.Changed) == "["+field+"]" }
	}
	p.Must(202, "POST", "/v1/instances/"+p.instance+"/messages", text(anna, "hello"), nil)
	if learnt := p.await(t, "contact.updated", of("lid")); learnt.Previous == nil || *learnt.Previous != anna+"@s.whatsapp.net" || !strings.HasSuffix(learnt.Chat, "@lid") {
		t.Errorf("the LID: %+v", learnt)
	}
	p.write(fmt.Sprintf(`{"from":%q,"text":"hello","name":"Anna"}`, anna))
	p.await(t, "contact.updated", of("push_name"))
	p.act(anna, "profile", `,"about":"At work"`)
	p.await(t, "contact.updated", of("about"))

	at := "/v1/instances/" + p.instance
	var e struct{ Error struct{ Code string } }
	p.Must(422, "PATCH", at+"/profile", `{"name":"Shop"}`, &e)
	if e.Error.Code != "rejected" {
		t.Errorf("a name without the phone's keys: %s", e.Error.Code)
	}
	p.act(own, "sync", `,"name":"Shop"`)
	localtest.Await(t, "the name can be changed", func() bool {
		r, _ := p.Do("PATCH", at+"/profile", `{"name":"The shop"}`)
		return r.StatusCode == 200
	})
	p.Must(200, "PATCH", at+"/settings", `{"online":true}`, nil)
	p.Must(204, "POST", at+"/contacts/"+anna+"/presence", "", nil)
	is := func(state string) func(noticed) bool {
		return func(n noticed) bool { return n.From.is(anna) && n.State == state }
	}
	p.await(t, "presence.updated", is("available"))
	localtest.Await(t, "the typing is told", func() bool { // once the session has said that it is available
		p.act(anna, "typing", `,"state":"recording"`)
		for _, n := range p.notices("presence.updated") {
			if is("recording")(n) {
				return true
			}
		}
		return false
	})
	p.act(anna, "typing", `,"state":"paused"`)
	p.await(t, "presence.updated", is("paused"))

	var page struct{ Data []struct{ Event string } }
	p.Must(200, "GET", "/v1/events?limit=1000&instance_id="+p.instance, "", &page)
	for _, e := range page.Data {
		if e.Event == "presence.updated" {
			t.Error("a presence is told to those who name no event")
		}
	}
}

// read says how many of somebody's messages the number's own phone shows as read.
func (p people) read(own, from string) (read, all int) {
	for _, m := range p.shown(own, "from", from) {
		all++
		if m.ReadAt != nil {
			read++
		}
	}
	return read, all
}

// All that is unread in a chat is marked as read, in whatever form the chat is
// named; and at once where the settings want it.
func TestWhatIsUnreadIsMarked(t *testing.T) {
	t.Parallel()
	p, own := newPeople(t)
	const anna, ben = "4915100000001", "4915100000002"
	p.Must(200, "PUT", "/v1/sandbox/phones/"+own, `{"reads":"manual"}`, nil)
	at := "/v1/instances/" + p.instance
	received := func(n int) (list struct{ Data []struct{ Chat string } }) {
		t.Helper()
		localtest.Await(t, fmt.Sprint(n, " messages"), func() bool {
			p.Must(200, "GET", at+"/messages?direction=in", "", &list)
			return len(list.Data) == n
		})
		return list
	}
	marked := func(from string, want, of int) {
		t.Helper()
		localtest.Await(t, fmt.Sprintf("%d of %d are read", want, of), func() bool {
			read, all := p.read(own, from)
			return read == want && all == of
		}, func() string { return fmt.Sprint(p.read(own, from)) })
	}
	for i := range 3 {
		p.write(fmt.Sprintf(`{"from":%q,"text":"letter %d"}`, anna, i))
	}
	p.write(fmt.Sprintf(`{"from":%q,"text":"another chat"}`, ben))
	received(4)
	p.Must(204, "POST", at+"/chats/"+anna+"/read", "", nil)
	marked(anna, 3, 3)
	marked(ben, 0, 1)
	p.write(fmt.Sprintf(`{"from":%q,"text":"one more"}`, anna))
	chat := received(5).Data[0].Chat
	p.Must(204, "POST", at+"/chats/"+url.PathEscape(chat)+"/read", `{}`, nil)
	marked(anna, 4, 4)
	p.Must(204, "POST", at+"/chats/"+anna+"/read", "", nil) // nothing is left

	group := p.act(anna, "create_group", fmt.Sprintf(`,"subject":"Orders","members":[%q]`, own))
	p.write(fmt.Sprintf(`{"from":%q,"group":%q,"text":"hello all"}`, anna, *group.Group))
	received(6)
	p.Must(204, "POST", at+"/chats/"+url.PathEscape(*group.Group)+"/read", "", nil)
	marked(anna, 5, 5)

	p.Must(200, "PATCH", at+"/settings", `{"read_on_receive":true}`, nil)
	localtest.Await(t, "a message is read at once", func() bool { // once the session knows the setting
		p.write(fmt.Sprintf(`{"from":%q,"text":"now"}`, ben))
		read, _ := p.read(own, ben)
		return read > 0
	})
}

// A subscription is renewed with each connection.
func TestSubscriptionsAreRenewed(t *testing.T) {
	t.Parallel()
	p, own := newPeople(t)
	const anna = "4915100000001"
	at := "/v1/instances/" + p.instance
	p.act(own, "sync", `,"name":"Shop"`)
	p.Must(200, "PATCH", at+"/settings", `{"online":true}`, nil)
	p.Must(204, "POST", at+"/contacts/"+anna+"/presence", "", nil)
	seen := func() (n int) {
		for _, e := range p.notices("presence.updated") {
			if e.From.is(anna) && e.State == "available" {
				n++
			}
		}
		return n
	}
	for connection := 1; connection <= 2; connection++ {
		localtest.Await(t, fmt.Sprint("the presence is told on connection ", connection), func() bool { return seen() >= connection })
		p.Must(204, "POST", "/v1/sandbox/instances/"+p.instance+"/faults", `{"kind":"drop"}`, nil)
	}
}
