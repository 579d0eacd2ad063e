package template

import (
	"fmt"
	"maps"
	"slices"

	"go.yaml.in/yaml/v3"
)

// Template is a template as written: intrinsic functions stand in it in their
// long form, as maps with one key ("Ref", "Fn::Sub", …).
type Template struct {
	Parameters map[string]Parameter
	Rules      map[string]any
	Conditions map[string]any
	Resources  map[string]Resource
	Outputs    map[string]any
	globals    map[string]any // of functions
}

// Parameter is what a deployment may set.
type Parameter struct {
	Type    string
	Default any // nil: must be given
}

// Resource is one resource by its logical name.
type Resource struct {
	Name       string
	Type       string
	Condition  string // empty: always made
	Attributes map[string]any
	Properties map[string]any
}

// Parse reads a template.
func Parse(text []byte) (*Template, error) {
	var root yaml.Node
	if err := yaml.Unmarshal(text, &root); err != nil {
		return nil, fmt.Errorf("template: %w", err)
	}
	if len(root.Content) != 1 {
		return nil, fmt.Errorf("template: empty")
	}
	value, err := plain(root.Content[0])
	if err != nil {
		return nil, err
	}
	top := object(value)
	t := &Template{
		Parameters: make(map[string]Parameter),
		Rules:      object(top["Rules"]),
		Conditions: object(top["Conditions"]),
		Resources:  make(map[string]Resource),
		Outputs:    object(top["Outputs"]),
		globals:    object(object(top["Globals"])["Function"]),
	}
	for name, p := range object(top["Parameters"]) {
		t.Parameters[name] = Parameter{Type: text1(object(p)["Type"]), Default: object(p)["Default"]}
	}
	for name, r := range object(top["Resources"]) {
		attributes := object(r)
		t.Resources[name] = Resource{
			Name:       name,
			Type:       text1(attributes["Type"]),
			Condition:  text1(attributes["Condition"]),
			Attributes: attributes,
			Properties: object(attributes["Properties"]),
		}
	}
	if len(t.Resources) == 0 {
		return nil, fmt.Errorf("template: no resources")
	}
	return t, nil
}

// OfType lists the resources of a type, by name.
func (t *Template) OfType(kind string) []Resource {
	var found []Resource
	for _, name := range slices.Sorted(maps.Keys(t.Resources)) {
		if t.Resources[name].Type == kind {
			found = append(found, t.Resources[name])
		}
	}
	return found
}

// plain turns a node into maps, slices, strings, ints, floats and bools, with
// the short forms of intrinsic functions written out.
func plain(n *yaml.Node) (any, error) {
	var value any
	switch n.Kind {
	case yaml.MappingNode:
		m := make(map[string]any, len(n.Content)/2)
		for i := 0; i < len(n.Content); i += 2 {
			key := n.Content[i].Value
			if _, twice := m[key]; twice {
				return nil, fmt.Errorf("template: line %d: %s stands twice", n.Content[i].Line, key)
			}
			v, err := plain(n.Content[i+1])
			if err != nil {
				return nil, err
			}
			m[key] = v
		}
		value = m
	case yaml.SequenceNode:
		list := make([]any, 0, len(n.Content))
		for _, c := range n.Content {
			v, err := plain(c)
			if err != nil {
				return nil, err
			}
			list = append(list, v)
		}
		value = list
	case yaml.ScalarNode:
		if isShort(n.Tag) {
			value = n.Value
		} else if err := n.Decode(&value); err != nil {
			return nil, fmt.Errorf("template: line %d: %w", n.Line, err)
		}
	default:
		// CloudFormation refuses aliases, so they must not get this far either.
		return nil, fmt.Errorf("template: line %d: aliases are not part of a template", n.Line)
	}
	if !isShort(n.Tag) {
		return value, nil
	}
	switch name := n.Tag[1:]; name {
	case "Ref", "Condition":
		return map[string]any{name: value}, nil
	case "GetAtt":
		return map[string]any{"Fn::GetAtt": value}, nil
	default:
		return map[string]any{"Fn::" + name: value}, nil
	}
}

func isShort(tag string) bool { return len(tag) > 1 && tag[0] == '!' && tag[1] != '!' }

func object(v any) map[string]any {
	m, _ := v.(map[string]any)
	return m
}

func text1(v any) string {
	s, _ := v.(string)
	return s
}
