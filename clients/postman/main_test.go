package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func read(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("..", "..", path))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// The collection that people import is that of the document as it is.
func TestCollectionIsTrue(t *testing.T) {
	made, err := Collection(read(t, document))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(made, read(t, collection)) {
		t.Errorf("the OpenAPI document has changed and %s has not: run `go run ./clients/postman`", collection)
	}
}

// Every operation is there once, under a name of its own, and every variable that a
// request uses is one of the collection's.
func TestCollectionIsWhole(t *testing.T) {
	var doc struct {
		Paths map[string]map[string]json.RawMessage
	}
	if err := json.Unmarshal(read(t, document), &doc); err != nil {
		t.Fatal(err)
	}
	operations := 0
	for _, path := range doc.Paths {
		for method := range path {
			if method != "parameters" {
				operations++
			}
		}
	}
	var made root
	if err := json.Unmarshal(read(t, collection), &made); err != nil {
		t.Fatal(err)
	}
	variables := make(map[string]bool)
	for _, v := range made.Variable {
		variables[v.Key] = true
	}
	names := make(map[string]bool)
	for _, f := range made.Item {
		for _, i := range f.Item {
			if names[i.Name] {
				t.Errorf("two requests are called %s", i.Name)
			}
			names[i.Name] = true
			used := i.Request.URL.Raw
			if i.Request.Body != nil {
				used += i.Request.Body.Raw
			}
			for _, rest := range strings.Split(used, "{{")[1:] {
				if name, _, _ := strings.Cut(rest, "}}"); !variables[name] {
					t.Errorf("%s uses %s, which the collection does not have", i.Name, name)
				}
			}
		}
	}
	if len(names) != operations || operations < 70 {
		t.Errorf("%d requests for %d operations", len(names), operations)
	}
}
