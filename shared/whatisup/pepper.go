package whatisup

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Peppers are the secrets that API keys are hashed with, by version. The newest
// hashes new keys; the older ones are for keys not used since.
type Peppers map[int]Secret

// ErrPepper says that a pepper is another than the stored keys were hashed with.
var ErrPepper = errors.New("this is not the pepper that the stored API keys were hashed with")

// ParsePeppers reads "1:base64,2:base64".
func ParsePeppers(s string) (Peppers, error) {
	peppers := Peppers{}
	for part := range strings.SplitSeq(s, ",") {
		version, encoded, ok := strings.Cut(strings.TrimSpace(part), ":")
		n, err := strconv.Atoi(version)
		if !ok || err != nil || n < 1 {
			return nil, errors.New("peppers are version:base64, comma separated")
		}
		secret, err := base64.StdEncoding.DecodeString(encoded)
		if err != nil || len(secret) < 16 {
			return nil, fmt.Errorf("pepper %d must be at least 16 bytes in base64", n)
		}
		peppers[n] = Secret(secret)
	}
	return peppers, nil
}

// Newest is the version that hashes new keys, 0 if there is none.
func (p Peppers) Newest() int {
	newest := 0
	for v := range p {
		newest = max(newest, v)
	}
	return newest
}

// Oldest is the pepper of the lowest version: the one that what is derived for
// longer than a rotation takes is derived from.
func (p Peppers) Oldest() Secret {
	oldest := p.Newest()
	for v := range p {
		oldest = min(oldest, v)
	}
	return p[oldest]
}

// Hash is what is stored of a key's text.
func (p Peppers) Hash(version int, text Secret) ([]byte, error) {
	pepper, ok := p[version]
	if !ok {
		return nil, fmt.Errorf("there is no pepper of version %d", version)
	}
	h := hmac.New(sha256.New, []byte(pepper))
	h.Write([]byte(text))
	return h.Sum(nil), nil
}

// NewKey fills in what is stored of a fresh key, and returns its text, which is
// shown once.
func (p Peppers) NewKey(k APIKey) (APIKey, Secret, error) {
	k.ID = NewKeyID()
	text, prefix := NewAPIKeyText(k.Mode, k.ID)
	k.Prefix, k.CreatedAt, k.Pepper = prefix, k.ID.CreatedAt(), p.Newest()
	var err error
	k.Hash, err = p.Hash(k.Pepper, text)
	return k, text, err
}

// Mark tells peppers of one version apart without giving them away: it is kept
// beside the keys that were hashed with it.
func (p Peppers) Mark(version int) ([]byte, error) {
	return p.Hash(version, "whatisup: the pepper that the stored keys were hashed with")
}
