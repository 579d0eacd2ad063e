package whatisup

import (
	"fmt"
	"mime"
	"slices"
)

// sendableTypes are the files that WhatsApp's apps show as what they are sent as.
var sendableTypes = map[BodyType][]string{
	BodyImage:   {"image/jpeg", "image/png"},
	BodyVideo:   {"video/mp4", "video/3gpp", "video/quicktime"},
	BodyAudio:   {"audio/ogg", "audio/mpeg", "audio/mp4", "audio/aac", "audio/amr"},
	BodySticker: {"image/webp"},
}

// Unsendable says why a file can't be sent as a type, and what to do: what WhatsApp
// would take and never show. It is empty for what can be.
func (m *Media) Unsendable(t BodyType, voice bool) string {
	if most := MediaMostOf(t); m.Size > most {
		size := fmt.Sprintf("%d MB", most/MB)
		if most < MB {
			size = fmt.Sprintf("%d KB", most>>10)
		}
		return "A file of type " + string(t) + " may have at most " + size + ". Make it smaller, or send it as a document."
	}
	kind, _, _ := mime.ParseMediaType(m.MimeType)
	allowed, restricted := sendableTypes[t]
	if restricted && !slices.Contains(allowed, kind) {
		return (map[BodyType]string{
			BodyImage:   "WhatsApp shows JPEG and PNG as images. Convert the file, or send it as a document.",
			BodyVideo:   "WhatsApp plays MP4, 3GPP and QuickTime as videos. Convert the file to MP4 with H.264 and AAC, or send it as a document.",
			BodyAudio:   "WhatsApp plays Ogg with Opus, MP3, M4A, AAC and AMR. Convert the file, or send it as a document.",
			BodySticker: "A sticker is a WebP of 512 by 512 pixels. Convert the file to WebP.",
		}[t])
	}
	switch {
	case t == BodyAudio && kind == "audio/ogg" && !m.Facts.Voice:
		return "WhatsApp plays Ogg only with one stream of Opus in it. Convert the file with: ffmpeg -i FILE -c:a libopus -b:a 32k -ac 1 OUT.ogg"
	case t == BodyAudio && voice && kind != "audio/ogg":
		return "A voice note is Ogg with Opus. Convert the file with: ffmpeg -i FILE -c:a libopus -b:a 32k -ac 1 OUT.ogg, or send it without voice."
	case (t == BodyImage || t == BodySticker) && m.Facts.Width == 0:
		return "The picture is damaged or cut off. Upload it again."
	case t == BodySticker && (m.Facts.Width != 512 || m.Facts.Height != 512):
		return "A sticker has 512 by 512 pixels. Scale the file."
	}
	return ""
}
