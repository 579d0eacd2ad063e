package whatisup

import "log/slog"

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

// ParsePhoneNumber accepts 7 to 15 digits with at most one leading "+"
// (E.164 allows fifteen; no country assigns fewer than seven).
func ParsePhoneNumber(s string) (PhoneNumber, bool) {
	if len(s) > 0 && s[0] == '+' {
		s = s[1:]
	}
	if len(s) < 7 || len(s) > 15 || s[0] == '0' {
		return "", false
	}
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return "", false
		}
	}
	return PhoneNumber(s), true
}
