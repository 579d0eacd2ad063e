package whatisup

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/rivo/uniseg"
)

// BodyType is the kind of a message's content, the same for what is sent and
// what is received. The set of what can be sent is closed ([Sendable]); what is
// received may be of any kind, and of kinds that come later.
type BodyType string

const (
	BodyText     BodyType = "text"
	BodyImage    BodyType = "image"
	BodyVideo    BodyType = "video"
	BodyAudio    BodyType = "audio"
	BodyDocument BodyType = "document"
	BodySticker  BodyType = "sticker"
	BodyLocation BodyType = "location"
	BodyContacts BodyType = "contacts"
	BodyPoll     BodyType = "poll"
	BodyReaction BodyType = "reaction"
	BodyEdit     BodyType = "edit"
	BodyRevoke   BodyType = "revoke"

	// What is received only.
	BodyEvent            BodyType = "event"             // an invitation to an appointment
	BodyAlbum            BodyType = "album"             // says how many pictures and videos follow
	BodyGroupInvite      BodyType = "group_invite"      // an invitation into a group
	BodyInteractiveReply BodyType = "interactive_reply" // an answer to buttons, a list or a template
	BodyInteractive      BodyType = "interactive"       // buttons, a list or a template of a business
	BodyOrder            BodyType = "order"
	BodyProduct          BodyType = "product"
	BodyViewOnce         BodyType = "view_once"     // can be opened on the phone only
	BodyUndecryptable    BodyType = "undecryptable" // could not be read; may be replaced by message.updated
	BodyUnsupported      BodyType = "unsupported"   // of a kind that this version does not know
)

// Sendable lists the types that can be sent.
var Sendable = []BodyType{
	BodyText, BodyImage, BodyVideo, BodyAudio, BodyDocument, BodySticker,
	BodyLocation, BodyContacts, BodyPoll, BodyReaction, BodyEdit, BodyRevoke,
}

// IsMedia says whether messages of the type carry a file.
func (t BodyType) IsMedia() bool {
	switch t {
	case BodyImage, BodyVideo, BodyAudio, BodyDocument, BodySticker:
		return true
	}
	return false
}

// The limits of what can be sent.
const (
	MaxText        = 65536 // bytes
	MaxCaption     = 1024  // characters
	MaxInline      = 180 * 1000
	MaxQuestion    = 255 // characters
	MaxOption      = 100 // characters
	MaxOptions     = 12
	MaxContacts    = 100
	MaxMentions    = 1024
	maxContactName = 256   // characters
	maxVCard       = 16384 // bytes
	maxFilename    = 255   // characters
	maxLine        = 1024  // characters of any other single line
	maxTargetID    = 128   // bytes; received ids are their sender's choice
)

// Body is the content of a message. Which fields belong to which type is the
// table [bodyFields].
type Body struct {
	Type BodyType `json:"type"`

	Text        string       `json:"text,omitempty"`
	Mentions    []string     `json:"mentions,omitempty"`
	LinkPreview *LinkPreview `json:"link_preview,omitempty"`

	MediaID     string `json:"media_id,omitempty"`
	MediaURL    string `json:"media_url,omitempty"`
	MediaBase64 string `json:"media_base64,omitempty"`
	Caption     string `json:"caption,omitempty"`
	Filename    string `json:"filename,omitempty"`
	ViewOnce    bool   `json:"view_once,omitempty"`
	Note        bool   `json:"note,omitempty"`
	GIF         bool   `json:"gif,omitempty"`
	Voice       bool   `json:"voice,omitempty"`

	Latitude  *float64 `json:"latitude,omitempty"`
	Longitude *float64 `json:"longitude,omitempty"`
	Name      string   `json:"name,omitempty"`
	Address   string   `json:"address,omitempty"`

	Contacts []Contact `json:"contacts,omitempty"`

	Question   string   `json:"question,omitempty"`
	Options    []string `json:"options,omitempty"`
	Selectable *int     `json:"selectable,omitempty"`

	Target *Target `json:"target,omitempty"`
	Emoji  *string `json:"emoji,omitempty"`
}

// LinkPreview is the preview of a link as the caller gives it; nothing is
// fetched.
type LinkPreview struct {
	URL         string `json:"url"`
	Title       string `json:"title"`
	Description string `json:"description,omitempty"`
	MediaID     string `json:"media_id,omitempty"`
}

