package whatsapp

import (
	"bytes"
	"cmp"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"image"
	"image/color"
	"image/jpeg"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	"go.mau.fi/whatsmeow/proto/waCommon"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/types"
)

// composer makes the message that a phone sends of what its owner does.
type composer struct {
	s    *Server
	w    *Writing
	from person
	chat place
}

// place is where a message is written: to a person, or in a group, or as a
// status to everybody.
type place struct {
	world string
	other person
	group string // a group's JID, or status@broadcast
	lids  bool   // people are named by LID there
}

// name is the place as it is shown on the phone of the one that writes.
func (p place) name() string { return cmp.Or(p.group, p.other.number) }

// jid is the place as the one that writes addresses it.
func (c *composer) jid() string {
	if c.chat.group != "" {
		return c.chat.group
	}
	return c.name(c.chat.other)
}

// name is how a person is called in messages there.
func (c *composer) name(p person) string {
	if c.chat.lids {
		return c.s.lidOf(p, 0).String()
	}
	return c.s.jidOf(p, 0).String()
}

// author finds who wrote a message that is referred to: who is named, else the
// writer, else whoever wrote the only message with this id there.
func (c *composer) author(r *Reference) (person, error) {
	if r == nil || r.ID == "" || len(r.ID) > 128 {
		return person{}, badRequest("a target needs a message_id")
	}
	if r.From != "" {
		return personNamed(c.from.world, r.From)
	}
	rows, _, err := c.s.screen(c.from, ShownFilter{Chat: c.chat.name(), ID: r.ID, Limit: 2})
	if err != nil {
		return person{}, err
	}
	for i := range rows {
		if rows[i].From == c.from.number {
			return c.from, nil
		}
	}
	if len(rows) > 0 {
		return person{c.from.world, rows[0].From}, nil
	}
	if c.chat.group == "" {
		return c.chat.other, nil
	}
	return person{}, badRequest("this phone shows no message %s there: say who it is from", r.ID)
}

func (c *composer) key(r *Reference) (*waCommon.MessageKey, person, error) {
	author, err := c.author(r)
	if err != nil {
		return nil, person{}, err
	}
	key := &waCommon.MessageKey{RemoteJID: proto.String(c.jid()), FromMe: proto.Bool(author == c.from), ID: proto.String(r.ID)}
	if c.chat.group != "" {
		key.Participant = proto.String(c.name(author))
	}
	return key, author, nil
}

// message makes the whole message, with what surrounds it.
func (c *composer) message() (*waE2E.Message, error) {
	if c.w.Raw != nil {
		m := new(waE2E.Message)
		if err := proto.Unmarshal(c.w.Raw, m); err != nil {
			return nil, badRequest("raw is no message: %v", err)
		}
		return m, nil
	}
	m, err := c.content(c.w.Body)
	if err != nil {
		return nil, err
	}
	if err := c.surround(m); err != nil {
		return nil, err
	}
	if c.w.Body.legacy {
		return m, nil
	}
	if m.MessageContextInfo == nil {
		m.MessageContextInfo = new(waE2E.MessageContextInfo)
	}
	m.MessageContextInfo.MessageSecret = make([]byte, 32)
	_, _ = rand.Read(m.MessageContextInfo.MessageSecret)
	return c.wrap(m)
}

// surround puts the context of a message where its part has a place for it.
func (c *composer) surround(m *waE2E.Message) error {
	context, err := c.context()
	if err != nil || context == nil {
		return err
	}
	if text := m.Conversation; text != nil {
		m.Conversation, m.ExtendedTextMessage = nil, &waE2E.ExtendedTextMessage{Text: text}
	}
	return setContext(m, context)
}

