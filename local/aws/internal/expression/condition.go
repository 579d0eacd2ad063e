package expression

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"whatisup/local/aws/internal/attribute"
)

// Condition is a parsed condition or filter.
type Condition struct {
	root   *node
	nested map[string]bool
	// Tops are the attributes that the paths begin with.
	Tops map[string]bool
}

// NestedTops are the top attributes of the paths that go deeper than one step;
// none for a nil condition.
func (c *Condition) NestedTops() map[string]bool {
	if c == nil {
		return nil
	}
	return c.nested
}

// node is a condition or an operand.
type node struct {
	op    string // and or not = <> < <= > >= between in, a function, path, value
	args  []*node
	path  Path
	value attribute.Value
}

func (n *node) isFunction() bool {
	_, ok := conditionFunctions[n.op]
	return ok
}

// isOperand says that n stands for a value.
func (n *node) isOperand() bool { return n.op == "path" || n.op == "value" || n.isFunction() }

var conditionFunctions = map[string]int{
	"attribute_exists": 1, "attribute_not_exists": 1, "attribute_type": 2,
	"begins_with": 2, "contains": 2, "size": 1,
}

var updateFunctions = map[string]bool{"if_not_exists": true, "list_append": true}

// ParseCondition parses a ConditionExpression, FilterExpression or the like.
func ParseCondition(text string, scope *Scope) (*Condition, error) {
	p := newParser(text, scope)
	c := &Condition{nested: map[string]bool{}, Tops: map[string]bool{}}
	err := p.parse(func() {
		c.root = p.or()
		p.mustBeCondition(c.root)
	})
	if err != nil {
		return nil, err
	}
	c.root.walk(func(n *node) {
		if n.op == "path" {
			c.Tops[n.path.Top()] = true
			if len(n.path) > 1 {
				c.nested[n.path.Top()] = true
			}
		}
	})
	return c, nil
}

func (n *node) walk(visit func(*node)) {
	visit(n)
	for _, a := range n.args {
		a.walk(visit)
	}
}

func (p *parser) or() *node {
	left := p.and()
	for p.peek().is("OR") {
		p.mustBeCondition(left)
		p.at++
		p.ops++
		right := p.and()
		p.mustBeCondition(right)
		left = &node{op: "or", args: []*node{left, right}}
	}
	return left
}

func (p *parser) and() *node {
	left := p.not()
	for p.peek().is("AND") {
		p.mustBeCondition(left)
		p.at++
		p.ops++
		right := p.not()
		p.mustBeCondition(right)
		left = &node{op: "and", args: []*node{left, right}}
	}
	return left
}

func (p *parser) not() *node {
	nots := 0
	for p.accept("NOT") {
		p.ops++
		nots++
	}
	n := p.comparison()
	if nots > 0 {
		p.mustBeCondition(n)
	}
	for ; nots > 0; nots-- {
		n = &node{op: "not", args: []*node{n}}
	}
	return n
}

// comparison reads an operand and, if one follows, the comparison it begins.
func (p *parser) comparison() *node {
	left := p.primary()
	t := p.peek()
	switch {
	case t.is("="), t.is("<>"), t.is("<"), t.is("<="), t.is(">"), t.is(">="):
		p.at++
		p.mustBeOperand(left)
		n := &node{op: t.text, args: []*node{left, p.operand()}}
		p.checkComparison(n)
		return n
	case t.is("BETWEEN"):
		p.at++
		p.mustBeOperand(left)
		low := p.operand()
		p.expect("AND")
		n := &node{op: "between", args: []*node{left, low, p.operand()}}
		p.checkComparison(n)
		p.checkBounds(n.args[0], n.args[1], n.args[2])
		p.endLeaf()
		return n
	case t.is("IN"):
		p.at++
		p.mustBeOperand(left)
		n := &node{op: "in", args: []*node{left}}
		p.expect("(")
		for {
			n.args = append(n.args, p.operand())
			if !p.accept(",") {
				break
			}
		}
		p.expect(")")
		p.checkComparison(n)
		if len(n.args)-1 > maxOperands && p.leaf.operand == nil {
			p.leaf.operand = fmt.Errorf("The number of operands for operator or function is too many; operator or function: IN, number of operands: %d", len(n.args)-1)
		}
		p.endLeaf()
		return n
	}
	if left.isFunction() {
		p.endLeaf()
	}
	return left
}

