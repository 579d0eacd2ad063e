package mediacrypt

import (
	"bytes"
	"crypto/rand"
	"errors"
	"io"
	"testing"
	"testing/iotest"

	"whatisup/shared/whatisup"
)

// Every size round a block and round a chunk comes back, whatever the readers below
// give at a time; and whatever is changed on the way is found.
func TestRoundTrip(t *testing.T) {
	t.Parallel()
	key := make([]byte, KeySize)
	rand.Read(key)
	for _, size := range []int{0, 1, 15, 16, 17, 26, chunk - 1, chunk, chunk + 1, chunk + 25, chunk + 26, chunk + 27, 3*chunk + 5} {
		file := make([]byte, size)
		rand.Read(file)
		s, err := Seal(iotest.HalfReader(bytes.NewReader(file)), key, whatisup.BodyVideo)
		if err != nil {
			t.Fatal(err)
		}
		sealed, err := io.ReadAll(s)
		if err != nil || int64(len(sealed)) != SealedSize(int64(size)) {
			t.Fatalf("%d bytes are sealed as %d, %v", size, len(sealed), err)
		}
		plainSum, sealedSum, _ := s.Sums()
		open := func(b []byte, most int64) ([]byte, error) {
			o, err := Open(iotest.OneByteReader(bytes.NewReader(b)), key, whatisup.BodyVideo, most)
			if err != nil {
				t.Fatal(err)
			}
			out, err := io.ReadAll(o)
			if err != nil {
				return nil, err
			}
			return out, o.Check(plainSum, sealedSum)
		}
		if out, err := open(sealed, int64(size)); err != nil || !bytes.Equal(out, file) {
			t.Errorf("%d bytes: %v", size, err)
		}
		for _, at := range []int{0, len(sealed) / 2, len(sealed) - 1} {
			bad := bytes.Clone(sealed)
			bad[at] ^= 1
			if _, err := open(bad, int64(size)); !errors.Is(err, ErrMismatch) {
				t.Errorf("%d bytes, changed at %d: %v", size, at, err)
			}
		}
		if _, err := open(sealed[:len(sealed)-1], int64(size)); !errors.Is(err, ErrMismatch) {
			t.Errorf("%d bytes, cut off: %v", size, err)
		}
		if size > 1000 {
			if _, err := open(sealed, 900); !errors.Is(err, ErrTooLong) {
				t.Errorf("%d bytes where 900 were declared: %v", size, err)
			}
		}
	}
}

// FuzzOpen: whatever a media host answers is a file or an error.
func FuzzOpen(f *testing.F) {
	f.Add([]byte("short"), int64(10))
	f.Add(make([]byte, 90), int64(64))
	f.Fuzz(func(t *testing.T, b []byte, most int64) {
		if most < 0 || most > 1<<30 {
			return
		}
		o, err := Open(bytes.NewReader(b), make([]byte, KeySize), whatisup.BodyImage, most)
		if err != nil {
			t.Fatal(err)
		}
		n, err := io.Copy(io.Discard, o)
		if n > most+Overhead {
			t.Fatalf("%d bytes where %d were allowed, %v", n, most, err)
		}
	})
}
