package dashboard_test

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"whatisup/shared/dashboard"
	"whatisup/shared/httpapi"
	"whatisup/shared/whatisup"
)

// limit is what the page may weigh.
const limit = 100_000

var languages = []string{"en", "es", "pt"}

func get(t *testing.T, path string, header ...string) *http.Response {
	t.Helper()
	return getFrom(dashboard.Handler("https://stream.example/v1/events", ""), path, header...)
}

func getFrom(h http.Handler, path string, header ...string) *http.Response {
	r := httptest.NewRequest(http.MethodGet, path, nil)
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Result()
}

func body(t *testing.T, r *http.Response) []byte {
	t.Helper()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// files are the paths of everything that is served, found on disk: a file that
// is there and not served would be forgotten.
func files(t *testing.T) map[string][]byte {
	t.Helper()
	names, err := filepath.Glob("files/*")
	if err != nil || len(names) < 10 {
		t.Fatalf("%d files, %v", len(names), err)
	}
	all := make(map[string][]byte)
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		path := "/dashboard/" + filepath.Base(name)
		if path == "/dashboard/index.html" {
			path = "/"
		}
		all[path] = b
	}
	return all
}

func TestEveryFileIsServed(t *testing.T) {
	for path, want := range files(t) {
		r := get(t, path)
		if got := body(t, r); r.StatusCode != 200 || !bytes.Equal(got, want) {
			t.Errorf("%s: status %d, %d bytes of %d", path, r.StatusCode, len(got), len(want))
		}
		for _, name := range []string{"Content-Type", "ETag", "Content-Security-Policy"} {
			if r.Header.Get(name) == "" {
				t.Errorf("%s: no %s", path, name)
			}
		}
		if again := get(t, path, "If-None-Match", r.Header.Get("ETag")); again.StatusCode != http.StatusNotModified {
			t.Errorf("%s: asked for again, status %d", path, again.StatusCode)
		}
	}
	for _, path := range []string{"/dashboard/", "/dashboard/index.html", "/dashboard/../dashboard.go", "/dashboard/nothing.js", "/index.html"} {
		if r := get(t, path); r.StatusCode != http.StatusNotFound {
			t.Errorf("%s: status %d", path, r.StatusCode)
		}
	}
}

// What a visitor loads is the page in one language, compressed.
func TestItIsSmall(t *testing.T) {
	page, largest := 0, 0
	for path, content := range files(t) {
		r := get(t, path, "Accept-Encoding", "br, gzip;q=0.9")
		if r.Header.Get("Content-Encoding") != "gzip" || r.Header.Get("Vary") == "" {
			t.Errorf("%s is not compressed", path)
			continue
		}
		b := body(t, r)
		zip, err := gzip.NewReader(bytes.NewReader(b))
		if err != nil {
			t.Fatal(err)
		}
		if plain, err := io.ReadAll(zip); err != nil || !bytes.Equal(plain, content) {
			t.Errorf("%s comes out different: %v", path, err)
		}
		if r.Header.Get("ETag") == get(t, path).Header.Get("ETag") {
			t.Errorf("%s: the same ETag for other bytes", path)
		}
		if filepath.Ext(path) == ".json" {
			largest = max(largest, len(b))
		} else {
			page += len(b)
		}
	}
	t.Logf("the page in one language, as sent: at most %d bytes", page+largest)
	if page+largest > limit {
		t.Errorf("the page in one language is %d bytes as sent, more than %d", page+largest, limit)
	}
}

