package httpapi_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"

	"whatisup/shared/httpapi"
	"whatisup/shared/httpapi/apitest"
	"whatisup/shared/whatisup"
)

func TestDocumentIsOpenAPI(t *testing.T) {
	t.Parallel()
	apitest.Valid(t)
}

// document is what the tests below read of openapi.json.
type document struct {
	Tags []struct {
		Name, Description string
	}
	Paths      map[string]map[string]json.RawMessage
	Components struct {
		Schemas    map[string]schema
		Parameters map[string]struct {
			Description string
			Schema      struct{ Items schema }
		}
		Responses map[string]struct{ Description string }
	}
}

type schema struct {
	Description   string
	Enum          []string
	Open          []string `json:"x-extensible-enum"`
	Const         string
	Properties    map[string]schema
	Discriminator struct{ Mapping map[string]string }
}

// described is an operation with all that a reader needs.
type described struct {
	OperationID string
	Summary     string
	Description string
	Tags        []string
	RequestBody struct{ Content map[string]media }
	Responses   map[string]struct {
		Ref         string `json:"$ref"`
		Description string
		Content     map[string]media
	}
}

type media struct{ Example any }

func readDocument(t *testing.T) document {
	t.Helper()
	var doc document
	if err := json.Unmarshal(httpapi.OpenAPI, &doc); err != nil {
		t.Fatal(err)
	}
	return doc
}

// operations are the document's operations by method and path.
func (d *document) operations(t *testing.T) map[string]described {
	t.Helper()
	all := map[string]described{}
	for path, item := range d.Paths {
		for method, raw := range item {
			if method == "parameters" {
				continue
			}
			var op described
			if err := json.Unmarshal(raw, &op); err != nil {
				t.Fatal(err)
			}
			all[strings.ToUpper(method)+" "+path] = op
		}
	}
	return all
}

// The document and the code have the same routes, codes, statuses, reasons,
// events and faults.
func TestDocumentAndCodeAgree(t *testing.T) {
	t.Parallel()
	doc := readDocument(t)

	var documented, coded []string
	for route, op := range doc.operations(t) {
		documented = append(documented, route+" "+op.OperationID)
	}
	for _, r := range httpapi.Routes {
		coded = append(coded, r.Method+" "+r.Path+" "+r.Operation)
	}
	same(t, "routes", documented, coded)

	reasons := map[string]bool{}
	for _, m := range whatisup.Meanings {
		if m.Reason != "" {
			reasons[string(m.Reason)] = true
		}
	}

	s := doc.Components.Schemas
	same(t, "codes", s["ErrorCode"].Open, texts(whatisup.Codes()))
	same(t, "codes of messages", s["MessageErrorCode"].Open, texts(whatisup.MessageCodes()))
	same(t, "statuses", s["Status"].Enum, texts(whatisup.Statuses))
	same(t, "reasons", s["Reason"].Open, slices.Collect(maps.Keys(reasons)))
	same(t, "faults", s["SandboxFault"].Properties["kind"].Enum, slices.Clone(httpapi.Faults))

	mapping := s["Event"].Discriminator.Mapping
	same(t, "events", slices.Collect(maps.Keys(mapping)), append(texts(whatisup.EventNames), string(whatisup.StreamOpened)))
	same(t, "events of the filter", doc.Components.Parameters["EventNames"].Schema.Items.Open, texts(whatisup.EventNames))
	for name, ref := range mapping {
		component := strings.TrimPrefix(ref, "#/components/schemas/")
		if got := s[component].Properties["event"].Const; got != name {
			t.Errorf("%s is mapped to %s, whose event is %q", name, component, got)
		}
	}
}

// Each answer lists the codes that can come with its status.
func TestAnswersListTheirCodes(t *testing.T) {
	t.Parallel()
	doc := readDocument(t)

	statusOf := map[string]string{} // of a response component
	for _, op := range doc.operations(t) {
		for status, r := range op.Responses {
			if name, ok := strings.CutPrefix(r.Ref, "#/components/responses/"); ok {
				statusOf[name] = status
			}
		}
	}

	for name, r := range doc.Components.Responses {
		status, err := strconv.Atoi(statusOf[name])
		if err != nil {
			t.Errorf("no operation answers with %s", name)
			continue
		}
		var want []string
		for _, c := range whatisup.Codes() {
			if c.Status() == status {
				want = append(want, string(c))
			}
		}
		_, list, _ := strings.Cut(strings.TrimSuffix(r.Description, "."), "Codes: ")
		same(t, fmt.Sprintf("codes of %d", status), strings.Split(list, ", "), want)
	}
}

// A reader finds a description of everything, and an example of every body.
func TestDocumentIsDescribed(t *testing.T) {
	t.Parallel()
	doc := readDocument(t)
	need := func(what, text string) {
		if text == "" {
			t.Errorf("%s has no description", what)
		}
	}

	tags := map[string]bool{}
	for _, tag := range doc.Tags {
		need("the tag "+tag.Name, tag.Description)
		tags[tag.Name] = true
	}
	for name, p := range doc.Components.Parameters {
		need("the parameter "+name, p.Description)
	}
	for name, s := range doc.Components.Schemas {
		need("the schema "+name, s.Description)
	}

	for route, op := range doc.operations(t) {
		need(route, op.Summary)
		need(route, op.Description)
		if len(op.Tags) != 1 || !tags[op.Tags[0]] {
			t.Errorf("%s has the tags %q, not one that is described", route, op.Tags)
		}
		if m, ok := op.RequestBody.Content["application/json"]; ok && m.Example == nil {
			t.Errorf("the body of %s has no example", route)
		}
		for status, r := range op.Responses {
			if r.Ref == "" {
				need(route+" "+status, r.Description)
			}
			if m, ok := r.Content["application/json"]; ok && m.Example == nil && op.OperationID != "getOpenAPI" {
				t.Errorf("the %s of %s has no example", status, route)
			}
		}
	}
}

func texts[S ~string](values []S) []string {
	all := make([]string, len(values))
	for i, v := range values {
		all[i] = string(v)
	}
	return all
}

func same(t *testing.T, what string, a, b []string) {
	t.Helper()
	slices.Sort(a)
	slices.Sort(b)
	if !slices.Equal(a, b) {
		t.Errorf("%s: the document has\n%q, the code\n%q", what, a, b)
	}
}
