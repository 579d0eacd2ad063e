package deploytest

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"debug/buildinfo"
	"debug/elf"
	"fmt"
	"io"
	"io/fs"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// release builds a program as `make build` and `make image` do.
func release(t *testing.T, dir, arch, tags, program, to string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w -buildid=", "-tags", tags, "-o", to, program)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+arch)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build %s: %v\n%s", program, err, out)
	}
}

// TestMakefileBuilds holds that the tests here build what the Makefile builds.
func TestMakefileBuilds(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join(root, "Makefile"))
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{
		"CGO_ENABLED=0 GOOS=linux GOARCH=$(GOARCH) go build -trimpath -buildvcs=false -ldflags='-s -w -buildid='",
		"$(RELEASE) -tags lambda.norpc -o $@ ./functions/$*",
		"$(RELEASE) -o .build/image/sessionhost ./sessionhost",
	} {
		if !bytes.Contains(text, []byte(part)) {
			t.Errorf("the Makefile no longer says %q", part)
		}
	}
}

// TestReproducible builds a function and the session host in two places: the
// bytes must not tell where.
func TestReproducible(t *testing.T) {
	if os.Getenv("DEPLOY_LONG") == "" {
		t.Skip("compiles everything anew: `make lint` runs it")
	}
	t.Parallel()
	elsewhere := filepath.Join(t.TempDir(), "a longer name than before")
	if err := os.CopyFS(elsewhere, sources{os.DirFS(root)}); err != nil {
		t.Fatal(err)
	}
	for program, tags := range map[string]string{"functions/qr": "lambda.norpc", "sessionhost": ""} {
		var sums []string
		for _, dir := range []string{root, elsewhere} {
			to := filepath.Join(t.TempDir(), "program")
			release(t, dir, "arm64", tags, "./"+program, to)
			b, err := os.ReadFile(to)
			if err != nil {
				t.Fatal(err)
			}
			sums = append(sums, fmt.Sprintf("%x", sha256.Sum256(b)))
			if program != "sessionhost" && len(b) > 11_000_000 {
				t.Errorf("%s is %.1f MB, want at most 11", program, float64(len(b))/1e6)
			}
		}
		if sums[0] != sums[1] {
			t.Errorf("%s: built twice, the bytes differ", program)
		}
	}
}

// sources leaves out what is no source: what builds and runs have left behind.
type sources struct{ fs.FS }

func (s sources) ReadDir(name string) ([]fs.DirEntry, error) {
	entries, err := fs.ReadDir(s.FS, name)
	var kept []fs.DirEntry
	for _, e := range entries {
		if name != "." || !strings.HasPrefix(e.Name(), ".") {
			kept = append(kept, e)
		}
	}
	return kept, err
}

// tryEmptyRoot starts the session host as it starts in its image: as nobody, in a
// file system that holds nothing but the program. It must get as far as speaking
// TLS to AWS, and refuse a server that no root vouches for.
func tryEmptyRoot(t *testing.T, built string) {
	dir := t.TempDir()
	program := filepath.Join(dir, "sessionhost")
	if err := os.Link(built, program); err != nil {
		t.Fatal(err)
	}
	file, err := elf.Open(program)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if file.Section(".interp") != nil {
		t.Error("the program needs a dynamic linker, and the image has none")
	}
	// Without certificate files the library's own would be none, and that fails
	// with the same words as a stranger's certificate. So look at what is in it.
	info, err := buildinfo.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(info.Deps, func(m *debug.Module) bool { return m.Path == "golang.org/x/crypto/x509roots/fallback" }) {
		t.Error("the program brings no root certificates")
	}
	for d := dir; d != filepath.Dir(d) && strings.HasPrefix(d, os.TempDir()); d = filepath.Dir(d) {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
		if d == os.TempDir() {
			break
		}
	}

	// An AWS whose certificate is nobody's: a program without any roots would
	// complain of that instead.
	var asked atomic.Int32
	aws := httptest.NewUnstartedServer(http.NotFoundHandler())
	aws.Config.ErrorLog = log.New(io.Discard, "", 0)
	aws.TLS = &tls.Config{GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { asked.Add(1); return nil, nil }}
	aws.StartTLS()
	defer aws.Close()

	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	health := listener.Addr().String()
	listener.Close()
	d := declared(t)
	env := []string{"HEALTH_ADDR=" + health, "AWS_ENDPOINT_URL=" + aws.URL, "AWS_REGION=eu-central-1", "AWS_ACCESS_KEY_ID=a", "AWS_SECRET_ACCESS_KEY=b"}
	known := values(t, d, map[string]any{"HostImageUri": "image"})
	for _, c := range hostContainers(t, d, "LiveHostTask", known) {
		for name, v := range variablesOf(c) {
			if name == "MEDIA_SECRET" {
				v = mediaSecret
			}
			env = append(env, fmt.Sprintf("%s=%v", name, v))
		}
	}
	output := &lines{}
	start := func(args ...string) *exec.Cmd {
		cmd := exec.Command("/sessionhost", args...)
		cmd.Dir = "/"
		cmd.Env = env
		cmd.Stdout, cmd.Stderr = output, output
		cmd.SysProcAttr = inRoot(dir)
		if err := cmd.Start(); err != nil {
			t.Skipf("this user can't change a program's root: %v", err)
		}
		return cmd
	}
	host := start()
	ended := make(chan error, 1)
	go func() { ended <- host.Wait() }()
	defer func() {
		host.Process.Signal(syscall.SIGTERM) //nolint:errcheck // it has ended then
		select {
		case <-ended:
		case <-time.After(30 * time.Second):
			host.Process.Kill() //nolint:errcheck // as above
			<-ended
			t.Error("it did not end when told to")
		}
	}()
	deadline := time.Now().Add(30 * time.Second)
	for !strings.Contains(output.String(), "certificate signed by unknown authority") {
		select {
		case err := <-ended:
			ended <- err
			t.Fatalf("it ended: %v\n%s", err, output)
		case <-time.After(20 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			t.Fatalf("it did not get to AWS (%d connections)\n%s", asked.Load(), output)
		}
	}
	// The image's health check is the same program.
	check := start("-healthcheck")
	if err := check.Wait(); err != nil && !strings.Contains(output.String(), "the host answers 503") {
		t.Errorf("health check: %v\n%s", err, output)
	}
}
