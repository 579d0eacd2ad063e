package expression

import (
	"encoding/json"
	"strings"
	"testing"

	"whatisup/local/aws/internal/attribute"
	"whatisup/local/aws/internal/wire"
)

func parsed(t testing.TB, text string) *wire.Node {
	t.Helper()
	if text == "" {
		return &wire.Node{}
	}
	n, err := wire.Parse(text)
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return &n
}

func item(t testing.TB, text string) attribute.Item {
	t.Helper()
	i, err := attribute.ParseItem(parsed(t, text))
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return i
}

const stored = `{"h":{"S":"key"},"n":{"N":"5"},"s":{"S":"hello"},"b":{"B":"aGk="},"f":{"BOOL":false},"z":{"NULL":true},
	"ss":{"SS":["a","b"]},"ns":{"NS":["1","2"]},"l":{"L":[{"N":"1"},{"S":"x"},{"L":[{"N":"7"}]}]},"m":{"M":{"k":{"N":"3"},"deep":{"M":{"x":{"S":"y"}}}}},"umlaut":{"S":"üü"}}`

const values = `{":n":{"N":"5"},":six":{"N":"6"},":s":{"S":"hello"},":he":{"S":"he"},":a":{"S":"a"},":f":{"BOOL":false},":z":{"NULL":true},":one":{"N":"1"},":two":{"N":"2"},
	":ba":{"SS":["b","a"]},":list":{"L":[{"N":"7"}]},":map":{"M":{"x":{"S":"y"}}},":S":{"S":"S"},":BOOL":{"S":"BOOL"},":b":{"B":"aA=="},":big":{"N":"1e100"}}`

func TestConditions(t *testing.T) {
	t.Parallel()
	it := item(t, stored)
	for text, want := range map[string]bool{
		"n = :n": true, "n <> :n": false, "n < :six": true, "n <= :n": true, "n > :six": false, "n >= :n": true, ":six > n": true,
		"n = :s": false, "n <> :s": true, "n < :s": false, "n < :big": true,
		"nope = nada": false, "nope <> nada": true, "nope = :n": false, "nope <> :n": true, "nope < :n": false, "NOT nope = :n": true,
		"f = :f": true, "z = :z": true, "ss = :ba": true, "l[2] = :list": true, "m.deep = :map": true,
		"n BETWEEN :one AND :six": true, "n between :six and :big": false, "n IN (:one, :n)": true, "n in (:s)": false, "f IN (:f)": true, "nope IN (:n)": false,
		"attribute_exists(f)": true, "attribute_exists(m.k)": true, "attribute_exists(m.q)": false, "attribute_exists(l[3])": false, "attribute_not_exists(l[0].a)": true,
		"attribute_type(s, :S)": true, "attribute_type(f, :BOOL)": true, "attribute_type(nope, :S)": false,
		"begins_with(s, :he)": true, "begins_with(b, :b)": true, "begins_with(n, :he)": false, "begins_with(:s, :he)": true,
		"contains(s, :he)": true, "contains(ss, :a)": true, "contains(ns, :two)": true, "contains(l, :list)": true, "contains(l, :a)": false, "contains(m, :a)": false,
		"size(s) = :n": true, "size(ss) = :two": true, "size(l) > :two": true, "size(m) = :two": true, "size(b) = :two": true, "size(n) = :one": false, "size(umlaut) = :two": true,
		"size(nope) = :one": false, "size(s) = n": true, "size(s) BETWEEN :one AND :six": true,
		"NOT NOT NOT n = :six": true, "n = :n AND (s = :s OR nope = :n)": true, "n = :six OR n = :n AND s = :he": false, "(n = :six OR n = :n) AND s = :s": true,
		"(n) = (:n)": true, "((n = :n) AND s = :s)": true, "not contains(s, :a)and n=:n": true,
	} {
		scope, err := NewScope(parsed(t, ""), parsed(t, values))
		if err != nil {
			t.Fatal(err)
		}
		c, err := ParseCondition(text, scope)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if got := c.Holds(it); got != want {
			t.Errorf("%s: %t", text, got)
		}
	}
}

