package line

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
// sandbox only: with it, the server is no longer authenticated as WhatsApp's.
type Redirect struct {
	Endpoint string // http://host:port or https://host:port
	CA       []byte // PEM, with https
	Root     string // the simulator's root public key, hex
}

// dialWithin bounds each step until the connection is upgraded.
const dialWithin = 8 * time.Second

// Network makes every connection of every client: the WebSocket, media, and the
// page that names the newest version.
type Network struct {
	redirect *url.URL    // nil: the real WhatsApp
	tls      *tls.Config // of the connection
	media    *http.Client
	// histories lets one history be in memory at a time.
	histories chan struct{}

	// dial opens a TCP connection; a test records what it is asked for.
	dial func(ctx context.Context, network, address string) (net.Conn, error)

	// version is held for reading while a client makes its payload, which reads
	// the client version of the process.
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
	return newNetwork(nil, &tls.Config{MinVersion: tls.VersionTLS12}), nil
}

func newNetwork(redirect *url.URL, tls *tls.Config) *Network {
	d := net.Dialer{Timeout: dialWithin}
	n := &Network{redirect: redirect, tls: tls, dial: d.DialContext, histories: make(chan struct{}, 1)}
	n.media = &http.Client{Transport: n.transport(nil)} // who uses it bounds the time
	return n
}

// Sandbox is the simulator at the redirect. The first one in a process sets the
// root key that the library trusts; another root is refused afterwards.
func Sandbox(r Redirect) (*Network, error) {
	u, err := url.Parse(r.Endpoint)
	if err != nil || u.Host == "" || u.Port() == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, errors.New("the simulator's endpoint must be http://host:port or https://host:port")
	}
	var config *tls.Config
	if u.Scheme == "https" {
		config = &tls.Config{MinVersion: tls.VersionTLS12, ServerName: u.Hostname()}
		if len(r.CA) > 0 {
			config.RootCAs = x509.NewCertPool()
			if !config.RootCAs.AppendCertsFromPEM(r.CA) {
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
	return newNetwork(u, config), nil
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
	t := n.transport(nil)
	t.MaxIdleConnsPerHost = 16
	return &http.Client{Timeout: 15 * time.Second, Transport: t}
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

// transport is how all HTTP of this host reaches WhatsApp, or in the sandbox the
// simulator: there every connection goes to its address, whatever host is named,
// and none through a proxy. Each new connection passes through opened, if that is
// not nil.
func (n *Network) transport(opened func(net.Conn) (net.Conn, error)) *http.Transport {
	dial := func(ctx context.Context, network, address string) (net.Conn, error) {
		if n.redirect != nil {
			address = n.redirect.Host
		}
		c, err := n.dial(ctx, network, address)
		if err != nil || opened == nil {
			return c, err
		}
		return opened(c)
	}
	t := &http.Transport{
		DialContext: dial, TLSClientConfig: n.tls,
		TLSHandshakeTimeout: dialWithin, IdleConnTimeout: 90 * time.Second,
	}
	switch {
	case n.redirect == nil:
		t.Proxy = http.ProxyFromEnvironment
	case n.redirect.Scheme == "http":
		// The library's URLs are https for good; the transport takes what this
		// returns for a connection that is encrypted already.
		t.DialTLSContext = dial
	}
	return t
}

// client is the HTTP client of one WebSocket, which hands the connection under it
// to opened, and tells of its upgrade. Every WebSocket has its own, so that no
// connection is shared.
func (n *Network) client(opened func(net.Conn) (net.Conn, error), upgraded func()) *http.Client {
	t := n.transport(opened)
	t.ResponseHeaderTimeout = dialWithin
	// The buffers stay with the connection for its life; stanzas are small.
	t.ReadBufferSize, t.WriteBufferSize = 1<<10, 1<<10
	return &http.Client{Transport: upgrading{t, upgraded}}
}

// pages is the HTTP client for WhatsApp's public pages.
func (n *Network) pages() *http.Client {
	return &http.Client{Timeout: 10 * time.Second, Transport: n.transport(nil)}
}

// payload runs a connect while the client version stands still.
func (n *Network) payload(connect func() error) error {
	n.version.RLock()
	defer n.version.RUnlock()
	return connect()
}

// Version is the client version that is in use.
func (n *Network) Version() Version {
	n.version.RLock()
	defer n.version.RUnlock()
	return store.GetWAVersion()
}

// Use makes v the client version of this process if it is newer than the present
// one, and says whether it was.
func (n *Network) Use(v Version) bool {
	n.version.Lock()
	defer n.version.Unlock()
	if !store.GetWAVersion().LessThan(v) {
		return false
	}
	store.SetWAVersion(v)
	return true
}

// Version is a version of the web client.
type Version = store.WAVersionContainer

// ParseVersion reads a version as [Version.String] writes it.
func ParseVersion(text string) (Version, error) { return store.ParseVersion(text) }

// Newest asks WhatsApp for its newest web version.
func (n *Network) Newest(ctx context.Context) (Version, error) {
	if n.redirect != nil {
		return Version{}, errors.New("a simulator has no newest version")
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	v, err := whatsmeow.GetLatestVersion(ctx, n.pages())
	if err != nil {
		return Version{}, err
	}
	return *v, nil
}
