package local_test

import (
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"go.mau.fi/whatsmeow/proto/waE2E"
	"google.golang.org/protobuf/proto"

	"whatisup/local/localtest"
	"whatisup/local/whatsapp"
	"whatisup/shared/whatisup"
)

// heard is the part of an event about a message that these tests look at.
type heard struct {
	Event   string
	EventID string `json:"event_id"`
	Data    struct {
		ID          string `json:"message_id"`
		Chat        string
		ChatType    string  `json:"chat_type"`
		PhoneNumber *string `json:"phone_number"`
		LID         *string
		From        struct {
			PhoneNumber *string `json:"phone_number"`
			LID         *string
			Name        *string
		}
		Type     string
		Text     *string
		Body     map[string]any
		Target   json.RawMessage
		ByAuthor *bool `json:"by_author"`
		Emoji    *string
		Options  []string
		Context  map[string]any
	}
}

// events reads the instance's log of the named events, oldest first.
func (p people) events(names string) (all []heard) {
	query := url.Values{"instance_id": {p.instance}, "events": {names}, "limit": {"1000"}}
	var page struct{ Data []heard }
	p.Must(200, "GET", "/v1/event-log?"+query.Encode(), "", &page)
	slices.Reverse(page.Data)
	return page.Data
}

const aboutMessages = "message.received,message.echo,message.updated,message.edited,message.revoked,message.reaction,poll.voted"

// awaitEvent waits for an event about a message.
func (p people) awaitEvent(t *testing.T, name string, about func(heard) bool) (found heard) {
	t.Helper()
	localtest.Await(t, name, func() bool {
		for _, e := range p.events(name) {
			if about(e) {
				found = e
				return true
			}
		}
		return false
	}, func() string { return fmt.Sprintf("%+v", p.events(aboutMessages)) })
	return found
}

func idIs(id string) func(heard) bool {
	return func(e heard) bool { return e.Data.ID == id }
}

