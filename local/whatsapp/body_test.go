package whatsapp

import (
	"testing"

	"google.golang.org/protobuf/proto"

	"go.mau.fi/whatsmeow/proto/waE2E"
)

// FuzzBody lets a phone read whatever bytes somebody sends as a message.
func FuzzBody(f *testing.F) {
	for _, m := range []*waE2E.Message{
		{Conversation: proto.String("hello")},
		{EditedMessage: &waE2E.FutureProofMessage{Message: &waE2E.Message{ProtocolMessage: &waE2E.ProtocolMessage{Type: waE2E.ProtocolMessage_MESSAGE_EDIT.Enum()}}}},
		{ViewOnceMessageV2: &waE2E.FutureProofMessage{Message: &waE2E.Message{ImageMessage: &waE2E.ImageMessage{}}}},
		{ReactionMessage: &waE2E.ReactionMessage{}},
		{PollCreationMessageV3: &waE2E.PollCreationMessage{}},
		{DeviceSentMessage: &waE2E.DeviceSentMessage{Message: &waE2E.Message{}}},
	} {
		data, err := proto.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		m := new(waE2E.Message)
		if proto.Unmarshal(data, m) != nil {
			return
		}
		body := reader{}.body(m)
		if body.Type == "" {
			t.Errorf("%v has no type", m)
		}
		body.shown()
		stanzaKind(m)
	})
}

func TestCanonical(t *testing.T) {
	t.Parallel()
	for _, number := range []string{"5521987654321", "553187654321", "525512345678", "541123456789", "4915112345678", "31612345678", "5511912345678"} {
		if got := canonical(number); got != number {
			t.Errorf("%s became %s", number, got)
		}
	}
	for number, want := range map[string]string{"552187654321": "5521987654321", "5531987654321": "553187654321", "5215512345678": "525512345678", "5491123456789": "541123456789"} {
		if got := canonical(number); got != want || canonical(got) != got {
			t.Errorf("%s became %s, want %s", number, got, want)
		}
	}
}
