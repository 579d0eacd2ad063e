package waconv

import (
	"context"
	"encoding/json"
	"errors"
	"math"
	"testing"
	"time"

	"go.mau.fi/whatsmeow/proto/waCommon"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/types/events"
	"google.golang.org/protobuf/proto"

	"whatisup/shared/whatisup"
)

// sealedSecrets can open nothing.
type sealedSecrets struct{}

var errSealed = errors.New("sealed")

func (sealedSecrets) DecryptReaction(context.Context, *events.Message) (*waE2E.ReactionMessage, error) {
	return nil, errSealed
}
func (sealedSecrets) DecryptPollVote(context.Context, *events.Message) (*waE2E.PollVoteMessage, error) {
	return nil, errSealed
}
func (sealedSecrets) DecryptSecretEncryptedMessage(context.Context, *events.Message) (*waE2E.Message, error) {
	return nil, errSealed
}
func (sealedSecrets) DecryptComment(context.Context, *events.Message) (*waE2E.Message, error) {
	return nil, errSealed
}

var (
	ann   = types.NewJID("100000000000001", types.HiddenUserServer)
	annPN = types.NewJID("5511912345678", types.DefaultUserServer)
	own   = types.NewJID("4915111234567", types.DefaultUserServer)
	group = types.NewJID("120363012345678901", types.GroupServer)
	sent  = time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	env   = Env{Secrets: sealedSecrets{}, Own: []types.JID{own}, Now: sent.Add(time.Second)}
)

func received(m *waE2E.Message) *events.Message {
	return &events.Message{RawMessage: m, Info: types.MessageInfo{
		MessageSource: types.MessageSource{Chat: ann, Sender: ann, SenderAlt: annPN},
		ID:            "ABC", PushName: "Ann", Timestamp: sent,
	}}
}

// A location that no map has, and that JSON may have no form for, is a message that
// can be stored.
func TestALocationThatIsNone(t *testing.T) {
	for _, at := range []float64{math.NaN(), math.Inf(1), 91, -1e300} {
		for _, m := range []*waE2E.Message{
			{LocationMessage: &waE2E.LocationMessage{DegreesLatitude: &at}},
			{LiveLocationMessage: &waE2E.LiveLocationMessage{DegreesLatitude: &at}},
		} {
			d := Decode(t.Context(), received(m), env)
			if _, err := json.Marshal(d.Received); err != nil || d.Received.Type != whatisup.BodyUnsupported || d.Received.Body.WhatsAppType == "" {
				t.Errorf("%v is %+v: %v", at, d.Received, err)
			}
		}
	}
}

// What can be sent comes back, at the other end, under the same fields.
func TestWhatIsSentIsReceivedUnderTheSameFields(t *testing.T) {
	for _, raw := range []string{
		`{"type":"text","text":"Hello"}`,
		`{"type":"text","text":"see https://example.org","link_preview":{"url":"https://example.org","title":"Example","description":"d"}}`,
		`{"type":"location","latitude":-23.5,"longitude":0,"name":"Office","address":"Street 1"}`,
		`{"type":"contacts","contacts":[{"name":"A","vcard":"BEGIN:VCARD\nEND:VCARD"}]}`,
		`{"type":"contacts","contacts":[{"name":"A","vcard":"BEGIN:VCARD\nA"},{"name":"B","vcard":"BEGIN:VCARD\nB"}]}`,
		`{"type":"poll","question":"When?","options":["now","later","never"],"selectable":2}`,
	} {
		body, problems := whatisup.ParseBody(json.RawMessage(raw))
		if len(problems) > 0 {
			t.Fatal(problems)
		}
		m, err := Encode(&Outgoing{Body: body, Chat: ann, Now: sent})
		if err != nil {
			t.Fatal(err)
		}
		d := Decode(t.Context(), received(m), env)
		if d.Event != whatisup.MessageReceived {
			t.Fatalf("%s: %+v", raw, d)
		}
		got, err := json.Marshal(d.Received.Body)
		if err != nil {
			t.Fatal(err)
		}
		if string(got) != raw {
			t.Errorf("received %s\n   sent %s", got, raw)
		}
	}
}

