package template

import (
	"reflect"
	"testing"
	"time"
)

const text = `
Parameters:
  Image: {Type: String, Default: ""}
  Count: {Type: Number, Default: 2}
  Urls: {Type: CommaDelimitedList, Default: ""}
  Needed: {Type: String}
Conditions:
  HasImage: !Not [!Equals [!Ref Image, ""]]
  HasBoth: !And [!Condition HasImage, !Equals [!Ref Count, 2]]
  HasAny: !Or [!Condition HasImage, !Equals [!Ref Count, 2]]
Rules:
  ImageHasUrls:
    RuleCondition: !Not [!Equals [!Ref Image, ""]]
    Assertions:
      - {Assert: !Not [!Contains [!Ref Urls, ""]], AssertDescription: Image needs Urls.}
  FewOnly:
    Assertions:
      - {Assert: !Contains [["1", "2"], !Ref Count], AssertDescription: Count is 1 or 2.}
Globals:
  Function:
    Timeout: 15
    Environment: {Variables: {SHARED: 1, BOTH: global}}
Resources:
  OneFunction:
    Type: AWS::Serverless::Function
    Properties:
      CodeUri: .build/one/
      MemorySize: 256
      Environment: {Variables: {BOTH: own}}
      Events:
        Default: {Type: HttpApi, Properties: {ApiId: !Ref Api}}
        Get: {Type: HttpApi, Properties: {Method: GET, Path: "/a/{id}", TimeoutInMillis: 500}}
  TwoFunction:
    Type: AWS::Serverless::Function
    Properties:
      CodeUri: .build/two/
      Timeout: 30
      FunctionUrlConfig: {AuthType: NONE, InvokeMode: RESPONSE_STREAM}
      Events:
        Q: {Type: SQS, Properties: {Queue: !GetAtt Queue.Arn, BatchSize: 5, FunctionResponseTypes: [ReportBatchItemFailures]}}
  Queue:
    Type: AWS::SQS::Queue
    Condition: HasImage
`

func parse(t *testing.T) *Template {
	t.Helper()
	parsed, err := Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return parsed
}

func TestFunctions(t *testing.T) {
	t.Parallel()
	all, err := parse(t).Functions()
	if err != nil {
		t.Fatal(err)
	}
	want := []Function{
		{
			Name: "one", Resource: "OneFunction", Timeout: 15 * time.Second, MemoryMB: 256,
			Routes: []Route{
				{Function: "one", Timeout: 30 * time.Second},
				{Function: "one", Method: "GET", Path: "/a/{id}", Timeout: 500 * time.Millisecond},
			},
			Env: map[string]any{"SHARED": 1, "BOTH": "own"},
		},
		{
			Name: "two", Resource: "TwoFunction", Timeout: 30 * time.Second, MemoryMB: 128, Streams: true,
			Triggers: []Trigger{{Queue: map[string]any{"Fn::GetAtt": "Queue.Arn"}, BatchSize: 5, ItemFailure: true}},
			Env:      map[string]any{"SHARED": 1, "BOTH": "global"},
		},
	}
	if !reflect.DeepEqual(all, want) {
		t.Errorf("got\n%+v, want\n%+v", all, want)
	}
}

func TestResolve(t *testing.T) {
	t.Parallel()
	parsed := parse(t)
	known := Values{"AWS::Region": "r", "Queue": "url", "Queue.Arn": "arn", "Image": "i", "Urls": "a,b"}
	ref := func(name string) any { return map[string]any{"Ref": name} }
	for name, c := range map[string]struct{ in, want any }{
		"parameter":        {ref("Count"), 2},
		"given parameter":  {ref("Image"), "i"},
		"list":             {ref("Urls"), []any{"a", "b"}},
		"resource":         {ref("Queue"), "url"},
		"attribute":        {map[string]any{"Fn::GetAtt": []any{"Queue", "Arn"}}, "arn"},
		"text":             {map[string]any{"Fn::Sub": "${AWS::Region}-${Queue.Arn}-${!literal}"}, "r-arn-${!literal}"},
		"chosen":           {map[string]any{"Fn::If": []any{"HasBoth", "yes", "no"}}, "yes"},
		"joined":           {map[string]any{"Fn::Join": []any{",", []any{"x", ref("Queue")}}}, "x,url"},
		"split, selected":  {map[string]any{"Fn::Select": []any{1, map[string]any{"Fn::Split": []any{",", "a,b"}}}}, "b"},
		"left out of maps": {map[string]any{"a": ref("AWS::NoValue"), "b": 1}, map[string]any{"b": 1}},
		"left out of list": {[]any{1, ref("AWS::NoValue")}, []any{1}},
		"statement with a condition": {
			map[string]any{"Condition": map[string]any{"Null": map[string]any{"k": "false"}}},
			map[string]any{"Condition": map[string]any{"Null": map[string]any{"k": "false"}}},
		},
	} {
		got, err := parsed.Resolve(c.in, known)
		if err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: got %#v, %v; want %#v", name, got, err, c.want)
		}
	}
	for name, bad := range map[string]any{
		"unknown resource":    ref("Nothing"),
		"missing parameter":   ref("Needed"),
		"unknown function":    map[string]any{"Fn::Cidr": []any{}},
		"unknown condition":   map[string]any{"Fn::If": []any{"HasNothing", 1, 2}},
		"unknown name within": map[string]any{"Fn::Sub": "${Nothing}"},
	} {
		if got, err := parsed.Resolve(bad, known); err == nil {
			t.Errorf("%s: got %v", name, got)
		}
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	parsed := parse(t)
	for _, c := range []struct {
		known Values
		want  []string
	}{
		{Values{}, nil},
		{Values{"Image": "i", "Urls": "a"}, nil},
		{Values{"Image": "i"}, []string{"Image needs Urls."}},
		{Values{"Image": "i", "Count": 3}, []string{"Count is 1 or 2.", "Image needs Urls."}},
	} {
		got, err := parsed.Refusals(c.known)
		if err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%v: got %q, %v; want %q", c.known, got, err, c.want)
		}
	}
}

func TestHolds(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]bool{"": true, "HasImage": false, "HasBoth": false, "HasAny": true} {
		got, err := parse(t).Holds(name, nil)
		if err != nil || got != want {
			t.Errorf("%q: %v, %v; want %v", name, got, err, want)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	t.Parallel()
	for name, bad := range map[string]string{
		"nothing":         "",
		"no resources":    "Parameters: {}",
		"twice":           "Resources:\n  A: {Type: x}\n  A: {Type: y}",
		"aliases":         "Resources:\n  A: &a {Type: x}\n  B: *a",
		"what is no YAML": "Resources: [",
	} {
		if _, err := Parse([]byte(bad)); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
}
