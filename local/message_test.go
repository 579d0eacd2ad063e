package local_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"whatisup/local/localtest"
	"whatisup/local/whatsapp"
	"whatisup/shared/whatisup"
)

// letter is the part of a Message that these tests look at.
type letter struct {
	ID        string `json:"message_id"`
	Chat      string
	Status    string
	Recipient struct {
		PhoneNumber *string `json:"phone_number"`
		LID         *string `json:"lid"`
	}
	Timeline        map[string]*string
	MayHaveBeenSent bool `json:"may_have_been_sent"`
	Error           *struct{ Code string }
}

func text(to, text string, more ...string) string {
	return fmt.Sprintf(`{"to":%q,"body":{"type":"text","text":%q}%s}`, to, text, strings.Join(more, ""))
}

// mailbox sends as one instance and reads what became of it.
type mailbox struct {
	*localtest.Client
	t    *testing.T
	path string
}

func newMailbox(t *testing.T, c *localtest.Client) mailbox {
	return mailbox{c, t, "/v1/instances/" + c.Pair("letters").ID + "/messages"}
}

func (m mailbox) send(body string) letter {
	m.t.Helper()
	var l letter
	m.Must(202, "POST", m.path, body, &l)
	return l
}

// await waits until a message has come to one of the statuses.
func (m mailbox) await(id string, statuses ...string) (l letter) {
	m.t.Helper()
	localtest.Await(m.t, "message "+id+" is "+strings.Join(statuses, " or "), func() bool {
		m.Must(200, "GET", m.path+"/"+id, "", &l)
		for _, s := range statuses {
			if l.Status == s {
				return true
			}
		}
		return false
	}, func() string { return fmt.Sprintf("%+v", l) })
	return l
}

// A person gets a message and reads it, and the row tells each step.
func TestAMessageIsSentAndRead(t *testing.T) {
	t.Parallel()
	s := localtest.Start(t, nil)
	m := newMailbox(t, localtest.NewClient(t, s.API, s.Keys[whatisup.Test]))
	world := customerOf(t, m)

	sent := m.send(text("+55 11 98765-4321", "Hello!"))
	if sent.Status != "queued" || !whatisup.MessageID(sent.ID).IsOwn() {
		t.Errorf("accepted as %+v", sent)
	}
	got := m.await(sent.ID, "read")
	for _, step := range []string{"queued_at", "sent_at", "delivered_at", "read_at"} {
		if got.Timeline[step] == nil {
			t.Errorf("no %s", step)
		}
	}
	localtest.Await(t, "the person's LID is known", func() bool {
		m.Must(200, "GET", m.path+"/"+sent.ID, "", &got)
		return got.Recipient.LID != nil && got.Chat == *got.Recipient.LID+"@lid"
	})
	if shown := shownBy(t, s.Simulator, world, "5511987654321"); len(shown) != 1 || shown[0].ID != sent.ID || shown[0].Text != "Hello!" {
		t.Errorf("the phone shows %+v", shown)
	}
	var log []byte
	localtest.Await(t, "the event log tells that it was read", func() bool {
		_, log = m.Do("GET", "/v1/events?events=message.status", "")
		return strings.Contains(string(log), sent.ID) && strings.Contains(string(log), `"status":"read"`)
	}, func() string { return string(log) })
}

func TestMessagesOfOneChatKeepTheirOrder(t *testing.T) {
	t.Parallel()
	s := localtest.Start(t, nil)
	m := newMailbox(t, localtest.NewClient(t, s.API, s.Keys[whatisup.Test]))
	world := customerOf(t, m)
	var want []string
	for i := range 20 {
		want = append(want, m.send(text("4915111111111", fmt.Sprint(i))).ID)
	}
	for _, id := range want {
		m.await(id, "read")
	}
	var got []string
	for _, shown := range shownBy(t, s.Simulator, world, "4915111111111") {
		got = append(got, shown.ID)
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("shown in the order %v\n       sent in %v", got, want)
	}
	var list struct {
		Data []letter
		Next *string `json:"next_cursor"`
	}
	m.Must(200, "GET", m.path+"?limit=15", "", &list)
	if len(list.Data) != 15 || list.Data[0].ID != want[19] || list.Next == nil {
		t.Errorf("the first page has %d", len(list.Data))
	}
	m.Must(200, "GET", m.path+"?limit=15&cursor="+*list.Next, "", &list)
	if len(list.Data) != 5 || list.Data[4].ID != want[0] || list.Next != nil {
		t.Errorf("the second page has %d", len(list.Data))
	}
}

