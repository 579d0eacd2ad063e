package expression

import (
	"fmt"
	"strconv"
	"strings"

	"whatisup/local/aws/internal/attribute"
)

// Step is one step of a document path: into a map by name, or into a list.
type Step struct {
	Name  string
	Index int // counts if Name is "" and IsIndex
	// IsIndex tells an index from the (legal) empty name.
	IsIndex bool
}

// Path is a document path; its first step is always a name.
type Path []Step

// String prints the path as DynamoDB does in its messages.
func (p Path) String() string {
	parts := make([]string, len(p))
	for i, s := range p {
		parts[i] = s.Name
		if s.IsIndex {
			parts[i] = "[" + strconv.Itoa(s.Index) + "]"
		}
	}
	return "[" + strings.Join(parts, ", ") + "]"
}

// Top is the attribute that the path begins with.
func (p Path) Top() string { return p[0].Name }

func (p Path) equal(q Path) bool {
	if len(p) != len(q) {
		return false
	}
	for i := range p {
		if p[i] != q[i] {
			return false
		}
	}
	return true
}

// lookup follows the path.
func (p Path) lookup(item attribute.Item) (attribute.Value, bool) {
	v, ok := item[p[0].Name]
	for _, s := range p[1:] {
		if !ok {
			break
		}
		switch {
		case s.IsIndex && v.Type == attribute.L && s.Index < len(v.List):
			v = v.List[s.Index]
		case !s.IsIndex && v.Type == attribute.M:
			v, ok = v.Map[s.Name]
		default:
			ok = false
		}
	}
	return v, ok
}

// clash says how two paths of one expression exclude each other, if they do.
func clash(p, q Path) (overlap, conflict error) {
	for i := range min(len(p), len(q)) {
		if p[i].IsIndex != q[i].IsIndex {
			return nil, fmt.Errorf("Two document paths conflict with each other; must remove or rewrite one of these paths; path one: %s, path two: %s", p, q)
		}
		if p[i] != q[i] {
			return nil, nil
		}
	}
	return fmt.Errorf("Two document paths overlap with each other; must remove or rewrite one of these paths; path one: %s, path two: %s", p, q), nil
}