// Everything that people send arrives once, as one event and one row, under the
// names that sending has.
func TestWhatPeopleSendArrives(t *testing.T) {
	t.Parallel()
	s := localtest.Start(t, nil)
	client := localtest.NewClient(t, s.API, s.Keys[whatisup.Test])
	m := newMailbox(t, client)
	p := people{client, strings.Split(m.path, "/")[3]}
	const anna, number = "4915100000001", "4915100000001"

	for _, c := range []struct {
		name, more string
		kind, text string
		field      string // of the body
		value      string // as JSON
	}{
		{"a text", `"text":"hello"`, "text", "hello", "text", `"hello"`},
		{"a forwarded text", `"body":{"type":"text","text":"so?"},"forwarded":true`, "text", "so?", "text", `"so?"`},
		{"a location", `"body":{"type":"location","latitude":1.5,"longitude":2.5,"name":"here"}`, "location", "", "latitude", `1.5`},
		{"contacts", `"body":{"type":"contacts","contacts":[{"name":"Ben","phone_numbers":["4915100000002"]}]}`, "contacts", "", "contacts", ""},
		{"a poll", `"body":{"type":"poll","question":"when?","options":["now","later"]}`, "poll", "", "question", `"when?"`},
		{"a picture", `"body":{"type":"image","caption":"look"}`, "image", "look", "caption", `"look"`},
		{"a voice note", `"body":{"type":"audio","voice":true}`, "audio", "", "voice", `true`},
		{"a video note", `"body":{"type":"video","note":true}`, "video", "", "note", `true`},
		{"a GIF", `"body":{"type":"video","gif":true}`, "video", "", "gif", `true`},
		{"a document", `"body":{"type":"document","filename":"a.pdf","caption":"read"}`, "document", "read", "filename", `"a.pdf"`},
		{"a sticker", `"body":{"type":"sticker"}`, "sticker", "", "", ""},
		{"a picture to see once", `"body":{"type":"image","view_once":true}`, "image", "", "view_once", `true`},
		{"what can be opened on the phone only", `"text":"x","only_on_phone":true`, "view_once", "", "", ""},
		{"an appointment", `"body":{"type":"event","name":"dinner","start_at":1800000000}`, "event", "", "event", ""},
		{"an album", `"body":{"type":"album","images":2}`, "album", "", "album", ""},
		{"an answer to a button", `"body":{"type":"button_reply","id":"yes","text":"Yes"}`, "interactive_reply", "", "reply", ""},
		{"an answer to a list", `"body":{"type":"list_reply","id":"2","text":"Second"}`, "interactive_reply", "", "reply", ""},
		{"an order", `"body":{"type":"order","id":"17"}`, "order", "", "order", ""},
		{"what no device can read", `"text":"x","undecryptable":true`, "undecryptable", "", "", ""},
	} {
		id := p.write(fmt.Sprintf(`{"from":%q,"name":"Anna",%s}`, anna, c.more))
		e := p.awaitEvent(t, "message.received", idIs(id))
		d := e.Data
		if d.Type != c.kind || d.Body["type"] != c.kind || d.ChatType != "direct" || !strings.HasSuffix(d.Chat, "@lid") ||
			d.PhoneNumber == nil || *d.PhoneNumber != number || d.LID == nil || *d.LID+"@lid" != d.Chat ||
			d.From.PhoneNumber == nil || *d.From.PhoneNumber != number {
			t.Errorf("%s arrives as %+v", c.name, d)
		}
		if c.text != "" && (d.Text == nil || *d.Text != c.text) {
			t.Errorf("%s has the text %v, want %q", c.name, d.Text, c.text)
		}
		if got, err := json.Marshal(d.Body[c.field]); c.field != "" && (err != nil || d.Body[c.field] == nil || c.value != "" && string(got) != c.value) {
			t.Errorf("%s has %s %s, want %s", c.name, c.field, got, c.value)
		}
		if c.name == "a forwarded text" && d.Context["forwarded"] != true {
			t.Errorf("it is forwarded, and its context is %v", d.Context)
		}
	}

	// What is about another message names it.
	first := p.write(fmt.Sprintf(`{"from":%q,"text":"first"}`, anna))
	p.awaitEvent(t, "message.received", idIs(first))
	about := func(e heard) bool { return strings.Contains(string(e.Data.Target), first) }
	p.write(fmt.Sprintf(`{"from":%q,"body":{"type":"reaction","target":%q,"emoji":"👍"}}`, anna, first))
	if e := p.awaitEvent(t, "message.reaction", about); e.Data.Emoji == nil || *e.Data.Emoji != "👍" {
		t.Errorf("the reaction is %+v", e.Data)
	}
	p.write(fmt.Sprintf(`{"from":%q,"body":{"type":"edit","target":%q,"text":"second"}}`, anna, first))
	if e := p.awaitEvent(t, "message.edited", about); e.Data.Text == nil || *e.Data.Text != "second" || e.Data.ByAuthor == nil || !*e.Data.ByAuthor {
		t.Errorf("the edit is %+v", e.Data)
	}
	p.write(fmt.Sprintf(`{"from":%q,"body":{"type":"revoke","target":%q}}`, anna, first))
	if e := p.awaitEvent(t, "message.revoked", about); e.Data.ByAuthor == nil || !*e.Data.ByAuthor {
		t.Errorf("the revocation is %+v", e.Data)
	}
	poll := m.send(fmt.Sprintf(`{"to":%q,"body":{"type":"poll","question":"tea?","options":["yes","no"]}}`, anna)).ID
	m.await(poll, "read")
	p.act(anna, "vote", fmt.Sprintf(`,"message_id":%q,"options":["no"]`, poll))
	voted := p.awaitEvent(t, "poll.voted", func(e heard) bool { return strings.Contains(string(e.Data.Target), poll) })
	if len(voted.Data.Options) != 1 || voted.Data.Options[0] != "no" {
		t.Errorf("the vote is %+v", voted.Data)
	}

	// A reply says to what; what the owner writes on the phone is an echo.
	reply := p.write(fmt.Sprintf(`{"from":%q,"text":"because","reply_to":%q}`, anna, poll))
	if e := p.awaitEvent(t, "message.received", idIs(reply)); !strings.Contains(fmt.Sprint(e.Data.Context), poll) {
		t.Errorf("the context of a reply is %v", e.Data.Context)
	}
	var own struct {
		PhoneNumber string `json:"phone_number"`
	}
	client.Must(200, "GET", "/v1/instances/"+p.instance, "", &own)
	echo := p.write(fmt.Sprintf(`{"from":%q,"to":%q,"text":"from my phone"}`, own.PhoneNumber, anna))
	if e := p.awaitEvent(t, "message.echo", idIs(echo)); e.Data.Text == nil || *e.Data.Text != "from my phone" {
		t.Errorf("the echo is %+v", e.Data)
	}
	for _, e := range p.events("message.echo") {
		if e.Data.ID != echo {
			t.Errorf("an echo of what this API sent: %+v", e)
		}
	}

	// Through a broadcast list it is a message of its sender; in a group, of the group.
	toAll := p.write(fmt.Sprintf(`{"from":%q,"text":"to all","broadcast":true}`, anna))
	if e := p.awaitEvent(t, "message.received", idIs(toAll)); e.Data.ChatType != "broadcast" || e.Data.LID == nil || e.Data.Chat != *e.Data.LID+"@lid" {
		t.Errorf("through a list it is %+v", e.Data)
	}
	group := *p.act(anna, "create_group", `,"subject":"Orders"`).Group
	inGroup := p.write(fmt.Sprintf(`{"from":%q,"group":%q,"text":"hello all"}`, anna, group))
	if e := p.awaitEvent(t, "message.received", idIs(inGroup)); e.Data.Chat != group || e.Data.ChatType != "group" || e.Data.From.PhoneNumber == nil {
		t.Errorf("in a group it is %+v", e.Data)
	}

	// The list has what the events told, newest first, under every form of the person.
	chat := p.awaitEvent(t, "message.received", idIs(reply)).Data
	for _, form := range []string{number, "+49 151 0000 0001", number + "@s.whatsapp.net", chat.Chat} {
		var list struct {
			Data []struct {
				ID        string `json:"message_id"`
				Direction string
			}
		}
		client.Must(200, "GET", m.path+"?direction=in&chat="+url.QueryEscape(form), "", &list)
		if len(list.Data) < 20 || list.Data[0].ID != toAll || list.Data[0].Direction != "in" {
			t.Errorf("chat=%s lists %d messages", form, len(list.Data))
		}
		if !slices.ContainsFunc(list.Data, func(d struct {
			ID        string `json:"message_id"`
			Direction string
		}) bool {
			return d.ID == reply
		}) {
			t.Errorf("chat=%s does not list the reply", form)
		}
	}
}

