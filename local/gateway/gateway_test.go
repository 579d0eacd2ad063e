package gateway

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-lambda-go/lambdacontext"

	"whatisup/local/gateway/template"
)

const small = `
Globals: {Function: {Timeout: 15}}
Resources:
  InstancesFunction:
    Type: AWS::Serverless::Function
    Properties:
      CodeUri: .build/instances/
      Events:
        Default: {Type: HttpApi, Properties: {ApiId: !Ref Api}}
        List: {Type: HttpApi, Properties: {Method: GET, Path: /v1/instances}}
        Get: {Type: HttpApi, Properties: {Method: GET, Path: "/v1/instances/{id}"}}
        Special: {Type: HttpApi, Properties: {Method: GET, Path: /v1/instances/special}}
        Slow: {Type: HttpApi, Properties: {Method: POST, Path: /slow, TimeoutInMillis: 5000}}
  EventsFunction:
    Type: AWS::Serverless::Function
    Properties:
      CodeUri: .build/events/
      FunctionUrlConfig: {AuthType: NONE, InvokeMode: RESPONSE_STREAM}
      Events:
        Log: {Type: HttpApi, Properties: {Method: GET, Path: /v1/events}}
`

func parse(t *testing.T, text string) *template.Template {
	t.Helper()
	parsed, err := template.Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return parsed
}

// serve returns a gateway over the small template whose functions are h.
func serve(t *testing.T, h Handler) *Gateway {
	t.Helper()
	g, err := New(Config{
		Template:  parse(t, small),
		Functions: map[string]Handler{"instances": h},
		Streams: map[string]http.Handler{"events": http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			io.WriteString(w, "streamed "+r.URL.RawQuery)
		})},
		Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.Wait)
	return g
}

// record returns a handler that keeps the event it was given, as it looks after
// the way through JSON that it has in AWS.
func record(t *testing.T, into *events.APIGatewayV2HTTPRequest) Handler {
	return func(_ context.Context, e events.APIGatewayV2HTTPRequest) (events.APIGatewayV2HTTPResponse, error) {
		b, err := json.Marshal(e)
		if err != nil {
			t.Error(err)
		}
		if err := json.Unmarshal(b, into); err != nil {
			t.Error(err)
		}
		return events.APIGatewayV2HTTPResponse{StatusCode: 204}, nil
	}
}

func TestEvent(t *testing.T) {
	t.Parallel()
	var e events.APIGatewayV2HTTPRequest
	g := serve(t, record(t, &e))
	r := httptest.NewRequest("GET", "/v1/instances/a%20b%3Fc?tag=1&tag=2&x=%2Fy&flag", nil)
	r.Host = "api.example.com:8080"
	r.RemoteAddr = "192.0.2.7:5555"
	r.Header.Add("X-Many", "one")
	r.Header.Add("X-Many", "two")
	r.Header.Add("Cookie", "a=1; b=2")
	r.Header.Add("Connection", "keep-alive")
	r.Header.Set("X-Forwarded-For", "198.51.100.1")
	r.Header.Set("User-Agent", "tester")
	before := time.Now().UnixMilli()
	w := httptest.NewRecorder()
	g.ServeHTTP(w, r)
	if w.Code != 204 {
		t.Fatalf("status %d, want 204", w.Code)
	}
	want := map[string][2]string{
		"version":          {e.Version, "2.0"},
		"route key":        {e.RouteKey, "GET /v1/instances/{id}"},
		"raw path":         {e.RawPath, "/v1/instances/a b"},
		"id":               {e.PathParameters["id"], "a b"},
		"raw query":        {e.RawQueryString, "tag=1&tag=2&x=%2Fy&flag"},
		"tag":              {e.QueryStringParameters["tag"], "1,2"},
		"x":                {e.QueryStringParameters["x"], "/y"},
		"many":             {e.Headers["x-many"], "one,two"},
		"cookies":          {strings.Join(e.Cookies, "|"), "a=1|b=2"},
		"cookie header":    {e.Headers["cookie"], ""},
		"connection":       {e.Headers["connection"], ""},
		"host":             {e.Headers["host"], "api.example.com:8080"},
		"domain":           {e.RequestContext.DomainName, "api.example.com"},
		"forwarded for":    {e.Headers["x-forwarded-for"], "198.51.100.1, 192.0.2.7"},
		"source ip":        {e.RequestContext.HTTP.SourceIP, "192.0.2.7"},
		"stage":            {e.RequestContext.Stage, "$default"},
		"method":           {e.RequestContext.HTTP.Method, "GET"},
		"user agent":       {e.RequestContext.HTTP.UserAgent, "tester"},
		"request id shown": {w.Header().Get("Apigw-Requestid"), e.RequestContext.RequestID},
	}
	for what, v := range want {
		if v[0] != v[1] {
			t.Errorf("%s is %q, want %q", what, v[0], v[1])
		}
	}
	if e.RequestContext.RequestID == "" {
		t.Error("no request id")
	}
	if at := e.RequestContext.TimeEpoch; at < before || at > time.Now().UnixMilli() {
		t.Errorf("timeEpoch %d is not the time of the request", at)
	}
}

