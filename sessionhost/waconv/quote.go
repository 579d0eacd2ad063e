package waconv

import (
	"encoding/json"

	"go.mau.fi/whatsmeow/proto/waE2E"
	"google.golang.org/protobuf/proto"

	"whatisup/shared/whatisup"
)

// maxQuoted is how much of a quoted text goes along with the answer, in bytes. The
// phone that has the quoted message shows it from there.
const maxQuoted = 4096

// Quoted is the content of a message that is answered, from the body in its row:
// what kind it is of and what it says, without a file. A body that can't be read
// is quoted as an empty text.
func Quoted(raw json.RawMessage) *waE2E.Message {
	var b whatisup.Body
	_ = json.Unmarshal(raw, &b) // fields that only received bodies have are not quoted
	caption := optional(cutText(b.Caption))
	switch b.Type {
	case whatisup.BodyImage:
		return &waE2E.Message{ImageMessage: &waE2E.ImageMessage{Caption: caption}}
	case whatisup.BodyVideo:
		return &waE2E.Message{VideoMessage: &waE2E.VideoMessage{Caption: caption}}
	case whatisup.BodyAudio:
		return &waE2E.Message{AudioMessage: &waE2E.AudioMessage{PTT: proto.Bool(b.Voice)}}
	case whatisup.BodyDocument:
		return &waE2E.Message{DocumentMessage: &waE2E.DocumentMessage{Caption: caption, FileName: optional(b.Filename)}}
	case whatisup.BodySticker:
		return &waE2E.Message{StickerMessage: &waE2E.StickerMessage{}}
	case whatisup.BodyLocation:
		return &waE2E.Message{LocationMessage: &waE2E.LocationMessage{
			DegreesLatitude: b.Latitude, DegreesLongitude: b.Longitude, Name: optional(b.Name), Address: optional(b.Address),
		}}
	case whatisup.BodyContacts:
		if len(b.Contacts) > 0 {
			return &waE2E.Message{ContactMessage: &waE2E.ContactMessage{DisplayName: proto.String(b.Contacts[0].Name)}}
		}
	case whatisup.BodyPoll:
		return &waE2E.Message{PollCreationMessage: &waE2E.PollCreationMessage{Name: proto.String(b.Question)}}
	}
	return &waE2E.Message{Conversation: proto.String(cutText(b.Text))}
}

// cutText cuts a text at a character.
func cutText(s string) string {
	if len(s) <= maxQuoted {
		return s
	}
	end := maxQuoted
	for end > 0 && s[end]&0xC0 == 0x80 {
		end--
	}
	return s[:end]
}
