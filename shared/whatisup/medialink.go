package whatisup

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"strings"

	"github.com/google/uuid"
)

// MediaLinks makes the URLs of files, and reads them. A URL's token is the right to
// its file. It is sealed under a secret of the deployment and holds the place of the
// row, so nothing is stored of it anywhere: whoever reads all tables can't make one,
// and a file's token is the same each time it is asked for. It ends with the row.
type MediaLinks struct {
	base string // of the API, without a slash at the end
	mac  []byte
	aead cipher.AEAD
}

// NewMediaLinks makes links under a base URL. The secret must not be empty.
func NewMediaLinks(base string, secret Secret) (*MediaLinks, error) {
	if len(secret) < 16 {
		return nil, ErrCorrupt
	}
	derive := func(purpose string) []byte {
		h := hmac.New(sha256.New, []byte(secret))
		h.Write([]byte("media token " + purpose))
		return h.Sum(nil)
	}
	block, err := aes.NewCipher(derive("seal"))
	if err != nil {
		return nil, err
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return nil, err
	}
	return &MediaLinks{base: strings.TrimSuffix(base, "/"), mac: derive("nonce"), aead: aead}, nil
}

// At is the same links under another base URL.
func (l *MediaLinks) At(base string) *MediaLinks {
	other := *l
	other.base = strings.TrimSuffix(base, "/")
	return &other
}

// MediaFilesPath is where files are by their tokens.
const MediaFilesPath = "/v1/media-files/"

// URL is where the file's bytes are.
func (l *MediaLinks) URL(m *Media) string { return l.base + MediaFilesPath + l.Token(m) }

const placeBytes = 33 // a mode and two ids

// Token is the file's token.
func (l *MediaLinks) Token(m *Media) string {
	customer, err := uuid.Parse(string(m.Customer))
	if err != nil {
		return ""
	}
	id, err := uuid.Parse(string(m.ID))
	if err != nil {
		return ""
	}
	place := make([]byte, 0, placeBytes)
	place = append(place, m.Mode[0])
	place = append(append(place, customer[:]...), id[:]...)
	// The nonce follows from the place: the same token each time, and never one
	// nonce for two places.
	h := hmac.New(sha256.New, l.mac)
	h.Write(place)
	nonce := h.Sum(nil)[:l.aead.NonceSize()]
	return base64.RawURLEncoding.EncodeToString(l.aead.Seal(nonce, nonce, place, nil))
}

// Open finds the place of a token's row; ok is false for what is no token of ours.
func (l *MediaLinks) Open(token string) (c CustomerID, m Mode, id MediaID, ok bool) {
	if len(token) != base64.RawURLEncoding.EncodedLen(l.aead.NonceSize()+placeBytes+l.aead.Overhead()) {
		return "", "", "", false
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(token)
	if err != nil {
		return "", "", "", false
	}
	place, err := l.aead.Open(nil, b[:l.aead.NonceSize()], b[l.aead.NonceSize():], nil)
	if err != nil || len(place) != placeBytes {
		return "", "", "", false
	}
	m = Live
	if place[0] == Test[0] {
		m = Test
	}
	return CustomerID(uuid.UUID(place[1:17]).String()), m, MediaID(uuid.UUID(place[17:]).String()), true
}
