package foreign_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"whatisup/shared/foreign"
)

func guard(t *testing.T, c foreign.Config) *foreign.Guard {
	t.Helper()
	g, err := foreign.New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.Close)
	return g
}

func allow(t *testing.T, s string) foreign.Allow {
	t.Helper()
	a, err := foreign.ParseAllow(s)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// inside are addresses of blocks that no customer's URL may reach, at least one a
// block. The second half of them passes the methods of net.IP.
var inside = []string{
	"0.0.0.0", "10.0.0.1", "10.255.255.255", "127.0.0.1", "127.255.255.254", "169.254.169.254", "169.254.170.2",
	"172.16.0.1", "172.31.255.255", "192.168.0.1", "224.0.0.1", "239.255.255.255",
	"::", "::1", "fe80::1", "fc00::1", "fd00:ec2::254", "ff02::1", "::ffff:169.254.169.254", "::ffff:127.0.0.1", "::ffff:10.0.0.1",

	"0.1.2.3", "100.64.0.1", "100.127.255.255", "100.100.100.200", "192.0.0.170", "192.0.0.192", "192.0.2.1", "192.88.99.1",
	"198.18.0.1", "198.19.255.255", "198.51.100.1", "203.0.113.1", "240.0.0.1", "255.255.255.255", "168.63.129.16",
	"64:ff9b::a9fe:a9fe", "64:ff9b:1::a00:1", "2002:a9fe:a9fe::", "2001::1", "2001:0:1:2:3:4:5:6", "2001:20::1", "2001:db8::1",
	"::169.254.169.254", "::ffff:0:169.254.169.254", "fec0::1", "100::1", "3fff::1", "5f00::1", "4000::1", "fd20:ce::254",
}

// outside are ordinary addresses beside the edges of those blocks.
var outside = []string{
	"1.1.1.1", "8.8.8.8", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0", "126.255.255.255", "128.0.0.1", "169.253.255.255",
	"169.255.0.0", "172.15.255.255", "172.32.0.0", "192.0.1.0", "192.0.3.0", "192.88.98.255", "192.88.100.0", "192.167.255.255", "192.169.0.0",
	"198.17.255.255", "198.20.0.0", "198.51.99.255", "203.0.112.255", "223.255.255.255", "168.63.129.17",
	"2606:4700::1111", "2001:200::1", "2001:4860:4860::8888", "2003::1", "2a00:1450::1", "2001:db7:ffff::1", "3ffe::1",
}

func literal(addr string) string {
	if strings.Contains(addr, ":") {
		return "[" + addr + "]"
	}
	return addr
}

func TestEveryBlockInsideIsRefused(t *testing.T) {
	g := guard(t, foreign.Config{})
	for _, addr := range inside {
		for _, test := range []bool{false, true} {
			target := "https://" + literal(addr) + "/hook"
			if _, err := g.Check(t.Context(), target, test); err == nil {
				t.Errorf("%s passed the check", target)
			}
			_, err := g.Client(test, 0).Get(target)
			if foreign.ProblemOf(err) != foreign.ProblemNotAllowed {
				t.Errorf("GET %s: %v", target, err)
			}
		}
	}
	for _, addr := range outside {
		if _, err := g.Check(t.Context(), "https://"+literal(addr)+":8443/hook?a=b", false); err != nil {
			t.Errorf("%s was refused: %v", addr, err)
		}
	}
}

// TestTheDialIsWhatProtects answers each address inside for a name: the text of the
// URL shows nothing, and only the dial sees it.
func TestTheDialIsWhatProtects(t *testing.T) {
	names := newNames(t)
	g := guard(t, foreign.Config{Resolver: names.resolver()})
	for _, addr := range inside {
		names.answer("inside.example.", addr)
		_, err := g.Client(false, 0).Get("https://inside.example/")
		if foreign.ProblemOf(err) != foreign.ProblemNotAllowed {
			t.Errorf("%s was dialled: %v", addr, err)
		}
		if _, err := g.Check(t.Context(), "https://inside.example/", false); err == nil {
			t.Errorf("a name at %s passed the check", addr)
		}
	}
}

// TestNameThatChangesItsAnswer gives a public address while the URL is checked, and
// loopback, where somebody listens, when it is dialled.
func TestNameThatChangesItsAnswer(t *testing.T) {
	hits := make(chan string, 10)
	server := httptest.NewTLSServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { hits <- r.Host }))
	defer server.Close()
	names := newNames(t)
	g := guard(t, foreign.Config{Resolver: names.resolver()})
	names.answer("changes.example.", "1.1.1.1")
	u, err := g.Check(t.Context(), "https://changes.example:8443/", false)
	if err != nil {
		t.Fatal(err)
	}
	names.answer("changes.example.", "127.0.0.1")
	if _, err := g.Client(false, 0).Get(u.String()); foreign.ProblemOf(err) != foreign.ProblemNotAllowed {
		t.Errorf("the name led inside: %v", err)
	}
	// Of several addresses, those inside are passed over.
	names.answer("changes.example.", "127.0.0.1", "10.0.0.1")
	if _, err := g.Client(false, 0).Get(u.String()); foreign.ProblemOf(err) != foreign.ProblemNotAllowed {
		t.Errorf("the name led inside: %v", err)
	}
	if len(hits) > 0 {
		t.Error("somebody inside was asked")
	}
}

