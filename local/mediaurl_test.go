package local_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"whatisup/local/localtest"
	"whatisup/local/whatsapp"
	"whatisup/shared/whatisup"
)

// foreignFiles is somebody's web server. It counts what it is asked for.
type foreignFiles struct {
	*httptest.Server
	mu    sync.Mutex
	asked map[string]int
}

func (f *foreignFiles) times(path string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.asked[path]
}

func serveFiles(t *testing.T, picture []byte) *foreignFiles {
	f := &foreignFiles{asked: map[string]int{}}
	f.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f.mu.Lock()
		f.asked[r.URL.Path]++
		f.mu.Unlock()
		to, _ := strings.CutPrefix(r.URL.Path, "/redirects/")
		switch {
		case r.URL.Path == "/picture.jpg":
			w.Header().Set("Content-Type", "text/html") // the bytes decide
			w.Write(picture)                            //nolint:errcheck // it is read below
		case r.URL.Path == "/page":
			w.Write([]byte("<html><script>alert(1)</script>")) //nolint:errcheck // as above
		case r.URL.Path == "/empty":
		case r.URL.Path == "/large":
			w.Header().Set("Content-Length", fmt.Sprint(whatisup.MediaMost+1))
		case r.URL.Path == "/metadata":
			http.Redirect(w, r, "http://169.254.169.254/latest/meta-data", http.StatusFound)
		case to == "0":
			http.Redirect(w, r, "/picture.jpg", http.StatusFound)
		case len(to) == 1:
			http.Redirect(w, r, fmt.Sprintf("/redirects/%c", to[0]-1), http.StatusFound)
		default:
			w.WriteHeader(404)
		}
	}))
	t.Cleanup(f.Close)
	return f
}

// A file is fetched from its source_url once, after the answer; what goes wrong is
// failed with its reason, and what the guard refuses is refused when it is given.
func TestSourceURL(t *testing.T) {
	t.Parallel()
	s := localtest.Start(t, nil)
	api := localtest.NewClient(t, s.API, s.Keys[whatisup.Test])
	file := picture(t, 40, 30)
	from := serveFiles(t, file)
	for path, want := range map[string]string{
		"/picture.jpg": "", "/redirects/1": "",
		"/redirects/3": "The URL redirects more than 3 times.",
		"/metadata":    "The URL leads to an address that must not be fetched from.",
		"/large":       "The file has more than 100 MB.",
		"/empty":       "The URL answered with an empty file.",
		"/missing":     "The URL answered 404.",
	} {
		var m media
		api.Must(201, "POST", "/v1/media", fmt.Sprintf(`{"source_url":%q}`, from.URL+path), &m)
		if m.Status != "fetching" {
			t.Errorf("%s: a new file is %s", path, m.Status)
		}
		m = awaitMedia(t, api, m.MediaID)
		switch {
		case want == "" && m.Status == "ready":
			if resp, got := get(t, m.URL); resp.StatusCode != 200 || !bytes.Equal(got, file) || m.MimeType != "image/jpeg" || m.SHA256 != hashOf(file) {
				t.Errorf("%s: %d, %d bytes, %+v", path, resp.StatusCode, len(got), m)
			}
		case m.Status != "failed" || m.Error.Code != "media_unavailable" || m.Error.Message != want:
			t.Errorf("%s: %s %+v, want %q", path, m.Status, m.Error, want)
		}
	}
	for path, want := range map[string]int{"/picture.jpg": 2, "/missing": 1} { // one by way of redirects
		if n := from.times(path); n != want {
			t.Errorf("%s was asked for %d times", path, n)
		}
	}
	for _, url := range []string{"http://169.254.169.254/", "https://10.0.0.1/a.jpg", "https://[::1]:80@example.com/", "ftp://example.com/a", "file:///etc/passwd", "https://user:pass@example.com/a", "nothing", s.API + "/v1"} {
		resp, b := api.Do("POST", "/v1/media", fmt.Sprintf(`{"source_url":%q}`, url))
		if resp.StatusCode != 400 || !strings.Contains(string(b), `"field":"source_url"`) {
			t.Errorf("%s: %d %s", url, resp.StatusCode, b)
		}
	}
	// One machine's own addresses are for test keys only.
	live := localtest.NewClient(t, s.API, s.Keys[whatisup.Live])
	if resp, b := live.Do("POST", "/v1/media", fmt.Sprintf(`{"source_url":%q}`, from.URL+"/picture.jpg")); resp.StatusCode != 400 {
		t.Errorf("a live key at loopback: %d %s", resp.StatusCode, b)
	}
}

// A message's media_url is fetched once, after the answer, and comes to the phone byte
// for byte; what can't be fetched or sent ends the message with the reason.
func TestMediaURL(t *testing.T) {
	t.Parallel()
	s := localtest.Start(t, nil)
	m := newMailbox(t, localtest.NewClient(t, s.API, s.Keys[whatisup.Test]))
	file := picture(t, 40, 30)
	from := serveFiles(t, file)
	send := func(number, kind, path string) string {
		return m.send(fmt.Sprintf(`{"to":%q,"body":{"type":%q,"media_url":%q}}`, number, kind, from.URL+path)).ID
	}
	m.await(send("4915100000101", "image", "/redirects/2"), "read")
	shown := shownBy(t, s.Simulator, customerOf(t, m), "4915100000101")
	var got whatsapp.Body
	if len(shown) != 1 {
		t.Fatalf("%d messages are shown", len(shown))
	}
	if err := json.Unmarshal(shown[0].Body, &got); err != nil || got.SHA256 != hashOf(file) || from.times("/picture.jpg") != 1 {
		t.Errorf("the phone shows %s, asked for %d times, %v", shown[0].Body, from.times("/picture.jpg"), err)
	}
	for n, c := range []struct{ kind, path, code string }{
		{"image", "/missing", "media_unavailable"},
		{"image", "/metadata", "media_unavailable"},
		{"image", "/redirects/3", "media_unavailable"},
		{"document", "/large", "media_unavailable"},
		{"image", "/page", "unsupported_media"},
		{"sticker", "/picture.jpg", "unsupported_media"},
	} {
		number := fmt.Sprintf("491510000020%d", n)
		if l := m.await(send(number, c.kind, c.path), "failed", "read"); l.Status != "failed" || l.Error.Code != c.code || l.MayHaveBeenSent {
			t.Errorf("%s of %s: %s %+v", c.kind, c.path, l.Status, l.Error)
		}
		if shown := shownBy(t, s.Simulator, customerOf(t, m), number); len(shown) != 0 {
			t.Errorf("%s of %s is shown: %+v", c.kind, c.path, shown)
		}
	}
	for _, url := range []string{"http://169.254.169.254/", "https://192.168.1.1/a", "gopher://example.com/"} {
		resp, b := m.Do("POST", m.path, fmt.Sprintf(`{"to":"4915100000101","body":{"type":"image","media_url":%q}}`, url))
		if resp.StatusCode != 400 || !strings.Contains(string(b), `"field":"body.media_url"`) {
			t.Errorf("%s: %d %s", url, resp.StatusCode, b)
		}
	}
}
