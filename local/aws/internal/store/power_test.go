package store

import (
	"bytes"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"go.etcd.io/bbolt"
)

const (
	pageSize   = 4096
	sectorSize = 512 // what a disk writes whole
	metaPages  = 2
)

// After the power went, whatever the disk did with writes that were not synced, the file
// opens, is sound, and has everything that was acknowledged; the write that was under
// way is there whole or not at all. bbolt syncs twice in a commit: pages, then the meta
// page that names them. So between the file before a commit and after it these are the
// states that a disk can be left in: any part of the pages, in whole sectors, under the
// old meta page; and all of the pages under a meta page of which any part came.
func TestPowerLoss(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 1))
	dir := t.TempDir()
	path := filepath.Join(dir, "aws.db")
	s, err := Open(path, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close() //nolint:errcheck // it is only read below
	if s.db.NoSync || s.db.NoGrowSync {
		t.Fatal("commits are not synced")
	}
	file := func() []byte {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	// What each commit does: n is its number, and large values make pages of their own.
	write := func(n int) func(*bbolt.Tx) error {
		return func(tx *bbolt.Tx) error {
			b, err := tx.CreateBucketIfNotExists([]byte("rows"))
			if err != nil {
				return err
			}
			for i := range 1 + n%5 {
				if err := b.Put(fmt.Appendf(nil, "%04d/%d", n, i), bytes.Repeat([]byte{byte(n)}, 1+(n*997+i*331)%9000)); err != nil {
					return err
				}
			}
			return b.Delete(fmt.Appendf(nil, "%04d/0", n-7))
		}
	}
	// has is what a file must hold after so many commits.
	has := func(tx *bbolt.Tx, commits int) error {
		b := tx.Bucket([]byte("rows"))
		want := 0
		for n := range commits {
			for i := range 1 + n%5 {
				if i == 0 && n+7 < commits {
					continue // deleted again
				}
				want++
				if v := b.Get(fmt.Appendf(nil, "%04d/%d", n, i)); !bytes.Equal(v, bytes.Repeat([]byte{byte(n)}, 1+(n*997+i*331)%9000)) {
					return fmt.Errorf("row %d of commit %d has %d bytes", i, n, len(v))
				}
			}
		}
		found := 0
		if b != nil {
			found = b.Stats().KeyN
		}
		if found != want {
			return fmt.Errorf("%d rows, want %d", found, want)
		}
		return nil
	}
	look := func(what string, image []byte, commits int) {
		t.Helper()
		left := filepath.Join(dir, "left.db")
		if err := os.WriteFile(left, image, 0o600); err != nil {
			t.Fatal(err)
		}
		again, err := Open(left, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatalf("commit %d, %s: %v", commits, what, err)
		}
		err = again.View(func(tx *bbolt.Tx) error {
			for damage := range tx.Check() {
				return damage
			}
			if err := has(tx, commits); err != nil {
				if next := has(tx, commits+1); next != nil {
					return fmt.Errorf("neither before (%w) nor after (%w)", err, next)
				}
			}
			return nil
		})
		if err != nil {
			t.Errorf("commit %d, %s: %v", commits, what, err)
		}
		if err := again.Close(); err != nil {
			t.Fatal(err)
		}
	}

	for n := range 25 {
		before := file()
		if err := s.Update(write(n)); err != nil {
			t.Fatal(err)
		}
		after := file()
		// part takes over what came of some pages.
		part := func(image []byte, from, to int, whole bool) []byte {
			for at := from * pageSize; at < min(to*pageSize, len(after)); at += sectorSize {
				if at >= len(image) { // the file had not grown yet, or has
					if random.IntN(2) == 0 {
						return image
					}
					image = append(image, make([]byte, len(after)-len(image))...)
				}
				if whole || random.IntN(2) == 0 {
					copy(image[at:at+sectorSize], after[at:])
				}
			}
			return image
		}
		pages := len(after) / pageSize
		for range 3 {
			look("pages in part", part(bytes.Clone(before), metaPages, pages, false), n)
		}
		synced := bytes.Clone(after)
		copy(synced, before[:metaPages*pageSize])
		for range 2 {
			// A meta page has less than a sector: torn within it, its checksum fails.
			image := bytes.Clone(synced)
			cut := random.IntN(80)
			for p := range metaPages {
				copy(image[p*pageSize:p*pageSize+cut], after[p*pageSize:])
			}
			look(fmt.Sprintf("%d bytes of the meta page", cut), image, n)
		}
		if n%5 == 0 {
			look("nothing lost", after, n+1)
		}
	}
}
