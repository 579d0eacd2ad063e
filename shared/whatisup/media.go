package whatisup

import (
	"crypto/sha256"
	"mime"
	"strings"
	"time"

	"github.com/google/uuid"
)

// MediaID names a file of a customer and mode. It is a UUID, version 7.
type MediaID string

// NewMediaID returns a fresh id; its millisecond is the file's creation.
func NewMediaID() MediaID { return MediaID(newID()) }

// ParseMediaID is [ParseInstanceID] for files.
func ParseMediaID(s string) (MediaID, bool) { return MediaID(s), canonical(s) }

// CreatedAt is [InstanceID.CreatedAt] for files.
func (id MediaID) CreatedAt() time.Time { return idTime(string(id)) }

// MediaIDOf is the id of the file that a message brings with it, the same for
// every repetition of the message.
func MediaIDOf(r Ref, message string, created time.Time) MediaID {
	sum := sha256.Sum256([]byte("media\x00" + string(r.Customer) + "\x00" + string(r.Mode) + "\x00" + string(r.ID) + "\x00" + message))
	u := uuid.UUID(sum[:16])
	ms := uint64(max(created.UnixMilli(), 0))
	for i := range 6 {
		u[i] = byte(ms >> (8 * (5 - i)))
	}
	u[6] = u[6]&0x0f | 0x70 // version 7
	u[8] = u[8]&0x3f | 0x80
	return MediaID(u.String())
}

// MediaStatus is how far a file has come. Steps lead only downwards in the list,
// but that on_demand and fetching change places while WhatsApp's file is fetched.
type MediaStatus string

const (
	MediaUploading MediaStatus = "uploading" // the customer's client has a form to upload it with
	MediaFetching  MediaStatus = "fetching"  // it is being fetched: from its URL, or from WhatsApp
	MediaWaiting   MediaStatus = "on_demand" // it is fetched from WhatsApp when its URL is first used
	MediaReady     MediaStatus = "ready"
	MediaFailed    MediaStatus = "failed"
)

// MediaStatuses lists every status.
var MediaStatuses = []MediaStatus{MediaUploading, MediaFetching, MediaWaiting, MediaReady, MediaFailed}

// The limits of files. A MB has 1,048,576 bytes.
const (
	MB            = 1 << 20
	MediaMost     = 100 * MB           // any file
	MediaKept     = 7 * 24 * time.Hour // unless the deployment says otherwise
	MediaKeptMost = 30 * 24 * time.Hour
	UploadWithin  = 15 * time.Minute // how long an upload form is good for
	MediaURLFor   = 5 * time.Minute  // how long a URL of the bucket is good for
	maxMimeType   = 100
)

// MediaMostOf is the size of the largest file that a message of the type may have.
func MediaMostOf(t BodyType) int64 {
	switch t {
	case BodyImage, BodyAudio:
		return 16 * MB
	case BodyVideo:
		return 64 * MB
	case BodySticker:
		return 500 << 10
	}
	return MediaMost
}

// Media is a file.
type Media struct {
	Customer CustomerID
	Mode     Mode
	ID       MediaID
	Instance InstanceID // of a received file or a picture: it dies with the instance
	MadeBy   InstanceID // whom the key was bound to that made it; empty: a key of the whole customer

	Status    MediaStatus
	Error     *MessageError
	MimeType  string
	Size      int64  // of the file; of an upload that has not come, as announced
	SHA256    []byte // of an upload that has not come, as announced; may be nil
	Filename  string
	Facts     MediaFacts
	Key       string // of the object in the bucket; empty: there is none
	SourceURL string // where it is fetched from, while it is
	CreatedAt time.Time
	ExpiresAt time.Time

	Origin *MediaOrigin // of a received file, or a picture
	Untold bool         // of a received file: its event is still to be told
}

// MediaFacts are what a file itself says.
type MediaFacts struct {
	Width   int     `json:"width,omitempty"`
	Height  int     `json:"height,omitempty"`
	Seconds float64 `json:"seconds,omitempty"`
	Voice   bool    `json:"voice,omitempty"`
}

