package front

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var discard = slog.New(slog.DiscardHandler)

func tooMany(w http.ResponseWriter, after time.Duration) {
	w.Header().Set("Retry-After", after.String())
	w.WriteHeader(http.StatusTooManyRequests)
}

// who answers with the client's address.
var who = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
	host, _, _ := net.SplitHostPort(r.RemoteAddr)
	io.WriteString(w, host+" "+r.Header.Get("X-Forwarded-For"))
})

func newFront(t *testing.T, c Config, h http.Handler) *Front {
	t.Helper()
	f, err := New(c, h, tooMany, discard)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// Only a trusted proxy says for whom it asks, and only the part of what it says
// that trusted proxies wrote counts.
func TestWhoAsks(t *testing.T) {
	t.Parallel()
	f := newFront(t, Config{TrustedProxies: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32"), netip.MustParsePrefix("10.0.0.0/8")}}, who)
	for _, c := range []struct{ peer, said, want string }{
		{"192.0.2.1:5", "", "192.0.2.1"},
		{"192.0.2.1:5", "198.51.100.7", "192.0.2.1"},
		{"127.0.0.1:5", "198.51.100.7", "198.51.100.7"},
		{"127.0.0.1:5", "203.0.113.9, 198.51.100.7", "198.51.100.7"},
		{"127.0.0.1:5", "198.51.100.7, 10.1.2.3", "198.51.100.7"},
		{"127.0.0.1:5", "198.51.100.7, nonsense", "127.0.0.1"},
		{"127.0.0.1:5", "2001:db8::7", "2001:db8::7"},
		{"127.0.0.1:5", "", "127.0.0.1"},
		{"[::ffff:127.0.0.1]:5", "198.51.100.7", "198.51.100.7"},
	} {
		r := httptest.NewRequest("GET", "/", nil)
		r.RemoteAddr = c.peer
		if c.said != "" {
			r.Header.Set("X-Forwarded-For", c.said)
		}
		w := httptest.NewRecorder()
		f.handler.ServeHTTP(w, r)
		if got := w.Body.String(); got != c.want+" " {
			t.Errorf("%s for %q: %q, want %q and no header passed on", c.peer, c.said, got, c.want)
		}
	}
}

// An address over its bucket is told so, others are not, and an IPv6 subscriber
// has one bucket whatever addresses he takes.
func TestLimitByAddress(t *testing.T) {
	t.Parallel()
	f := newFront(t, Config{PerSecond: 0.001, Burst: 3}, who)
	ask := func(peer string) int {
		r := httptest.NewRequest("GET", "/", nil)
		r.RemoteAddr = peer
		w := httptest.NewRecorder()
		f.handler.ServeHTTP(w, r)
		return w.Code
	}
	for _, peers := range [][]string{{"192.0.2.1:1", "192.0.2.1:2", "192.0.2.1:3", "192.0.2.1:4"}, {"[2001:db8::1]:1", "[2001:db8::2]:1", "[2001:db8::3:1]:1", "[2001:db8::9:9:9]:1"}} {
		for i, peer := range peers {
			want := 200
			if i == 3 {
				want = 429
			}
			if got := ask(peer); got != want {
				t.Errorf("request %d, from %s: %d", i+1, peer, got)
			}
		}
	}
	if got := ask("192.0.2.2:1"); got != 200 {
		t.Errorf("another address: %d", got)
	}
	// The table of addresses has a bound.
	l := newLimits(Config{PerSecond: 1, Burst: 1})
	now := time.Now()
	for i := range maxAddresses + 10 {
		l.take(netip.AddrFrom4([4]byte{byte(i >> 24), byte(i >> 16), byte(i >> 8), byte(i)}), now)
	}
	if n := len(l.buckets); n > maxAddresses {
		t.Errorf("%d addresses are remembered", n)
	}
}

// serve runs a front on loopback.
func serve(t *testing.T, f *Front) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- f.Serve(ctx, l) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return l.Addr().String()
}

// One address has so many connections and no more, until it closes one.
func TestConnectionsOfAnAddress(t *testing.T) {
	t.Parallel()
	address := serve(t, newFront(t, Config{PerAddress: 2, Connections: 10}, who))
	open := func() net.Conn {
		c, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
	works := func(c net.Conn) bool {
		io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
		c.SetReadDeadline(time.Now().Add(10 * time.Second)) //nolint:errcheck
		n, err := c.Read(make([]byte, 10))
		return err == nil && n > 0
	}
	first, second := open(), open()
	if !works(first) || !works(second) {
		t.Fatal("the first two do not work")
	}
	if works(open()) {
		t.Error("a third one works")
	}
	first.Close()
	for until := time.Now().Add(10 * time.Second); !works(open()); {
		if time.Now().After(until) {
			t.Fatal("no new one after one was closed")
		}
	}
}

// A certificate that was renewed in its files is used without a restart, and one
// that can't be read leaves the one before.
func TestCertificateFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	c := Config{CertFile: filepath.Join(dir, "cert.pem"), KeyFile: filepath.Join(dir, "key.pem"), HSTS: true}
	if _, err := New(c, who, tooMany, discard); err == nil {
		t.Error("it starts without a certificate")
	}
	write := func(name string, at time.Time) {
		cert, key := certificate(t, name)
		for path, b := range map[string][]byte{c.CertFile: cert, c.KeyFile: key} {
			if err := os.WriteFile(path, b, 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.Chtimes(path, at, at); err != nil {
				t.Fatal(err)
			}
		}
	}
	write("one.example", time.Now().Add(-time.Hour))
	f := newFront(t, c, who)
	address := serve(t, f)
	named := func() string {
		conn, err := tls.Dial("tcp", address, &tls.Config{InsecureSkipVerify: true})
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		return conn.ConnectionState().PeerCertificates[0].Subject.CommonName
	}
	later := func() { // as if it had looked long ago
		f.files.mu.Lock()
		f.files.looked = time.Time{}
		f.files.mu.Unlock()
	}
	if got := named(); got != "one.example" {
		t.Errorf("it shows %s", got)
	}
	write("two.example", time.Now())
	later()
	if got := named(); got != "two.example" {
		t.Errorf("renewed, it shows %s", got)
	}
	if err := os.WriteFile(c.KeyFile, []byte("half a key"), 0o600); err != nil {
		t.Fatal(err)
	}
	later()
	if got := named(); got != "two.example" {
		t.Errorf("with half a key it shows %s", got)
	}
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	defer client.CloseIdleConnections()
	resp, err := client.Get("https://" + address + "/")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	for name, want := range map[string]string{"Strict-Transport-Security": "max-age", "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "X-Frame-Options": "DENY"} {
		if !strings.Contains(resp.Header.Get(name), want) {
			t.Errorf("%s: %q", name, resp.Header.Get(name))
		}
	}
}

func certificate(t *testing.T, name string) (cert, key []byte) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{name}}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &k.PublicKey, k)
	if err != nil {
		t.Fatal(err)
	}
	b, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: b})
}

