package deploytest

import (
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"maps"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"whatisup/local/gateway/template"
)

// unset are variables that a program reads and the template does not give it,
// with the reason. Functions share the code that reads them, so each reads more
// than it needs.
var unset = map[string]map[string]string{
	"instances": {
		"MEDIA_TABLE":    "has no business with files",
		"MESSAGES_TABLE": "has no business with messages",
		"DEVICES_TABLE":  "only session hosts have business with auth state",
	},
	"qr": {
		"MEDIA_TABLE":              "has no business with files",
		"WEBHOOKS_TABLE":           "has no business with webhooks",
		"WEBHOOK_EVENTS_QUEUE_URL": "sends no events",
		"MESSAGES_TABLE":           "has no business with messages",
		"EVENTS_TABLE":             "writes and reads no events",
		"DEVICES_TABLE":            "only session hosts have business with auth state",
		"EVENTS_URL":               "only the API's root tells it",
		"EVENT_QUEUE_URLS":         "sends no events",
	},
	"keys": {
		"MEDIA_TABLE":              "has no business with files",
		"WEBHOOKS_TABLE":           "has no business with webhooks",
		"WEBHOOK_EVENTS_QUEUE_URL": "sends no events",
		"MESSAGES_TABLE":           "has no business with messages",
		"DEVICES_TABLE":            "only session hosts have business with auth state",
		"EVENTS_TABLE":             "writes and reads no events",
		"FLEET_TABLE":              "nothing here depends on a session host",
		"EVENTS_URL":               "only the API's root tells it",
		"EVENT_QUEUE_URLS":         "sends no events",
		"COMMAND_QUEUE_PREFIX":     "sends no commands",
		"SHARD_COUNT":              "sends no commands",
	},
	"sandbox": {
		"MEDIA_TABLE":              "has no business with files",
		"WEBHOOKS_TABLE":           "has no business with webhooks",
		"WEBHOOK_EVENTS_QUEUE_URL": "sends no events",
		"MESSAGES_TABLE":           "has no business with messages",
		"DEVICES_TABLE":            "only session hosts have business with auth state",
		"EVENTS_TABLE":             "writes and reads no events",
		"FLEET_TABLE":              "the answer tells whether there is a session host",
		"EVENTS_URL":               "only the API's root tells it",
		"EVENT_QUEUE_URLS":         "sends no events",
	},
	"messages": {
		"MEDIA_ENDPOINT":           "the bucket is reached at its own address",
		"WEBHOOK_EVENTS_QUEUE_URL": "sends no events",
		"CALLS_TABLE":              "its own rows are the records of requests",
		"DEVICES_TABLE":            "only session hosts have business with auth state",
		"EVENTS_TABLE":             "writes and reads no events",
		"EVENTS_URL":               "only the API's root tells it",
		"EVENT_QUEUE_URLS":         "sends no events",
		"SANDBOX":                  "a row is accepted whoever is to send it",
	},
	"chats": {
		"WEBHOOKS_TABLE":           "has no business with webhooks",
		"WEBHOOK_EVENTS_QUEUE_URL": "sends no events",
		"MESSAGES_TABLE":           "has no business with messages",
		"DEVICES_TABLE":            "only session hosts have business with auth state",
		"EVENTS_TABLE":             "writes and reads no events",
		"EVENTS_URL":               "only the API's root tells it",
		"EVENT_QUEUE_URLS":         "sends no events",
	},
	"events": {
		"MEDIA_TABLE":              "has no business with files",
		"WEBHOOKS_TABLE":           "has no business with webhooks",
		"WEBHOOK_EVENTS_QUEUE_URL": "sends no events",
		"MESSAGES_TABLE":           "has no business with messages",
		"CALLS_TABLE":              "shows events, not codes",
		"FLEET_TABLE":              "nothing here depends on a session host",
		"DEVICES_TABLE":            "only session hosts have business with auth state",
		"EVENTS_URL":               "only the API's root tells it",
		"EVENT_QUEUE_URLS":         "sends no events",
		"COMMAND_QUEUE_PREFIX":     "sends no commands",
		"SHARD_COUNT":              "sends no commands",
	},
	"stream": {
		"MEDIA_TABLE":              "has no business with files",
		"WEBHOOKS_TABLE":           "has no business with webhooks",
		"WEBHOOK_EVENTS_QUEUE_URL": "sends no events",
		"MESSAGES_TABLE":           "has no business with messages",
		"CALLS_TABLE":              "shows events, not codes",
		"FLEET_TABLE":              "nothing here depends on a session host",
		"DEVICES_TABLE":            "only session hosts have business with auth state",
		"EVENTS_URL":               "only the API's root tells it",
		"EVENT_QUEUE_URLS":         "sends no events",
		"COMMAND_QUEUE_PREFIX":     "sends no commands",
		"SHARD_COUNT":              "sends no commands",
	},
	"media": {
		"MEDIA_ENDPOINT": "the bucket is reached at its own address",
		"FLEET_TABLE":    "nothing here depends on a session host",
		"DEVICES_TABLE":  "only session hosts have business with auth state",
		"EVENTS_URL":     "only the API's root tells it",
		"SANDBOX":        "files are files in either mode",
	},
	"fetch": {
		"MEDIA_ENDPOINT":        "the bucket is reached at its own address",
		"MEDIA_QUEUE_URL":       "is fed from it",
		"INSTANCES_TABLE":       "reads no table but that of files",
		"CALLS_TABLE":           "reads no table but that of files",
		"MESSAGES_TABLE":        "reads no table but that of files",
		"FLEET_TABLE":           "reads no table but that of files",
		"DEVICES_TABLE":         "only session hosts have business with auth state",
		"EVENTS_URL":            "only the API's root tells it",
		"SANDBOX":               "files are files in either mode",
		"SHARD_COUNT":           "wakes no session host",
		"COMMAND_QUEUE_PREFIX":  "wakes no session host",
		"PEPPER":                "reads no API key",
		"RATE_LIMIT_BURST":      "answers nobody",
		"RATE_LIMIT_PER_SECOND": "answers nobody",
	},
	"integration": {
		"MEDIA_TABLE":           "takes no files, so far",
		"DEVICES_TABLE":         "only session hosts have business with auth state",
		"EVENTS_URL":            "only the API's root tells it",
		"RATE_LIMIT_BURST":      "the operator's own programs are not limited",
		"RATE_LIMIT_PER_SECOND": "the operator's own programs are not limited",
	},
	"webhooks": {
		"MEDIA_TABLE":              "has no business with files",
		"FLEET_TABLE":              "has no business with it",
		"DEVICES_TABLE":            "has no business with it",
		"MESSAGES_TABLE":           "has no business with it",
		"EVENT_QUEUE_URLS":         "nothing here depends on an event queue: it tells nothing",
		"WEBHOOK_EVENTS_QUEUE_URL": "nothing here depends on an event queue: it tells nothing",
		"EVENTS_URL":               "nothing here depends on an event queue: it tells nothing",
		"COMMAND_QUEUE_PREFIX":     "sends no commands",
		"SHARD_COUNT":              "sends no commands",
		"SANDBOX":                  "nothing here depends on it",
		"OWN_URLS":                 "its own routes refer to the function, so it can't know where they are",
	},
	"fanout": {
		"MEDIA_TABLE":     "has no business with files",
		"INSTANCES_TABLE": "only the webhooks table is its business",
		"CALLS_TABLE":     "only the webhooks table is its business",
		"FLEET_TABLE":     "only the webhooks table is its business",
		"DEVICES_TABLE":   "only the webhooks table is its business",
		"MESSAGES_TABLE":  "only the webhooks table is its business",
		"FOREIGN_ALLOW":   "makes no requests",
		"OWN_URLS":        "makes no requests",
		"WEBHOOK_KEY_ID":  "makes no requests",
	},
	"deliver": {
		"MEDIA_TABLE":     "has no business with files",
		"INSTANCES_TABLE": "only the webhooks table is its business",
		"CALLS_TABLE":     "only the webhooks table is its business",
		"FLEET_TABLE":     "only the webhooks table is its business",
		"DEVICES_TABLE":   "only the webhooks table is its business",
		"MESSAGES_TABLE":  "only the webhooks table is its business",
	},
	"sweep": {
		"MEDIA_TABLE":    "has no business with files",
		"CALLS_TABLE":    "only the webhooks table is its business",
		"DEVICES_TABLE":  "only the webhooks table is its business",
		"FOREIGN_ALLOW":  "makes no requests",
		"OWN_URLS":       "makes no requests",
		"WEBHOOK_KEY_ID": "makes no requests",
	},
	"LiveHostTask": {
		"ACCESS_TABLE":        "a host knows no API keys",
		"CONNECTS_PER_SECOND": "its default is meant for a deployment",
		"RESUME_PER_SECOND":   "its default is meant for a deployment",
		"DEVICE_NAME":         "its default is the product's name",
		"HOST_ID":             "each task gives itself a new name",
		"HEALTH_ADDR":         "its default is where -healthcheck looks",
		"WHATSAPP_ENDPOINT":   "refused in live mode",
		"WHATSAPP_NOISE_ROOT": "refused in live mode",
		"WHATSAPP_CA_FILE":    "refused in live mode",
	},
}

