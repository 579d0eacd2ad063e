package expression

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"

	"whatisup/local/aws/internal/attribute"
)

// Update is a parsed UpdateExpression.
type Update struct {
	actions []action
	paths   []Path
	// Nested are the top attributes of all paths that go deeper than one step.
	Nested map[string]bool
}

type action struct {
	verb  string // SET REMOVE ADD DELETE
	path  Path
	value *operand
}

// operand is the right side of an action.
type operand struct {
	op    string // path value + - if_not_exists list_append
	path  Path
	value attribute.Value
	args  []*operand
}

// Tops lists the attributes that the update writes, and with each the type of
// value it will get if that is certain.
func (u *Update) Tops(visit func(name string, whole bool, t attribute.Type) error) error {
	for _, a := range u.actions {
		t := attribute.None
		if a.value != nil {
			t = a.value.known()
		}
		if err := visit(a.path.Top(), len(a.path) == 1, t); err != nil {
			return err
		}
	}
	return nil
}

// Written is the projection onto what the update touches.
func (u *Update) Written() *Projection { return NewProjection(u.paths) }

// ParseUpdate parses an UpdateExpression.
func ParseUpdate(text string, scope *Scope) (*Update, error) {
	p := newParser(text, scope)
	p.update = true
	u := &Update{Nested: map[string]bool{}}
	err := p.parse(func() {
		seen := map[string]bool{}
		for first := true; first || p.peek().kind != tEnd; first = false {
			verb := ""
			for _, v := range []string{"SET", "REMOVE", "ADD", "DELETE"} {
				if p.accept(v) {
					verb = v
				}
			}
			if verb == "" {
				p.syntax()
			}
			if seen[verb] {
				p.fault(section, fmt.Errorf(`The "%s" section can only be used once in an update expression;`, verb))
			}
			seen[verb] = true
			for {
				p.action(u, verb)
				if !p.accept(",") {
					break
				}
			}
		}
	})
	if err != nil {
		return nil, err
	}
	for _, a := range u.actions {
		u.note(a.path)
		a.value.walk(func(o *operand) {
			if o.op == "path" {
				u.note(o.path)
			}
		})
	}
	return u, nil
}

// Creates says whether the update makes an item where there is none: one that
// only takes away does not.
func (u *Update) Creates() bool {
	return slices.ContainsFunc(u.actions, func(a action) bool { return a.verb == "SET" || a.verb == "ADD" })
}

func (u *Update) note(p Path) {
	if len(p) > 1 {
		u.Nested[p.Top()] = true
	}
}

func (o *operand) walk(visit func(*operand)) {
	if o == nil {
		return
	}
	visit(o)
	for _, a := range o.args {
		a.walk(visit)
	}
}

func (p *parser) action(u *Update, verb string) {
	a := action{verb: verb, path: p.path()}
	p.addPath(&u.paths, a.path)
	switch verb {
	case "SET":
		p.expect("=")
		a.value = p.setValue()
	case "ADD", "DELETE":
		if p.peek().kind != tColon {
			p.syntax()
		}
		p.ops++
		a.value = &operand{op: "value", value: p.value()}
		switch t := a.value.value.Type; t {
		case attribute.SS, attribute.NS, attribute.BS, attribute.None:
		case attribute.N:
			if verb == "DELETE" {
				p.fault(operandType, errors.New("Incorrect operand type for operator or function; operator: DELETE, operand type: NUMBER"))
			}
		default:
			p.fault(operandType, fmt.Errorf("Incorrect operand type for operator or function; operator: %s, operand type: %s", verb, longNames[t]))
		}
	}
	u.actions = append(u.actions, a)
}

var longNames = map[attribute.Type]string{
	attribute.S: "STRING", attribute.N: "NUMBER", attribute.B: "BINARY", attribute.NULL: "NULL",
	attribute.BOOL: "BOOLEAN", attribute.L: "LIST", attribute.M: "MAP",
}

// setValue reads the right side of a SET: an operand, or a sum or difference
// of two.
func (p *parser) setValue() *operand {
	if p.peek().is("(") {
		if o := p.parenthesised(); o != nil {
			return o
		}
	}
	left := p.setOperand()
	for _, op := range []string{"+", "-"} {
		if p.accept(op) {
			p.ops++
			o := &operand{op: op, args: []*operand{left, p.setOperand()}}
			p.checkSetFunction(o)
			return o
		}
	}
	return left
}

