package wire

import (
	"encoding/base64"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Type is what a member may hold.
type Type uint8

// The types of the services' models.
const (
	TString Type = iota
	TBlob
	TBoolean
	TInteger
	TLong
	TDouble
	TList
	TMap
	TStruct
	// TAny is left to the operation.
	TAny
)

var typeNames = [...]string{TString: "String", TBlob: "Blob", TBoolean: "Boolean", TInteger: "Integer", TLong: "Long", TDouble: "Double"}

// Shape is one node of an operation's model: its type and its constraints.
type Shape struct {
	Type    Type
	Members []Member // of a TStruct
	// Missing names what AWS has in the struct and this model has not. The
	// input itself needs none: whatever it does not know is refused there.
	Missing []string
	Elem    *Shape // of a TList or TMap
	// Class is the Java class that AWS names when it meets the wrong kind of
	// collection.
	Class string
	// Value says that a struct is an element of a list or map and not a
	// member; AWS refuses a scalar there in other words. For lists and maps it
	// says the same of a collection inside a collection.
	Value bool

	Required bool
	// First marks the name of a table in the operations on tables: it is
	// looked at before all constraints, and answered in words of its own.
	First bool
	// Min and Max bound a number's value or a length; HasMin says that Min
	// counts, and Max counts if it is not 0.
	Min, Max int
	HasMin   bool
	Pattern  *regexp.Regexp // anchored
	Regexp   string         // Pattern as AWS prints it
	Enum     []string
	// Free says that nothing below is constrained, so nobody needs to look.
	Free bool
	// Keys and Values constrain a map's keys and the lengths of its values.
	Keys, Values *Shape
}

// Member is a named member of a struct.
type Member struct {
	Name string
	*Shape
}

func (s *Shape) member(name string) *Shape {
	for i := range s.Members {
		if s.Members[i].Name == name {
			return s.Members[i].Shape
		}
	}
	return nil
}

// Check is both passes over an operation's input.
func (s *Shape) Check(operation string, n *Node) error {
	if n.Kind != Object {
		return Serialization("")
	}
	if err := s.types(operation, n); err != nil {
		return err
	}
	for _, m := range s.Members {
		if !m.First {
			continue
		}
		switch v := n.Get(m.Name); {
		case v.Kind == Null:
			return Validation("The parameter '%s' is required but was not present in the request", m.Name)
		case len(v.Text) < 3 || len(v.Text) > m.Max:
			return Validation("%s must be at least 3 characters long and at most %d characters long", m.Name, m.Max)
		}
	}
	var faults []string
	s.members(n, nil, &faults)
	switch len(faults) {
	case 0:
		return nil
	case 1:
		return Validation("1 validation error detected: %s", faults[0])
	}
	return Validation("%d validation errors detected: %s", len(faults), strings.Join(faults, "; "))
}

const castMessage = "class sun.reflect.generics.reflectiveObjects.ParameterizedTypeImpl cannot be cast to class java.lang.Class " +
	"(sun.reflect.generics.reflectiveObjects.ParameterizedTypeImpl and java.lang.Class are in module java.base of loader 'bootstrap')"

func (s *Shape) types(path string, n *Node) error {
	if n.Kind == Null || s.Type == TAny {
		return nil
	}
	switch s.Type {
	case TList:
		switch {
		case n.Kind == Object:
			return Serialization("Start of structure or map found where not expected")
		case n.Kind != Array && s.Value:
			return Serialization(castMessage)
		case n.Kind != Array:
			return Serialization("Unexpected field type")
		}
		for i := range n.List {
			if err := s.Elem.types(path, &n.List[i]); err != nil {
				return err
			}
		}
	case TMap:
		switch {
		case n.Kind == Array:
			return Serialization("Unrecognized collection type java.util.Map<java.lang.String, %s>", s.Class)
		case n.Kind != Object && s.Value:
			return Serialization(castMessage)
		case n.Kind != Object:
			return Serialization("Unexpected field type")
		}
		for i := range n.Fields {
			if err := s.Elem.types(path, &n.Fields[i].Value); err != nil {
				return err
			}
		}
	case TStruct:
		switch {
		case n.Kind == Array:
			return Serialization("Unrecognized collection type class %s", s.Class)
		case n.Kind != Object && s.Value:
			return Serialization("Unexpected value type in payload")
		case n.Kind != Object:
			return Serialization("Unexpected field type")
		}
		for i := range n.Fields {
			f := &n.Fields[i]
			m := s.member(f.Name)
			if m == nil {
				if f.Value.Kind == Null || s.Class != "" && !contains(s.Missing, f.Name) {
					continue // AWS ignores members that it does not know
				}
				return NotImplemented(path + "." + f.Name)
			}
			if err := m.types(path+"."+f.Name, &f.Value); err != nil {
				return err
			}
		}
	case TBlob:
		switch n.Kind {
		case Array:
			return Serialization("Unrecognized collection type class java.nio.ByteBuffer")
		case Object:
			return Serialization("Start of structure or map found where not expected")
		case String:
		default:
			return Serialization("only base-64-encoded strings are convertible to bytes")
		}
		return checkBase64(n.Text)
	default:
		return s.scalar(n)
	}
	return nil
}

func (s *Shape) scalar(n *Node) error {
	switch n.Kind {
	case Array:
		return Serialization("Unrecognized collection type class java.lang.%s", typeNames[s.Type])
	case Object:
		return Serialization("Start of structure or map found where not expected")
	}
	switch s.Type {
	case TString:
		if n.Kind != String {
			return Serialization("%s cannot be converted to String", token(n))
		}
	case TBoolean:
		switch n.Kind {
		case Number:
			return Serialization("%s cannot be converted to Boolean", token(n))
		case String:
			switch strings.ToUpper(n.Text) {
			case "TRUE", "1", "YES", "FALSE", "0", "NO":
			default:
				return Serialization("Unexpected token received from parser")
			}
		}
	default:
		if n.Kind != Number {
			return Serialization("%s cannot be converted to %s", token(n), typeNames[s.Type])
		}
	}
	return nil
}

func token(n *Node) string {
	switch n.Kind {
	case True:
		return "TRUE_VALUE"
	case False:
		return "FALSE_VALUE"
	case String:
		return "STRING_VALUE"
	}
	if f, err := strconv.ParseFloat(n.Text, 64); err == nil && f == float64(int64(f)) {
		return "NUMBER_VALUE"
	}
	return "DECIMAL_VALUE"
}

func checkBase64(s string) error {
	if len(s)%4 != 0 {
		return Serialization("Base64 encoded length is expected a multiple of 4 bytes but found: %d", len(s))
	}
	if strings.ContainsAny(s, "\r\n") {
		return Serialization("Invalid last non-pad Base64 character dectected")
	}
	if _, err := base64.StdEncoding.Strict().DecodeString(s); err != nil {
		return Serialization("Invalid last non-pad Base64 character dectected")
	}
	return nil
}

// members gathers the broken constraints below a struct, in the model's order.
func (s *Shape) members(n *Node, at *place, faults *[]string) {
	for i := range s.Members {
		m := &s.Members[i]
		m.constraints(n.Get(m.Name), &place{above: at, name: m.Name}, faults)
	}
}

// place is where a value stands in the input, spelt out only if something is
// wrong with it.
type place struct {
	above   *place
	name    string
	index   int
	element bool
}

func (p *place) String() string {
	switch {
	case p == nil:
		return ""
	case p.element && p.name != "":
		return p.above.String() + "." + p.name + ".member"
	case p.element:
		return p.above.String() + "." + strconv.Itoa(p.index) + ".member"
	case p.above == nil:
		return lowerFirst(p.name)
	}
	return p.above.String() + "." + lowerFirst(p.name)
}

func (s *Shape) constraints(n *Node, at *place, faults *[]string) {
	fail := func(format string, args ...any) {
		if len(*faults) < 10 {
			*faults = append(*faults, fmt.Sprintf("Value %s at '%s' failed to satisfy constraint: ", quoted(n), at)+fmt.Sprintf(format, args...))
		}
	}
	if n.Kind == Null {
		if s.Required {
			fail("Member must not be null")
		}
		return
	}
	if s.Enum != nil && !contains(s.Enum, n.Text) {
		fail("Member must satisfy enum value set: [%s]", strings.Join(s.Enum, ", "))
	}
	if s.Pattern != nil && !s.Pattern.MatchString(n.Text) {
		fail("Member must satisfy regular expression pattern: %s", s.Regexp)
	}
	what, size := "length", 0
	switch s.Type {
	case TInteger, TLong, TDouble:
		what, size = "value", n.int()
	case TList:
		size = len(n.List)
	case TMap:
		size = len(n.Fields)
	case TBlob:
		size = base64.StdEncoding.DecodedLen(len(n.Text)) - strings.Count(n.Text, "=")
	default:
		size = utf8.RuneCountInString(n.Text)
	}
	if what == "value" {
		if s.HasMin && size < s.Min {
			fail("Member must have value greater than or equal to %d", s.Min)
		}
		if s.Max != 0 && size > s.Max {
			fail("Member must have value less than or equal to %d", s.Max)
		}
	} else {
		if s.HasMin && size < s.Min {
			fail("Member must have length greater than or equal to %d", s.Min)
		}
		if s.Max != 0 && size > s.Max {
			fail("Member must have length less than or equal to %d", s.Max)
		}
	}
	switch s.Type {
	case TStruct:
		s.members(n, at, faults)
	case TList:
		for i := range n.List {
			if s.Elem.Free {
				break
			}
			s.Elem.constraints(&n.List[i], &place{above: at, index: i + 1, element: true}, faults)
		}
	case TMap:
		if s.Keys != nil {
			for _, f := range n.Fields {
				key := Node{Kind: String, Text: f.Name}
				var broken []string
				s.Keys.constraints(&key, nil, &broken)
				if len(broken) > 0 {
					fail("Map keys must satisfy constraint: [%s]", s.Keys.describe())
				}
			}
		}
		if s.Values != nil {
			for _, f := range n.Fields {
				if l := len(f.Value.List); l > s.Values.Max || l < s.Values.Min {
					fail("Map value must satisfy constraint: [%s]", s.Values.describe())
				}
			}
		}
		for i := range n.Fields {
			if s.Elem.Free {
				break
			}
			s.Elem.constraints(&n.Fields[i].Value, &place{above: at, name: n.Fields[i].Name, element: true}, faults)
		}
	}
}

func (s *Shape) describe() string {
	var d []string
	if s.Max != 0 {
		d = append(d, fmt.Sprintf("Member must have length less than or equal to %d", s.Max))
	}
	if s.HasMin {
		d = append(d, fmt.Sprintf("Member must have length greater than or equal to %d", s.Min))
	}
	if s.Regexp != "" {
		d = append(d, "Member must satisfy regular expression pattern: "+s.Regexp)
	}
	return strings.Join(d, ", ")
}

func contains(set []string, s string) bool {
	for _, e := range set {
		if e == s {
			return true
		}
	}
	return false
}

func lowerFirst(s string) string { return strings.ToLower(s[:1]) + s[1:] }

func quoted(n *Node) string {
	if n.Kind == Null {
		return "null"
	}
	return "'" + Text(n) + "'"
}

// Text prints a value as AWS does in its messages.
func Text(n *Node) string {
	switch n.Kind {
	case String, Number:
		return n.Text
	case Array:
		parts := make([]string, len(n.List))
		for i := range n.List {
			parts[i] = Text(&n.List[i])
		}
		return "[" + strings.Join(parts, ", ") + "]"
	case Null:
		return "null"
	}
	return string(n.Append(nil))
}
