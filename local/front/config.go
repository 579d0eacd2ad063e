package front

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
)

// Config of the front.
type Config struct {
	// TrustedProxies may say whom they forward.
	TrustedProxies []netip.Prefix
	// PerSecond and Burst are an address's requests; 0: no limit.
	PerSecond float64
	Burst     int
	// Connections is how many there may be at once in all, PerAddress from one
	// address that is no trusted proxy.
	Connections, PerAddress int

	// CertFile and KeyFile are a certificate and its key, in PEM.
	CertFile, KeyFile string
	// Domains get certificates by ACME from Directory (empty: Let's Encrypt), whose
	// terms are accepted with that; they are kept in Cache. Email is told of trouble.
	Domains          []string
	Email, Directory string
	DirectoryCA      string // file of the certificate authority of Directory itself; empty: the system's
	Cache            string
	HTTPPort         int    // answers HTTP-01 and sends everything else to HTTPS; 0: none
	Public           string // URL under which clients come; https: HSTS is sent
	HSTS             bool
}

// The defaults of the limits.
const (
	DefaultPerSecond   = 50
	DefaultBurst       = 200
	DefaultConnections = 4096
	DefaultPerAddress  = 256
)

// FromEnv reads the settings and says everything that is wrong with them.
func FromEnv(getenv func(string) string, public string) (Config, error) {
	var problems []error
	wrong := func(format string, args ...any) { problems = append(problems, fmt.Errorf(format, args...)) }
	number := func(name string, otherwise float64) float64 {
		s := getenv(name)
		if s == "" {
			return otherwise
		}
		n, err := strconv.ParseFloat(s, 64)
		if err != nil || n < 0 || n > 1e6 {
			wrong("%s must be a number from 0 (no limit) on, not %q", name, s)
		}
		return n
	}
	list := func(name string) []string {
		return strings.FieldsFunc(getenv(name), func(r rune) bool { return r == ',' || r == ' ' })
	}
	c := Config{
		PerSecond:   number("ADDRESS_LIMIT_PER_SECOND", DefaultPerSecond),
		Burst:       int(number("ADDRESS_LIMIT_BURST", DefaultBurst)),
		Connections: int(number("MAX_CONNECTIONS", DefaultConnections)),
		PerAddress:  int(number("ADDRESS_MAX_CONNECTIONS", DefaultPerAddress)),
		CertFile:    getenv("TLS_CERT_FILE"), KeyFile: getenv("TLS_KEY_FILE"),
		Domains: list("ACME_DOMAINS"), Email: getenv("ACME_EMAIL"),
		Directory: getenv("ACME_DIRECTORY"), DirectoryCA: getenv("ACME_DIRECTORY_CA_FILE"),
		HTTPPort: int(number("HTTP_PORT", 0)), Public: public,
	}
	if c.HTTPPort > 65535 {
		wrong("HTTP_PORT must be a port, not %d", c.HTTPPort)
	}
	for _, s := range list("TRUSTED_PROXIES") {
		p, err := netip.ParsePrefix(s)
		if a, err2 := netip.ParseAddr(s); err != nil && err2 == nil {
			p, err = a.Prefix(a.BitLen())
		}
		if err != nil {
			wrong("TRUSTED_PROXIES must be addresses and networks like 127.0.0.1,10.0.0.0/8, not %q", s)
			continue
		}
		c.TrustedProxies = append(c.TrustedProxies, p.Masked())
	}
	if (c.CertFile == "") != (c.KeyFile == "") {
		wrong("TLS_CERT_FILE and TLS_KEY_FILE go together")
	}
	if c.CertFile != "" && len(c.Domains) > 0 {
		wrong("set TLS_CERT_FILE or ACME_DOMAINS, not both")
	}
	for _, d := range c.Domains {
		if net.ParseIP(d) != nil || !strings.Contains(d, ".") || strings.ContainsAny(d, "/:*") {
			wrong("ACME_DOMAINS must be names like api.example.com, not %q", d)
		}
	}
	if u, err := url.Parse(public); err == nil && u.Scheme == "https" {
		c.HSTS = true
	} else if public != "" && c.TLS() {
		wrong("PUBLIC_URL must begin with https:// where TLS is on")
	}
	return c, errors.Join(problems...)
}

// TLS says whether the front itself speaks TLS.
func (c Config) TLS() bool { return c.CertFile != "" || len(c.Domains) > 0 }
