package local_test

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"whatisup/local"
	"whatisup/local/localtest"
	"whatisup/shared/whatisup"
)

// The drill: a backup is made while the stack writes, the machine is lost, and the
// backup on another one brings everything back: keys, instances and links, without
// a scan.
func TestBackupDrill(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), strings.Repeat("long", 30), "data") // longer than a socket's name may be
	for _, whatsapp := range []string{"sandbox", "live,sandbox"} {
		t.Run(whatsapp, func(t *testing.T) {
			dir := filepath.Join(dir, whatsapp)
			p := localtest.StartProcess(t, dir, "WHATSAPP="+whatsapp)
			key := p.Key(t, whatisup.Test)
			c := localtest.NewClient(t, p.API, key)
			paired := c.Pair("linked")
			ctx, stop := context.WithCancel(t.Context())
			var load sync.WaitGroup
			for n := range 4 { // writes all the while
				load.Go(func() {
					for i := 0; ctx.Err() == nil; i++ {
						r, err := http.NewRequestWithContext(ctx, "POST", p.API+"/v1/instances", strings.NewReader(fmt.Sprintf(`{"name":"load %d %d"}`, n, i)))
						if err != nil {
							t.Error(err)
							return
						}
						r.Header.Set("Authorization", "Bearer "+key)
						r.Header.Set("Content-Type", "application/json")
						if resp, err := http.DefaultClient.Do(r); err == nil {
							resp.Body.Close()
						}
					}
				})
			}
			file := filepath.Join(t.TempDir(), "backup.tgz")
			conf := local.Config{DataDir: dir, WhatsApp: whatsapp, Version: "test", Log: discard}
			for range 3 {
				os.Remove(file)
				if err := local.Backup(t.Context(), conf, file); err != nil {
					t.Fatal(err)
				}
			}
			stop()
			load.Wait()
			if err := local.Backup(t.Context(), conf, file); err == nil {
				t.Error("a backup is written over another")
			}
			if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("the backup has %v (%v)", info.Mode(), err)
			}
			p.Kill(t)

			if _, err := local.Restore(t.Context(), conf, file); err == nil || !strings.Contains(err.Error(), "not empty") {
				t.Errorf("restored over data: %v", err)
			}
			conf.DataDir = filepath.Join(t.TempDir(), "new machine")
			if _, err := local.Restore(t.Context(), conf, file); err != nil {
				t.Fatal(err)
			}
			p = localtest.StartProcess(t, conf.DataDir, "WHATSAPP="+whatsapp)
			c = localtest.NewClient(t, p.API, key)
			if back := c.AwaitStatus(paired.ID, "connected"); *back.PhoneNumber != *paired.PhoneNumber {
				t.Errorf("it came back as %s", *back.PhoneNumber)
			}
			if err := p.Stop(t); err != nil {
				t.Fatal(err)
			}
			// A stack that does not run is backed up as well.
			os.Remove(file)
			if err := local.Backup(t.Context(), conf, file); err != nil {
				t.Fatal(err)
			}
			whole, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			for what, b := range map[string][]byte{"cut": whole[:len(whole)*2/3], "changed": flipped(whole), "empty": {}} {
				if err := os.WriteFile(file, b, 0o600); err != nil {
					t.Fatal(err)
				}
				conf.DataDir = filepath.Join(t.TempDir(), "from "+what)
				if _, err := local.Restore(t.Context(), conf, file); err == nil {
					t.Errorf("a backup that is %s was restored", what)
				}
				if left, _ := os.ReadDir(conf.DataDir); len(left) > 0 {
					t.Errorf("a backup that is %s left %v", what, left)
				}
			}
		})
	}
}

func flipped(b []byte) []byte {
	b = append([]byte(nil), b...)
	b[len(b)/2] ^= 0x40
	return b
}

// What is wrong is found before a start, and named.
func TestCheck(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "data")
	p := localtest.StartProcess(t, dir)
	if err := p.Stop(t); err != nil {
		t.Fatal(err)
	}
	conf := local.Config{DataDir: dir, Bind: "127.0.0.1", AWSBind: "127.0.0.1", WhatsApp: "sandbox", Version: "test", Log: discard}
	bad := func(c local.Config) string {
		var text strings.Builder
		for _, f := range local.Check(t.Context(), c) {
			if f.Bad {
				fmt.Fprintf(&text, "%s: %s\n", f.About, f.Says)
			}
		}
		return text.String()
	}
	if got := bad(conf); got != "" {
		t.Errorf("a good folder: %s", got)
	}
	for _, damage := range []struct {
		want string
		do   func(*local.Config)
	}{
		{"without TLS", func(c *local.Config) { c.Bind = "0.0.0.0" }},
		{"chmod 600", func(c *local.Config) { _ = os.Chmod(filepath.Join(dir, "pepper"), 0o644) }},
		{"chmod 700", func(c *local.Config) { _ = os.Chmod(dir, 0o755) }},
		{"kms.root", func(c *local.Config) { _ = os.Remove(filepath.Join(dir, "kms.root")) }},
	} {
		c := conf
		damage.do(&c)
		if got := bad(c); !strings.Contains(got, damage.want) {
			t.Errorf("%q is not in %q", damage.want, got)
		}
	}
}