// Whatever WhatsApp repeats, a message is one event.
func TestARepeatedMessageIsOneEvent(t *testing.T) {
	t.Parallel()
	s := localtest.Start(t, nil)
	client := localtest.NewClient(t, s.API, s.Keys[whatisup.Test])
	m := newMailbox(t, client)
	p := people{client, strings.Split(m.path, "/")[3]}
	world := customerOf(t, m)
	const anna = "4915100000001"
	for _, kind := range []string{"duplicate_in", "reencrypt_in", "reorder_in"} {
		if _, err := s.Simulator.Inject(whatsapp.Fault{Target: whatsapp.Target{World: world, Instance: p.instance}, Kind: kind}); err != nil {
			t.Fatal(err)
		}
		a := p.write(fmt.Sprintf(`{"from":%q,"text":"a"}`, anna))
		b := p.write(fmt.Sprintf(`{"from":%q,"text":"b"}`, anna))
		p.awaitEvent(t, "message.received", idIs(a))
		p.awaitEvent(t, "message.received", idIs(b))
	}
	last := p.write(fmt.Sprintf(`{"from":%q,"text":"last"}`, anna))
	p.awaitEvent(t, "message.received", idIs(last))
	times := map[string]int{}
	for _, e := range p.events(aboutMessages) {
		times[e.Data.ID]++
	}
	if len(times) != 7 {
		t.Errorf("%d messages were told, of 7", len(times))
	}
	for id, n := range times {
		if n != 1 {
			t.Errorf("%s was told %d times", id, n)
		}
	}
}