// setForAll are set for all functions and hosts at once, and not read by each of them:
// hosts leave AWS_ENDPOINT_URL to the SDK.
var setForAll = []string{"AWS_ENDPOINT_URL", "MAX_INSTANCES"}

// fromLambda are set by Lambda itself, and can't be set by a template.
var fromLambda = []string{"AWS_REGION", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"}

func TestEnvironment(t *testing.T) {
	t.Parallel()
	d := declared(t)
	for _, f := range functions(t, d) {
		compareEnvironment(t, f.Name, slices.Collect(maps.Keys(f.Env)), reads(t, "./functions/"+f.Name))
	}
	known := values(t, d, map[string]any{"HostImageUri": "image", "Sandbox": "true"})
	compareEnvironment(t, "LiveHostTask", hostVariables(t, d, "LiveHostTask", known), reads(t, "./sessionhost"))
	// Of the sandbox host all that is special is whom it connects to.
	live, sandbox := hostVariables(t, d, "LiveHostTask", known), hostVariables(t, d, "SandboxHostTask", known)
	for _, name := range sandbox {
		if !slices.Contains(live, name) && !strings.HasPrefix(name, "WHATSAPP_") {
			t.Errorf("SandboxHostTask sets %s, LiveHostTask does not", name)
		}
	}
	for _, name := range live {
		if !slices.Contains(sandbox, name) {
			t.Errorf("LiveHostTask sets %s, SandboxHostTask does not", name)
		}
	}
}

func hostVariables(t *testing.T, d *template.Template, task string, known template.Values) []string {
	t.Helper()
	return slices.Collect(maps.Keys(variablesOf(hostContainers(t, d, task, known)[0])))
}

func compareEnvironment(t *testing.T, program string, set, read []string) {
	t.Helper()
	for _, name := range set {
		if !slices.Contains(read, name) && !slices.Contains(setForAll, name) {
			t.Errorf("%s: %s is set, but nothing reads it", program, name)
		}
		if _, ok := unset[program][name]; ok {
			t.Errorf("%s: %s is set, though there is a reason not to: %s", program, name, unset[program][name])
		}
	}
	for _, name := range read {
		if _, ok := unset[program][name]; !ok && !slices.Contains(set, name) && !slices.Contains(fromLambda, name) {
			t.Errorf("%s: %s is read, but not set", program, name)
		}
	}
	for name := range unset[program] {
		if !slices.Contains(read, name) {
			t.Errorf("%s: nothing reads %s, so it needs no reason", program, name)
		}
	}
}

var variable = regexp.MustCompile(`^([A-Z][A-Z0-9]*(_[A-Z0-9]+)+|PEPPER|SANDBOX|WHATSAPP)$`)

// reads lists the variables that a program's own packages read: every name of
// that form which is the first argument of a call.
func reads(t *testing.T, program string) []string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-deps", "-json=ImportPath,Dir,GoFiles", program)
	cmd.Dir = root
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list %s: %v", program, err)
	}
	found := make(map[string]bool)
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p struct {
			ImportPath, Dir string
			GoFiles         []string
		}
		if err := dec.Decode(&p); err == io.EOF {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(p.ImportPath, "whatisup/") {
			continue
		}
		for _, name := range p.GoFiles {
			file, err := parser.ParseFile(token.NewFileSet(), filepath.Join(p.Dir, name), nil, parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			ast.Inspect(file, func(n ast.Node) bool {
				if c, ok := n.(*ast.CallExpr); ok && len(c.Args) > 0 {
					if literal, ok := c.Args[0].(*ast.BasicLit); ok && literal.Kind == token.STRING {
						if text, err := strconv.Unquote(literal.Value); err == nil && variable.MatchString(text) {
							found[text] = true
						}
					}
				}
				return true
			})
		}
	}
	if len(found) == 0 {
		t.Fatalf("%s reads nothing", program)
	}
	return slices.Sorted(maps.Keys(found))
}
