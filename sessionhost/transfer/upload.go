package transfer

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"

	"whatisup/sessionhost/mediacrypt"
	"whatisup/shared/mediafile"
	"whatisup/shared/whatisup"
)

// upload sends an object to WhatsApp. The object is read once for each pass, and must
// be the same both times: its hash is in the row.
func (d *Desk) upload(ctx context.Context, host Host, m *whatisup.Media, f form) (*whatisup.StoredUpload, error) {
	u := &whatisup.StoredUpload{
		Key: make([]byte, mediacrypt.KeySize), MimeType: m.MimeType, Filename: m.Filename, Seconds: m.Facts.Seconds,
		Width: m.Facts.Width, Height: m.Facts.Height, At: d.c.Now(),
	}
	rand.Read(u.Key)
	looked := &look{kind: f.kind}
	size := int64(0)
	err := d.read(ctx, m, f, func(r io.Reader, voice *mediafile.Voice) error {
		sealer, err := mediacrypt.Seal(io.TeeReader(r, looked), u.Key, f.kind)
		if err != nil {
			return err
		}
		if size, err = io.Copy(io.Discard, sealer); err != nil {
			return err
		}
		var plain int64
		u.SHA256, u.Sealed, plain = sealer.Sums()
		u.Size = uint64(plain)
		if voice != nil {
			u.Seconds, u.Waveform = voice.Seconds(), voice.Waveform()
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	u.Thumbnail, u.Animated = looked.thumbnail(), looked.animated()

	err = d.read(ctx, m, f, func(r io.Reader, _ *mediafile.Voice) error {
		sealer, err := mediacrypt.Seal(r, u.Key, f.kind)
		if err != nil {
			return err
		}
		u.URL, u.DirectPath, err = host.PutFile(ctx, f.kind, sealer, size, u.Sealed)
		return err
	})
	return u, err
}

// read gives the bytes as they are sent: those of the object, a voice note's in the
// packets that every phone plays.
func (d *Desk) read(ctx context.Context, m *whatisup.Media, f form, do func(io.Reader, *mediafile.Voice) error) error {
	object, _, err := d.c.Objects.Open(ctx, m.Key, 0)
	if err != nil {
		return err
	}
	defer object.Close()
	if !f.voice {
		return do(object, nil)
	}
	voice := mediafile.NewVoice(object)
	if err := do(voice, voice); errors.Is(err, mediafile.ErrBroken) {
		return &unusable{"The voice note is damaged or cut off. Convert the file with: ffmpeg -i FILE -c:a libopus -b:a 32k -ac 1 OUT.ogg"}
	} else if err != nil {
		return fmt.Errorf("voice note: %w", err)
	}
	return nil
}

// look keeps of a file what its message shows beside it. Pictures are kept up to a
// size, for their thumbnails; of a sticker its first bytes.
type look struct {
	kind whatisup.BodyType
	b    bytes.Buffer
	over bool
}

// pictureMost is the size up to which a picture gets a thumbnail.
const pictureMost = 4 << 20

func (l *look) Write(p []byte) (int, error) {
	most := 0
	switch l.kind {
	case whatisup.BodyImage:
		most = pictureMost
	case whatisup.BodySticker:
		most = 64
	}
	if room := most - l.b.Len(); room < len(p) {
		l.over = true
		l.b.Write(p[:max(room, 0)])
	} else {
		l.b.Write(p)
	}
	return len(p), nil
}

func (l *look) thumbnail() []byte {
	if l.kind != whatisup.BodyImage || l.over {
		return nil
	}
	return mediafile.Thumbnail(l.b.Bytes())
}

func (l *look) animated() bool {
	return l.kind == whatisup.BodySticker && mediafile.AnimatedWebP(l.b.Bytes())
}