func TestConditionErrors(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"":                                       "The expression can not be empty;",
		"n":                                      `Syntax error; token: "<EOF>", near: "n"`,
		"attribute_exists(":                      `Syntax error; token: "<EOF>", near: "("`,
		"n = :n AND":                             `Syntax error; token: "<EOF>", near: "AND"`,
		"n == :n":                                `Syntax error; token: "=", near: "== :n"`,
		"n = = :n":                               `Syntax error; token: "=", near: "= = :n"`,
		"_n = :n":                                `Syntax error; token: "_", near: "_n"`,
		"n = :n AND !!!":                         `Syntax error; token: "!", near: "AND !!"`,
		"n = :":                                  `Syntax error; token: ":", near: "= :"`,
		"n BETWEEN :f AND :f":                    "Incorrect operand type for operator or function; operator or function: BETWEEN, operand type: BOOL",
		"n = :n)":                                `Syntax error; token: ")"`,
		"((n = :n))":                             "The expression has redundant parentheses;",
		"n = ((:n))":                             "The expression has redundant parentheses;",
		"size = :n":                              "Attribute name is a reserved keyword; reserved keyword: size",
		"m.Name = :n":                            "Attribute name is a reserved keyword; reserved keyword: Name",
		"foo(n)":                                 "Invalid function name; function: foo",
		"if_not_exists(n, :n) = :n":              "The function is not allowed to be used this way in an expression; function: if_not_exists",
		"size(n)":                                "The function is not allowed to be used this way in an expression; function: size",
		"contains(s, :a) = :n":                   "The function is not allowed to be used this way in an expression; function: contains",
		"n = :missing":                           "An expression attribute value used in expression is not defined; attribute value: :missing",
		"#x = :n":                                "An expression attribute name used in the document path is not defined; attribute name: #x",
		"size(n, s) = :n":                        "Incorrect number of operands for operator or function; operator or function: size, number of operands: 2",
		"attribute_exists(:n)":                   "Operator or function requires a document path; operator or function: attribute_exists",
		"attribute_type(n, :a)":                  "Invalid attribute type name found; type: a, valid types: {B,NULL,SS,BOOL,L,BS,N,NS,S,M}",
		"attribute_type(n, s)":                   "Incorrect operand type for operator or function; operator or function: attribute_type, operand type: {NS,SS,L,BS,N,M,B,BOOL,NULL,S}",
		"begins_with(n, :n)":                     "Incorrect operand type for operator or function; operator or function: begins_with, operand type: N",
		"n < :list":                              "Incorrect operand type for operator or function; operator or function: <, operand type: L",
		"n = n":                                  "The first operand must be distinct from the remaining operands for this operator or function; operator: =, first operand: [n]",
		"n BETWEEN :six AND :one":                "The BETWEEN operator requires upper bound to be greater than or equal to lower bound; lower bound operand: AttributeValue: {N:6}, upper bound operand: AttributeValue: {N:1}",
		"n BETWEEN :one AND :a":                  "The BETWEEN operator requires same data type for lower and upper bounds; lower bound operand: AttributeValue: {N:1}, upper bound operand: AttributeValue: {S:a}",
		"n = :n OR " + strings.Repeat("x", 4096): "Expression size has exceeded the maximum allowed size; expression size: 4106",
	} {
		scope, err := NewScope(parsed(t, ""), parsed(t, values))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ParseCondition(text, scope); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%.60s: %v\nwant %s", text, err, want)
		}
	}
}