// parenthesised reads a whole right side in parentheses, or nothing if the
// parentheses enclose only its first operand.
func (p *parser) parenthesised() *operand {
	end := p.closes(p.at)
	if end < 0 || p.tokens[end+1].is("+") || p.tokens[end+1].is("-") {
		return nil // setValue goes on with setOperand
	}
	p.at++
	if p.peek().is("(") && p.closes(p.at) == end-1 {
		p.fault(redundantParens, errors.New("The expression has redundant parentheses;"))
	}
	o := p.setValue()
	p.expect(")")
	return o
}

func (p *parser) setOperand() *operand {
	switch t := p.peek(); {
	case t.is("("):
		p.at++
		if p.peek().is("(") && p.closes(p.at) == p.closes(p.at-1)-1 {
			p.fault(redundantParens, errors.New("The expression has redundant parentheses;"))
		}
		o := p.setOperand()
		p.expect(")")
		return o
	case t.kind == tColon:
		return &operand{op: "value", value: p.value()}
	case t.kind == tName && p.tokens[p.at+1].is("("):
		o := &operand{op: p.next().text}
		p.ops++
		p.expect("(")
		for {
			o.args = append(o.args, p.setOperand())
			if !p.accept(",") {
				break
			}
		}
		p.expect(")")
		p.checkSetFunction(o)
		return o
	}
	return &operand{op: "path", path: p.path()}
}

func (p *parser) checkSetFunction(o *operand) {
	for _, a := range o.args {
		if a.op == "list_append" {
			p.fault(misusedFunction, errors.New("The function is not allowed to be used this way in an expression; function: list_append"))
		}
	}
	_, isCondition := conditionFunctions[o.op]
	switch {
	case o.op == "if_not_exists", o.op == "list_append", o.op == "+", o.op == "-":
	case isCondition:
		p.fault(misusedFunction, fmt.Errorf("The function is not allowed to be used this way in an expression; function: %s", o.op))
		return
	default:
		p.fault(unknownFunction, fmt.Errorf("Invalid function name; function: %s", o.op))
		return
	}
	if len(o.args) != 2 {
		p.fault(functionUse, fmt.Errorf("Incorrect number of operands for operator or function; operator or function: %s, number of operands: %d", o.op, len(o.args)))
		return
	}
	want := attribute.N
	switch o.op {
	case "if_not_exists":
		if o.args[0].op != "path" {
			p.fault(functionUse, fmt.Errorf("Operator or function requires a document path; operator or function: %s", o.op))
		}
		return
	case "list_append":
		want = attribute.L
	}
	for _, a := range o.args {
		if t := a.value.Type; a.op == "value" && t != want && t != attribute.None {
			p.fault(functionUse, fmt.Errorf("Incorrect operand type for operator or function; operator or function: %s, operand type: %s", o.op, t))
		}
	}
}

// known is the type that the operand is certain to have, if any.
func (o *operand) known() attribute.Type {
	switch o.op {
	case "value":
		return o.value.Type
	case "+", "-":
		return attribute.N
	case "list_append":
		return attribute.L
	case "if_not_exists":
		return o.args[1].known()
	}
	return attribute.None
}

var (
	errNoAttribute = errors.New("The provided expression refers to an attribute that does not exist in the item")
	errOperand     = errors.New("An operand in the update expression has an incorrect data type")
	errPath        = errors.New("The document path provided in the update expression is invalid for update")
)

func (o *operand) resolve(item attribute.Item) (attribute.Value, error) {
	switch o.op {
	case "value":
		return o.value, nil
	case "path":
		v, ok := o.path.lookup(item)
		if !ok {
			return v, errNoAttribute
		}
		return v, nil
	case "if_not_exists":
		if v, ok := o.args[0].path.lookup(item); ok {
			return v, nil
		}
		return o.args[1].resolve(item)
	}
	a, err := o.args[0].resolve(item)
	if err != nil {
		return a, err
	}
	b, err := o.args[1].resolve(item)
	if err != nil {
		return b, err
	}
	want := attribute.N
	if o.op == "list_append" {
		want = attribute.L
	}
	if a.Type != want || b.Type != want {
		return a, errOperand
	}
	if o.op == "list_append" {
		a.List = slices.Concat(a.List, b.List)
		return a, nil
	}
	return sum(a, b, o.op == "-")
}

