package kms

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"go.etcd.io/bbolt"

	"whatisup/local/aws/internal/store"
)

// Root is a key that seals the keys of the service in the file.
type Root struct {
	Version int
	Key     [32]byte
}

// ParseRoots reads root keys as "2:<base64 of 32 bytes>,1:<base64 of 32 bytes>".
// The first one seals; the others open what they sealed before.
func ParseRoots(text string) ([]Root, error) {
	var all []Root
	seen := map[int]bool{}
	for part := range strings.SplitSeq(strings.TrimSpace(text), ",") {
		number, key, ok := strings.Cut(strings.TrimSpace(part), ":")
		version, err := strconv.Atoi(number)
		b, err2 := base64.StdEncoding.DecodeString(key)
		if !ok || err != nil || err2 != nil || version < 1 || len(b) != 32 {
			return nil, errors.New("a root key must be like 1:<base64 of 32 bytes>, several with commas between them, the one to seal with first")
		}
		if seen[version] {
			return nil, fmt.Errorf("there are two root keys with the version %d", version)
		}
		seen[version] = true
		all = append(all, Root{version, [32]byte(b)})
	}
	return all, nil
}

func (r Root) aead() cipher.AEAD {
	block, err := aes.NewCipher(r.Key[:])
	store.Must(err)
	aead, err := cipher.NewGCM(block)
	store.Must(err)
	return aead
}

// hide puts a key's material under the first root key.
func (s *Service) hide(k *key) {
	if len(s.Roots) == 0 {
		return
	}
	aead := s.Roots[0].aead()
	nonce := make([]byte, aead.NonceSize())
	rand.Read(nonce)
	k.Sealed, k.Root = aead.Seal(nonce, nonce, k.Material, []byte(k.ID)), s.Roots[0].Version
	k.Material = nil
}

// show opens a key's material.
func (s *Service) show(k *key) error {
	if k.Root == 0 {
		return nil
	}
	for _, r := range s.Roots {
		if r.Version != k.Root {
			continue
		}
		aead := r.aead()
		if len(k.Sealed) < aead.NonceSize() {
			return fmt.Errorf("the sealed key %s is damaged", k.ID)
		}
		material, err := aead.Open(nil, k.Sealed[:aead.NonceSize()], k.Sealed[aead.NonceSize():], []byte(k.ID))
		if err != nil {
			return fmt.Errorf("the root key with version %d is not the one that sealed the key %s", r.Version, k.ID)
		}
		k.Material = material
		return nil
	}
	return fmt.Errorf("the key %s is sealed under a root key with version %d, which was not given", k.ID, k.Root)
}

// rotate opens every key and seals it under the first root key. It says how many
// it sealed, and whether one of them stood in the file as it is.
func (s *Service) rotate() (sealed int, bare bool, err error) {
	err = s.Store.Update(func(tx *bbolt.Tx) error {
		sealed, bare = 0, false
		var change []*key
		b := tx.Bucket(keysBucket)
		if err := b.ForEach(func(_, v []byte) error {
			k := &key{}
			if err := json.Unmarshal(v, k); err != nil {
				return err
			}
			stands := k.Root == 0
			if err := s.show(k); err != nil {
				return err
			}
			if len(s.Roots) > 0 && k.Root != s.Roots[0].Version {
				change = append(change, k)
				bare = bare || stands
			}
			return nil
		}); err != nil {
			return err
		}
		for _, k := range change {
			s.save(tx, k)
		}
		sealed = len(change)
		return nil
	})
	return sealed, bare, err
}
