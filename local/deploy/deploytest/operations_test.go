package deploytest

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

func read(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(root, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestAlarms holds that each alarm goes to a topic, and that OPERATIONS.md has a
// page for it that says what it means and what to do, and for no other.
func TestAlarms(t *testing.T) {
	t.Parallel()
	d := declared(t)
	known := values(t, d, map[string]any{"HostImageUri": "image", "Sandbox": "true"})
	text := read(t, "OPERATIONS.md")
	_, alarms, ok := strings.Cut(text, "\n## Alarms\n")
	if !ok {
		t.Fatal("OPERATIONS.md has no part about alarms")
	}
	alarms, _, _ = strings.Cut(alarms, "\n## ")
	alarms, _, _ = strings.Cut(alarms, "\n### Not alarms")
	explained := make(map[string]bool)
	for page := range strings.SplitSeq(alarms, "\n### ") {
		heading, rest, _ := strings.Cut(page, "\n")
		if !strings.Contains(rest, "*Means:*") {
			continue // what stands before the pages
		}
		if !strings.Contains(rest, "*Do:*") && !strings.Contains(rest, "*Look, do:*") {
			t.Errorf("OPERATIONS.md does not say what to do about %q", heading)
		}
		for name := range strings.SplitSeq(heading, ", ") {
			explained[name] = true
		}
	}
	for _, a := range d.OfType("AWS::CloudWatch::Alarm") {
		p := resolve(t, d, a.Properties, known).(map[string]any)
		name := strings.TrimPrefix(fmt.Sprint(p["AlarmName"]), stack+" ")
		if !explained[name] {
			t.Errorf("OPERATIONS.md does not say what %q means", name)
		}
		delete(explained, name)
		for _, what := range []string{"AlarmActions", "OKActions"} {
			if to := fmt.Sprint(p[what]); to != "[AlarmTopic]" && to != "[SandboxTopic]" {
				t.Errorf("%s: %s are %v", name, what, p[what])
			}
		}
		if p["TreatMissingData"] == nil {
			t.Errorf("%s: what if there is no data?", name)
		}
	}
	for name := range explained {
		t.Errorf("OPERATIONS.md has a page for %q, which is no alarm", name)
	}
}

var message = regexp.MustCompile(`\$\.(msg|message) = "([^"*]*)`)

// TestLogFilters holds that what alarms look for in the logs is what the code
// logs.
func TestLogFilters(t *testing.T) {
	t.Parallel()
	d := declared(t)
	source := func(dirs ...string) string {
		var code strings.Builder
		for _, dir := range dirs {
			err := fs.WalkDir(os.DirFS(filepath.Join(root, dir)), ".", func(path string, _ fs.DirEntry, err error) error {
				if err == nil && strings.HasSuffix(path, ".go") && !strings.HasSuffix(path, "_test.go") {
					code.WriteString(read(t, filepath.Join(dir, path)))
				}
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		return code.String()
	}
	code := source("sessionhost")
	of := map[string]string{"msg": code, "message": source("functions", "shared")}
	found := 0
	for _, f := range d.OfType("AWS::Logs::MetricFilter") {
		if m := message.FindStringSubmatch(fmt.Sprint(f.Properties["FilterPattern"])); m != nil {
			found++
			if !strings.Contains(of[m[1]], `"`+m[2]) {
				t.Errorf("%s looks for %q, which nothing logs", f.Name, m[2])
			}
			// lambdacontext's logger has its own name for a line's text.
			if host := strings.Contains(fmt.Sprint(f.Properties["LogGroupName"]), "HostLogs"); host != (m[1] == "msg") {
				t.Errorf("%s looks at %s of %v", f.Name, m[1], f.Properties["LogGroupName"])
			}
		}
	}
	if found == 0 {
		t.Error("no filter looks for a message")
	}
	// The figures of the hosts' own metrics.
	found = 0
	for _, a := range d.OfType("AWS::CloudWatch::Alarm") {
		text := fmt.Sprint(a.Properties)
		if !strings.Contains(text, "Name:Mode") {
			continue // not by mode: AWS's own, or a filter's
		}
		found++
		for _, m := range regexp.MustCompile(`MetricName:(\w+)`).FindAllStringSubmatch(text, -1) {
			if !strings.Contains(code, `"`+m[1]+`"`) {
				t.Errorf("%s looks at %s, which no host measures", a.Name, m[1])
			}
		}
	}
	if found == 0 {
		t.Error("no alarm looks at the hosts' own metrics")
	}
}

// TestCommands holds that every command that the documents name is in the
// Makefile, with a line for `make help`.
func TestCommands(t *testing.T) {
	t.Parallel()
	makefile := read(t, "Makefile")
	command := regexp.MustCompile("(?m)(?:`|^)make ([a-z-]+)")
	found := 0
	for _, document := range []string{"README.md", "OPERATIONS.md", "ARCHITECTURE.md"} {
		for _, m := range command.FindAllStringSubmatch(read(t, document), -1) {
			found++
			if !regexp.MustCompile(`(?m)^` + m[1] + `:.*## `).MatchString(makefile) {
				t.Errorf("%s names `make %s`, which the Makefile has not, or says nothing about", document, m[1])
			}
		}
	}
	if found < 10 {
		t.Errorf("only %d commands found", found)
	}
}