// What businesses send, invitations, and what no version of ours knows, arrives too; and
// so does what comes by a status and by a channel, once the settings ask for it.
func TestRareKindsArrive(t *testing.T) {
	t.Parallel()
	s := localtest.Start(t, nil)
	client := localtest.NewClient(t, s.API, s.Keys[whatisup.Test])
	m := newMailbox(t, client)
	p := people{client, strings.Split(m.path, "/")[3]}
	world := customerOf(t, m)
	var own struct {
		PhoneNumber string `json:"phone_number"`
	}
	client.Must(200, "GET", "/v1/instances/"+p.instance, "", &own)
	const anna = "4915100000001"
	write := func(w whatsapp.Writing, raw *waE2E.Message) string {
		t.Helper()
		b, err := proto.Marshal(raw)
		if err != nil {
			t.Fatal(err)
		}
		w.World, w.From, w.To, w.Raw = world, anna, own.PhoneNumber, b
		id, err := s.Simulator.Write(t.Context(), w)
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	for kind, c := range map[string]struct {
		raw   *waE2E.Message
		field string
	}{
		"group_invite": {&waE2E.Message{GroupInviteMessage: &waE2E.GroupInviteMessage{GroupJID: proto.String("1@g.us"), GroupName: proto.String("Choir"), InviteCode: proto.String("abc")}}, "invite"},
		"interactive":  {&waE2E.Message{ListMessage: &waE2E.ListMessage{Description: proto.String("choose")}}, "whatsapp_type"},
		"product":      {&waE2E.Message{ProductMessage: &waE2E.ProductMessage{Product: &waE2E.ProductMessage_ProductSnapshot{ProductID: proto.String("p1"), Title: proto.String("Tea")}}}, "product"},
		"unsupported":  {&waE2E.Message{RequestPhoneNumberMessage: &waE2E.RequestPhoneNumberMessage{}}, "whatsapp_type"},
	} {
		e := p.awaitEvent(t, "message.received", idIs(write(whatsapp.Writing{}, c.raw)))
		if e.Data.Type != kind || e.Data.Body[c.field] == nil {
			t.Errorf("%s arrives as %+v", kind, e.Data)
		}
	}

	const channel = "120363000000000042@newsletter"
	text := &waE2E.Message{Conversation: proto.String("news")}
	ways := map[string]whatsapp.Writing{"status": {Status: true}, "channel": {Channel: channel}}
	unasked := map[string]bool{}
	for _, w := range ways {
		unasked[write(w, text)] = true
	}
	mark := p.write(fmt.Sprintf(`{"from":%q,"text":"after them"}`, anna))
	p.awaitEvent(t, "message.received", idIs(mark))
	client.Must(200, "PATCH", "/v1/instances/"+p.instance+"/settings", `{"receive":{"status":true,"channels":true}}`, nil)
	for kind, w := range ways {
		var e heard
		// The session takes the settings up within its next look.
		localtest.Await(t, "a message of a "+kind, func() bool {
			id := write(w, text)
			for range 20 {
				for _, e = range p.events("message.received") {
					if e.Data.ID == id {
						return true
					}
				}
				time.Sleep(50 * time.Millisecond)
			}
			return false
		})
		chat := map[string]string{"status": "status@broadcast", "channel": channel}[kind]
		if e.Data.ChatType != kind || e.Data.Chat != chat || e.Data.Text == nil || *e.Data.Text != "news" {
			t.Errorf("a %s arrives as %+v", kind, e.Data)
		}
	}
	for _, e := range p.events(aboutMessages) {
		if unasked[e.Data.ID] {
			t.Errorf("told, and nobody had asked: %+v", e.Data)
		}
	}
}
