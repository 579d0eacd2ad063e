package attribute

import (
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"whatisup/local/aws/internal/wire"
)

// Type is the type of an attribute value.
type Type uint8

// The ten types; None is the type of what is not there.
const (
	None Type = iota
	S
	N
	B
	SS
	NS
	BS
	M
	L
	NULL
	BOOL
)

var typeNames = [...]string{"", "S", "N", "B", "SS", "NS", "BS", "M", "L", "NULL", "BOOL"}

func (t Type) String() string { return typeNames[t] }

// ParseType reads a type's name; it returns None for any other word.
func ParseType(name string) Type {
	return Type(max(0, slices.Index(typeNames[1:], name)+1))
}

// Value is one attribute value. Which field counts follows from the type; a
// number is kept as its canonical text, binary as raw bytes.
type Value struct {
	Type Type
	Str  string // S, N, B
	Bool bool
	Set  []string // SS, NS, BS
	List []Value
	Map  Item
}

// Item is a set of named attributes.
type Item map[string]Value

// Number returns the value of an N.
func (v Value) Number() Number {
	n, _ := ParseNumber(v.Str) // canonical: it was parsed before
	return n
}

// NumberValue wraps n.
func NumberValue(n Number) Value { return Value{Type: N, Str: n.String()} }

// MaxDepth is how deep documents may be nested.
const MaxDepth = 32

// Parse reads one value in DynamoDB's JSON, whose shape has been checked
// already. The error is the text of DynamoDB's ValidationException.
func Parse(n *wire.Node) (Value, error) { return parse(n, 0) }

var (
	errEmpty   = errors.New("Supplied AttributeValue is empty, must contain exactly one of the supported datatypes")
	errSeveral = errors.New("Supplied AttributeValue has more than one datatypes set, must contain exactly one of the supported datatypes")
	errDepth   = errors.New("Nesting Levels have exceeded supported limits: Attributes in the item have nested levels beyond supported limit")
)

// maxName is how long an attribute's name may be.
const maxName = 64<<10 - 1

// CheckName refuses what can't be the name of an attribute, at any depth.
func CheckName(name string) error {
	switch {
	case name == "":
		return errNoName
	case len(name) > maxName:
		return errLongName
	}
	return nil
}

var (
	errNoName   = errors.New("Empty attribute name")
	errLongName = errors.New("Attribute name is too large, must be less than 65536 bytes")
)

func invalid(format string, args ...any) error {
	return fmt.Errorf("One or more parameter values were invalid: "+format, args...)
}

func parse(n *wire.Node, depth int) (Value, error) {
	if depth >= MaxDepth {
		return Value{}, errDepth
	}
	var v Value
	found := 0
	for i := range n.Fields {
		f := &n.Fields[i]
		if f.Value.Kind == wire.Null || ParseType(f.Name) == None {
			continue // members that AWS does not know it does not see
		}
		found++
		var err error
		if v, err = parseTyped(f.Name, &f.Value, depth); err != nil {
			return Value{}, err
		}
	}
	switch {
	case found == 0:
		return Value{}, errEmpty
	case found > 1:
		return Value{}, errSeveral
	}
	return v, nil
}

func parseTyped(name string, n *wire.Node, depth int) (Value, error) {
	v := Value{Type: ParseType(name)}
	switch v.Type {
	case S:
		v.Str = n.Text
	case N:
		num, err := parseNumber(n.Text)
		if err != nil {
			return v, err
		}
		v.Str = num
	case B:
		v.Str = unbase64(n.Text)
	case BOOL:
		v.Bool = truth(n)
	case NULL:
		if !truth(n) {
			return v, invalid("Null attribute value types must have the value of true")
		}
	case SS, NS, BS:
		return parseSet(v.Type, n)
	case L:
		v.List = make([]Value, len(n.List))
		for i := range n.List {
			var err error
			if v.List[i], err = parse(&n.List[i], depth+1); err != nil {
				return v, err
			}
		}
	case M:
		v.Map = make(Item, len(n.Fields))
		for i := range n.Fields {
			name := n.Fields[i].Name
			if err := CheckName(name); err != nil {
				return v, err
			}
			m, err := parse(&n.Fields[i].Value, depth+1)
			if err != nil {
				return v, err
			}
			v.Map[name] = m
		}
	}
	return v, nil
}

