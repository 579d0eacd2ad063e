// Package localtest runs a whole local stack for a test: in the test's own
// process, or as the program that `make run` starts, to be killed for real.
package localtest

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"whatisup/local"
	"whatisup/local/deploy/stack"
	"whatisup/shared/httpapi/apitest"
	"whatisup/shared/whatisup"
)

// patience bounds every wait for a condition. It is far beyond what any of them
// takes, so that a busy machine doesn't fail a test.
const patience = 60 * time.Second

// Root is the folder of the module.
func Root(t testing.TB) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		up := filepath.Dir(dir)
		if up == dir {
			t.Fatal("no go.mod above the test")
		}
		dir = up
	}
}

// Start runs a stack in this process, on ports of the system's choice, until the
// test ends; it fails the test if a part of the stack fails, or if AWS was asked
// for something that the embedded one doesn't know. change may be nil.
func Start(t testing.TB, change func(*local.Config)) *local.Stack {
	t.Helper()
	var log bytes.Buffer
	var mu sync.Mutex
	c := local.Config{
		DataDir:    t.TempDir(),
		Bind:       "127.0.0.1",
		WhatsApp:   "sandbox",
		Seed:       [32]byte{1}, // one for all stacks of a test process
		EventQueue: true,
		Limits:     whatisup.RateLimit{Burst: 100000, PerSecond: 100000},
		Log:        slog.New(slog.NewJSONHandler(&lockedWriter{mu: &mu, w: &log}, &slog.HandlerOptions{Level: slog.LevelWarn})),
	}
	if change != nil {
		change(&c)
	}
	ctx, stop := context.WithCancel(context.Background())
	up := make(chan *local.Stack, 1)
	ended := make(chan error, 1)
	go func() { ended <- local.Run(ctx, c, func(s *local.Stack) { up <- s }) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Errorf("the stack: %v", err)
		}
		if t.Failed() {
			mu.Lock()
			defer mu.Unlock()
			t.Logf("the stack's log:\n%s", log.String())
		}
	})
	select {
	case s := <-up:
		t.Cleanup(func() {
			for what, n := range s.Server.Unknown() {
				t.Errorf("AWS was asked %d times for %s, which the embedded one doesn't know", n, what)
			}
		})
		return s
	case err := <-ended:
		ended <- err
		t.Fatalf("the stack did not come up: %v", err)
	case <-time.After(patience):
		t.Fatal("the stack did not come up in time")
	}
	return nil
}

type lockedWriter struct {
	mu *sync.Mutex
	w  io.Writer
}

func (l *lockedWriter) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(b)
}

// Process is a stack as the program that `make run` starts.
type Process struct {
	API, WhatsApp string
	DataDir       string
	cmd           *exec.Cmd
	done          chan error
}

// Program builds the program once a test binary.
var program = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "whatisup-run-")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "whatisup")
	out, err := exec.Command("go", "build", "-o", path, "whatisup/cmd/whatisup").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%w: %s", err, out)
	}
	return path, nil
})

// StartProcess starts the program on a data directory, with further settings of
// the form NAME=value, and waits until it is up. It is killed when the test ends.
func StartProcess(t testing.TB, dataDir string, env ...string) *Process {
	t.Helper()
	path, err := program()
	if err != nil {
		t.Fatal(err)
	}
	p := &Process{DataDir: dataDir, cmd: exec.Command(path, "run"), done: make(chan error, 1)}
	p.cmd.Dir = t.TempDir() // it needs no checkout
	p.cmd.Env = append(os.Environ(), "DATA_DIR="+dataDir, "PORT=0", "AWS_PORT=0", "WHATSAPP_PORT=0",
		"RATE_LIMIT_BURST=100000", "RATE_LIMIT_PER_SECOND=100000", "ADDRESS_LIMIT_PER_SECOND=0")
	p.cmd.Env = append(p.cmd.Env, env...)
	var log bytes.Buffer
	p.cmd.Stderr = &log
	// env.json is written last; an old one must not be taken for it.
	if err := os.Remove(filepath.Join(dataDir, "env.json")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { p.done <- p.cmd.Wait() }()
	t.Cleanup(func() {
		p.Kill(t)
		if t.Failed() {
			t.Logf("the program's log:\n%s", log.String())
		}
	})
	Await(t, "the program is up", func() bool {
		select {
		case err := <-p.done:
			p.done <- err
			t.Fatalf("the program ended: %v\n%s", err, log.String())
		default:
		}
		env, err := stack.Local(dataDir)
		if err != nil {
			return false
		}
		p.API, p.WhatsApp = strings.TrimSuffix(env["EVENTS_URL"], "/v1/events"), env["WHATSAPP_ENDPOINT"]
		return true
	})
	return p
}

// Kill ends the program at once, with SIGKILL.
func (p *Process) Kill(t testing.TB) { p.end(t, syscall.SIGKILL) }

// Stop ends the program as Ctrl-C does, and returns how it ended.
func (p *Process) Stop(t testing.TB) error { return p.end(t, syscall.SIGINT) }

func (p *Process) end(t testing.TB, with syscall.Signal) error {
	t.Helper()
	_ = p.cmd.Process.Signal(with)
	select {
	case err := <-p.done:
		p.done <- err
		return err
	case <-time.After(patience):
		_ = p.cmd.Process.Kill()
		t.Errorf("the program did not end after %v", with)
		return nil
	}
}

// Health is the URL of the program's health page.
func (p *Process) Health(t testing.TB) string {
	t.Helper()
	env, err := stack.Local(p.DataDir)
	if err != nil {
		t.Fatal(err)
	}
	return env["HEALTH_URL"]
}

// Key reads the first customer's key of a mode.
func (p *Process) Key(t testing.TB, m whatisup.Mode) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(p.DataDir, string(m)+".key"))
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(b))
}

