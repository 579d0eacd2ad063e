package input

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"whatisup/shared/whatisup"
)

// MaxBody is how many bytes a request may have.
const MaxBody = 256 << 10

const (
	maxDepth      = 64 // of a body; metadata has a limit of its own
	maxMetadata   = 16 << 10
	metadataDepth = 32
	maxProblems   = 20
)

// Problem is what is wrong with one field of a body or a query.
type Problem = whatisup.Problem

// Invalid is an invalid_request that names each field.
func Invalid(problems ...Problem) *whatisup.Error {
	message := "The request is not valid."
	if len(problems) > 0 {
		message = problems[0].Field + " " + problems[0].Problem
	}
	return whatisup.NewError(whatisup.CodeInvalidRequest, message).With("fields", problems)
}

// Printable says whether s is 1 to most printable ASCII characters.
func Printable(s string, most int) bool {
	if len(s) < 1 || len(s) > most {
		return false
	}
	for i := range len(s) {
		if s[i] < 0x20 || s[i] > 0x7e {
			return false
		}
	}
	return true
}

// Object is a JSON object that is read field by field: a whole body, or an
// object within one.
type Object struct {
	Raw    []byte // as it was sent
	Fields map[string]json.RawMessage

	path     string // "" for the body itself, else the object's own name and a dot
	used     []string
	inner    []*Object
	problems *[]Problem // of the body and of every object within it
}

// Parse takes a body apart.
func Parse(raw []byte) (*Object, error) {
	if !utf8.Valid(raw) {
		return nil, Invalid(Problem{Field: "body", Problem: "must be UTF-8"})
	}
	if problem := checkJSON(raw); problem != nil {
		return nil, Invalid(*problem)
	}
	o := &Object{Raw: raw, problems: new([]Problem)}
	if err := json.Unmarshal(raw, &o.Fields); err != nil || o.Fields == nil {
		return nil, Invalid(Problem{Field: "body", Problem: "must be a JSON object"})
	}
	return o, nil
}

// Canonical is a JSON value in a form that does not depend on the order of keys,
// on space, or on how characters are escaped and numbers are written.
func Canonical(raw []byte) ([]byte, error) {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return nil, err
	}
	return json.Marshal(plainNumbers(v))
}

// plainNumbers writes each number of a decoded JSON value in one way, in place.
func plainNumbers(v any) any {
	switch v := v.(type) {
	case json.Number:
		return plainNumber(v)
	case []any:
		for i := range v {
			v[i] = plainNumbers(v[i])
		}
	case map[string]any:
		for name := range v {
			v[name] = plainNumbers(v[name])
		}
	}
	return v
}

// plainNumber writes a number as a whole number without zeros at its end and a power of
// ten: 1.50 and 15e-1 are both 15e-1. It keeps every digit, as no float would. A power
// that no integer can hold is left as it is.
func plainNumber(n json.Number) json.Number {
	sign, text := "", strings.ToLower(string(n))
	if rest, negative := strings.CutPrefix(text, "-"); negative {
		sign, text = "-", rest
	}
	text, exponent, _ := strings.Cut(text, "e")
	whole, fraction, _ := strings.Cut(text, ".")
	digits := strings.TrimLeft(whole+fraction, "0")
	if digits == "" {
		return "0"
	}
	power := 0
	if exponent != "" {
		var err error
		if power, err = strconv.Atoi(exponent); err != nil || power > math.MaxInt32 || power < math.MinInt32 {
			return n
		}
	}
	short := strings.TrimRight(digits, "0")
	power += len(digits) - len(short) - len(fraction)
	return json.Number(sign + short + "e" + strconv.Itoa(power))
}