func TestBody(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		contentType, encoding, body string
		base64                      bool
	}{
		"json":              {"application/json; charset=utf-8", "", `{"a":"ä"}`, false},
		"no type":           {"", "", "plain", true},
		"broken type":       {"json", "", "plain", true},
		"text":              {"text/csv; charset=utf-8", "", "a,b", false},
		"xml":               {"application/xml", "", "<a/>", false},
		"capitals":          {"Application/JSON", "", "{}", false},
		"json of a kind":    {"application/merge-patch+json", "", "{}", true},
		"xml of a kind":     {"image/svg+xml", "", "<svg/>", true},
		"form":              {"application/x-www-form-urlencoded", "", "a=1", true},
		"binary":            {"application/octet-stream", "", "x", true},
		"json, compressed":  {"application/json", "gzip", "x", true},
		"json, not unicode": {"application/json", "", "\xff\xfe", true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var e events.APIGatewayV2HTTPRequest
			r := httptest.NewRequest("POST", "/slow", strings.NewReader(c.body))
			if c.contentType != "" {
				r.Header.Set("Content-Type", c.contentType)
			}
			if c.encoding != "" {
				r.Header.Set("Content-Encoding", c.encoding)
			}
			serve(t, record(t, &e)).ServeHTTP(httptest.NewRecorder(), r)
			got := e.Body
			if e.IsBase64Encoded {
				b, err := base64.StdEncoding.DecodeString(e.Body)
				if err != nil {
					t.Fatal(err)
				}
				got = string(b)
			}
			if got != c.body || e.IsBase64Encoded != c.base64 {
				t.Errorf("body %q, base64 %v; want %q, %v", got, e.IsBase64Encoded, c.body, c.base64)
			}
		})
	}
}

func TestRoutes(t *testing.T) {
	t.Parallel()
	for path, want := range map[string]string{
		"GET /v1/instances":          "GET /v1/instances",
		"GET /v1/instances/":         "$default",
		"GET /v1/instances/special":  "GET /v1/instances/special",
		"GET /v1/instances/x":        "GET /v1/instances/{id}",
		"GET /v1/instances/x/y":      "$default",
		"GET /v1/instances/a%2Fb":    "$default", // decoded before it is matched
		"DELETE /v1/instances/x":     "$default",
		"HEAD /v1/instances":         "$default",
		"GET /":                      "$default",
		"GET //v1/instances":         "$default",
		"OPTIONS /v1/instances":      "$default",
		"GET /v1/../v1/instances":    "$default",
		"GET /V1/instances":          "$default",
		"POST /v1/instances/special": "$default",
	} {
		var e events.APIGatewayV2HTTPRequest
		method, target, _ := strings.Cut(path, " ")
		serve(t, record(t, &e)).ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(method, "http://h"+target, nil))
		if e.RouteKey != want {
			t.Errorf("%s went to %q, want %q", path, e.RouteKey, want)
		}
	}
}

func TestStreamOnSameOrigin(t *testing.T) {
	t.Parallel()
	w := httptest.NewRecorder()
	serve(t, record(t, new(events.APIGatewayV2HTTPRequest))).ServeHTTP(w, httptest.NewRequest("GET", "/v1/events?a=1", nil))
	if w.Body.String() != "streamed a=1" {
		t.Errorf("got %q", w.Body)
	}
}

