package store

import (
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"go.etcd.io/bbolt"
)

func openTest(t testing.TB) *Store {
	t.Helper()
	s, err := Open(filepath.Join(t.TempDir(), "db"), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	err = s.Update(func(tx *bbolt.Tx) error { _, err := tx.CreateBucket([]byte("b")); return err })
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func BenchmarkUpdate(b *testing.B) {
	s := openTest(b)
	var wg sync.WaitGroup
	commits := 0
	var last int
	per := b.N/8 + 1
	b.ResetTimer()
	for w := range 8 {
		wg.Go(func() {
			for i := range per {
				err := s.Update(func(tx *bbolt.Tx) error {
					if tx.ID() != last {
						last = tx.ID()
						commits++
					}
					return tx.Bucket([]byte("b")).Put(fmt.Appendf(nil, "%d/%d", w, i), make([]byte, 300))
				})
				if err != nil {
					b.Error(err)
				}
				time.Sleep(100 * time.Microsecond)
			}
		})
	}
	wg.Wait()
	b.ReportMetric(float64(8*per)/b.Elapsed().Seconds(), "op/s")
	b.ReportMetric(float64(8*per)/float64(commits), "op/commit")
}

// TestIsolation has good writes share commits with ones that fail and panic.
func TestIsolation(t *testing.T) {
	t.Parallel()
	s := openTest(t)
	refused := errors.New("refused")
	var wg sync.WaitGroup
	for i := range 60 {
		wg.Go(func() {
			key := fmt.Appendf(nil, "%d", i)
			err := s.Update(func(tx *bbolt.Tx) error {
				b := tx.Bucket([]byte("b"))
				switch i % 3 {
				case 1:
					return refused
				case 2:
					Must(b.Put(key, key))
					panic("half done")
				}
				return b.Put(key, key)
			})
			var p *panicked
			switch i % 3 {
			case 0:
				if err != nil {
					t.Error(err)
				}
			case 1:
				if !errors.Is(err, refused) {
					t.Errorf("a refusal became %v", err)
				}
			case 2:
				if !errors.As(err, &p) {
					t.Errorf("a panic became %v", err)
				}
			}
		})
	}
	wg.Wait()
	err := s.View(func(tx *bbolt.Tx) error {
		for i := range 60 {
			if got, want := tx.Bucket([]byte("b")).Get(fmt.Appendf(nil, "%d", i)) != nil, i%3 == 0; got != want {
				t.Errorf("%d is there: %t", i, got)
			}
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

func TestClosed(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "db")
	s, err := Open(path, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Open(path, slog.New(slog.DiscardHandler)); !errors.Is(err, ErrInUse) {
		t.Errorf("opened twice: %v", err)
	}
	if err := errors.Join(s.Close(), s.Close()); err != nil {
		t.Error(err)
	}
	nothing := func(*bbolt.Tx) error { return nil }
	if err := s.Update(nothing); !errors.Is(err, ErrClosed) {
		t.Errorf("update: %v", err)
	}
	if err := s.View(nothing); !errors.Is(err, ErrClosed) {
		t.Errorf("view: %v", err)
	}
}