// MediaOrigin is where WhatsApp keeps a received file, and what the message said of
// it. The key opens the file: it is the customer's content.
type MediaOrigin struct {
	Kind       BodyType  `json:"kind"`
	DirectPath string    `json:"direct_path"`
	Key        []byte    `json:"key"`
	SHA256     []byte    `json:"sha256"`        // of the file
	Sealed     []byte    `json:"sealed_sha256"` // of the encrypted file
	Size       int64     `json:"size"`          // as the sender declared it
	MessageID  MessageID `json:"message_id"`
	Chat       Address   `json:"chat"`
	From       Person    `json:"from"`
	FromMe     bool      `json:"from_me,omitempty"`
	ChatJID    string    `json:"chat_jid"`   // as WhatsApp named them, to ask the phone for the file
	SenderJID  string    `json:"sender_jid"` // ... again
	Asked      bool      `json:"asked,omitempty"`
	// Picture is WhatsApp's id of the picture of a person or a group, who is Chat: of
	// such a file nothing but the two is known, and it is not encrypted.
	Picture string `json:"picture,omitempty"`
}

// Live says whether the file is there for its customer at a time.
func (m *Media) Live(now time.Time) bool { return now.Before(m.ExpiresAt) }

// MayUse says whether a key may use the file: one that is bound to an instance only
// what it, or its instance, has made.
func (m *Media) MayUse(k APIKey) bool {
	return k.Instance == "" || k.Instance == m.Instance || k.Instance == m.MadeBy
}

// MediaWire is a file of the API.
type MediaWire struct {
	MediaID   MediaID       `json:"media_id"`
	Status    MediaStatus   `json:"status"`
	Error     *MessageError `json:"error"`
	MimeType  *string       `json:"mime_type"`
	Size      *int64        `json:"size"`
	SHA256    *string       `json:"sha256"`
	Filename  *string       `json:"filename"`
	Width     *int          `json:"width"`
	Height    *int          `json:"height"`
	Seconds   *float64      `json:"seconds"`
	Voice     bool          `json:"voice"`
	URL       *string       `json:"url"`
	CreatedAt Time          `json:"created_at"`
	ExpiresAt Time          `json:"expires_at"`
	Upload    *UploadWire   `json:"upload,omitempty"` // only when it is made
}

// UploadWire is a form: a POST of multipart/form-data with the fields, in any
// order, and then the file as the field "file".
type UploadWire struct {
	URL       string            `json:"url"`
	Fields    map[string]string `json:"fields"`
	ExpiresAt Time              `json:"expires_at"`
}

// Wire is the file as its customer sees it. url is where its bytes are; it is left
// out while there can't be any.
func (m *Media) Wire(url string) MediaWire {
	w := MediaWire{
		MediaID: m.ID, Status: m.Status, Error: m.Error, Voice: m.Facts.Voice,
		CreatedAt: At(m.CreatedAt), ExpiresAt: At(m.ExpiresAt),
	}
	if m.MimeType != "" {
		w.MimeType = &m.MimeType
	}
	if m.Size > 0 {
		w.Size = &m.Size
	}
	if len(m.SHA256) > 0 {
		s := hexOf(m.SHA256)
		w.SHA256 = &s
	}
	if m.Filename != "" {
		w.Filename = &m.Filename
	}
	if m.Facts.Width > 0 {
		w.Width, w.Height = &m.Facts.Width, &m.Facts.Height
	}
	if m.Facts.Seconds > 0 {
		w.Seconds = &m.Facts.Seconds
	}
	if url != "" && m.Status != MediaUploading && m.Status != MediaFailed {
		w.URL = &url
	}
	return w
}

func hexOf(b []byte) string {
	const digits = "0123456789abcdef"
	var s strings.Builder
	for _, c := range b {
		s.WriteByte(digits[c>>4])
		s.WriteByte(digits[c&15])
	}
	return s.String()
}

// ParseMimeType accepts a type with parameters, as in "audio/ogg; codecs=opus".
func ParseMimeType(s string) (string, bool) {
	if len(s) > maxMimeType {
		return "", false
	}
	kind, params, err := mime.ParseMediaType(s)
	if err != nil || strings.Count(kind, "/") != 1 || strings.HasPrefix(kind, "/") || strings.HasSuffix(kind, "/") {
		return "", false
	}
	out := mime.FormatMediaType(kind, params)
	return out, out != ""
}

// shownTypes are what a browser may show of a customer's files: nothing that can
// run a script.
var shownTypes = map[string]bool{
	"image/jpeg": true, "image/png": true, "image/gif": true, "image/webp": true,
	"audio/ogg": true, "audio/mpeg": true, "audio/mp4": true, "audio/aac": true, "audio/amr": true, "audio/wav": true,
	"video/mp4": true, "video/3gpp": true, "video/webm": true, "video/quicktime": true,
	"application/pdf": true,
}

