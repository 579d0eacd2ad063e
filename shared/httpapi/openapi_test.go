package httpapi_test

import (
	"encoding/json"
	"slices"
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

// What the code has the document has, and the other way round.
func TestDocumentAndCodeAgree(t *testing.T) {
	t.Parallel()
	var doc struct {
		Paths      map[string]map[string]json.RawMessage
		Components struct {
			Schemas map[string]struct {
				Enum       []string
				Properties map[string]struct {
					Enum       []string
					Properties map[string]struct{ Enum []string }
				}
			}
		}
	}
	if err := json.Unmarshal(httpapi.OpenAPI, &doc); err != nil {
		t.Fatal(err)
	}
	var documented, coded []string
	for path, operations := range doc.Paths {
		for method, raw := range operations {
			if method == "parameters" {
				continue
			}
			var op struct{ OperationID string }
			if err := json.Unmarshal(raw, &op); err != nil {
				t.Fatal(err)
			}
			documented = append(documented, strings.ToUpper(method)+" "+path+" "+op.OperationID)
		}
	}
	for _, r := range httpapi.Routes {
		coded = append(coded, r.Method+" "+r.Path+" "+r.Operation)
	}
	same(t, "routes", documented, coded)
	var codes, statuses, events []string
	for _, c := range whatisup.Codes() {
		codes = append(codes, string(c))
	}
	for _, s := range whatisup.Statuses {
		statuses = append(statuses, string(s))
	}
	for _, e := range whatisup.EventNames {
		events = append(events, string(e))
	}
	reasons := map[string]bool{}
	for _, m := range whatisup.Meanings {
		if m.Reason != "" {
			reasons[string(m.Reason)] = true
		}
	}
	var reasonList []string
	for r := range reasons {
		reasonList = append(reasonList, r)
	}
	s := doc.Components.Schemas
	same(t, "codes", s["Error"].Properties["error"].Properties["code"].Enum, codes)
	same(t, "statuses", s["Status"].Enum, statuses)
	same(t, "reasons", s["Reason"].Enum, reasonList)
	same(t, "events", s["Event"].Properties["event"].Enum, events)
	same(t, "faults", s["Fault"].Properties["kind"].Enum, slices.Clone(httpapi.Faults))
}

func same(t *testing.T, what string, a, b []string) {
	t.Helper()
	slices.Sort(a)
	slices.Sort(b)
	if !slices.Equal(a, b) {
		t.Errorf("%s: the document has\n%q, the code\n%q", what, a, b)
	}
}
