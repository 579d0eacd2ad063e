// Package whatsapptest runs a WhatsApp simulator for a test.
package whatsapptest

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"whatisup/local/whatsapp"
)

// Simulator is one that runs on a loopback port of the system's choice.
type Simulator struct {
	*whatsapp.Server
	Address string // host:port; plain and TLS

	stop func()
}

// Seed is what Start gives to a simulator that has none: every simulator of a
// test process has the same root key, because a client library may hold the one
// that it trusts in a variable of the process.
var Seed = [32]byte([]byte("the seed of simulators in tests!"))

// Root is the root key of simulators with that seed.
func Root(t testing.TB) [32]byte {
	t.Helper()
	server, err := whatsapp.New(whatsapp.Config{Seed: Seed})
	if err != nil {
		t.Fatalf("cannot make a simulator: %v", err)
	}
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	if err := server.Run(ended); err != nil {
		t.Fatalf("cannot end a simulator: %v", err)
	}
	return server.Root()
}

// Start runs a simulator until the test ends.
func Start(t testing.TB, cfg whatsapp.Config) *Simulator {
	t.Helper()
	if cfg.Seed == [32]byte{} {
		cfg.Seed = Seed
	}
	server, err := whatsapp.New(cfg)
	if err != nil {
		t.Fatalf("cannot make a simulator: %v", err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("cannot listen: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := server.Run(ctx); err != nil {
			t.Errorf("the simulator ended badly: %v", err)
		}
	})
	running.Go(func() {
		if err := server.Serve(ctx, listener); err != nil {
			t.Errorf("the simulator's listener ended badly: %v", err)
		}
	})
	s := &Simulator{Server: server, Address: listener.Addr().String()}
	s.stop = sync.OnceFunc(func() { cancel(); running.Wait() })
	t.Cleanup(s.stop)
	return s
}

// Stop ends the simulator before the test does, for one that starts another
// on the same data directory.
func (s *Simulator) Stop() { s.stop() }

// Endpoint is the simulator's plain address as a URL.
func (s *Simulator) Endpoint() string { return "http://" + s.Address }

// HTTPClient returns a client whose every connection, whatever its URL says,
// leads to the simulator over TLS, and whose requests name the world and
// instance if they are not empty.
func (s *Simulator) HTTPClient(t testing.TB, world, instance string) *http.Client {
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(s.CA()) {
		t.Fatal("the simulator's certificate authority cannot be read")
	}
	dialer := &net.Dialer{Timeout: 10 * time.Second}
	transport := &http.Transport{
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, network, s.Address)
		},
		TLSClientConfig: &tls.Config{RootCAs: roots},
	}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: named{transport, world, instance}}
}

type named struct {
	next            http.RoundTripper
	world, instance string
}

func (n named) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	if n.world != "" {
		r.Header.Set(whatsapp.HeaderWorld, n.world)
	}
	if n.instance != "" {
		r.Header.Set(whatsapp.HeaderInstance, n.instance)
	}
	return n.next.RoundTrip(r)
}
