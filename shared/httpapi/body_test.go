package httpapi

import (
	"bytes"
	"encoding/json"
	"net/url"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/uuid"

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
		b, err := parseBody(raw)
		if err != nil {
			if whatisup.ErrorCode(err) != whatisup.CodeInvalidRequest {
				t.Fatalf("%v", err)
			}
			return
		}
		if !json.Valid(raw) || !utf8.Valid(raw) {
			t.Fatalf("took %q", raw)
		}
		b.name(true)
		metadata, ok := b.metadata()
		b.phone("phone_number", true)
		b.done()
		if !ok {
			return
		}
		if depth(metadata) > metadataDepth || len(metadata) > maxMetadata {
			t.Fatalf("took metadata %q", metadata)
		}
		var want, got bytes.Buffer
		if json.Compact(&want, b.fields["metadata"]) != nil || json.Compact(&got, metadata) != nil || !bytes.Equal(want.Bytes(), got.Bytes()) {
			t.Fatalf("gave %q, kept %q", b.fields["metadata"], metadata)
		}
	})
}

// A cursor is taken only where it was made.
func FuzzCursor(f *testing.F) {
	s := cursorSeal{whatisup.Peppers{1: "0123456789abcdef"}}
	f.Add(s.make(uuid.NewString(), "a", "b"), "a", "b")
	f.Add("", "", "")
	f.Fuzz(func(t *testing.T, cursor, a, b string) {
		if id, ok := s.open(cursor, a, b); ok && s.make(id, a, b) != cursor {
			t.Fatalf("took %q", cursor)
		}
		if _, ok := s.open(cursor, a, b+"x"); ok {
			t.Fatal("took it with another filter")
		}
	})
}

func FuzzPath(f *testing.F) {
	for _, s := range []string{"/v1/instances", "/v1/instances/x", "/v1/instances/%2F", "/v1//", "/%", "", "/v1/events/../instances"} {
		f.Add("GET", s)
	}
	f.Fuzz(func(t *testing.T, method, path string) {
		for _, u := range []*url.URL{{Path: path}, {Path: path, RawPath: path}} {
			route, id, allow := find(method, u)
			if route != nil && (len(allow) > 0 || strings.Contains(route.Path, "{id}") != (id != "")) {
				t.Fatalf("%+v %q %v", route, id, allow)
			}
		}
	})
}

func FuzzCommand(f *testing.F) {
	f.Add([]byte(`{"command_id":"1","command":"create","customer_id":"01a2041a-cb31-75ab-a808-e5930c7b0de1","mode":"test","name":"x"}`))
	f.Add([]byte(`{}`))
	f.Fuzz(func(t *testing.T, message []byte) {
		cmd, err := parseCommand(message)
		if err == nil && (cmd.id == "" || cmd.name == "" || cmd.customer == "" || !cmd.mode.Valid()) {
			t.Fatalf("took %q as %+v", message, cmd)
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

// A list's weight is never less than what it weighs as a JSON string.
func TestListSize(t *testing.T) {
	t.Parallel()
	for _, s := range []string{`{"a":"b"}`, "<&>", "\u2028\u2029", "ü€😀", "\\\"\n\x01", strings.Repeat(`"`, 1000)} {
		var size listSize
		size.add([]byte(s))
		quoted, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		if size.quoted < len(quoted)-2 {
			t.Errorf("%q weighs %d, counted %d", s, len(quoted)-2, size.quoted)
		}
	}
}

func TestEveryErrorHasItsStatus(t *testing.T) {
	t.Parallel()
	for _, c := range whatisup.Codes() {
		a := errorAnswer(whatisup.NewError(c, "x"), "req_1")
		if a.status != c.Status() || a.status < 400 {
			t.Errorf("%s: %d", c, a.status)
		}
	}
	b, _, _ := errorAnswer(errNoQR.Because(errMethod), "req_1").encode()
	if strings.Contains(string(b), "method") {
		t.Errorf("a cause leaves: %s", b)
	}
}
