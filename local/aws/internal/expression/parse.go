package expression

import (
	"errors"
	"fmt"
	"strconv"

	"whatisup/local/aws/internal/attribute"
)

// maxSize is the longest expression in bytes; maxOperands the most that IN
// takes; maxOperators the most operators and functions in one expression.
const (
	maxSize      = 4096
	maxOperands  = 100
	maxOperators = 300
)

// class ranks what can be wrong with an expression that is well-formed.
type class uint8

const (
	redundantParens class = iota
	reservedFirst         // reserved words, in updates and projections
	unknownFunction
	misusedFunction
	reservedWord // reserved words, in conditions
	section
	attributeName
	attributeValue
	pathOverlap
	pathConflict
	operandType
	functionUse
	condition // the first broken leaf of a condition, already ranked within
	classes
)

// parser is one expression being read. Syntax errors unwind it by panicking
// with a syntaxError, which parse turns into an error again.
type parser struct {
	text   string
	tokens []token
	at     int
	scope  *Scope
	faults [classes]error
	ops    int
	// update says which language this is: it decides which functions there
	// are and in which order faults count.
	update bool
	leaf   leafFaults
}

// leafFaults are the faults of the condition being read (a comparison or a
// function call): the first of them, in this order, is the condition's fault.
type leafFaults struct{ attribute, operand, distinct, function error }

type syntaxError struct{ error }

func newParser(text string, scope *Scope) *parser { return &parser{text: text, scope: scope} }

// parse runs read over the whole text.
func (p *parser) parse(read func()) (err error) {
	defer func() {
		switch v := recover().(type) {
		case nil:
		case syntaxError:
			err = v.error
		default:
			panic(v)
		}
	}()
	if p.text == "" {
		return errors.New("The expression can not be empty;")
	}
	if len(p.text) > maxSize {
		return fmt.Errorf("Expression size has exceeded the maximum allowed size; expression size: %d", len(p.text))
	}
	p.tokens = lex(p.text)
	read()
	if p.peek().kind != tEnd {
		p.syntax()
	}
	if p.ops > maxOperators {
		return fmt.Errorf("The expression contains too many operators; operator count: %d", p.ops)
	}
	for _, f := range p.faults {
		if f != nil {
			return f
		}
	}
	return nil
}

func (p *parser) fault(c class, err error) {
	if p.faults[c] == nil {
		p.faults[c] = err
	}
}

func (p *parser) peek() token { return p.tokens[p.at] }

func (p *parser) next() token {
	t := p.tokens[p.at]
	if t.kind != tEnd {
		p.at++
	}
	return t
}

func (p *parser) accept(text string) bool {
	if p.peek().is(text) {
		p.at++
		return true
	}
	return false
}

func (p *parser) expect(text string) {
	if !p.accept(text) {
		p.syntax()
	}
}

// syntax gives up at the present token.
func (p *parser) syntax() {
	t := p.peek()
	from, to := t.at, t.at
	if p.at > 0 {
		from = p.tokens[p.at-1].at
	}
	if t.kind != tEnd {
		to += len(t.text)
		if n := p.tokens[p.at+1]; n.kind != tEnd {
			to = n.at + len(n.text)
		}
	}
	panic(syntaxError{fmt.Errorf(`Syntax error; token: "%s", near: "%s"`, t.text, p.text[from:to])})
}

// path reads a document path.
func (p *parser) path() Path {
	path := Path{{Name: p.attributeName()}}
	for {
		switch {
		case p.accept("."):
			path = append(path, Step{Name: p.attributeName()})
		case p.accept("["):
			t := p.peek()
			if t.kind != tNumber {
				p.syntax()
			}
			p.at++
			index, err := strconv.Atoi(t.text)
			if err != nil || index > 1<<31-1 {
				p.fault(functionUse, fmt.Errorf("List index is not within the allowable range; index: [%s]", t.text))
				index = 0
			}
			path = append(path, Step{Index: index, IsIndex: true})
			p.expect("]")
		default:
			if len(path) > attribute.MaxDepth {
				p.fault(functionUse, fmt.Errorf("The document path has too many nesting elements; nesting levels: %d", len(path)))
			}
			return path
		}
	}
}

func (p *parser) attributeName() string {
	t := p.peek()
	switch t.kind {
	case tName:
		if isReserved(t.text) {
			c := reservedWord
			if p.update {
				c = reservedFirst
			}
			p.fault(c, fmt.Errorf("Attribute name is a reserved keyword; reserved keyword: %s", t.text))
		}
		p.at++
		return t.text
	case tHash:
		p.at++
		name, err := p.scope.name(t.text)
		if err != nil {
			p.unresolved(attributeName, err)
		}
		return name
	}
	p.syntax()
	return ""
}

func (p *parser) value() attribute.Value {
	v, err := p.scope.value(p.next().text)
	if err != nil {
		p.unresolved(attributeValue, err)
	}
	return v
}

func (p *parser) unresolved(c class, err error) {
	if p.update {
		p.fault(c, err)
	} else if p.leaf.attribute == nil {
		p.leaf.attribute = err
	}
}

// endLeaf closes a condition's leaf.
func (p *parser) endLeaf() {
	for _, err := range []error{p.leaf.attribute, p.leaf.operand, p.leaf.distinct, p.leaf.function} {
		if err != nil {
			p.fault(condition, err)
			break
		}
	}
	p.leaf = leafFaults{}
}
