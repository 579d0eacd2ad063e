package whatsapp

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"
)

func putMeta(d *database, key, value string) error {
	return d.update(func(tx *tx) error { return tx.Bucket(bucketMeta).Put([]byte(key), []byte(value)) })
}

func meta(t *testing.T, d *database, key string) (value string) {
	t.Helper()
	if err := d.view(func(tx *tx) error {
		value = string(tx.Bucket(bucketMeta).Get([]byte(key)))
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return value
}

// killed is a copy of a data directory as a process that was killed leaves it.
func killed(t *testing.T, dir string) string {
	t.Helper()
	out := t.TempDir()
	if err := os.CopyFS(out, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	return out
}

// opened opens a data directory until the test ends.
func opened(t *testing.T, dir string) *database {
	t.Helper()
	d, err := openDatabase(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.close() })
	return d
}

// What was written is there after a kill, before and after a checkpoint and however
// often: values, deletions, numbers that were given out. A deletion alone waits.
func TestTheLogIsAppliedAfterAKill(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	d := opened(t, dir)
	position := func(d *database) (n uint64) {
		if err := d.update(func(tx *tx) (err error) {
			n, err = tx.Bucket(bucketQueue).NextSequence()
			return errors.Join(err, tx.Bucket(bucketQueue).Put(order64(n), []byte("stanza")))
		}); err != nil {
			t.Fatal(err)
		}
		return n
	}
	for round := range 3 {
		first := position(d)
		if err := errors.Join(putMeta(d, "a", "1"), putMeta(d, "b", "1"), putMeta(d, "a", "2"), d.update(func(tx *tx) error {
			return tx.Bucket(bucketMeta).Delete([]byte("b"))
		}), d.drop(order64(first))); err != nil {
			t.Fatal(err)
		}
		next := killed(t, dir)
		other := opened(t, next)
		if a, b := meta(t, other, "a"), meta(t, other, "b"); a != "2" || b != "" {
			t.Errorf("round %d: a is %q, b is %q", round, a, b)
		}
		if got := position(other); got != first+1 {
			t.Errorf("round %d: after %d was given out came %d", round, first, got)
		}
		if err := d.sync(); err != nil { // a checkpoint
			t.Fatal(err)
		}
	}
}

// An entry that was not written whole ends the log, and what comes after it is in
// its place.
func TestATornLog(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	d := opened(t, dir)
	if err := errors.Join(putMeta(d, "a", "1"), putMeta(d, "b", "1")); err != nil {
		t.Fatal(err)
	}
	for _, cut := range []int64{1, 9, 13} {
		torn := killed(t, dir)
		path := filepath.Join(torn, logName)
		info, err := os.Stat(path)
		if err == nil {
			err = os.Truncate(path, info.Size()-cut)
		}
		if err != nil {
			t.Fatal(err)
		}
		other := opened(t, torn)
		if a, b := meta(t, other, "a"), meta(t, other, "b"); a != "1" || b != "" {
			t.Errorf("%d bytes less: a is %q, b is %q", cut, a, b)
		}
		if err := putMeta(other, "c", "1"); err != nil {
			t.Fatal(err)
		}
		if last := opened(t, killed(t, torn)); meta(t, last, "a")+meta(t, last, "c") != "11" {
			t.Errorf("%d bytes less: something is lost after the next kill", cut)
		}
	}
}

// A log beside a file that it does not belong to is not applied: one that the file is
// ahead of, and one of a file that was put back from a backup.
func TestALogOfAnotherTime(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s, err := New(Config{DataDir: dir})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.db.close() })
	if err := putMeta(s.db, "a", "old"); err != nil {
		t.Fatal(err)
	}
	behind := killed(t, dir) // with "old" in the log
	var backup bytes.Buffer
	if err := s.Snapshot(func(int64) error { return nil }, &backup); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(putMeta(s.db, "a", "new"), s.db.sync(), putMeta(s.db, "a", "newest")); err != nil {
		t.Fatal(err)
	}
	later := killed(t, dir) // with "newest" in the log

	log, err := os.ReadFile(filepath.Join(behind, logName))
	if err == nil {
		err = errors.Join(
			os.WriteFile(filepath.Join(behind, "whatsapp.db"), backup.Bytes(), 0o600),
			s.db.sync(), os.WriteFile(filepath.Join(dir, "log"), log, 0o600))
	}
	if err != nil {
		t.Fatal(err)
	}
	if a := meta(t, opened(t, behind), "a"); a != "old" {
		t.Errorf("the backup has %q", a)
	}
	ahead := killed(t, dir)
	if err := os.WriteFile(filepath.Join(ahead, logName), log, 0o600); err != nil {
		t.Fatal(err)
	}
	if a := meta(t, opened(t, ahead), "a"); a != "newest" {
		t.Errorf("beside an old log is %q", a)
	}
	if err := os.WriteFile(filepath.Join(later, "whatsapp.db"), backup.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	if a := meta(t, opened(t, later), "a"); a != "old" {
		t.Errorf("the backup beside a newer log has %q", a)
	}
}

// A change that cannot be written is answered with an error and is not there, and the
// next one that can be is.
func TestALogThatCannotBeWritten(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	d := opened(t, dir)
	if err := putMeta(d, "a", "1"); err != nil {
		t.Fatal(err)
	}
	readOnly, err := os.Open(filepath.Join(dir, logName))
	if err != nil {
		t.Fatal(err)
	}
	defer readOnly.Close()
	file := func(f *os.File) (before *os.File) {
		d.mu.Lock()
		defer d.mu.Unlock()
		before, d.ahead.file = d.ahead.file, f
		return before
	}
	writable := file(readOnly)
	if err := putMeta(d, "a", "2"); err == nil {
		t.Error("it is said to be written")
	}
	if a := meta(t, d, "a"); a != "1" {
		t.Errorf("a is %q", a)
	}
	file(writable)
	if err := putMeta(d, "b", "1"); err != nil {
		t.Fatal(err)
	}
	if other := opened(t, killed(t, dir)); meta(t, other, "a")+meta(t, other, "b") != "11" {
		t.Error("something else is there after a kill")
	}
}

// A log that grows leads to a checkpoint, and is gone when all is closed.
func TestTheLogIsBounded(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	d, err := openDatabase(dir)
	if err != nil {
		t.Fatal(err)
	}
	for range 5 {
		if err := putMeta(d, "large", string(make([]byte, maxLog/2))); err != nil {
			t.Fatal(err)
		}
	}
	if info, err := os.Stat(filepath.Join(dir, logName)); err != nil || info.Size() > 2*maxLog {
		t.Errorf("the log: %v %v", info, err)
	}
	if err := errors.Join(putMeta(d, "a", "1"), d.close()); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, logName)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the log is still there: %v", err)
	}
	if a := meta(t, opened(t, dir), "a"); a != "1" {
		t.Errorf("a is %q", a)
	}
}
