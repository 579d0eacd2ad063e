package local_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"whatisup/local/deploy/stack"
	"whatisup/local/localtest"
	"whatisup/shared/whatisup"
)

// BIND opens the API alone: everything else is on loopback, and another address
// of this machine reaches none of it.
func TestBindOpensTheAPIAlone(t *testing.T) {
	t.Parallel()
	outside := outsideAddress(t)
	dir := t.TempDir()
	p := localtest.StartProcess(t, dir, "BIND=0.0.0.0")
	env, err := stack.Local(dir)
	if err != nil {
		t.Fatal(err)
	}
	_, api, err := net.SplitHostPort(strings.TrimPrefix(p.API, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.Get("http://" + net.JoinHostPort(outside, api) + "/v1")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	for what, url := range map[string]string{"AWS": env["AWS_ENDPOINT_URL"], "WhatsApp": p.WhatsApp, "health": p.Health(t)} {
		host, port, err := net.SplitHostPort(strings.TrimPrefix(url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		if !net.ParseIP(host).IsLoopback() {
			t.Errorf("%s listens at %s", what, url)
		}
		if c, err := net.Dial("tcp", net.JoinHostPort(outside, port)); err == nil {
			c.Close()
			t.Errorf("%s is reached at %s", what, outside)
		}
	}
}

func outsideAddress(t *testing.T) string {
	t.Helper()
	all, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range all {
		if n, ok := a.(*net.IPNet); ok && !n.IP.IsLoopback() && n.IP.To4() != nil {
			return n.IP.String()
		}
	}
	t.Skip("NOT TRIED: this machine has no address but loopback")
	return ""
}

// What is seen of a stack with both modes stands on one page.
func TestHealthPage(t *testing.T) {
	t.Parallel()
	p := localtest.StartProcess(t, t.TempDir(), "WHATSAPP=live,sandbox")
	c := localtest.NewClient(t, p.API, p.Key(t, whatisup.Test))
	c.Pair("seen")
	c.Must(404, "GET", "/v1/instances/0197aaaa-0000-7000-8000-000000000000", "", nil)
	get := func(path string) (int, string) {
		resp, err := http.Get(p.Health(t) + path)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(b)
	}
	for _, path := range []string{"/healthz", "/readyz"} {
		if status, body := get(path); status != 200 || !strings.Contains(body, `"live"`) || !strings.Contains(body, `"test"`) {
			t.Errorf("%s: %d %s", path, status, body)
		}
	}
	status, body := get("/metrics")
	for _, want := range []string{
		`whatisup_api_request_seconds_count{operation="createInstance",status="201"} 1`,
		`whatisup_api_request_seconds_count{operation="getInstance",status="404"} 1`,
		`whatisup_sessions{mode="test",status="connected"} 1`,
		`whatisup_sessions{mode="live",status="connected"} 0`,
		`whatisup_build_info{`,
	} {
		if status != 200 || !strings.Contains(body, want) {
			t.Errorf("%d, without %s", status, want)
		}
	}
	if t.Failed() {
		t.Log(body)
	}
}

// Behind nginx, as OPERATIONS.md sets it up: the API works, its streams arrive
// piece by piece, and limits are by the client's address and not nginx's.
func TestBehindNginx(t *testing.T) {
	t.Parallel()
	p := localtest.StartProcess(t, t.TempDir(), "TRUSTED_PROXIES=127.0.0.1", "ADDRESS_LIMIT_BURST=40", "ADDRESS_LIMIT_PER_SECOND=0.001")
	// A client comes from an address that is not trusted, as in the world.
	front := localtest.Nginx(t, outsideAddress(t), p.API)
	ask := func(client, path, key string) (*http.Response, error) {
		r, err := http.NewRequestWithContext(t.Context(), "GET", front+path, nil)
		if err != nil {
			return nil, err
		}
		r.Header.Set("X-Forwarded-For", client)
		if key != "" {
			r.Header.Set("Authorization", "Bearer "+key)
		}
		return http.DefaultClient.Do(r)
	}
	stream, err := ask("203.0.113.1", "/v1/events", p.Key(t, whatisup.Test))
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Body.Close()
	if n, err := stream.Body.Read(make([]byte, 64)); err != nil || n == 0 || stream.StatusCode != 200 {
		t.Errorf("the stream: %d, %d bytes (%v)", stream.StatusCode, n, err)
	}
	// A file larger than nginx takes unless it is told comes through, too.
	direct := localtest.NewClient(t, p.API, p.Key(t, whatisup.Test))
	var m media
	direct.Must(201, "POST", "/v1/media", `{"size":3000000,"mime_type":"application/pdf"}`, &m)
	m.Upload.URL = strings.Replace(m.Upload.URL, p.API, front, 1)
	if status := fill(t, m, append([]byte("%PDF-1.4\n"), make([]byte, 2_999_000)...)); status > 299 {
		t.Errorf("an upload of 3 MB: status %d", status)
	}
	// A client's own X-Forwarded-For is not believed: nginx, which is trusted, adds
	// the address that it saw, and that one counts.
	limited := 0
	for i := range 60 {
		resp, err := ask(fmt.Sprintf("203.0.113.%d", i), "/v1", "")
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode == 429 {
			limited++
			if resp.Header.Get("Retry-After") == "" || resp.Header.Get("X-Request-Id") == "" {
				t.Errorf("the refusal has %v", resp.Header)
			}
		}
	}
	if limited == 0 {
		t.Error("whoever invents addresses has no limit")
	}
}
