package interfacetest

import (
	"context"
	"encoding/json"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"whatisup/local/localtest"
	"whatisup/shared/httpapi"
	"whatisup/shared/whatisup"
)

// patience is how long one run of a tool may take, its download included.
const patience = 8 * time.Minute

// The linters have no warning, and the types for TypeScript compile with a
// program that uses them.
func TestNPM(t *testing.T) {
	wanted(t)
	t.Parallel()
	if _, err := exec.LookPath("npm"); err != nil {
		t.Skip("SKIPPED: npm is not installed, so redocly, spectral and openapi-typescript did not see the OpenAPI document, nor standardwebhooks a signature (Debian: apt-get install npm)")
	}
	dir := workshop(t, "npm")
	document(t, dir)
	run(t, dir, "npm", "install", "--prefer-offline", "--no-audit", "--no-fund", "--ignore-scripts", "--no-package-lock")
	signed(t, dir)
	if said := run(t, dir, "node", "verify.cjs"); !strings.Contains(said, "verified") {
		t.Errorf("the library of Standard Webhooks says %s", said)
	}

	tool := func(name string, args ...string) string {
		return run(t, dir, filepath.Join(dir, "node_modules", ".bin", name), args...)
	}

	if said := tool("redocly", "lint", "--extends=recommended", "--format=json", "openapi.json"); !strings.Contains(said, `"warnings": 0`) || !strings.Contains(said, `"errors": 0`) {
		t.Errorf("redocly has something to say:\n%s", said)
	}
	tool("spectral", "lint", "--fail-severity=hint", "--ruleset=spectral.json", "openapi.json")
	tool("openapi-typescript", "openapi.json", "--output=types.ts")
	tool("tsc", "--project", ".")

	// Our own client for TypeScript has the document's types.
	for _, name := range []string{"whatisup.js", "tsconfig.json"} {
		b, err := os.ReadFile(filepath.Join(localtest.Root(t), "clients", "ts", name))
		if err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(dir, "client", name), b)
	}
	tool("openapi-typescript", "openapi.json", "--output=client/api.d.ts")
	tool("tsc", "--project", "client")

	s := localtest.Start(t, nil)
	if said := runWith(t, dir, told(s), "node", "job.js"); said != "read\n" {
		t.Errorf("the main job with openapi-fetch: %s", said)
	}
	program := filepath.Join(dir, "whatisup")
	runWith(t, localtest.Root(t), []string{"GOFLAGS="}, "go", "build", "-o", program, "./cmd/whatisup")
	if said := runWith(t, dir, append(told(s), "WHATISUP="+program), "node", "mcp.mjs"); said != "read\n" {
		t.Errorf("the main job over the Model Context Protocol: %s", said)
	}
	imported := "COLLECTION=" + filepath.Join(localtest.Root(t), "clients", "postman", "whatisup.postman_collection.json")
	if said := runWith(t, dir, append(told(s), imported), "node", "postman.cjs"); said != "collection\n" {
		t.Errorf("the collection for Postman, in newman: %s", said)
	}
	listen(t, dir, "directly", told(s))
	t.Run("nginx", func(t *testing.T) {
		env := told(s)
		env[0] = "WHATISUP_URL=" + localtest.Nginx(t, "127.0.0.1", s.API)
		listen(t, dir, "through nginx", env)
	})
}

// listen has the two readers of streams, and curl, read one while something happens.
func listen(t *testing.T, dir, how string, env []string) {
	t.Helper()
	if said := runWith(t, dir, append(env, "LISTEN_MS=16000"), "node", "streams.mjs"); said != "all\n" {
		t.Errorf("the stream %s in fetch-event-source, eventsource and curl: %s", how, said)
	}
}

