// Package foreign makes requests to URLs that customers give: webhook endpoints, and
// media to fetch. A customer must not reach with them what only this deployment can
// reach: its own machine and network, the cloud's metadata, its own API.
//
// A Guard looks twice.
//
//   - Check looks at the text of a URL and at the addresses that its name has now. It
//     is for a clear answer to whoever gives the URL, and is not what protects: a
//     name may have another address a second later.
//   - Each connection is looked at when it is dialled, on the address that the kernel
//     is about to connect to. There is no later step that could change it, however
//     the host was spelled and whatever a name server answered.
//
// What is allowed:
//
//   - https on ports 443 and 8443, to public addresses. Of IPv4 the blocks that are
//     not public are refused; of IPv6 only the blocks that are public are allowed, since
//     it has many ways to write an IPv4 address into one of its own.
//   - What the operator has allowed (Allow): named networks and hosts, with http and any
//     port.
//   - With a test key on one machine, loopback, with http and any port, so that webhooks
//     can be tried. With a live key it never is.
//
// What is always refused, allowed or not: link-local addresses, the addresses at which
// clouds give out credentials, multicast, and the deployment's own names and ports.
//
// A request never uses a proxy of the environment: behind one, only the proxy's address
// would be looked at. It has no cookies and no credentials. A redirect is an answer
// like any other, unless the caller asks for a number of them; each one then passes
// the guard anew and carries no header of the request before it. A pooled connection is
// used only by requests that the same rules were checked for.
package foreign
