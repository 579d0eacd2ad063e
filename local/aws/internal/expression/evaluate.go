package expression

import (
	"slices"
	"strings"

	"whatisup/local/aws/internal/attribute"
)

// Holds evaluates the condition; a missing item is an empty one.
func (c *Condition) Holds(item attribute.Item) bool { return c.root.holds(item) }

func (n *node) holds(item attribute.Item) bool {
	switch n.op {
	case "and":
		return n.args[0].holds(item) && n.args[1].holds(item)
	case "or":
		return n.args[0].holds(item) || n.args[1].holds(item)
	case "not":
		return !n.args[0].holds(item)
	}
	first, ok := n.args[0].resolve(item)
	switch n.op {
	case "attribute_exists":
		return ok
	case "attribute_not_exists":
		return !ok
	case "in":
		return ok && slices.ContainsFunc(n.args[1:], func(a *node) bool {
			v, there := a.resolve(item)
			return there && first.Equal(v)
		})
	case "between":
		return ordered(item, n.args[1], ok, first, func(c int) bool { return c >= 0 }) &&
			ordered(item, n.args[2], ok, first, func(c int) bool { return c <= 0 })
	case "=", "<>":
		second, there := n.args[1].resolve(item)
		return (ok && there && first.Equal(second)) == (n.op == "=")
	case "<":
		return ordered(item, n.args[1], ok, first, func(c int) bool { return c < 0 })
	case "<=":
		return ordered(item, n.args[1], ok, first, func(c int) bool { return c <= 0 })
	case ">":
		return ordered(item, n.args[1], ok, first, func(c int) bool { return c > 0 })
	case ">=":
		return ordered(item, n.args[1], ok, first, func(c int) bool { return c >= 0 })
	}
	second, there := n.args[1].resolve(item)
	if !ok || !there {
		return false
	}
	switch n.op {
	case "attribute_type":
		return second.Type == attribute.S && first.Type.String() == second.Str
	case "begins_with":
		return first.Type == second.Type && (first.Type == attribute.S || first.Type == attribute.B) && strings.HasPrefix(first.Str, second.Str)
	case "contains":
		return includes(first, second)
	}
	return false
}

func ordered(item attribute.Item, arg *node, ok bool, first attribute.Value, want func(int) bool) bool {
	second, there := arg.resolve(item)
	if !ok || !there {
		return false
	}
	c, comparable := first.Compare(second)
	return comparable && want(c)
}

func (n *node) resolve(item attribute.Item) (attribute.Value, bool) {
	switch n.op {
	case "value":
		return n.value, true
	case "path":
		return n.path.lookup(item)
	case "size":
		v, ok := n.args[0].resolve(item)
		if !ok {
			return v, false
		}
		size := 0
		switch v.Type {
		case attribute.S:
			size = attribute.RuneLen(v.Str)
		case attribute.B:
			size = len(v.Str)
		case attribute.SS, attribute.NS, attribute.BS:
			size = len(v.Set)
		case attribute.L:
			size = len(v.List)
		case attribute.M:
			size = len(v.Map)
		default:
			return v, false
		}
		return attribute.Int(size), true
	}
	return attribute.Value{}, false
}

func includes(v, part attribute.Value) bool {
	switch v.Type {
	case attribute.S, attribute.B:
		return v.Type == part.Type && strings.Contains(v.Str, part.Str)
	case attribute.SS:
		return part.Type == attribute.S && slices.Contains(v.Set, part.Str)
	case attribute.NS:
		return part.Type == attribute.N && slices.Contains(v.Set, part.Str)
	case attribute.BS:
		return part.Type == attribute.B && slices.Contains(v.Set, part.Str)
	case attribute.L:
		return slices.ContainsFunc(v.List, part.Equal)
	}
	return false
}