func TestUpdates(t *testing.T) {
	t.Parallel()
	const from = `{"h":{"S":"k"},"n":{"N":"5"},"l":{"L":[{"N":"0"},{"N":"1"},{"N":"2"},{"N":"3"},{"N":"4"}]},"m":{"M":{"a":{"N":"1"},"l":{"L":[{"S":"x"}]}}},"ss":{"SS":["a","b"]},"big":{"N":"1e50"}}`
	const args = `{":one":{"N":"1"},":neg":{"N":"-2.5"},":x":{"S":"x"},":y":{"S":"y"},":list":{"L":[{"S":"z"}]},":set":{"SS":["b","c"]},":ab":{"SS":["a","b"]},":map":{"M":{}},":nset":{"NS":["1"]}}`
	for text, want := range map[string]string{
		"SET n = n + :one":                                    `"n":{"N":"6"}`,
		"SET n = :neg - n":                                    `"n":{"N":"-7.5"}`,
		"SET n = (n + :one)":                                  `"n":{"N":"6"}`,
		"set c = if_not_exists(c, :one) + :one":               `"c":{"N":"2"}`,
		"SET c = if_not_exists(n, :x)":                        `"c":{"N":"5"}`,
		"SET c = if_not_exists(q, if_not_exists(n, :x))":      `"c":{"N":"5"}`,
		"SET m.l = list_append(:list, m.l)":                   `"l":{"L":[{"S":"z"},{"S":"x"}]}`,
		"SET m.l = list_append(if_not_exists(q, m.l), :list)": `"l":{"L":[{"S":"x"},{"S":"z"}]}`,
		"SET n = big, big = n":                                `"big":{"N":"5"},"h":{"S":"k"}`, // both see what was
		"SET m.b.c = :x":                                      "!The document path provided in the update expression is invalid for update",
		"SET m.b = :x, m.a = :y":                              `"a":{"S":"y"},"b":{"S":"x"}`,
		"SET l[1] = :x REMOVE l[0], l[3]":                     `"l":{"L":[{"S":"x"},{"N":"2"},{"N":"4"}]}`,
		"REMOVE l[1] SET l[3] = :x":                           `"l":{"L":[{"N":"0"},{"N":"2"},{"S":"x"},{"N":"4"}]}`,
		"SET l[84] = :x, l[37] = :y":                          `{"N":"4"},{"S":"y"},{"S":"x"}]`,
		"REMOVE l[17], q, m.q":                                `"l":{"L":[{"N":"0"},{"N":"1"},{"N":"2"},{"N":"3"},{"N":"4"}]}`,
		"REMOVE q.a":                                          "!The document path provided in the update expression is invalid for update",
		"REMOVE m.l[0]":                                       `"l":{"L":[]}`,
		"ADD n :neg":                                          `"n":{"N":"2.5"}`,
		"ADD q :one":                                          `"q":{"N":"1"}`,
		"ADD ss :set":                                         `"ss":{"SS":["a","b","c"]}`,
		"ADD q :set":                                          `"q":{"SS":["b","c"]}`,
		"ADD ss :nset":                                        "!An operand in the update expression has an incorrect data type",
		"DELETE ss :set":                                      `"ss":{"SS":["a"]}`,
		"DELETE ss :ab":                                       `"n":{"N":"5"}}`,
		"DELETE q :ab":                                        `"ss":{"SS":["a","b"]}`,
		"SET n = q":                                           "!The provided expression refers to an attribute that does not exist in the item",
		"SET n = h + :one":                                    "!An operand in the update expression has an incorrect data type",
		"SET n = big + :one":                                  "!Number overflow. Attempting to store a number with magnitude larger than supported range",
		"SET n = list_append(n, :list)":                       "!An operand in the update expression has an incorrect data type",
		"SET a = :x":                                          `{"a":{"S":"x"}`,
	} {
		before := item(t, from)
		text := text
		scope, err := NewScope(parsed(t, ""), parsed(t, args))
		if err != nil {
			t.Fatal(err)
		}
		u, err := ParseUpdate(text, scope)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		after, err := u.Apply(before)
		got := string(after.Append(nil))
		if message, wantErr := strings.CutPrefix(want, "!"); wantErr {
			if err == nil || err.Error() != message {
				t.Errorf("%s: %v %s", text, err, got)
			}
		} else if err != nil || !strings.Contains(got, want) {
			t.Errorf("%s: %v\ngot  %s\nwant %s", text, err, got, want)
		}
		if string(before.Append(nil)) != string(item(t, from).Append(nil)) {
			t.Fatalf("%s changed the item it was given", text)
		}
	}
}

func TestUpdateErrors(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"HELLO n = :one":                            `Syntax error; token: "HELLO", near: "HELLO n"`,
		"SET n = :one SET m = :one":                 `The "SET" section can only be used once in an update expression;`,
		"SET n = :one, n.a = :one":                  "Two document paths overlap with each other; must remove or rewrite one of these paths; path one: [n], path two: [n, a]",
		"SET n.a = :one, n[1] = :one":               "Two document paths conflict with each other; must remove or rewrite one of these paths; path one: [n, a], path two: [n, [1]]",
		"SET n = :one REMOVE n":                     "Two document paths overlap",
		"SET n = if_not_exists(n, :one + :one)":     "Syntax error",
		"SET n = :one + :one + :one":                "Syntax error",
		"SET n = (n + :one) + :one":                 "Syntax error",
		"SET n = f(n)":                              "Invalid function name; function: f",
		"SET n = attribute_exists(n)":               "The function is not allowed to be used this way in an expression; function: attribute_exists",
		"SET n = list_append(list_append(n, n), n)": "The function is not allowed to be used this way in an expression; function: list_append",
		"SET n = if_not_exists(:one, :one)":         "Operator or function requires a document path; operator or function: if_not_exists",
		"SET n = :x + :one":                         "Incorrect operand type for operator or function; operator or function: +, operand type: S",
		"SET n = if_not_exists(n)":                  "Incorrect number of operands for operator or function; operator or function: if_not_exists, number of operands: 1",
		"ADD n :x":                                  "Incorrect operand type for operator or function; operator: ADD, operand type: STRING",
		"DELETE n :one":                             "Incorrect operand type for operator or function; operator: DELETE, operand type: NUMBER",
		"ADD n m":                                   "Syntax error",
		"SET abort = :one":                          "Attribute name is a reserved keyword; reserved keyword: abort",
		"SET n[:one] = :one":                        "Syntax error",
		"SET n = :nope":                             "An expression attribute value used in expression is not defined; attribute value: :nope",
	} {
		scope, err := NewScope(parsed(t, ""), parsed(t, `{":one":{"N":"1"},":x":{"S":"x"}}`))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ParseUpdate(text, scope); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s: %v\nwant %s", text, err, want)
		}
	}
}

