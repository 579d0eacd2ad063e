package deploytest

import (
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// programs are what leaves the house, with the licences that may be in it. What
// the functions link may be passed on by anybody; the session host also links
// whatsmeow and libsignal, as the README says.
var programs = []struct {
	pattern string
	may     []string
}{
	{"./functions/...", []string{"MIT", "BSD", "Apache-2.0", "ISC"}},
	{"./sessionhost/...", []string{"MIT", "BSD", "Apache-2.0", "ISC", "MPL-2.0", "GPL-3.0"}},
	{"./local/...", []string{"MIT", "BSD", "Apache-2.0", "ISC", "MPL-2.0", "GPL-3.0"}},
}

func TestLicences(t *testing.T) {
	t.Parallel()
	for _, p := range programs {
		cmd := exec.CommandContext(t.Context(), "go", "list", "-deps", "-f", `{{with .Module}}{{if not .Main}}{{.Path}} {{.Dir}}{{end}}{{end}}`, p.pattern)
		cmd.Dir = root
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("go list %s: %v", p.pattern, err)
		}
		modules := make(map[string]string)
		for line := range strings.Lines(string(out)) {
			if path, dir, ok := strings.Cut(strings.TrimSpace(line), " "); ok {
				modules[path] = dir
			}
		}
		if len(modules) == 0 {
			t.Errorf("%s links nothing", p.pattern)
		}
		for _, path := range slices.Sorted(maps.Keys(modules)) {
			if licence := licenceIn(t, modules[path]); !slices.Contains(p.may, licence) {
				t.Errorf("%s links %s, whose licence is %s; allowed are %v", p.pattern, path, licence, p.may)
			}
		}
	}
}

// licenceIn tells a module's licence by the words of its text.
func licenceIn(t *testing.T, dir string) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		name := strings.ToUpper(e.Name())
		if e.IsDir() || !strings.HasPrefix(name, "LICENSE") && !strings.HasPrefix(name, "LICENCE") && !strings.HasPrefix(name, "COPYING") {
			continue
		}
		b, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		if known := licenceOf(string(b)); known != "" {
			return known
		}
	}
	return "unknown"
}

func licenceOf(text string) (name string) {
	first := -1
	text = strings.ToLower(strings.Join(strings.Fields(text), " "))
	for _, l := range []struct{ words, name string }{
		{"gnu affero general public license", "AGPL-3.0"},
		{"gnu lesser general public license", "LGPL"},
		{"gnu general public license version 3", "GPL-3.0"},
		{"mozilla public license version 2.0", "MPL-2.0"},
		{"mozilla public license, version 2.0", "MPL-2.0"},
		{"apache license version 2.0", "Apache-2.0"},
		{"licensed under the apache license, version 2.0", "Apache-2.0"},
		{"permission is hereby granted, free of charge", "MIT"},
		{"redistribution and use in source and binary forms", "BSD"},
		{"permission to use, copy, modify, and", "ISC"},
	} {
		// Licences name others further down; their own name comes first.
		if at := strings.Index(text, l.words); at >= 0 && (first < 0 || at < first) {
			first, name = at, l.name
		}
	}
	return name
}
