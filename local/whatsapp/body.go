package whatsapp

import (
	"bytes"
	"encoding/json"
	"iter"
	"math"
	"reflect"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"go.mau.fi/whatsmeow/proto/waE2E"
)

// Body is what a message says, as the control interface has it: type decides
// which fields there are. The first part is what people write every day and what
// is shown of what arrives; the rest is written only by phones.
type Body struct {
	Type     string   `json:"type"`
	Text     string   `json:"text,omitempty"`     // text, edit
	Mentions []string `json:"mentions,omitempty"` // text: phone numbers

	LinkPreview *LinkPreview `json:"link_preview,omitempty"`

	Media    []byte `json:"media_base64,omitempty"` // image, video, audio, document, sticker; a small sample by default
	MimeType string `json:"mime_type,omitempty"`
	Caption  string `json:"caption,omitempty"`
	Filename string `json:"filename,omitempty"`
	ViewOnce bool   `json:"view_once,omitempty"`
	Note     bool   `json:"note,omitempty"`
	GIF      bool   `json:"gif,omitempty"`
	Voice    bool   `json:"voice,omitempty"`
	Seconds  uint32 `json:"seconds,omitempty"`  // audio, video; timer: of the chat
	Size     uint64 `json:"size,omitempty"`     // shown: of the file
	Readable *bool  `json:"readable,omitempty"` // shown: the phone could get the file and read it
	SHA256   string `json:"sha256,omitempty"`   // shown: of the file that the phone has read, hex
	Animated bool   `json:"animated,omitempty"` // sticker

	Latitude  *float64 `json:"latitude,omitempty"`
	Longitude *float64 `json:"longitude,omitempty"`
	Name      string   `json:"name,omitempty"`
	Address   string   `json:"address,omitempty"`

	Contacts []Contact `json:"contacts,omitempty"`

	Question   string   `json:"question,omitempty"`
	Options    []string `json:"options,omitempty"` // poll; vote: the chosen ones
	Selectable *uint32  `json:"selectable,omitempty"`

	Target *Reference `json:"target,omitempty"` // reaction, edit, revoke, vote; image, video: the album
	Emoji  *string    `json:"emoji,omitempty"`

	Images uint32 `json:"images,omitempty"` // album: how many follow
	Videos uint32 `json:"videos,omitempty"`

	Description string `json:"description,omitempty"` // event
	StartAt     int64  `json:"start_at,omitempty"`    // event: unix seconds
	Group       string `json:"group,omitempty"`       // invitation
	Code        string `json:"code,omitempty"`        // invitation
	ID          string `json:"id,omitempty"`          // button_reply, list_reply, order

	Context *Context `json:"context,omitempty"` // shown

	legacy bool // of the short form, which has no secret
}

// LinkPreview is the preview of a link in a text.
type LinkPreview struct {
	URL         string `json:"url"`
	Title       string `json:"title"`
	Description string `json:"description,omitempty"`
}

// Contact is one of the contacts in a message.
type Contact struct {
	Name         string   `json:"name"`
	PhoneNumbers []string `json:"phone_numbers,omitempty"`
	VCard        string   `json:"vcard,omitempty"`
}

// Reference names a message: by its id, or by id and sender.
type Reference struct {
	ID   string `json:"message_id"`
	From string `json:"from,omitempty"` // phone number
}

// UnmarshalJSON takes an id alone too.
func (r *Reference) UnmarshalJSON(data []byte) error {
	if len(data) > 0 && data[0] == '"' {
		return json.Unmarshal(data, &r.ID)
	}
	type plain Reference
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.DisallowUnknownFields()
	return decoder.Decode((*plain)(r))
}

// Context is what surrounds a message that a phone shows.
type Context struct {
	Quoted           *Reference `json:"quoted,omitempty"`
	QuotedText       string     `json:"quoted_text,omitempty"`
	Forwarded        bool       `json:"forwarded,omitempty"`
	Mentions         []string   `json:"mentions,omitempty"`
	EphemeralSeconds uint32     `json:"ephemeral_seconds,omitempty"`
}

// unwrap takes off whatever a message is wrapped in.
func unwrap(m *waE2E.Message) *waE2E.Message {
	for range 8 {
		inner := m.GetDeviceSentMessage().GetMessage()
		if inner == nil {
			inner = wrapped(m)
		}
		if inner == nil {
			return m
		}
		m = inner
	}
	return m
}

// Which fields of a message hold a wrapper, and which a part with a context. To ask
// every field of the schema takes far longer than anything else about a message.
var (
	wrapperFields = fieldsThat(func(t reflect.Type) bool { return t == reflect.TypeFor[*waE2E.FutureProofMessage]() })
	contextFields = fieldsThat(func(t reflect.Type) bool { return t.Implements(reflect.TypeFor[hasContext]()) })
)

