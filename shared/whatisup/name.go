package whatisup

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// MaxName is how many characters a name may have.
const MaxName = 100

// ParseName reads the name of an instance, a key or a customer. What it answers
// beside the name is the problem, empty for none.
func ParseName(s string) (name, problem string) {
	s = strings.TrimSpace(s)
	switch {
	case s == "":
		return "", "must not be empty"
	case utf8.RuneCountInString(s) > MaxName:
		return "", "must have at most 100 characters"
	case strings.ContainsFunc(s, unicode.IsControl):
		return "", "must not contain control characters"
	}
	return s, ""
}