func (c *composer) context() (*waE2E.ContextInfo, error) {
	out := new(waE2E.ContextInfo)
	if c.w.ReplyTo != nil {
		key, author, err := c.key(c.w.ReplyTo)
		if err != nil {
			return nil, err
		}
		out.StanzaID, out.Participant, out.QuotedMessage = key.ID, proto.String(c.name(author)), &waE2E.Message{Conversation: proto.String("")}
		if r, ok, err := c.s.lookUp(c.from, c.chat.name(), author.number, c.w.ReplyTo.ID); err == nil && ok && r.Plain != nil {
			quoted := new(waE2E.Message)
			if proto.Unmarshal(r.Plain, quoted) == nil {
				out.QuotedMessage = unwrap(quoted)
			}
		}
	}
	if c.w.Forwarded {
		out.IsForwarded, out.ForwardingScore = proto.Bool(true), proto.Uint32(1)
	}
	if c.w.EphemeralSeconds > 0 {
		out.Expiration, out.EphemeralSettingTimestamp = &c.w.EphemeralSeconds, proto.Int64(c.s.now().Unix())
	}
	if body := c.w.Body; body.Type == "text" {
		for _, number := range body.Mentions {
			p, err := personNamed(c.from.world, number)
			if err != nil {
				return nil, err
			}
			out.MentionedJID = append(out.MentionedJID, c.name(p))
		}
	}
	if ad := c.w.Ad; ad != nil {
		out.ExternalAdReply = &waE2E.ContextInfo_ExternalAdReplyInfo{
			Title: &ad.Title, Body: &ad.Body, SourceType: proto.String("ad"), SourceID: &ad.SourceID, SourceURL: &ad.SourceURL,
			CtwaClid: &ad.ClickID, ShowAdAttribution: proto.Bool(true),
		}
	}
	if proto.Size(out) == 0 {
		return nil, nil
	}
	return out, nil
}

// setContext sets the context of the one part of a message that may have one.
func setContext(m *waE2E.Message, context *waE2E.ContextInfo) error {
	part := wholePart(m)
	if part == nil {
		return badRequest("a message of this type has no context")
	}
	field := part.Descriptor().Fields().ByName("contextInfo")
	if field == nil {
		return badRequest("a message of this type has no context")
	}
	part.Set(field, protoValue(context))
	return nil
}

// wrap puts a message into what its way of showing asks for.
func (c *composer) wrap(m *waE2E.Message) (*waE2E.Message, error) {
	info, body := m.MessageContextInfo, c.w.Body
	outer := func(set func(*waE2E.Message, *waE2E.FutureProofMessage)) {
		m.MessageContextInfo = nil
		wrapped := &waE2E.Message{MessageContextInfo: info}
		set(wrapped, &waE2E.FutureProofMessage{Message: m})
		m = wrapped
	}
	if body.ViewOnce {
		outer(func(w *waE2E.Message, f *waE2E.FutureProofMessage) { w.ViewOnceMessageV2 = f })
	}
	if body.Type == "document" && body.Caption != "" {
		outer(func(w *waE2E.Message, f *waE2E.FutureProofMessage) { w.DocumentWithCaptionMessage = f })
	}
	if body.Target != nil && (body.Type == "image" || body.Type == "video") {
		key, _, err := c.key(body.Target)
		if err != nil {
			return nil, err
		}
		info.MessageAssociation = &waE2E.MessageAssociation{AssociationType: waE2E.MessageAssociation_MEDIA_ALBUM.Enum(), ParentMessageKey: key}
		outer(func(w *waE2E.Message, f *waE2E.FutureProofMessage) { w.AssociatedChildMessage = f })
	}
	return m, nil
}

