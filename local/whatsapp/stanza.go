package whatsapp

import (
	"bytes"
	"compress/zlib"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	waBinary "go.mau.fi/whatsmeow/binary"
	"go.mau.fi/whatsmeow/binary/token"
	"go.mau.fi/whatsmeow/types"
)

// Node is a stanza or a part of one.
type Node = waBinary.Node

// Attrs are a node's attributes.
type Attrs = waBinary.Attrs

const (
	maxStanza = 8 << 20
	maxDepth  = 32
)

var errStanza = errors.New("malformed stanza")

// decodeStanza reads one decrypted frame. The library's decoder trusts its
// peer: it recurses as deep and allocates as much as the input says, and
// panics where a name is not a string. So the shape is checked first, and a
// panic is an error.
func decodeStanza(plain []byte) (node *Node, err error) {
	defer func() {
		if recover() != nil {
			node, err = nil, errStanza
		}
	}()
	if len(plain) == 0 {
		return nil, errStanza
	}
	data := plain[1:]
	if plain[0]&2 != 0 {
		reader, err := zlib.NewReader(bytes.NewReader(data))
		if err != nil {
			return nil, fmt.Errorf("%w: %v", errStanza, err)
		}
		if data, err = io.ReadAll(io.LimitReader(reader, maxStanza+1)); err != nil {
			return nil, fmt.Errorf("%w: %v", errStanza, err)
		}
		if len(data) > maxStanza {
			return nil, fmt.Errorf("%w: more than %d bytes", errStanza, maxStanza)
		}
	}
	check := shape{data: data}
	if err := check.node(0); err != nil {
		return nil, err
	}
	return waBinary.Unmarshal(data)
}

// shape walks an encoded stanza without building it.
type shape struct {
	data []byte
	at   int
}

func (s *shape) byte() (int, error) {
	if s.at >= len(s.data) {
		return 0, fmt.Errorf("%w: ends early", errStanza)
	}
	s.at++
	return int(s.data[s.at-1]), nil
}

func (s *shape) number(bytes int) (int, error) {
	n := 0
	for range bytes {
		b, err := s.byte()
		if err != nil {
			return 0, err
		}
		n = n<<8 | b
	}
	return n, nil
}

func (s *shape) skip(n int) error {
	if n < 0 || n > len(s.data)-s.at {
		return fmt.Errorf("%w: ends early", errStanza)
	}
	s.at += n
	return nil
}

// listSize reads the size of a list whose kind was read already. Every element
// takes at least one byte, which bounds what a list can claim.
func (s *shape) listSize(kind int) (size int, err error) {
	switch kind {
	case token.ListEmpty:
		return 0, nil
	case token.List8:
		size, err = s.number(1)
	case token.List16:
		size, err = s.number(2)
	default:
		return 0, fmt.Errorf("%w: not a list", errStanza)
	}
	if err == nil && size > len(s.data)-s.at {
		err = fmt.Errorf("%w: list of %d in %d bytes", errStanza, size, len(s.data)-s.at)
	}
	return size, err
}

func (s *shape) node(depth int) error {
	if depth > maxDepth {
		return fmt.Errorf("%w: more than %d deep", errStanza, maxDepth)
	}
	kind, err := s.byte()
	if err != nil {
		return err
	}
	size, err := s.listSize(kind)
	if err != nil {
		return err
	}
	if size == 0 {
		return fmt.Errorf("%w: empty node", errStanza)
	}
	strings := 1 + (size-1)/2*2
	for range strings {
		if err := s.value(depth, false); err != nil {
			return err
		}
	}
	if size%2 == 0 {
		return s.value(depth, true)
	}
	return nil
}

func (s *shape) value(depth int, list bool) error {
	kind, err := s.byte()
	if err != nil {
		return err
	}
	var size int
	switch kind {
	case token.ListEmpty:
		return nil
	case token.List8, token.List16:
		if !list {
			return fmt.Errorf("%w: a list where a string belongs", errStanza)
		}
		if size, err = s.listSize(kind); err != nil {
			return err
		}
		for range size {
			if err := s.node(depth + 1); err != nil {
				return err
			}
		}
		return nil
	case token.Binary8:
		size, err = s.number(1)
	case token.Binary20:
		size, err = s.number(3)
		size &= 0xFFFFF
	case token.Binary32:
		size, err = s.number(4)
	case token.Dictionary0, token.Dictionary1, token.Dictionary2, token.Dictionary3:
		size = 1
	case token.Nibble8, token.Hex8:
		size, err = s.number(1)
		size &= 127
	case token.JIDPair:
		return s.values(depth, 2, 0)
	case token.ADJID:
		if err = s.skip(2); err == nil {
			err = s.value(depth+1, false)
		}
		return err
	case token.FBJID:
		return s.values(depth, 1, 2)
	case token.InteropJID:
		return s.values(depth, 1, 4)
	default:
		if kind < 1 || kind >= len(token.SingleByteTokens) {
			return fmt.Errorf("%w: unknown token", errStanza)
		}
		return nil
	}
	if err != nil {
		return err
	}
	return s.skip(size)
}

