package local_test

import (
	"archive/tar"
	"compress/gzip"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"whatisup/local/localtest"
	"whatisup/shared/whatisup"
)

// A folder written by the first version (bff7fe1: no format, no root key, another
// table of calls, auth state in rows) is taken over: keys work, and the instance
// is connected without a scan.
func TestFolderOfTheFirstVersion(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	unpack(t, "testdata/bff7fe1.tgz", dir)
	for range 2 { // the second start finds a folder of this version
		p := localtest.StartProcess(t, dir)
		c := localtest.NewClient(t, p.API, p.Key(t, whatisup.Test))
		var list struct{ Data []localtest.Instance }
		c.Must(200, "GET", "/v1/instances", "", &list)
		if len(list.Data) != 1 || list.Data[0].Name != "from bff7fe1" {
			t.Fatalf("it has %+v", list.Data)
		}
		i := c.AwaitStatus(list.Data[0].ID, "connected")
		if i.PhoneNumber == nil || *i.PhoneNumber != "4915112345678" {
			t.Errorf("connected as %v", i.PhoneNumber)
		}
		// The link still reads and writes.
		c.Must(202, "POST", "/v1/sandbox/instances/"+i.ID+"/messages", `{"from":"4915198765432","text":"after the move"}`, nil)
		if err := p.Stop(t); err != nil {
			t.Fatal(err)
		}
	}
}

func unpack(t *testing.T, archive, dir string) {
	t.Helper()
	f, err := os.Open(archive)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	for in := tar.NewReader(z); ; {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			return
		} else if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, filepath.FromSlash(h.Name))
		if h.Typeflag == tar.TypeDir {
			err = os.MkdirAll(path, 0o700)
		} else {
			var b []byte
			if b, err = io.ReadAll(in); err == nil {
				err = os.WriteFile(path, b, 0o600)
			}
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}