func TestPolicy(t *testing.T) {
	page := getFrom(dashboard.Handler("https://stream.example/v1/events", "https://files.example/"), "/")
	policy := page.Header.Get("Content-Security-Policy")
	for _, want := range []string{
		"default-src 'none'", "script-src 'self';", "style-src 'self';", "connect-src 'self' https://stream.example https://files.example;",
		"img-src 'self' data: https://files.example;", "media-src 'self' https://files.example;",
		"base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'", "require-trusted-types-for 'script'",
	} {
		if !strings.Contains(policy+";", want) {
			t.Errorf("the policy lacks %s: %s", want, policy)
		}
	}
	if text := string(body(t, page)); !strings.Contains(text, `<meta name="bucket" content="https://files.example">`) {
		t.Errorf("the page does not know the bucket: %s", text)
	}
	if strings.Contains(policy, "unsafe") || strings.Contains(policy, "*") {
		t.Errorf("the policy is open: %s", policy)
	}
	for _, url := range []string{"", "/v1/events", "javascript:alert(1)", "://", "https:; script-src *"} {
		w := httptest.NewRecorder()
		dashboard.Handler(url, url).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/", nil))
		for _, want := range []string{"connect-src 'self';", "img-src 'self' data:;", "media-src 'self';"} {
			if p := w.Header().Get("Content-Security-Policy"); !strings.Contains(p, want) {
				t.Errorf("with the events and the bucket at %q: %s", url, p)
			}
		}
		if !strings.Contains(w.Body.String(), `<meta name="bucket" content="">`) {
			t.Errorf("with the bucket at %q the page is %s", url, w.Body)
		}
	}
}

// TestNothingForeign holds the sources to the policy, so that a violation is
// found without a browser too.
func TestNothingForeign(t *testing.T) {
	forbidden := regexp.MustCompile(`(?i)\bstyle=|\bon[a-z]+="|<script>|<style|innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|javascript:`)
	foreign := regexp.MustCompile(`(?i)(?:https?:)?//[a-z0-9-]+\.[a-z]`)
	for path, content := range files(t) {
		if m := forbidden.Find(content); m != nil {
			t.Errorf("%s has %s", path, m)
		}
		if m := foreign.Find(bytes.ReplaceAll(content, []byte("http://www.w3.org/2000/svg"), nil)); m != nil {
			t.Errorf("%s names another host: %s", path, m)
		}
	}
}

func texts(t *testing.T, language string) map[string]string {
	t.Helper()
	texts := make(map[string]string)
	if err := json.Unmarshal(files(t)["/dashboard/"+language+".json"], &texts); err != nil {
		t.Fatal(err)
	}
	return texts
}

func TestEveryStateAndErrorHasASentence(t *testing.T) {
	for _, language := range languages {
		texts := texts(t, language)
		want := func(key string) string {
			if texts[key] == "" {
				t.Errorf("%s: nothing for %s", language, key)
			}
			return texts[key]
		}
		for _, s := range whatisup.Statuses {
			want("status." + string(s))
		}
		for _, m := range whatisup.Meanings {
			key := "meaning." + string(m.Status)
			if m.Reason != whatisup.NoReason {
				key += "." + string(m.Reason)
			}
			if text := want(key); language == "en" && text != m.Text {
				t.Errorf("%s is %q, and elsewhere %q", key, text, m.Text)
			}
		}
		for _, c := range whatisup.Codes() {
			want("error." + string(c))
		}
		for _, s := range whatisup.MessageStatuses {
			want("message.status." + string(s))
		}
		for _, w := range []whatisup.WaitingFor{
			whatisup.ForSchedule, whatisup.ForConnection, whatisup.ForMedia,
			whatisup.ForChatOrder, whatisup.ForPace, whatisup.ForRestriction,
		} {
			want("wait." + string(w))
		}
		for _, c := range []whatisup.MessageCode{
			whatisup.NotOnWhatsApp, whatisup.ReachoutRestricted, whatisup.NewChatLimit, whatisup.RejectedByWhatsApp,
			whatisup.NotInGroup, whatisup.NotAllowedInGroup, whatisup.MediaUnavailable, whatisup.UnsupportedMedia,
			whatisup.EditWindowPassed, whatisup.TargetNotSent, whatisup.NoRecipientDevice, whatisup.LinkLost, whatisup.MessageInternal,
		} {
			want("failed." + string(c))
		}
		for _, d := range whatisup.DeliveryStatuses {
			want("delivery." + string(d))
			want("delivery." + string(d) + ".text")
		}
		for _, e := range []whatisup.EndpointStatus{whatisup.EndpointActive, whatisup.EndpointDegraded, whatisup.EndpointDisabled} {
			want("endpoint." + string(e))
			want("endpoint." + string(e) + ".text")
		}
		for _, r := range []string{
			whatisup.DisabledByCustomer, whatisup.DisabledByOperator, whatisup.DisabledGone, whatisup.DisabledFailing, whatisup.DisabledInstance,
		} {
			want("endpoint.disabled." + r)
		}
		for _, b := range whatisup.Sendable {
			want("type." + string(b))
		}
		for _, b := range []whatisup.BodyType{
			whatisup.BodyEvent, whatisup.BodyAlbum, whatisup.BodyGroupInvite, whatisup.BodyInteractiveReply, whatisup.BodyInteractive,
			whatisup.BodyOrder, whatisup.BodyProduct, whatisup.BodyViewOnce, whatisup.BodyUndecryptable, whatisup.BodyUnsupported,
		} {
			want("type." + string(b))
		}
		for _, f := range httpapi.Faults {
			want("fault." + f)
		}
		for _, by := range []string{whatisup.ByPhone, whatisup.ByAPI, whatisup.ByWhatsApp, whatisup.ByNetwork} {
			want("event.instance.disconnected." + by)
		}
		for _, e := range whatisup.EventNames {
			if e == whatisup.InstanceConnected {
				want("event.instance.connected.new")
				want("event.instance.connected.resumed")
				continue
			}
			want("event." + string(e))
		}
	}
}

