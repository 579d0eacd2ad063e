package waconv

import (
	"crypto/rand"
	"fmt"
	"strings"
	"time"

	"go.mau.fi/whatsmeow/proto/waCommon"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/types"
	"google.golang.org/protobuf/proto"

	"whatisup/shared/whatisup"
)

// Outgoing is a message to send, with everything that its rows and its chat's
// rows tell of it.
type Outgoing struct {
	Body   *whatisup.Body
	Chat   types.JID
	Target *Reference // of a reaction, an edit, a revoke
	Quote  *Quote     // of a reply
	// Mentions are the persons of Body.Mentions, as the chat addresses them.
	Mentions []types.JID
	// Timer makes the message disappear, in a chat whose messages do; TimerSetAt is
	// when it was set, which the phone compares with its own.
	Timer      time.Duration
	TimerSetAt time.Time
	Thumbnail  []byte // of a link's preview: a JPEG
	// File is what was uploaded to WhatsApp of the message's file.
	File *whatisup.StoredUpload
	Now  time.Time
}

// Reference names another message of the chat.
type Reference struct {
	ID     whatisup.MessageID
	FromMe bool
	Author types.JID // of another's message
}

// Quote is the message that is answered.
type Quote struct {
	Reference
	Content *waE2E.Message
}

// Encode makes the protocol buffer of a message.
func Encode(o *Outgoing) (*waE2E.Message, error) {
	switch b := o.Body; b.Type {
	case whatisup.BodyText:
		return o.text(), nil
	case whatisup.BodyLocation:
		return &waE2E.Message{LocationMessage: &waE2E.LocationMessage{
			DegreesLatitude: b.Latitude, DegreesLongitude: b.Longitude,
			Name: optional(b.Name), Address: optional(b.Address), ContextInfo: o.context(),
		}}, nil
	case whatisup.BodyContacts:
		return o.contacts(), nil
	case whatisup.BodyPoll:
		return o.poll(), nil
	case whatisup.BodyReaction:
		return &waE2E.Message{ReactionMessage: &waE2E.ReactionMessage{
			Key: o.key(), Text: b.Emoji, SenderTimestampMS: proto.Int64(o.Now.UnixMilli()),
		}}, nil
	case whatisup.BodyEdit:
		return &waE2E.Message{EditedMessage: &waE2E.FutureProofMessage{Message: &waE2E.Message{
			ProtocolMessage: &waE2E.ProtocolMessage{
				Key: o.key(), Type: waE2E.ProtocolMessage_MESSAGE_EDIT.Enum(),
				EditedMessage: &waE2E.Message{Conversation: proto.String(b.Text)},
				TimestampMS:   proto.Int64(o.Now.UnixMilli()),
			},
		}}}, nil
	case whatisup.BodyRevoke:
		return &waE2E.Message{ProtocolMessage: &waE2E.ProtocolMessage{
			Key: o.key(), Type: waE2E.ProtocolMessage_REVOKE.Enum(),
		}}, nil
	}
	if o.Body.Type.IsMedia() && o.File != nil {
		return o.file(), nil
	}
	return nil, fmt.Errorf("a body of type %s is not encoded here", o.Body.Type)
}

// text is a conversation where that says it all: the shortest form, which every
// client shows.
func (o *Outgoing) text() *waE2E.Message {
	b := o.Body
	context := o.context()
	if context == nil && b.LinkPreview == nil {
		return &waE2E.Message{Conversation: proto.String(b.Text)}
	}
	m := &waE2E.ExtendedTextMessage{Text: proto.String(b.Text), ContextInfo: context}
	if v := b.LinkPreview; v != nil {
		m.MatchedText, m.Title, m.Description = proto.String(v.URL), proto.String(v.Title), optional(v.Description)
		m.PreviewType = waE2E.ExtendedTextMessage_NONE.Enum()
		m.JPEGThumbnail = o.Thumbnail
	}
	return &waE2E.Message{ExtendedTextMessage: m}
}

