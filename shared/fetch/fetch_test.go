package fetch_test

import (
	"context"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"whatisup/shared/control"
	"whatisup/shared/fetch"
	"whatisup/shared/foreign"
	"whatisup/shared/whatisup"
)

const most = 1000

func fetcher(t *testing.T, c foreign.Config) fetch.Fetcher {
	t.Helper()
	g, err := foreign.New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.Close)
	return fetch.Fetcher{Guard: g}
}

// read fetches a URL to its end.
func read(ctx context.Context, f fetch.Fetcher, url string, m whatisup.Mode) (*control.Fetched, string, error) {
	got, err := f.Fetch(ctx, url, m, most)
	if err != nil {
		return nil, "", err
	}
	defer got.Body.Close()
	b, err := io.ReadAll(got.Body)
	return got, string(b), err
}

// Whatever goes wrong on the way has a sentence for the customer, which says whether it
// may pass.
func TestWhatGoesWrong(t *testing.T) {
	t.Parallel()
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	refused := "http://" + free.Addr().String()
	free.Close()
	mux := http.NewServeMux()
	for path, status := range map[string]int{"/missing": 404, "/forbidden": 403, "/none": 204, "/part": 206, "/busy": 429, "/broken": 500, "/away": 503, "/late": 408} {
		mux.HandleFunc(path, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) })
	}
	mux.HandleFunc("/said", func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Content-Length", "1001") })
	mux.HandleFunc("/endless", func(w http.ResponseWriter, r *http.Request) {
		for r.Context().Err() == nil {
			if _, err := w.Write(make([]byte, 1000)); err != nil {
				return
			}
		}
	})
	mux.HandleFunc("/cut", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "500")
		w.Write([]byte("half")) //nolint:errcheck // the end is what is tested
		panic(http.ErrAbortHandler)
	})
	mux.HandleFunc("/round", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/round", http.StatusFound) })
	mux.HandleFunc("/metadata", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "http://169.254.169.254/latest", http.StatusFound)
	})
	silent := func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
	mux.HandleFunc("/silent", silent)
	mux.HandleFunc("/stalls", func(w http.ResponseWriter, r *http.Request) {
		w.Write([]byte("a little")) //nolint:errcheck // as above
		w.(http.Flusher).Flush()
		silent(w, r)
	})
	server := httptest.NewServer(mux)
	defer server.Close()
	defer server.CloseClientConnections()
	untrusted := httptest.NewUnstartedServer(http.NotFoundHandler())
	untrusted.Config.ErrorLog = log.New(io.Discard, "", 0)
	untrusted.StartTLS()
	defer untrusted.Close()

	f := fetcher(t, foreign.Config{OneMachine: true})
	for url, want := range map[string]control.FetchError{
		server.URL + "/missing":   {Text: "The URL answered 404."},
		server.URL + "/forbidden": {Text: "The URL answered 403."},
		server.URL + "/none":      {Text: "The URL answered 204."},
		server.URL + "/part":      {Text: "The URL answered 206."},
		server.URL + "/busy":      {Text: "The URL answered 429.", Again: true},
		server.URL + "/broken":    {Text: "The URL answered 500.", Again: true},
		server.URL + "/away":      {Text: "The URL answered 503.", Again: true},
		server.URL + "/late":      {Text: "The URL answered 408.", Again: true},
		server.URL + "/said":      {Text: "The file has more than 100 MB."},
		server.URL + "/endless":   {Text: "The file has more than 100 MB."},
		server.URL + "/cut":       {Text: "The connection to the URL's host was lost.", Again: true},
		server.URL + "/round":     {Text: "The URL redirects more than 3 times."},
		server.URL + "/metadata":  {Text: "The URL leads to an address that must not be fetched from."},
		server.URL + "/silent":    {Text: "The URL did not answer in time.", Again: true},
		server.URL + "/stalls":    {Text: "The URL did not answer in time.", Again: true},
		"http://192.168.0.1/":     {Text: "The URL leads to an address that must not be fetched from."},
		refused:                   {Text: "The URL's host refuses connections.", Again: true},
		untrusted.URL:             {Text: "The URL's host has no certificate that fits."},
	} {
		patience := 20 * time.Second
		if strings.HasSuffix(url, "/silent") || strings.HasSuffix(url, "/stalls") {
			patience = 500 * time.Millisecond
		}
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		_, _, err := read(ctx, f, url, whatisup.Test)
		cancel()
		got, ok := errors.AsType[*control.FetchError](err)
		if !ok || got.Text != want.Text || got.Again != want.Again {
			t.Errorf("%s: %+v (%v), want %+v", url, got, err, want)
		}
	}
	// The one machine's own addresses are for test keys only.
	if _, _, err := read(t.Context(), f, server.URL+"/missing", whatisup.Live); !strings.Contains(err.Error(), "must not be fetched from") {
		t.Errorf("a live key at loopback: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := read(ctx, f, server.URL+"/silent", whatisup.Test); !errors.Is(err, context.Canceled) {
		t.Errorf("given up by ourselves: %v", err)
	}
}

