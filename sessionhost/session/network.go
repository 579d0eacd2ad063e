package session

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"

	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/store"
)

// Redirect sends clients to a simulator instead of WhatsApp. It exists in the
// sandbox only, since it takes the authentication of the server away.
type Redirect struct {
	Endpoint string // http://host:port or https://host:port
	CA       []byte // PEM, with https
	Root     string // the simulator's root public key, hex
}

// dialWithin bounds each step until the connection is upgraded.
const dialWithin = 8 * time.Second

// Network is how clients reach WhatsApp.
type Network struct {
	redirect *url.URL    // nil: the real WhatsApp
	tls      *tls.Config // of the connection
	media    *http.Client

	// version is held for reading while a client makes its payload, which reads
	// the process-wide client version.
	version sync.RWMutex
}

// genuineRoot is the root key that the library came with.
var genuineRoot = whatsmeow.WACertPubKey

// trustRoot guards the library's process-wide root key.
var trustRoot struct {
	sync.Mutex
	replaced bool
}

// Live is the real WhatsApp. It refuses to run in a process that trusts any
// other root than the library's own.
func Live() (*Network, error) {
	trustRoot.Lock()
	defer trustRoot.Unlock()
	if trustRoot.replaced || whatsmeow.WACertPubKey != genuineRoot {
		return nil, errors.New("this process trusts a simulator's root key and can't drive real WhatsApp")
	}
	return &Network{tls: &tls.Config{MinVersion: tls.VersionTLS12}, media: &http.Client{Timeout: time.Minute}}, nil
}

// Sandbox is the simulator at the redirect. The first one in a process sets the
// root key that the library trusts; another root is refused afterwards.
func Sandbox(r Redirect) (*Network, error) {
	u, err := url.Parse(r.Endpoint)
	if err != nil || u.Host == "" || u.Port() == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, errors.New("the simulator's endpoint must be http://host:port or https://host:port")
	}
	n := &Network{redirect: u, media: &http.Client{Timeout: time.Minute}}
	if u.Scheme == "https" {
		n.tls = &tls.Config{MinVersion: tls.VersionTLS12, ServerName: u.Hostname()}
		if len(r.CA) > 0 {
			n.tls.RootCAs = x509.NewCertPool()
			if !n.tls.RootCAs.AppendCertsFromPEM(r.CA) {
				return nil, errors.New("the simulator's CA file holds no certificate")
			}
		}
	}
	root, err := hex.DecodeString(r.Root)
	if err != nil || len(root) != len(whatsmeow.WACertPubKey) {
		return nil, fmt.Errorf("the simulator's root key must be %d hexadecimal digits", 2*len(whatsmeow.WACertPubKey))
	}
	trustRoot.Lock()
	defer trustRoot.Unlock()
	if whatsmeow.WACertPubKey != [32]byte(root) {
		if trustRoot.replaced {
			return nil, errors.New("this process trusts another simulator's root key already")
		}
		whatsmeow.WACertPubKey = [32]byte(root)
	}
	trustRoot.replaced = true
	return n, nil
}

// NameDevice sets what a phone calls the devices that are linked from now on. The
// library keeps it in a variable of the process.
func NameDevice(name string) {
	trustRoot.Lock()
	defer trustRoot.Unlock()
	if name != "" && store.DeviceProps.GetOs() != name {
		store.DeviceProps.Os = &name
	}
}

// ControlClient is an HTTP client for the simulator's control interface.
func (n *Network) ControlClient() *http.Client {
	return &http.Client{Timeout: 15 * time.Second, Transport: &http.Transport{TLSClientConfig: n.tls, MaxIdleConnsPerHost: 16}}
}

// Simulated says whether this is not the real WhatsApp.
func (n *Network) Simulated() bool { return n.redirect != nil }

// upgrading tells when a connection has become a WebSocket.
type upgrading struct {
	http.RoundTripper
	upgraded func()
}

func (u upgrading) RoundTrip(r *http.Request) (*http.Response, error) {
	answer, err := u.RoundTripper.RoundTrip(r)
	if err == nil && answer.StatusCode == http.StatusSwitchingProtocols {
		u.upgraded()
	}
	return answer, err
}

// client is the HTTP client of one connection, which hands the connection under
// it to opened, and tells of its upgrade. Every connection has its own, so that
// none is ever shared.
func (n *Network) client(opened func(net.Conn) (net.Conn, error), upgraded func()) *http.Client {
	dial := func(ctx context.Context, network, address string) (net.Conn, error) {
		if n.redirect != nil {
			address = n.redirect.Host
		}
		d := net.Dialer{Timeout: dialWithin}
		c, err := d.DialContext(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return opened(c)
	}
	t := &http.Transport{
		DialContext: dial, TLSClientConfig: n.tls,
		TLSHandshakeTimeout: dialWithin, ResponseHeaderTimeout: dialWithin,
		// The buffers stay with the connection for its life; stanzas are small.
		ReadBufferSize: 1 << 10, WriteBufferSize: 1 << 10,
	}
	if n.redirect != nil && n.redirect.Scheme == "http" {
		// The library's URL is wss for good; the transport takes what this
		// returns for a connection that is encrypted already.
		t.DialTLSContext = dial
	} else if n.redirect == nil {
		t.Proxy = http.ProxyFromEnvironment
	}
	return &http.Client{Transport: upgrading{t, upgraded}}
}

// payload runs a connect while the client version stands still.
func (n *Network) payload(connect func() error) error {
	n.version.RLock()
	defer n.version.RUnlock()
	return connect()
}

// Version is the client version that is in use.
func (n *Network) Version() store.WAVersionContainer {
	n.version.RLock()
	defer n.version.RUnlock()
	return store.GetWAVersion()
}

// Use makes v the client version of this process if it is newer than the present
// one, and says whether it was.
func (n *Network) Use(v store.WAVersionContainer) bool {
	n.version.Lock()
	defer n.version.Unlock()
	if !store.GetWAVersion().LessThan(v) {
		return false
	}
	store.SetWAVersion(v)
	return true
}

// Newest asks WhatsApp for its newest web version.
func (n *Network) Newest(ctx context.Context) (store.WAVersionContainer, error) {
	if n.redirect != nil {
		return store.WAVersionContainer{}, errors.New("a simulator has no newest version")
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	v, err := whatsmeow.GetLatestVersion(ctx, &http.Client{Timeout: 10 * time.Second})
	if err != nil {
		return store.WAVersionContainer{}, err
	}
	return *v, nil
}
