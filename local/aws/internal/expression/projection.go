package expression

import (
	"maps"
	"slices"

	"whatisup/local/aws/internal/attribute"
)

// Projection is a set of document paths that do not overlap.
type Projection struct {
	root   *branch
	nested map[string]bool
}

// branch is where paths part: by name or by index. A branch without children
// takes everything below it.
type branch struct {
	names   map[string]*branch
	indexes map[int]*branch
}

// ParseProjection parses a ProjectionExpression.
func ParseProjection(text string, scope *Scope) (*Projection, error) {
	p := newParser(text, scope)
	p.update = true // reserved words rank as in updates
	var paths []Path
	err := p.parse(func() {
		for {
			path := p.path()
			p.addPath(&paths, path)
			if !p.accept(",") {
				return
			}
		}
	})
	if err != nil {
		return nil, err
	}
	return NewProjection(paths), nil
}

// addPath keeps a path and holds it to those before it.
func (p *parser) addPath(paths *[]Path, path Path) {
	for _, other := range *paths {
		overlap, conflict := clash(other, path)
		if overlap != nil {
			p.fault(pathOverlap, overlap)
		}
		if conflict != nil {
			p.fault(pathConflict, conflict)
		}
	}
	*paths = append(*paths, path)
}

// NewProjection builds a projection from paths.
func NewProjection(paths []Path) *Projection {
	pr := &Projection{root: &branch{}, nested: map[string]bool{}}
	for _, path := range paths {
		if len(path) > 1 {
			pr.nested[path.Top()] = true
		}
		b := pr.root
		for _, s := range path {
			b = b.child(s)
		}
	}
	return pr
}

// NestedTops are the top attributes of the paths that go deeper than one step;
// none for a nil projection.
func (pr *Projection) NestedTops() map[string]bool {
	if pr == nil {
		return nil
	}
	return pr.nested
}

// Tops lists the attributes that the paths begin with.
func (pr *Projection) Tops() []string { return slices.Sorted(maps.Keys(pr.root.names)) }

func (b *branch) child(s Step) *branch {
	if s.IsIndex {
		if b.indexes == nil {
			b.indexes = map[int]*branch{}
		}
		if b.indexes[s.Index] == nil {
			b.indexes[s.Index] = &branch{}
		}
		return b.indexes[s.Index]
	}
	if b.names == nil {
		b.names = map[string]*branch{}
	}
	if b.names[s.Name] == nil {
		b.names[s.Name] = &branch{}
	}
	return b.names[s.Name]
}

// Apply returns the part of the item that the projection names.
func (pr *Projection) Apply(item attribute.Item) attribute.Item {
	v, ok := pr.root.pick(attribute.Value{Type: attribute.M, Map: item})
	if !ok {
		return attribute.Item{}
	}
	return v.Map
}

func (b *branch) pick(v attribute.Value) (attribute.Value, bool) {
	switch {
	case b.names == nil && b.indexes == nil:
		return v, true
	case b.names != nil && v.Type == attribute.M:
		out := attribute.Value{Type: attribute.M, Map: make(attribute.Item, len(b.names))}
		for name, below := range b.names {
			if c, ok := v.Map[name]; ok {
				if c, ok = below.pick(c); ok {
					out.Map[name] = c
				}
			}
		}
		return out, len(out.Map) > 0
	case b.indexes != nil && v.Type == attribute.L:
		out := attribute.Value{Type: attribute.L}
		for _, i := range slices.Sorted(maps.Keys(b.indexes)) {
			if i < len(v.List) {
				if c, ok := b.indexes[i].pick(v.List[i]); ok {
					out.List = append(out.List, c)
				}
			}
		}
		return out, len(out.List) > 0
	}
	return v, false
}
