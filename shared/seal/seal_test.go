package seal_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/kms"

	"whatisup/shared/seal"
)

// fakeKMS wraps by remembering, and opens only with the same context and key.
type fakeKMS struct {
	wrapped map[string]entry
	err     error
}

type entry struct {
	plain   []byte
	keyID   string
	context string
}

func newFakeKMS() *fakeKMS { return &fakeKMS{wrapped: make(map[string]entry)} }

func (f *fakeKMS) GenerateDataKey(_ context.Context, in *kms.GenerateDataKeyInput, _ ...func(*kms.Options)) (*kms.GenerateDataKeyOutput, error) {
	if f.err != nil {
		return nil, f.err
	}
	plain, blob := make([]byte, 32), make([]byte, 16)
	_, _ = rand.Read(plain)
	_, _ = rand.Read(blob)
	f.wrapped[string(blob)] = entry{bytes.Clone(plain), *in.KeyId, fmt.Sprint(in.EncryptionContext)}
	return &kms.GenerateDataKeyOutput{Plaintext: plain, CiphertextBlob: blob}, nil
}

func (f *fakeKMS) Decrypt(_ context.Context, in *kms.DecryptInput, _ ...func(*kms.Options)) (*kms.DecryptOutput, error) {
	e, ok := f.wrapped[string(in.CiphertextBlob)]
	if !ok || e.keyID != *in.KeyId || e.context != fmt.Sprint(in.EncryptionContext) {
		return nil, errors.New("InvalidCiphertextException")
	}
	return &kms.DecryptOutput{Plaintext: bytes.Clone(e.plain)}, f.err
}

var (
	owner = seal.Owner{CustomerID: "c1", InstanceID: "i1"}
	place = seal.Place{Table: "devices", Partition: "i1#7", Kind: "u", Key: "u#x#s#0"}
)

func generate(t *testing.T, k *fakeKMS) (*seal.Key, []byte) {
	t.Helper()
	key, wrapped, err := seal.NewKeyring(k, "alias/devices").Generate(t.Context(), owner)
	if err != nil {
		t.Fatal(err)
	}
	return key, wrapped
}

func TestSealOpen(t *testing.T) {
	t.Parallel()
	k := newFakeKMS()
	key, wrapped := generate(t, k)
	again, err := seal.NewKeyring(k, "alias/devices").Open(t.Context(), owner, wrapped)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{0, 1, 32, 1000, 100_000} {
		plain := make([]byte, n)
		_, _ = rand.Read(plain)
		sealed := key.Seal(plain, place)
		if len(sealed) != n+seal.Overhead {
			t.Errorf("%d bytes seal to %d", n, len(sealed))
		}
		got, err := again.Open(sealed, place)
		if err != nil || got == nil || !bytes.Equal(got, plain) {
			t.Errorf("open %d bytes: %v", n, err)
		}
	}
	if bytes.Equal(key.Seal([]byte("x"), place), key.Seal([]byte("x"), place)) {
		t.Error("two seals of one value are equal: the nonce repeats")
	}
}

// A value opens at its own place only, and not after any change.
func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	k := newFakeKMS()
	key, _ := generate(t, k)
	other, _ := generate(t, k)
	plain := []byte("the secret")
	sealed := key.Seal(plain, place)

	moved := map[string]seal.Place{
		"table":     {Table: "other", Partition: place.Partition, Kind: place.Kind, Key: place.Key},
		"partition": {Table: place.Table, Partition: "i1#8", Kind: place.Kind, Key: place.Key},
		"kind":      {Table: place.Table, Partition: place.Partition, Kind: "p", Key: place.Key},
		"key":       {Table: place.Table, Partition: place.Partition, Kind: place.Kind, Key: "u#x#s#1"},
		"shifted":   {Table: place.Table + "i", Partition: "1#7", Kind: place.Kind, Key: place.Key},
	}
	for name, at := range moved {
		if _, err := key.Open(sealed, at); !errors.Is(err, seal.ErrOpen) {
			t.Errorf("opens at another %s: %v", name, err)
		}
	}
	if _, err := other.Open(sealed, place); !errors.Is(err, seal.ErrOpen) {
		t.Errorf("opens with another key: %v", err)
	}
	for i := range sealed {
		bad := bytes.Clone(sealed)
		bad[i] ^= 1
		if _, err := key.Open(bad, place); !errors.Is(err, seal.ErrOpen) {
			t.Errorf("opens with byte %d changed: %v", i, err)
		}
		if _, err := key.Open(sealed[:i], place); !errors.Is(err, seal.ErrOpen) {
			t.Errorf("opens cut to %d bytes: %v", i, err)
		}
	}
}

func TestKeyringBindsToOwnerAndKey(t *testing.T) {
	t.Parallel()
	k := newFakeKMS()
	_, wrapped := generate(t, k)
	for _, o := range []seal.Owner{{"c2", "i1"}, {"c1", "i2"}} {
		if _, err := seal.NewKeyring(k, "alias/devices").Open(t.Context(), o, wrapped); err == nil {
			t.Errorf("opens for %v", o)
		}
	}
	if _, err := seal.NewKeyring(k, "alias/other").Open(t.Context(), owner, wrapped); err == nil {
		t.Error("opens under another KMS key")
	}
	k.err = errors.New("down")
	if _, _, err := seal.NewKeyring(k, "alias/devices").Generate(t.Context(), owner); !errors.Is(err, k.err) {
		t.Errorf("KMS's error is lost: %v", err)
	}
}

func TestName(t *testing.T) {
	t.Parallel()
	k := newFakeKMS()
	key, _ := generate(t, k)
	other, _ := generate(t, k)
	a := key.Name("u", "491701234567")
	if a != key.Name("u", "491701234567") || len(a) != 22 {
		t.Errorf("name %q is not stable", a)
	}
	for what, b := range map[string]string{
		"another kind":  key.Name("l", "491701234567"),
		"another value": key.Name("u", "491701234568"),
		"another key":   other.Name("u", "491701234567"),
	} {
		if a == b {
			t.Errorf("%s has the same name", what)
		}
	}
	if strings.Contains(a, "4917") {
		t.Errorf("name %q tells the number", a)
	}
}

// A key that ends up in a message or a log says nothing.
func TestKeyNeverPrints(t *testing.T) {
	t.Parallel()
	key, _ := generate(t, newFakeKMS())
	var b bytes.Buffer
	slog.New(slog.NewJSONHandler(&b, nil)).Info("x", "key", key)
	for _, s := range []string{fmt.Sprintf("%v %+v %#v %s %x %d %q", key, key, key, key, key, key, key), b.String()} {
		if strings.ContainsAny(strings.ReplaceAll(s, "[sealed key]", ""), "[]{}&") && !strings.HasPrefix(s, "{\"time") {
			t.Errorf("prints %q", s)
		}
		if !strings.Contains(s, "[sealed key]") {
			t.Errorf("prints %q", s)
		}
	}
}

func BenchmarkSeal(b *testing.B) {
	key, _, err := seal.NewKeyring(newFakeKMS(), "k").Generate(b.Context(), owner)
	if err != nil {
		b.Fatal(err)
	}
	value := make([]byte, 1100)
	for b.Loop() {
		sealed := key.Seal(value, place)
		if _, err := key.Open(sealed, place); err != nil {
			b.Fatal(err)
		}
	}
}