// primary reads a path, a value, a function call or something in parentheses.
func (p *parser) primary() *node {
	if p.accept("(") {
		open := p.at
		n := p.or()
		p.expect(")")
		if p.tokens[open].is("(") && p.closes(open) == p.at-2 {
			p.fault(redundantParens, errors.New("The expression has redundant parentheses;"))
		}
		return n
	}
	return p.operandAtom()
}

// closes returns where the parenthesis that opens at a token is closed.
func (p *parser) closes(open int) int {
	depth := 0
	for i := open; i < len(p.tokens); i++ {
		switch {
		case p.tokens[i].is("("):
			depth++
		case p.tokens[i].is(")"):
			if depth--; depth == 0 {
				return i
			}
		}
	}
	return -1
}

func (p *parser) operand() *node {
	if p.accept("(") {
		n := p.operand()
		if p.tokens[p.at].is(")") && p.tokens[p.at-1].is(")") && n.op != "size" {
			p.fault(redundantParens, errors.New("The expression has redundant parentheses;"))
		}
		p.expect(")")
		return n
	}
	n := p.operandAtom()
	p.mustBeOperand(n)
	return n
}

func (p *parser) operandAtom() *node {
	switch t := p.peek(); {
	case t.kind == tColon:
		return &node{op: "value", value: p.value()}
	case t.kind == tName && p.tokens[p.at+1].is("("):
		return p.function()
	}
	return &node{op: "path", path: p.path()}
}

func (p *parser) function() *node {
	n := &node{op: p.next().text}
	p.ops++
	p.expect("(")
	for {
		n.args = append(n.args, p.operandIn())
		if !p.accept(",") {
			break
		}
	}
	p.expect(")")
	want, ok := conditionFunctions[n.op]
	switch {
	case updateFunctions[n.op]:
		p.fault(misusedFunction, fmt.Errorf("The function is not allowed to be used this way in an expression; function: %s", n.op))
		n.op = "size" // any, for the rest of the parse
		return n
	case !ok:
		p.fault(unknownFunction, fmt.Errorf("Invalid function name; function: %s", n.op))
		n.op = "size" // any, for the rest of the parse
		return n
	case len(n.args) != want:
		p.operandFault(fmt.Errorf("Incorrect number of operands for operator or function; operator or function: %s, number of operands: %d", n.op, len(n.args)))
		return n
	}
	for _, a := range n.args {
		p.misused(a)
	}
	p.checkDistinct(n.op, n.args)
	p.checkFunction(n)
	return n
}

// operandIn is an operand as an argument, where even a function that is no
// operand parses.
func (p *parser) operandIn() *node {
	if p.accept("(") {
		n := p.operandIn()
		p.expect(")")
		return n
	}
	return p.operandAtom()
}

func (p *parser) operandFault(err error) {
	if p.leaf.operand == nil {
		p.leaf.operand = err
	}
}

func (p *parser) functionFault(format string, args ...any) {
	if p.leaf.function == nil {
		p.leaf.function = fmt.Errorf(format, args...)
	}
}

func (p *parser) operandTypeFault(op string, t attribute.Type) {
	p.functionFault("Incorrect operand type for operator or function; operator or function: %s, operand type: %s", op, t)
}

// misused complains of any function but size where a value must stand.
func (p *parser) misused(n *node) {
	if n.isFunction() && n.op != "size" {
		p.fault(misusedFunction, fmt.Errorf("The function is not allowed to be used this way in an expression; function: %s", n.op))
	}
}

func (p *parser) mustBeOperand(n *node) {
	if !n.isOperand() {
		p.at-- // the operator that cannot follow
		p.syntax()
	}
	p.misused(n)
}

func (p *parser) mustBeCondition(n *node) {
	switch n.op {
	case "path", "value":
		p.syntax()
	case "size":
		p.fault(misusedFunction, errors.New("The function is not allowed to be used this way in an expression; function: size"))
	}
}

