package httpapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"whatisup/shared/whatisup"
)

const (
	maxBody       = 256 << 10
	maxDepth      = 64 // of a body; metadata has a limit of its own
	maxMetadata   = 16 << 10
	metadataDepth = 32
	maxName       = 100
)

// body is a request's JSON object, taken apart field by field. Problems are
// gathered, so that one answer names them all.
type body struct {
	raw      []byte
	fields   map[string]json.RawMessage
	used     []string
	problems []field
}

// readBody reads the request's body: its size, then its type, then its text.
func (c *call) readBody() (*body, error) {
	if c.r.ContentLength > maxBody {
		return nil, errTooLarge
	}
	raw, err := io.ReadAll(io.LimitReader(c.r.Body, maxBody+1))
	if err != nil {
		return nil, invalid(field{"body", "could not be read to its end"})
	}
	if len(raw) > maxBody {
		return nil, errTooLarge
	}
	if len(bytes.TrimSpace(raw)) == 0 {
		return parseBody([]byte("{}"))
	}
	if !isJSON(c.r.Header.Values("Content-Type"), c.r.Header.Get("Content-Encoding")) {
		return nil, errMediaType
	}
	return parseBody(raw)
}

func isJSON(types []string, encoding string) bool {
	if encoding != "" && !strings.EqualFold(encoding, "identity") || len(types) != 1 {
		return false
	}
	kind, params, err := mime.ParseMediaType(types[0])
	if err != nil || kind != "application/json" {
		return false
	}
	charset, named := params["charset"]
	return !named || strings.EqualFold(charset, "utf-8")
}

// parseBody takes a JSON object apart.
func parseBody(raw []byte) (*body, error) {
	if !utf8.Valid(raw) {
		return nil, invalid(field{"body", "must be UTF-8"})
	}
	if problem := checkJSON(raw); problem != nil {
		return nil, invalid(*problem)
	}
	b := &body{raw: raw}
	if err := json.Unmarshal(raw, &b.fields); err != nil || b.fields == nil {
		return nil, invalid(field{"body", "must be a JSON object"})
	}
	return b, nil
}

// checkJSON reads raw once, for what encoding/json lets pass: keys that occur
// twice, and depth.
func checkJSON(raw []byte) *field {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	type level struct {
		object bool
		name   string // of the key whose value is being read
		key    bool   // a key comes next
		seen   map[string]bool
	}
	var levels []level
	path := func() string {
		var names []string
		for _, l := range levels {
			if l.object && l.name != "" {
				names = append(names, l.name)
			}
		}
		if len(names) == 0 {
			return "body"
		}
		return strings.Join(names, ".")
	}
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) && len(levels) == 0 {
			return nil
		}
		if err != nil {
			return &field{"body", "is not JSON"}
		}
		top := len(levels) - 1
		if top >= 0 && levels[top].object && levels[top].key {
			if name, ok := token.(string); ok {
				if levels[top].seen[name] {
					levels[top].name = ""
					return &field{strings.TrimPrefix(path()+"."+clip(name), "body."), "occurs twice"}
				}
				levels[top].seen[name], levels[top].name, levels[top].key = true, clip(name), false
				continue
			}
		}
		switch token {
		case json.Delim('{'):
			levels = append(levels, level{object: true, key: true, seen: map[string]bool{}})
		case json.Delim('['):
			levels = append(levels, level{})
		case json.Delim('}'), json.Delim(']'):
			levels = levels[:top]
			top--
		}
		if len(levels) > maxDepth {
			return &field{"body", fmt.Sprintf("is nested more than %d deep", maxDepth)}
		}
		if len(levels) == 0 {
			if d.More() { // also what is not JSON at all
				return &field{"body", "must be one JSON value"}
			}
			return nil
		}
		if token != json.Delim('{') && token != json.Delim('[') && levels[top].object {
			levels[top].key = true
		}
	}
}

// clip keeps a name from the request short enough to be given back.
func clip(s string) string {
	if r := []rune(s); len(r) > 64 {
		return string(r[:64]) + "…"
	}
	return s
}

func (b *body) problem(name, problem string) { b.problems = append(b.problems, field{name, problem}) }

func (b *body) has(name string) bool {
	_, ok := b.fields[name]
	return ok
}

// take marks a field as known.
func (b *body) take(name string) (json.RawMessage, bool) {
	b.used = append(b.used, name)
	v, ok := b.fields[name]
	return v, ok
}

