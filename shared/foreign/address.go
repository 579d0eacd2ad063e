package foreign

import (
	"encoding/binary"
	"net/netip"
)

func prefixes(texts ...string) []netip.Prefix {
	all := make([]netip.Prefix, len(texts))
	for i, s := range texts {
		all[i] = netip.MustParsePrefix(s)
	}
	return all
}

var (
	// never are refused whatever the operator allows.
	never = prefixes(
		"0.0.0.0/8",          // this host; Linux connects 0.0.0.0 to loopback
		"169.254.0.0/16",     // link-local: metadata of AWS, Azure, GCP; credentials of ECS tasks
		"168.63.129.16/32",   // Azure's own service, in a public block
		"100.100.100.200/32", // Alibaba's metadata
		"192.0.0.192/32",     // Oracle's metadata
		"224.0.0.0/4",        // multicast
		"255.255.255.255/32", // broadcast
		"::/128",             // unspecified
		"fe80::/10",          // link-local
		"fec0::/10",          // site-local, deprecated
		"ff00::/8",           // multicast
		"fd00:ec2::/32",      // AWS's metadata, credentials and time
		"fd20:ce::/32",       // GCP's metadata
		"fd00:42::42/128",    // Scaleway's metadata
	)
	// private are the IPv4 blocks that are not public (RFC 6890 and its updates).
	private = prefixes(
		"0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12",
		"192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16",
		"198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4",
	)
	// global is what is allocated of IPv6; special is what of it is not an ordinary host.
	global  = netip.MustParsePrefix("2000::/3")
	special = prefixes(
		"2001::/23",     // protocols: Teredo, ORCHID, benchmarks
		"2001:db8::/32", // documentation
		"2002::/16",     // 6to4: holds an IPv4 address
		"3fff::/20",     // documentation
	)
)

func in(a netip.Addr, blocks []netip.Prefix) bool {
	for _, p := range blocks {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// public reports whether an address may be reached without the operator's leave. It
// has no zone and is no IPv4 address in IPv6's form.
func public(a netip.Addr) bool {
	if in(a, never) {
		return false
	}
	if a.Is4() {
		return !in(a, private)
	}
	return global.Contains(a) && !in(a, special)
}

// forbidden reports whether an address is refused even where the operator allows its
// network: itself, or the IPv4 address that it holds.
func forbidden(a netip.Addr) bool {
	if in(a, never) {
		return true
	}
	for _, inner := range held(a) {
		if in(inner, never) {
			return true
		}
	}
	return false
}

var (
	nat64      = netip.MustParsePrefix("64:ff9b::/96")
	localNAT64 = netip.MustParsePrefix("64:ff9b:1::/48")
	siit       = netip.MustParsePrefix("::ffff:0:0:0/96")
	compatible = netip.MustParsePrefix("::/96")
	sixToFour  = netip.MustParsePrefix("2002::/16")
	teredo     = netip.MustParsePrefix("2001::/32")
)

// held returns the IPv4 addresses that an IPv6 address stands for on its way.
func held(a netip.Addr) []netip.Addr {
	if !a.Is6() {
		return nil
	}
	b := a.As16()
	at := func(i int) netip.Addr { return netip.AddrFrom4([4]byte(b[i : i+4])) }
	switch {
	case nat64.Contains(a), localNAT64.Contains(a), siit.Contains(a), compatible.Contains(a):
		return []netip.Addr{at(12)}
	case sixToFour.Contains(a):
		return []netip.Addr{at(2)}
	case teredo.Contains(a): // the server's, and the client's with its bits turned
		var client [4]byte
		binary.BigEndian.PutUint32(client[:], ^binary.BigEndian.Uint32(b[12:]))
		return []netip.Addr{at(4), netip.AddrFrom4(client)}
	}
	return nil
}
