// Package apitest holds answers of the API against its OpenAPI document, in
// tests: every answer whole, and every request that the API took as valid.
package apitest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/pb33f/libopenapi"
	validator "github.com/pb33f/libopenapi-validator"

	"whatisup/shared/httpapi"
	"whatisup/shared/whatisup"
)

// document is the validator, made once: compiling the schemas takes a while.
var document = sync.OnceValues(func() (validator.Validator, error) {
	strict, err := closed(httpapi.OpenAPI)
	if err != nil {
		return nil, err
	}
	d, err := libopenapi.NewDocument(strict)
	if err != nil {
		return nil, err
	}
	v, errs := validator.NewValidator(d)
	if len(errs) > 0 {
		return nil, errs[0]
	}
	return v, nil
})

// closed returns the document without its openness. Clients must accept fields
// and values that they don't know, so the document allows them; our own answers
// may have none that the document doesn't list.
func closed(doc []byte) ([]byte, error) {
	var tree any
	if err := json.Unmarshal(doc, &tree); err != nil {
		return nil, err
	}
	closeAll(tree)
	return json.Marshal(tree)
}

func closeAll(node any) {
	switch node := node.(type) {
	case []any:
		for _, n := range node {
			closeAll(n)
		}
	case map[string]any:
		if values, ok := node["x-extensible-enum"].([]any); ok {
			node["enum"] = values
		}
		if _, ok := node["properties"].(map[string]any); ok && node["additionalProperties"] == nil {
			node["additionalProperties"] = false
		}
		for _, n := range node {
			closeAll(n)
		}
	}
}

// Valid holds the document itself against the OpenAPI 3.1 schema.
func Valid(t testing.TB) {
	t.Helper()
	v, err := document()
	if err != nil {
		t.Fatal(err)
	}
	if ok, problems := v.ValidateDocument(); !ok {
		for _, p := range problems {
			t.Errorf("openapi.json: %s: %s", p.Message, p.Reason)
			for _, s := range p.SchemaValidationErrors {
				t.Errorf("  %s: %s", s.FieldPath, s.Reason)
			}
		}
	}
}

// Client is an HTTP client whose every exchange is held against the document.
func Client(t testing.TB) *http.Client {
	return &http.Client{Transport: Transport(t, http.DefaultTransport)}
}

// Transport holds every exchange over base against the document. What does not
// agree fails the test. The frames of an event stream are not looked at here.
func Transport(t testing.TB, base http.RoundTripper) http.RoundTripper {
	return &transport{t: t, base: base}
}

type transport struct {
	t    testing.TB
	base http.RoundTripper
}

// refused are the statuses that say that the request itself was wrong.
var refused = []int{400, 401, 403, 404, 405, 413, 415, 429}

func (tr *transport) RoundTrip(r *http.Request) (*http.Response, error) {
	var sent []byte
	if r.Body != nil {
		var err error
		if sent, err = io.ReadAll(r.Body); err != nil {
			return nil, err
		}
		r.Body.Close()
		r.Body = io.NopCloser(bytes.NewReader(sent))
	}
	resp, err := tr.base.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	if strings.HasPrefix(resp.Header.Get("Content-Type"), "text/event-stream") {
		return resp, nil
	}
	got, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	if err != nil {
		return nil, err
	}
	if problems := Check(r, sent, resp, got); len(problems) > 0 {
		tr.t.Errorf("%s %s answered %d, which openapi.json doesn't allow:\n%s\nbody: %.500s",
			r.Method, r.URL, resp.StatusCode, strings.Join(problems, "\n"), got)
	}
	resp.Body = io.NopCloser(bytes.NewReader(got))
	return resp, nil
}

