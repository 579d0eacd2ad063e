package whatisup

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"
)

func TestAddressesAsPeopleWriteThem(t *testing.T) {
	for in, want := range map[string]string{
		"+55 11 91234-5678":              "5511912345678@s.whatsapp.net",
		"(55) 11.91234\u201156\u00a078":  "5511912345678@s.whatsapp.net",
		"5511912345678@s.whatsapp.net":   "5511912345678@s.whatsapp.net",
		"123456789012345@lid":            "123456789012345@lid",
		"120363012345678901@g.us":        "120363012345678901@g.us",
		"491511234567-1500000000@g.us":   "491511234567-1500000000@g.us",
		"\u202a+49 1511 1234567\u202c":   "4915111234567@s.whatsapp.net",
		"":                               "",
		"0511912345678":                  "",
		"123456":                         "",
		"1234567890123456":               "",
		"a@b@s.whatsapp.net":             "",
		"55 11@s.whatsapp.net":           "",
		"5511912345678:3@s.whatsapp.net": "",
		"5511912345678.1@s.whatsapp.net": "",
		"status@broadcast":               "",
		"123@broadcast":                  "",
		"120363012345678901@newsletter":  "",
		"x@lid":                          "",
		"-1@g.us":                        "",
		"1-@g.us":                        "",
		"1-2-3@g.us":                     "",
		"me":                             "",
		"١٢٣٤٥٦٧٨":                       "",
	} {
		got, ok := ParseAddress(in)
		if ok != (want != "") || ok && string(got) != want {
			t.Errorf("ParseAddress(%q) = %q, %v; want %q", in, string(got), ok, want)
		}
	}
}

func TestBodiesAreCheckedFieldByField(t *testing.T) {
	long := strings.Repeat("x", MaxText+1)
	for _, c := range []struct{ body, problem string }{
		{`{"type":"text","text":"Hello"}`, ""},
		{`{"type":"text","text":"Hi @5511912345678","mentions":["+55 11 91234-5678"]}`, ""},
		{`{"type":"text","text":"see https://example.org","link_preview":{"url":"https://example.org","title":"Example"}}`, ""},
		{`{"type":"location","latitude":-23.5,"longitude":-46.6,"name":"Office"}`, ""},
		{`{"type":"contacts","contacts":[{"name":"A","phone_numbers":["+49 1511 1234567"]}]}`, ""},
		{`{"type":"contacts","contacts":[{"name":"A","vcard":"BEGIN:VCARD\nEND:VCARD"}]}`, ""},
		{`{"type":"poll","question":"When?","options":["now","later"],"selectable":2}`, ""},
		{`{"type":"reaction","target":"3EB0","emoji":"👩‍👩‍👧‍👦"}`, ""},
		{`{"type":"reaction","target":{"message_id":"X","from":"5511912345678"},"emoji":""}`, ""},
		{`{"type":"edit","target":"3EB0","text":"better"}`, ""},
		{`{"type":"revoke","target":"3EB0"}`, ""},
		{`{"type":"image","media_id":"m1","caption":"look"}`, ""},
		{`{"type":"audio","media_url":"https://example.org/a.ogg","voice":true}`, ""},

		{`[]`, "body"},
		{`null`, "body"},
		{`{}`, "body.type"},
		{`{"type":"fax"}`, "body.type"},
		{`{"type":"undecryptable"}`, "body.type"},
		{`{"type":"text"}`, "body.text"},
		{`{"type":"text","text":""}`, "body.text"},
		{`{"type":"text","text":null}`, "body.text"},
		{`{"type":"text","text":7}`, "body.text"},
		{`{"type":"text","text":"` + long + `"}`, "body.text"},
		{`{"type":"text","text":"x","caption":"y"}`, "body.caption"},
		{`{"type":"text","text":"Hi","mentions":["5511912345678"]}`, "body.mentions.0"},
		{`{"type":"text","text":"Hi @1","mentions":["1@g.us"]}`, "body.mentions.0"},
		{`{"type":"text","text":"x","link_preview":{"url":"https://e.org","title":"t"}}`, "body.link_preview.url"},
		{`{"type":"text","text":"https://e.org","link_preview":{"url":"https://e.org","titel":"t"}}`, "body.link_preview"},
		{`{"type":"location","latitude":91,"longitude":0}`, "body.latitude"},
		{`{"type":"location","latitude":1e999,"longitude":0}`, "body.latitude"},
		{`{"type":"location","latitude":1}`, "body.longitude"},
		{`{"type":"contacts","contacts":[]}`, "body.contacts"},
		{`{"type":"contacts","contacts":[{"name":"A"}]}`, "body.contacts.0.phone_numbers"},
		{`{"type":"contacts","contacts":[{"name":"A","vcard":"x"}]}`, "body.contacts.0.vcard"},
		{`{"type":"poll","question":"?","options":["a"]}`, "body.options"},
		{`{"type":"poll","question":"?","options":["a","a"]}`, "body.options.1"},
		{`{"type":"poll","question":"?","options":["a","b"],"selectable":3}`, "body.selectable"},
		{`{"type":"poll","question":"?","options":["a","b"],"selectable":1.5}`, "body.selectable"},
		{`{"type":"reaction","target":"x","emoji":"ab"}`, "body.emoji"},
		{`{"type":"reaction","target":"x"}`, "body.emoji"},
		{`{"type":"reaction","target":"","emoji":"a"}`, "body.target"},
		{`{"type":"reaction","target":{"message_id":"x","who":"y"},"emoji":"a"}`, "body.target"},
		{`{"type":"edit","target":"` + strings.Repeat("x", 129) + `","text":"y"}`, "body.target"},
		{`{"type":"image"}`, "body.media_id"},
		{`{"type":"image","media_id":"a","media_url":"https://e.org"}`, "body.media_id"},
		{`{"type":"audio","media_id":"a","caption":"y"}`, "body.caption"},
		{`{"type":"image","media_id":"a","voice":true}`, "body.voice"},
		{`{"type":"image","media_id":"a","caption":"` + strings.Repeat("é", MaxCaption+1) + `"}`, "body.caption"},
	} {
		b, problems := ParseBody(json.RawMessage(c.body))
		switch {
		case c.problem == "" && (b == nil || len(problems) > 0):
			t.Errorf("%.80s: %v", c.body, problems)
		case c.problem != "" && (b != nil || len(problems) == 0 || problems[0].Field != c.problem):
			t.Errorf("%.80s: problems %v; want one of %s", c.body, problems, c.problem)
		}
	}
}

