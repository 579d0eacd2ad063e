package whatisup

import (
	"fmt"
	"time"
)

// timeLayout is RFC 3339 in UTC with exactly three decimals, the only form in
// which a time leaves this system.
const timeLayout = "2006-01-02T15:04:05.000Z"

// Time is a time on the wire: UTC, milliseconds, as in 2026-05-01T12:34:56.000Z.
// Its zero value is null.
type Time struct{ time.Time }

// At cuts t to the millisecond that the wire can carry.
func At(t time.Time) Time {
	if t.IsZero() {
		return Time{}
	}
	return Time{t.UTC().Truncate(time.Millisecond)}
}

func (t Time) String() string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(timeLayout)
}

// MarshalJSON writes the time, or null for the zero time.
func (t Time) MarshalJSON() ([]byte, error) {
	if t.IsZero() {
		return []byte("null"), nil
	}
	return []byte(`"` + t.String() + `"`), nil
}

// UnmarshalJSON reads any RFC 3339 time, or null.
func (t *Time) UnmarshalJSON(b []byte) error {
	if string(b) == "null" {
		*t = Time{}
		return nil
	}
	if len(b) < 2 || b[0] != '"' {
		return fmt.Errorf("a time must be a string")
	}
	u, err := time.Parse(time.RFC3339, string(b[1:len(b)-1]))
	if err != nil {
		return err
	}
	*t = At(u)
	return nil
}
