package waconv

import (
	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/types/events"

	"whatisup/shared/whatisup"
)

// Message is the data of a message's event. It is false for messages that nobody
// sent to this number: our own from another device, status updates, newsletters,
// and the protocol's own (keys, history, edits).
func Message(m *events.Message) (whatisup.MessageData, bool) {
	if m.Message == nil || m.Info.IsFromMe || m.Info.Chat.Server == types.BroadcastServer || m.Info.Chat.Server == types.NewsletterServer {
		return whatisup.MessageData{}, false
	}
	kind, text, ok := typeOf(m.Message)
	if !ok {
		return whatisup.MessageData{}, false
	}
	d := whatisup.MessageData{
		MessageID:  m.Info.ID,
		Chat:       m.Info.Chat.ToNonAD().String(),
		From:       sender(m.Info.Sender, m.Info.SenderAlt),
		Type:       kind,
		ReceivedAt: whatisup.At(m.Info.Timestamp),
	}
	if kind == "text" {
		d.Text = &text
	}
	return d, true
}

// Part is the id of a message that came within another one, empty for any other.
// The phone sends again what this device could not read, several messages in one.
func Part(m *events.Message) string {
	if m.UnavailableRequestID == "" {
		return ""
	}
	return m.Info.ID
}

// sender takes the number and the LID of a person from the JIDs given. WhatsApp
// names people by either, and often gives the other one beside it.
func sender(jids ...types.JID) whatisup.MessageFrom {
	var from whatisup.MessageFrom
	for _, j := range jids {
		user := j.User
		switch j.Server {
		case types.DefaultUserServer:
			if from.PhoneNumber == nil && user != "" {
				from.PhoneNumber = &user
			}
		case types.HiddenUserServer:
			if from.LID == nil && user != "" {
				from.LID = &user
			}
		}
	}
	return from
}

// typeOf is the type of a message and its text. It is false for what nobody
// wrote.
func typeOf(m *waE2E.Message) (kind, text string, ok bool) {
	switch {
	case m.GetConversation() != "":
		return "text", m.GetConversation(), true
	case m.ExtendedTextMessage != nil:
		return "text", m.GetExtendedTextMessage().GetText(), true
	case m.ImageMessage != nil:
		return "image", "", true
	case m.VideoMessage != nil, m.PtvMessage != nil:
		return "video", "", true
	case m.AudioMessage != nil:
		return "audio", "", true
	case m.DocumentMessage != nil:
		return "document", "", true
	case m.StickerMessage != nil, m.LottieStickerMessage != nil:
		return "sticker", "", true
	case m.ContactMessage != nil, m.ContactsArrayMessage != nil:
		return "contact", "", true
	case m.LocationMessage != nil, m.LiveLocationMessage != nil:
		return "location", "", true
	case m.ReactionMessage != nil, m.EncReactionMessage != nil:
		return "reaction", "", true
	case m.PollCreationMessage != nil, m.PollCreationMessageV2 != nil, m.PollCreationMessageV3 != nil, m.PollUpdateMessage != nil:
		return "poll", "", true
	// What has no case here may be of a kind that this version does not know; a
	// customer should see that something came.
	case m.ProtocolMessage != nil, m.SenderKeyDistributionMessage != nil, m.KeepInChatMessage != nil, m.PinInChatMessage != nil:
		return "", "", false
	}
	return "other", "", true
}
