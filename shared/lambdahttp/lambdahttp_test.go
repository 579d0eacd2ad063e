package lambdahttp_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/awslabs/aws-lambda-go-api-proxy/core"

	"whatisup/shared/lambdahttp"
)

var quiet = slog.New(slog.DiscardHandler)

func event(method, path string, change ...func(*events.APIGatewayV2HTTPRequest)) events.APIGatewayV2HTTPRequest {
	e := events.APIGatewayV2HTTPRequest{
		Version: "2.0", RouteKey: "$default", RawPath: path, Headers: map[string]string{"host": "client.example"},
	}
	e.RequestContext.DomainName = "abc.execute-api.eu-central-1.amazonaws.com"
	e.RequestContext.HTTP.Method, e.RequestContext.HTTP.Path, e.RequestContext.HTTP.SourceIP = method, path, "192.0.2.1"
	e.RequestContext.TimeEpoch = 1777638896123
	for _, do := range change {
		do(&e)
	}
	return e
}

// do puts an event through h and returns the answer with what h saw.
func do(t *testing.T, e events.APIGatewayV2HTTPRequest, h http.HandlerFunc) events.APIGatewayV2HTTPResponse {
	t.Helper()
	answer, err := lambdahttp.Wrap(h, quiet)(t.Context(), e)
	if err != nil {
		t.Fatalf("the function failed: %v", err)
	}
	return answer
}

func TestRequestArrivesAsItWasSent(t *testing.T) {
	t.Parallel()
	e := event("post", "/v1/instances/a%2Fb%20c", func(e *events.APIGatewayV2HTTPRequest) {
		e.RawQueryString = "a=1&a=2&b=%20&c"
		e.Body = "hällo"
		e.Headers = map[string]string{
			"authorization": "Bearer x", "if-match": `"1", "2"`, "idempotency-key": "a, b,c",
			"x-sig": "t=1,v1=ab", "date": "Mon, 02 Jan 2006 15:04:05 GMT", "content-type": "application/json",
			"accept": "image/png, */*;q=0.8", "host": "client.example",
			"X-GoLambdaProxy-ApiGw-Context": `{"accountId":"evil"}`, "x-golambdaproxy-apigw-stagevars": "{}",
		}
		e.Cookies = []string{"a=1", "b=2"}
	})
	called := false
	do(t, e, func(w http.ResponseWriter, r *http.Request) {
		called = true
		body, err := io.ReadAll(r.Body)
		if err != nil || string(body) != "hällo" || r.ContentLength != 6 {
			t.Errorf("body %q of %d: %v", body, r.ContentLength, err)
		}
		if r.Method != "post" && r.Method != "POST" {
			t.Errorf("method %s", r.Method)
		}
		// API Gateway has unescaped the path. It is not unescaped again.
		if r.URL.Path != "/v1/instances/a%2Fb%20c" || r.URL.EscapedPath() != "/v1/instances/a%252Fb%2520c" || r.URL.RawQuery != "a=1&a=2&b=%20&c" {
			t.Errorf("URL %#v", r.URL)
		}
		for name, want := range map[string]string{
			"Authorization": "Bearer x", "If-Match": `"1", "2"`, "Idempotency-Key": "a, b,c", "X-Sig": "t=1,v1=ab",
			"Date": "Mon, 02 Jan 2006 15:04:05 GMT", "Accept": "image/png, */*;q=0.8", "Cookie": "a=1; b=2",
			"X-Golambdaproxy-Apigw-Context": "", "X-Golambdaproxy-Apigw-Stagevars": "",
		} {
			if got := r.Header.Get(name); got != want {
				t.Errorf("%s is %q, want %q", name, got, want)
			}
		}
		if r.Host != e.RequestContext.DomainName || r.RemoteAddr != "192.0.2.1" {
			t.Errorf("host %s, from %s", r.Host, r.RemoteAddr)
		}
		if at := lambdahttp.Arrival(r.Context()); at.UnixMilli() != 1777638896123 {
			t.Errorf("arrived %v", at)
		}
		if c, ok := core.GetAPIGatewayV2ContextFromContext(r.Context()); !ok || c.AccountID == "evil" {
			t.Errorf("context %+v", c)
		}
	})
	if !called {
		t.Error("the handler was not called")
	}
}

