package devicestore

import "strings"

// Kinds of rows: the first part of a sort key.
const (
	kindDevice   = "!device" // '!': read with one query when the device is loaded
	kindBuffer   = "!buffer"
	kindPeer     = "u" // sessions, identities and sender keys of one user
	kindPreKeys  = "p"
	kindSyncKey  = "y"
	kindVersion  = "a"
	kindMACs     = "m"
	kindContact  = "c"
	kindChat     = "t"
	kindSecret   = "k"
	kindToken    = "v"
	kindSalt     = "z"
	kindOutgoing = "o"
	kindLIDToPN  = "l"
	kindPNToLID  = "n"
)

// What a peer's row is. All rows of a user are neighbours, so that one query
// finds everything that a migration moves.
const (
	peerSession   = "s"
	peerIdentity  = "i"
	peerSenderKey = "g"
)

// peerPrefix begins the rows of one Signal user, or those of one sort.
func (l *link) peerPrefix(user, sort string) string {
	p := kindPeer + "#" + l.key.Name(kindPeer, user) + "#"
	if sort != "" {
		p += sort + "#"
	}
	return p
}

// peerKey is the row of a Signal address, "user:device". The device stands at
// the end, in clear; the user is a pseudonym.
func (l *link) peerKey(sort, address string) string {
	user, device, _ := strings.Cut(address, ":")
	return l.peerPrefix(user, sort) + device
}