// The same request twice is one message; the same name for another is refused.
func TestARepeatedRequestIsOneMessage(t *testing.T) {
	t.Parallel()
	s := localtest.Start(t, nil)
	m := newMailbox(t, localtest.NewClient(t, s.API, s.Keys[whatisup.Test]))
	post := func(body string) (int, string) {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), "POST", s.API+m.path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+s.Keys[whatisup.Test])
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("Idempotency-Key", "order-17")
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, _ := io.ReadAll(resp.Body)
		var l letter
		_ = json.Unmarshal(b, &l)
		return resp.StatusCode, l.ID
	}
	status, id := post(text("4915111111111", "once"))
	for _, same := range []string{
		text("4915111111111", "once"),
		`{ "body" : {"text":"\u006fnce", "type":"text"}, "to":"4915111111111" }`,
	} {
		if again, other := post(same); status != 202 || again != 202 || other != id {
			t.Errorf("%s: %d %s, first %d %s", same, again, other, status, id)
		}
	}
	if other, _ := post(text("4915111111111", "twice")); other != 409 {
		t.Errorf("another message under the name: %d", other)
	}
	m.await(id, "read")
	if shown := shownBy(t, s.Simulator, customerOf(t, m), "4915111111111"); len(shown) != 1 {
		t.Errorf("the phone shows %d messages", len(shown))
	}
}

func TestWhatCannotBeSentSaysWhy(t *testing.T) {
	t.Parallel()
	s := localtest.Start(t, nil)
	c := localtest.NewClient(t, s.API, s.Keys[whatisup.Test])
	m := newMailbox(t, c)
	world := customerOf(t, m)
	no, reachout := false, "reachout"
	for number, b := range map[string]whatsapp.Behaviour{"4915122222222": {OnWhatsApp: &no}, "4915133333333": {Restricts: &reachout}} {
		if _, err := s.Simulator.SetPhone(world, number, b); err != nil {
			t.Fatal(err)
		}
	}
	for number, code := range map[string]string{"4915122222222": "not_on_whatsapp", "4915133333333": "reachout_restricted"} {
		if l := m.await(m.send(text(number, "x")).ID, "failed"); l.Error.Code != code {
			t.Errorf("to %s: %+v", number, l.Error)
		}
	}

	m.Must(400, "POST", m.path, text("12", "x"), nil)
	m.Must(400, "POST", m.path, `{"to":"4915111111111","body":{"type":"edit","target":"3EB0000000000000000001","text":"y"}}`, nil)
	m.Must(404, "GET", m.path+"/3EB0000000000000000001", "", nil)
	m.Must(404, "GET", m.path+"/x", "", nil)
	unlinked := c.Create("no link")
	m.Must(409, "POST", "/v1/instances/"+unlinked.ID+"/messages", text("4915111111111", "x"), nil)
}

// After WhatsApp has restricted the account, nobody new is written to; who has written
// to it is.
func TestARestrictedAccountBeginsNoChats(t *testing.T) {
	t.Parallel()
	s := localtest.Start(t, nil)
	m := newMailbox(t, localtest.NewClient(t, s.API, s.Keys[whatisup.Test]))
	world := customerOf(t, m)
	const friend, stranger, other = "4915111111111", "4915122222222", "4915133333333"
	newChats := "new_chats"
	if _, err := s.Simulator.SetPhone(world, stranger, whatsapp.Behaviour{Restricts: &newChats}); err != nil {
		t.Fatal(err)
	}
	m.await(m.send(text(friend, "before")).ID, "read")
	for _, number := range []string{stranger, other} {
		if l := m.await(m.send(text(number, "x")).ID, "failed"); l.Error.Code != "new_chat_limit" {
			t.Errorf("to %s: %+v", number, l.Error)
		}
	}
	m.await(m.send(text(friend, "after")).ID, "read")
	if shown := shownBy(t, s.Simulator, world, other); len(shown) != 0 {
		t.Errorf("who was not to be written to shows %+v", shown)
	}
	_, log := m.Do("GET", "/v1/events?events=instance.restricted", "")
	if n := strings.Count(string(log), `"kind":"new_chats"`); n != 1 {
		t.Errorf("told %d times: %s", n, log)
	}
}

func TestScheduledMessagesAreCancelled(t *testing.T) {
	t.Parallel()
	s := localtest.Start(t, nil)
	m := newMailbox(t, localtest.NewClient(t, s.API, s.Keys[whatisup.Test]))
	at := func(d time.Duration) string {
		return `,"scheduled_at":"` + time.Now().Add(d).UTC().Format("2006-01-02T15:04:05.000Z") + `"`
	}
	far := m.send(text("4915111111111", "far", at(time.Hour)))
	near := m.send(text("4915111111111", "near", at(2*time.Second)))
	if far.Status != "scheduled" || near.Status != "scheduled" {
		t.Errorf("accepted as %s and %s", far.Status, near.Status)
	}
	var canceled letter
	m.Must(200, "DELETE", m.path+"/"+far.ID, "", &canceled)
	m.Must(200, "DELETE", m.path+"/"+far.ID, "", nil)
	if canceled.Status != "canceled" {
		t.Errorf("cancelled as %s", canceled.Status)
	}
	m.await(near.ID, "read")
	m.Must(409, "DELETE", m.path+"/"+near.ID, "", nil)
	if shown := shownBy(t, s.Simulator, customerOf(t, m), "4915111111111"); len(shown) != 1 {
		t.Errorf("the phone shows %d messages", len(shown))
	}
}

