package template

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"time"
)

// Function is a Lambda function of the template.
type Function struct {
	Name     string        // of its folder under functions/
	Resource string        // its logical name
	Timeout  time.Duration // after which Lambda kills it
	MemoryMB int
	Streams  bool // has a URL of its own that streams
	Routes   []Route
	Triggers []Trigger
	Every    time.Duration  // the schedule that it is called on; 0: none
	Env      map[string]any // as written, with what holds for all functions
}

// Route is a route of the HTTP API.
type Route struct {
	Function string
	Method   string        // empty for $default
	Path     string        // empty for $default
	Timeout  time.Duration // after which API Gateway answers in the function's place
}

// Key is the route as API Gateway calls it.
func (r Route) Key() string {
	if r.Path == "" {
		return "$default"
	}
	return r.Method + " " + r.Path
}

// Trigger is a queue that a function is fed from.
type Trigger struct {
	Queue       any // as written
	BatchSize   int
	ItemFailure bool // the function says which messages it failed on
	Concurrency int  // how many batches at a time; 0: not said
}

// What SAM and API Gateway use where the template says nothing.
const (
	defaultTimeout     = 3 * time.Second
	defaultMemory      = 128
	defaultIntegration = 30 * time.Second
	defaultBatch       = 10
)

// Functions lists the functions by name.
func (t *Template) Functions() ([]Function, error) {
	var all []Function
	for _, r := range t.OfType("AWS::Serverless::Function") {
		f, err := t.function(r)
		if err != nil {
			return nil, fmt.Errorf("template: %s: %w", r.Name, err)
		}
		all = append(all, f)
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("template: no functions")
	}
	slices.SortFunc(all, func(a, b Function) int { return strings.Compare(a.Name, b.Name) })
	return all, nil
}

func (t *Template) function(r Resource) (Function, error) {
	code := text1(r.Properties["CodeUri"])
	if code == "" {
		return Function{}, fmt.Errorf("no CodeUri")
	}
	f := Function{
		Name:     path.Base(path.Clean(code)),
		Resource: r.Name,
		Timeout:  seconds(t.either(r, "Timeout"), defaultTimeout),
		MemoryMB: integer(t.either(r, "MemorySize"), defaultMemory),
		Streams:  text1(object(r.Properties["FunctionUrlConfig"])["InvokeMode"]) == "RESPONSE_STREAM",
		Env:      make(map[string]any),
	}
	maps.Copy(f.Env, object(object(t.globals["Environment"])["Variables"]))
	maps.Copy(f.Env, object(object(r.Properties["Environment"])["Variables"]))
	events := object(r.Properties["Events"])
	for _, name := range slices.Sorted(maps.Keys(events)) {
		event := object(events[name])
		p := object(event["Properties"])
		switch kind := text1(event["Type"]); kind {
		case "HttpApi":
			route := Route{Function: f.Name, Method: text1(p["Method"]), Path: text1(p["Path"]), Timeout: defaultIntegration}
			if ms := integer(p["TimeoutInMillis"], 0); ms > 0 {
				route.Timeout = time.Duration(ms) * time.Millisecond
			}
			if (route.Method == "") != (route.Path == "") {
				return Function{}, fmt.Errorf("event %s: method and path go together", name)
			}
			f.Routes = append(f.Routes, route)
		case "SQS":
			trigger := Trigger{Queue: p["Queue"], BatchSize: integer(p["BatchSize"], defaultBatch)}
			for _, kind := range list(p["FunctionResponseTypes"]) {
				trigger.ItemFailure = trigger.ItemFailure || kind == "ReportBatchItemFailures"
			}
			trigger.Concurrency = integer(object(p["ScalingConfig"])["MaximumConcurrency"], 0)
			f.Triggers = append(f.Triggers, trigger)
		case "Schedule":
			minutes := 0
			if _, err := fmt.Sscanf(text1(p["Schedule"]), "rate(%d minute", &minutes); err != nil || minutes < 1 {
				return Function{}, fmt.Errorf("event %s: the schedule %q is not known here", name, text1(p["Schedule"]))
			}
			f.Every = time.Duration(minutes) * time.Minute
		default:
			return Function{}, fmt.Errorf("event %s: type %q is not known here", name, kind)
		}
	}
	return f, nil
}

func (t *Template) either(r Resource, property string) any {
	if v, ok := r.Properties[property]; ok {
		return v
	}
	return t.globals[property]
}

// Resource is the logical name of the queue.
func (t Trigger) Resource() string {
	name, _, _ := strings.Cut(text1(object(t.Queue)["Fn::GetAtt"]), ".")
	return name
}

func list(v any) []any {
	l, _ := v.([]any)
	return l
}

func integer(v any, otherwise int) int {
	if n, ok := v.(int); ok {
		return n
	}
	return otherwise
}

func seconds(v any, otherwise time.Duration) time.Duration {
	if n, ok := v.(int); ok {
		return time.Duration(n) * time.Second
	}
	return otherwise
}
