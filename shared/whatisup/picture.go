package whatisup

import (
	"mime"
	"time"
)

// Pictured is the picture of a person or a group, as the instance's number may see it.
type Pictured struct {
	Picture *Picture     `json:"picture"` // only if it is shown
	State   PictureState `json:"picture_state"`
}

// Picture is a picture that is shown. The session tells its id; the file is added by
// who answers the customer, so that no record of a call has a URL in it.
type Picture struct {
	ID    string     `json:"id"` // changes with the picture
	Media *MediaWire `json:"media,omitempty"`
}

// PictureState says why there is a picture, or none.
type PictureState string

const (
	PictureShown   PictureState = "shown"
	PictureNone    PictureState = "none"
	PictureHidden  PictureState = "hidden"  // by the person's privacy settings
	PictureUnknown PictureState = "unknown" // WhatsApp did not say
)

// PictureStates lists every state.
var PictureStates = []PictureState{PictureShown, PictureNone, PictureHidden, PictureUnknown}

// The limits of pictures.
const (
	PictureMost    = 5 * MB    // that is read from WhatsApp
	SetPictureMost = 512 << 10 // that is given to WhatsApp
	PictureSide    = 640       // pixels
)

// PictureMedia is the file of a picture, which is fetched when its URL is first used.
// Its id follows from whose picture it is, from WhatsApp's id of it and the time, so
// whoever asks again gets the same file for half as long as files are kept.
func PictureMedia(r Ref, of Address, id string, now time.Time, kept time.Duration) *Media {
	at := now.UTC().Truncate(kept / 2)
	return &Media{
		Customer: r.Customer, Mode: r.Mode, Instance: r.ID, ID: MediaIDOf(r, "picture\x00"+string(of)+"\x00"+id, at),
		Status: MediaWaiting, MimeType: "image/jpeg", CreatedAt: at, ExpiresAt: at.Add(kept),
		Origin: &MediaOrigin{Kind: BodyImage, Chat: of, Picture: id},
	}
}

// NoPicture says why a file can't become a picture, and what to do. It is empty for one
// that can.
func (m *Media) NoPicture() string {
	kind, _, _ := mime.ParseMediaType(m.MimeType)
	switch {
	case kind != "image/jpeg":
		return "A picture must be a JPEG. Convert the file."
	case m.Facts.Width == 0:
		return "The picture is damaged or cut off. Upload it again."
	case m.Facts.Width != m.Facts.Height || m.Facts.Width > PictureSide:
		return "A picture must be square, with at most 640 by 640 pixels. Crop or scale the file."
	case m.Size > SetPictureMost:
		return "A picture may have at most 512 KB. Save it with a lower quality."
	}
	return ""
}
