package front

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/crypto/acme"
	"golang.org/x/crypto/acme/autocert"
)

// Front serves one handler to the world.
type Front struct {
	c       Config
	handler http.Handler
	log     *slog.Logger
	manager *autocert.Manager
	files   *files
	limits  *limits
}

// Refuse answers a request that is over its address's limit.
type Refuse func(w http.ResponseWriter, retryAfter time.Duration)

// New returns a front for h. It reads the certificate's files, if there are any.
func New(c Config, h http.Handler, refuse Refuse, logger *slog.Logger) (*Front, error) {
	f := &Front{c: c, log: logger, limits: newLimits(c)}
	f.handler = f.headers(f.clients(f.limited(h, refuse)))
	if c.CertFile != "" {
		f.files = &files{cert: c.CertFile, key: c.KeyFile, log: logger}
		if _, err := f.files.get(nil); err != nil {
			return nil, fmt.Errorf("TLS_CERT_FILE: %w", err)
		}
	}
	if len(c.Domains) > 0 {
		client := &acme.Client{DirectoryURL: c.Directory}
		if c.DirectoryCA != "" {
			pem, err := os.ReadFile(c.DirectoryCA)
			if err != nil {
				return nil, fmt.Errorf("ACME_DIRECTORY_CA_FILE: %w", err)
			}
			pool := x509.NewCertPool()
			if !pool.AppendCertsFromPEM(pem) {
				return nil, errors.New("ACME_DIRECTORY_CA_FILE holds no certificate")
			}
			client.HTTPClient = &http.Client{Timeout: time.Minute, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}}
		}
		f.manager = &autocert.Manager{
			Prompt: autocert.AcceptTOS, Cache: autocert.DirCache(c.Cache), HostPolicy: autocert.HostWhitelist(c.Domains...),
			Email: c.Email, Client: client,
		}
	}
	return f, nil
}

// headers are what every answer has; a handler's own stand above them.
func (f *Front) headers(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		head := w.Header()
		head.Set("X-Content-Type-Options", "nosniff")
		head.Set("Referrer-Policy", "no-referrer")
		head.Set("X-Frame-Options", "DENY")
		head.Set("Cross-Origin-Opener-Policy", "same-origin")
		if f.c.HSTS {
			head.Set("Strict-Transport-Security", "max-age=31536000")
		}
		h.ServeHTTP(w, r)
	})
}

// clients makes RemoteAddr the client's own address.
func (f *Front) clients(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if client, ok := f.forwarded(r); ok {
			r.RemoteAddr = net.JoinHostPort(client.String(), "0")
		}
		r.Header.Del("X-Forwarded-For")
		h.ServeHTTP(w, r)
	})
}

func addressOf(remote string) (netip.Addr, bool) {
	a, err := netip.ParseAddrPort(remote)
	return a.Addr().Unmap(), err == nil
}

func (f *Front) trusts(a netip.Addr) bool {
	for _, p := range f.c.TrustedProxies {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// forwarded is for whom a trusted proxy asks.
func (f *Front) forwarded(r *http.Request) (netip.Addr, bool) {
	peer, ok := addressOf(r.RemoteAddr)
	if !ok || !f.trusts(peer) {
		return peer, false
	}
	hops := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for i := len(hops) - 1; i >= 0; i-- {
		a, err := netip.ParseAddr(strings.TrimSpace(hops[i]))
		if err != nil {
			return peer, false // what is before it is anybody's word
		}
		if peer = a.Unmap(); !f.trusts(peer) {
			return peer, true
		}
	}
	return peer, true // the proxies' own
}

// Serve serves until ctx ends, then lets requests in hand end, within bounds. The
// listener is closed.
func (f *Front) Serve(ctx context.Context, l net.Listener) error {
	// Streams end with the server, so that it can: their context is its.
	base, cancel := context.WithCancel(context.Background())
	defer cancel()
	server := &http.Server{
		Handler:           f.handler,
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    32 << 10,
		BaseContext:       func(net.Listener) context.Context { return base },
		// What strangers do wrong in a handshake is no error of ours.
		ErrorLog: log.New(slogWriter{f.log}, "", 0),
	}
	server.RegisterOnShutdown(cancel)
	servers := []*http.Server{server}
	listeners := []net.Listener{f.limits.listen(l, f.trusts)}
	switch {
	case f.files != nil:
		server.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: f.files.get}
	case f.manager != nil:
		server.TLSConfig = f.manager.TLSConfig()
		server.TLSConfig.MinVersion = tls.VersionTLS12
	}
	if f.c.HTTPPort > 0 {
		host, _, err := net.SplitHostPort(l.Addr().String())
		if err != nil {
			return err
		}
		plain, err := net.Listen("tcp", net.JoinHostPort(host, strconv.Itoa(f.c.HTTPPort)))
		if err != nil {
			return errors.Join(fmt.Errorf("HTTP_PORT: %w", err), l.Close())
		}
		var h http.Handler = http.HandlerFunc(f.redirect)
		if f.manager != nil {
			h = f.manager.HTTPHandler(h)
		}
		servers = append(servers, &http.Server{
			Handler: h, ReadTimeout: 10 * time.Second, WriteTimeout: 10 * time.Second, IdleTimeout: 30 * time.Second, MaxHeaderBytes: 16 << 10,
			ErrorLog: log.New(slogWriter{f.log}, "", 0),
		})
		listeners = append(listeners, f.limits.listen(plain, f.trusts))
	}
	failed := make(chan error, len(servers))
	for i, s := range servers {
		go func() {
			if s.TLSConfig != nil {
				failed <- s.ServeTLS(listeners[i], "", "")
				return
			}
			failed <- s.Serve(listeners[i])
		}()
	}
	var err error
	waiting := len(servers)
	select {
	case err = <-failed:
		waiting--
	case <-ctx.Done():
	}
	ending, done := context.WithTimeout(context.Background(), 15*time.Second)
	defer done()
	for _, s := range servers {
		if s.Shutdown(ending) != nil {
			err = errors.Join(err, s.Close())
		}
	}
	for range waiting {
		<-failed // http.ErrServerClosed
	}
	return err
}

// redirect sends a browser to HTTPS. An API call is not sent on: its key has been
// sent in the clear, and should not look as if that worked.
func (f *Front) redirect(w http.ResponseWriter, r *http.Request) {
	if f.c.Public == "" || r.Method != http.MethodGet && r.Method != http.MethodHead || r.Header.Get("Authorization") != "" {
		http.Error(w, "Use https. A key that was sent over http was sent in the clear: revoke it.", http.StatusForbidden)
		return
	}
	http.Redirect(w, r, f.c.Public+r.URL.RequestURI(), http.StatusMovedPermanently)
}

// slogWriter takes net/http's own messages.
type slogWriter struct{ log *slog.Logger }

func (s slogWriter) Write(b []byte) (int, error) {
	s.log.Debug("http", "message", strings.TrimSpace(string(b)))
	return len(b), nil
}
