package deploytest

import (
	"io/fs"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// ownVariables are read and are nobody's to set: a process sets them for another,
// or the system does.
var ownVariables = map[string]string{
	"NOTIFY_SOCKET":            "systemd's",
	"WATCHDOG_USEC":            "systemd's",
	"ACCESS_TABLE":             "the stack's own, from env.json",
	"INSTANCES_TABLE":          "the stack's own, from env.json",
	"CALLS_TABLE":              "the stack's own, from env.json",
	"EVENTS_TABLE":             "the stack's own, from env.json",
	"FLEET_TABLE":              "the stack's own, from env.json",
	"DEVICES_TABLE":            "the stack's own, from env.json",
	"MESSAGES_TABLE":           "the stack's own, from env.json",
	"SANDBOX_DEVICES_TABLE":    "of a deployed stack",
	"COMMAND_QUEUE_PREFIX":     "the stack's own, from env.json",
	"EVENT_QUEUE_URLS":         "the stack's own, from env.json",
	"AUTH_KEY_ID":              "the stack's own, from env.json",
	"SHARD_COUNT":              "the stack's own, from env.json",
	"MEDIA_BUCKET":             "the stack's own, from env.json",
	"MEDIA_SECRET":             "follows from the pepper",
	"MEDIA_DAYS":               "the template's; one machine keeps files for a week",
	"WEBHOOK_EVENTS_QUEUE_URL": "the stack's own, from env.json",
	"METRICS_NAMESPACE":        "CloudWatch's",
	"REGISTRY_USER":            "of the image's tool",
	"REGISTRY_PASSWORD":        "of the image's tool",
}

// OPERATIONS.md has every variable of one machine in its table, and none that
// nothing reads.
func TestVariablesOfOneMachine(t *testing.T) {
	t.Parallel()
	text := read(t, "OPERATIONS.md")
	_, table, ok := strings.Cut(text, "\n## Settings\n")
	if !ok {
		t.Fatal("OPERATIONS.md has no table of settings")
	}
	table, _, _ = strings.Cut(table, "\n## ")
	told := map[string]bool{}
	for line := range strings.Lines(table) {
		cells := strings.Split(line, "|")
		if len(cells) < 2 {
			continue
		}
		for _, m := range regexp.MustCompile("`([A-Z_]+)`").FindAllStringSubmatch(cells[1], -1) {
			told[m[1]] = true
		}
	}
	reads := map[string]bool{}
	call := regexp.MustCompile(`(?:getenv|Getenv|port|number|flag|list|get)\("([A-Z][A-Z_]+)"`)
	secret := regexp.MustCompile(`\{&s\.\w+, "([A-Z_]+)"`)
	for _, dir := range []string{"cmd/whatisup", "local", "local/front", "sessionhost/host"} {
		files, err := filepath.Glob(filepath.Join(root, dir, "*.go"))
		if err != nil || len(files) == 0 {
			t.Fatal(err, fs.ErrNotExist)
		}
		for _, path := range files {
			if strings.HasSuffix(path, "_test.go") {
				continue
			}
			rel, err := filepath.Rel(root, path)
			if err != nil {
				t.Fatal(err)
			}
			source := read(t, rel)
			for _, m := range call.FindAllStringSubmatch(source, -1) {
				reads[m[1]] = true
			}
			for _, m := range secret.FindAllStringSubmatch(source, -1) {
				reads[m[1]], reads[m[1]+"_FILE"] = true, true
			}
		}
	}
	delete(reads, "GOGC")
	delete(reads, "GODEBUG")
	for name := range reads {
		if !told[name] && ownVariables[name] == "" {
			t.Errorf("%s is read, and OPERATIONS.md does not tell it", name)
		}
	}
	for name := range told {
		if !reads[name] {
			t.Errorf("OPERATIONS.md tells %s, which nothing reads", name)
		}
	}
}
