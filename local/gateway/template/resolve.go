package template

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// Values are what a deployment would know: parameters by name, the pseudo
// parameters ("AWS::Region", …), what Ref gives for a resource by its name, and
// what GetAtt gives by "Name.Attribute". Parameters that are missing have their
// default.
type Values map[string]any

// noValue is what !Ref AWS::NoValue gives; whatever holds it is left out.
type noValue struct{}

var substitution = regexp.MustCompile(`\$\{([^!}][^}]*)\}`)

// Resolve returns v with its intrinsic functions carried out.
func (t *Template) Resolve(v any, known Values) (any, error) {
	r := resolver{t: t, known: known}
	value, err := r.value(v)
	if _, none := value.(noValue); none {
		return nil, err
	}
	return value, err
}

// Holds says whether a condition of the template is true. The empty name is.
func (t *Template) Holds(condition string, known Values) (bool, error) {
	if condition == "" {
		return true, nil
	}
	r := resolver{t: t, known: known}
	return r.condition(condition)
}

// Refusals are the descriptions of the template's rules that the parameters
// break: CloudFormation makes nothing then.
func (t *Template) Refusals(known Values) ([]string, error) {
	var broken []string
	r := resolver{t: t, known: known}
	for _, name := range slices.Sorted(maps.Keys(t.Rules)) {
		rule := object(t.Rules[name])
		if c, ok := rule["RuleCondition"]; ok {
			if applies, err := r.truth(c); err != nil {
				return nil, fmt.Errorf("rule %s: %w", name, err)
			} else if !applies {
				continue
			}
		}
		for _, a := range list(rule["Assertions"]) {
			holds, err := r.truth(object(a)["Assert"])
			if err != nil {
				return nil, fmt.Errorf("rule %s: %w", name, err)
			}
			if !holds {
				broken = append(broken, text1(object(a)["AssertDescription"]))
			}
		}
	}
	return broken, nil
}

func (r resolver) truth(v any) (bool, error) {
	resolved, err := r.value(v)
	if err != nil {
		return false, err
	}
	return truth(resolved)
}

type resolver struct {
	t     *Template
	known Values
}

func (r resolver) value(v any) (any, error) {
	switch v := v.(type) {
	case []any:
		list := make([]any, 0, len(v))
		for _, e := range v {
			resolved, err := r.value(e)
			if err != nil {
				return nil, err
			}
			if _, none := resolved.(noValue); !none {
				list = append(list, resolved)
			}
		}
		return list, nil
	case map[string]any:
		if len(v) == 1 {
			for name, argument := range v {
				if name == "Ref" || name == "Condition" || strings.HasPrefix(name, "Fn::") {
					// A statement's Condition is an ordinary member; the intrinsic
					// takes a name.
					if _, isName := argument.(string); name != "Condition" || isName {
						return r.intrinsic(name, argument)
					}
				}
			}
		}
		m := make(map[string]any, len(v))
		for _, name := range slices.Sorted(maps.Keys(v)) {
			resolved, err := r.value(v[name])
			if err != nil {
				return nil, fmt.Errorf("%s: %w", name, err)
			}
			if _, none := resolved.(noValue); !none {
				m[name] = resolved
			}
		}
		return m, nil
	default:
		return v, nil
	}
}