func TestURLsThatAreRefused(t *testing.T) {
	g := guard(t, foreign.Config{Own: []string{"https://api.example.com"}})
	for _, raw := range []string{
		"", "example.com", "//example.com", "ftp://example.com", "file:///etc/passwd", "http://example.com/", "https:example.com", "https://",
		"https://example.com:80/", "https://example.com:22/", "https://example.com:0/", "https://example.com:99999/",
		"https://user@example.com/", "https://user:password@example.com/", "https://example.com/#fragment", "https://example.com/#",
		"https://2130706433/", "https://0x7f.1/", "https://0x7f000001/", "https://127.1/", "https://0177.0.0.1/", "https://1.2.3/",
		"https://[fe80::1%25eth0]/", "https://[::1]/", "https://localhost/", "https://localhost./", "https://LOCALHOST/",
		"https://①②⑦.⓪.⓪.①/", "https://exämple.com/", "https://a..example.com/", "https://exa mple.com/", "https://example.com\\@127.0.0.1/",
		"https://" + strings.Repeat("a.", 130) + "example/", "https://example.com/" + strings.Repeat("a", 2048),
		"https://api.example.com/v1", "https://API.example.com.:443/",
	} {
		if _, err := g.Check(t.Context(), raw, true); err == nil {
			t.Errorf("%.60q passed", raw)
		}
		if strings.HasSuffix(raw, "#") || len(raw) > 2000 {
			continue // harmless where nobody has to read it
		}
		if r, err := http.NewRequest(http.MethodGet, raw, nil); err == nil {
			if _, err := g.Client(true, 0).Do(r); err == nil {
				t.Errorf("%.60q was asked", raw)
			}
		}
	}
}

func TestLoopbackIsForTestKeysOnOneMachine(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "here") }))
	defer server.Close()
	_, port, _ := net.SplitHostPort(server.Listener.Addr().String())
	for _, c := range []struct {
		oneMachine, test, want bool
	}{{true, true, true}, {true, false, false}, {false, true, false}, {false, false, false}} {
		g := guard(t, foreign.Config{OneMachine: c.oneMachine})
		for _, host := range []string{"127.0.0.1", "localhost"} {
			u := "http://" + host + ":" + port + "/"
			_, err := g.Check(t.Context(), u, c.test)
			if (err == nil) != c.want {
				t.Errorf("%+v: check %s: %v", c, u, err)
			}
			resp, err := g.Client(c.test, 0).Get(u)
			if (err == nil) != c.want {
				t.Errorf("%+v: GET %s: %v", c, u, err)
			}
			if err == nil {
				resp.Body.Close()
			}
		}
	}
	// The API's own port stays closed, however the address is written.
	g := guard(t, foreign.Config{OneMachine: true, Own: []string{"0.0.0.0:" + port}})
	for _, host := range []string{"127.0.0.1", "localhost", "127.0.0.2", "[::ffff:127.0.0.1]", "[::1]"} {
		u := "http://" + host + ":" + port + "/"
		if _, err := g.Check(t.Context(), u, true); err == nil {
			t.Errorf("%s passed", u)
		}
		if _, err := g.Client(true, 0).Get(u); foreign.ProblemOf(err) != foreign.ProblemNotAllowed {
			t.Errorf("%s: %v", u, err)
		}
	}
}

