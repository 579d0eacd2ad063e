package foreign

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	maxURL          = 2048
	maxHost         = 253
	maxHeader       = 16 << 10 // bytes of an answer's headers
	dialTimeout     = 10 * time.Second
	headerTimeout   = 15 * time.Second // from the request until the answer's headers
	lookupTimeout   = 2 * time.Second  // for the addresses that Check looks at
	idleTimeout     = 30 * time.Second
	idlePerHost     = 16
	idleConnections = 256
	readAhead       = 64 << 10 // of an answer's bytes, for a Client
)

// Config of a Guard.
type Config struct {
	Allow Allow
	// Own are the deployment's own addresses, as URLs or host:port. They are refused
	// by name; their ports also on loopback and on this machine's other addresses.
	Own []string
	// OneMachine says that the whole deployment is one machine, somebody's own: test
	// keys may then use loopback.
	OneMachine bool
	// Resolver looks names up; nil is the system's.
	Resolver *net.Resolver
	// Roots are the certificate authorities that are trusted; nil is the system's.
	Roots *x509.CertPool
}

// Guard makes requests to URLs of customers. Its methods may be called at the same time.
type Guard struct {
	Config
	own              []target
	live, test       http.RoundTripper // of clients
	liveGet, testGet http.RoundTripper
}

// New returns a guard. An own address that is no URL and no host:port is an error.
func New(c Config) (*Guard, error) {
	g := &Guard{Config: c}
	if g.Resolver == nil {
		g.Resolver = net.DefaultResolver
	}
	for _, s := range c.Own {
		t, err := ownTarget(s)
		if err != nil {
			return nil, fmt.Errorf("own address %q: %w", s, err)
		}
		g.own = append(g.own, t)
	}
	g.live, g.test = g.roundTripper(false, readAhead), g.roundTripper(true, readAhead)
	g.liveGet, g.testGet = g.roundTripper(false, 0), g.roundTripper(true, 0)
	return g, nil
}

func ownTarget(s string) (target, error) {
	if u, err := url.Parse(s); err == nil && (u.Scheme == "https" || u.Scheme == "http") {
		return target{canonical(u.Hostname()), portOf(u)}, nil
	}
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		return target{}, err
	}
	n, err := strconv.Atoi(port)
	return target{canonical(host), n}, err
}

// Check returns the URL parsed, or an Error that says what is wrong with it. test says
// that a test key gave it. A name is looked up; one that has no address now, or whose
// name server doesn't answer, passes: each connection is checked again.
func (g *Guard) Check(ctx context.Context, raw string, test bool) (*url.URL, error) {
	if len(raw) > maxURL {
		return nil, refuse(fmt.Sprintf("must have at most %d characters", maxURL))
	}
	if strings.Contains(raw, "#") {
		return nil, refuse("must have no fragment (#)")
	}
	u, err := url.Parse(raw)
	if err != nil {
		return nil, refuse("must be a URL")
	}
	if err := g.checkURL(u, test); err != nil {
		return nil, err
	}
	host, port := canonical(u.Hostname()), portOf(u)
	var addrs []netip.Addr
	if addr, err := netip.ParseAddr(host); err == nil {
		addrs = []netip.Addr{addr}
	} else {
		ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
		defer cancel()
		if addrs, err = g.Resolver.LookupNetIP(ctx, "ip", host); err != nil {
			return u, nil
		}
	}
	var refusal error
	for _, addr := range addrs {
		if refusal = g.permit(addr, port, host, u.Scheme, test); refusal == nil {
			return u, nil
		}
	}
	return u, refusal
}

// checkURL looks at a URL's text.
func (g *Guard) checkURL(u *url.URL, test bool) error {
	host, port := canonical(u.Hostname()), portOf(u)
	switch {
	case u.Scheme != "https" && u.Scheme != "http":
		return refuse("must begin with https://")
	case u.Opaque != "" || host == "":
		return refuse("must have a host")
	case u.User != nil:
		return refuse("must have no user name or password")
	case u.Fragment != "":
		return refuse("must have no fragment (#)")
	case port < 1 || port > 65535:
		return refuse("must have a port from 1 to 65535")
	}
	if err := checkHost(host); err != nil {
		return refuse(err.Error())
	}
	if matches(g.own, host, port) {
		return refuse("must not be an address of this API")
	}
	if g.wide(host, port, test) {
		return nil
	}
	if u.Scheme != "https" {
		return refuse("must begin with https://")
	}
	if port != 443 && port != 8443 {
		return refuse("must have port 443 or 8443")
	}
	return nil
}

