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

// people are the sandbox's phones, reached as a customer does: over the API.
type people struct {
	*localtest.Client
	instance string
}

type shownMessage struct {
	ID     string `json:"message_id"`
	From   string
	Chat   string
	Type   string
	Text   string
	ReadAt *string `json:"read_at"`
}

func (p people) shown(number string, filters ...string) (all []shownMessage) {
	query := url.Values{"limit": {"2"}}
	for i := 0; i < len(filters); i += 2 {
		query.Set(filters[i], filters[i+1])
	}
	for {
		var page struct {
			Data []shownMessage
			Next *string `json:"next_cursor"`
		}
		p.Must(200, "GET", "/v1/sandbox/phones/"+number+"/messages?"+query.Encode(), "", &page)
		all = append(all, page.Data...)
		if page.Next == nil {
			return all
		}
		query.Set("cursor", *page.Next)
	}
}

type acted struct {
	MessageID, CallID, Group, Link *string
}

func (a *acted) UnmarshalJSON(b []byte) error {
	var m map[string]*string
	err := json.Unmarshal(b, &m)
	a.MessageID, a.CallID, a.Group, a.Link = m["message_id"], m["call_id"], m["group"], m["link"]
	return err
}

// act lets somebody do something; more are the action's other fields.
func (p people) act(number, kind, more string) (a acted) {
	body := fmt.Sprintf(`{"kind":%q,"instance_id":%q%s}`, kind, p.instance, more)
	p.Must(200, "POST", "/v1/sandbox/phones/"+number+"/actions", body, &a)
	return a
}

func (p people) write(body string) string {
	var sent struct {
		ID string `json:"message_id"`
	}
	p.Must(202, "POST", "/v1/sandbox/instances/"+p.instance+"/messages", body, &sent)
	return sent.ID
}