// Check lists what is wrong with an exchange.
func Check(r *http.Request, sent []byte, resp *http.Response, got []byte) []string {
	var problems []string
	if resp.Header.Get("Cache-Control") != "no-store" {
		problems = append(problems, "no Cache-Control: no-store")
	}
	if id := resp.Header.Get("X-Request-Id"); len(id) != 36 || !strings.HasPrefix(id, "req_") {
		problems = append(problems, fmt.Sprintf("X-Request-Id is %q", id))
	}
	if resp.StatusCode >= 400 && r.Method != http.MethodHead {
		problems = append(problems, checkError(resp, got)...)
	}
	if !documented(r) || resp.StatusCode == http.StatusMethodNotAllowed {
		// The dashboard's files are outside /v1.
		if resp.StatusCode < 400 && r.Method != http.MethodHead && r.Method != http.MethodOptions && strings.HasPrefix(r.URL.Path, "/v1") {
			problems = append(problems, "the route is not documented")
		}
		return problems
	}
	v, err := document()
	if err != nil {
		return append(problems, err.Error())
	}
	copied := r.Clone(r.Context())
	copied.Body = io.NopCloser(bytes.NewReader(sent))
	copied.ContentLength = int64(len(sent))
	if !slices.Contains(refused, resp.StatusCode) {
		if len(sent) == 0 {
			copied.Body = http.NoBody
		}
		if ok, errs := v.ValidateHttpRequestSync(copied); !ok {
			for _, e := range errs {
				problems = append(problems, "request: "+e.Message+": "+e.Reason)
			}
		}
	}
	if resp.StatusCode == http.StatusNoContent {
		if len(got) > 0 {
			problems = append(problems, "204 with a body")
		}
		return problems
	}
	asOwnPath(copied, resp)
	answer := *resp
	answer.Body = io.NopCloser(bytes.NewReader(got))
	if ok, errs := v.ValidateHttpResponse(copied, &answer); !ok {
		for _, e := range errs {
			problems = append(problems, "answer: "+e.Message+": "+e.Reason)
			for _, s := range e.SchemaValidationErrors {
				problems = append(problems, "  "+s.FieldPath+": "+s.Reason)
			}
		}
	}
	return problems
}

// asOwnPath gives an answer that the request's Accept chose the path at which the
// document has it: there each path has one type. An id that is a dot segment becomes
// another one that does not exist: the validator takes no such path, since routers
// differ over it. Ours compares segments as they are.
func asOwnPath(r *http.Request, resp *http.Response) {
	segments := strings.Split(r.URL.Path, "/")
	for i, s := range segments {
		if s == "." || s == ".." {
			segments[i] = "none"
		}
	}
	r.URL.Path = strings.Join(segments, "/")
	switch kind := resp.Header.Get("Content-Type"); {
	case resp.StatusCode != http.StatusOK:
	case r.URL.Path == "/v1/events" && kind == "application/json":
		r.URL.Path = "/v1/event-log"
	case strings.HasSuffix(r.URL.Path, "/qr") && kind == "image/png":
		r.URL.Path += ".png"
	}
}

// documented says whether the document has the request's route.
func documented(r *http.Request) bool {
	for _, route := range httpapi.Routes {
		if route.Method != r.Method {
			continue
		}
		if _, ok := httpapi.Match(route.Path, r.URL); ok {
			return true
		}
	}
	return false
}

// checkError holds an error against its one shape and its code's status.
func checkError(resp *http.Response, got []byte) []string {
	var e struct {
		Error struct {
			Code    whatisup.Code  `json:"code"`
			Message string         `json:"message"`
			Details map[string]any `json:"details"`
		} `json:"error"`
		RequestID string `json:"request_id"`
	}
	d := json.NewDecoder(bytes.NewReader(got))
	d.DisallowUnknownFields()
	if err := d.Decode(&e); err != nil {
		return []string{"not an error of the API: " + err.Error()}
	}
	var problems []string
	if !slices.Contains(whatisup.Codes(), e.Error.Code) || e.Error.Code.Status() != resp.StatusCode {
		problems = append(problems, fmt.Sprintf("code %q with status %d", e.Error.Code, resp.StatusCode))
	}
	replayed := resp.Header.Get("Idempotency-Replayed") != "" // the body is the first answer's
	if e.Error.Message == "" || e.RequestID != resp.Header.Get("X-Request-Id") && !replayed {
		problems = append(problems, "message or request_id is wrong")
	}
	if retry := resp.StatusCode == 429 || resp.StatusCode == 503; retry && resp.Header.Get("Retry-After") == "" {
		problems = append(problems, "no Retry-After")
	}
	return problems
}