func TestWhatTheOperatorAllows(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "here") }))
	defer server.Close()
	_, port, _ := net.SplitHostPort(server.Listener.Addr().String())
	names := newNames(t)
	names.answer("n8n.", "127.0.0.1")
	names.answer("other.", "127.0.0.1")
	names.answer("public.example.", "1.1.1.1")

	named := guard(t, foreign.Config{Resolver: names.resolver(), Allow: allow(t, "n8n:"+port)})
	for raw, want := range map[string]bool{
		"http://n8n:" + port:       true,
		"http://N8N.:" + port:      true,
		"http://n8n:1":             false,
		"http://other:" + port:     false,
		"http://127.0.0.1:" + port: false,
	} {
		resp, err := named.Client(false, 0).Get(raw)
		if (err == nil) != want {
			t.Errorf("host allowed: GET %s: %v", raw, err)
		}
		if err == nil {
			resp.Body.Close()
		}
	}
	network := guard(t, foreign.Config{Resolver: names.resolver(), Allow: allow(t, "127.0.0.0/8, 0.0.0.0/0, ::/0")})
	for raw, want := range map[string]bool{
		"http://n8n:" + port:           true,
		"http://127.0.0.1:" + port:     true,
		"http://169.254.169.254/":      false,
		"http://[fd00:ec2::254]/":      false,
		"http://[64:ff9b::a9fe:a9fe]/": false,
		"http://[2002:a9fe:a9fe::1]/":  false,
		"http://[::169.254.169.254]/":  false,
		"http://[::ffff:169.254.0.1]/": false,
		"http://0.0.0.0:" + port:       false,
	} {
		resp, err := network.Client(false, 0).Get(raw)
		if (err == nil) != want || !want && foreign.ProblemOf(err) != foreign.ProblemNotAllowed {
			t.Errorf("network allowed: GET %s: %v", raw, err)
		}
		if err == nil {
			resp.Body.Close()
		}
	}
	// A network that is allowed doesn't open http to public addresses.
	small := guard(t, foreign.Config{Resolver: names.resolver(), Allow: allow(t, "10.1.0.0/16")})
	if _, err := small.Client(false, 0).Get("http://public.example/"); foreign.ProblemOf(err) != foreign.ProblemNotAllowed {
		t.Errorf("http to a public address: %v", err)
	}
	for _, wrong := range []string{"169.254.0.0/16", "169.254.169.254", "fe80::/10", "fd00:ec2::254:443", "10.0.0.0/33", "a b", "n8n:0", "n8n:x", "[::1", "0x7f.1"} {
		if _, err := foreign.ParseAllow(wrong); err == nil {
			t.Errorf("FOREIGN_ALLOW=%s was taken", wrong)
		}
	}
}

func TestNoProxyOfTheEnvironment(t *testing.T) {
	asked := make(chan string, 10)
	proxy := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { asked <- r.URL.String() }))
	defer proxy.Close()
	for _, name := range []string{"HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy", "ALL_PROXY"} {
		t.Setenv(name, proxy.URL)
	}
	g := guard(t, foreign.Config{Allow: allow(t, "10.0.0.0/8")})
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	for _, raw := range []string{"http://10.9.8.7/", "https://10.9.8.7/", "http://169.254.169.254/"} {
		r, _ := http.NewRequestWithContext(ctx, http.MethodGet, raw, nil)
		if resp, err := g.Client(false, 0).Do(r); err == nil {
			resp.Body.Close() // some networks answer for every address
		}
	}
	if len(asked) > 0 {
		t.Errorf("the proxy was asked for %s", <-asked)
	}
}

func TestRedirects(t *testing.T) {
	var mu sync.Mutex
	var headers []http.Header
	mux := http.NewServeMux()
	server := httptest.NewServer(mux)
	defer server.Close()
	for i := range 6 {
		mux.HandleFunc(fmt.Sprintf("/%d", i), func(w http.ResponseWriter, r *http.Request) {
			mu.Lock()
			headers = append(headers, r.Header.Clone())
			mu.Unlock()
			if i == 0 {
				fmt.Fprint(w, "end")
				return
			}
			http.Redirect(w, r, fmt.Sprintf("/%d", i-1), http.StatusFound)
		})
	}
	mux.HandleFunc("/metadata", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "http://169.254.169.254/latest", http.StatusFound)
	})
	mux.HandleFunc("/credentials", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "http://user:password@"+r.Host+"/0", http.StatusFound)
	})
	g := guard(t, foreign.Config{OneMachine: true})

	resp, err := g.Client(true, 0).Get(server.URL + "/1")
	if err != nil || resp.StatusCode != http.StatusFound {
		t.Fatalf("a redirect that nobody follows: %v %v", resp, err)
	}
	resp.Body.Close()
	headers = nil
	r, _ := http.NewRequest(http.MethodGet, server.URL+"/3", nil)
	r.Header.Set("Authorization", "secret")
	r.Header.Set("X-Secret", "secret")
	if resp, err = g.Client(true, 3).Do(r); err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("three redirects: %v %v", resp, err)
	}
	resp.Body.Close()
	for i, h := range headers[1:] {
		if h.Get("Authorization")+h.Get("X-Secret")+h.Get("Referer") != "" {
			t.Errorf("redirect %d carried %v", i, h)
		}
	}
	if _, err = g.Client(true, 3).Get(server.URL + "/4"); foreign.ProblemOf(err) != foreign.ProblemRedirects {
		t.Errorf("four redirects: %v", err)
	}
	for _, path := range []string{"/metadata", "/credentials"} {
		if _, err = g.Client(true, 3).Get(server.URL + path); foreign.ProblemOf(err) != foreign.ProblemNotAllowed {
			t.Errorf("a redirect to %s: %v", path, err)
		}
	}
}

