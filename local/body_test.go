package local_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"whatisup/local"
	"whatisup/local/localtest"
	"whatisup/local/whatsapp"
	"whatisup/shared/whatisup"
)

// groupOf makes a group of the instance's number and others, on the phone of the
// first of these.
func groupOf(t *testing.T, s *local.Stack, m mailbox, addressing string, members ...string) string {
	t.Helper()
	var i struct {
		PhoneNumber string `json:"phone_number"`
	}
	m.Must(200, "GET", strings.TrimSuffix(m.path, "/messages"), "", &i)
	done, err := s.Simulator.Act(t.Context(), whatsapp.Action{
		World: customerOf(t, m), PhoneNumber: members[0], Kind: "create_group", Subject: "Friends",
		Members: append(members[1:], i.PhoneNumber), Addressing: addressing,
	})
	if err != nil {
		t.Fatal(err)
	}
	return done.Group.ID
}

// lastShown waits until a phone shows so many messages of a chat, and returns the
// last one.
func shownOf(t *testing.T, s *local.Stack, world, number, id string) whatsapp.Shown {
	t.Helper()
	var got whatsapp.Shown
	localtest.Await(t, number+" shows "+id, func() bool {
		for _, m := range shownBy(t, s.Simulator, world, number) {
			if m.ID == id {
				got = m
				return true
			}
		}
		return false
	})
	return got
}

// Every kind of message without a file arrives as what it was sent as, at a person
// and in groups of both ways to address people.
func TestEveryBodyArrives(t *testing.T) {
	t.Parallel()
	s := localtest.Start(t, nil)
	m := newMailbox(t, localtest.NewClient(t, s.API, s.Keys[whatisup.Test]))
	world := customerOf(t, m)
	const ann, ben = "4915111111111", "4915122222222"
	for name, to := range map[string]string{
		"person": ann, "group by LID": groupOf(t, s, m, "lid", ann, ben), "group by number": groupOf(t, s, m, "pn", ann, ben),
	} {
		t.Run(name, func(t *testing.T) {
			send := func(body string, more ...string) whatsapp.Shown {
				t.Helper()
				l := m.send(fmt.Sprintf(`{"to":%q,"body":%s%s}`, to, body, strings.Join(more, "")))
				m.await(l.ID, "sent", "delivered", "read")
				return shownOf(t, s, world, ann, l.ID)
			}
			fields := func(got whatsapp.Shown) (b struct {
				Text, Caption, Name, Question, Emoji string
				Options                              []string
				Latitude                             float64
				Target                               any
				Quote                                any
				Contacts                             []any
				Mentions                             []string
			}) {
				t.Helper()
				if err := json.Unmarshal(got.Body, &b); err != nil {
					t.Logf("%s: %v", got.Body, err)
				}
				return b
			}

			text := send(`{"type":"text","text":"Hello @` + ben + `","mentions":["` + ben + `"]}`)
			if text.Type != "text" || !strings.Contains(text.Text, "Hello") {
				t.Errorf("a text is shown as %+v", text)
			}
			if b := fields(text); len(b.Mentions) != 1 {
				t.Errorf("a mention is shown as %s", text.Body)
			}
			if got := send(`{"type":"text","text":"see https://example.org","link_preview":{"url":"https://example.org","title":"Example"}}`); got.Type != "text" {
				t.Errorf("a preview is shown as %s", got.Body)
			}
			if got := send(`{"type":"location","latitude":52.5,"longitude":13.4,"name":"Berlin"}`); got.Type != "location" || fields(got).Latitude != 52.5 {
				t.Errorf("a location is shown as %s", got.Body)
			}
			if got := send(`{"type":"contacts","contacts":[{"name":"Eve","phone_numbers":["+49 151 3333 3333"]}]}`); got.Type != "contacts" || len(fields(got).Contacts) != 1 {
				t.Errorf("a contact is shown as %s %s", got.Type, got.Body)
			}
			if got := send(`{"type":"poll","question":"When?","options":["Now","Later"]}`); got.Type != "poll" || len(fields(got).Options) != 2 {
				t.Errorf("a poll is shown as %s", got.Body)
			}
			if got := send(`{"type":"text","text":"an answer"}`, `,"reply_to":"`+text.ID+`"`); !strings.Contains(string(got.Body), text.ID) || !strings.Contains(string(got.Body), "Hello") {
				t.Errorf("an answer is shown as %s", got.Body)
			}
			if got := send(`{"type":"reaction","target":"` + text.ID + `","emoji":"👍"}`); got.Type != "reaction" || fields(got).Emoji != "👍" {
				t.Errorf("a reaction is shown as %s", got.Body)
			}
			edit := m.send(fmt.Sprintf(`{"to":%q,"body":{"type":"edit","target":%q,"text":"Goodbye"}}`, to, text.ID))
			m.await(edit.ID, "sent", "delivered", "read")
			localtest.Await(t, "the edit is shown", func() bool { return shownOf(t, s, world, ann, text.ID).Text == "Goodbye" })
			revoke := m.send(fmt.Sprintf(`{"to":%q,"body":{"type":"revoke","target":%q}}`, to, text.ID))
			m.await(revoke.ID, "sent", "delivered", "read")
			localtest.Await(t, "the message is taken back", func() bool { return !shownOf(t, s, world, ann, text.ID).Revoked.IsZero() })
		})
	}
}