// What is no valid URL, method or header is the handler's to refuse.
func TestNothingFailsTheFunction(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*events.APIGatewayV2HTTPRequest){
		"a broken escape":         func(e *events.APIGatewayV2HTTPRequest) { e.RawPath = "/v1/%zz" },
		"half an escape":          func(e *events.APIGatewayV2HTTPRequest) { e.RawPath = "/v1/%" },
		"a question mark":         func(e *events.APIGatewayV2HTTPRequest) { e.RawPath = "/v1?x=1" },
		"a space":                 func(e *events.APIGatewayV2HTTPRequest) { e.RawPath = "/v1/a b" },
		"a NUL":                   func(e *events.APIGatewayV2HTTPRequest) { e.RawPath = "/v1/\x00" },
		"a line break":            func(e *events.APIGatewayV2HTTPRequest) { e.RawPath = "/v1/\r\nX: y" },
		"two slashes":             func(e *events.APIGatewayV2HTTPRequest) { e.RawPath = "//evil.example/v1" },
		"no path":                 func(e *events.APIGatewayV2HTTPRequest) { e.RawPath, e.RequestContext.HTTP.Path = "", "" },
		"a path without a slash":  func(e *events.APIGatewayV2HTTPRequest) { e.RawPath = "v1" },
		"an absolute path":        func(e *events.APIGatewayV2HTTPRequest) { e.RawPath = "https://evil.example/" },
		"a broken query":          func(e *events.APIGatewayV2HTTPRequest) { e.RawQueryString = "%zz=\x00" },
		"no method":               func(e *events.APIGatewayV2HTTPRequest) { e.RequestContext.HTTP.Method = "" },
		"a method that is none":   func(e *events.APIGatewayV2HTTPRequest) { e.RequestContext.HTTP.Method = "GET /\r\n" },
		"a domain that is none":   func(e *events.APIGatewayV2HTTPRequest) { e.RequestContext.DomainName = "a b\x00/%" },
		"a header that is none":   func(e *events.APIGatewayV2HTTPRequest) { e.Headers["a b\n"] = "c\r\nd" },
		"an event of another API": func(e *events.APIGatewayV2HTTPRequest) { *e = events.APIGatewayV2HTTPRequest{} },
	} {
		e := event("GET", "/v1", change)
		called := false
		answer := do(t, e, func(w http.ResponseWriter, r *http.Request) {
			called = true
			if r.URL.Host == "evil.example" {
				t.Errorf("%s: the URL names another host", name)
			}
			w.WriteHeader(404)
		})
		if !called || answer.StatusCode != 404 {
			t.Errorf("%s: called %v, answered %d", name, called, answer.StatusCode)
		}
	}
	answer := do(t, event("POST", "/v1", func(e *events.APIGatewayV2HTTPRequest) { e.Body, e.IsBase64Encoded = "!", true }), func(http.ResponseWriter, *http.Request) {
		t.Error("called")
	})
	if answer.StatusCode != 400 || !strings.Contains(answer.Body, "invalid_request") {
		t.Errorf("a body that is not base64: %d %s", answer.StatusCode, answer.Body)
	}
}

func TestAnswerIsLikeNetHTTPs(t *testing.T) {
	t.Parallel()
	if a := do(t, event("GET", "/"), func(http.ResponseWriter, *http.Request) {}); a.StatusCode != 200 {
		t.Errorf("nothing written: %d", a.StatusCode)
	}
	a := do(t, event("GET", "/"), func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(400)
		w.WriteHeader(200)
		io.WriteString(w, "x")
	})
	if a.StatusCode != 400 || a.Body != "x" {
		t.Errorf("two statuses: %d %q", a.StatusCode, a.Body)
	}
	picture := []byte{0x89, 'P', 'N', 'G', 0xff}
	a = do(t, event("GET", "/"), func(w http.ResponseWriter, _ *http.Request) { w.Write(picture) })
	if got, _ := base64.StdEncoding.DecodeString(a.Body); !a.IsBase64Encoded || !bytes.Equal(got, picture) {
		t.Errorf("binary: %+v", a)
	}
	a = do(t, event("POST", "/", func(e *events.APIGatewayV2HTTPRequest) {
		e.Body, e.IsBase64Encoded = base64.StdEncoding.EncodeToString(picture), true
	}), func(w http.ResponseWriter, r *http.Request) {
		if b, _ := io.ReadAll(r.Body); !bytes.Equal(b, picture) {
			t.Errorf("got %q", b)
		}
	})
}

func TestPanicIsInternal(t *testing.T) {
	t.Parallel()
	for _, value := range []any{errors.New("secret"), "secret", http.ErrAbortHandler} {
		a := do(t, event("GET", "/"), func(http.ResponseWriter, *http.Request) { panic(value) })
		var body struct {
			Error     struct{ Code, Message string }
			RequestID string `json:"request_id"`
		}
		if err := json.Unmarshal([]byte(a.Body), &body); err != nil || a.StatusCode != 500 || body.Error.Code != "internal" ||
			a.Headers["X-Request-Id"] != body.RequestID || strings.Contains(a.Body, "secret") {
			t.Errorf("%v: %d %s %v", err, a.StatusCode, a.Body, a.Headers)
		}
	}
}