func parseNumber(s string) (string, error) {
	if s == "" {
		return "", errNotNumber
	}
	// Most numbers are short whole ones and canonical as they stand.
	if len(s) <= 18 && s[0] >= '1' && s[0] <= '9' && allDigits(s) {
		return s, nil
	}
	num, err := ParseNumber(s)
	if errors.Is(err, errNotNumber) {
		return "", fmt.Errorf("%w: %s", errNotNumber, s)
	}
	return num.String(), err
}

func truth(n *wire.Node) bool {
	return n.Kind == wire.True || n.Kind == wire.String && (strings.EqualFold(n.Text, "true") || n.Text == "1" || strings.EqualFold(n.Text, "yes"))
}

func unbase64(s string) string {
	b, _ := base64.StdEncoding.DecodeString(s) // checked with the shape
	return string(b)
}

func parseSet(t Type, n *wire.Node) (Value, error) {
	v := Value{Type: t, Set: make([]string, 0, len(n.List))}
	if len(n.List) == 0 {
		switch t {
		case SS:
			return v, invalid("An string set  may not be empty")
		case NS:
			return v, invalid("An number set  may not be empty")
		}
		return v, invalid("Binary sets should not be empty")
	}
	for i := range n.List {
		e := n.List[i].Text
		switch t {
		case NS:
			num, err := parseNumber(e)
			if err != nil {
				return v, err
			}
			e = num
		case BS:
			e = unbase64(e)
		}
		v.Set = append(v.Set, e)
	}
	if hasDuplicate(v.Set) {
		switch t {
		case SS:
			return v, invalid("Input collection %s contains duplicates.", wire.Text(n))
		case NS:
			return v, errors.New("Input collection contains duplicates")
		}
		return v, invalid("Input collection %sof type BS contains duplicates.", wire.Text(n))
	}
	return v, nil
}

func hasDuplicate(set []string) bool {
	if len(set) < 16 {
		for i, e := range set {
			if slices.Contains(set[:i], e) {
				return true
			}
		}
		return false
	}
	seen := make(map[string]bool, len(set))
	for _, e := range set {
		if seen[e] {
			return true
		}
		seen[e] = true
	}
	return false
}

// ParseItem reads a map of values.
func ParseItem(n *wire.Node) (Item, error) {
	item := make(Item, len(n.Fields))
	for i := range n.Fields {
		if err := CheckName(n.Fields[i].Name); err != nil {
			return nil, err
		}
		v, err := parse(&n.Fields[i].Value, 0)
		if err != nil {
			return nil, err
		}
		item[n.Fields[i].Name] = v
	}
	return item, nil
}

// Decode reads what Item.Append wrote.
func Decode(b []byte) (Item, error) {
	n, err := wire.Parse(string(b))
	if err != nil {
		return nil, fmt.Errorf("stored item: %w", err)
	}
	return decodeItem(&n), nil
}

func decodeItem(n *wire.Node) Item {
	item := make(Item, len(n.Fields))
	for i := range n.Fields {
		item[n.Fields[i].Name] = decode(&n.Fields[i].Value)
	}
	return item
}

// decode trusts its input: it was checked before it was stored.
func decode(n *wire.Node) Value {
	f := &n.Fields[0]
	v := Value{Type: ParseType(f.Name)}
	switch v.Type {
	case S, N:
		v.Str = f.Value.Text
	case B:
		v.Str = unbase64(f.Value.Text)
	case BOOL:
		v.Bool = f.Value.Kind == wire.True
	case SS, NS, BS:
		v.Set = make([]string, len(f.Value.List))
		for i := range f.Value.List {
			v.Set[i] = f.Value.List[i].Text
			if v.Type == BS {
				v.Set[i] = unbase64(v.Set[i])
			}
		}
	case L:
		v.List = make([]Value, len(f.Value.List))
		for i := range f.Value.List {
			v.List[i] = decode(&f.Value.List[i])
		}
	case M:
		v.Map = decodeItem(&f.Value)
	}
	return v
}

// Append appends the item as DynamoDB's JSON, its attributes in the order of
// their names.
func (item Item) Append(dst []byte) []byte {
	dst = append(dst, '{')
	for i, name := range item.names() {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = wire.AppendString(dst, name)
		dst = append(dst, ':')
		dst = item[name].Append(dst)
	}
	return append(dst, '}')
}