// What is sent disappears as the chat's messages do: in a group by its settings, with a
// person as the last of the two has set it.
func TestMessagesDisappearAsTheirChatHasIt(t *testing.T) {
	t.Parallel()
	s := localtest.Start(t, nil)
	client := localtest.NewClient(t, s.API, s.Keys[whatisup.Test])
	m := newMailbox(t, client)
	p := people{client, strings.Split(m.path, "/")[3]}
	world := customerOf(t, m)
	const ann, ben = "4915111111111", "4915122222222"
	group := groupOf(t, s, m, "lid", ann, ben)
	// seconds is the timer of a message that is sent now.
	seconds := func(to string) int {
		t.Helper()
		id := m.send(text(to, "hello")).ID
		m.await(id, "sent", "delivered", "read")
		var b struct {
			Context struct {
				Seconds int `json:"ephemeral_seconds"`
			}
		}
		if got := shownOf(t, s, world, ann, id); json.Unmarshal(got.Body, &b) != nil {
			t.Fatalf("shown as %s", got.Body)
		}
		return b.Context.Seconds
	}
	var own struct {
		PhoneNumber string `json:"phone_number"`
	}
	m.Must(200, "GET", strings.TrimSuffix(m.path, "/messages"), "", &own)
	heard := func(b whatsapp.Body, seconds uint32) {
		t.Helper()
		w := whatsapp.Writing{Text: whatsapp.Text{World: world, From: ann, To: own.PhoneNumber}, Body: &b, EphemeralSeconds: seconds}
		if _, err := s.Simulator.Write(t.Context(), w); err != nil {
			t.Fatal(err)
		}
		mark := p.write(`{"from":"` + ann + `","text":"so"}`) // comes after it
		p.awaitEvent(t, "message.received", idIs(mark))
	}

	if got := seconds(ann); got != 0 {
		t.Errorf("in a chat without a timer a message is shown for %d s", got)
	}
	heard(whatsapp.Body{Type: "text", Text: "short"}, 604_800)
	if got := seconds(ann); got != 604_800 {
		t.Errorf("after a message that disappears the next is shown for %d s", got)
	}
	heard(whatsapp.Body{Type: "timer", Seconds: 86_400}, 0)
	if got := seconds(ann); got != 86_400 {
		t.Errorf("after the timer was set to a day a message is shown for %d s", got)
	}
	heard(whatsapp.Body{Type: "timer"}, 0)
	if got := seconds(ann); got != 0 {
		t.Errorf("after the timer was taken off a message is shown for %d s", got)
	}

	if got := seconds(group); got != 0 {
		t.Errorf("in a group without a timer a message is shown for %d s", got)
	}
	p.act(ann, "settings", fmt.Sprintf(`,"group":%q,"seconds":604800`, group))
	p.await(t, "group.updated", func(n noticed) bool { return n.Chat == group && n.Seconds != nil && *n.Seconds == 604_800 })
	if got := seconds(group); got != 604_800 {
		t.Errorf("after the group's timer was set a message is shown for %d s", got)
	}
}

// The key of a group goes to a device once, and again to those that can't read.
func TestAGroupsKeyGoesToADeviceOnce(t *testing.T) {
	t.Parallel()
	s := localtest.Start(t, nil)
	m := newMailbox(t, localtest.NewClient(t, s.API, s.Keys[whatisup.Test]))
	world := customerOf(t, m)
	members := []string{"4915111111111", "4915122222222", "4915133333333"}
	group := groupOf(t, s, m, "lid", members...)
	given := func() int {
		t.Helper()
		l := m.send(text(group, "hi"))
		m.await(l.ID, "read")
		for _, n := range members {
			shownOf(t, s, world, n, l.ID)
		}
		return keysGiven(t, s, world, l.ID)
	}
	if n := given(); n != len(members)+1 { // and the own phone
		t.Errorf("the first message gave the key to %d devices", n)
	}
	if n := given(); n != 0 {
		t.Errorf("the second message gave the key to %d devices", n)
	}
	if _, err := s.Simulator.Act(t.Context(), whatsapp.Action{World: world, PhoneNumber: members[2], Kind: "leave", Group: group}); err != nil {
		t.Fatal(err)
	}
	members = members[:2]
	localtest.Await(t, "who left is no member any more", func() bool {
		return given() == len(members)+1
	})
	if n := given(); n != 0 {
		t.Errorf("the message after the first with the new key gave it to %d devices", n)
	}
	if _, err := s.Simulator.Act(t.Context(), whatsapp.Action{World: world, PhoneNumber: members[0], Kind: "add", Group: group, Members: []string{"4915144444444"}}); err != nil {
		t.Fatal(err)
	}
	members = append(members, "4915144444444")
	localtest.Await(t, "the new member gets the key", func() bool { return given() == 1 })
}

// keysGiven counts the devices that a message gave the group's key to.
func keysGiven(t *testing.T, s *local.Stack, world, id string) int {
	t.Helper()
	for _, e := range s.Simulator.Journal(whatsapp.JournalFilter{Target: whatsapp.Target{World: world}, Tag: "message"}) {
		if e.ID == id && e.Direction == "in" {
			return strings.Count(e.Stanza, "<to ")
		}
	}
	t.Fatalf("the journal has no message %s", id)
	return 0
}
