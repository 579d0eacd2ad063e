package whatsapp

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"time"
)

// hostNames are what the TLS side can be called: WhatsApp's own names, for a
// client whose dialer was redirected, and this machine's.
var hostNames = []string{"web.whatsapp.com", "*.whatsapp.com", "*.whatsapp.net", "localhost"}

// prepareTLS makes the certificate authority once and a fresh certificate at
// each start. A data directory also gets the authority as ca.pem.
func (s *Server) prepareTLS() (*tls.Config, []byte, error) {
	authority, key, err := s.loadAuthority()
	if err != nil {
		return nil, nil, fmt.Errorf("prepare TLS: %w", err)
	}
	leafKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(s.now().UnixNano()),
		Subject:      pkix.Name{CommonName: "web.whatsapp.com"},
		NotBefore:    s.now().Add(-24 * time.Hour),
		NotAfter:     s.now().AddDate(2, 0, 0),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames:     slices.Concat(hostNames, s.cfg.Names),
		IPAddresses:  ownAddresses(),
	}
	der, err := x509.CreateCertificate(rand.Reader, leaf, authority, leafKey.Public(), key)
	if err != nil {
		return nil, nil, err
	}
	config := &tls.Config{
		MinVersion:   tls.VersionTLS12,
		NextProtos:   []string{"http/1.1"}, // a WebSocket is opened over HTTP/1.1
		Certificates: []tls.Certificate{{Certificate: [][]byte{der, authority.Raw}, PrivateKey: leafKey}},
	}
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: authority.Raw})
	if s.cfg.DataDir != "" {
		if err = os.WriteFile(filepath.Join(s.cfg.DataDir, "ca.pem"), ca, 0o644); err != nil {
			return nil, nil, err
		}
	}
	return config, ca, nil
}

func (s *Server) loadAuthority() (*x509.Certificate, *ecdsa.PrivateKey, error) {
	var der, keyDER []byte
	err := s.db.update(func(tx *tx) error {
		meta := tx.Bucket(bucketMeta)
		if stored := meta.Get([]byte("ca")); stored != nil {
			der = append(der, stored...)
			keyDER = append(keyDER, meta.Get([]byte("ca key"))...)
			return nil
		}
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return err
		}
		authority := &x509.Certificate{
			SerialNumber:          big.NewInt(1),
			Subject:               pkix.Name{CommonName: "WhatsApp simulator"},
			NotBefore:             s.now().Add(-24 * time.Hour),
			NotAfter:              s.now().AddDate(20, 0, 0),
			KeyUsage:              x509.KeyUsageCertSign,
			BasicConstraintsValid: true,
			IsCA:                  true,
		}
		if der, err = x509.CreateCertificate(rand.Reader, authority, authority, key.Public(), key); err != nil {
			return err
		}
		if keyDER, err = x509.MarshalPKCS8PrivateKey(key); err != nil {
			return err
		}
		if err = meta.Put([]byte("ca"), der); err != nil {
			return err
		}
		return meta.Put([]byte("ca key"), keyDER)
	})
	if err != nil {
		return nil, nil, err
	}
	authority, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, nil, err
	}
	key, err := x509.ParsePKCS8PrivateKey(keyDER)
	if err != nil {
		return nil, nil, err
	}
	private, ok := key.(*ecdsa.PrivateKey)
	if !ok {
		return nil, nil, errors.New("the stored key of the certificate authority is of another kind")
	}
	return authority, private, nil
}

// Serve answers on a listener until ctx ends, plain and TLS on the same port:
// a TLS connection is known by its first byte. Run must be running.
func (s *Server) Serve(ctx context.Context, listener net.Listener) error {
	s.listensAt(listener.Addr())
	both := &bothListener{Listener: listener, tls: s.tls, out: make(chan net.Conn), done: make(chan struct{})}
	server := &http.Server{
		Handler:           s,
		ReadHeaderTimeout: 10 * time.Second,
		MaxHeaderBytes:    32 << 10,
		TLSNextProto:      map[string]func(*http.Server, *tls.Conn, http.Handler){},
	}
	failed := make(chan error, 1)
	both.wg.Go(func() { both.accept(failed) })
	served := make(chan error, 1)
	both.wg.Go(func() { served <- server.Serve(both) })

	var err error
	select {
	case <-ctx.Done():
	case err = <-failed:
	case err = <-served:
	}
	_ = server.Close() // closes both and so the listener
	_ = both.Close()
	both.wg.Wait()
	if errors.Is(err, http.ErrServerClosed) || errors.Is(err, net.ErrClosed) {
		err = nil
	}
	return err
}

// listensAt keeps the address for the URLs of the media host.
func (s *Server) listensAt(address net.Addr) {
	host := address.String()
	if tcp, ok := address.(*net.TCPAddr); ok && tcp.IP.IsUnspecified() {
		host = net.JoinHostPort("127.0.0.1", strconv.Itoa(tcp.Port))
	}
	s.address.Store(&host)
}

// ownAddresses are this machine's, by which clients may reach the server.
func ownAddresses() []net.IP {
	out := []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback}
	addresses, _ := net.InterfaceAddrs()
	for _, address := range addresses {
		if network, ok := address.(*net.IPNet); ok && !network.IP.IsLoopback() {
			out = append(out, network.IP)
		}
	}
	return out
}

type bothListener struct {
	net.Listener
	tls  *tls.Config
	out  chan net.Conn
	done chan struct{}
	once sync.Once
	wg   sync.WaitGroup
}

func (b *bothListener) accept(failed chan<- error) {
	for {
		raw, err := b.Listener.Accept()
		if err != nil {
			failed <- err
			return
		}
		b.wg.Go(func() { b.sort(raw) })
	}
}

// sort waits for the first byte of a connection and hands it on.
func (b *bothListener) sort(raw net.Conn) {
	stop := make(chan struct{})
	defer close(stop)
	b.wg.Go(func() {
		select {
		case <-b.done:
			_ = raw.SetReadDeadline(time.Unix(1, 0))
		case <-stop:
		}
	})
	_ = raw.SetReadDeadline(time.Now().Add(10 * time.Second))
	peeked := &peekedConn{Conn: raw, head: bufio.NewReaderSize(raw, 16)}
	first, err := peeked.head.Peek(1)
	if err != nil {
		_ = raw.Close()
		return
	}
	_ = raw.SetReadDeadline(time.Time{})
	var out net.Conn = peeked
	if first[0] == 0x16 {
		out = tls.Server(peeked, b.tls)
	}
	select {
	case b.out <- out:
	case <-b.done:
		_ = raw.Close()
	}
}

func (b *bothListener) Accept() (net.Conn, error) {
	select {
	case c := <-b.out:
		return c, nil
	case <-b.done:
		return nil, net.ErrClosed
	}
}

func (b *bothListener) Close() error {
	b.once.Do(func() { close(b.done) })
	return b.Listener.Close()
}

// peekedConn reads what was peeked first, and lets go of the buffer then.
type peekedConn struct {
	net.Conn
	head *bufio.Reader
}

func (p *peekedConn) Read(b []byte) (int, error) {
	if p.head != nil {
		if p.head.Buffered() > 0 {
			return p.head.Read(b)
		}
		p.head = nil
	}
	return p.Conn.Read(b)
}
