package whatisup

import (
	"log/slog"
	"strings"
)

// The types below keep what must not be logged out of logs: each prints and
// logs as a fixed word, whatever formats it. string(x) is the way to the value,
// and is written only where the value is meant to go.
type (
	// Secret is key material: an API key, a pepper.
	Secret string
	// PhoneNumber is digits only, without "+". Empty means none.
	PhoneNumber string
	// Text is what somebody wrote.
	Text string
)

const redacted = "[redacted]"

func (Secret) String() string            { return redacted }
func (Secret) GoString() string          { return redacted }
func (Secret) LogValue() slog.Value      { return slog.StringValue(redacted) }
func (PhoneNumber) String() string       { return redacted }
func (PhoneNumber) GoString() string     { return redacted }
func (PhoneNumber) LogValue() slog.Value { return slog.StringValue(redacted) }
func (Text) String() string              { return redacted }
func (Text) GoString() string            { return redacted }
func (Text) LogValue() slog.Value        { return slog.StringValue(redacted) }
func (Address) String() string           { return redacted }
func (Address) GoString() string         { return redacted }
func (Address) LogValue() slog.Value     { return slog.StringValue(redacted) }

// ParsePhoneNumber reads a number as people spell it: digits with the country
// code, with "+", spaces, dashes, dots and brackets anywhere between them. It
// accepts 7 to 15 digits that don't begin with 0 (E.164 allows fifteen; no country
// assigns fewer than seven). Nothing is normalised: that is WhatsApp's part.
func ParsePhoneNumber(s string) (PhoneNumber, bool) {
	n := make([]byte, 0, 15)
	for _, r := range s {
		switch {
		case r >= '0' && r <= '9':
			n = append(n, byte(r))
		case strings.ContainsRune(spelling, r):
		default:
			return "", false
		}
		if len(n) > 15 {
			return "", false
		}
	}
	if len(n) < 7 || n[0] == '0' {
		return "", false
	}
	return PhoneNumber(n), true
}

// spelling is what people write between the digits of a number; the last five
// are the no-break space, the hyphens that word processors write, and the marks of
// direction that come along when a number is copied from a phone.
const spelling = "+ -.()\u00a0\u2010\u2011\u202a\u202c"
