package foreign

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// Allow is what the operator allows beside public addresses. The zero value allows
// nothing more.
type Allow struct {
	networks []netip.Prefix
	hosts    []target
}

// target is a host with one port, or with every port (0).
type target struct {
	host string
	port int
}

// ParseAllow reads FOREIGN_ALLOW: networks (10.1.0.0/16), addresses and host names, the
// last two with or without a port (n8n:5678), separated by commas. It names every
// entry that is wrong, and refuses networks that hold only what is always refused.
func ParseAllow(s string) (Allow, error) {
	var a Allow
	var problems []error
	for entry := range strings.SplitSeq(s, ",") {
		entry = strings.TrimSpace(entry)
		if entry == "" {
			continue
		}
		if p, err := netip.ParsePrefix(entry); err == nil {
			if forbidden(p.Addr()) && within(p, never) {
				problems = append(problems, fmt.Errorf("%s is never allowed", entry))
				continue
			}
			a.networks = append(a.networks, p.Masked())
			continue
		}
		t, err := parseTarget(entry)
		if err != nil {
			problems = append(problems, fmt.Errorf("%q is no network, address or host: %w", entry, err))
			continue
		}
		if addr, err := netip.ParseAddr(t.host); err == nil && forbidden(addr.Unmap()) {
			problems = append(problems, fmt.Errorf("%s is never allowed", entry))
			continue
		}
		a.hosts = append(a.hosts, t)
	}
	return a, errors.Join(problems...)
}

// within reports whether one of the blocks holds all of p.
func within(p netip.Prefix, blocks []netip.Prefix) bool {
	for _, b := range blocks {
		if b.Contains(p.Addr()) && b.Bits() <= p.Bits() {
			return true
		}
	}
	return false
}

func parseTarget(s string) (target, error) {
	host, port := s, 0
	if _, err := netip.ParseAddr(s); err != nil { // an IPv6 address has colons of its own
		if h, p, err := net.SplitHostPort(s); err == nil {
			n, err := strconv.Atoi(p)
			if err != nil || n < 1 || n > 65535 {
				return target{}, errors.New("its port must be 1 to 65535")
			}
			host, port = h, n
		}
	}
	host = canonical(host)
	return target{host, port}, checkHost(host)
}

func (a Allow) network(addr netip.Addr) bool { return in(addr, a.networks) }

func (a Allow) host(host string, port int) bool {
	return matches(a.hosts, host, port)
}

func matches(targets []target, host string, port int) bool {
	for _, t := range targets {
		if t.host == host && (t.port == 0 || t.port == port) {
			return true
		}
	}
	return false
}

// canonical is a host name in the one form that is compared: lower case, without the
// dot at its end and the brackets of IPv6.
func canonical(host string) string {
	host = strings.TrimSuffix(strings.ToLower(host), ".")
	if addr, err := netip.ParseAddr(strings.Trim(host, "[]")); err == nil {
		return addr.Unmap().String()
	}
	return host
}