// Client calls the API as a customer does. Every exchange is held against the
// OpenAPI document.
type Client struct {
	t    testing.TB
	base string
	key  string
	http *http.Client
}

// NewClient returns a client for the API at base, with a key.
func NewClient(t testing.TB, base, key string) *Client {
	return &Client{t: t, base: base, key: key, http: apitest.Client(t)}
}

// Do sends a request and returns the answer with its body read. body may be
// empty.
func (c *Client) Do(method, path, body string) (*http.Response, []byte) {
	c.t.Helper()
	return c.DoWith(method, path, body)
}

// DoWith is Do with more headers, names and values in turn.
func (c *Client) DoWith(method, path, body string, headers ...string) (*http.Response, []byte) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var content io.Reader
	if body != "" {
		content = strings.NewReader(body)
	}
	r, err := http.NewRequestWithContext(ctx, method, c.base+path, content)
	if err != nil {
		c.t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+c.key)
	r.Header.Set("Accept", "application/json")
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	resp, err := c.http.Do(r)
	if err != nil {
		c.t.Fatalf("%s %s: %v", method, path, err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		c.t.Fatalf("%s %s: %v", method, path, err)
	}
	return resp, b
}

// Must sends a request, fails the test unless the answer has the wanted status,
// and decodes its body into into, which may be nil.
func (c *Client) Must(status int, method, path, body string, into any) {
	c.t.Helper()
	resp, b := c.Do(method, path, body)
	if resp.StatusCode != status {
		c.t.Fatalf("%s %s: %d, want %d: %s", method, path, resp.StatusCode, status, b)
	}
	if into == nil {
		return
	}
	if err := json.Unmarshal(b, into); err != nil {
		c.t.Fatalf("%s %s: %v: %s", method, path, err, b)
	}
}

// Instance is an instance as a customer reads it.
type Instance struct {
	ID          string          `json:"id"`
	Name        string          `json:"name"`
	Status      string          `json:"status"`
	PhoneNumber *string         `json:"phone_number"`
	Metadata    json.RawMessage `json:"metadata"`
}

// Create makes an instance.
func (c *Client) Create(name string) Instance {
	c.t.Helper()
	var i Instance
	c.Must(201, "POST", "/v1/instances", fmt.Sprintf(`{"name":%q}`, name), &i)
	return i
}

// Get reads an instance.
func (c *Client) Get(id string) Instance {
	c.t.Helper()
	var i Instance
	c.Must(200, "GET", "/v1/instances/"+id, "", &i)
	return i
}

// AwaitStatus waits until the instance has the status, and reads it.
func (c *Client) AwaitStatus(id, status string) Instance {
	c.t.Helper()
	var i Instance
	Await(c.t, "status "+status, func() bool {
		i = c.Get(id)
		return i.Status == status
	}, func() string { return fmt.Sprintf("it is %s", i.Status) })
	return i
}

// Code is the answer of the QR call.
type Code struct {
	QR        string    `json:"qr"`
	Raw       string    `json:"raw"`
	ExpiresAt time.Time `json:"expires_at"`
}

// QR fetches the QR code. While no host owns the shard yet it asks again, as a
// customer would.
func (c *Client) QR(id string) Code {
	c.t.Helper()
	var code Code
	Await(c.t, "a code", func() bool {
		resp, b := c.Do("GET", "/v1/instances/"+id+"/qr", "")
		if resp.StatusCode == 503 {
			return false
		}
		if resp.StatusCode != 200 {
			c.t.Fatalf("GET qr: %d %s", resp.StatusCode, b)
		}
		if err := json.Unmarshal(b, &code); err != nil {
			c.t.Fatal(err)
		}
		return true
	})
	return code
}

// Pair makes an instance, lets a simulated phone scan its code, and waits until
// it is connected.
func (c *Client) Pair(name string) Instance {
	c.t.Helper()
	i := c.Create(name)
	c.QR(i.ID)
	c.Must(204, "POST", "/v1/sandbox/instances/"+i.ID+"/scan", "", nil)
	return c.AwaitStatus(i.ID, "connected")
}

// Device is a linked device as the simulator sees it.
type Device struct {
	JID       string `json:"jid"`
	World     string `json:"world"`
	Instance  string `json:"instance"`
	Connected bool   `json:"connected"`
	Logins    int    `json:"logins"`
}

// Devices asks the simulator for all linked devices.
func Devices(t testing.TB, simulator string) []Device {
	t.Helper()
	resp, err := http.Get(simulator + "/control/devices")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var all []Device
	if err := json.NewDecoder(resp.Body).Decode(&all); err != nil {
		t.Fatal(err)
	}
	return all
}

// Await waits until the condition holds, and fails the test if it never does.
// It looks again and again, because what it waits for is behind a network.
func Await(t testing.TB, what string, condition func() bool, now ...func() string) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for pause := time.Millisecond; !condition(); pause = min(2*pause, 100*time.Millisecond) {
		if time.Now().After(deadline) {
			var state string
			for _, f := range now {
				state = cmp.Or(state, f())
			}
			t.Fatalf("waited %v for: %s; %s", patience, what, state)
		}
		time.Sleep(pause)
	}
}
