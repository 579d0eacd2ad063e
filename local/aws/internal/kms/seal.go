package kms

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"slices"
	"strings"

	"go.etcd.io/bbolt"

	"whatisup/local/aws/internal/store"
	"whatisup/local/aws/internal/wire"
)

// A ciphertext is a version byte, the length of the key's id, the id, a nonce
// and what AES-GCM makes of it.
const version = 1

func (k *key) aead() cipher.AEAD {
	block, err := aes.NewCipher(k.Material)
	store.Must(err)
	aead, err := cipher.NewGCM(block)
	store.Must(err)
	return aead
}

// binding is the encryption context in one form.
func binding(context *wire.Node) []byte {
	fields := slices.Clone(context.Fields)
	slices.SortFunc(fields, func(a, b wire.Field) int { return strings.Compare(a.Name, b.Name) })
	var out []byte
	for _, f := range fields {
		for _, s := range []string{f.Name, f.Value.Text} {
			out = binary.BigEndian.AppendUint32(out, uint32(len(s)))
			out = append(out, s...)
		}
	}
	return out
}

func (k *key) seal(plain []byte, context *wire.Node) []byte {
	aead := k.aead()
	nonce := make([]byte, aead.NonceSize())
	rand.Read(nonce)
	out := append([]byte{version, byte(len(k.ID))}, k.ID...)
	out = append(out, nonce...)
	return aead.Seal(out, nonce, plain, binding(context))
}

var errCiphertext = &wire.Error{Status: 400, Type: "InvalidCiphertextException"}

// open finds the key that sealed a ciphertext and opens it.
func (s *Service) open(sealed []byte, context *wire.Node) (k *key, plain []byte, err error) {
	if len(sealed) < 2 || sealed[0] != version || len(sealed) < 2+int(sealed[1]) {
		return nil, nil, errCiphertext
	}
	id, rest := string(sealed[2:2+sealed[1]]), sealed[2+sealed[1]:]
	err = s.Store.View(func(tx *bbolt.Tx) error { k = s.loadKey(tx, id); return nil })
	if err != nil {
		return nil, nil, err
	}
	if k == nil {
		return nil, nil, errCiphertext
	}
	if k.Disabled {
		return nil, nil, failure("DisabledException", "%s is disabled.", k.ARN)
	}
	aead := k.aead()
	if len(rest) < aead.NonceSize() {
		return nil, nil, errCiphertext
	}
	plain, err = aead.Open(nil, rest[:aead.NonceSize()], rest[aead.NonceSize():], binding(context))
	if err != nil {
		return nil, nil, errCiphertext
	}
	return k, plain, nil
}

// mustBe holds the key that a caller names to the one that sealed.
func (s *Service) mustBe(k *key, name, region string) error {
	if name == "" {
		return nil
	}
	named, err := s.usable(name, region)
	if err == nil && named.ID != k.ID {
		err = failure("IncorrectKeyException", "The key ID in the request does not identify a CMK that can perform this operation.")
	}
	return err
}

func bytesOf(n *wire.Node) []byte {
	b, _ := base64.StdEncoding.DecodeString(n.Text) // checked with the shape
	return b
}

func (s *Service) newDataKey(r *Request) (k *key, plain []byte, err error) {
	n, spec := r.Input.Int("NumberOfBytes", 0), r.Input.Str("KeySpec")
	switch {
	case (n == 0) == (spec == ""):
		return nil, nil, failure("ValidationException", "Please specify either number of bytes or key spec.")
	case spec == "AES_256":
		n = 32
	case spec == "AES_128":
		n = 16
	}
	if k, err = s.usable(r.Input.Str("KeyId"), r.Region); err != nil {
		return nil, nil, err
	}
	plain = make([]byte, n)
	rand.Read(plain)
	return k, plain, nil
}

func (s *Service) generateDataKey(r *Request) (any, error) {
	k, plain, err := s.newDataKey(r)
	if err != nil {
		return nil, err
	}
	return map[string]any{"KeyId": k.ARN, "Plaintext": plain, "CiphertextBlob": k.seal(plain, r.Input.Get("EncryptionContext"))}, nil
}

func (s *Service) generateDataKeyWithoutPlaintext(r *Request) (any, error) {
	k, plain, err := s.newDataKey(r)
	if err != nil {
		return nil, err
	}
	return map[string]any{"KeyId": k.ARN, "CiphertextBlob": k.seal(plain, r.Input.Get("EncryptionContext"))}, nil
}

func (s *Service) encrypt(r *Request) (any, error) {
	k, err := s.usable(r.Input.Str("KeyId"), r.Region)
	if err != nil {
		return nil, err
	}
	sealed := k.seal(bytesOf(r.Input.Get("Plaintext")), r.Input.Get("EncryptionContext"))
	return map[string]any{"KeyId": k.ARN, "CiphertextBlob": sealed, "EncryptionAlgorithm": "SYMMETRIC_DEFAULT"}, nil
}

func (s *Service) decrypt(r *Request) (any, error) {
	k, plain, err := s.open(bytesOf(r.Input.Get("CiphertextBlob")), r.Input.Get("EncryptionContext"))
	if err == nil {
		err = s.mustBe(k, r.Input.Str("KeyId"), r.Region)
	}
	if err != nil {
		return nil, err
	}
	return map[string]any{"KeyId": k.ARN, "Plaintext": plain, "EncryptionAlgorithm": "SYMMETRIC_DEFAULT"}, nil
}

func (s *Service) reEncrypt(r *Request) (any, error) {
	from, plain, err := s.open(bytesOf(r.Input.Get("CiphertextBlob")), r.Input.Get("SourceEncryptionContext"))
	if err == nil {
		err = s.mustBe(from, r.Input.Str("SourceKeyId"), r.Region)
	}
	if err != nil {
		return nil, err
	}
	to, err := s.usable(r.Input.Str("DestinationKeyId"), r.Region)
	if err != nil {
		return nil, err
	}
	return map[string]any{
		"CiphertextBlob": to.seal(plain, r.Input.Get("DestinationEncryptionContext")), "SourceKeyId": from.ARN, "KeyId": to.ARN,
		"SourceEncryptionAlgorithm": "SYMMETRIC_DEFAULT", "DestinationEncryptionAlgorithm": "SYMMETRIC_DEFAULT",
	}, nil
}
