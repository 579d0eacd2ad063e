// Command sbom lists what programs are made of, as CycloneDX reads it: the
// modules that the Go linker wrote into them, which is what `go version -m`
// prints.
package main

import (
	"cmp"
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
)

func main() {
	if err := run(os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "sbom:", err)
		os.Exit(1)
	}
}

type bom struct {
	Format     string      `json:"bomFormat"`
	Spec       string      `json:"specVersion"`
	Version    int         `json:"version"`
	Components []component `json:"components"`
	Depends    []depends   `json:"dependencies"`
}

type component struct {
	Type    string     `json:"type"`
	Ref     string     `json:"bom-ref"`
	Name    string     `json:"name"`
	Version string     `json:"version,omitempty"`
	URL     string     `json:"purl,omitempty"`
	Hashes  []hash     `json:"hashes,omitempty"`
	Says    []property `json:"properties,omitempty"`
}

type hash struct {
	Algorithm string `json:"alg"`
	Content   string `json:"content"`
}

type property struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

type depends struct {
	Ref string   `json:"ref"`
	On  []string `json:"dependsOn"`
}

func run(programs []string, out io.Writer) error {
	list := bom{Format: "CycloneDX", Spec: "1.6", Version: 1}
	modules := make(map[string]component)
	for _, p := range programs {
		info, err := buildinfo.ReadFile(p)
		if err != nil {
			return fmt.Errorf("%s: %w", p, err)
		}
		content, err := os.ReadFile(p)
		if err != nil {
			return err
		}
		sum := sha256.Sum256(content)
		name := filepath.Base(p)
		if name == "bootstrap" {
			name = filepath.Base(filepath.Dir(p))
		}
		list.Components = append(list.Components, component{
			Type: "application", Ref: name, Name: name,
			Hashes: []hash{{"SHA-256", hex.EncodeToString(sum[:])}},
			Says:   []property{{"go:package", info.Path}},
		})
		needs := depends{Ref: name, On: []string{"pkg:golang/std@" + info.GoVersion}}
		modules[needs.On[0]] = component{Type: "library", Ref: needs.On[0], Name: "std", Version: info.GoVersion, URL: needs.On[0]}
		for _, m := range info.Deps {
			c := moduleOf(m)
			modules[c.Ref] = c
			needs.On = append(needs.On, c.Ref)
		}
		list.Depends = append(list.Depends, needs)
	}
	libraries := make([]component, 0, len(modules))
	for _, c := range modules {
		libraries = append(libraries, c)
	}
	slices.SortFunc(libraries, func(a, b component) int { return cmp.Compare(a.Ref, b.Ref) })
	list.Components = append(list.Components, libraries...)
	e := json.NewEncoder(out)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(list)
}

func moduleOf(m *debug.Module) component {
	if m.Replace != nil {
		m = m.Replace
	}
	url := "pkg:golang/" + m.Path + "@" + m.Version
	return component{
		Type: "library", Ref: url, Name: m.Path, Version: m.Version, URL: url,
		Says: []property{{"go:sum", m.Sum}}, // as in go.sum
	}
}