// signed writes requests to a webhook endpoint as its library is to verify them: one with
// one secret, and one in a rotation.
func signed(t *testing.T, dir string) {
	t.Helper()
	type request struct {
		Secret  whatisup.Secret   `json:"secret"`
		Headers map[string]string `json:"headers"`
		Body    string            `json:"body"`
	}
	var all []request
	old, fresh := whatisup.NewSigningSecret(), whatisup.NewSigningSecret()
	for _, secrets := range [][]whatisup.Secret{{old}, {fresh, old}} {
		id, unix, body := string(whatisup.NewEventID()), time.Now().Unix(), `{"event":"message.received","data":{"text":"héllo \u2028"}}`
		all = append(all, request{old, map[string]string{
			"webhook-id": id, "webhook-timestamp": strconv.FormatInt(unix, 10),
			"webhook-signature": whatisup.SignStandard(secrets, id, unix, []byte(body)),
		}, body})
	}
	b, err := json.Marshal(all)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "signed.json"), b, 0o644); err != nil {
		t.Fatal(err)
	}
}

// The clients of the two generators for Go compile with a program that uses them.
func TestGo(t *testing.T) {
	wanted(t)
	t.Parallel()
	dir := workshop(t, "clients")
	document(t, dir)
	run(t, dir, "go", "mod", "download")

	run(t, dir, "go", "tool", "ogen", "-target=ogen", "-package=ogen", "-clean", "openapi.json")
	generated := run(t, dir, "go", "tool", "oapi-codegen", "-generate=types,client", "-package=oapicodegen", "openapi.json")
	write(t, filepath.Join(dir, "oapicodegen", "client.go"), []byte(generated))
	run(t, dir, "go", "build", "./...")
	run(t, dir, "go", "build", "-o", "main-job", "./job")

	s := localtest.Start(t, nil)
	for _, client := range []string{"ogen", "oapi-codegen"} {
		if said := runWith(t, dir, told(s), filepath.Join(dir, "main-job"), client); said != "read\n" {
			t.Errorf("the main job with %s: %s", client, said)
		}
	}
}

func wanted(t *testing.T) {
	t.Helper()
	if os.Getenv("INTERFACES") == "" {
		t.Skip("run by `make interfaces` and `make test`")
	}
}

// workshop is a folder that outlives the test, so that what was fetched and
// compiled is there the next time, with the files of testdata in it.
func workshop(t *testing.T, name string) string {
	t.Helper()
	dir, err := filepath.Abs(filepath.Join("..", "..", ".build", "interfaces", name))
	if err != nil {
		t.Fatal(err)
	}
	from := os.DirFS(filepath.Join("testdata", name))
	err = fs.WalkDir(from, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := fs.ReadFile(from, path)
		if err != nil {
			return err
		}
		write(t, filepath.Join(dir, path), b)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

func write(t *testing.T, path string, b []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, b, 0o644); err != nil {
		t.Fatal(err)
	}
}

func document(t *testing.T, dir string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, "openapi.json"), httpapi.OpenAPI, 0o644); err != nil {
		t.Fatal(err)
	}
}

// unreachable are the words of npm and go for a registry that doesn't answer.
var unreachable = regexp.MustCompile(`ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ECONNRESET|ETIMEDOUT|network|no such host|dial tcp|connection refused|i/o timeout|TLS handshake timeout`)

// run runs a tool and returns its standard output. It fails the test if the tool
// fails, and skips it if the tool could not be fetched.
func run(t *testing.T, dir, name string, args ...string) string {
	t.Helper()
	return runWith(t, dir, nil, name, args...)
}

// runWith is run with further settings.
func runWith(t *testing.T, dir string, env []string, name string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	cmd.WaitDelay = 5 * time.Second
	cmd.Env = append(os.Environ(), "GOFLAGS=-mod=mod", "GOWORK=off", "REDOCLY_TELEMETRY=off", "REDOCLY_SUPPRESS_UPDATE_NOTICE=true")
	cmd.Env = append(cmd.Env, env...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err == nil {
		return string(out)
	}
	said := string(out) + stderr.String()
	fetches := len(args) > 0 && (args[0] == "install" || args[0] == "mod")
	if fetches && (unreachable.MatchString(said) || ctx.Err() != nil) {
		t.Skipf("SKIPPED: the registry can't be reached, so these tools did not see the OpenAPI document: %.300s", said)
	}
	t.Fatalf("%s %s: %v\n%s", filepath.Base(name), strings.Join(args, " "), err, said)
	return ""
}
