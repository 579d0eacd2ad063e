package session

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// source is this package's own code, without tests.
func source(t *testing.T) []*ast.File {
	t.Helper()
	names, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	var files []*ast.File
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, f)
	}
	return files
}

// declared are the line's events, and its causes of an end.
func declared(t *testing.T) (events, causes []string) {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), "../line/event.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	ast.Inspect(f, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.FuncDecl:
			if n.Name.Name == "event" && n.Recv != nil {
				events = append(events, n.Recv.List[0].Type.(*ast.Ident).Name)
			}
		case *ast.ValueSpec:
			if typ, ok := n.Type.(*ast.Ident); ok && typ.Name == "Cause" {
				causes = append(causes, n.Names[0].Name)
			}
		}
		return true
	})
	if len(events) < 5 || len(causes) < 10 {
		t.Fatalf("found %v, %v", events, causes)
	}
	slices.Sort(events)
	slices.Sort(causes)
	return events, causes
}

// ofLine are the names of the line's package in the cases of a switch, and whether
// the switch has a default.
func ofLine(body *ast.BlockStmt) (names []string, open bool) {
	for _, stmt := range body.List {
		c := stmt.(*ast.CaseClause)
		open = open || c.List == nil
		for _, e := range c.List {
			if sel, ok := e.(*ast.SelectorExpr); ok {
				if pkg, ok := sel.X.(*ast.Ident); ok && pkg.Name == "line" {
					names = append(names, sel.Sel.Name)
				}
			}
		}
	}
	slices.Sort(names)
	return names, open
}

// A switch over what a line tells names every event and has no default: whoever
// adds an event decides at each place what it means there. A connection that is
// told something new must not take it for its end.
func TestEverySwitchNamesEveryEvent(t *testing.T) {
	events, causes := declared(t)
	var switches, decisions int
	for _, f := range source(t) {
		ast.Inspect(f, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.TypeSwitchStmt:
				if names, open := ofLine(n.Body); len(names) > 0 {
					switches++
					if !slices.Equal(names, events) || open {
						t.Errorf("a switch names %v of %v, with a default: %v", names, events, open)
					}
				}
			case *ast.FuncDecl:
				// The one place that decides what follows an end.
				if n.Name.Name != "afterEnd" {
					return true
				}
				decisions++
				names, open := ofLine(n.Body.List[0].(*ast.SwitchStmt).Body)
				if !slices.Equal(names, causes) || open {
					t.Errorf("afterEnd names %v of %v, with a default: %v", names, causes, open)
				}
			}
			return true
		})
	}
	if switches != 4 || decisions != 1 {
		t.Errorf("%d switches and %d decisions were found", switches, decisions)
	}
}

// A session makes no state by hand: the steps in whatisup do, which a test holds
// against the table.
func TestStatesAreMadeBySteps(t *testing.T) {
	fields := []string{
		"Status", "Reason", "NextRetryAt", "QRExpiresAt", "PhoneNumber", "Link", "Confirmed", "FailedCause",
		"ObservedGeneration", "DoneGeneration",
	}
	for _, f := range source(t) {
		ast.Inspect(f, func(n ast.Node) bool {
			a, ok := n.(*ast.AssignStmt)
			if !ok {
				return true
			}
			for _, to := range a.Lhs {
				if sel, ok := to.(*ast.SelectorExpr); ok && slices.Contains(fields, sel.Sel.Name) {
					t.Errorf("%s is assigned by hand", sel.Sel.Name)
				}
			}
			return true
		})
	}
}
