package whatsapp

import (
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"errors"

	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/util/gcmutil"
)

// What belongs to a message is encrypted with the secret that came in it: votes
// in a poll, edits. The key names the message, who wrote it, who adds to it and
// what for.
const (
	useVote = "Poll Vote"
	useEdit = "Message Edit"
)

func secretKey(use, id string, author, adder types.JID, secret []byte) (key, data []byte, err error) {
	author, adder = author.ToNonAD(), adder.ToNonAD()
	key, err = hkdf.Key(sha256.New, secret, nil, id+author.String()+adder.String()+use, 32)
	if use == useVote {
		data = []byte(id + "\x00" + adder.String())
	}
	return key, data, err
}

func sealWithSecret(use, id string, author, adder types.JID, secret, plain []byte) (sealed, iv []byte, err error) {
	key, data, err := secretKey(use, id, author, adder, secret)
	if err != nil {
		return nil, nil, err
	}
	iv = make([]byte, 12)
	_, _ = rand.Read(iv)
	sealed, err = gcmutil.Encrypt(key, iv, plain, data)
	return sealed, iv, err
}

var errNoSecret = errors.New("no secret fits")

// openWithSecret tries the names that both people have, for clients differ in
// which they use.
func (s *Server) openWithSecret(use, id string, author, adder person, secret, sealed, iv []byte) ([]byte, error) {
	for _, a := range []types.JID{s.lidOf(author, 0), s.jidOf(author, 0)} {
		for _, b := range []types.JID{s.lidOf(adder, 0), s.jidOf(adder, 0)} {
			key, data, err := secretKey(use, id, a, b, secret)
			if err != nil || len(iv) != 12 {
				return nil, errNoSecret
			}
			if plain, err := gcmutil.Decrypt(key, iv, sealed, data); err == nil {
				return plain, nil
			}
		}
	}
	return nil, errNoSecret
}