// The end of a link is the end of what was to be sent under it.
func TestALogoutEndsWhatWaits(t *testing.T) {
	t.Parallel()
	s := localtest.Start(t, nil)
	m := newMailbox(t, localtest.NewClient(t, s.API, s.Keys[whatisup.Test]))
	instance := strings.TrimSuffix(m.path, "/messages")
	waits := m.send(text("4915111111111", "later", `,"scheduled_at":"`+time.Now().Add(time.Hour).UTC().Format("2006-01-02T15:04:05.000Z")+`"`))
	m.Must(202, "POST", instance+"/logout", "", nil)
	if l := m.await(waits.ID, "failed"); l.Error.Code != "link_lost" || l.MayHaveBeenSent {
		t.Errorf("%+v", l)
	}
}

// A deleted instance says what became of its messages, and then nothing any more.
func TestADeletionIsTheLastEvent(t *testing.T) {
	t.Parallel()
	s := localtest.Start(t, nil)
	c := localtest.NewClient(t, s.API, s.Keys[whatisup.Test])
	m := newMailbox(t, c)
	instance := strings.TrimSuffix(m.path, "/messages")
	id := strings.TrimPrefix(instance, "/v1/instances/")
	waits := m.send(text("4915111111111", "later", `,"scheduled_at":"`+time.Now().Add(time.Hour).UTC().Format("2006-01-02T15:04:05.000Z")+`"`))
	read := m.send(text("4915111111112", "now"))
	m.await(read.ID, "read") // which is told two seconds later
	m.Must(204, "DELETE", instance, "", nil)

	type told struct {
		Event string
		Data  struct {
			ID     string `json:"message_id"`
			Status json.RawMessage
			Error  *struct{ Code string }
		}
	}
	var log struct{ Data []told }
	look := func() { m.Must(200, "GET", "/v1/event-log?limit=1000&instance_id="+id, "", &log) }
	localtest.Await(t, "instance.deleted in the log", func() bool {
		look()
		return len(log.Data) > 0 && slices.ContainsFunc(log.Data, func(e told) bool { return e.Event == "instance.deleted" })
	})
	newMailbox(t, c) // takes its time
	look()
	if log.Data[0].Event != "instance.deleted" {
		t.Errorf("%s comes after instance.deleted", log.Data[0].Event)
	}
	status := map[string]string{}
	for _, e := range slices.Backward(log.Data) {
		if e.Event == "message.status" {
			status[e.Data.ID] = string(e.Data.Status)
			if e.Data.ID == waits.ID && (e.Data.Error == nil || e.Data.Error.Code != "link_lost") {
				t.Errorf("what waited ends as %+v", e.Data)
			}
		}
	}
	if status[waits.ID] != `"failed"` || status[read.ID] != `"read"` {
		t.Errorf("the messages ended as %v", status)
	}
}

// Killed while it sends, with everything around it, and started again: each
// message is shown once, and its row ends in the truth.
func TestMessagesSurviveKill(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	p := localtest.StartProcess(t, dir)
	c := localtest.NewClient(t, p.API, p.Key(t, whatisup.Test))
	m := newMailbox(t, c)
	world := customerOf(t, m)
	var ids []string
	for round := range 3 {
		for i := range 10 {
			ids = append(ids, m.send(text("4915111111111", fmt.Sprint(round, " ", i))).ID)
		}
		p.Kill(t)
		p = localtest.StartProcess(t, dir)
		m.Client = localtest.NewClient(t, p.API, p.Key(t, whatisup.Test))
	}
	for _, id := range ids {
		m.await(id, "sent", "delivered", "read")
	}
	var shown struct {
		Data []struct {
			MessageID string `json:"message_id"`
		}
	}
	localtest.Await(t, "the phone shows them all", func() bool {
		resp, err := http.Get(p.WhatsApp + "/control/phones/4915111111111/messages?world=" + world + "&limit=1000")
		if err != nil {
			return false
		}
		defer resp.Body.Close()
		return json.NewDecoder(resp.Body).Decode(&shown) == nil && len(shown.Data) >= len(ids)
	})
	seen := map[string]int{}
	for _, d := range shown.Data {
		seen[d.MessageID]++
	}
	for _, id := range ids {
		if seen[id] != 1 {
			t.Errorf("%s is shown %d times", id, seen[id])
		}
	}
}

func customerOf(t *testing.T, m mailbox) string {
	t.Helper()
	var i struct {
		CustomerID string `json:"customer_id"`
	}
	m.Must(200, "GET", strings.TrimSuffix(m.path, "/messages"), "", &i)
	return i.CustomerID
}

func shownBy(t *testing.T, s *whatsapp.Server, world, number string) []whatsapp.Shown {
	t.Helper()
	shown, _, err := s.PhoneMessages(world, number, whatsapp.ShownFilter{Limit: 1000})
	if err != nil {
		t.Fatal(err)
	}
	return shown
}
