package input

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"

	"whatisup/shared/whatisup"
)

// Whatever the bytes, a body is refused or is one object without repeated keys,
// and its metadata means the same afterwards.
func FuzzBody(f *testing.F) {
	for _, s := range []string{`{}`, `{"name":"x","metadata":{"a":[1,{"b":null}]}}`, `{"a":1,"a":2}`, `{"\u0061":1,"a":2}`,
		`[[[[`, `{"name":"\ud800"}`, "\xff", `{"metadata":{"n":1e999}}`, `{}{}`, ` { } `, `{"expires_at":"2030-01-01T00:00:00Z"}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		b, err := Parse(raw)
		if err != nil {
			if whatisup.ErrorCode(err) != whatisup.CodeInvalidRequest {
				t.Fatalf("%v", err)
			}
			return
		}
		if !json.Valid(raw) || !utf8.Valid(raw) {
			t.Fatalf("took %q", raw)
		}
		b.Name(true)
		metadata, ok := b.Metadata()
		b.Phone("phone_number", true)
		b.Done()
		if !ok {
			return
		}
		if depth(metadata) > metadataDepth || len(metadata) > maxMetadata {
			t.Fatalf("took metadata %q", metadata)
		}
		var want, got bytes.Buffer
		if json.Compact(&want, b.Fields["metadata"]) != nil || json.Compact(&got, metadata) != nil || !bytes.Equal(want.Bytes(), got.Bytes()) {
			t.Fatalf("gave %q, kept %q", b.Fields["metadata"], metadata)
		}
	})
}

func TestDepth(t *testing.T) {
	t.Parallel()
	for s, want := range map[string]int{`{}`: 1, `{"a":"[[[\"[["}`: 1, `{"a":[{}]}`: 3, `[[],[[]]]`: 3} {
		if got := depth([]byte(s)); got != want {
			t.Errorf("%s: %d, want %d", s, got, want)
		}
	}
}

// An object within a body is as strict as the body, and its problems name the
// whole path.
func TestObjectsWithin(t *testing.T) {
	t.Parallel()
	read := func(raw string) string {
		b, err := Parse([]byte(raw))
		if err != nil {
			return err.Error()
		}
		b.Text("to", true)
		if body, ok := b.Object("body", true); ok {
			body.Text("text", true)
			if preview, ok := body.Object("link_preview", false); ok {
				preview.Text("url", true)
			}
			if contacts, ok := body.Objects("contacts", false); ok {
				for _, c := range contacts {
					c.Text("name", true)
				}
			}
		}
		err = b.Done()
		if err == nil {
			return ""
		}
		var said []string
		for _, p := range err.(*whatisup.Error).Details["fields"].([]Problem) {
			said = append(said, p.Field+" "+p.Problem)
		}
		return strings.Join(said, "; ")
	}
	for raw, want := range map[string]string{
		`{"to":"x","body":{"text":"y"}}`:                                              "",
		`{"to":"x"}`:                                                                  "body is required",
		`{"to":"x","body":[]}`:                                                        "body must be an object",
		`{"to":"x","body":null}`:                                                      "body must be an object",
		`{"to":1,"body":{"text":2}}`:                                                  "to must be a string; body.text must be a string",
		`{"to":"x","body":{"text":"y","link_preview":{}}}`:                            "body.link_preview.url is required",
		`{"to":"x","body":{"text":"y","contacts":[1]}}`:                               "body.contacts[0] must be an object",
		`{"to":"x","body":{"text":"y","contacts":{}}}`:                                "body.contacts must be a list of objects",
		`{"to":"x","body":{"text":"y","contacts":[{},{"name":"z","zzz":1}]}}`:         "body.contacts[0].name is required; body.contacts[1].zzz is not a field of this request",
		`{"a":1,"to":"x","body":{"b":1,"text":"y","link_preview":{"url":"u","c":1}}}`: "a is not a field of this request; body.b is not a field of this request; body.link_preview.c is not a field of this request",
	} {
		if got := read(raw); got != want {
			t.Errorf("%s: %q, want %q", raw, got, want)
		}
	}
	if got := read(`{"to":"x","body":{"text":"y","link_preview":{"url":"u","url":"v"}}}`); !strings.Contains(got, "body.link_preview.url occurs twice") {
		t.Errorf("a key that occurs twice in an inner object: %q", got)
	}
}

// Half a surrogate pair is refused wherever text is kept.
func TestUnpairedSurrogates(t *testing.T) {
	t.Parallel()
	for raw, want := range map[string]bool{
		`"\ud83d\ude00"`: true, `"\\ud83d"`: true, `"x\n\u00e9"`: true, `"\ufffd"`: true,
		`"\ud83d"`: false, `"\ude00"`: false, `"\ud83d\u0041"`: false, `"\ud83d\ud83d\ude00"`: false, `{"\udfff":1}`: false,
	} {
		if got := unicodeText([]byte(raw)); got != want {
			t.Errorf("%s: %v", raw, got)
		}
	}
}

// Two bodies with the same values have one canonical form.
func TestCanonical(t *testing.T) {
	t.Parallel()
	form := func(s string) string {
		b, err := Canonical([]byte(s))
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	if a, b := form(`{"a":1.50,"b":["x","\u00e9/"]}`), form("{ \"b\" : [\"\\u0078\", \"é\\/\"],\n\"a\":1.50 }"); a != b {
		t.Errorf("%s and %s", a, b)
	}
	for _, same := range [][2]string{
		{"1.50", "1.5"}, {"1", "1.0"}, {"2e0", "2"}, {"100", "1E+2"}, {"-0.0", "0"}, {"-12e-1", "-1.2"}, {"0.001", "1e-3"},
		{"12345678901234567890.10", "12345678901234567890.1"}, {"[1,{\"b\":10}]", "[1.0,{\"b\":1e1}]"},
	} {
		if form(same[0]) != form(same[1]) {
			t.Errorf("%s is %s, %s is %s", same[0], form(same[0]), same[1], form(same[1]))
		}
	}
	for _, differ := range [][2]string{
		{"1", "-1"}, {"1", "10"}, {"12345678901234567890", "12345678901234567891"}, {"1e99999999999999999999", "1e99999999999999999998"},
		{"0.1", "0.01"}, {"1e9999999", "1e9999998"}, {"1", "\"1\""},
	} {
		if form(differ[0]) == form(differ[1]) {
			t.Errorf("%s and %s count as the same", differ[0], differ[1])
		}
	}
	for _, other := range []string{`{"a":1.51}`, `{"a":"1.50"}`, `{"A":1.50}`, `{"a":[1.50]}`} {
		if form(other) == form(`{"a":1.50}`) {
			t.Errorf("%s counts as the same", other)
		}
	}
}