func TestStreamBehindAFunctionURL(t *testing.T) {
	t.Parallel()
	next := make(chan struct{})
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		for _, s := range []string{"one", "two"} {
			io.WriteString(w, s+r.URL.Path)
			<-next
		}
		panic("at its end")
	})
	payload, _ := json.Marshal(event("GET", "/v1/events"))
	result, err := lambdahttp.Stream(h, quiet)(t.Context(), payload)
	if err != nil {
		t.Fatal(err)
	}
	body, ok := result.(*events.LambdaFunctionURLStreamingResponse)
	if !ok || body.Headers["Content-Type"] != "text/event-stream" {
		t.Fatalf("%T %+v", result, result)
	}
	for _, want := range []string{"one/v1/events", "two/v1/events"} {
		got := make([]byte, len(want))
		if _, err := io.ReadFull(body.Body, got); err != nil || string(got) != want {
			t.Fatalf("%v: %q", err, got)
		}
		next <- struct{}{}
	}
	if rest, err := io.ReadAll(body.Body); err != nil || len(rest) != 0 {
		t.Errorf("%v: %q", err, rest)
	}
}

func TestStreamBehindAPIGateway(t *testing.T) {
	t.Parallel()
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if deadline, ok := r.Context().Deadline(); !ok || time.Until(deadline) > 10*time.Second {
			t.Error("a stream that API Gateway waits for must end soon")
		}
		io.WriteString(w, "all")
	})
	payload, _ := json.Marshal(event("GET", "/v1/events", func(e *events.APIGatewayV2HTTPRequest) { e.RouteKey = "GET /v1/events" }))
	result, err := lambdahttp.Stream(h, quiet)(t.Context(), payload)
	if answer, ok := result.(events.APIGatewayV2HTTPResponse); err != nil || !ok || answer.Body != "all" {
		t.Errorf("%v: %T %+v", err, result, result)
	}
}

func TestQueueReportsWhatFailed(t *testing.T) {
	t.Parallel()
	f := lambdahttp.Queue(func(_ context.Context, body []byte, sent time.Time) error {
		if sent.UnixMilli() != 1777638896000 {
			t.Errorf("sent at %s", sent)
		}
		if string(body) == "bad" {
			return errors.New("bad")
		}
		return nil
	})
	sent := map[string]string{"SentTimestamp": "1777638896000"}
	r, err := f(t.Context(), events.SQSEvent{Records: []events.SQSMessage{{MessageId: "1", Body: "good", Attributes: sent}, {MessageId: "2", Body: "bad", Attributes: sent}, {MessageId: "3", Body: "good", Attributes: sent}}})
	if err != nil || len(r.BatchItemFailures) != 1 || r.BatchItemFailures[0].ItemIdentifier != "2" {
		t.Errorf("%v %+v", err, r)
	}
}

// Whatever the event, the function answers, and the handler sees a request that
// it can work with.
func FuzzWrap(f *testing.F) {
	for _, path := range []string{"/", "/v1/instances", "/%zz", "//x", "", "a", "/v1/%00", "/?x=1", "/v1/instances/%2e%2e"} {
		f.Add("GET", path, "a=1", "authorization", "Bearer x", "{}", false, "host")
	}
	f.Add("", "\x00", "%", "", "", "!!", true, "\xff")
	f.Fuzz(func(t *testing.T, method, path, query, name, value, body string, encoded bool, domain string) {
		e := event(method, path, func(e *events.APIGatewayV2HTTPRequest) {
			e.RawQueryString, e.Body, e.IsBase64Encoded = query, body, encoded
			e.Headers[name] = value
			e.RequestContext.DomainName = domain
		})
		answer, err := lambdahttp.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL == nil || !strings.HasPrefix(r.URL.EscapedPath(), "/") && r.URL.EscapedPath() != "" {
				t.Errorf("URL %#v", r.URL)
			}
			if r.Header.Get("X-GoLambdaProxy-ApiGw-Context") != "" {
				t.Error("the client's own context arrived")
			}
			io.ReadAll(r.Body)
			r.URL.Query()
			w.WriteHeader(204)
		}), quiet)(t.Context(), e)
		if err != nil || answer.StatusCode != 204 && answer.StatusCode != 400 {
			t.Errorf("%v: %+v", err, answer)
		}
	})
}