// TestEveryEventCanBeFiltered: the log's filter offers each.
func TestEveryEventCanBeFiltered(t *testing.T) {
	code := string(files(t)["/dashboard/log.js"])
	for _, e := range whatisup.EventNames {
		if !strings.Contains(code, `"`+string(e)+`"`) {
			t.Errorf("the filter lacks %s", e)
		}
	}
}

// TestLanguagesSayTheSame: the same keys, the same blanks to fill in, and no
// sentence left in English.
func TestLanguagesSayTheSame(t *testing.T) {
	blank := regexp.MustCompile(`\{\w+\}`)
	blanks := func(s string) []string {
		found := blank.FindAllString(s, -1)
		slices.Sort(found)
		return slices.Compact(found)
	}
	english := texts(t, "en")
	for _, language := range languages[1:] {
		other := texts(t, language)
		for key := range maps.Keys(english) {
			text, ok := other[key]
			switch {
			case !ok:
				t.Errorf("%s lacks %s", language, key)
			case !slices.Equal(blanks(text), blanks(english[key])):
				t.Errorf("%s: %s has other blanks: %q", language, key, text)
			case text == english[key] && strings.Count(text, " ") > 1:
				t.Errorf("%s: %s is in English: %q", language, key, text)
			}
		}
		for key := range maps.Keys(other) {
			if _, ok := english[key]; !ok {
				t.Errorf("%s has %s, which English has not", language, key)
			}
		}
	}
}

// TestStringsAndCodeAgree: no string is asked for that there isn't, and none is
// there that nobody asks for.
func TestStringsAndCodeAgree(t *testing.T) {
	var code strings.Builder
	for path, content := range files(t) {
		if strings.HasSuffix(path, ".js") {
			code.Write(content)
		}
	}
	english := texts(t, "en")
	for _, m := range regexp.MustCompile(`\bt\("([^"]+)"`).FindAllStringSubmatch(code.String(), -1) {
		if english[m[1]] == "" {
			t.Errorf("t(%q) has no string", m[1])
		}
	}
	// Keys that are made of parts.
	made := regexp.MustCompile(`^(nav|usage|endpoint|delivery|settings\.media|groups\.(role|may)|message\.status|wait|failed|type|phones\.(reads|replies|restricts)|status|meaning|error|fault|changed|event|app\.mode|stream)\.`)
	for key := range maps.Keys(english) {
		if !made.MatchString(key) && !strings.Contains(code.String(), `"`+key+`"`) {
			t.Errorf("nobody asks for %s", key)
		}
	}
}
