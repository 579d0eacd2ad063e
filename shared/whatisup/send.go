package whatisup

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"
	"unicode"
	"unicode/utf8"
)

// Send is the request to send one message, as both doors take it.
type Send struct {
	To          Address
	Body        *Body
	Raw         json.RawMessage // the body as given, without space between tokens
	ClientRef   string
	ReplyTo     *Target
	ScheduledAt time.Time // zero: now
	ExpiresAt   time.Time
	FailAtOnce  bool // if_not_connected is "fail"
	Typing      time.Duration
}

// SendFields lists the fields of the request.
var SendFields = []string{
	"to", "body", "client_ref", "reply_to", "scheduled_at", "expires_at", "if_not_connected", "typing_ms",
}

// ParseSend reads a request, field by field, from a JSON object without duplicate
// keys. It returns every problem that the request alone shows. Null is the same as
// a missing field.
func ParseSend(fields map[string]json.RawMessage, now time.Time) (*Send, []Problem) {
	p := &sendParser{fields: fields, now: now}
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		if !slices.Contains(SendFields, name) {
			p.problem(name, "is not a field of this request")
		}
	}

	p.to()
	p.body()
	p.clientRef()
	if raw, ok := p.fields["reply_to"]; ok {
		target, problems := ParseTarget("reply_to", raw)
		p.send.ReplyTo = target
		p.problems = append(p.problems, problems...)
	}
	p.when()
	p.typing()
	if len(p.problems) > 0 {
		return nil, p.problems
	}
	return &p.send, nil
}

type sendParser struct {
	fields   map[string]json.RawMessage
	now      time.Time
	send     Send
	problems []Problem
}

func (p *sendParser) problem(field, text string) {
	p.problems = append(p.problems, Problem{field, text})
}

// read decodes one field, if it is there and not null, and says whether it was.
func (p *sendParser) read(name string, into any, problem string) bool {
	raw, ok := p.fields[name]
	if !ok || string(raw) == "null" {
		return false
	}
	if json.Unmarshal(raw, into) != nil {
		p.problem(name, problem)
		return false
	}
	return true
}

func (p *sendParser) to() {
	var s string
	if raw, ok := p.fields["to"]; !ok || string(raw) == "null" {
		p.problem("to", "is required")
		return
	}
	if !p.read("to", &s, "must be a string") {
		return
	}
	a, ok := ParseAddress(s)
	if !ok {
		p.problem("to", "must be a phone number of 7 to 15 digits with the country code, a group (…@g.us) or a contact (…@lid)")
	}
	p.send.To = a
}

func (p *sendParser) body() {
	raw, ok := p.fields["body"]
	if !ok {
		p.problem("body", "is required")
		return
	}
	b, problems := ParseBody(raw)
	p.problems = append(p.problems, problems...)
	if b == nil {
		return
	}
	var compact bytes.Buffer
	if err := json.Compact(&compact, raw); err != nil {
		p.problem("body", "is not JSON")
		return
	}
	p.send.Body, p.send.Raw = b, compact.Bytes()
}

func (p *sendParser) clientRef() {
	ref := &p.send.ClientRef
	if !p.read("client_ref", ref, "must be a string") {
		return
	}
	if n := utf8.RuneCountInString(*ref); n < 1 || n > maxClientRef {
		p.problem("client_ref", fmt.Sprintf("must have 1 to %d characters", maxClientRef))
		return
	}
	for _, r := range *ref {
		if unicode.IsControl(r) {
			p.problem("client_ref", "must not contain control characters")
			return
		}
	}
}

func (p *sendParser) when() {
	s := &p.send
	var mode string
	if p.read("if_not_connected", &mode, `must be "queue" or "fail"`) {
		if mode != "queue" && mode != "fail" {
			p.problem("if_not_connected", `must be "queue" or "fail"`)
		}
		s.FailAtOnce = mode == "fail"
	}

	var at Time
	if p.read("scheduled_at", &at, timeProblem) {
		switch due := at.Truncate(time.Second); {
		case s.FailAtOnce:
			p.problem("scheduled_at", `excludes if_not_connected "fail"`)
		case due.After(p.now.Add(ScheduleAhead)):
			p.problem("scheduled_at", "must be at most 7 days ahead")
		case due.Before(p.now.Add(-SchedulePast)):
			p.problem("scheduled_at", "must not be in the past")
		case due.After(p.now):
			s.ScheduledAt = due
		}
	}

	from := p.now
	if s.ScheduledAt.After(from) {
		from = s.ScheduledAt
	}
	s.ExpiresAt = from.Add(ExpireAfter)
	if s.FailAtOnce {
		s.ExpiresAt = from.Add(ExpireAfterFail)
	}
	var expires Time
	if p.read("expires_at", &expires, timeProblem) {
		s.ExpiresAt = expires.Time
		switch {
		case !expires.After(from):
			p.problem("expires_at", "must be later than now and than scheduled_at")
		case expires.After(from.Add(ExpireMost)):
			p.problem("expires_at", "must be at most 7 days after now or scheduled_at")
		}
	}
}

const timeProblem = "must be a time as in 2026-05-01T12:34:56.000Z"

func (p *sendParser) typing() {
	var ms int
	if !p.read("typing_ms", &ms, "must be a whole number") {
		return
	}
	if most := int(TypingMost / time.Millisecond); ms < 0 || ms > most {
		p.problem("typing_ms", fmt.Sprintf("must be from 0 to %d", most))
		return
	}
	p.send.Typing = time.Duration(ms) * time.Millisecond
}