func TestResponse(t *testing.T) {
	t.Parallel()
	answer := func(r events.APIGatewayV2HTTPResponse, err error) Handler {
		return func(context.Context, events.APIGatewayV2HTTPRequest) (events.APIGatewayV2HTTPResponse, error) {
			return r, err
		}
	}
	failed := `{"message":"Internal Server Error"}`
	for name, c := range map[string]struct {
		handler Handler
		status  int
		body    string
		header  map[string]string
	}{
		"text": {answer(events.APIGatewayV2HTTPResponse{
			StatusCode: 201, Body: "hello", Headers: map[string]string{"content-type": "text/x", "connection": "close", "content-length": "999"},
		}, nil), 201, "hello", map[string]string{"Content-Type": "text/x", "Connection": "", "Content-Length": "5"}},
		"binary": {answer(events.APIGatewayV2HTTPResponse{StatusCode: 200, Body: "AAE=", IsBase64Encoded: true}, nil), 200, "\x00\x01", nil},
		"cookie": {answer(events.APIGatewayV2HTTPResponse{StatusCode: 200, Cookies: []string{"a=1"}}, nil), 200, "", map[string]string{"Set-Cookie": "a=1"}},
		"multi-value headers are ignored": {answer(events.APIGatewayV2HTTPResponse{
			StatusCode: 200, MultiValueHeaders: map[string][]string{"X-A": {"1"}},
		}, nil), 200, "", map[string]string{"X-A": ""}},
		"default type":  {answer(events.APIGatewayV2HTTPResponse{StatusCode: 200, Body: "x"}, nil), 200, "x", map[string]string{"Content-Type": "text/plain;charset=utf-8"}},
		"no status":     {answer(events.APIGatewayV2HTTPResponse{}, nil), 500, failed, nil},
		"error":         {answer(events.APIGatewayV2HTTPResponse{StatusCode: 200}, errors.New("secret")), 500, failed, nil},
		"broken base64": {answer(events.APIGatewayV2HTTPResponse{StatusCode: 200, Body: "?", IsBase64Encoded: true}, nil), 500, failed, nil},
		"too large":     {answer(events.APIGatewayV2HTTPResponse{StatusCode: 200, Body: strings.Repeat("x", 7<<20)}, nil), 500, failed, nil},
		"a crash is a 500": {func(context.Context, events.APIGatewayV2HTTPRequest) (events.APIGatewayV2HTTPResponse, error) {
			panic("x")
		}, 500, failed, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := httptest.NewRecorder()
			serve(t, c.handler).ServeHTTP(w, httptest.NewRequest("GET", "/v1/instances", nil))
			if w.Code != c.status || w.Body.String() != c.body {
				t.Errorf("got %d %.80q, want %d %q", w.Code, w.Body, c.status, c.body)
			}
			for name, want := range c.header {
				if got := w.Header().Get(name); got != want {
					t.Errorf("%s is %q, want %q", name, got, want)
				}
			}
		})
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	called := false
	g := serve(t, func(context.Context, events.APIGatewayV2HTTPRequest) (events.APIGatewayV2HTTPResponse, error) {
		called = true
		return events.APIGatewayV2HTTPResponse{StatusCode: 204}, nil
	})
	for name, c := range map[string]struct {
		request *http.Request
		status  int
		message string
	}{
		"body over 10 MB": {httptest.NewRequest("POST", "/slow", strings.NewReader(strings.Repeat("x", 10<<20+1))), 413, "Request Entity Too Large"},
		"event over 6 MB": {httptest.NewRequest("POST", "/slow", strings.NewReader(strings.Repeat("x", 6<<20))), 413, "Request Entity Too Large"},
		"long headers": {func() *http.Request {
			r := httptest.NewRequest("GET", "/slow", nil)
			r.Header.Set("X-Long", strings.Repeat("x", 11000))
			return r
		}(), 431, "Request Header Fields Too Large"},
	} {
		w := httptest.NewRecorder()
		g.ServeHTTP(w, c.request)
		if want := `{"message":"` + c.message + `"}`; w.Code != c.status || w.Body.String() != want {
			t.Errorf("%s: %d %s, want %d %s", name, w.Code, w.Body, c.status, want)
		}
	}
	if called {
		t.Error("the function was called all the same")
	}

	without, err := New(Config{
		Template: parse(t, `
Resources:
  InstancesFunction:
    Type: AWS::Serverless::Function
    Properties: {CodeUri: .build/instances/, Events: {A: {Type: HttpApi, Properties: {Method: GET, Path: /a}}}}
`),
		Functions: map[string]Handler{"instances": record(t, new(events.APIGatewayV2HTTPRequest))},
		Log:       slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	w := httptest.NewRecorder()
	without.ServeHTTP(w, httptest.NewRequest("GET", "/b", nil))
	if w.Code != 404 || w.Body.String() != `{"message":"Not Found"}` {
		t.Errorf("no route: %d %s", w.Code, w.Body)
	}
}

func TestTimeouts(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		method, path string
		after        time.Duration
		status       int
	}{
		"the function's":    {"GET", "/v1/instances", 15 * time.Second, 500},
		"the integration's": {"POST", "/slow", 5 * time.Second, 503},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ended := false
				g := serve(t, func(ctx context.Context, _ events.APIGatewayV2HTTPRequest) (events.APIGatewayV2HTTPResponse, error) {
					if lc, ok := lambdacontext.FromContext(ctx); !ok || lc.AwsRequestID == "" {
						t.Error("no request id in the context")
					}
					<-ctx.Done()
					time.Sleep(time.Second) // a handler that doesn't look at its context
					ended = true
					return events.APIGatewayV2HTTPResponse{StatusCode: 200}, nil
				})
				start := time.Now()
				// The client leaves at once, which stops nothing.
				gone, cancel := context.WithCancel(t.Context())
				cancel()
				w := httptest.NewRecorder()
				g.ServeHTTP(w, httptest.NewRequest(c.method, c.path, nil).WithContext(gone))
				if took := time.Since(start); w.Code != c.status || took != c.after {
					t.Errorf("%d after %v, want %d after %v", w.Code, took, c.status, c.after)
				}
				g.Wait()
				if !ended {
					t.Error("Wait returned while the function ran")
				}
			})
		})
	}
}

