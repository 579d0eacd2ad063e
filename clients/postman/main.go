// Command postman writes the API as a collection for Postman and for the programs that
// read its form, as Bruno does, from the OpenAPI document. Run it in the
// repository's root when the document has changed: `go run ./clients/postman`.
//
// Whoever imports the collection sets two variables of it: base_url and key. Requests
// that make something keep its id, so that the next one is about it.
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
)

// Where the document is and where the collection belongs, from the root.
const (
	document   = "shared/httpapi/openapi.json"
	collection = "clients/postman/whatisup.postman_collection.json"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "postman:", err)
		os.Exit(1)
	}
}

func run() error {
	text, err := os.ReadFile(document)
	if err != nil {
		return err
	}
	made, err := Collection(text)
	if err != nil {
		return err
	}
	return os.WriteFile(collection, made, 0o644)
}

// The parts of an OpenAPI document that a collection has too.
type (
	openAPI struct {
		Info       struct{ Title, Description string }
		Tags       []struct{ Name, Description string }
		Paths      ordered
		Components struct{ Parameters map[string]parameter }
	}
	operation struct {
		OperationID, Summary, Description string
		Tags                              []string
		Parameters                        []parameter
		Security                          *[]json.RawMessage
		RequestBody                       struct {
			Content map[string]struct{ Example json.RawMessage }
		}
	}
	parameter struct {
		Ref                   string `json:"$ref"`
		Name, In, Description string
		Required              bool
		Example               any
	}
)

// ordered is an object whose members keep the document's order.
type ordered []member

type member struct {
	name  string
	value json.RawMessage
}

func (o *ordered) UnmarshalJSON(b []byte) error {
	d := json.NewDecoder(bytes.NewReader(b))
	if _, err := d.Token(); err != nil {
		return err
	}
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return err
		}
		m := member{name: fmt.Sprint(name)}
		if err := d.Decode(&m.value); err != nil {
			return err
		}
		*o = append(*o, m)
	}
	return nil
}

// The parts of a collection, version 2.1.
type (
	root struct {
		Info     info       `json:"info"`
		Auth     auth       `json:"auth"`
		Variable []variable `json:"variable"`
		Item     []folder   `json:"item"`
	}
	info struct {
		Name        string `json:"name"`
		Description string `json:"description"`
		Schema      string `json:"schema"`
	}
	auth struct {
		Type   string     `json:"type"`
		Bearer []variable `json:"bearer,omitempty"`
	}
	variable struct {
		Key         string `json:"key"`
		Value       string `json:"value"`
		Type        string `json:"type,omitempty"`
		Description string `json:"description,omitempty"`
		Disabled    bool   `json:"disabled,omitempty"`
	}
	folder struct {
		Name        string `json:"name"`
		Description string `json:"description"`
		Item        []item `json:"item"`
	}
	item struct {
		Name    string  `json:"name"`
		Event   []event `json:"event,omitempty"`
		Request request `json:"request"`
	}
	event struct {
		Listen string `json:"listen"`
		Script script `json:"script"`
	}
	script struct {
		Type string   `json:"type"`
		Exec []string `json:"exec"`
	}
	request struct {
		Method      string     `json:"method"`
		Auth        *auth      `json:"auth,omitempty"`
		Header      []variable `json:"header"`
		URL         address    `json:"url"`
		Body        *body      `json:"body,omitempty"`
		Description string     `json:"description"`
	}
	address struct {
		Raw   string     `json:"raw"`
		Host  []string   `json:"host"`
		Path  []string   `json:"path"`
		Query []variable `json:"query,omitempty"`
	}
	body struct {
		Mode    string `json:"mode"`
		Raw     string `json:"raw"`
		Options struct {
			Raw struct {
				Language string `json:"language"`
			} `json:"raw"`
		} `json:"options"`
	}
)

// ids are the variables of the parameters that are only called id, by what stands before
// them in the path.
var ids = map[string]string{
	"instances": "instance_id", "api-keys": "api_key_id",
	"webhook-endpoints": "webhook_endpoint_id", "webhook-deliveries": "webhook_delivery_id",
}

// keeps are the operations whose answer tells what others are about: the variable, and
// where in the answer it stands.
var keeps = map[string][2]string{
	"createInstance":        {"instance_id", "id"},
	"sendMessage":           {"message_id", "message_id"},
	"createAPIKey":          {"api_key_id", "id"},
	"createWebhookEndpoint": {"webhook_endpoint_id", "id"},
	"listWebhookDeliveries": {"webhook_delivery_id", "data?.[0]?.id"},
	"createMedia":           {"media_id", "media_id"},
	"createGroup":           {"group", "chat"},
}

// people are the variables that a test key can be tried with as they are.
var people = map[string]string{"contact": "5511987654321", "chat": "5511987654321", "phone_number": "5511987654321"}