func (item Item) names() []string {
	names := make([]string, 0, len(item))
	for name := range item {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// Append appends the value as DynamoDB's JSON.
func (v Value) Append(dst []byte) []byte {
	dst = append(dst, '{', '"')
	dst = append(dst, v.Type.String()...)
	dst = append(dst, '"', ':')
	switch v.Type {
	case S, N, B:
		dst = v.appendScalar(dst, v.Str)
	case BOOL:
		dst = strconv.AppendBool(dst, v.Bool)
	case NULL:
		dst = append(dst, "true"...)
	case SS, NS, BS:
		dst = append(dst, '[')
		for i, e := range v.Set {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = v.appendScalar(dst, e)
		}
		dst = append(dst, ']')
	case L:
		dst = append(dst, '[')
		for i := range v.List {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = v.List[i].Append(dst)
		}
		dst = append(dst, ']')
	case M:
		dst = v.Map.Append(dst)
	}
	return append(dst, '}')
}

func (v Value) appendScalar(dst []byte, s string) []byte {
	switch v.Type {
	case B, BS:
		dst = append(dst, '"')
		dst = base64.StdEncoding.AppendEncode(dst, []byte(s))
		return append(dst, '"')
	case N, NS:
		dst = append(dst, '"')
		dst = append(dst, s...)
		return append(dst, '"')
	}
	return wire.AppendString(dst, s)
}

// Equal compares by value; sets without regard to order.
func (v Value) Equal(w Value) bool {
	if v.Type != w.Type {
		return false
	}
	switch v.Type {
	case S, N, B:
		return v.Str == w.Str
	case BOOL:
		return v.Bool == w.Bool
	case SS, NS, BS:
		if len(v.Set) != len(w.Set) {
			return false
		}
		for _, e := range v.Set {
			if !slices.Contains(w.Set, e) {
				return false
			}
		}
		return true
	case L:
		return slices.EqualFunc(v.List, w.List, Value.Equal)
	case M:
		if len(v.Map) != len(w.Map) {
			return false
		}
		for name, e := range v.Map {
			if o, ok := w.Map[name]; !ok || !e.Equal(o) {
				return false
			}
		}
		return true
	}
	return v.Type == NULL
}

// Compare orders two values of one of the types S, N and B; ok is false for
// any others.
func (v Value) Compare(w Value) (c int, ok bool) {
	if v.Type != w.Type {
		return 0, false
	}
	switch v.Type {
	case S, B:
		return strings.Compare(v.Str, w.Str), true
	case N:
		return v.Number().Compare(w.Number()), true
	}
	return 0, false
}

// Size is what the value weighs in an item.
func (v Value) Size() int {
	switch v.Type {
	case S, B:
		return len(v.Str)
	case N:
		return v.Number().Size()
	case SS, BS:
		size := 0
		for _, e := range v.Set {
			size += len(e)
		}
		return size
	case NS:
		size := 0
		for _, e := range v.Set {
			n, _ := ParseNumber(e)
			size += n.Size()
		}
		return size
	case L:
		size := 3
		for i := range v.List {
			size += 1 + v.List[i].Size()
		}
		return size
	case M:
		return 3 + len(v.Map) + v.Map.Size()
	}
	return 1
}

// Size is what the item weighs: its names and its values.
func (item Item) Size() int {
	size := 0
	for name, v := range item {
		size += len(name) + v.Size()
	}
	return size
}

// RuneLen is the length of a string as size() counts it.
func RuneLen(s string) int { return utf8.RuneCountInString(s) }

// AppendKey appends the bytes of an S, N or B so that they order as the values
// do and end by themselves, whatever follows.
func (v Value) AppendKey(dst []byte) []byte {
	if v.Type == N {
		return v.Number().appendKey(dst)
	}
	for _, c := range []byte(v.Str) {
		if c == 0 {
			dst = append(dst, 0, 255)
			continue
		}
		dst = append(dst, c)
	}
	return append(dst, 0, 1)
}

// AppendKeyPrefix appends the bytes that the keys of all values beginning with
// v (an S or a B) begin with.
func (v Value) AppendKeyPrefix(dst []byte) []byte {
	dst = v.AppendKey(dst)
	return dst[:len(dst)-2]
}

// Int wraps a whole number.
func Int(i int) Value {
	n, _ := ParseNumber(strconv.Itoa(i))
	return NumberValue(n)
}
