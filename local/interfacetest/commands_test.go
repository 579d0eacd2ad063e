package interfacetest

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"whatisup/docs"
	"whatisup/local/localtest"
	"whatisup/shared/whatisup"
)

// block is a block of commands in a document.
var block = regexp.MustCompile("(?ms)^```sh\n(.*?)^```$")

// refusedCall is how an error of the API begins.
var refusedCall = regexp.MustCompile(`"error":\{"code":"[a-z_]+","message":`)

// The commands of the README and of the guide work when they are pasted one block after
// another, as written. What differs is where the stack is.
func TestDocumentedCommands(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("curl"); err != nil {
		t.Skip("SKIPPED: curl is not installed, so nobody has tried the commands of README and guide")
	}
	root := localtest.Root(t)
	var guide string
	pages, err := docs.Pages()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range pages {
		guide += p.Text
	}
	readme, err := os.ReadFile(filepath.Join(root, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range []struct{ name, text, says string }{
		{"README.md", string(readme), `"status":"read"`},
		{"docs", guide, `"status":"read"`},
	} {
		t.Run(x.name, func(t *testing.T) {
			t.Parallel()
			s := localtest.Start(t, nil)
			dir := t.TempDir()
			if err := os.Mkdir(filepath.Join(dir, ".data"), 0o700); err != nil {
				t.Fatal(err)
			}
			write(t, filepath.Join(dir, ".data", "test.key"), []byte(s.Keys[whatisup.Test]))
			host := strings.TrimPrefix(s.API, "http://")
			var script strings.Builder
			for _, m := range block.FindAllStringSubmatch(x.text, -1) {
				// What works on this stack with curl alone.
				if !strings.Contains(m[1], "curl") || strings.Contains(m[1], "aws ") || strings.Contains(m[1], "apt ") {
					continue
				}
				// A person takes a moment between two commands.
				for line := range strings.Lines(strings.ReplaceAll(m[1], "localhost:8080", host)) {
					if strings.HasPrefix(line, "curl") || strings.HasPrefix(line, "MID=") {
						script.WriteString("sleep 1\n")
					}
					script.WriteString(line)
				}
			}
			cmd := exec.CommandContext(t.Context(), "sh", "-eu")
			cmd.Dir, cmd.Stdin = dir, strings.NewReader(script.String())
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Errorf("%v\n%s", err, out)
			}
			if refusedCall.Match(out) || !strings.Contains(string(out), x.says) || strings.Count(string(out), "\n") < 8 {
				t.Errorf("the commands of %s:\n%s\nprinted:\n%s", x.name, script.String(), out)
			}
		})
	}
}