// Shown is the type and the disposition that a file is served under. What is not on
// the list of types that are safe to show is served as bytes to be kept.
func (m *Media) Shown() (contentType, disposition string) {
	kind, _, err := mime.ParseMediaType(m.MimeType)
	contentType, disposition = "application/octet-stream", "attachment"
	if err == nil && shownTypes[kind] {
		contentType, disposition = kind, "inline"
		if kind == "audio/ogg" {
			contentType = "audio/ogg; codecs=opus"
		}
	}
	if name := mime.FormatMediaType(disposition, map[string]string{"filename": m.Filename}); m.Filename != "" && name != "" {
		disposition = name
	}
	return contentType, disposition
}

// MediaData is the data of message.media_ready and message.media_failed.
type MediaData struct {
	MessageID MessageID `json:"message_id"`
	Chat      string    `json:"chat"`
	From      FromWire  `json:"from"`
	Media     MediaWire `json:"media"`
}

// MediaEventID is the id of the event that tells what became of a file. It follows
// from the file and the status, so a repetition has the same id.
func MediaEventID(id MediaID, s MediaStatus) EventID {
	return EventID(MediaIDOf(Ref{ID: InstanceID(id)}, string(s), id.CreatedAt()))
}

// MediaWork asks that a file be worked on: an upload has come, or a URL is to be
// fetched. It is the body of a message of the media queue; the row is the truth.
type MediaWork struct {
	Customer CustomerID `json:"customer_id"`
	Mode     Mode       `json:"mode"`
	Media    MediaID    `json:"media_id"`
	Instance InstanceID `json:"instance_id,omitempty"` // of a received file
}

// StoredUpload is a file that an instance has uploaded to WhatsApp, kept so that it
// is uploaded once.
type StoredUpload struct {
	URL        string    `json:"url"`
	DirectPath string    `json:"direct_path"`
	Key        []byte    `json:"key"`
	SHA256     []byte    `json:"sha256"`
	Sealed     []byte    `json:"sealed_sha256"`
	Size       uint64    `json:"size"`
	MimeType   string    `json:"mime_type"`
	Filename   string    `json:"filename,omitempty"`
	Seconds    float64   `json:"seconds,omitempty"`
	Waveform   []byte    `json:"waveform,omitempty"`
	Thumbnail  []byte    `json:"thumbnail,omitempty"` // a JPEG
	Width      int       `json:"width,omitempty"`
	Height     int       `json:"height,omitempty"`
	Animated   bool      `json:"animated,omitempty"`
	At         time.Time `json:"at"`
}

// Holder is a message that uses a file.
type Holder struct {
	Ref     Ref // of its instance
	Message MessageID
}

// UploadForm is a form that takes one file: a POST of the fields and then the file.
type UploadForm struct {
	URL    string
	Fields map[string]string
}

// StoredObject is what is known of an object without reading it.
type StoredObject struct {
	Size int64
	ETag string
}

// ObjectClass is the first part of an object's key, by which the bucket removes it.
type ObjectClass struct {
	Prefix string
	Days   int // from when it was written
}

// The classes of objects.
var (
	ClassStaging = ObjectClass{"staging", 1} // what an upload form has taken
	ClassWeek    = ObjectClass{"d8", 8}
	ClassMonth   = ObjectClass{"d30", 31} // what a waiting message keeps for longer
)

// ObjectClasses lists every class.
var ObjectClasses = []ObjectClass{ClassStaging, ClassWeek, ClassMonth}

// ObjectPrefix is where all objects of an owner are: of an instance, or without one
// of what the customer has given.
func (c ObjectClass) ObjectPrefix(m Mode, customer CustomerID, i InstanceID) string {
	owner := "own"
	if i != "" {
		owner = string(i)
	}
	return c.Prefix + "/" + string(m) + "/" + string(customer) + "/" + owner + "/"
}

// ObjectKey is where the bytes of a file are. The suffix tells apart what was put
// there at different times.
func (c ObjectClass) ObjectKey(m *Media, suffix string) string {
	return c.ObjectPrefix(m.Mode, m.Customer, m.Instance) + string(m.ID) + suffix
}