func sum(a, b attribute.Value, subtract bool) (attribute.Value, error) {
	n, m := a.Number(), b.Number()
	var err error
	if subtract {
		n, err = n.Sub(m)
	} else {
		n, err = n.Add(m)
	}
	if err != nil {
		// Whatever is wrong with the result, DynamoDB calls it an overflow.
		return attribute.Value{}, attribute.ErrOverflow
	}
	return attribute.NumberValue(n), nil
}

// Apply returns the item after the update; the given one stays as it is. All
// right sides see the item as it was, and so do all list indexes.
func (u *Update) Apply(item attribute.Item) (attribute.Item, error) {
	root := attribute.Value{Type: attribute.M, Map: item}
	lists := false
	for _, a := range u.actions {
		var operand attribute.Value
		if a.value != nil {
			var err error
			if operand, err = a.value.resolve(item); err != nil {
				return nil, err
			}
		}
		var err error
		if root, err = change(root, a.path, a.verb, operand); err != nil {
			return nil, err
		}
		lists = lists || a.path[len(a.path)-1].IsIndex
	}
	if lists {
		root = settle(root)
	}
	return root.Map, nil
}

// Types that a list element has only while an update is under way: one that is
// to vanish, and one that is to be appended (its Str is where it was set).
const (
	removed attribute.Type = 250 + iota
	appended
)

// change returns v with the action done at the path below it.
func change(v attribute.Value, path Path, verb string, operand attribute.Value) (attribute.Value, error) {
	s, last := path[0], len(path) == 1
	var child attribute.Value
	exists := false
	switch {
	case s.IsIndex && v.Type == attribute.L:
		if s.Index < len(v.List) && v.List[s.Index].Type < removed {
			child, exists = v.List[s.Index], true
		}
	case !s.IsIndex && v.Type == attribute.M:
		child, exists = v.Map[s.Name]
	default:
		return v, errPath
	}
	var keep = true
	var err error
	if !last {
		if !exists {
			return v, errPath
		}
		child, err = change(child, path[1:], verb, operand)
	} else {
		child, keep, err = act(child, exists, verb, operand)
	}
	if err != nil || !keep && !exists {
		return v, err
	}
	if s.IsIndex {
		v.List = slices.Clone(v.List)
		switch {
		case exists && keep:
			v.List[s.Index] = child
		case exists:
			v.List[s.Index] = attribute.Value{Type: removed}
		default:
			v.List = append(v.List, attribute.Value{Type: appended, Str: fmt.Sprintf("%010d", s.Index), List: []attribute.Value{child}})
		}
		return v, nil
	}
	v.Map = maps.Clone(v.Map)
	if v.Map == nil {
		v.Map = attribute.Item{}
	}
	if keep {
		v.Map[s.Name] = child
	} else {
		delete(v.Map, s.Name)
	}
	return v, nil
}

// act is the action itself, on the value that is (or is not) there.
func act(old attribute.Value, exists bool, verb string, operand attribute.Value) (v attribute.Value, keep bool, err error) {
	if verb == "SET" || verb == "REMOVE" {
		return operand, verb == "SET", nil
	}
	if exists && old.Type != operand.Type {
		return old, true, errOperand
	}
	switch {
	case verb == "ADD" && !exists:
		return operand, true, nil
	case verb == "ADD" && operand.Type == attribute.N:
		v, err = sum(old, operand, false)
		return v, true, err
	case verb == "ADD":
		v = old
		v.Set = slices.Clone(old.Set)
		for _, e := range operand.Set {
			if !slices.Contains(v.Set, e) {
				v.Set = append(v.Set, e)
			}
		}
		return v, true, nil
	case !exists: // DELETE from nothing
		return old, false, nil
	}
	v = old
	v.Set = slices.DeleteFunc(slices.Clone(old.Set), func(e string) bool { return slices.Contains(operand.Set, e) })
	return v, len(v.Set) > 0, nil
}

// settle turns the marks in lists into what they mean.
func settle(v attribute.Value) attribute.Value {
	switch v.Type {
	case attribute.M:
		out := make(attribute.Item, len(v.Map))
		for name, e := range v.Map {
			out[name] = settle(e)
		}
		v.Map = out
	case attribute.L:
		list := make([]attribute.Value, 0, len(v.List))
		var late []attribute.Value
		for _, e := range v.List {
			switch e.Type {
			case removed:
			case appended:
				late = append(late, e)
			default:
				list = append(list, settle(e))
			}
		}
		slices.SortStableFunc(late, func(a, b attribute.Value) int { return cmp.Compare(a.Str, b.Str) })
		for _, e := range late {
			list = append(list, e.List[0])
		}
		v.List = list
	}
	return v
}
