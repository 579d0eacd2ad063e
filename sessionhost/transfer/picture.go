package transfer

import (
	"crypto/sha256"
	"hash"
	"io"
	"strings"

	"whatisup/sessionhost/mediacrypt"
	"whatisup/shared/mediafile"
	"whatisup/shared/whatisup"
)

// isPicture says whether a file is the picture of a person or a group: it comes as it
// is, and nobody is told of it.
func isPicture(m *whatisup.Media) bool { return m.Origin != nil && m.Origin.Picture != "" }

// opened is a file from WhatsApp as it is read.
type opened interface {
	io.Reader
	// Sum is the hash and the size of what was read.
	Sum() ([]byte, int64)
	// fits says, after the end, whether it is what it is taken for.
	fits(info mediafile.Info) error
}

// open begins to read a file whose bytes come from WhatsApp. Size is what the media host
// says of it, or -1.
func open(m *whatisup.Media, body io.Reader, size int64) (opened, error) {
	if isPicture(m) {
		if size > whatisup.PictureMost {
			return nil, errPictureTooLarge
		}
		return &plain{r: body, sum: sha256.New()}, nil
	}
	if size > whatisup.MediaMost+mediacrypt.Overhead {
		return nil, errTooLarge
	}
	opener, err := mediacrypt.Open(body, m.Origin.Key, m.Origin.Kind, whatisup.MediaMost)
	if err != nil {
		return nil, errNotIt
	}
	return &sealed{opener, m.Origin}, nil
}

// sealed is the file of a message.
type sealed struct {
	*mediacrypt.Opener
	o *whatisup.MediaOrigin
}

// The length that the message declares is not compared: clients are known to write a
// wrong one, and where the hashes fit it is the file that was sent.
func (s *sealed) fits(mediafile.Info) error {
	if s.Check(s.o.SHA256, s.o.Sealed) != nil {
		return errNotIt
	}
	return nil
}

// plain is a picture. It ends with an error after the largest one.
type plain struct {
	r   io.Reader
	sum hash.Hash
	n   int64
}

func (p *plain) Read(b []byte) (int, error) {
	n, err := p.r.Read(b)
	if p.n += int64(n); p.n > whatisup.PictureMost {
		return 0, errPictureTooLarge
	}
	p.sum.Write(b[:n])
	return n, err
}

func (p *plain) Sum() ([]byte, int64) { return p.sum.Sum(nil), p.n }

func (p *plain) fits(info mediafile.Info) error {
	if info.Width == 0 || !strings.HasPrefix(info.Type, "image/") {
		return errNoPicture
	}
	return nil
}