// Contact is one contact card: either the numbers or a whole vCard.
type Contact struct {
	Name         string   `json:"name"`
	PhoneNumbers []string `json:"phone_numbers,omitempty"`
	VCard        string   `json:"vcard,omitempty"`
}

// Target names the message that another one is about. In JSON it is the id
// alone, or an object with the sender of another's message.
type Target struct {
	MessageID string `json:"message_id"`
	From      string `json:"from,omitempty"` // as [ParseAddress] takes it; empty: see contract
}

// UnmarshalJSON reads both forms.
func (t *Target) UnmarshalJSON(b []byte) error {
	if len(b) > 0 && b[0] == '"' {
		*t = Target{}
		return json.Unmarshal(b, &t.MessageID)
	}
	type plain Target
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	return d.Decode((*plain)(t))
}

// Problem is what is wrong with one field of a request. Field is the path to it,
// as in body.options.
type Problem struct {
	Field   string `json:"field"`
	Problem string `json:"problem"`
}

// bodyFields lists the fields of each type that can be sent, beside "type". A
// field that a type does not have is refused.
var bodyFields = map[BodyType][]string{
	BodyText:     {"text", "mentions", "link_preview"},
	BodyImage:    {"media_id", "media_url", "media_base64", "caption", "mentions", "view_once"},
	BodyVideo:    {"media_id", "media_url", "media_base64", "caption", "mentions", "view_once", "note", "gif"},
	BodyAudio:    {"media_id", "media_url", "media_base64", "voice", "view_once"},
	BodyDocument: {"media_id", "media_url", "media_base64", "caption", "mentions", "filename"},
	BodySticker:  {"media_id", "media_url", "media_base64"},
	BodyLocation: {"latitude", "longitude", "name", "address"},
	BodyContacts: {"contacts"},
	BodyPoll:     {"question", "options", "selectable"},
	BodyReaction: {"target", "emoji"},
	BodyEdit:     {"target", "text"},
	BodyRevoke:   {"target"},
}

// ParseBody reads the body of a message to send, which must be one valid JSON
// value without duplicate keys. It returns every problem that the body alone
// shows; the rest (whether a target exists, whether a medium is ready) is asked
// of the rows.
func ParseBody(raw json.RawMessage) (*Body, []Problem) {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(raw, &fields); err != nil || fields == nil {
		return nil, []Problem{{"body", "must be an object"}}
	}

	p := &bodyParser{fields: fields}
	p.read("type", &p.body.Type, "must be a string")
	allowed, known := bodyFields[p.body.Type]
	if !known {
		return nil, []Problem{{"body.type", "must be one of " + joinTypes(Sendable)}}
	}
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		if name != "type" && !slices.Contains(allowed, name) {
			p.problem(name, "is not a field of a body of type "+string(p.body.Type))
		}
	}
	if len(p.problems) == 0 {
		p.parse()
	}
	if len(p.problems) > 0 {
		return nil, p.problems
	}
	return &p.body, nil
}

// bodyParser reads the fields of one body into it and gathers what is wrong.
type bodyParser struct {
	fields   map[string]json.RawMessage
	body     Body
	problems []Problem
}

func (p *bodyParser) problem(field, text string) {
	p.problems = append(p.problems, Problem{"body." + field, text})
}