func (r resolver) intrinsic(name string, argument any) (any, error) {
	switch name {
	case "Ref":
		return r.ref(text1(argument))
	case "Condition":
		return r.condition(text1(argument))
	case "Fn::GetAtt":
		if list, ok := argument.([]any); ok {
			parts := make([]string, len(list))
			for i, p := range list {
				parts[i] = text1(p)
			}
			argument = strings.Join(parts, ".")
		}
		return r.lookup(text1(argument))
	case "Fn::Sub":
		text, ok := argument.(string)
		if !ok {
			return nil, fmt.Errorf("Fn::Sub with its own variables is not known here")
		}
		return r.sub(text)
	}
	if name == "Fn::If" {
		return r.choose(argument)
	}
	resolved, err := r.value(argument)
	if err != nil {
		return nil, err
	}
	list, _ := resolved.([]any)
	switch {
	case name == "Fn::Equals" && len(list) == 2:
		return fmt.Sprint(list[0]) == fmt.Sprint(list[1]), nil
	case name == "Fn::Contains" && len(list) == 2:
		among, ok := list[0].([]any)
		if !ok {
			return nil, fmt.Errorf("Fn::Contains of something that is no list")
		}
		return slices.ContainsFunc(among, func(e any) bool { return fmt.Sprint(e) == fmt.Sprint(list[1]) }), nil
	case name == "Fn::Not" && len(list) == 1:
		b, err := truth(list[0])
		return !b, err
	case name == "Fn::And":
		return fold(list, true)
	case name == "Fn::Or":
		return fold(list, false)
	case name == "Fn::Join" && len(list) == 2:
		parts, ok := list[1].([]any)
		if !ok {
			return nil, fmt.Errorf("Fn::Join of something that is no list")
		}
		texts := make([]string, len(parts))
		for i, p := range parts {
			texts[i] = fmt.Sprint(p)
		}
		return strings.Join(texts, text1(list[0])), nil
	case name == "Fn::Split" && len(list) == 2:
		var parts []any
		for p := range strings.SplitSeq(fmt.Sprint(list[1]), text1(list[0])) {
			parts = append(parts, p)
		}
		return parts, nil
	case name == "Fn::Select" && len(list) == 2:
		from, _ := list[1].([]any)
		i, ok := list[0].(int)
		if !ok || i < 0 || i >= len(from) {
			return nil, fmt.Errorf("Fn::Select of an element that is not there")
		}
		return from[i], nil
	case name == "Fn::GetAZs":
		return []any{"zone-a", "zone-b"}, nil
	}
	return nil, fmt.Errorf("%s is not known here", name)
}

func (r resolver) choose(argument any) (any, error) {
	list, _ := argument.([]any)
	if len(list) != 3 {
		return nil, fmt.Errorf("Fn::If takes three arguments")
	}
	yes, err := r.condition(text1(list[0]))
	if err != nil {
		return nil, err
	}
	if yes {
		return r.value(list[1])
	}
	return r.value(list[2])
}

func (r resolver) condition(name string) (bool, error) {
	c, ok := r.t.Conditions[name]
	if !ok {
		return false, fmt.Errorf("no condition %q", name)
	}
	v, err := r.value(c)
	if err != nil {
		return false, fmt.Errorf("condition %s: %w", name, err)
	}
	return truth(v)
}

func (r resolver) ref(name string) (any, error) {
	if name == "AWS::NoValue" {
		return noValue{}, nil
	}
	if p, ok := r.t.Parameters[name]; ok {
		v, given := r.known[name]
		if !given {
			v = p.Default
		}
		if v == nil {
			return nil, fmt.Errorf("parameter %s has no value", name)
		}
		if p.Type == "CommaDelimitedList" {
			var list []any
			for e := range strings.SplitSeq(fmt.Sprint(v), ",") {
				list = append(list, e)
			}
			return list, nil
		}
		return v, nil
	}
	return r.lookup(name)
}

func (r resolver) lookup(name string) (any, error) {
	if v, ok := r.known[name]; ok {
		return v, nil
	}
	return nil, fmt.Errorf("nothing known of %s", name)
}

func (r resolver) sub(text string) (any, error) {
	var failed error
	out := substitution.ReplaceAllStringFunc(text, func(m string) string {
		name := m[2 : len(m)-1]
		v, err := r.ref(name)
		if err != nil {
			failed = err
		}
		return fmt.Sprint(v)
	})
	return out, failed
}

func fold(list []any, all bool) (any, error) {
	for _, e := range list {
		b, err := truth(e)
		if err != nil {
			return nil, err
		}
		if b != all {
			return !all, nil
		}
	}
	return all, nil
}

func truth(v any) (bool, error) {
	b, ok := v.(bool)
	if !ok {
		return false, fmt.Errorf("%v is no condition", v)
	}
	return b, nil
}
