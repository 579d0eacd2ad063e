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

var _ = errors.New
