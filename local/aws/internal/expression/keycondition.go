package expression

import (
	"errors"
	"fmt"
	"strings"

	"whatisup/local/aws/internal/attribute"
)

// KeyCondition is what a key condition says of one key attribute.
type KeyCondition struct {
	Name string
	Op   string // = < <= > >= between begins_with
	Args []attribute.Value
}

// ParseKeyCondition parses a KeyConditionExpression into its conditions. The
// second error is for what parses but is no key condition: DynamoDB reports it
// later and without the expression's name before it.
func ParseKeyCondition(text string, scope *Scope) (conds func() ([]KeyCondition, error), err error) {
	c, err := ParseCondition(text, scope)
	if err != nil {
		return nil, err
	}
	return func() ([]KeyCondition, error) {
		var out []KeyCondition
		err := c.root.keys(&out)
		return out, err
	}, nil
}

var flipped = map[string]string{"=": "=", "<": ">", "<=": ">=", ">": "<", ">=": "<="}

func (n *node) keys(out *[]KeyCondition) error {
	switch n.op {
	case "or", "not", "in", "<>":
		return fmt.Errorf("Invalid operator used in KeyConditionExpression: %s", strings.ToUpper(n.op))
	case "attribute_exists", "attribute_not_exists", "attribute_type", "contains":
		return fmt.Errorf("Invalid operator used in KeyConditionExpression: %s", n.op)
	case "size":
		return errors.New("KeyConditionExpressions cannot contain nested operations")
	case "between", "begins_with":
		if n.args[0].op != "path" {
			name := n.op
			if name == "between" {
				name = "BETWEEN"
			}
			return fmt.Errorf("Invalid condition in KeyConditionExpression: %s operator must have the key attribute as its first operand", name)
		}
	case "and":
		for _, a := range n.args {
			if err := a.keys(out); err != nil {
				return err
			}
		}
		return nil
	}
	k := KeyCondition{Op: n.op}
	named, at := false, 0
	for i, a := range n.args {
		switch {
		case a.op == "path" && named:
			return errors.New("Invalid condition in KeyConditionExpression: Multiple attribute names used in one condition")
		case a.op == "path" && len(a.path) > 1:
			return errors.New("KeyConditionExpressions cannot have conditions on nested attributes")
		case a.op == "path":
			named, at, k.Name = true, i, a.path.Top()
		case a.op == "value":
			k.Args = append(k.Args, a.value)
		default:
			return errors.New("KeyConditionExpressions cannot contain nested operations")
		}
	}
	if !named {
		return errors.New("Invalid condition in KeyConditionExpression: No key attribute specified")
	}
	for _, o := range *out {
		if o.Name == k.Name {
			return errors.New("KeyConditionExpressions must only contain one condition per key")
		}
	}
	if at != 0 {
		k.Op = flipped[k.Op]
	}
	*out = append(*out, k)
	return nil
}