// read decodes one field, if it is there, and says whether it was. Null is no
// value of any field.
func (p *bodyParser) read(name string, into any, problem string) bool {
	raw, ok := p.fields[name]
	if !ok {
		return false
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	if string(raw) == "null" || d.Decode(into) != nil {
		p.problem(name, problem)
		return false
	}
	return true
}

// need is read for a field that the type can't do without.
func (p *bodyParser) need(name string, into any, problem string) bool {
	if _, ok := p.fields[name]; !ok {
		p.problem(name, "is required")
		return false
	}
	return p.read(name, into, problem)
}

// line reads a string of at most so many characters.
func (p *bodyParser) line(name string, into *string, most int) {
	if p.read(name, into, "must be a string") && utf8.RuneCountInString(*into) > most {
		p.problem(name, fmt.Sprintf("must have at most %d characters", most))
	}
}

func (p *bodyParser) parse() {
	switch b := &p.body; b.Type {
	case BodyText:
		p.text()
		p.mentions(b.Text, "text")
		p.preview()
	case BodyImage, BodyVideo, BodyAudio, BodyDocument, BodySticker:
		p.media()
	case BodyLocation:
		p.location()
	case BodyContacts:
		p.contacts()
	case BodyPoll:
		p.poll()
	case BodyReaction:
		p.target()
		p.emoji()
	case BodyEdit:
		p.target()
		p.text()
	case BodyRevoke:
		p.target()
	}
}

func (p *bodyParser) text() {
	if !p.need("text", &p.body.Text, "must be a string") {
		return
	}
	switch {
	case strings.TrimSpace(p.body.Text) == "":
		p.problem("text", "must not be empty")
	case len(p.body.Text) > MaxText:
		p.problem("text", fmt.Sprintf("must have at most %d bytes", MaxText))
	}
}

// mentions asks that the text shows each person that it mentions: WhatsApp puts
// the name where "@" and the digits stand, and shows nothing where they don't.
func (p *bodyParser) mentions(text, field string) {
	if !p.read("mentions", &p.body.Mentions, "must be a list of strings") {
		return
	}
	if len(p.body.Mentions) > MaxMentions {
		p.problem("mentions", fmt.Sprintf("must have at most %d entries", MaxMentions))
		return
	}
	for i, m := range p.body.Mentions {
		a, ok := ParseAddress(m)
		user, _, _ := strings.Cut(string(a), "@")
		switch {
		case !ok || a.IsGroup():
			p.problem(fmt.Sprintf("mentions.%d", i), "must be a phone number or a person's address")
		case !strings.Contains(text, "@"+user):
			p.problem(fmt.Sprintf("mentions.%d", i), "must stand in the "+field+" as @ and its digits")
		}
	}
}

func (p *bodyParser) preview() {
	if !p.read("link_preview", &p.body.LinkPreview, "must be an object of url, title, description, media_id") {
		return
	}
	v := p.body.LinkPreview
	switch {
	case v.URL == "" || !strings.Contains(p.body.Text, v.URL):
		p.problem("link_preview.url", "must stand in the text")
	case v.Title == "":
		p.problem("link_preview.title", "is required")
	case utf8.RuneCountInString(v.Title) > maxLine || utf8.RuneCountInString(v.Description) > maxLine:
		p.problem("link_preview", fmt.Sprintf("must have at most %d characters in a field", maxLine))
	}
}

func (p *bodyParser) media() {
	b := &p.body
	sources := 0
	source := func(name string, into *string) {
		if _, ok := p.fields[name]; ok {
			sources++
			if p.read(name, into, "must be a string") && *into == "" {
				p.problem(name, "must not be empty")
			}
		}
	}
	source("media_id", &b.MediaID)
	source("media_url", &b.MediaURL)
	source("media_base64", &b.MediaBase64)
	if sources != 1 {
		p.problem("media_id", "exactly one of media_id, media_url and media_base64 is required")
	}
	if len(b.MediaBase64) > (MaxInline+2)/3*4 {
		p.problem("media_base64", fmt.Sprintf("must have at most %d bytes before encoding; use POST /v1/media for more", MaxInline))
	}

	p.line("caption", &b.Caption, MaxCaption)
	p.mentions(b.Caption, "caption")
	p.line("filename", &b.Filename, maxFilename)
	p.read("view_once", &b.ViewOnce, "must be true or false")
	p.read("note", &b.Note, "must be true or false")
	p.read("gif", &b.GIF, "must be true or false")
	p.read("voice", &b.Voice, "must be true or false")
	if b.Note && b.GIF {
		p.problem("note", "excludes gif")
	}
	if b.Note && b.Caption != "" {
		p.problem("note", "excludes caption")
	}
}

func (p *bodyParser) location() {
	b := &p.body
	if p.need("latitude", &b.Latitude, "must be a number") && !(*b.Latitude >= -90 && *b.Latitude <= 90) {
		p.problem("latitude", "must be from -90 to 90")
	}
	if p.need("longitude", &b.Longitude, "must be a number") && !(*b.Longitude >= -180 && *b.Longitude <= 180) {
		p.problem("longitude", "must be from -180 to 180")
	}
	p.line("name", &b.Name, maxLine)
	p.line("address", &b.Address, maxLine)
}

func (p *bodyParser) contacts() {
	list := &p.body.Contacts
	if !p.need("contacts", list, "must be a list of objects of name, phone_numbers, vcard") {
		return
	}
	if len(*list) == 0 || len(*list) > MaxContacts {
		p.problem("contacts", fmt.Sprintf("must have 1 to %d entries", MaxContacts))
		return
	}
	for i, c := range *list {
		at := fmt.Sprintf("contacts.%d.", i)
		if strings.TrimSpace(c.Name) == "" || utf8.RuneCountInString(c.Name) > maxContactName {
			p.problem(at+"name", fmt.Sprintf("must have 1 to %d characters", maxContactName))
		}
		switch {
		case (c.VCard == "") == (len(c.PhoneNumbers) == 0):
			p.problem(at+"phone_numbers", "exactly one of phone_numbers and vcard is required")
		case len(c.VCard) > maxVCard:
			p.problem(at+"vcard", fmt.Sprintf("must have at most %d bytes", maxVCard))
		case c.VCard != "" && !strings.HasPrefix(c.VCard, "BEGIN:VCARD"):
			p.problem(at+"vcard", "must begin with BEGIN:VCARD")
		case len(c.PhoneNumbers) > 20:
			p.problem(at+"phone_numbers", "must have at most 20 entries")
		}
		for j, n := range c.PhoneNumbers {
			if _, ok := ParsePhoneNumber(n); !ok {
				p.problem(fmt.Sprintf("%sphone_numbers.%d", at, j), phoneProblem)
			}
		}
	}
}

const phoneProblem = "must be 7 to 15 digits with the country code"

func (p *bodyParser) poll() {
	b := &p.body
	if p.need("question", &b.Question, "must be a string") &&
		(strings.TrimSpace(b.Question) == "" || utf8.RuneCountInString(b.Question) > MaxQuestion) {
		p.problem("question", fmt.Sprintf("must have 1 to %d characters", MaxQuestion))
	}
	if p.need("options", &b.Options, "must be a list of strings") {
		seen := map[string]bool{}
		for i, o := range b.Options {
			switch {
			case strings.TrimSpace(o) == "" || utf8.RuneCountInString(o) > MaxOption:
				p.problem(fmt.Sprintf("options.%d", i), fmt.Sprintf("must have 1 to %d characters", MaxOption))
			case seen[o]:
				p.problem(fmt.Sprintf("options.%d", i), "stands there twice")
			}
			seen[o] = true
		}
		if len(b.Options) < 2 || len(b.Options) > MaxOptions {
			p.problem("options", fmt.Sprintf("must have 2 to %d entries", MaxOptions))
		}
	}
	if p.read("selectable", &b.Selectable, "must be a whole number") && (*b.Selectable < 1 || *b.Selectable > len(b.Options)) {
		p.problem("selectable", "must be from 1 to the number of options")
	}
}

func (p *bodyParser) target() {
	if !p.need("target", &p.body.Target, "must be a message id, or an object of message_id and from") {
		return
	}
	for _, problem := range p.body.Target.problems("target") {
		p.problem(problem.Field, problem.Problem)
	}
}

// problems is what the target alone shows.
func (t *Target) problems(at string) []Problem {
	if t.MessageID == "" || len(t.MessageID) > maxTargetID {
		return []Problem{{at, fmt.Sprintf("must have 1 to %d bytes", maxTargetID)}}
	}
	if t.From == "" {
		return nil
	}
	if a, ok := ParseAddress(t.From); !ok || a.IsGroup() {
		return []Problem{{at + ".from", "must be a phone number or a person's address"}}
	}
	return nil
}

// ParseTarget reads the target of a reply.
func ParseTarget(field string, raw json.RawMessage) (*Target, []Problem) {
	var t *Target
	if err := json.Unmarshal(raw, &t); err != nil {
		return nil, []Problem{{field, "must be a message id, or an object of message_id and from"}}
	}
	if t == nil {
		return nil, nil
	}
	return t, t.problems(field)
}

func (p *bodyParser) emoji() {
	if !p.need("emoji", &p.body.Emoji, "must be a string") || *p.body.Emoji == "" {
		return
	}
	if !utf8.ValidString(*p.body.Emoji) || uniseg.GraphemeClusterCount(*p.body.Emoji) != 1 {
		p.problem("emoji", "must be one emoji, or empty to take the reaction back")
	}
}

func joinTypes(types []BodyType) string {
	names := make([]string, len(types))
	for i, t := range types {
		names[i] = string(t)
	}
	return strings.Join(names, ", ")
}