// A name that answered an allowed address when the URL was given, and one inside when it
// is dialled, is refused there.
func TestNameThatChangesItsAnswer(t *testing.T) {
	t.Parallel()
	answers := make(chan [4]byte, 100)
	packets, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer packets.Close()
	go func() {
		last := [4]byte{8, 8, 8, 8}
		for b := make([]byte, 1500); ; {
			n, from, err := packets.ReadFrom(b)
			if err != nil {
				return
			}
			var m dnsmessage.Message
			if m.Unpack(b[:n]) != nil || len(m.Questions) != 1 {
				continue
			}
			m.Header.Response, m.Additionals = true, nil
			if m.Questions[0].Type == dnsmessage.TypeA {
				select {
				case last = <-answers:
				default:
				}
				m.Answers = []dnsmessage.Resource{{Header: dnsmessage.ResourceHeader{Name: m.Questions[0].Name, Class: dnsmessage.ClassINET}, Body: &dnsmessage.AResource{A: last}}}
			}
			out, err := m.Pack()
			if err == nil {
				packets.WriteTo(out, from) //nolint:errcheck // who asked asks again
			}
		}
	}()
	f := fetcher(t, foreign.Config{Resolver: &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "udp", packets.LocalAddr().String())
	}}})
	if err := f.Check(t.Context(), "https://changes.example/file", whatisup.Live); err != nil {
		t.Fatalf("an address outside: %v", err)
	}
	answers <- [4]byte{169, 254, 169, 254}
	_, _, err = read(t.Context(), f, "https://changes.example/file", whatisup.Live)
	if got, ok := errors.AsType[*control.FetchError](err); !ok || got.Again || got.Text != "The URL leads to an address that must not be fetched from." {
		t.Errorf("an address inside at the dial: %v", err)
	}
}

// What the other side says of the file: its type, unless it is none, and its name without
// what could harm where it is kept.
func TestWhatIsFetched(t *testing.T) {
	t.Parallel()
	headers := map[string][2]string{
		"/plain/photo.jpg":       {"image/jpeg", ""},
		"/a%20b.pdf":             {"application/pdf", ""},
		"/download":              {"audio/ogg; codecs=opus", `attachment; filename="voice.ogg"`},
		"/climbs":                {"nonsense", `attachment; filename="../../etc/passwd"`},
		"/turned":                {"", `attachment; filename*=UTF-8''a%0Ab.txt`},
		"/redirected/elsewhere/": {"text/plain", ""},
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/from" {
			http.Redirect(w, r, "/redirected/elsewhere/", http.StatusFound)
			return
		}
		if r.Header.Get("Authorization") != "" || r.Header.Get("Cookie") != "" || r.Header.Get("Referer") != "" {
			t.Errorf("it was asked with %v", r.Header)
		}
		h := headers[r.URL.EscapedPath()]
		w.Header()["Content-Type"] = []string{h[0]}
		if h[1] != "" {
			w.Header().Set("Content-Disposition", h[1])
		}
		io.WriteString(w, "a file") //nolint:errcheck // it is read below
	}))
	defer server.Close()
	f := fetcher(t, foreign.Config{OneMachine: true})
	for path, want := range map[string][2]string{
		"/plain/photo.jpg": {"image/jpeg", "photo.jpg"},
		"/a%20b.pdf":       {"application/pdf", "a b.pdf"},
		"/download":        {"audio/ogg; codecs=opus", "voice.ogg"},
		"/climbs":          {"", "passwd"},
		"/turned":          {"", "ab.txt"},
		"/from":            {"text/plain", ""},
	} {
		got, text, err := read(t.Context(), f, server.URL+path, whatisup.Test)
		if err != nil || text != "a file" || got.MimeType != want[0] || got.Filename != want[1] {
			t.Errorf("%s: %+v, %q, %v; want %v", path, got, text, err, want)
		}
	}
}
