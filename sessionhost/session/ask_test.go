package session

import (
	"context"
	"encoding/json"
	"errors"
	"iter"
	"strings"
	"testing"
	"time"

	"whatisup/sessionhost/line"
	"whatisup/sessionhost/waconv"
	"whatisup/shared/whatisup"
)

// askedLine answers what is asked, and counts it.
type askedLine struct {
	Line
	answer string
	err    error
	asked  []json.RawMessage
}

func (l *askedLine) Ask(_ context.Context, _ whatisup.CommandKind, args json.RawMessage) (json.RawMessage, error) {
	l.asked = append(l.asked, args)
	return json.RawMessage(l.answer), l.err
}

func (l *askedLine) Address(_ context.Context, a whatisup.Address, byLID bool) waconv.JID {
	if byLID {
		return waconv.JIDOf("77@lid")
	}
	return waconv.JIDOf("4915100000001@s.whatsapp.net")
}

// changeRows are the record of one change.
type changeRows struct {
	before *whatisup.Change
	err    error // of writing
	ended  []whatisup.Change
}

func (c *changeRows) BeginChange(context.Context, whatisup.ChangeID, whatisup.CommandID) (*whatisup.Change, error) {
	return c.before, c.err
}
func (c *changeRows) EndChange(_ context.Context, _ whatisup.ChangeID, end whatisup.Change) error {
	c.ended = append(c.ended, end)
	return nil
}

// A change leaves at most once, whatever was recorded of it: a host that died after
// the record may have sent it or not, and nobody sends it again.
func TestAChangeLeavesOnce(t *testing.T) {
	t.Parallel()
	outage := errors.New("outage")
	refusal := whatisup.NewError(whatisup.CodeRejected, "no").With("whatsapp_code", 406)
	for _, c := range []struct {
		name   string
		rows   changeRows
		line   error
		late   bool
		asked  int
		code   whatisup.Code
		answer string
		err    error
		end    whatisup.ChangeState
	}{
		{name: "new", asked: 1, answer: `{"a":1}`, end: whatisup.ChangeMade},
		{name: "refused", line: refusal, asked: 1, code: whatisup.CodeRejected, answer: `{"whatsapp_code":406}`, end: whatisup.ChangeOff},
		{name: "not answered", line: line.ErrNoAnswer, asked: 1, code: whatisup.CodeOutcomeUnknown},
		{name: "begun by a host that died", rows: changeRows{before: &whatisup.Change{State: whatisup.ChangeBegun}}, code: whatisup.CodeOutcomeUnknown},
		{name: "made before", rows: changeRows{before: &whatisup.Change{State: whatisup.ChangeMade, Answer: []byte(`{"b":2}`)}}, answer: `{"b":2}`},
		{name: "called off", rows: changeRows{before: &whatisup.Change{State: whatisup.ChangeOff}}, code: whatisup.CodeUnavailable},
		{name: "too late", late: true, code: whatisup.CodeUnavailable},
		{name: "no record", rows: changeRows{err: outage}, err: outage},
	} {
		l := &askedLine{answer: `{"a":1}`, err: c.line}
		command := &whatisup.Command{ID: whatisup.NewCommandID(), Kind: whatisup.GroupCreate, Change: "c", Args: json.RawMessage(`{}`), ExpiresAt: whatisup.At(time.Now().Add(time.Minute))}
		if c.late {
			command.ExpiresAt = whatisup.At(time.Now())
		}
		result, err := Asker(&c.rows)(t.Context(), l, command)
		code := result.Error
		if e, ok := errors.AsType[*whatisup.Error](err); ok {
			code = e.Code
		} else if !errors.Is(err, c.err) {
			t.Errorf("%s: %v", c.name, err)
		}
		if len(l.asked) != c.asked || code != c.code || c.answer != "" && string(result.Answer) != c.answer {
			t.Errorf("%s: asked %d times, %q, %s", c.name, len(l.asked), code, result.Answer)
		}
		var end whatisup.ChangeState
		if len(c.rows.ended) > 0 {
			end = c.rows.ended[0].State
		}
		if end != c.end {
			t.Errorf("%s: recorded as %q", c.name, end)
		}
	}
}