func TestAReplyQuotesMentionsAndDisappears(t *testing.T) {
	body := &whatisup.Body{Type: whatisup.BodyText, Text: "yes @5511912345678"}
	m, err := Encode(&Outgoing{
		Body: body, Chat: group, Now: sent, Mentions: []types.JID{ann}, Timer: time.Hour, TimerSetAt: sent,
		Quote: &Quote{Reference{ID: "Q1", Author: ann}, &waE2E.Message{Conversation: proto.String("well?")}},
	})
	if err != nil {
		t.Fatal(err)
	}
	e := received(m)
	e.Info.Chat, e.Info.IsGroup = group, true
	d := Decode(t.Context(), e, env)
	c := d.Received.Context
	if c == nil || *c.MessageID != "Q1" || *c.Text != "well?" || *c.From.LID != ann.User || *c.EphemeralSeconds != 3600 || len(c.Mentions) != 1 {
		t.Errorf("context %+v", c)
	}
	if d.Chat != whatisup.GroupAddress(group.User) || d.ChatType != whatisup.ChatGroup || d.Timer == nil || d.Timer.Seconds != 3600 {
		t.Errorf("%+v", d)
	}
}

// A wrapper of any kind, in any order, is opened.
func TestWrappersOfEveryKindAreOpened(t *testing.T) {
	text := func() *waE2E.Message { return &waE2E.Message{Conversation: proto.String("inside")} }
	wrap := func(m *waE2E.Message) *waE2E.FutureProofMessage { return &waE2E.FutureProofMessage{Message: m} }
	for name, m := range map[string]*waE2E.Message{
		"view once around ephemeral": {ViewOnceMessageV2: wrap(&waE2E.Message{EphemeralMessage: wrap(text())})},
		"ephemeral around view once": {EphemeralMessage: wrap(&waE2E.Message{ViewOnceMessage: wrap(text())})},
		"album's child":              {AssociatedChildMessage: wrap(text())},
		"spoiler":                    {SpoilerMessage: wrap(text())},
		"poll of version 4":          {PollCreationMessageV4: wrap(&waE2E.Message{PollCreationMessage: &waE2E.PollCreationMessage{Name: proto.String("inside")}})},
		"group mention":              {GroupMentionedMessage: wrap(text())},
		"from another device":        {DeviceSentMessage: &waE2E.DeviceSentMessage{Message: &waE2E.Message{EphemeralMessage: wrap(text())}}},
	} {
		d := Decode(t.Context(), received(m), env)
		if d.Event != whatisup.MessageReceived || d.Received.Text == nil || *d.Received.Text != "inside" {
			t.Errorf("%s: %+v", name, d)
		}
	}
	deep := text()
	for range 100 {
		deep = &waE2E.Message{EphemeralMessage: wrap(deep)}
	}
	if d := Decode(t.Context(), received(deep), env); d.Received == nil || d.Received.Type != whatisup.BodyUnsupported {
		t.Errorf("a hundred wrappers: %+v", d)
	}
}

