package httpapi

import (
	"encoding/json"
	"net/url"
	"strings"
	"testing"

	"github.com/google/uuid"

	"whatisup/shared/control"
	"whatisup/shared/whatisup"
)

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
	b, _, _ := errorAnswer(control.ErrNoQR.Because(errMethod), "req_1").encode()
	if strings.Contains(string(b), "method") {
		t.Errorf("a cause leaves: %s", b)
	}
}