// wide reports whether a host may be one to which http and any port are allowed. For
// a name with some address in an allowed network only the dial can tell.
func (g *Guard) wide(host string, port int, test bool) bool {
	if g.Allow.host(host, port) {
		return true
	}
	addr, err := netip.ParseAddr(host)
	if err != nil {
		return len(g.Allow.networks) > 0 || g.OneMachine && test
	}
	return g.Allow.network(addr) || g.OneMachine && test && addr.IsLoopback()
}

var errNumber = errors.New("must have a host name, or an address in its usual form")

// checkHost refuses hosts that are no name of letters and digits and no address in its
// usual form: other spellings of an address (0x7f.1, 2130706433) have no honest use.
func checkHost(host string) error {
	if addr, err := netip.ParseAddr(host); err == nil {
		if addr.Zone() != "" {
			return errNumber
		}
		return nil
	}
	if host == "" || len(host) > maxHost {
		return fmt.Errorf("must have a host of at most %d characters", maxHost)
	}
	labels := strings.Split(host, ".")
	for _, label := range labels {
		if label == "" || len(label) > 63 || strings.Trim(label, "abcdefghijklmnopqrstuvwxyz0123456789-_") != "" {
			return errNumber
		}
	}
	last := labels[len(labels)-1]
	if strings.Trim(last, "0123456789") == "" || strings.HasPrefix(last, "0x") {
		return errNumber
	}
	return nil
}

func portOf(u *url.URL) int {
	if u.Port() == "" {
		if u.Scheme == "http" {
			return 80
		}
		return 443
	}
	n, err := strconv.Atoi(u.Port())
	if err != nil {
		return 0
	}
	return n
}

var errAddress = refuse("must have a public address")

// permit decides about one connection: to addr and port, for the host and the scheme
// of the URL.
func (g *Guard) permit(addr netip.Addr, port int, host, scheme string, test bool) error {
	if addr.Zone() != "" {
		return errAddress
	}
	addr = addr.Unmap()
	switch {
	case forbidden(addr):
		return errAddress
	case g.ownPort(addr, port):
		return refuse("must not be an address of this API")
	case g.Allow.host(host, port), g.Allow.network(addr):
		return nil
	case g.OneMachine && test && addr.IsLoopback():
		return nil
	case !public(addr):
		return errAddress
	case scheme != "https":
		return refuse("must begin with https://")
	case port != 443 && port != 8443:
		return refuse("must have port 443 or 8443")
	}
	return nil
}

// ownPort reports whether an address is this machine's, and the port one of the
// deployment's.
func (g *Guard) ownPort(addr netip.Addr, port int) bool {
	if !slices.ContainsFunc(g.own, func(t target) bool { return t.port == port }) {
		return false
	}
	if addr.IsLoopback() || slices.ContainsFunc(held(addr), netip.Addr.IsLoopback) {
		return true
	}
	mine, err := net.InterfaceAddrs()
	if err != nil {
		return true // rather one too many
	}
	return slices.ContainsFunc(mine, func(a net.Addr) bool {
		p, err := netip.ParsePrefix(a.String())
		return err == nil && p.Addr().Unmap() == addr
	})
}

// Client returns a client for the URLs of live keys or of test keys. It follows at most
// the given number of redirects; with 0 a redirect is an answer like any other. The
// caller bounds a request's time by its context, and what it reads of the answer. It is
// for short answers: of what the caller does not read little arrives.
func (g *Guard) Client(test bool, redirects int) *http.Client {
	if test {
		return client(g.test, redirects)
	}
	return client(g.live, redirects)
}

func client(rt http.RoundTripper, redirects int) *http.Client {
	follow := func(next *http.Request, via []*http.Request) error {
		if redirects == 0 {
			return http.ErrUseLastResponse
		}
		if len(via) > redirects {
			return errRedirects
		}
		agent := next.Header.Get("User-Agent")
		clear(next.Header)
		next.Header.Set("User-Agent", agent)
		return nil
	}
	return &http.Client{Transport: rt, CheckRedirect: follow}
}