// require is take for a field that must be there.
func (b *body) require(name string) (json.RawMessage, bool) {
	v, ok := b.take(name)
	if !ok {
		b.problem(name, "is required")
	}
	return v, ok
}

// text reads a string; false if it is missing or is none.
func (b *body) text(name string, required bool) (string, bool) {
	v, ok := b.take(name)
	if !ok {
		if required {
			b.problem(name, "is required")
		}
		return "", false
	}
	var s *string
	if err := json.Unmarshal(v, &s); err != nil || s == nil {
		b.problem(name, "must be a string")
		return "", false
	}
	// encoding/json puts U+FFFD where half a surrogate pair was written.
	if strings.ContainsRune(*s, utf8.RuneError) && !bytes.ContainsRune(v, utf8.RuneError) &&
		!bytes.Contains(bytes.ToLower(v), []byte(`\ufffd`)) {
		b.problem(name, "must be Unicode text")
		return "", false
	}
	return *s, true
}

// name reads the name of an instance or a key.
func (b *body) name(required bool) (string, bool) {
	s, ok := b.text("name", required)
	if !ok {
		return "", false
	}
	s = strings.TrimSpace(s)
	switch {
	case s == "":
		b.problem("name", "must not be empty")
	case utf8.RuneCountInString(s) > maxName:
		b.problem("name", fmt.Sprintf("must have at most %d characters", maxName))
	case strings.ContainsFunc(s, unicode.IsControl):
		b.problem("name", "must not contain control characters")
	default:
		return s, true
	}
	return "", false
}

// metadata reads the customer's own object: every digit of it is kept, and only
// space between its tokens is not.
func (b *body) metadata() (json.RawMessage, bool) {
	v, ok := b.take("metadata")
	if !ok {
		return nil, false
	}
	var out bytes.Buffer
	if err := json.Compact(&out, v); err != nil || out.Len() == 0 || out.Bytes()[0] != '{' {
		b.problem("metadata", "must be an object")
		return nil, false
	}
	if out.Len() > maxMetadata {
		b.problem("metadata", fmt.Sprintf("must have at most %d bytes as JSON", maxMetadata))
		return nil, false
	}
	if depth(out.Bytes()) > metadataDepth {
		b.problem("metadata", fmt.Sprintf("must be nested at most %d deep", metadataDepth))
		return nil, false
	}
	return out.Bytes(), true
}

// depth is how deep a valid JSON value is nested.
func depth(raw []byte) int {
	most, now, quoted := 0, 0, false
	for i := 0; i < len(raw); i++ {
		switch c := raw[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '{' || c == '[':
			now++
			most = max(most, now)
		case c == '}' || c == ']':
			now--
		}
	}
	return most
}

// phone reads a phone number.
func (b *body) phone(name string, required bool) (whatisup.PhoneNumber, bool) {
	s, ok := b.text(name, required)
	if !ok {
		return "", false
	}
	n, ok := whatisup.ParsePhoneNumber(s)
	if !ok {
		b.problem(name, "must be 7 to 15 digits with the country code, one leading + allowed")
	}
	return n, ok
}

// later reads a time that must lie ahead; null is as if it were missing.
func (b *body) later(name string, now time.Time) (time.Time, bool) {
	v, ok := b.take(name)
	if !ok || string(v) == "null" {
		return time.Time{}, false
	}
	var t whatisup.Time
	if err := json.Unmarshal(v, &t); err != nil {
		b.problem(name, "must be a time as in 2026-05-01T12:34:56.000Z")
		return time.Time{}, false
	}
	if !t.After(now) || t.Year() > 9999 {
		b.problem(name, "must be in the future")
		return time.Time{}, false
	}
	return t.Time, true
}

// done answers all problems, the fields nobody asked for among them.
func (b *body) done() error {
	var unknown []string
	for name := range b.fields {
		if !slices.Contains(b.used, name) {
			unknown = append(unknown, name)
		}
	}
	slices.Sort(unknown)
	for _, name := range unknown {
		b.problem(clip(name), "is not a field of this request")
	}
	if len(b.problems) > maxProblems {
		b.problems = b.problems[:maxProblems]
	}
	if len(b.problems) > 0 {
		return invalid(b.problems...)
	}
	return nil
}

const maxProblems = 20

// empty reads a body that has no fields.
func (c *call) empty() (*body, error) {
	b, err := c.readBody()
	if err != nil {
		return nil, err
	}
	return b, b.done()
}