func TestProjections(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"n, m.k":                  `{"m":{"M":{"k":{"N":"3"}}},"n":{"N":"5"}}`,
		"l[2], l[0]":              `{"l":{"L":[{"N":"1"},{"L":[{"N":"7"}]}]}}`,
		"l[2][0], m.deep.x":       `{"l":{"L":[{"L":[{"N":"7"}]}]},"m":{"M":{"deep":{"M":{"x":{"S":"y"}}}}}}`,
		"nope, m.nope, l[9], n.a": `{}`,
	} {
		scope, _ := NewScope(parsed(t, ""), parsed(t, ""))
		p, err := ParseProjection(text, scope)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if got := string(p.Apply(item(t, stored)).Append(nil)); got != want {
			t.Errorf("%s: %s", text, got)
		}
	}
}

func TestScope(t *testing.T) {
	t.Parallel()
	scope, err := NewScope(parsed(t, `{"#a":"x","#b":"y"}`), parsed(t, `{":v":{"S":"1"}}`))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ParseCondition("#a = :v", scope); err != nil {
		t.Fatal(err)
	}
	if err := scope.Unused(); err == nil || err.Error() != "Value provided in ExpressionAttributeNames unused in expressions: keys: {#b}" {
		t.Errorf("unused: %v", err)
	}
	for names, want := range map[string]string{
		`{}`: "ExpressionAttributeNames must not be empty", `{"a":"x"}`: `ExpressionAttributeNames contains invalid key: Syntax error; key: "a"`, `{"#a-b":"x"}`: `ExpressionAttributeNames contains invalid key: Syntax error; key: "#a-b"`,
	} {
		if _, err := NewScope(parsed(t, names), parsed(t, "")); err == nil || err.Error() != want {
			t.Errorf("%s: %v", names, err)
		}
	}
	if len(reserved) != 573 {
		t.Errorf("%d reserved words", len(reserved))
	}
}

// FuzzExpressions feeds text to all three parsers: none may panic, and what
// parses must evaluate without panicking.
func FuzzExpressions(f *testing.F) {
	for _, seed := range []string{"n = :n", "NOT (size(l[0].a) <> :s)", "SET n = if_not_exists(n, :n) + :n REMOVE l[0], m.k ADD q :n DELETE ss :ba", "n, m.k, l[2]", "#a BETWEEN :n AND (:six)", "a IN (:n, :s)", "((", "SET l[99999999999] = :n"} {
		f.Add(seed)
	}
	it := item(f, stored)
	f.Fuzz(func(t *testing.T, text string) {
		scope := func() *Scope {
			s, err := NewScope(parsed(t, `{"#a":"n","#b":"m"}`), parsed(t, values))
			if err != nil {
				t.Fatal(err)
			}
			return s
		}
		if c, err := ParseCondition(text, scope()); err == nil {
			c.Holds(it)
			c.Holds(nil)
			var keys []KeyCondition
			c.root.keys(&keys) //nolint:errcheck // it may fail
		}
		if u, err := ParseUpdate(text, scope()); err == nil {
			if after, err := u.Apply(it); err == nil {
				if !json.Valid(after.Append(nil)) {
					t.Errorf("%s leads to an item that cannot be stored", text)
				}
				u.Written().Apply(after)
			}
		}
		if p, err := ParseProjection(text, scope()); err == nil {
			p.Apply(it)
		}
	})
}
