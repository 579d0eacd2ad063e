package httpapi_test

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"whatisup/shared/httpapi"
)

func TestRootAndDocuments(t *testing.T) {
	t.Parallel()
	f := start(t)
	r := into[map[string]string](t, f.want(200, "", "", "GET", "/v1", ""))
	if r["events_url"] != "/v1/events" || r["openapi_url"] != "/openapi.json" || r["docs_url"] != "/docs" {
		t.Errorf("%v", r)
	}
	f.url = startWith(f, func(c *httpapi.Config) { c.EventsURL = "https://events.example/v1/events" })
	if r := into[map[string]string](t, f.want(200, "", "", "GET", "/v1", "")); r["events_url"] != "https://events.example/v1/events" {
		t.Errorf("%v", r)
	}
	if doc := f.want(200, "", "", "GET", "/openapi.json", ""); string(doc.body) != string(httpapi.OpenAPI) {
		t.Error("another document")
	}
	docs := f.want(200, "", "", "GET", "/docs", "")
	if !strings.HasPrefix(docs.header.Get("Content-Type"), "text/html") {
		t.Errorf("%v", docs.header)
	}
	// What the guide says is text, and no request.
	before, guide, _ := strings.Cut(string(docs.body), `<script type="application/json" id="guide">`)
	guide, after, ok := strings.Cut(guide, "</script>")
	var pages []struct{ Name, Text string }
	if err := json.Unmarshal([]byte(guide), &pages); !ok || err != nil || len(pages) < 8 || !strings.HasPrefix(pages[0].Text, "# ") {
		t.Errorf("the guide in the page: %v, %d pages", err, len(pages))
	}
	for _, foreign := range []string{"http://", "https://", "//cdn", "@import"} {
		if strings.Contains(before+after, foreign) {
			t.Errorf("the page names %s", foreign)
		}
	}
}

func TestDashboard(t *testing.T) {
	t.Parallel()
	f := start(t, func(c *httpapi.Config) {
		c.Dashboard = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/" {
				http.NotFound(w, r)
				return
			}
			w.Header().Set("Content-Type", "text/html")
			io.WriteString(w, "<p>dashboard")
		})
	})
	if r := f.want(200, "", "", "GET", "/", ""); string(r.body) != "<p>dashboard" || r.header.Get("Content-Type") != "text/html" {
		t.Errorf("%s %v", r.body, r.header)
	}
	f.want(404, "route_not_found", "", "GET", "/dashboard/none.js", "")
	f.want(404, "route_not_found", "", "POST", "/", "")
	f.want(404, "route_not_found", "", "GET", "/v1/none", "")
	f.want(404, "route_not_found", "", "GET", "/v1/", "")
}
