package wire

import (
	"errors"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// Kind says what a Node is.
type Kind uint8

// The kinds of JSON values. The zero Node is null, which the services treat
// like a member that was not sent.
const (
	Null Kind = iota
	True
	False
	Number
	String
	Array
	Object
)

// Node is one parsed JSON value. Numbers keep their literal text, so nothing is
// lost on the way to a 38-digit decimal.
type Node struct {
	Kind   Kind
	Text   string // of a String, or the literal of a Number
	List   []Node
	Fields []Field
}

// Field is one member of an object, in the order it was sent.
type Field struct {
	Name  string
	Value Node
}

// maxDepth is far above what any request needs and far below what recursion
// could not bear.
const maxDepth = 256

var errSyntax = errors.New("not a JSON value")

// Parse reads one JSON text. Strings of the result share the input's memory.
func Parse(text string) (Node, error) {
	if !utf8.ValidString(text) {
		return Node{}, errSyntax
	}
	p := parser{text: text}
	p.space()
	n, err := p.value(0)
	if err != nil {
		return Node{}, err
	}
	p.space()
	if p.at != len(p.text) {
		return Node{}, errSyntax
	}
	return n, nil
}

// Get returns the named member, or the null Node. Of duplicates the last one counts.
func (n *Node) Get(name string) *Node {
	for i := len(n.Fields) - 1; i >= 0; i-- {
		if n.Fields[i].Name == name {
			return &n.Fields[i].Value
		}
	}
	return &null
}

var null Node

// Has says whether the named member is there and not null.
func (n *Node) Has(name string) bool { return n.Get(name).Kind != Null }

// Str returns the named member's text; "" if it is absent.
func (n *Node) Str(name string) string { return n.Get(name).Text }

// Bool returns the named member's truth, or def if it is absent.
func (n *Node) Bool(name string, def bool) bool {
	switch v := n.Get(name); v.Kind {
	case True:
		return true
	case False:
		return false
	case String:
		return strings.EqualFold(v.Text, "true") || v.Text == "1" || strings.EqualFold(v.Text, "yes")
	}
	return def
}

// Int returns the named member as a whole number, or def if it is absent.
func (n *Node) Int(name string, def int) int {
	v := n.Get(name)
	if v.Kind != Number {
		return def
	}
	return v.int()
}

func (n *Node) int() int {
	if i, err := strconv.Atoi(n.Text); err == nil {
		return i
	}
	f, err := strconv.ParseFloat(n.Text, 64)
	switch {
	case err != nil && f == 0, f != f:
		return 0
	case f >= 1<<53:
		return 1 << 53
	case f <= -1<<53:
		return -1 << 53
	}
	return int(f)
}

type parser struct {
	text string
	at   int
}

func (p *parser) space() {
	for p.at < len(p.text) {
		switch p.text[p.at] {
		case ' ', '\t', '\r', '\n':
			p.at++
		default:
			return
		}
	}
}

func (p *parser) word(w string, k Kind) (Node, error) {
	if !strings.HasPrefix(p.text[p.at:], w) {
		return Node{}, errSyntax
	}
	p.at += len(w)
	return Node{Kind: k}, nil
}

func (p *parser) value(depth int) (Node, error) {
	if p.at >= len(p.text) || depth > maxDepth {
		return Node{}, errSyntax
	}
	switch p.text[p.at] {
	case 'n':
		return p.word("null", Null)
	case 't':
		return p.word("true", True)
	case 'f':
		return p.word("false", False)
	case '"':
		s, err := p.str()
		return Node{Kind: String, Text: s}, err
	case '[':
		return p.array(depth)
	case '{':
		return p.object(depth)
	}
	return p.number()
}

func (p *parser) array(depth int) (Node, error) {
	n := Node{Kind: Array}
	p.at++
	p.space()
	if p.at < len(p.text) && p.text[p.at] == ']' {
		p.at++
		return n, nil
	}
	for {
		v, err := p.value(depth + 1)
		if err != nil {
			return n, err
		}
		n.List = append(n.List, v)
		p.space()
		if p.at >= len(p.text) {
			return n, errSyntax
		}
		switch p.text[p.at] {
		case ',':
			p.at++
			p.space()
		case ']':
			p.at++
			return n, nil
		default:
			return n, errSyntax
		}
	}
}

func (p *parser) object(depth int) (Node, error) {
	n := Node{Kind: Object}
	p.at++
	p.space()
	if p.at < len(p.text) && p.text[p.at] == '}' {
		p.at++
		return n, nil
	}
	for {
		if p.at >= len(p.text) || p.text[p.at] != '"' {
			return n, errSyntax
		}
		name, err := p.str()
		if err != nil {
			return n, err
		}
		p.space()
		if p.at >= len(p.text) || p.text[p.at] != ':' {
			return n, errSyntax
		}
		p.at++
		p.space()
		v, err := p.value(depth + 1)
		if err != nil {
			return n, err
		}
		n.Fields = append(n.Fields, Field{name, v})
		p.space()
		if p.at >= len(p.text) {
			return n, errSyntax
		}
		switch p.text[p.at] {
		case ',':
			p.at++
			p.space()
		case '}':
			p.at++
			return n, nil
		default:
			return n, errSyntax
		}
	}
}

func (p *parser) number() (Node, error) {
	start := p.at
	digits := func() int {
		from := p.at
		for p.at < len(p.text) && p.text[p.at] >= '0' && p.text[p.at] <= '9' {
			p.at++
		}
		return p.at - from
	}
	if p.at < len(p.text) && p.text[p.at] == '-' {
		p.at++
	}
	whole := p.at
	if n := digits(); n == 0 || n > 1 && p.text[whole] == '0' {
		return Node{}, errSyntax
	}
	if p.at < len(p.text) && p.text[p.at] == '.' {
		p.at++
		if digits() == 0 {
			return Node{}, errSyntax
		}
	}
	if p.at < len(p.text) && (p.text[p.at] == 'e' || p.text[p.at] == 'E') {
		p.at++
		if p.at < len(p.text) && (p.text[p.at] == '+' || p.text[p.at] == '-') {
			p.at++
		}
		if digits() == 0 {
			return Node{}, errSyntax
		}
	}
	return Node{Kind: Number, Text: p.text[start:p.at]}, nil
}

func (p *parser) str() (string, error) {
	p.at++
	start := p.at
	for p.at < len(p.text) {
		switch c := p.text[p.at]; {
		case c == '"':
			s := p.text[start:p.at]
			p.at++
			return s, nil
		case c == '\\':
			return p.escaped(start)
		case c < 0x20:
			return "", errSyntax
		}
		p.at++
	}
	return "", errSyntax
}

// escaped goes on where str met its first backslash.
func (p *parser) escaped(start int) (string, error) {
	out := append(make([]byte, 0, p.at-start+32), p.text[start:p.at]...)
	for p.at < len(p.text) {
		c := p.text[p.at]
		switch {
		case c == '"':
			p.at++
			return string(out), nil
		case c < 0x20:
			return "", errSyntax
		case c != '\\':
			out = append(out, c)
			p.at++
			continue
		}
		if p.at+1 >= len(p.text) {
			return "", errSyntax
		}
		p.at += 2
		switch e := p.text[p.at-1]; e {
		case '"', '\\', '/':
			out = append(out, e)
		case 'b':
			out = append(out, '\b')
		case 'f':
			out = append(out, '\f')
		case 'n':
			out = append(out, '\n')
		case 'r':
			out = append(out, '\r')
		case 't':
			out = append(out, '\t')
		case 'u':
			r, ok := p.hex4()
			if !ok {
				return "", errSyntax
			}
			if utf16.IsSurrogate(r) {
				r = p.pair(r)
			}
			out = utf8.AppendRune(out, r)
		default:
			return "", errSyntax
		}
	}
	return "", errSyntax
}

// pair reads the second half of a surrogate pair; a half alone becomes U+FFFD.
func (p *parser) pair(first rune) rune {
	if strings.HasPrefix(p.text[p.at:], `\u`) {
		mark := p.at
		p.at += 2
		if second, ok := p.hex4(); ok {
			if r := utf16.DecodeRune(first, second); r != utf8.RuneError {
				return r
			}
		}
		p.at = mark
	}
	return utf8.RuneError
}

func (p *parser) hex4() (rune, bool) {
	if p.at+4 > len(p.text) {
		return 0, false
	}
	v, err := strconv.ParseUint(p.text[p.at:p.at+4], 16, 16)
	if err != nil {
		return 0, false
	}
	p.at += 4
	return rune(v), true
}
