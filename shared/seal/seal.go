package seal

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
)

// KMS makes and opens data keys. [kms.Client] is one. Errors come back as they
// are, wrapped; retrying within the caller's context is the client's work.
type KMS interface {
	GenerateDataKey(context.Context, *kms.GenerateDataKeyInput, ...func(*kms.Options)) (*kms.GenerateDataKeyOutput, error)
	Decrypt(context.Context, *kms.DecryptInput, ...func(*kms.Options)) (*kms.DecryptOutput, error)
}

// ErrOpen says that a value is not what was sealed at its place under its key:
// changed, moved, cut short, or sealed with another key. It says no more on
// purpose.
var ErrOpen = errors.New("seal: value does not open")

// Owner is whom a data key belongs to, as KMS authenticates and logs it.
type Owner struct {
	CustomerID string
	InstanceID string
}

func (o Owner) context() map[string]string {
	return map[string]string{"customer_id": o.CustomerID, "instance_id": o.InstanceID}
}

// Place is where a sealed value belongs. It opens nowhere else.
type Place struct {
	Table     string
	Partition string
	Kind      string
	Key       string
}

// aad writes each part with its length before it, so that no two places have
// the same bytes.
func (p Place) aad() []byte {
	b := make([]byte, 0, 8+len(p.Table)+len(p.Partition)+len(p.Kind)+len(p.Key))
	for _, part := range [...]string{p.Table, p.Partition, p.Kind, p.Key} {
		b = binary.AppendUvarint(b, uint64(len(part)))
		b = append(b, part...)
	}
	return b
}

// Keyring makes and opens data keys under one KMS key.
type Keyring struct {
	kms   KMS
	keyID string
}

// NewKeyring returns a keyring that wraps under the KMS key with this id, ARN
// or alias.
func NewKeyring(client KMS, keyID string) *Keyring {
	return &Keyring{kms: client, keyID: keyID}
}

// Generate makes a data key for the owner: the key, and its wrapped form for
// the database.
func (r *Keyring) Generate(ctx context.Context, owner Owner) (*Key, []byte, error) {
	out, err := r.kms.GenerateDataKey(ctx, &kms.GenerateDataKeyInput{
		KeyId:             aws.String(r.keyID),
		KeySpec:           types.DataKeySpecAes256,
		EncryptionContext: owner.context(),
	})
	if err != nil {
		return nil, nil, fmt.Errorf("seal: generate data key: %w", err)
	}
	key, err := newKey(out.Plaintext)
	if err != nil {
		return nil, nil, err
	}
	if len(out.CiphertextBlob) == 0 {
		return nil, nil, errors.New("seal: KMS returned no wrapped key")
	}
	return key, out.CiphertextBlob, nil
}

// Open opens a wrapped data key. The owner must be the one it was made for, and
// the KMS key this keyring's: a key wrapped under any other is refused.
func (r *Keyring) Open(ctx context.Context, owner Owner, wrapped []byte) (*Key, error) {
	out, err := r.kms.Decrypt(ctx, &kms.DecryptInput{
		KeyId:             aws.String(r.keyID),
		CiphertextBlob:    wrapped,
		EncryptionContext: owner.context(),
	})
	if err != nil {
		return nil, fmt.Errorf("seal: open data key: %w", err)
	}
	return newKey(out.Plaintext)
}

// Encrypter wraps what it is given under a key. [kms.Client] is one.
type Encrypter interface {
	Encrypt(context.Context, *kms.EncryptInput, ...func(*kms.Options)) (*kms.EncryptOutput, error)
}

// Rewrap opens an owner's data key and wraps it under the key toID of another KMS, for
// the same owner: the key, and its new wrapped form. What is sealed with it stays as it is.
func (r *Keyring) Rewrap(ctx context.Context, to Encrypter, toID string, owner Owner, wrapped []byte) (*Key, []byte, error) {
	out, err := r.kms.Decrypt(ctx, &kms.DecryptInput{
		KeyId: aws.String(r.keyID), CiphertextBlob: wrapped, EncryptionContext: owner.context(),
	})
	if err != nil {
		return nil, nil, fmt.Errorf("seal: open data key: %w", err)
	}
	again, err := to.Encrypt(ctx, &kms.EncryptInput{KeyId: aws.String(toID), Plaintext: out.Plaintext, EncryptionContext: owner.context()})
	if err != nil {
		clear(out.Plaintext)
		return nil, nil, fmt.Errorf("seal: wrap data key: %w", err)
	}
	key, err := newKey(out.Plaintext)
	return key, again.CiphertextBlob, err
}

// Key is a data key, ready for use by many goroutines. It never prints itself.
type Key struct {
	aead  cipher.AEAD
	names [32]byte // a key of its own, so that names tell nothing about values
}

// newKey takes the bytes over and clears them.
func newKey(secret []byte) (*Key, error) {
	if len(secret) != 32 {
		return nil, fmt.Errorf("seal: data key has %d bytes, want 32", len(secret))
	}
	defer clear(secret)
	values, err := hkdf.Key(sha256.New, secret, nil, "whatisup seal values", 32)
	if err != nil {
		return nil, err
	}
	names, err := hkdf.Key(sha256.New, secret, nil, "whatisup seal names", 32)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(values)
	if err != nil {
		return nil, err
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return nil, err
	}
	return &Key{aead: aead, names: [32]byte(names)}, nil
}

// format is a sealed value's first byte. Another format gets another number.
const format = 1

// Overhead is how much longer a sealed value is than its plaintext.
const Overhead = 29

// Seal returns the plaintext sealed for its place.
func (k *Key) Seal(plaintext []byte, at Place) []byte {
	out := make([]byte, 1, Overhead+len(plaintext))
	out[0] = format
	return k.aead.Seal(out, nil, plaintext, at.aad())
}

// Open returns what was sealed for this place, or [ErrOpen].
func (k *Key) Open(sealed []byte, at Place) ([]byte, error) {
	if len(sealed) < Overhead || sealed[0] != format {
		return nil, ErrOpen
	}
	plaintext, err := k.aead.Open(nil, nil, sealed[1:], at.aad())
	if err != nil {
		return nil, ErrOpen
	}
	if plaintext == nil {
		plaintext = []byte{}
	}
	return plaintext, nil
}

// Name returns the pseudonym of s among things of its kind: 22 characters of
// base64url, the same for the same key, kind and s.
func (k *Key) Name(kind, s string) string {
	mac := hmac.New(sha256.New, k.names[:])
	mac.Write([]byte(kind))
	mac.Write([]byte{0}) // kinds are words of this program and hold no zero byte
	mac.Write([]byte(s))
	var sum [sha256.Size]byte
	return base64.RawURLEncoding.EncodeToString(mac.Sum(sum[:0])[:16])
}

// String, GoString and LogValue keep the key out of messages, panics and logs.
func (k *Key) String() string             { return "[sealed key]" }
func (k *Key) GoString() string           { return "[sealed key]" }
func (k *Key) LogValue() slog.Value       { return slog.StringValue("[sealed key]") }
func (k *Key) Format(s fmt.State, _ rune) { _, _ = s.Write([]byte("[sealed key]")) }