// Collection makes the collection of an OpenAPI document.
func Collection(text []byte) ([]byte, error) {
	var doc openAPI
	if err := json.Unmarshal(text, &doc); err != nil {
		return nil, err
	}
	made := root{
		Info: info{doc.Info.Title, doc.Info.Description, "https://schema.getpostman.com/json/collection/v2.1.0/collection.json"},
		Auth: bearer(),
	}
	for _, t := range doc.Tags {
		made.Item = append(made.Item, folder{Name: t.Name, Description: t.Description})
	}
	used := make(map[string]string)
	for _, path := range doc.Paths {
		var methods ordered
		if err := json.Unmarshal(path.value, &methods); err != nil {
			return nil, err
		}
		for _, m := range methods {
			if m.name == "parameters" {
				continue // they stand in the path itself
			}
			var op operation
			if err := json.Unmarshal(m.value, &op); err != nil {
				return nil, fmt.Errorf("%s %s: %w", m.name, path.name, err)
			}
			request, err := doc.item(m.name, path.name, op, used)
			if err != nil {
				return nil, fmt.Errorf("%s %s: %w", m.name, path.name, err)
			}
			at := slices.IndexFunc(made.Item, func(f folder) bool { return slices.Contains(op.Tags, f.Name) })
			if at < 0 {
				return nil, fmt.Errorf("%s has no tag of the document", op.OperationID)
			}
			made.Item[at].Item = append(made.Item[at].Item, request)
		}
	}
	made.Variable = []variable{
		{Key: "base_url", Value: "http://localhost:8080", Description: "Where the API is, without /v1."},
		{Key: "key", Type: "secret", Description: "The API key: wiu_test_… or wiu_live_…."},
	}
	for _, name := range slices.Sorted(maps.Keys(used)) {
		made.Variable = append(made.Variable, variable{Key: name, Value: used[name]})
	}
	var out bytes.Buffer
	e := json.NewEncoder(&out)
	e.SetEscapeHTML(false)
	e.SetIndent("", " ")
	err := e.Encode(made)
	return out.Bytes(), err
}

func bearer() auth {
	return auth{Type: "bearer", Bearer: []variable{{Key: "token", Value: "{{key}}", Type: "string"}}}
}

// item is one operation. What its path needs is noted in used.
func (doc openAPI) item(method, path string, op operation, used map[string]string) (item, error) {
	r := request{Method: strings.ToUpper(method), Description: op.Description, Header: []variable{}}
	if op.Security != nil && len(*op.Security) == 0 {
		r.Auth = &auth{Type: "noauth"}
	}
	r.URL.Host = []string{"{{base_url}}"}
	before := ""
	for part := range strings.SplitSeq(strings.TrimPrefix(path, "/"), "/") {
		if name, ok := strings.CutPrefix(part, "{"); ok {
			name = strings.TrimSuffix(name, "}")
			if name == "id" {
				if name = ids[before]; name == "" {
					return item{}, fmt.Errorf("what is the id after %s called?", before)
				}
			}
			used[name] = people[name]
			part = "{{" + name + "}}"
		}
		before = part
		r.URL.Path = append(r.URL.Path, part)
	}
	r.URL.Raw = "{{base_url}}/" + strings.Join(r.URL.Path, "/")
	for _, p := range op.Parameters {
		if name, ok := strings.CutPrefix(p.Ref, "#/components/parameters/"); ok {
			p = doc.Components.Parameters[name]
		}
		if p.Name == "" {
			return item{}, fmt.Errorf("parameter %q is not in the document", p.Ref)
		}
		v := variable{Key: p.Name, Value: example(p.Example), Description: p.Description, Disabled: !p.Required}
		switch p.In {
		case "header":
			r.Header = append(r.Header, v)
		case "query":
			r.URL.Query = append(r.URL.Query, v)
		}
	}
	if c, ok := op.RequestBody.Content["application/json"]; ok {
		b := &body{Mode: "raw", Raw: "{}"}
		b.Options.Raw.Language = "json"
		if len(c.Example) > 0 {
			var out bytes.Buffer
			if err := json.Indent(&out, c.Example, "", "  "); err != nil {
				return item{}, err
			}
			b.Raw = instance.ReplaceAllString(out.String(), `"instance_id": "{{instance_id}}"`)
		}
		if strings.Contains(b.Raw, "{{instance_id}}") {
			used["instance_id"] = ""
		}
		r.Header = append(r.Header, variable{Key: "Content-Type", Value: "application/json"})
		r.Body = b
	}
	made := item{Name: op.Summary, Request: r}
	if k, ok := keeps[op.OperationID]; ok {
		made.Event = []event{{Listen: "test", Script: script{"text/javascript", []string{
			fmt.Sprintf("const made = pm.response.code < 300 && pm.response.json().%s;", k[1]),
			fmt.Sprintf("if (made) pm.collectionVariables.set(%q, made);", k[0]),
		}}}}
	}
	return made, nil
}

var instance = regexp.MustCompile(`"instance_id": "[^"]*"`)

// example is an example as it stands in a URL or header.
func example(value any) string {
	switch v := value.(type) {
	case nil:
		return ""
	case []any:
		var parts []string
		for _, p := range v {
			parts = append(parts, fmt.Sprint(p))
		}
		return strings.Join(parts, ",")
	}
	return fmt.Sprint(value)
}