func TestChangesNameTheirTarget(t *testing.T) {
	for _, c := range []struct {
		name   string
		m      *waE2E.Message
		event  whatisup.EventName
		fromMe bool
	}{
		{"reaction to ours", &waE2E.Message{ReactionMessage: &waE2E.ReactionMessage{Key: &waCommon.MessageKey{ID: proto.String("T")}, Text: proto.String("x")}}, whatisup.MessageReaction, true},
		{"reaction to their own", &waE2E.Message{ReactionMessage: &waE2E.ReactionMessage{Key: &waCommon.MessageKey{ID: proto.String("T"), FromMe: proto.Bool(true)}}}, whatisup.MessageReaction, false},
		{"revoke", &waE2E.Message{ProtocolMessage: &waE2E.ProtocolMessage{Type: waE2E.ProtocolMessage_REVOKE.Enum(), Key: &waCommon.MessageKey{ID: proto.String("T"), FromMe: proto.Bool(true)}}}, whatisup.MessageRevoked, false},
		{"edit", &waE2E.Message{EditedMessage: &waE2E.FutureProofMessage{Message: &waE2E.Message{ProtocolMessage: &waE2E.ProtocolMessage{
			Type: waE2E.ProtocolMessage_MESSAGE_EDIT.Enum(), Key: &waCommon.MessageKey{ID: proto.String("T"), FromMe: proto.Bool(true)},
			EditedMessage: &waE2E.Message{Conversation: proto.String("better")},
		}}}}, whatisup.MessageEdited, false},
		{"encrypted edit that can't be opened", &waE2E.Message{SecretEncryptedMessage: &waE2E.SecretEncryptedMessage{
			SecretEncType: waE2E.SecretEncryptedMessage_MESSAGE_EDIT.Enum(), TargetMessageKey: &waCommon.MessageKey{ID: proto.String("T"), FromMe: proto.Bool(true)},
		}}, whatisup.MessageEdited, false},
		{"vote", &waE2E.Message{PollUpdateMessage: &waE2E.PollUpdateMessage{PollCreationMessageKey: &waCommon.MessageKey{ID: proto.String("T")}}}, whatisup.PollVoted, true},
	} {
		d := Decode(t.Context(), received(c.m), env)
		if d.Event != c.event || d.Target.ID != "T" || d.Target.FromMe != c.fromMe {
			t.Errorf("%s: %+v", c.name, d)
		}
		if !c.fromMe && d.Target.Author.LID != ann.User {
			t.Errorf("%s: by %+v", c.name, d.Target.Author)
		}
	}
}

func TestOneFormOfAChat(t *testing.T) {
	directory := func(j types.JID) types.JID {
		switch {
		case j.User == ann.User:
			return annPN
		case j.User == annPN.User:
			return ann
		}
		return types.EmptyJID
	}
	text := &waE2E.Message{Conversation: proto.String("x")}
	for name, info := range map[string]types.MessageSource{
		"by LID":           {Chat: ann, Sender: ann},
		"by number":        {Chat: annPN, Sender: annPN},
		"from a device":    {Chat: annPN, Sender: types.JID{User: annPN.User, Server: annPN.Server, Device: 3}},
		"with both":        {Chat: annPN, Sender: annPN, SenderAlt: ann},
		"own, by number":   {Chat: annPN, Sender: own, IsFromMe: true},
		"own, alternative": {Chat: annPN, Sender: own, IsFromMe: true, RecipientAlt: ann},
		"broadcast list":   {Chat: types.NewJID("1234567890", types.BroadcastServer), Sender: annPN},
	} {
		e := received(text)
		e.Info.MessageSource = info
		d := Decode(t.Context(), e, Env{Directory: directory, Secrets: sealedSecrets{}, Own: []types.JID{own}, Now: sent})
		if d.Chat != whatisup.LIDAddress(ann.User) || *d.Received.LID != ann.User || *d.Received.PhoneNumber != annPN.User {
			t.Errorf("%s: chat %q", name, string(d.Chat))
		}
	}
}

// FuzzDecode: whatever a stranger encodes becomes an event or a named nothing,
// and every event can be written as JSON.
func FuzzDecode(f *testing.F) {
	for _, m := range []*waE2E.Message{
		{Conversation: proto.String("x")},
		{ViewOnceMessage: &waE2E.FutureProofMessage{Message: &waE2E.Message{ImageMessage: &waE2E.ImageMessage{Caption: proto.String("c")}}}},
		{EventMessage: &waE2E.EventMessage{StartTime: proto.Int64(1 << 62)}},
		{ExtendedTextMessage: &waE2E.ExtendedTextMessage{ContextInfo: &waE2E.ContextInfo{StanzaID: proto.String("q"), QuotedMessage: &waE2E.Message{}}}},
	} {
		b, err := proto.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b, "id")
	}
	f.Fuzz(func(t *testing.T, b []byte, id string) {
		var m waE2E.Message
		if proto.Unmarshal(b, &m) != nil {
			return
		}
		e := received(&m)
		e.Info.ID = id
		d := Decode(t.Context(), e, env)
		if (d.Event == "") == (d.Nothing == "") {
			t.Fatalf("neither an event nor a named nothing: %+v", d)
		}
		if d.Received != nil {
			if _, err := json.Marshal(d.Received); err != nil {
				t.Fatal(err)
			}
		}
	})
}
