package mediafile

import (
	"bufio"
	"bytes"
	"io"
	"strings"
)

// Info is what a file says of itself. What is not known is zero.
type Info struct {
	Type          string // as "image/jpeg"; empty: none of those that are known here
	Width, Height int
	Seconds       float64
	Opus          bool // Ogg with one stream of Opus: what a voice note has to be
	Animated      bool
	VideoCodec    string // of MP4: the four letters of its sample entry
	AudioCodec    string
	Broken        bool // it is cut off, or contradicts itself
}

// TypeOver is the type of a file of which its sender says a type. The sender knows best
// what a document is; a picture, a sound and a film are what their bytes say.
func (i Info) TypeOver(said string) string {
	switch kind, _, _ := strings.Cut(i.Type, "/"); {
	case i.Opus:
		return "audio/ogg; codecs=opus"
	case kind == "image", kind == "audio", kind == "video", said == "" && i.Type != "":
		return i.Type
	case said == "":
		return "application/octet-stream"
	}
	return said
}

// headSize is how much of a file's beginning is looked at to tell what it is.
const headSize = 4096

// Inspect reads a file to its end and says what it is.
func Inspect(r io.Reader) (Info, error) {
	failing := &remembering{r: r}
	b := bufio.NewReaderSize(failing, headSize)
	head, _ := b.Peek(headSize)
	info := Info{Type: Sniff(head)}
	var err error
	switch info.Type {
	case "image/jpeg":
		err = jpegInfo(b, &info)
	case "image/png":
		err = pngInfo(b, &info)
	case "image/gif":
		err = gifInfo(b, &info)
	case "image/webp":
		err = webpInfo(b, &info)
	case "video/mp4", "audio/mp4", "video/quicktime", "video/3gpp":
		err = mp4Info(b, &info)
	case "audio/ogg":
		err = oggInfo(b, &info)
	}
	info.Broken = err != nil
	if _, err := io.Copy(io.Discard, b); err != nil {
		return info, err
	}
	return info, failing.err
}

// remembering keeps the error of the stream below, which parsers take for an end.
type remembering struct {
	r   io.Reader
	err error
}

func (r *remembering) Read(p []byte) (int, error) {
	n, err := r.r.Read(p)
	if err != nil && err != io.EOF {
		r.err = err
	}
	return n, err
}

// Sniff tells what a file is by its first bytes. It knows what WhatsApp shows, and a
// few others; the rest is "".
func Sniff(head []byte) string {
	has := func(at int, s string) bool { return len(head) >= at+len(s) && string(head[at:at+len(s)]) == s }
	switch {
	case has(0, "\xff\xd8\xff"):
		return "image/jpeg"
	case has(0, "\x89PNG\r\n\x1a\n"):
		return "image/png"
	case has(0, "GIF87a"), has(0, "GIF89a"):
		return "image/gif"
	case has(0, "RIFF") && has(8, "WEBP"):
		return "image/webp"
	case has(0, "RIFF") && has(8, "WAVE"):
		return "audio/wav"
	case has(0, "OggS"):
		return "audio/ogg"
	case has(0, "%PDF-"):
		return "application/pdf"
	case has(0, "#!AMR"):
		return "audio/amr"
	case has(0, "\x1a\x45\xdf\xa3"):
		if bytes.Contains(head[:min(len(head), 64)], []byte("webm")) {
			return "video/webm"
		}
		return "video/x-matroska"
	case has(0, "ID3"):
		return "audio/mpeg"
	case has(4, "ftyp"):
		return ftyp(head)
	case has(0, "PK\x03\x04"):
		return "application/zip"
	}
	if len(head) >= 2 && head[0] == 0xff {
		switch {
		case head[1]&0xf6 == 0xf0:
			return "audio/aac" // ADTS
		case head[1]&0xe0 == 0xe0 && head[1]&0x18 != 0x08 && head[1]&0x06 != 0:
			return "audio/mpeg"
		}
	}
	return ""
}

func ftyp(head []byte) string {
	if len(head) < 12 {
		return "video/mp4"
	}
	switch brand := string(head[8:12]); {
	case brand == "M4A " || brand == "M4B " || brand == "M4P ":
		return "audio/mp4"
	case brand == "qt  ":
		return "video/quicktime"
	case brand[:3] == "3gp" || brand[:3] == "3g2":
		return "video/3gpp"
	case brand == "heic" || brand == "heix" || brand == "mif1":
		return "image/heic"
	case brand == "avif":
		return "image/avif"
	}
	return "video/mp4"
}