// TestLittleArrivesUnread has a server answer a client that does not read as much as the
// connection takes, with HTTP/1.1 and with HTTP/2.
func TestLittleArrivesUnread(t *testing.T) {
	t.Parallel()
	for _, two := range []bool{false, true} {
		var wrote atomic.Int64
		s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if (r.ProtoMajor == 2) != two {
				t.Errorf("it is %s", r.Proto)
			}
			for b := make([]byte, 4<<10); ; wrote.Add(int64(len(b))) {
				if _, err := w.Write(b); err != nil {
					return
				}
				w.(http.Flusher).Flush()
			}
		}))
		s.Config.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
			if over, ok := c.(*tls.Conn); ok {
				c = over.NetConn()
			}
			if err := c.(*net.TCPConn).SetWriteBuffer(4 << 10); err != nil { // what it keeps itself is not meant
				t.Error(err)
			}
			return ctx
		}
		config := foreign.Config{OneMachine: true}
		if s.EnableHTTP2 = two; two {
			s.StartTLS()
			config.Roots = x509.NewCertPool()
			config.Roots.AddCert(s.Certificate())
		} else {
			s.Start()
		}
		t.Cleanup(func() { s.CloseClientConnections(); s.Close() })
		resp, err := guard(t, config).Client(true, 0).Get(s.URL)
		if err != nil {
			t.Fatal(err)
		}
		for last := int64(-1); wrote.Load() > last; time.Sleep(100 * time.Millisecond) { // until it blocks
			last = wrote.Load()
		}
		if n := wrote.Load(); n > 512<<10 {
			t.Errorf("HTTP/2 %v: %d bytes were taken that nobody reads", two, n)
		}
		resp.Body.Close()
	}
}

func TestGetIsBounded(t *testing.T) {
	mux := http.NewServeMux()
	mux.HandleFunc("/said", func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Content-Length", "1001") })
	mux.HandleFunc("/endless", func(w http.ResponseWriter, _ *http.Request) {
		for range 1000 {
			if _, err := w.Write(make([]byte, 1000)); err != nil {
				return
			}
		}
	})
	mux.HandleFunc("/fits", func(w http.ResponseWriter, _ *http.Request) { w.Write(make([]byte, 1000)) })
	mux.HandleFunc("/headers", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Long", strings.Repeat("a", 64<<10))
	})
	server := httptest.NewServer(mux)
	defer server.Close()
	g := guard(t, foreign.Config{OneMachine: true})

	if _, err := g.Get(t.Context(), server.URL+"/said", true, 1000); !errors.Is(err, foreign.ErrTooLarge) {
		t.Errorf("a length that is too long: %v", err)
	}
	if _, err := g.Get(t.Context(), server.URL+"/headers", true, 1000); err == nil {
		t.Error("64 KB of headers were taken")
	}
	for path, want := range map[string]error{"/endless": foreign.ErrTooLarge, "/fits": nil} {
		resp, err := g.Get(t.Context(), server.URL+path, true, 1000)
		if err != nil {
			t.Fatal(err)
		}
		var body bytes.Buffer
		_, err = io.Copy(&body, resp.Body)
		resp.Body.Close()
		if !errors.Is(err, want) || body.Len() != 1000 {
			t.Errorf("%s: %d bytes, %v", path, body.Len(), err)
		}
	}
}