// checkJSON reads raw once, for what encoding/json lets pass: keys that occur
// twice, and depth.
func checkJSON(raw []byte) *Problem {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	type level struct {
		object bool
		name   string // of the key whose value is being read
		key    bool   // a key comes next
		seen   map[string]bool
	}
	var levels []level
	path := func(last string) string { // to a key of the innermost object
		var names []string
		for _, l := range levels[:len(levels)-1] {
			if l.object && l.name != "" {
				names = append(names, l.name)
			}
		}
		return strings.Join(append(names, last), ".")
	}
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) && len(levels) == 0 {
			return nil
		}
		if err != nil {
			return &Problem{Field: "body", Problem: "is not JSON"}
		}
		top := len(levels) - 1
		if top >= 0 && levels[top].object && levels[top].key {
			if name, ok := token.(string); ok {
				if levels[top].seen[name] {
					return &Problem{Field: path(clip(name)), Problem: "occurs twice"}
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
			return &Problem{Field: "body", Problem: fmt.Sprintf("is nested more than %d deep", maxDepth)}
		}
		if len(levels) == 0 {
			if d.More() { // also what is not JSON at all
				return &Problem{Field: "body", Problem: "must be one JSON value"}
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

// Problem notes a problem of one field.
func (o *Object) Problem(name, problem string) {
	*o.problems = append(*o.problems, Problem{Field: o.path + name, Problem: problem})
}

// Add notes problems that were found elsewhere, with their whole paths.
func (o *Object) Add(problems ...Problem) { *o.problems = append(*o.problems, problems...) }

// Has says whether a field is there.
func (o *Object) Has(name string) bool {
	_, ok := o.Fields[name]
	return ok
}

// Take reads a field as it was sent, and marks it as known.
func (o *Object) Take(name string) (json.RawMessage, bool) {
	o.used = append(o.used, name)
	v, ok := o.Fields[name]
	return v, ok
}

// Ignore marks fields as known without reading them.
func (o *Object) Ignore(names ...string) { o.used = append(o.used, names...) }

// need is Take for a field that may have to be there.
func (o *Object) need(name string, required bool) (json.RawMessage, bool) {
	v, ok := o.Take(name)
	if !ok && required {
		o.Problem(name, "is required")
	}
	return v, ok
}

// Object reads an object within this one; false if it is missing or is none. Its
// problems and its unknown fields are told with those of the whole body.
func (o *Object) Object(name string, required bool) (*Object, bool) {
	v, ok := o.need(name, required)
	if !ok {
		return nil, false
	}
	return o.within(name, v)
}

// Objects reads a list of objects; false if it is missing or is none.
func (o *Object) Objects(name string, required bool) ([]*Object, bool) {
	v, ok := o.need(name, required)
	if !ok {
		return nil, false
	}
	var list []json.RawMessage
	if err := json.Unmarshal(v, &list); err != nil || list == nil {
		o.Problem(name, "must be a list of objects")
		return nil, false
	}
	objects := make([]*Object, 0, len(list))
	for n, element := range list {
		inner, ok := o.within(fmt.Sprintf("%s[%d]", name, n), element)
		if !ok {
			return nil, false
		}
		objects = append(objects, inner)
	}
	return objects, true
}

func (o *Object) within(name string, raw json.RawMessage) (*Object, bool) {
	inner := &Object{Raw: raw, path: o.path + name + ".", problems: o.problems}
	if err := json.Unmarshal(raw, &inner.Fields); err != nil || inner.Fields == nil {
		o.Problem(name, "must be an object")
		return nil, false
	}
	o.inner = append(o.inner, inner)
	return inner, true
}

// Text reads a string; false if it is missing or is none.
func (o *Object) Text(name string, required bool) (string, bool) {
	v, ok := o.need(name, required)
	if !ok {
		return "", false
	}
	var s *string
	if err := json.Unmarshal(v, &s); err != nil || s == nil {
		o.Problem(name, "must be a string")
		return "", false
	}
	if !unicodeText(v) {
		o.Problem(name, "must be Unicode text")
		return "", false
	}
	return *s, true
}

// TextOrNull is Text for a field in which null is as if it were missing.
func (o *Object) TextOrNull(name string) (string, bool) {
	if string(o.Fields[name]) == "null" {
		o.Ignore(name)
		return "", false
	}
	return o.Text(name, false)
}

// unicodeText says whether no string in a valid JSON value has half a surrogate
// pair, for which encoding/json would put U+FFFD and other readers refuse the
// whole document.
func unicodeText(raw []byte) bool {
	unit := func(i int) (rune, bool) { // of the escape \uXXXX at i
		if i+6 > len(raw) || raw[i] != '\\' || raw[i+1] != 'u' {
			return 0, false
		}
		var r rune
		for _, c := range raw[i+2 : i+6] {
			r = r<<4 | rune(strings.IndexByte("0123456789abcdef", c|0x20))
		}
		return r, true
	}
	for i := 0; i < len(raw); i++ {
		if raw[i] != '\\' {
			continue
		}
		r, escaped := unit(i)
		switch {
		case !escaped:
			i++ // the escaped character
		case r >= 0xd800 && r < 0xdc00:
			low, ok := unit(i + 6)
			if !ok || low < 0xdc00 || low > 0xdfff {
				return false
			}
			i += 11
		case r >= 0xdc00 && r <= 0xdfff:
			return false
		default:
			i += 5
		}
	}
	return true
}

// Name reads the name of an instance or a key.
func (o *Object) Name(required bool) (string, bool) {
	s, ok := o.Text("name", required)
	if !ok {
		return "", false
	}
	name, problem := whatisup.ParseName(s)
	if problem != "" {
		o.Problem("name", problem)
		return "", false
	}
	return name, true
}

// Metadata reads the customer's own object: every digit of it is kept, and only
// space between its tokens is not.
func (o *Object) Metadata() (json.RawMessage, bool) {
	v, ok := o.Take("metadata")
	if !ok {
		return nil, false
	}
	var out bytes.Buffer
	if err := json.Compact(&out, v); err != nil || out.Len() == 0 || out.Bytes()[0] != '{' {
		o.Problem("metadata", "must be an object")
		return nil, false
	}
	if out.Len() > maxMetadata {
		o.Problem("metadata", fmt.Sprintf("must have at most %d bytes as JSON", maxMetadata))
		return nil, false
	}
	if depth(out.Bytes()) > metadataDepth {
		o.Problem("metadata", fmt.Sprintf("must be nested at most %d deep", metadataDepth))
		return nil, false
	}
	if !unicodeText(out.Bytes()) {
		o.Problem("metadata", "must be Unicode text")
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

// Phone reads a phone number.
func (o *Object) Phone(name string, required bool) (whatisup.PhoneNumber, bool) {
	s, ok := o.Text(name, required)
	if !ok {
		return "", false
	}
	n, ok := whatisup.ParsePhoneNumber(s)
	if !ok {
		o.Problem(name, "must be 7 to 15 digits with the country code, one leading + allowed")
	}
	return n, ok
}

// Later reads a time that must lie ahead; null is as if it were missing.
func (o *Object) Later(name string, now time.Time) (time.Time, bool) {
	v, ok := o.Take(name)
	if !ok || string(v) == "null" {
		return time.Time{}, false
	}
	var t whatisup.Time
	if err := json.Unmarshal(v, &t); err != nil {
		o.Problem(name, "must be a time as in 2026-05-01T12:34:56.000Z")
		return time.Time{}, false
	}
	if !t.After(now) || t.Year() > 9999 {
		o.Problem(name, "must be in the future")
		return time.Time{}, false
	}
	return t.Time, true
}

// Done returns all problems. Fields that nobody read are among them.
func (o *Object) Done() error {
	o.unknown()
	problems := *o.problems
	if len(problems) > maxProblems {
		problems = problems[:maxProblems]
	}
	if len(problems) > 0 {
		return Invalid(problems...)
	}
	return nil
}

func (o *Object) unknown() {
	var unknown []string
	for name := range o.Fields {
		if !slices.Contains(o.used, name) {
			unknown = append(unknown, name)
		}
	}
	slices.Sort(unknown)
	for _, name := range unknown {
		o.Problem(clip(name), "is not a field of this request")
	}
	for _, inner := range o.inner {
		inner.unknown()
	}
}