func (p *parser) checkComparison(n *node) {
	p.ops++
	p.checkDistinct(strings.ToUpper(n.op), n.args)
	switch n.op {
	case "<", "<=", ">", ">=":
		for _, a := range n.args {
			if t := a.immediate(); t != attribute.None && t != attribute.S && t != attribute.N && t != attribute.B {
				p.operandTypeFault(n.op, t)
			}
		}
		p.endLeaf()
	case "=", "<>":
		p.endLeaf()
	}
}

// checkDistinct complains if the path that is the first operand comes again.
func (p *parser) checkDistinct(op string, args []*node) {
	if p.leaf.distinct != nil || len(args) == 0 || args[0].op != "path" {
		return
	}
	again := slices.ContainsFunc(args[1:], func(a *node) bool { return a.op == "path" && a.path.equal(args[0].path) })
	if !again {
		return
	}
	p.leaf.distinct = fmt.Errorf("The first operand must be distinct from the remaining operands for this operator or function; operator: %s, first operand: %s", op, args[0].path)
}

// immediate is the type of an operand that is a value.
func (n *node) immediate() attribute.Type {
	if n.op == "value" {
		return n.value.Type
	}
	return attribute.None
}

// known is the type of an operand that is certain before evaluation.
func (n *node) known() attribute.Type {
	switch {
	case n.op == "size":
		return attribute.N
	case n.isFunction():
		return attribute.BOOL
	}
	return n.immediate()
}

func (p *parser) checkFunction(n *node) {
	switch n.op {
	case "attribute_exists", "attribute_not_exists":
		if n.args[0].op != "path" {
			p.functionFault("Operator or function requires a document path; operator or function: %s", n.op)
		}
	case "begins_with":
		for _, a := range n.args {
			if t := a.known(); t != attribute.None && t != attribute.S && t != attribute.B {
				p.operandTypeFault(n.op, t)
			}
		}
	case "attribute_type":
		t := n.args[1].known()
		switch {
		case t == attribute.None && n.args[1].op == "value":
		case t != attribute.S:
			word := t.String()
			if t == attribute.None {
				word = "{NS,SS,L,BS,N,M,B,BOOL,NULL,S}"
			}
			p.functionFault("Incorrect operand type for operator or function; operator or function: %s, operand type: %s", n.op, word)
		case attribute.ParseType(n.args[1].value.Str) == attribute.None:
			p.functionFault("Invalid attribute type name found; type: %s, valid types: {B,NULL,SS,BOOL,L,BS,N,NS,S,M}", n.args[1].value.Str)
		}
	case "size":
		switch t := n.args[0].known(); t {
		case attribute.N, attribute.BOOL, attribute.NULL:
			p.operandTypeFault(n.op, t)
		}
	}
}

// checkBounds holds the operands of a BETWEEN to what has an order, and its
// bounds to each other, if both are values.
func (p *parser) checkBounds(what, low, high *node) {
	a, b := low.immediate(), high.immediate()
	for _, t := range []attribute.Type{what.immediate(), a, b} {
		if t != attribute.None && t != attribute.S && t != attribute.N && t != attribute.B {
			p.operandTypeFault("BETWEEN", t)
		}
	}
	if a == attribute.None || b == attribute.None {
		return
	}
	if a != b {
		p.functionFault("The BETWEEN operator requires same data type for lower and upper bounds; lower bound operand: AttributeValue: %s, upper bound operand: AttributeValue: %s", bound(low.value), bound(high.value))
	} else if c, ok := low.value.Compare(high.value); ok && c > 0 {
		p.functionFault("The BETWEEN operator requires upper bound to be greater than or equal to lower bound; lower bound operand: AttributeValue: %s, upper bound operand: AttributeValue: %s", bound(low.value), bound(high.value))
	}
}

// bound prints a value as {S:text}.
func bound(v attribute.Value) string {
	text := string(v.Append(nil))
	text = strings.TrimPrefix(text, `{"`+v.Type.String()+`":`)
	return "{" + v.Type.String() + ":" + strings.Trim(strings.TrimSuffix(text, "}"), `"`) + "}"
}