func (o *Outgoing) contacts() *waE2E.Message {
	cards := make([]*waE2E.ContactMessage, len(o.Body.Contacts))
	for i, c := range o.Body.Contacts {
		card := c.VCard
		if card == "" {
			card = VCard(c.Name, c.PhoneNumbers)
		}
		cards[i] = &waE2E.ContactMessage{DisplayName: proto.String(c.Name), Vcard: proto.String(card)}
	}
	if len(cards) == 1 {
		cards[0].ContextInfo = o.context()
		return &waE2E.Message{ContactMessage: cards[0]}
	}
	return &waE2E.Message{ContactsArrayMessage: &waE2E.ContactsArrayMessage{
		DisplayName: proto.String(fmt.Sprintf("%d contacts", len(cards))), Contacts: cards, ContextInfo: o.context(),
	}}
}

// VCard is a contact card, version 3.0. The waid parameter makes the number one
// that can be written to from the card.
func VCard(name string, numbers []string) string {
	var b strings.Builder
	escaped := strings.NewReplacer(`\`, `\\`, ";", `\;`, ",", `\,`, "\r", "", "\n", `\n`).Replace(name)
	b.WriteString("BEGIN:VCARD\nVERSION:3.0\nN:;" + escaped + ";;;\nFN:" + escaped + "\n")
	for _, n := range numbers {
		if p, ok := whatisup.ParsePhoneNumber(n); ok {
			b.WriteString("TEL;type=CELL;type=VOICE;waid=" + string(p) + ":+" + string(p) + "\n")
		}
	}
	b.WriteString("END:VCARD")
	return b.String()
}

// poll brings the secret that its votes are encrypted under.
//
// It keeps to the first version of the message: the library sends the later ones
// as texts.
func (o *Outgoing) poll() *waE2E.Message {
	selectable := 1
	if o.Body.Selectable != nil {
		selectable = *o.Body.Selectable
	}
	if selectable == len(o.Body.Options) {
		selectable = 0 // any number, as the apps write it
	}
	options := make([]*waE2E.PollCreationMessage_Option, len(o.Body.Options))
	for i, name := range o.Body.Options {
		options[i] = &waE2E.PollCreationMessage_Option{OptionName: proto.String(name)}
	}
	secret := make([]byte, 32)
	_, _ = rand.Read(secret) // never fails
	return &waE2E.Message{
		PollCreationMessage: &waE2E.PollCreationMessage{
			Name: proto.String(o.Body.Question), Options: options,
			SelectableOptionsCount: proto.Uint32(uint32(selectable)), ContextInfo: o.context(),
		},
		MessageContextInfo: &waE2E.MessageContextInfo{MessageSecret: secret},
	}
}

// key names the target. Only in groups does it name the author.
func (o *Outgoing) key() *waCommon.MessageKey {
	t := o.Target
	k := &waCommon.MessageKey{
		RemoteJID: proto.String(o.Chat.ToNonAD().String()), FromMe: proto.Bool(t.FromMe), ID: proto.String(string(t.ID)),
	}
	if !t.FromMe && o.Chat.Server == types.GroupServer {
		k.Participant = proto.String(t.Author.ToNonAD().String())
	}
	return k
}

// context is what the message stands in, nil if in nothing.
func (o *Outgoing) context() *waE2E.ContextInfo {
	c := &waE2E.ContextInfo{}
	if q := o.Quote; q != nil {
		c.StanzaID, c.QuotedMessage = proto.String(string(q.ID)), q.Content
		c.Participant = proto.String(q.Author.ToNonAD().String())
	}
	for _, m := range o.Mentions {
		c.MentionedJID = append(c.MentionedJID, m.ToNonAD().String())
	}
	if o.Timer > 0 {
		c.Expiration = proto.Uint32(uint32(o.Timer / time.Second))
		if !o.TimerSetAt.IsZero() {
			c.EphemeralSettingTimestamp = proto.Int64(o.TimerSetAt.Unix())
		}
	}
	if proto.Size(c) == 0 {
		return nil
	}
	return c
}

func optional(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// Parse reads a message from the bytes that it was sent as.
func Parse(b []byte) (*Content, error) {
	m := &waE2E.Message{}
	if err := proto.Unmarshal(b, m); err != nil {
		return nil, err
	}
	return m, nil
}