type hasContext interface{ GetContextInfo() *waE2E.ContextInfo }

func fieldsThat(is func(reflect.Type) bool) (out []int) {
	message := reflect.TypeFor[waE2E.Message]()
	for i := range message.NumField() {
		if field := message.Field(i); field.IsExported() && field.Type.Kind() == reflect.Pointer && is(field.Type) {
			out = append(out, i)
		}
	}
	return out
}

// set lists those of the fields that a message has.
func set(m *waE2E.Message, fields []int) iter.Seq[any] {
	return func(yield func(any) bool) {
		if m == nil {
			return
		}
		value := reflect.ValueOf(m).Elem()
		for _, i := range fields {
			if field := value.Field(i); !field.IsNil() && !yield(field.Interface()) {
				return
			}
		}
	}
}

// wrapped is the message in any of the schema's wrappers that carry one.
func wrapped(m *waE2E.Message) *waE2E.Message {
	for field := range set(m, wrapperFields) {
		if inner := field.(*waE2E.FutureProofMessage).GetMessage(); inner != nil {
			return inner
		}
	}
	return nil
}

// contextOf is the context of whichever part of a message has one.
func contextOf(m *waE2E.Message) *waE2E.ContextInfo {
	for field := range set(m, contextFields) {
		if info := field.(hasContext).GetContextInfo(); info != nil {
			return info
		}
	}
	return nil
}

// isViewOnce says whether a message is to be opened once.
func isViewOnce(m *waE2E.Message) bool {
	inner := unwrap(m)
	return m.GetViewOnceMessage() != nil || m.GetViewOnceMessageV2() != nil || m.GetViewOnceMessageV2Extension() != nil ||
		inner.GetImageMessage().GetViewOnce() || inner.GetVideoMessage().GetViewOnce() || inner.GetAudioMessage().GetViewOnce()
}

// pollOf is the poll that a message begins, in any of its versions.
func pollOf(m *waE2E.Message) *waE2E.PollCreationMessage {
	for _, poll := range []*waE2E.PollCreationMessage{m.GetPollCreationMessage(), m.GetPollCreationMessageV2(), m.GetPollCreationMessageV3(), m.GetPollCreationMessageV5()} {
		if poll != nil {
			return poll
		}
	}
	return nil
}

// reader turns what a phone got into what it shows.
type reader struct {
	s     *Server
	world string
	at    person // whose phone it is
	chat  string
	from  person // who wrote the message
}

// body reads a message. What has no type of its own is "unsupported" with the
// schema's name for it.
func (r reader) body(whole *waE2E.Message) *Body {
	m := unwrap(whole)
	out := r.content(m)
	out.ViewOnce = isViewOnce(whole)
	out.Context = r.context(contextOf(m))
	return out
}

func (r reader) content(m *waE2E.Message) *Body {
	switch {
	case m == nil:
		return &Body{Type: "unsupported"} // an edit or a quote of nothing
	case m.Conversation != nil:
		return &Body{Type: "text", Text: m.GetConversation()}
	case m.GetExtendedTextMessage() != nil:
		return r.text(m.GetExtendedTextMessage())
	case m.GetReactionMessage() != nil:
		emoji := m.GetReactionMessage().GetText()
		return &Body{Type: "reaction", Emoji: &emoji, Target: r.reference(m.GetReactionMessage().GetKey())}
	case m.GetProtocolMessage() != nil:
		return r.protocol(m.GetProtocolMessage())
	case m.GetLocationMessage() != nil && !isFinite(m.GetLocationMessage()):
		return &Body{Type: "unsupported", Name: "locationMessage"} // JSON has no form for it
	case m.GetLocationMessage() != nil:
		l := m.GetLocationMessage()
		return &Body{Type: "location", Latitude: l.DegreesLatitude, Longitude: l.DegreesLongitude, Name: l.GetName(), Address: l.GetAddress()}
	case m.GetContactMessage() != nil:
		return &Body{Type: "contacts", Contacts: []Contact{contactFrom(m.GetContactMessage())}}
	case m.GetContactsArrayMessage() != nil:
		out := &Body{Type: "contacts"}
		for _, c := range m.GetContactsArrayMessage().GetContacts() {
			out.Contacts = append(out.Contacts, contactFrom(c))
		}
		return out
	case pollOf(m) != nil:
		poll := pollOf(m)
		out := &Body{Type: "poll", Question: poll.GetName(), Selectable: proto.Uint32(poll.GetSelectableOptionsCount())}
		for _, option := range poll.GetOptions() {
			out.Options = append(out.Options, option.GetOptionName())
		}
		return out
	}
	if part, _ := mediaOf(m); part != nil {
		return r.media(m)
	}
	return &Body{Type: "unsupported", Name: kindName(m)}
}

