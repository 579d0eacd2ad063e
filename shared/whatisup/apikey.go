package whatisup

import (
	"crypto/rand"
	"hash/crc32"
	"math/big"
	"strings"
	"time"
)

// APIKey is a key without its secret.
type APIKey struct {
	ID         KeyID
	Customer   CustomerID
	Mode       Mode
	Instance   InstanceID // empty: every instance of the customer and mode
	Name       string
	Prefix     string // wiu_live_<key id>: enough to tell which key it is
	Hash       []byte // HMAC-SHA256(pepper, key text)
	Pepper     int    // the pepper's version
	LastUsedAt time.Time
	ExpiresAt  time.Time // zero: never
	CreatedAt  time.Time
	RevokedAt  time.Time // zero: in force
}

// MaxKeys is how many keys a customer may have in one mode that are neither
// revoked nor expired.
const MaxKeys = 1000

// ExpiredKeysListed is how long an expired key stays in its customer's list.
const ExpiredKeysListed = 30 * 24 * time.Hour

// A key's text is wiu_<mode>_<key id without dashes>_<secret>. The secret is 32
// random bytes in base62, always 43 digits, and 6 digits of CRC-32 (IEEE) over
// all text before them, so that a scanner for leaked secrets, and a typing
// error, can be told from a real key without a look-up.
const (
	secretDigits = 43
	sumDigits    = 6
	base62       = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
)

// NewAPIKeyText returns the text of a fresh key with the given id, and its
// prefix, which is no secret.
func NewAPIKeyText(mode Mode, id KeyID) (text Secret, prefix string) {
	var b [32]byte
	rand.Read(b[:]) // never fails: crypto/rand crashes the program instead
	prefix = "wiu_" + string(mode) + "_" + strings.ReplaceAll(string(id), "-", "")
	body := prefix + "_" + digits(new(big.Int).SetBytes(b[:]), secretDigits)
	return Secret(body + checksum(body)), prefix
}

// ParseAPIKeyText takes a key's text apart. It is false for everything that
// can't be a key of ours; it does not say that the key exists.
func ParseAPIKeyText(text string) (Mode, KeyID, bool) {
	rest, ok := strings.CutPrefix(text, "wiu_")
	if !ok {
		return "", "", false
	}
	parts := strings.Split(rest, "_")
	if len(parts) != 3 || !Mode(parts[0]).Valid() || len(parts[1]) != 32 || len(parts[2]) != secretDigits+sumDigits {
		return "", "", false
	}
	cut := len(text) - sumDigits
	if checksum(text[:cut]) != text[cut:] {
		return "", "", false
	}
	h := parts[1]
	id, ok := ParseKeyID(h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:])
	return Mode(parts[0]), id, ok
}

func checksum(s string) string {
	return digits(big.NewInt(int64(crc32.ChecksumIEEE([]byte(s)))), sumDigits)
}

func digits(n *big.Int, width int) string {
	out := make([]byte, width)
	base, digit := big.NewInt(62), new(big.Int)
	for i := width - 1; i >= 0; i-- {
		n.DivMod(n, base, digit)
		out[i] = base62[digit.Int64()]
	}
	return string(out)
}
