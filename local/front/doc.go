// Package front is what stands before the API where it faces the world: it says
// who a client is, how much of the server one address may take, and speaks TLS.
//
// # Who the client is
//
// An address is the connection's own, unless that is a trusted proxy's: then it is
// the last one in X-Forwarded-For that is not a trusted proxy's itself. From
// anybody else that header is removed: whoever could set it would have any address,
// and as many as he likes.
//
// # Limits
//
// Each address has a bucket of requests and a number of connections; an IPv6
// address counts by its /64, which is what one subscriber has. A request over the
// bucket is 429 before anything is read of it. Behind a trusted proxy only requests
// are counted by address. The server as a whole has a number of connections, above
// which new ones wait.
//
// # TLS
//
// Without TLS settings the front speaks HTTP: on loopback, or behind a proxy. With
// files, certificates are read again when they change. With ACME, certificates are
// fetched at the first connection for each of the named domains, over the same
// port (TLS-ALPN-01) or port 80 (HTTP-01), kept, and renewed 30 days before their
// end. A domain that was not named gets none.
package front