// A customer moves the simulated phones as people use theirs, over the API alone.
func TestPhonesOfTheSandbox(t *testing.T) {
	t.Parallel()
	s := localtest.Start(t, nil)
	client := localtest.NewClient(t, s.API, s.Keys[whatisup.Test])
	m := newMailbox(t, client)
	p := people{client, strings.Split(m.path, "/")[3]}
	const anna, ben = "4915100000001", "4915100000002"

	// A phone that nobody has set is as usual; PUT replaces it whole.
	var phone struct {
		OnWhatsApp bool `json:"on_whatsapp"`
		Reads      string
		Replies    string
		Offline    bool
		Restricts  *string
	}
	p.Must(200, "GET", "/v1/sandbox/phones/+49 151 0000 0001", "", &phone)
	if !phone.OnWhatsApp || phone.Reads != "auto" || phone.Replies != "none" || phone.Offline || phone.Restricts != nil {
		t.Errorf("a usual phone is %+v", phone)
	}
	p.Must(200, "PUT", "/v1/sandbox/phones/"+anna, `{"reads":"manual","replies":"echo"}`, &phone)
	p.Must(200, "PUT", "/v1/sandbox/phones/"+anna, `{"reads":"manual"}`, &phone)
	if phone.Reads != "manual" || phone.Replies != "none" {
		t.Errorf("PUT left %+v", phone)
	}

	// What we send is shown, and read when the person reads it.
	var sent []string
	for i := range 5 {
		sent = append(sent, m.send(text(anna, fmt.Sprint("letter ", i))).ID)
	}
	m.await(sent[4], "delivered")
	shown := p.shown(anna)
	if len(shown) != 5 || shown[0].ID != sent[0] || shown[4].Text != "letter 4" || shown[4].ReadAt != nil {
		t.Errorf("Anna's phone shows %+v", shown)
	}
	if one := p.shown(anna, "message_id", sent[2]); len(one) != 1 || one[0].ID != sent[2] {
		t.Errorf("the filter finds %+v", one)
	}
	p.act(anna, "read", fmt.Sprintf(`,"message_id":%q`, sent[4]))
	m.await(sent[4], "read")

	// Whoever is not on WhatsApp gets nothing; who is offline gets it later.
	p.Must(200, "PUT", "/v1/sandbox/phones/"+ben, `{"on_whatsapp":false}`, nil)
	if l := m.await(m.send(text(ben, "x")).ID, "failed"); l.Error == nil || l.Error.Code != "not_on_whatsapp" {
		t.Errorf("to a number without an account: %+v", l)
	}
	p.Must(200, "PUT", "/v1/sandbox/phones/"+ben, `{"offline":true}`, nil)
	late := m.send(text(ben, "when you are back"))
	m.await(late.ID, "sent")
	p.act(ben, "online", "")
	m.await(late.ID, "read")

	// People write, in every form, and create groups.
	for _, body := range []string{
		`"text":"hello"`,
		`"body":{"type":"location","latitude":1.5,"longitude":2.5,"name":"here"}`,
		`"body":{"type":"image","caption":"look"}`,
		`"body":{"type":"poll","question":"when?","options":["now","later"]}`,
		`"body":{"type":"contacts","contacts":[{"name":"Ben","phone_numbers":["4915100000002"]}]}`,
		`"body":{"type":"event","name":"dinner","start_at":1800000000}`,
		`"body":{"type":"text","text":"so?"},"forwarded":true,"name":"Anna"`,
	} {
		if id := p.write(fmt.Sprintf(`{"from":%q,%s}`, anna, body)); id == "" {
			t.Errorf("%s has no id", body)
		}
	}
	group := p.act(anna, "create_group", `,"subject":"Orders","members":["4915100000002"]`)
	if group.Group == nil || group.Link == nil || !strings.HasSuffix(*group.Group, "@g.us") {
		t.Fatalf("a new group is %+v", group)
	}
	p.write(fmt.Sprintf(`{"from":%q,"group":%q,"text":"hello all"}`, anna, *group.Group))
	if got := p.shown(ben, "chat", *group.Group); len(got) != 1 || got[0].Text != "hello all" || got[0].From != anna {
		t.Errorf("Ben's phone shows %+v of the group", got)
	}
	if rung := p.act(anna, "call", ""); rung.CallID == nil {
		t.Error("a call has no id")
	}

	// What is refused names its reason.
	phones := "/v1/sandbox/phones/"
	for _, c := range []struct {
		status             int
		code               string
		method, path, body string
	}{
		{400, "invalid_request", "PUT", phones + anna, `{"reads":"sometimes"}`},
		{400, "invalid_request", "PUT", phones + anna, `{"phone_number":"1"}`},
		{400, "invalid_request", "POST", phones + anna + "/actions", `{"kind":"fly"}`},
		{400, "invalid_request", "POST", phones + anna + "/actions", `{"kind":"read","options":["a"]}`},
		{400, "invalid_request", "POST", phones + anna + "/actions", `{"kind":"vote","message_id":"x","options":"a"}`},
		{404, "message_not_found", "POST", phones + anna + "/actions", fmt.Sprintf(`{"kind":"read","message_id":"none","instance_id":%q}`, p.instance)},
		{404, "group_not_found", "POST", phones + anna + "/actions", `{"kind":"leave","group":"120363999999999999@g.us"}`},
		{422, "rejected", "POST", phones + anna + "/actions", `{"kind":"join","link":"https://chat.whatsapp.com/none"}`},
		{404, "instance_not_found", "POST", phones + anna + "/actions", fmt.Sprintf(`{"kind":"read","message_id":"x","instance_id":%q}`, whatisup.NewInstanceID())},
		{404, "contact_not_found", "GET", phones + "nobody", ""},
		{400, "invalid_request", "GET", phones + anna + "/messages?cursor=x", ""},
		{400, "invalid_request", "POST", "/v1/sandbox/instances/" + p.instance + "/messages", `{"from":"4915100000001","text":"a","body":{"type":"text","text":"a"}}`},
		{400, "invalid_request", "POST", "/v1/sandbox/instances/" + p.instance + "/messages", `{"from":"4915100000001","body":{"type":"image","media_id":"a"}}`},
		{409, "not_in_group", "POST", "/v1/sandbox/instances/" + p.instance + "/messages", fmt.Sprintf(`{"from":"4915100000009","group":%q,"text":"a"}`, *group.Group)},
		{400, "invalid_request", "POST", "/v1/sandbox/instances/" + p.instance + "/faults", `{"kind":"ack_error"}`},
	} {
		r, b := p.Do(c.method, strings.ReplaceAll(c.path, " ", "%20"), c.body)
		var answer struct{ Error struct{ Code string } }
		json.Unmarshal(b, &answer)
		if r.StatusCode != c.status || answer.Error.Code != c.code {
			t.Errorf("%s %s %s: %d %s", c.method, c.path, c.body, r.StatusCode, b)
		}
	}

	// A list of phones, in pages, and none of another customer or of live keys.
	var list struct {
		Data []struct {
			PhoneNumber string `json:"phone_number"`
		}
		Next *string `json:"next_cursor"`
	}
	p.Must(200, "GET", "/v1/sandbox/phones?limit=1", "", &list)
	first := list.Data[0].PhoneNumber
	if list.Next == nil {
		t.Fatal("a page of one of several phones is the last")
	}
	p.Must(200, "GET", "/v1/sandbox/phones?limit=1&cursor="+*list.Next, "", &list)
	if len(list.Data) != 1 || list.Data[0].PhoneNumber <= first {
		t.Errorf("after %s comes %+v", first, list.Data)
	}
}

// Each fault that WhatsApp can have with a message shows in its row.
func TestFaultsOfMessages(t *testing.T) {
	t.Parallel()
	s := localtest.Start(t, nil)
	client := localtest.NewClient(t, s.API, s.Keys[whatisup.Test])
	m := newMailbox(t, client)
	p := people{client, strings.Split(m.path, "/")[3]}
	fault := func(body string) {
		p.Must(204, "POST", "/v1/sandbox/instances/"+p.instance+"/faults", body, nil)
	}
	const anna = "4915100000001"

	fault(`{"kind":"ack_late","seconds":1}`)
	m.await(m.send(text(anna, "late")).ID, "read")
	fault(`{"kind":"retry_receipt"}`)
	again := m.send(text(anna, "again"))
	m.await(again.ID, "read")
	fault(`{"kind":"ack_error","code":400}`)
	if l := m.await(m.send(text(anna, "refused")).ID, "failed"); l.Error == nil || l.Error.Code != "rejected" {
		t.Errorf("refused with 400: %+v", l)
	}
	if shown := p.shown(anna, "message_id", again.ID); len(shown) != 1 {
		t.Errorf("asked for again, it is shown %d times", len(shown))
	}
	p.Must(200, "PUT", "/v1/sandbox/phones/4915100000003", `{"restricts":"reachout"}`, nil)
	if l := m.await(m.send(text("4915100000003", "x")).ID, "failed"); l.Error == nil || l.Error.Code != "reachout_restricted" {
		t.Errorf("to somebody new while restricted: %+v", l)
	}
	fault(`{"kind":"session_invalidated"}`)
	client.AwaitStatus(p.instance, "disconnected")
}