// A browser is sent on to https; a key that came over http is not.
func TestRedirect(t *testing.T) {
	t.Parallel()
	f := newFront(t, Config{Public: "https://api.example.com"}, who)
	for key, want := range map[string]int{"": 301, "Bearer wiu_live_x": 403} {
		r := httptest.NewRequest("GET", "/docs?x=1", nil)
		if key != "" {
			r.Header.Set("Authorization", key)
		}
		w := httptest.NewRecorder()
		f.redirect(w, r)
		if w.Code != want || want == 301 && w.Header().Get("Location") != "https://api.example.com/docs?x=1" {
			t.Errorf("with %q: %d to %q", key, w.Code, w.Header().Get("Location"))
		}
	}
}

func TestSettings(t *testing.T) {
	t.Parallel()
	read := func(public string, pairs ...string) (Config, error) {
		m := map[string]string{}
		for i := 0; i < len(pairs); i += 2 {
			m[pairs[i]] = pairs[i+1]
		}
		return FromEnv(func(name string) string { return m[name] }, public)
	}
	c, err := read("https://a.example.com", "ACME_DOMAINS", "a.example.com, b.example.com", "TRUSTED_PROXIES", "127.0.0.1,10.0.0.0/8,::1")
	if err != nil || len(c.Domains) != 2 || len(c.TrustedProxies) != 3 || !c.HSTS || !c.TLS() {
		t.Errorf("%+v (%v)", c, err)
	}
	_, err = read("http://x.example.com", "ACME_DOMAINS", "*.example.com", "TRUSTED_PROXIES", "proxy", "TLS_CERT_FILE", "x", "HTTP_PORT", "99999", "ADDRESS_LIMIT_BURST", "-1")
	for _, name := range []string{"ACME_DOMAINS", "TRUSTED_PROXIES", "TLS_KEY_FILE", "HTTP_PORT", "ADDRESS_LIMIT_BURST", "PUBLIC_URL"} {
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s is not named in %v", name, err)
		}
	}
}