func (r reader) text(m *waE2E.ExtendedTextMessage) *Body {
	out := &Body{Type: "text", Text: m.GetText()}
	if m.GetMatchedText() != "" {
		out.LinkPreview = &LinkPreview{URL: m.GetMatchedText(), Title: m.GetTitle(), Description: m.GetDescription()}
	}
	for _, jid := range m.GetContextInfo().GetMentionedJID() {
		out.Mentions = append(out.Mentions, r.number(jid))
	}
	return out
}

func (r reader) protocol(m *waE2E.ProtocolMessage) *Body {
	switch m.GetType() {
	case waE2E.ProtocolMessage_REVOKE:
		return &Body{Type: "revoke", Target: r.reference(m.GetKey())}
	case waE2E.ProtocolMessage_MESSAGE_EDIT:
		return &Body{Type: "edit", Target: r.reference(m.GetKey()), Text: r.content(unwrap(m.GetEditedMessage())).shown()}
	case waE2E.ProtocolMessage_EPHEMERAL_SETTING:
		return &Body{Type: "timer", Seconds: m.GetEphemeralExpiration()}
	}
	return &Body{Type: "protocol", Name: strings.ToLower(m.GetType().String())}
}

func (r reader) media(m *waE2E.Message) *Body {
	out := new(Body)
	switch {
	case m.GetImageMessage() != nil:
		p := m.GetImageMessage()
		*out = Body{Type: "image", MimeType: p.GetMimetype(), Caption: p.GetCaption(), Size: p.GetFileLength()}
	case m.GetVideoMessage() != nil:
		p := m.GetVideoMessage()
		*out = Body{Type: "video", MimeType: p.GetMimetype(), Caption: p.GetCaption(), Size: p.GetFileLength(), Seconds: p.GetSeconds(), GIF: p.GetGifPlayback()}
	case m.GetPtvMessage() != nil:
		p := m.GetPtvMessage()
		*out = Body{Type: "video", MimeType: p.GetMimetype(), Size: p.GetFileLength(), Seconds: p.GetSeconds(), Note: true}
	case m.GetAudioMessage() != nil:
		p := m.GetAudioMessage()
		*out = Body{Type: "audio", MimeType: p.GetMimetype(), Size: p.GetFileLength(), Seconds: p.GetSeconds(), Voice: p.GetPTT()}
	case m.GetDocumentMessage() != nil:
		p := m.GetDocumentMessage()
		*out = Body{Type: "document", MimeType: p.GetMimetype(), Caption: p.GetCaption(), Filename: p.GetFileName(), Size: p.GetFileLength()}
	case m.GetStickerMessage() != nil:
		p := m.GetStickerMessage()
		*out = Body{Type: "sticker", MimeType: p.GetMimetype(), Size: p.GetFileLength(), Animated: p.GetIsAnimated()}
	}
	return out
}

func (r reader) context(c *waE2E.ContextInfo) *Context {
	if c == nil {
		return nil
	}
	out := &Context{Forwarded: c.GetIsForwarded(), EphemeralSeconds: c.GetExpiration()}
	if c.GetStanzaID() != "" {
		out.Quoted = &Reference{ID: c.GetStanzaID(), From: r.number(c.GetParticipant())}
		out.QuotedText = r.content(unwrap(c.GetQuotedMessage())).shown()
	}
	for _, jid := range c.GetMentionedJID() {
		out.Mentions = append(out.Mentions, r.number(jid))
	}
	if out.Quoted == nil && !out.Forwarded && out.EphemeralSeconds == 0 && len(out.Mentions) == 0 {
		return nil
	}
	return out
}

// shown is the one text of a body: what it says, or what is written under it.
func (b *Body) shown() string {
	switch b.Type {
	case "image", "video", "document":
		return b.Caption
	case "location":
		return b.Name
	case "poll":
		return b.Question
	case "reaction":
		return *b.Emoji
	case "vote":
		return strings.Join(b.Options, ", ")
	case "contacts":
		var names []string
		for _, c := range b.Contacts {
			names = append(names, c.Name)
		}
		return strings.Join(names, ", ")
	}
	return b.Text
}

func isFinite(l *waE2E.LocationMessage) bool {
	sum := math.Abs(l.GetDegreesLatitude()) + math.Abs(l.GetDegreesLongitude())
	return !math.IsNaN(sum) && !math.IsInf(sum, 0)
}

func contactFrom(m *waE2E.ContactMessage) Contact {
	return Contact{Name: m.GetDisplayName(), VCard: m.GetVcard()}
}

// kindName is the schema's name of what a message holds.
func kindName(m *waE2E.Message) (name string) {
	m.ProtoReflect().Range(func(field protoreflect.FieldDescriptor, _ protoreflect.Value) bool {
		if field.Name() == "messageContextInfo" || field.Name() == "senderKeyDistributionMessage" {
			return true
		}
		name = string(field.Name())
		return false
	})
	return name
}
