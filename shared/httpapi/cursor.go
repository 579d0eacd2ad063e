package httpapi

import (
	"crypto/hmac"
	"encoding/base64"
	"strings"

	"github.com/google/uuid"

	"whatisup/shared/whatisup"
)

// cursorSeal makes cursors and stream positions: the id of a row and a seal over
// it and what it is bound to. So a cursor can't be made up, nor used by another
// customer, for another mode or with another filter.
type cursorSeal struct{ peppers whatisup.Peppers }

const sealBytes = 12

func (s cursorSeal) make(id string, bound ...string) string {
	u, err := uuid.Parse(id)
	if err != nil {
		return "" // only ids of ours are sealed
	}
	return encodeCursor(append(u[:], s.sum(s.peppers.Newest(), u, bound)...))
}

func encodeCursor(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// decodeCursor accepts the one form that encodeCursor writes: the decoder
// overlooks line breaks, and bits at the end.
func decodeCursor(cursor string) ([]byte, bool) {
	b, err := base64.RawURLEncoding.DecodeString(cursor)
	return b, err == nil && encodeCursor(b) == cursor
}

// open returns the id that a cursor was made of. Any pepper in use will do, so
// that cursors survive a rotation.
func (s cursorSeal) open(cursor string, bound ...string) (string, bool) {
	b, ok := decodeCursor(cursor)
	if !ok || len(b) != 16+sealBytes {
		return "", false
	}
	u := uuid.UUID(b[:16])
	for version := range s.peppers {
		if hmac.Equal(b[16:], s.sum(version, u, bound)) {
			return u.String(), true
		}
	}
	return "", false
}

func (s cursorSeal) sum(version int, id uuid.UUID, bound []string) []byte {
	return mac(s.peppers[version], "cursor\x00"+strings.Join(bound, "\x00")+"\x00"+string(id[:]))[:sealBytes]
}
