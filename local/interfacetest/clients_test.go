package interfacetest

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"whatisup/local"
	"whatisup/local/localtest"
	"whatisup/shared/whatisup"
)

// told are the settings that say to a client where the stack is.
func told(s *local.Stack) []string {
	return []string{"WHATISUP_URL=" + s.API, "WHATISUP_KEY=" + string(s.Keys[whatisup.Test])}
}

// The repository's own clients do their work against a stack: their tests are in their
// folders, and those that need a stack run only from here.
func TestOwnClients(t *testing.T) {
	t.Parallel()
	s := localtest.Start(t, nil)
	for name, command := range map[string][]string{
		"go": {"go", "test", "-count=1", "-v", "./..."},
		"ts": {"node", "--test", "--test-reporter=tap"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if _, err := exec.LookPath(command[0]); err != nil {
				t.Skipf("SKIPPED: %s is not installed", command[0])
			}
			cmd := exec.CommandContext(t.Context(), command[0], command[1:]...)
			cmd.Dir = filepath.Join(localtest.Root(t), "clients", name)
			cmd.Env = append(append(os.Environ(), "GOWORK=off"), told(s)...)
			out, err := cmd.CombinedOutput()
			if err != nil || strings.Contains(string(out), "needs a running stack") {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
}