func TestEveryTypeThatCanBeSentHasFields(t *testing.T) {
	for _, typ := range Sendable {
		if len(bodyFields[typ]) == 0 {
			t.Errorf("%s has no fields", typ)
		}
	}
	if len(bodyFields) != len(Sendable) {
		t.Errorf("%d types have fields, %d can be sent", len(bodyFields), len(Sendable))
	}
}

func TestSendRequest(t *testing.T) {
	now := time.Date(2026, 5, 1, 12, 0, 0, 500e6, time.UTC)
	const base = `"to":"+55 11 91234-5678","body":{"type":"text","text":"Hi"}`
	parse := func(more string) (*Send, []Problem) {
		var fields map[string]json.RawMessage
		if err := json.Unmarshal([]byte("{"+base+more+"}"), &fields); err != nil {
			t.Fatal(err)
		}
		return ParseSend(fields, now)
	}

	s, problems := parse("")
	if len(problems) > 0 || !s.ExpiresAt.Equal(now.Add(time.Hour)) || !s.ScheduledAt.IsZero() || string(s.Raw) != `{"type":"text","text":"Hi"}` {
		t.Errorf("plain: %+v %v", s, problems)
	}
	if s, _ := parse(`,"if_not_connected":"fail"`); s == nil || !s.FailAtOnce || !s.ExpiresAt.Equal(now.Add(time.Minute)) {
		t.Errorf("fail: %+v", s)
	}
	if s, _ := parse(`,"scheduled_at":"2026-05-02T12:00:00.700Z"`); s == nil || s.ScheduledAt.Nanosecond() != 0 || !s.ExpiresAt.Equal(s.ScheduledAt.Add(time.Hour)) {
		t.Errorf("scheduled: %+v", s)
	}
	if s, _ := parse(`,"scheduled_at":"2026-05-01T11:59:30Z"`); s == nil || !s.ScheduledAt.IsZero() {
		t.Errorf("a little in the past: %+v", s)
	}
	if s, _ := parse(`,"scheduled_at":null,"reply_to":null,"client_ref":null,"expires_at":null,"typing_ms":null,"if_not_connected":null`); s == nil {
		t.Error("null is not taken for a missing field")
	}
	for more, field := range map[string]string{
		`,"scheduled_at":"2026-05-09T12:00:00Z"`:                                     "scheduled_at",
		`,"scheduled_at":"2026-05-01T11:00:00Z"`:                                     "scheduled_at",
		`,"scheduled_at":"tomorrow"`:                                                 "scheduled_at",
		`,"scheduled_at":"2026-05-02T12:00:00Z","if_not_connected":"fail"`:           "scheduled_at",
		`,"expires_at":"2026-05-01T12:00:00Z"`:                                       "expires_at",
		`,"expires_at":"2026-05-09T12:00:00Z"`:                                       "expires_at",
		`,"scheduled_at":"2026-05-03T12:00:00Z","expires_at":"2026-05-02T12:00:00Z"`: "expires_at",
		`,"if_not_connected":"wait"`:                                                 "if_not_connected",
		`,"typing_ms":10001`:                                                         "typing_ms",
		`,"typing_ms":-1`:                                                            "typing_ms",
		`,"client_ref":""`:                                                           "client_ref",
		`,"client_ref":"a\u0000b"`:                                                   "client_ref",
		`,"reply_to":""`:                                                             "reply_to",
		`,"reply_to":7`:                                                              "reply_to",
		`,"subject":"x"`:                                                             "subject",
	} {
		if s, problems := parse(more); s != nil || len(problems) != 1 || problems[0].Field != field {
			t.Errorf("%s: %v, %v; want one problem of %s", more, s, problems, field)
		}
	}
}

