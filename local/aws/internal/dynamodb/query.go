package dynamodb

import (
	"errors"
	"regexp"

	"whatisup/local/aws/internal/attribute"
	"whatisup/local/aws/internal/expression"
	"whatisup/local/aws/internal/wire"
)

func (s *Service) query(r *Request) ([]byte, error) {
	in := r.Input
	if err := checkParams(in, []string{"ProjectionExpression", "FilterExpression", "KeyConditionExpression"}); err != nil {
		return nil, err
	}
	start, err := parseStart(in)
	if err != nil {
		return nil, err
	}
	if !in.Has("KeyConditionExpression") {
		return nil, wire.Validation("Either the KeyConditions or KeyConditionExpression parameter must be specified in the request.")
	}
	filter, projection, keys, err := parsePage(in)
	if err != nil {
		return nil, err
	}
	conditions, err := keys()
	if err == nil && len(conditions) > 2 {
		err = errors.New("Conditions can be of length 1 or 2 only")
	}
	if err != nil {
		return nil, wire.Validation("%s", err)
	}
	if err := selectParams(in, "1 validation error detected: "); err != nil {
		return nil, err
	}
	p, err := s.openPage(in)
	if err != nil {
		return nil, err
	}
	p.filter, p.projection, p.backward = filter, projection, !in.Bool("ScanIndexForward", true)
	if err := p.stretch(conditions, start); err != nil {
		return nil, err
	}
	if err := p.table.checkNested(projection.NestedTops()); err != nil {
		return nil, err
	}
	if err := p.checkFilter(); err != nil {
		return nil, err
	}
	if err := p.checkSelect(in); err != nil {
		return nil, err
	}
	if err := p.table.checkNested(filter.NestedTops()); err != nil {
		return nil, err
	}
	return s.run(p, in)
}

// Words that DynamoDB does not put before what is wrong with a value in a
// starting key.
var plainStart = regexp.MustCompile(`contains duplicates|number set|numeric value|significant digits|number with magnitude`)

func startPrefix(message string) string {
	if plainStart.MatchString(message) {
		return ""
	}
	return "The provided starting key is invalid: "
}

var errStart = wire.Validation("The provided starting key is invalid")

// stretch turns key conditions and starting key into the places to read.
func (p *page) stretch(conditions []expression.KeyCondition, start attribute.Item) error {
	t, key := p.table, p.key()
	find := func(name string) *expression.KeyCondition {
		for i := range conditions {
			if name != "" && conditions[i].Name == name {
				return &conditions[i]
			}
		}
		return nil
	}
	if start != nil && len(start) != len(p.startNames()) {
		return errStart
	}
	hash, sort := find(key.Hash), find(key.Sort)
	for i, name := range key.Names() {
		if start != nil {
			if _, ok := start[name]; !ok {
				return errStart
			}
			if err := t.checkStart(name, start[name], i == 0); err != nil {
				return err
			}
		}
		if i == 0 && key.Sort == "" && len(conditions) > 1 {
			return wire.Validation("Query key condition not supported")
		}
		c := find(name)
		if c == nil {
			if i == 0 || len(conditions) > 1 {
				return wire.Validation("Query condition missed key schema element: %s", name)
			}
			continue
		}
		for _, a := range c.Args {
			if a.Type != t.Types[name] {
				return invalid("Condition parameter type does not match schema type")
			}
		}
		if i == 0 && c.Op != "=" {
			return wire.Validation("Query key condition not supported")
		}
		for _, a := range c.Args {
			if i == 0 && a.Str != "" {
				continue // a partition key that is too long is looked for, and not there
			}
			if err := checkKeyValue(name, a, i == 0, "are not valid."); err != nil {
				return err
			}
		}
	}
	prefix := appendPartition(nil, hash.Args[0])
	p.from, p.to = prefix, prefixEnd(prefix)
	if sort != nil {
		p.from, p.to = sortStretch(prefix, sort)
	}
	if start == nil {
		return nil
	}
	if err := p.checkStartKey(start, hash, sort); err != nil {
		return err
	}
	p.after(p.startPlace(start))
	return nil
}

func (p *page) startNames() map[string]bool {
	names := map[string]bool{}
	for _, n := range append(p.table.Key.Names(), p.key().Names()...) {
		names[n] = true
	}
	return names
}

func (t *Table) checkStart(name string, v attribute.Value, hash bool) error {
	if v.Type != t.Types[name] {
		return errKeySchema
	}
	return checkKeyValue(name, v, hash, "were invalid:")
}

// checkStartKey holds a starting key to the table and to the query.
func (p *page) checkStartKey(start attribute.Item, hash, sort *expression.KeyCondition) error {
	t := p.table
	var own = attribute.Item{}
	for _, name := range t.Key.Names() {
		if v, ok := start[name]; ok {
			own[name] = v
		}
	}
	if err := t.checkKey(own); err != nil {
		var e *wire.Error
		errors.As(err, &e)
		return wire.Validation("The provided starting key is invalid: %s", e.Message)
	}
	same := start[hash.Name].Equal(hash.Args[0])
	if sort == nil {
		if !same {
			return wire.Validation("The provided starting key is outside query boundaries based on provided conditions")
		}
		return nil
	}
	if !matches(sort, start[sort.Name]) {
		return wire.Validation("The provided starting key does not match the range key predicate")
	}
	if !same {
		return wire.Validation("The query can return at most one row and cannot be restarted")
	}
	return nil
}

// matches evaluates a key condition on one value.
func matches(c *expression.KeyCondition, v attribute.Value) bool {
	key, _ := sortStretch(nil, c)
	_, end := sortStretch(nil, c)
	k := string(v.AppendKey(nil))
	return k >= string(key) && (end == nil || k < string(end))
}

// sortStretch is the stretch of a partition that a condition on the sort key
// leaves.
func sortStretch(prefix []byte, c *expression.KeyCondition) (from, to []byte) {
	at := func(i int) []byte { return c.Args[i].AppendKey(prefix[:len(prefix):len(prefix)]) }
	from, to = prefix, prefixEnd(prefix)
	switch c.Op {
	case "=":
		from, to = at(0), prefixEnd(at(0))
	case "<":
		to = at(0)
	case "<=":
		to = prefixEnd(at(0))
	case ">":
		from = prefixEnd(at(0))
	case ">=":
		from = at(0)
	case "between":
		from, to = at(0), prefixEnd(at(1))
	case "begins_with":
		from = c.Args[0].AppendKeyPrefix(prefix[:len(prefix):len(prefix)])
		to = prefixEnd(from)
	}
	return from, to
}
