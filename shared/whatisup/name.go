package whatisup

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// MaxName is how many characters a name may have.
const MaxName = 100

// ParseName reads the name of an instance, a key or a customer. What it returns
// beside the name is the problem, empty for none.
//
// A name must show: at least one character is visible, and none turns the text
// around it round or hides in it. The two joiners are part of how some scripts,
// and emoji, are written, so they may stand within a word.
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

	visible := false
	runes := []rune(s)
	for i, r := range runes {
		switch {
		case r == zeroWidthNonJoiner || r == zeroWidthJoiner:
			if i == 0 || i == len(runes)-1 || !shows(runes[i-1]) || !shows(runes[i+1]) {
				return "", "must not contain invisible characters outside a word"
			}
		case unicode.Is(unicode.Cf, r) || r == '\u2028' || r == '\u2029':
			return "", "must not contain characters that are invisible or change the direction of text"
		case shows(r) && !unicode.Is(unicode.M, r):
			visible = true
		}
	}
	if !visible {
		return "", "must contain a visible character"
	}
	return s, ""
}

const (
	zeroWidthNonJoiner = '\u200c'
	zeroWidthJoiner    = '\u200d'
)

// blank are letters and symbols that show as nothing.
var blank = &unicode.RangeTable{R16: []unicode.Range16{
	{Lo: 0x034f, Hi: 0x034f, Stride: 1}, {Lo: 0x115f, Hi: 0x1160, Stride: 1}, {Lo: 0x17b4, Hi: 0x17b5, Stride: 1},
	{Lo: 0x180b, Hi: 0x180f, Stride: 1}, {Lo: 0x2800, Hi: 0x2800, Stride: 1}, {Lo: 0x3164, Hi: 0x3164, Stride: 1},
	{Lo: 0xfe00, Hi: 0xfe0f, Stride: 1}, {Lo: 0xffa0, Hi: 0xffa0, Stride: 1},
}, R32: []unicode.Range32{{Lo: 0xe0000, Hi: 0xe0fff, Stride: 1}}}

// shows says whether a character, or the mark that it is, can be seen. Variation
// selectors belong to the emoji before them.
func shows(r rune) bool {
	if r >= 0xfe00 && r <= 0xfe0f {
		return true
	}
	return !unicode.IsSpace(r) && !unicode.IsControl(r) && !unicode.Is(unicode.Cf, r) && !unicode.Is(blank, r)
}