func (c *composer) content(b *Body) (*waE2E.Message, error) {
	switch b.Type {
	case "text":
		return c.text(b)
	case "image", "video", "audio", "document", "sticker":
		return c.media(b)
	case "location":
		if b.Latitude == nil || b.Longitude == nil {
			return nil, badRequest("a location needs latitude and longitude")
		}
		return &waE2E.Message{LocationMessage: &waE2E.LocationMessage{
			DegreesLatitude: b.Latitude, DegreesLongitude: b.Longitude, Name: orNil(b.Name), Address: orNil(b.Address),
		}}, nil
	case "contacts":
		return contactsMessage(b)
	case "poll":
		return pollMessage(b)
	case "reaction":
		key, _, err := c.key(b.Target)
		if err != nil {
			return nil, err
		}
		if b.Emoji == nil {
			b.Emoji = proto.String("")
		}
		return &waE2E.Message{ReactionMessage: &waE2E.ReactionMessage{Key: key, Text: b.Emoji, SenderTimestampMS: proto.Int64(c.s.now().UnixMilli())}}, nil
	case "edit":
		return c.edit(b)
	case "revoke":
		key, _, err := c.key(b.Target)
		if err != nil {
			return nil, err
		}
		return &waE2E.Message{ProtocolMessage: &waE2E.ProtocolMessage{Key: key, Type: waE2E.ProtocolMessage_REVOKE.Enum()}}, nil
	case "vote":
		return c.vote(b)
	}
	return c.rarer(b)
}

// rarer are types that a customer of ours cannot send, but that people do.
func (c *composer) rarer(b *Body) (*waE2E.Message, error) {
	switch b.Type {
	case "timer":
		return &waE2E.Message{ProtocolMessage: &waE2E.ProtocolMessage{
			Type: waE2E.ProtocolMessage_EPHEMERAL_SETTING.Enum(), EphemeralExpiration: &b.Seconds, EphemeralSettingTimestamp: proto.Int64(c.s.now().Unix()),
		}}, nil
	case "album":
		return &waE2E.Message{AlbumMessage: &waE2E.AlbumMessage{ExpectedImageCount: &b.Images, ExpectedVideoCount: &b.Videos}}, nil
	case "event":
		return &waE2E.Message{EventMessage: &waE2E.EventMessage{
			Name: &b.Name, Description: orNil(b.Description), StartTime: proto.Int64(cmp.Or(b.StartAt, c.s.now().Add(24*time.Hour).Unix())),
		}}, nil
	case "invitation":
		return &waE2E.Message{GroupInviteMessage: &waE2E.GroupInviteMessage{
			GroupJID: &b.Group, InviteCode: &b.Code, InviteExpiration: proto.Int64(c.s.now().Add(72 * time.Hour).Unix()), GroupName: &b.Name, Caption: orNil(b.Caption),
		}}, nil
	case "button_reply":
		return &waE2E.Message{ButtonsResponseMessage: &waE2E.ButtonsResponseMessage{
			SelectedButtonID: &b.ID, Type: waE2E.ButtonsResponseMessage_DISPLAY_TEXT.Enum(),
			Response: &waE2E.ButtonsResponseMessage_SelectedDisplayText{SelectedDisplayText: b.Text},
		}}, nil
	case "list_reply":
		return &waE2E.Message{ListResponseMessage: &waE2E.ListResponseMessage{
			Title: &b.Text, ListType: waE2E.ListResponseMessage_SINGLE_SELECT.Enum(),
			SingleSelectReply: &waE2E.ListResponseMessage_SingleSelectReply{SelectedRowID: &b.ID},
		}}, nil
	case "order":
		return &waE2E.Message{OrderMessage: &waE2E.OrderMessage{
			OrderID: &b.ID, Message: orNil(b.Text), ItemCount: proto.Int32(1), Status: waE2E.OrderMessage_INQUIRY.Enum(), Surface: waE2E.OrderMessage_CATALOG.Enum(),
		}}, nil
	}
	return nil, badRequest("no message of the type %q", b.Type)
}

func orNil(text string) *string {
	if text == "" {
		return nil
	}
	return &text
}

func (c *composer) text(b *Body) (*waE2E.Message, error) {
	if b.Text == "" || len(b.Text) > maxText {
		return nil, badRequest("text must have 1 to %d bytes", maxText)
	}
	if b.LinkPreview == nil {
		return &waE2E.Message{Conversation: &b.Text}, nil
	}
	return &waE2E.Message{ExtendedTextMessage: &waE2E.ExtendedTextMessage{
		Text: &b.Text, MatchedText: &b.LinkPreview.URL, Title: &b.LinkPreview.Title, Description: orNil(b.LinkPreview.Description),
	}}, nil
}

