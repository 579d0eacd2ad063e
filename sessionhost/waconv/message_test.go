package waconv

import (
	"testing"
	"time"

	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/types/events"
	"google.golang.org/protobuf/proto"
)

func TestMessage(t *testing.T) {
	t.Parallel()
	pn, lid := types.NewJID("4915112345678", types.DefaultUserServer), types.NewJID("12345", types.HiddenUserServer)
	info := types.MessageInfo{ID: "A1", Timestamp: time.Unix(1_800_000_000, 0), MessageSource: types.MessageSource{Chat: lid, Sender: lid, SenderAlt: pn}}
	for _, c := range []struct {
		name string
		m    *waE2E.Message
		edit func(*types.MessageInfo)
		kind string
		text string
	}{
		{name: "text", m: &waE2E.Message{Conversation: proto.String("hi")}, kind: "text", text: "hi"},
		{name: "long text", m: &waE2E.Message{ExtendedTextMessage: &waE2E.ExtendedTextMessage{Text: proto.String("hello")}}, kind: "text", text: "hello"},
		{name: "image", m: &waE2E.Message{ImageMessage: &waE2E.ImageMessage{}}, kind: "image"},
		{name: "location", m: &waE2E.Message{LocationMessage: &waE2E.LocationMessage{}}, kind: "location"},
		{name: "unknown", m: &waE2E.Message{}, kind: "other"},
		{name: "housekeeping", m: &waE2E.Message{ProtocolMessage: &waE2E.ProtocolMessage{}}},
		{name: "our own", m: &waE2E.Message{Conversation: proto.String("hi")}, edit: func(i *types.MessageInfo) { i.IsFromMe = true }},
		{name: "a status", m: &waE2E.Message{Conversation: proto.String("hi")}, edit: func(i *types.MessageInfo) { i.Chat = types.StatusBroadcastJID }},
		{name: "nothing"},
	} {
		i := info
		if c.edit != nil {
			c.edit(&i)
		}
		d, ok := Message(&events.Message{Info: i, Message: c.m})
		if ok != (c.kind != "") {
			t.Errorf("%s: is an event: %v", c.name, ok)
			continue
		}
		if !ok {
			continue
		}
		if d.Type != c.kind || (d.Text != nil) != (c.kind == "text") || d.Text != nil && *d.Text != c.text {
			t.Errorf("%s: %+v", c.name, d)
		}
		if d.From.PhoneNumber == nil || *d.From.PhoneNumber != "4915112345678" || d.From.LID == nil || *d.From.LID != "12345" || d.Chat != "12345@lid" {
			t.Errorf("%s: from %+v in %s", c.name, d.From, d.Chat)
		}
	}
}
