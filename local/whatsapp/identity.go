package whatsapp

import (
	"crypto/ecdh"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"strconv"

	"go.mau.fi/libsignal/ecc"
	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/util/keys"
)

// seed is the one secret of a simulator. Every lasting key of the server and of
// every phone is derived from it, so that nothing about a person has to be
// stored: any number of any world always has the same identity and LID.
type seed [32]byte

func (s *seed) bytes(label string) [32]byte {
	out, err := hkdf.Key(sha256.New, s[:], nil, "whatsapp simulator "+label, 32)
	if err != nil {
		panic(err) // only for lengths over 8160 bytes
	}
	return [32]byte(out)
}

func (s *seed) keyPair(label string) *keys.KeyPair {
	private := s.bytes(label)
	private[0] &= 248
	private[31] &= 127
	private[31] |= 64
	return keys.NewKeyPairFromPrivateKey(private)
}

// sign is XEdDSA, the signature of everything in this protocol.
func sign(with *keys.KeyPair, parts ...[]byte) []byte {
	signature := ecc.CalculateSignature(ecc.NewDjbECPrivateKey(*with.Priv), join(parts...))
	return signature[:]
}

func verify(public, signature []byte, parts ...[]byte) bool {
	if len(public) != 32 || len(signature) != 64 {
		return false
	}
	return ecc.VerifySignature(ecc.NewDjbECPublicKey([32]byte(public)), join(parts...), [64]byte(signature))
}

func join(parts ...[]byte) []byte {
	var out []byte
	for _, part := range parts {
		out = append(out, part...)
	}
	return out
}

// agree is X25519; it refuses the points that would make the result zero.
func agree(private *[32]byte, public []byte) ([]byte, error) {
	priv, err := ecdh.X25519().NewPrivateKey(private[:])
	if err != nil {
		return nil, err
	}
	return agreeWith(priv, public)
}

// agreeWith is agree for who has made the key ready, which is half of the work.
func agreeWith(priv *ecdh.PrivateKey, public []byte) ([]byte, error) {
	pub, err := ecdh.X25519().NewPublicKey(public)
	if err != nil {
		return nil, err
	}
	return priv.ECDH(pub)
}

// A LID hides a phone number. Here it is the number sent through a keyed
// permutation of the 15-digit numbers, which can be turned back without a
// table: a Feistel network over the upper 7 and the lower 8 digits. The digit 1
// in front keeps leading zeros and makes a LID (16 digits) unmistakable for a
// phone number (at most 15).
const (
	lidUpper  = 10_000_000
	lidLower  = 100_000_000
	lidRounds = 6
)

func (s *seed) lidRound(world string, round int, half uint64) uint64 {
	mac := hmac.New(sha256.New, s[:])
	fmt.Fprintf(mac, "lid %d %d %s", round, half, world)
	return binary.BigEndian.Uint64(mac.Sum(nil))
}

func (s *seed) lidOf(world, number string) string {
	n, _ := strconv.ParseUint(number, 10, 64)
	upper, lower := n/lidLower, n%lidLower
	for round := range lidRounds {
		if round%2 == 0 {
			upper = (upper + s.lidRound(world, round, lower)%lidUpper) % lidUpper
		} else {
			lower = (lower + s.lidRound(world, round, upper)%lidLower) % lidLower
		}
	}
	return fmt.Sprintf("1%015d", upper*lidLower+lower)
}

func (s *seed) numberOf(world, lid string) (string, bool) {
	if len(lid) != 16 || lid[0] != '1' {
		return "", false
	}
	n, err := strconv.ParseUint(lid[1:], 10, 64)
	if err != nil {
		return "", false
	}
	upper, lower := n/lidLower, n%lidLower
	for round := lidRounds - 1; round >= 0; round-- {
		if round%2 == 0 {
			upper = (upper + lidUpper - s.lidRound(world, round, lower)%lidUpper) % lidUpper
		} else {
			lower = (lower + lidLower - s.lidRound(world, round, upper)%lidLower) % lidLower
		}
	}
	number := strconv.FormatUint(upper*lidLower+lower, 10)
	return number, validNumber(number)
}

func validNumber(number string) bool {
	if len(number) < 7 || len(number) > 15 || number[0] == '0' {
		return false
	}
	for _, digit := range number {
		if digit < '0' || digit > '9' {
			return false
		}
	}
	return true
}

func validWorld(world string) bool {
	if len(world) == 0 || len(world) > 128 {
		return false
	}
	for _, r := range world {
		if !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_' || r == '.' || r == ':' || r == '#') {
			return false
		}
	}
	return true
}

// person is one user of one world. It is a name, not a record.
type person struct {
	world  string
	number string
}

func (s *Server) jidOf(p person, device uint16) types.JID {
	return types.JID{User: p.number, Device: device, Server: types.DefaultUserServer}
}

func (s *Server) lidOf(p person, device uint16) types.JID {
	lid := s.known.lids.get(p, func() string { return s.seed.lidOf(p.world, p.number) })
	return types.JID{User: lid, Device: device, Server: types.HiddenUserServer}
}

// personOf finds who a JID of either kind means in a world.
func (s *Server) personOf(world string, jid types.JID) (person, bool) {
	switch jid.Server {
	case types.DefaultUserServer, types.LegacyUserServer:
		return person{world, jid.User}, validNumber(jid.User) && canonical(jid.User) == jid.User
	case types.HiddenUserServer:
		number := s.known.numbers.get(person{world, jid.User}, func() string {
			if number, ok := s.seed.numberOf(world, jid.User); ok {
				return number
			}
			return ""
		})
		return person{world, number}, number != ""
	}
	return person{}, false
}

func (p person) label(what string) string { return what + " " + p.world + " " + p.number }

// identityKey is the account's key: it signs the linked devices, and it is the
// phone's own Signal identity.
func (s *Server) identityKey(p person) *keys.KeyPair {
	return s.known.identities.get(p, func() *keys.KeyPair { return s.seed.keyPair(p.label("identity")) })
}

// derived is what was derived from the seed lately.
type derived struct {
	identities cache[person, *keys.KeyPair]
	lids       cache[person, string] // by person
	numbers    cache[person, string] // by world and LID; empty: nobody's
}

func (s *Server) rawID(p person) uint32 {
	b := s.seed.bytes(p.label("raw id"))
	return binary.BigEndian.Uint32(b[:4])
}