func contactsMessage(b *Body) (*waE2E.Message, error) {
	var list []*waE2E.ContactMessage
	for _, contact := range b.Contacts {
		vcard := contact.VCard
		if vcard == "" {
			vcard = "BEGIN:VCARD\nVERSION:3.0\nFN:" + contact.Name + "\n"
			for _, number := range contact.PhoneNumbers {
				vcard += fmt.Sprintf("TEL;type=CELL;waid=%s:+%s\n", digits(number), digits(number))
			}
			vcard += "END:VCARD"
		}
		list = append(list, &waE2E.ContactMessage{DisplayName: proto.String(contact.Name), Vcard: &vcard})
	}
	switch len(list) {
	case 0:
		return nil, badRequest("contacts must have one at least")
	case 1:
		return &waE2E.Message{ContactMessage: list[0]}, nil
	}
	return &waE2E.Message{ContactsArrayMessage: &waE2E.ContactsArrayMessage{DisplayName: proto.String(fmt.Sprintf("%d contacts", len(list))), Contacts: list}}, nil
}

func pollMessage(b *Body) (*waE2E.Message, error) {
	if b.Question == "" || len(b.Options) < 2 || len(b.Options) > 12 {
		return nil, badRequest("a poll has a question and 2 to 12 options")
	}
	poll := &waE2E.PollCreationMessage{Name: &b.Question, SelectableOptionsCount: proto.Uint32(1)}
	if b.Selectable != nil {
		poll.SelectableOptionsCount = b.Selectable
	}
	for _, option := range b.Options {
		poll.Options = append(poll.Options, &waE2E.PollCreationMessage_Option{OptionName: proto.String(option)})
	}
	if poll.GetSelectableOptionsCount() == 1 {
		return &waE2E.Message{PollCreationMessageV3: poll}, nil
	}
	return &waE2E.Message{PollCreationMessage: poll}, nil
}

// edit is in one of the two forms that apps use: in the open, or encrypted with
// the secret of the message that it changes.
func (c *composer) edit(b *Body) (*waE2E.Message, error) {
	key, author, err := c.key(b.Target)
	if err != nil {
		return nil, err
	}
	now := c.s.now().UnixMilli()
	edit := &waE2E.Message{ProtocolMessage: &waE2E.ProtocolMessage{
		Key: key, Type: waE2E.ProtocolMessage_MESSAGE_EDIT.Enum(), TimestampMS: &now, EditedMessage: &waE2E.Message{Conversation: &b.Text},
	}}
	if !c.w.SecretEdit {
		return &waE2E.Message{EditedMessage: &waE2E.FutureProofMessage{Message: edit}}, nil
	}
	old, ok, err := c.s.lookUp(c.from, c.chat.name(), author.number, b.Target.ID)
	if err != nil || !ok || old.Secret == nil {
		return nil, badRequest("the message has no secret to encrypt an edit with")
	}
	plain, err := proto.Marshal(edit)
	if err != nil {
		return nil, err
	}
	sealed, iv, err := sealWithSecret(useEdit, b.Target.ID, c.jidOf(author), c.jidOf(c.from), old.Secret, plain)
	if err != nil {
		return nil, err
	}
	return &waE2E.Message{SecretEncryptedMessage: &waE2E.SecretEncryptedMessage{
		TargetMessageKey: key, EncPayload: sealed, EncIV: iv, SecretEncType: waE2E.SecretEncryptedMessage_MESSAGE_EDIT.Enum(),
	}}, nil
}

func (c *composer) jidOf(p person) types.JID {
	if c.chat.lids {
		return c.s.lidOf(p, 0)
	}
	return c.s.jidOf(p, 0)
}