// What only asks may be asked again, and says that WhatsApp did not answer.
func TestAQuestionHasNoRecord(t *testing.T) {
	t.Parallel()
	rows, l := &changeRows{err: errors.New("not to be used")}, &askedLine{err: line.ErrNoAnswer}
	result, err := Asker(rows)(t.Context(), l, &whatisup.Command{Kind: whatisup.GroupGet, Args: json.RawMessage(`{}`)})
	if len(l.asked) != 1 || err != nil || result.Error != whatisup.CodeWhatsAppUnreachable {
		t.Errorf("asked %d times: %+v, %v", len(l.asked), result, err)
	}
}

// inboxRows are received messages, newest first.
type inboxRows struct {
	Chats
	list    []whatisup.Listed
	through map[whatisup.Address]string
}

func (r *inboxRows) Messages(context.Context, whatisup.Ref, whatisup.Listing, int) iter.Seq2[whatisup.Listed, error] {
	return func(yield func(whatisup.Listed, error) bool) {
		for _, m := range r.list {
			if !yield(m, nil) {
				return
			}
		}
	}
}
func (r *inboxRows) ReadThrough(_ context.Context, _ whatisup.Ref, chat whatisup.Address) (string, error) {
	return r.through[chat], nil
}
func (r *inboxRows) KeepReadThrough(_ context.Context, _ whatisup.Ref, chat whatisup.Address, place string) error {
	r.through[chat] = place
	return nil
}

// Without messages a mark is for all of the chat that are new since the last one, in
// whatever form their rows name it, and for nothing else.
func TestUnreadIsWhatCameSince(t *testing.T) {
	t.Parallel()
	at := func(place string, chat whatisup.Address, change func(*whatisup.Message)) whatisup.Listed {
		m := &whatisup.Message{ID: whatisup.MessageID("id-" + place), Chat: chat, ChatType: whatisup.ChatDirect}
		if change != nil {
			change(m)
		}
		return whatisup.Listed{Message: m, Place: place}
	}
	rows := &inboxRows{through: map[whatisup.Address]string{}, list: []whatisup.Listed{
		at("9", "88@lid", nil),
		at("8", "77@lid", nil),
		at("7", "77@lid", func(m *whatisup.Message) { m.FromMe = true }),
		at("6", "77@lid", func(m *whatisup.Message) { m.Times.Read = time.Now() }),
		at("5", "77@lid", func(m *whatisup.Message) { m.ChatType = whatisup.ChatBroadcast }),
		at("4", "4915100000001@s.whatsapp.net", nil),
	}}
	l := &askedLine{answer: `{}`}
	var asked []string
	perform := Reader(rows, Asker(&changeRows{}))
	command := &whatisup.Command{Kind: whatisup.ChatRead, Args: json.RawMessage(`{"chat":"4915100000001@s.whatsapp.net","messages":null}`)}
	for range 2 {
		if result, err := perform(t.Context(), l, command); err != nil || result.Error != "" {
			t.Fatalf("%+v, %v", result, err)
		}
	}
	for _, raw := range l.asked {
		var args whatisup.ReadArgs
		if err := json.Unmarshal(raw, &args); err != nil {
			t.Fatal(err)
		}
		for _, m := range args.Messages {
			asked = append(asked, m.MessageID)
		}
	}
	if len(l.asked) != 1 || len(asked) != 2 || asked[0] != "id-8" || asked[1] != "id-4" || rows.through["77@lid"] != "8" {
		t.Errorf("asked %d times for %v; %v", len(l.asked), asked, rows.through)
	}
	rows.list = append([]whatisup.Listed{at("a", "77@lid", nil)}, rows.list...)
	if _, err := perform(t.Context(), l, command); err != nil || len(l.asked) != 2 || rows.through["77@lid"] != "a" {
		t.Errorf("asked %d times, %v; %v", len(l.asked), err, rows.through)
	}

	// Messages that are named count as the whole chat's mark only where no other is unread.
	rows.list = append([]whatisup.Listed{at("c", "77@lid", nil), at("b", "77@lid", nil)}, rows.list...)
	for _, named := range []struct{ ids, through string }{{`"id-c"`, "a"}, {`"id-c","id-b"`, "c"}} {
		ids := strings.ReplaceAll(named.ids, `"id-`, `{"message_id":"id-`)
		command.Args = json.RawMessage(`{"chat":"77@lid","messages":[` + strings.ReplaceAll(ids, `",{`, `"},{`) + `}]}`)
		if result, err := perform(t.Context(), l, command); err != nil || result.Error != "" || rows.through["77@lid"] != named.through {
			t.Errorf("%s: %+v, %v; %v", named.ids, result, err, rows.through)
		}
	}
	if len(l.asked) != 4 {
		t.Errorf("asked %d times", len(l.asked))
	}
}
