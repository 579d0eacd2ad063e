package waconv

import (
	"math"
	"net/url"

	"go.mau.fi/whatsmeow/proto/waE2E"
	"google.golang.org/protobuf/proto"

	"whatisup/shared/whatisup"
)

// voiceType is the one type that WhatsApp delivers voice notes under.
const voiceType = "audio/ogg; codecs=opus"

// file is a message with a file that was uploaded.
func (o *Outgoing) file() *waE2E.Message {
	b, u, context := o.Body, o.File, o.context()
	size, at := proto.Uint64(u.Size), proto.Int64(u.At.Unix())
	seconds := proto.Uint32(uint32(math.Ceil(u.Seconds)))
	width, height := proto.Uint32(uint32(u.Width)), proto.Uint32(uint32(u.Height))
	flag := func(on bool) *bool {
		if !on {
			return nil
		}
		return proto.Bool(true)
	}
	switch b.Type {
	case whatisup.BodyImage:
		return &waE2E.Message{ImageMessage: &waE2E.ImageMessage{
			URL: &u.URL, DirectPath: &u.DirectPath, MediaKey: u.Key, FileSHA256: u.SHA256, FileEncSHA256: u.Sealed, FileLength: size,
			MediaKeyTimestamp: at, Mimetype: &u.MimeType, Caption: optional(b.Caption), Width: width, Height: height,
			JPEGThumbnail: u.Thumbnail, ViewOnce: flag(b.ViewOnce), ContextInfo: context,
		}}
	case whatisup.BodyVideo:
		m := &waE2E.VideoMessage{
			URL: &u.URL, DirectPath: &u.DirectPath, MediaKey: u.Key, FileSHA256: u.SHA256, FileEncSHA256: u.Sealed, FileLength: size,
			MediaKeyTimestamp: at, Mimetype: &u.MimeType, Caption: optional(b.Caption), Width: width, Height: height, Seconds: seconds,
			GifPlayback: flag(b.GIF), ViewOnce: flag(b.ViewOnce), ContextInfo: context,
		}
		if b.Note {
			return &waE2E.Message{PtvMessage: m}
		}
		return &waE2E.Message{VideoMessage: m}
	case whatisup.BodyAudio:
		m := &waE2E.AudioMessage{
			URL: &u.URL, DirectPath: &u.DirectPath, MediaKey: u.Key, FileSHA256: u.SHA256, FileEncSHA256: u.Sealed, FileLength: size,
			MediaKeyTimestamp: at, Mimetype: &u.MimeType, Seconds: seconds, ViewOnce: flag(b.ViewOnce), ContextInfo: context,
		}
		if b.Voice {
			m.PTT, m.Mimetype, m.Waveform = proto.Bool(true), proto.String(voiceType), u.Waveform
		}
		return &waE2E.Message{AudioMessage: m}
	case whatisup.BodySticker:
		return &waE2E.Message{StickerMessage: &waE2E.StickerMessage{
			URL: &u.URL, DirectPath: &u.DirectPath, MediaKey: u.Key, FileSHA256: u.SHA256, FileEncSHA256: u.Sealed, FileLength: size,
			MediaKeyTimestamp: at, Mimetype: &u.MimeType, Width: width, Height: height, IsAnimated: flag(u.Animated), ContextInfo: context,
		}}
	}
	name := b.Filename
	if name == "" {
		name = u.Filename
	}
	if name == "" {
		name = "file"
	}
	document := &waE2E.Message{DocumentMessage: &waE2E.DocumentMessage{
		URL: &u.URL, DirectPath: &u.DirectPath, MediaKey: u.Key, FileSHA256: u.SHA256, FileEncSHA256: u.Sealed, FileLength: size,
		MediaKeyTimestamp: at, Mimetype: &u.MimeType, FileName: &name, Title: &name, Caption: optional(b.Caption), ContextInfo: context,
	}}
	if b.Caption == "" {
		return document
	}
	return &waE2E.Message{DocumentWithCaptionMessage: &waE2E.FutureProofMessage{Message: document}}
}

// carried is what every message with a file says of it.
type carried interface {
	GetURL() string
	GetDirectPath() string
	GetMediaKey() []byte
	GetFileSHA256() []byte
	GetFileEncSHA256() []byte
	GetFileLength() uint64
}

// originOf is where the file of a message is; nil if the message has none.
func originOf(m *waE2E.Message, kind whatisup.BodyType) *whatisup.MediaOrigin {
	var f carried
	switch {
	case !kind.IsMedia():
		return nil
	case m.GetImageMessage() != nil:
		f = m.GetImageMessage()
	case m.GetVideoMessage() != nil:
		f = m.GetVideoMessage()
	case m.GetPtvMessage() != nil:
		f = m.GetPtvMessage()
	case m.GetAudioMessage() != nil:
		f = m.GetAudioMessage()
	case m.GetDocumentMessage() != nil:
		f = m.GetDocumentMessage()
	case m.GetStickerMessage() != nil:
		f = m.GetStickerMessage()
	default:
		return nil
	}
	path := f.GetDirectPath()
	if u, err := url.Parse(f.GetURL()); path == "" && err == nil && f.GetURL() != "" {
		path = u.RequestURI() // of the host only WhatsApp's server decides
	}
	if len(path) > maxPath {
		path = ""
	}
	return &whatisup.MediaOrigin{
		Kind: kind, DirectPath: path, Key: short(f.GetMediaKey()), SHA256: short(f.GetFileSHA256()), Sealed: short(f.GetFileEncSHA256()),
		Size: int64(min(f.GetFileLength(), math.MaxInt64)),
	}
}

// maxPath and maxHash are more than any path and any hash or key has: the row of a file
// must not grow with what a stranger writes.
const maxPath, maxHash = 2 << 10, 64

func short(b []byte) []byte { return b[:min(len(b), maxHash)] }
