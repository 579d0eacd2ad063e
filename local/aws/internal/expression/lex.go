package expression

import "strings"

type tokenKind uint8

const (
	tEnd     tokenKind = iota
	tName              // attribute, function or keyword
	tHash              // #name
	tColon             // :value
	tNumber            // 12
	tPunct             // = <> < <= > >= ( ) [ ] . , + -
	tUnknown           // a character that nothing begins with
)

type token struct {
	kind tokenKind
	text string
	at   int // byte offset
}

// is compares without regard to case, as keywords are.
func (t token) is(text string) bool {
	return (t.kind == tName || t.kind == tPunct) && strings.EqualFold(t.text, text)
}

func isLetter(c byte) bool { return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' }

func isWord(c byte) bool { return isLetter(c) || isDigit(c) || c == '_' }

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

func lex(s string) []token {
	var out []token
	for i := 0; i < len(s); {
		start := i
		word := func(from int) {
			for i = from; i < len(s) && isWord(s[i]); i++ {
			}
		}
		c := s[i]
		kind := tPunct
		switch {
		case c == ' ' || c == '\t' || c == '\n' || c == '\r':
			i++
			continue
		case isLetter(c):
			kind = tName
			word(i)
		case c == '#' || c == ':':
			kind = tHash
			if c == ':' {
				kind = tColon
			}
			word(i + 1)
			if i == start+1 {
				kind = tUnknown
			}
		case isDigit(c):
			kind = tNumber
			for ; i < len(s) && isDigit(s[i]); i++ {
			}
		case strings.HasPrefix(s[i:], "<>"), strings.HasPrefix(s[i:], "<="), strings.HasPrefix(s[i:], ">="):
			i += 2
		case strings.IndexByte("=<>()[].,+-", c) >= 0:
			i++
		default:
			for i++; i < len(s) && s[i]&0xC0 == 0x80; i++ { // a whole code point
			}
			kind = tUnknown
		}
		out = append(out, token{kind, s[start:i], start})
	}
	return append(out, token{kind: tEnd, text: "<EOF>", at: len(s)})
}