// values are the parts of a JID: some strings, and for the rarer kinds some
// bytes and a server.
func (s *shape) values(depth, strings, plain int) error {
	if depth > maxDepth {
		return fmt.Errorf("%w: more than %d deep", errStanza, maxDepth)
	}
	for range strings {
		if err := s.value(depth+1, false); err != nil {
			return err
		}
	}
	if plain == 0 {
		return nil
	}
	if err := s.skip(plain); err != nil {
		return err
	}
	return s.value(depth+1, false)
}

// Small readers of a node, for input that may hold anything.

func str(n *Node, name string) string {
	switch v := n.Attrs[name].(type) {
	case string:
		return v
	case types.JID:
		return v.String()
	}
	return ""
}

func jidAttr(n *Node, name string) types.JID {
	switch v := n.Attrs[name].(type) {
	case types.JID:
		return v
	case string:
		if jid, err := types.ParseJID(v); err == nil && strings.Contains(v, "@") {
			return jid
		}
	}
	return types.EmptyJID
}

func child(n *Node, path ...string) (*Node, bool) {
	at := n
next:
	for _, tag := range path {
		if at == nil {
			break
		}
		children, _ := at.Content.([]Node)
		for i := range children {
			if children[i].Tag == tag {
				at = &children[i]
				continue next
			}
		}
		return nil, false
	}
	return at, at != nil
}

// content returns the bytes of the node at the path, or nil.
func content(n *Node, path ...string) []byte {
	at, ok := child(n, path...)
	if !ok {
		return nil
	}
	switch v := at.Content.(type) {
	case []byte:
		return v
	case string:
		return []byte(v)
	}
	return nil
}

// render writes a stanza for the journal: like XML, with sorted attributes,
// and with long content and long lists cut short.
func render(n *Node) string {
	var b strings.Builder
	renderTo(&b, n, 0)
	return b.String()
}

const (
	renderedBytes    = 48
	renderedChildren = 8
	renderedLength   = 4096
)

func renderTo(b *strings.Builder, n *Node, depth int) {
	if b.Len() > renderedLength || depth > maxDepth {
		b.WriteString("…")
		return
	}
	b.WriteByte('<')
	b.WriteString(cut(n.Tag))
	var quoted []byte
	var few [8]string
	names := few[:0]
	for name := range n.Attrs {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		b.WriteByte(' ')
		b.WriteString(cut(name))
		b.WriteByte('=')
		quoted = strconv.AppendQuote(quoted[:0], cut(attrText(n.Attrs[name])))
		b.Write(quoted)
	}
	switch content := n.Content.(type) {
	case []Node:
		b.WriteByte('>')
		for i := range content {
			if i == renderedChildren {
				fmt.Fprintf(b, "…%d more", len(content)-i)
				break
			}
			renderTo(b, &content[i], depth+1)
		}
	case []byte:
		b.WriteByte('>')
		if printable(content) {
			b.WriteString(cut(string(content)))
		} else if len(content) > renderedBytes {
			fmt.Fprintf(b, "%s…%d bytes", hex.EncodeToString(content[:renderedBytes]), len(content))
		} else {
			b.WriteString(hex.EncodeToString(content))
		}
	case string:
		b.WriteByte('>')
		b.WriteString(cut(content))
	default:
		b.WriteString("/>")
		return
	}
	b.WriteString("</")
	b.WriteString(cut(n.Tag))
	b.WriteByte('>')
}

func attrText(value any) string {
	switch value := value.(type) {
	case string:
		return value
	case types.JID:
		return value.String()
	}
	return fmt.Sprint(value)
}

func cut(s string) string {
	if len(s) > 256 {
		return strings.ToValidUTF8(s[:256], "") + "…"
	}
	return s
}

func printable(data []byte) bool {
	if len(data) == 0 {
		return true
	}
	for _, c := range data {
		if c < ' ' || c > '~' {
			return false
		}
	}
	return true
}
