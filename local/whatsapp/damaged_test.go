package whatsapp

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.etcd.io/bbolt"
)

// A file that was cut off, or is no database, ends the start with a sentence that
// names the file, and is left as it is.
func TestDamagedFile(t *testing.T) {
	t.Parallel()
	whole := func(t *testing.T) (dir, path string, size int64) {
		dir = t.TempDir()
		s, err := openDatabase(dir)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.close(); err != nil {
			t.Fatal(err)
		}
		found, err := filepath.Glob(filepath.Join(dir, "*.db"))
		if err != nil || len(found) != 1 {
			t.Fatalf("%v, %v", found, err)
		}
		info, err := os.Stat(found[0])
		if err != nil {
			t.Fatal(err)
		}
		return dir, found[0], info.Size()
	}
	for name, damage := range map[string]func(path string, size int64) error{
		"half":       func(path string, size int64) error { return os.Truncate(path, size/2) },
		"a page":     func(path string, _ int64) error { return os.Truncate(path, 4096) },
		"some bytes": func(path string, _ int64) error { return os.Truncate(path, 100) },
		"another file": func(path string, size int64) error {
			return os.WriteFile(path, []byte(strings.Repeat("x", int(size))), 0o600)
		},
		"without pages": func(path string, size int64) error { return overwrite(path, 8192, size) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir, path, size := whole(t)
			if err := damage(path, size); err != nil {
				t.Fatal(err)
			}
			s, err := openDatabase(dir)
			if err == nil {
				s.close()
				t.Fatal("it starts")
			}
			if !strings.Contains(err.Error(), filepath.Base(path)) || strings.Contains(err.Error(), "goroutine") {
				t.Errorf("it says %v", err)
			}
		})
	}
}

// A file of a newer version is refused by its format's name, and left as it is; one
// without a number is of the first.
func TestFileFormat(t *testing.T) {
	t.Parallel()
	for text, refused := range map[string]string{"": "", "1": "", "2": "", "3": "format 3", "x": "damaged"} {
		dir := t.TempDir()
		d, err := openDatabase(dir)
		if err != nil {
			t.Fatal(err)
		}
		format := func(tx *bbolt.Tx) error {
			if text == "" {
				return tx.Bucket(bucketMeta).Delete([]byte("format"))
			}
			return tx.Bucket(bucketMeta).Put([]byte("format"), []byte(text))
		}
		if err := errors.Join(d.bolt.Update(format), d.close()); err != nil {
			t.Fatal(err)
		}
		d, err = openDatabase(dir)
		if err == nil {
			err = d.close()
		}
		if (err != nil) != (refused != "") || err != nil && !strings.Contains(err.Error(), refused) {
			t.Errorf("format %q: %v", text, err)
		}
	}
}

// overwrite fills what is behind the first bytes of a file with zeros.
func overwrite(path string, from, size int64) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.WriteAt(make([]byte, max(size-from, 0)), from)
	return err
}
