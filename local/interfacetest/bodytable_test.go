package interfacetest

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"whatisup/local/localtest"
	"whatisup/shared/whatisup"
)

// The table of bodies in ARCHITECTURE.md has every type that the code has, says which can
// be sent, names tests that there are, and claims of Baileys what the cases with it hold.
func TestTableOfBodies(t *testing.T) {
	t.Parallel()
	root := localtest.Root(t)
	page, err := os.ReadFile(filepath.Join(root, "ARCHITECTURE.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(page), "| `type` | out | in |")
	table, _, _ = strings.Cut(table, "\n\n")
	tests := testsOf(t, root)
	has := func(cases []letter, kind whatisup.BodyType) bool {
		return kind == whatisup.BodyPoll || // ourPoll and theirPoll
			slices.ContainsFunc(cases, func(l letter) bool { return l.kind == kind })
	}
	var named []string
	for _, line := range strings.Split(table, "\n")[2:] {
		cells := strings.Split(strings.Trim(line, "|"), "|")
		if len(cells) != 6 {
			t.Fatalf("the row %q has %d cells", line, len(cells))
		}
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		kind := whatisup.BodyType(strings.Trim(cells[0], "`"))
		named = append(named, string(kind))
		if sendable := slices.Contains(whatisup.Sendable, kind); sendable != (cells[1] == "yes") {
			t.Errorf("%s: out is %q", kind, cells[1])
		}
		for _, name := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(cells[3], -1) {
			if !tests[name[1]] {
				t.Errorf("%s: there is no %s", kind, name[1])
			}
		}
		if gets := has(toBaileys, kind) && cells[1] == "yes"; gets != (cells[4] == "yes") {
			t.Errorf("%s: Baileys gets it, says the table %q, the cases %v", kind, cells[4], gets)
		}
		if sends := has(fromBaileys, kind); sends != (cells[5] == "yes") {
			t.Errorf("%s: Baileys sends it, says the table %q, the cases %v", kind, cells[5], sends)
		}
	}
	slices.Sort(named)
	if want := bodyTypes(t, root); !slices.Equal(named, want) {
		t.Errorf("the table has %v, the code %v", named, want)
	}
}

// bodyTypes are all constants of the type BodyType, sorted.
func bodyTypes(t *testing.T, root string) (all []string) {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), filepath.Join(root, "shared", "whatisup", "body.go"), nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	ast.Inspect(f, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		if of, ok := spec.Type.(*ast.Ident); ok && of.Name == "BodyType" {
			text, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, text)
		}
		return true
	})
	slices.Sort(all)
	return all
}

// testsOf are the names of the tests of local and sessionhost.
func testsOf(t *testing.T, root string) map[string]bool {
	t.Helper()
	all := make(map[string]bool)
	for _, room := range []string{"local", "sessionhost"} {
		err := filepath.WalkDir(filepath.Join(root, room), func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			if d.Name() == "node_modules" {
				return filepath.SkipDir
			}
			if !strings.HasSuffix(path, "_test.go") {
				return nil
			}
			b, err := os.ReadFile(path)
			for _, found := range regexp.MustCompile(`(?m)^func (Test\w+)\(`).FindAllSubmatch(b, -1) {
				all[string(found[1])] = true
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return all
}