func (c *composer) vote(b *Body) (*waE2E.Message, error) {
	key, author, err := c.key(b.Target)
	if err != nil {
		return nil, err
	}
	poll, ok, err := c.s.lookUp(c.from, c.chat.name(), author.number, b.Target.ID)
	if err != nil || !ok || poll.Type != "poll" || poll.Secret == nil {
		return nil, badRequest("this phone shows no poll %s there", b.Target.ID)
	}
	vote := new(waE2E.PollVoteMessage)
	for _, option := range b.Options {
		hash := sha256.Sum256([]byte(option))
		vote.SelectedOptions = append(vote.SelectedOptions, hash[:])
	}
	plain, err := proto.Marshal(vote)
	if err != nil {
		return nil, err
	}
	sealed, iv, err := sealWithSecret(useVote, b.Target.ID, c.jidOf(author), c.jidOf(c.from), poll.Secret, plain)
	if err != nil {
		return nil, err
	}
	return &waE2E.Message{PollUpdateMessage: &waE2E.PollUpdateMessage{
		PollCreationMessageKey: key, Vote: &waE2E.PollEncValue{EncPayload: sealed, EncIV: iv},
		Metadata: &waE2E.PollUpdateMessageMetadata{}, SenderTimestampMS: proto.Int64(c.s.now().UnixMilli()),
	}}, nil
}

// samples are what a phone sends where a control call brings no file.
func sample(kind string) (data []byte, mimeType string) {
	switch kind {
	case "image":
		picture := image.NewRGBA(image.Rect(0, 0, 32, 32))
		for i := range 32 * 32 {
			picture.Set(i%32, i/32, color.RGBA{uint8(i), uint8(i / 4), 128, 255})
		}
		var out bytes.Buffer
		_ = jpeg.Encode(&out, picture, nil)
		return out.Bytes(), "image/jpeg"
	case "sticker":
		data, _ = base64.StdEncoding.DecodeString("UklGRiQAAABXRUJQVlA4IBgAAAAwAQCdASoBAAEAAwA0JaQAA3AA/vuUAAA=")
		return data, "image/webp"
	case "audio":
		return []byte("OggS a sample that is no sound"), "audio/ogg; codecs=opus"
	case "video":
		return []byte("\x00\x00\x00\x18ftypmp42 a sample that is no film"), "video/mp4"
	}
	return []byte("a sample\n"), "text/plain"
}

// media makes a message with a file, which the phone has put on the media host.
func (c *composer) media(b *Body) (*waE2E.Message, error) {
	data, mimeType := sample(b.Type)
	if b.Media != nil {
		data = b.Media
	}
	mimeType = cmp.Or(b.MimeType, mimeType)
	u, err := c.s.putMedia(c.from.world, b.Type, data)
	if err != nil {
		return nil, err
	}
	stamp := proto.Int64(c.s.now().Unix())
	switch b.Type {
	case "image":
		width, height, thumbnail := picture(data)
		return &waE2E.Message{ImageMessage: &waE2E.ImageMessage{
			URL: &u.url, DirectPath: &u.path, MediaKey: u.key, FileSHA256: u.hash, FileEncSHA256: u.sealed, FileLength: &u.size, MediaKeyTimestamp: stamp,
			Mimetype: &mimeType, Caption: orNil(b.Caption), ViewOnce: flag(b.ViewOnce), Width: &width, Height: &height, JPEGThumbnail: thumbnail,
		}}, nil
	case "video":
		video := &waE2E.VideoMessage{
			URL: &u.url, DirectPath: &u.path, MediaKey: u.key, FileSHA256: u.hash, FileEncSHA256: u.sealed, FileLength: &u.size, MediaKeyTimestamp: stamp,
			Mimetype: &mimeType, Caption: orNil(b.Caption), ViewOnce: flag(b.ViewOnce), GifPlayback: flag(b.GIF), Seconds: &b.Seconds,
		}
		if b.Note {
			return &waE2E.Message{PtvMessage: video}, nil
		}
		return &waE2E.Message{VideoMessage: video}, nil
	case "audio":
		return &waE2E.Message{AudioMessage: &waE2E.AudioMessage{
			URL: &u.url, DirectPath: &u.path, MediaKey: u.key, FileSHA256: u.hash, FileEncSHA256: u.sealed, FileLength: &u.size, MediaKeyTimestamp: stamp,
			Mimetype: &mimeType, PTT: flag(b.Voice), Seconds: &b.Seconds, ViewOnce: flag(b.ViewOnce),
		}}, nil
	case "document":
		return &waE2E.Message{DocumentMessage: &waE2E.DocumentMessage{
			URL: &u.url, DirectPath: &u.path, MediaKey: u.key, FileSHA256: u.hash, FileEncSHA256: u.sealed, FileLength: &u.size, MediaKeyTimestamp: stamp,
			Mimetype: &mimeType, Caption: orNil(b.Caption), FileName: proto.String(cmp.Or(b.Filename, "document")), Title: orNil(b.Filename),
		}}, nil
	}
	return &waE2E.Message{StickerMessage: &waE2E.StickerMessage{
		URL: &u.url, DirectPath: &u.path, MediaKey: u.key, FileSHA256: u.hash, FileEncSHA256: u.sealed, FileLength: &u.size, MediaKeyTimestamp: stamp,
		Mimetype: &mimeType, Width: proto.Uint32(512), Height: proto.Uint32(512), IsAnimated: flag(b.Animated),
	}}, nil
}

