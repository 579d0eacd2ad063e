package release

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

var example = Release{Version: "v1.2.3", Architecture: "amd64", Program: []byte("#!/bin/sh\necho ran\n"), Licence: []byte("MIT\n")}

// The package manager itself takes the package apart and finds what it should.
func TestDebian(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("dpkg-deb"); err != nil {
		t.Skip("NOT TRIED: there is no dpkg-deb here")
	}
	dir := t.TempDir()
	deb := filepath.Join(dir, "whatisup.deb")
	var first, second bytes.Buffer
	for _, b := range []*bytes.Buffer{&first, &second} {
		if err := example.Debian(b); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(first.Bytes(), second.Bytes()) {
		t.Error("the same program gives other bytes")
	}
	if err := os.WriteFile(deb, first.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	ask := func(args ...string) string {
		out, err := exec.Command("dpkg-deb", args...).CombinedOutput()
		if err != nil {
			t.Fatalf("dpkg-deb %v: %v: %s", args, err, out)
		}
		return string(out)
	}
	if got := ask("--field", deb, "Package", "Version", "Architecture"); !strings.Contains(got, "whatisup") || !strings.Contains(got, "1.2.3") || !strings.Contains(got, "amd64") {
		t.Errorf("fields: %s", got)
	}
	ask("--extract", deb, filepath.Join(dir, "root"))
	out, err := exec.Command(filepath.Join(dir, "root/usr/bin/whatisup")).Output()
	if err != nil || string(out) != "ran\n" {
		t.Errorf("the program: %q (%v)", out, err)
	}
	ask("--control", deb, filepath.Join(dir, "control"))
	for _, script := range []string{"postinst", "install.sh"} { // a restore may come before the first start
		if !strings.Contains(string(embedded(script)), "install -d -m 0700 -o whatisup -g whatisup /var/lib/whatisup\n") {
			t.Errorf("%s makes no data folder", script)
		}
	}
	for _, script := range []string{"control/postinst", "control/prerm"} {
		if out, err := exec.Command("sh", "-n", filepath.Join(dir, script)).CombinedOutput(); err != nil {
			t.Errorf("%s: %s", script, out)
		}
	}
}

// The archive has one folder of its own name with everything in it.
func TestArchive(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	f, err := os.Create(filepath.Join(dir, "a.tgz"))
	if err != nil {
		t.Fatal(err)
	}
	if err := example.Archive(f); err != nil {
		t.Fatal(err)
	}
	f.Close()
	if out, err := exec.Command("tar", "xzf", f.Name(), "-C", dir).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	top := filepath.Join(dir, "whatisup_v1.2.3_linux_amd64")
	for _, name := range []string{"whatisup", "install.sh", "whatisup.service", "whatisup.env", "compose.yaml", "LICENSE", "monitoring/alerts.yml", "monitoring/dashboard.json"} {
		if _, err := os.Stat(filepath.Join(top, name)); err != nil {
			t.Error(err)
		}
	}
	if out, err := exec.Command("sh", "-n", filepath.Join(top, "install.sh")).CombinedOutput(); err != nil {
		t.Errorf("install.sh: %s", out)
	}
}

// systemd itself finds nothing wrong with the unit, and calls it protected.
func TestUnit(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("systemd-analyze"); err != nil {
		t.Skip("NOT TRIED: there is no systemd-analyze here")
	}
	unit := filepath.Join(t.TempDir(), "whatisup.service")
	// The program need not be installed for this.
	text := strings.Replace(string(embedded("whatisup.service")), "/usr/bin/whatisup", "/bin/sh", 1)
	if err := os.WriteFile(unit, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("systemd-analyze", "verify", "--man=no", unit).CombinedOutput(); err != nil || len(bytes.TrimSpace(out)) > 0 {
		t.Errorf("systemd-analyze verify: %v: %s", err, out)
	}
	out, err := exec.Command("systemd-analyze", "security", "--offline=true", "--threshold=20", unit).CombinedOutput()
	if err != nil {
		t.Errorf("exposed: %v: %s", err, out)
	}
}

// Every file reads as what it is, and every alert and panel asks for a metric that
// there is.
func TestMonitoring(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"compose.yaml", "alerts.yml"} {
		var v map[string]any
		if err := yaml.Unmarshal(embedded(name), &v); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	var board struct {
		Panels []struct{ Targets []struct{ Expr string } }
	}
	if err := json.Unmarshal(embedded("dashboard.json"), &board); err != nil || len(board.Panels) == 0 {
		t.Errorf("dashboard.json: %v", err)
	}
	var source strings.Builder
	for _, path := range []string{"../health.go", "../../sessionhost/host/metrics.go"} {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		source.Write(b)
	}
	operations, err := os.ReadFile("../../OPERATIONS.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"alerts.yml", "dashboard.json"} {
		for word := range strings.FieldsFuncSeq(string(embedded(name)), func(r rune) bool {
			return r != '_' && (r < 'a' || r > 'z')
		}) {
			metric := strings.TrimSuffix(strings.TrimSuffix(word, "_count"), "_bucket")
			if strings.HasPrefix(metric, "whatisup_") && !strings.Contains(source.String(), `"`+metric+`"`) {
				t.Errorf("%s asks for %s, which nothing counts", name, metric)
			}
		}
	}
	for line := range strings.Lines(string(embedded("alerts.yml"))) {
		if _, alert, ok := strings.Cut(line, "alert: "); ok && !strings.Contains(string(operations), "### "+strings.TrimSpace(alert)) {
			t.Errorf("OPERATIONS.md has no page for %s", strings.TrimSpace(alert))
		}
	}
}