// However acknowledgements and receipts come, in whatever order and how often,
// the message ends at the highest of them, with the first time of each.
func TestStepsInEveryOrder(t *testing.T) {
	start := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	steps := []MessageStatus{MessageFailed, MessageSent, MessageDelivered, MessageRead, MessagePlayed}
	var walk func(left []MessageStatus, m Message, n int)
	seen := 0
	walk = func(left []MessageStatus, m Message, n int) {
		if len(left) == 0 {
			seen++
			if m.Status != MessagePlayed || m.Error != nil {
				t.Fatalf("ended %s with error %v", m.Status, m.Error)
			}
			for _, s := range steps[1:] {
				if m.Times.At(s).IsZero() {
					t.Fatalf("no time of %s in %+v", s, m.Times)
				}
			}
			return
		}
		for i, s := range left {
			next := m
			step := Step{Status: s, At: start.Add(time.Duration(n) * time.Second)}
			if s == MessageFailed {
				step.Error = NewMessageError(MessageInternal)
			}
			next.Take(step)
			first := *next.Times.At(s)
			next.Take(Step{Status: s, At: start.Add(time.Hour)})
			if !next.Times.At(s).Equal(first) {
				t.Fatalf("a repetition of %s moved its time", s)
			}
			rest := append(append([]MessageStatus{}, left[:i]...), left[i+1:]...)
			walk(rest, next, n+1)
		}
	}
	walk(steps, Message{Status: MessageQueued}, 1)
	if seen != 120 {
		t.Fatalf("%d orders", seen)
	}

	canceled := Message{Status: MessageCanceled}
	if canceled.Take(Step{Status: MessageSent, At: start}) {
		t.Error("a cancelled message was moved")
	}
}

func TestOwnMessageIDs(t *testing.T) {
	for range 100 {
		if id := NewMessageID(); !id.IsOwn() {
			t.Fatal(id)
		}
	}
	for _, s := range []string{"", "3EB0", "3EB0aaaaaaaaaaaaaaaaaa", "3EB0AAAAAAAAAAAAAAAAAAAA", "AC00AAAAAAAAAAAAAAAAAA"} {
		if MessageID(s).IsOwn() {
			t.Errorf("%q is taken for one of ours", s)
		}
	}
}

func TestAddressesDoNotPrint(t *testing.T) {
	a := NumberAddress("5511912345678")
	if s := fmt.Sprintf("%v %s %#v", a, a, a); strings.Contains(s, "5511") {
		t.Error(s)
	}
}