func flag(set bool) *bool {
	if !set {
		return nil
	}
	return &set
}

func picture(data []byte) (width, height uint32, thumbnail []byte) {
	size, _, err := image.DecodeConfig(bytes.NewReader(data))
	if err != nil {
		return 0, 0, nil
	}
	small, _ := sample("image")
	return uint32(size.Width), uint32(size.Height), small
}

// stanzaKind is what a message's stanza says of it: the stanza's type and edit,
// and the media type of the ciphertext.
func stanzaKind(m *waE2E.Message) (kind, edit, media string) {
	inner := unwrap(m)
	switch {
	case inner.GetReactionMessage() != nil:
		kind = "reaction"
		if inner.GetReactionMessage().GetText() == "" {
			edit = "7"
		}
	case pollOf(inner) != nil, inner.GetPollUpdateMessage() != nil:
		kind = "poll"
	case inner.GetProtocolMessage() != nil:
		kind = "text"
		switch p := inner.GetProtocolMessage(); p.GetType() {
		case waE2E.ProtocolMessage_REVOKE:
			edit = "7"
			if !p.GetKey().GetFromMe() {
				edit = "8"
			}
		case waE2E.ProtocolMessage_MESSAGE_EDIT:
			edit = "1"
		}
	case inner.GetSecretEncryptedMessage() != nil:
		kind, edit = "text", "1"
	case inner.Conversation != nil, inner.GetExtendedTextMessage() != nil:
		kind = "text"
	default:
		kind, media = "media", mediaType(inner)
	}
	return kind, edit, media
}

func mediaType(m *waE2E.Message) string {
	switch _, kind := mediaOf(m); {
	case m.GetAudioMessage().GetPTT():
		return "ptt"
	case m.GetVideoMessage().GetGifPlayback():
		return "gif"
	case m.GetPtvMessage() != nil:
		return "ptv"
	case kind != "":
		return kind
	case m.GetLocationMessage() != nil:
		return "location"
	case m.GetContactMessage() != nil:
		return "vcard"
	case m.GetContactsArrayMessage() != nil:
		return "contact_array"
	}
	names := map[string]string{"buttonsResponseMessage": "buttons_response", "listResponseMessage": "list_response", "orderMessage": "order", "eventMessage": "event", "groupInviteMessage": "group_invite"}
	return names[kindName(m)]
}

// isGroupName says whether a name is a group's.
func isGroupName(name string) bool {
	return strings.HasSuffix(name, "@"+types.GroupServer) && !slices.Contains([]string{"", "@"}, strings.TrimSuffix(name, "@"+types.GroupServer))
}