// Get opens a URL for reading, following 3 redirects. Only 200 is a success: another
// status is an answer without an error, for the caller to look at. The body returns
// ErrTooLarge after limit bytes, and so does Get if the answer says so at once. ctx
// bounds the whole, body included.
func (g *Guard) Get(ctx context.Context, raw string, test bool, limit int64) (*http.Response, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, raw, nil)
	if err != nil {
		return nil, refuse("must be a URL")
	}
	r.Header.Set("User-Agent", UserAgent)
	rt := g.liveGet
	if test {
		rt = g.testGet
	}
	resp, err := client(rt, 3).Do(r)
	if err != nil {
		return nil, err
	}
	if resp.ContentLength > limit {
		return nil, errors.Join(ErrTooLarge, resp.Body.Close())
	}
	resp.Body = &bounded{resp.Body, limit}
	return resp, nil
}

// UserAgent is what every request of ours to others is from.
const UserAgent = "WhatIsUp/1"

type bounded struct {
	io.ReadCloser
	left int64
}

func (b *bounded) Read(p []byte) (int, error) {
	if b.left < 0 {
		return 0, ErrTooLarge
	}
	// One byte more than is left tells a body that ends here from one that goes on.
	if int64(len(p)) > b.left+1 {
		p = p[:b.left+1]
	}
	n, err := b.ReadCloser.Read(p)
	if b.left -= int64(n); b.left < 0 {
		return n - 1, ErrTooLarge
	}
	return n, err
}

// checked looks at each request, redirects included, before it leaves. http and
// https have transports of their own, so that a dial knows the scheme.
type checked struct {
	guard       *Guard
	test        bool
	plain, safe *http.Transport
}

// errPlain is the library's error for an http answer on an https connection.
var errPlain = http.ErrSchemeMismatch

func (c *checked) RoundTrip(r *http.Request) (*http.Response, error) {
	if err := c.guard.checkURL(r.URL, c.test); err != nil {
		if r.Body != nil {
			err = errors.Join(err, r.Body.Close())
		}
		return nil, err
	}
	if r.URL.Scheme == "http" {
		return c.plain.RoundTrip(r)
	}
	return c.safe.RoundTrip(r)
}

// roundTripper takes at most so many bytes of an answer before they are read, about; with
// 0 the library's four megabytes for a stream of HTTP/2.
func (g *Guard) roundTripper(test bool, ahead int) http.RoundTripper {
	return &checked{guard: g, test: test, plain: g.transport("http", test, ahead), safe: g.transport("https", test, ahead)}
}

func (g *Guard) transport(scheme string, test bool, ahead int) *http.Transport {
	streams := &http.HTTP2Config{}
	if ahead > 0 {
		streams.MaxReceiveBufferPerStream, streams.MaxReceiveBufferPerConnection = ahead, 4*ahead
	}
	return &http.Transport{
		Proxy: nil, // never the environment's: the dial would see only the proxy
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			host, _, err := net.SplitHostPort(address)
			if err != nil {
				return nil, err
			}
			dialer := net.Dialer{Timeout: dialTimeout, Resolver: g.Resolver, ControlContext: g.control(canonical(host), scheme, test)}
			return dialer.DialContext(ctx, network, address)
		},
		HTTP2:                  streams,
		TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: g.Roots},
		TLSHandshakeTimeout:    dialTimeout,
		ForceAttemptHTTP2:      true,
		DisableCompression:     true, // what is counted is what arrives
		MaxResponseHeaderBytes: maxHeader,
		ResponseHeaderTimeout:  headerTimeout,
		MaxIdleConns:           idleConnections,
		MaxIdleConnsPerHost:    idlePerHost,
		IdleConnTimeout:        idleTimeout,
	}
}

// control is called with the address that the kernel is about to connect to.
func (g *Guard) control(host, scheme string, test bool) func(context.Context, string, string, syscall.RawConn) error {
	return func(_ context.Context, _, address string, _ syscall.RawConn) error {
		to, err := netip.ParseAddrPort(address)
		if err != nil {
			return errAddress
		}
		return g.permit(to.Addr(), int(to.Port()), host, scheme, test)
	}
}

// Close closes the connections that no request uses.
func (g *Guard) Close() {
	for _, rt := range []http.RoundTripper{g.live, g.test, g.liveGet, g.testGet} {
		c := rt.(*checked)
		c.plain.CloseIdleConnections()
		c.safe.CloseIdleConnections()
	}
}
