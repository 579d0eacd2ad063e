package expression

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"whatisup/local/aws/internal/attribute"
	"whatisup/local/aws/internal/wire"
)

// Scope is the names and values that the expressions of one request refer to.
type Scope struct {
	names        map[string]string
	values       map[string]attribute.Value
	unusedNames  []string
	unusedValues []string
}

// NewScope reads ExpressionAttributeNames and ExpressionAttributeValues, either
// of which may be null.
func NewScope(names, values *wire.Node) (*Scope, error) {
	s := &Scope{}
	if names.Kind != wire.Null {
		if len(names.Fields) == 0 {
			return nil, errors.New("ExpressionAttributeNames must not be empty")
		}
		s.names = make(map[string]string, len(names.Fields))
		for i := range names.Fields {
			f := &names.Fields[i]
			if !isPlaceholder(f.Name, '#') {
				return nil, fmt.Errorf(`ExpressionAttributeNames contains invalid key: Syntax error; key: "%s"`, f.Name)
			}
			if err := attribute.CheckName(f.Value.Text); err != nil {
				return nil, fmt.Errorf("ExpressionAttributeNames contains invalid value: %w for key %s", err, f.Name)
			}
			if _, again := s.names[f.Name]; !again {
				s.unusedNames = append(s.unusedNames, f.Name)
			}
			s.names[f.Name] = f.Value.Text
		}
	}
	if values.Kind != wire.Null {
		if len(values.Fields) == 0 {
			return nil, errors.New("ExpressionAttributeValues must not be empty")
		}
		s.values = make(map[string]attribute.Value, len(values.Fields))
		for i := range values.Fields {
			f := &values.Fields[i]
			if !isPlaceholder(f.Name, ':') {
				return nil, fmt.Errorf(`ExpressionAttributeValues contains invalid key: Syntax error; key: "%s"`, f.Name)
			}
			if _, again := s.values[f.Name]; !again {
				s.unusedValues = append(s.unusedValues, f.Name)
			}
			s.values[f.Name] = attribute.Value{}
		}
		for i := range values.Fields {
			f := &values.Fields[i]
			v, err := attribute.Parse(&f.Value)
			if err != nil {
				return nil, fmt.Errorf("ExpressionAttributeValues contains invalid value: %w for key %s", err, f.Name)
			}
			s.values[f.Name] = v
		}
	}
	return s, nil
}

func isPlaceholder(s string, first byte) bool {
	if len(s) < 2 || s[0] != first {
		return false
	}
	for _, c := range []byte(s[1:]) {
		if !isWord(c) {
			return false
		}
	}
	return true
}

// Unused returns an error if a name or a value was never referred to.
func (s *Scope) Unused() error {
	if len(s.unusedNames) > 0 {
		return fmt.Errorf("Value provided in ExpressionAttributeNames unused in expressions: keys: {%s}", strings.Join(s.unusedNames, ", "))
	}
	if len(s.unusedValues) > 0 {
		return fmt.Errorf("Value provided in ExpressionAttributeValues unused in expressions: keys: {%s}", strings.Join(s.unusedValues, ", "))
	}
	return nil
}

func (s *Scope) name(key string) (string, error) {
	name := s.names[key]
	if name == "" {
		return "", fmt.Errorf("An expression attribute name used in the document path is not defined; attribute name: %s", key)
	}
	s.unusedNames = drop(s.unusedNames, key)
	return name, nil
}

func (s *Scope) value(key string) (attribute.Value, error) {
	v, ok := s.values[key]
	if !ok {
		return v, fmt.Errorf("An expression attribute value used in expression is not defined; attribute value: %s", key)
	}
	s.unusedValues = drop(s.unusedValues, key)
	return v, nil
}

func drop(list []string, s string) []string {
	if i := slices.Index(list, s); i >= 0 {
		return slices.Delete(list, i, i+1)
	}
	return list
}
