package wire

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
)

// asAny turns a node into what encoding/json makes of the same text.
func (n *Node) asAny() any {
	switch n.Kind {
	case True:
		return true
	case False:
		return false
	case Number:
		return json.Number(n.Text)
	case String:
		return n.Text
	case Array:
		out := []any{}
		for i := range n.List {
			out = append(out, n.List[i].asAny())
		}
		return out
	case Object:
		out := map[string]any{}
		for i := range n.Fields {
			out[n.Fields[i].Name] = n.Fields[i].Value.asAny()
		}
		return out
	}
	return nil
}

// FuzzParse holds the parser to encoding/json: the same texts are accepted and
// mean the same, and what is printed reads back.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		`{"TableName":"t","Item":{"a":{"S":"x"},"n":{"N":"1e5"}}}`, `[1,-2.5e+10,true,false,null,"\u00e4\ud83d\ude00\ud800\n\"\\\/"]`, `{}`, `[]`, `01`, `1.`, `"\x"`, `{"a":1,"a":2}`, ` [ ] `, "\"\x01\"", `{"a"`, `nul`,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		n, err := Parse(text)
		var want any
		d := json.NewDecoder(strings.NewReader(text))
		d.UseNumber()
		wantErr := d.Decode(&want)
		if wantErr == nil && !json.Valid([]byte(text)) {
			wantErr = errSyntax // something follows the value
		}
		if err != nil {
			if wantErr == nil && strings.ToValidUTF8(text, "") == text && strings.Count(text, "[")+strings.Count(text, "{") <= maxDepth {
				t.Fatalf("%q is refused: %v", text, err)
			}
			return
		}
		if wantErr != nil {
			t.Fatalf("%q is accepted", text)
		}
		if got := n.asAny(); !reflect.DeepEqual(got, want) {
			t.Fatalf("%q reads as %v, want %v", text, got, want)
		}
		again, err := Parse(string(n.Append(nil)))
		if err != nil || !reflect.DeepEqual(again.asAny(), n.asAny()) {
			t.Fatalf("%q prints as %s", text, n.Append(nil))
		}
	})
}
