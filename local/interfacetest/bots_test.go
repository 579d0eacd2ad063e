package interfacetest

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"whatisup/local/localtest"
	"whatisup/shared/whatisup"
)

// lines is what a program has said until now.
type lines struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// The bots of the clients' examples answer what somebody writes, and the phone of that
// person shows it.
func TestBots(t *testing.T) {
	t.Parallel()
	clients := filepath.Join(localtest.Root(t), "clients")
	program := filepath.Join(t.TempDir(), "echo")
	runWith(t, filepath.Join(clients, "go"), []string{"GOFLAGS="}, "go", "build", "-o", program, "./examples/echo")
	for name, command := range map[string][]string{
		"go": {program},
		"ts": {"node", "examples/echo.js"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if _, err := exec.LookPath(command[0]); err != nil {
				t.Skipf("SKIPPED: %s is not installed", command[0])
			}
			s := localtest.Start(t, nil)
			key := string(s.Keys[whatisup.Test])
			c := localtest.NewClient(t, s.API, key)
			i := c.Pair("echo")

			var said lines
			bot := exec.CommandContext(t.Context(), command[0], append(command[1:], s.API)...)
			bot.Dir = filepath.Join(clients, name)
			bot.Env = append(os.Environ(), "KEY="+key)
			bot.Stderr = &said
			if err := bot.Start(); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { bot.Wait() }) // it was killed
			localtest.Await(t, "the bot listens", func() bool { return strings.Contains(said.String(), "stream.opened") }, said.String)

			c.Must(202, "POST", "/v1/sandbox/instances/"+i.ID+"/messages", `{"from":"15550101234","text":"ping"}`, nil)
			localtest.Await(t, "the phone shows the answer", func() bool {
				_, shown := c.Do("GET", "/v1/sandbox/phones/15550101234/messages", "")
				return strings.Contains(string(shown), "You said: ping")
			}, said.String)
		})
	}
}