func TestProblems(t *testing.T) {
	names := newNames(t)
	g := guard(t, foreign.Config{OneMachine: true, Resolver: names.resolver()})
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	refused := "http://" + free.Addr().String()
	free.Close()
	untrusted := httptest.NewUnstartedServer(http.NotFoundHandler())
	untrusted.Config.ErrorLog = log.New(io.Discard, "", 0)
	untrusted.StartTLS()
	defer untrusted.Close()
	plain := httptest.NewServer(http.NotFoundHandler())
	defer plain.Close()
	silent := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		<-r.Context().Done()
	}))
	defer silent.Close()
	closes := listen(t, func(c net.Conn) { c.Close() })
	for raw, want := range map[string]foreign.Problem{
		refused:       foreign.ProblemRefused,
		untrusted.URL: foreign.ProblemTLS,
		strings.Replace(plain.URL, "http:", "https:", 1): foreign.ProblemTLS,
		silent.URL:               foreign.ProblemTimeout,
		"http://" + closes:       foreign.ProblemLost,
		"https://nobody.example": foreign.ProblemNoName,
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		r, _ := http.NewRequestWithContext(ctx, http.MethodPost, raw, strings.NewReader("x"))
		resp, err := g.Client(true, 0).Do(r)
		cancel()
		if err == nil {
			resp.Body.Close()
		}
		if got := foreign.ProblemOf(err); got != want {
			t.Errorf("%s: %s, want %s (%v)", raw, got, want, err)
		}
	}
}

func FuzzCheck(f *testing.F) {
	for _, s := range []string{"https://example.com", "https://[::1]:8443/", "https://a@b/", "http://0x7f.1", "https://example.com:443#", "https://%31%32%37.0.0.1"} {
		f.Add(s)
	}
	names := newNames(f)
	g, err := foreign.New(foreign.Config{Resolver: names.resolver()})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		u, err := g.Check(t.Context(), raw, true)
		if err != nil {
			return
		}
		again, err := url.Parse(u.String())
		if err != nil || again.Host != u.Host || u.Scheme != "https" || u.User != nil {
			t.Fatalf("%q passed as %q", raw, u)
		}
		if addr, err := netip.ParseAddr(u.Hostname()); err == nil && (addr.IsLoopback() || addr.IsPrivate() || addr.IsLinkLocalUnicast()) {
			t.Fatalf("%q passed", raw)
		}
	})
}

func listen(t *testing.T, serve func(net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			serve(c)
		}
	}()
	return l.Addr().String()
}

// names is a name server that gives what it is told to.
type names struct {
	conn net.PacketConn
	mu   sync.Mutex
	all  map[string][]netip.Addr
}

func newNames(t testing.TB) *names {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	n := &names{conn: conn, all: map[string][]netip.Addr{}}
	n.answer("localhost.", "127.0.0.1")
	t.Cleanup(func() { conn.Close() })
	go n.serve()
	return n
}

func (n *names) answer(name string, addrs ...string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.all[name] = nil
	for _, a := range addrs {
		n.all[name] = append(n.all[name], netip.MustParseAddr(a))
	}
}

func (n *names) resolver() *net.Resolver {
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "udp", n.conn.LocalAddr().String())
	}}
}

func (n *names) serve() {
	b := make([]byte, 1500)
	for {
		size, from, err := n.conn.ReadFrom(b)
		if err != nil {
			return
		}
		var m dnsmessage.Message
		if m.Unpack(b[:size]) != nil || len(m.Questions) != 1 {
			continue
		}
		q := m.Questions[0]
		n.mu.Lock()
		addrs, known := n.all[strings.ToLower(q.Name.String())]
		n.mu.Unlock()
		reply := dnsmessage.Message{Header: dnsmessage.Header{ID: m.ID, Response: true, RecursionAvailable: true}, Questions: m.Questions}
		if !known {
			reply.RCode = dnsmessage.RCodeNameError
		}
		for _, a := range addrs {
			h := dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class, TTL: 0}
			switch {
			case q.Type == dnsmessage.TypeA && a.Is4():
				reply.Answers = append(reply.Answers, dnsmessage.Resource{Header: h, Body: &dnsmessage.AResource{A: a.As4()}})
			case q.Type == dnsmessage.TypeAAAA && a.Is6():
				reply.Answers = append(reply.Answers, dnsmessage.Resource{Header: h, Body: &dnsmessage.AAAAResource{AAAA: a.As16()}})
			}
		}
		if packed, err := reply.Pack(); err == nil {
			if _, err := n.conn.WriteTo(packed, from); err != nil {
				return
			}
		}
	}
}