func TestHead(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(serve(t, func(context.Context, events.APIGatewayV2HTTPRequest) (events.APIGatewayV2HTTPResponse, error) {
		return events.APIGatewayV2HTTPResponse{StatusCode: 200, Body: "four"}, nil
	}))
	defer server.Close()
	response, err := http.Head(server.URL + "/v1/instances")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if response.ContentLength != 4 {
		t.Errorf("length %d, want that of the GET answer, 4", response.ContentLength)
	}
}

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	h := record(t, new(events.APIGatewayV2HTTPRequest))
	for name, c := range map[string]Config{
		"a route without handler":     {},
		"a handler without function":  {Functions: map[string]Handler{"instances": h, "events": h, "other": h}},
		"a stream without stream URL": {Functions: map[string]Handler{"events": h}, Streams: map[string]http.Handler{"instances": http.NotFoundHandler()}},
	} {
		c.Template = parse(t, small)
		if _, err := New(c); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
}

// TestOurTemplate reads the template that is deployed.
func TestOurTemplate(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../template.yaml")
	if err != nil {
		t.Fatal(err)
	}
	all, err := parse(t, string(text)).Functions()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range all {
		for _, r := range f.Routes {
			if !f.Streams && r.Timeout < f.Timeout {
				t.Errorf("%s: API Gateway gives up after %v, the function after %v", r.Key(), r.Timeout, f.Timeout)
			}
		}
	}
}

// TestStreamPath: a stream that has an origin of its own on AWS is answered here
// beside the log of the same path, by what the client asks for.
func TestStreamPath(t *testing.T) {
	t.Parallel()
	g, err := New(Config{
		Template: parse(t, `
Resources:
  InstancesFunction:
    Type: AWS::Serverless::Function
    Properties: {CodeUri: .build/instances/, Events: {Default: {Type: HttpApi, Properties: {}}, Log: {Type: HttpApi, Properties: {Method: GET, Path: /v1/events}}}}
  StreamFunction:
    Type: AWS::Serverless::Function
    Properties: {CodeUri: .build/stream/, FunctionUrlConfig: {InvokeMode: RESPONSE_STREAM}}
`),
		Functions: map[string]Handler{"instances": func(context.Context, events.APIGatewayV2HTTPRequest) (events.APIGatewayV2HTTPResponse, error) {
			return events.APIGatewayV2HTTPResponse{StatusCode: 200, Body: "log"}, nil
		}},
		Streams:    map[string]http.Handler{"stream": http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "stream") })},
		StreamPath: "/v1/events",
		Log:        slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.Wait)
	for _, c := range []struct{ path, accept, want string }{
		{"/v1/events", "", "stream"},
		{"/v1/events", "*/*", "stream"},
		{"/v1/events", "text/event-stream", "stream"},
		{"/v1/events", "application/json, text/event-stream", "stream"},
		{"/v1/events?limit=1", "application/json", "log"},
		{"/v1/other", "text/event-stream", "log"},
	} {
		r := httptest.NewRequest(http.MethodGet, c.path, nil)
		if c.accept != "" {
			r.Header.Set("Accept", c.accept)
		}
		w := httptest.NewRecorder()
		g.ServeHTTP(w, r)
		if w.Body.String() != c.want {
			t.Errorf("%s, %q: %d %s, want %s", c.path, c.accept, w.Code, w.Body, c.want)
		}
	}
}
