package gateway

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/events"

	"whatisup/local/gateway/runtimeapi"
)

// invoker is a function that answers with what it is made of.
type invoker struct {
	event       []byte
	contentType string
	body        io.ReadCloser
	err         error
}

func (i *invoker) Invoke(_ context.Context, event []byte) (*runtimeapi.Response, error) {
	i.event = event
	if i.err != nil {
		return nil, i.err
	}
	return &runtimeapi.Response{ContentType: i.contentType, Body: i.body}, nil
}

const prelude = `{"statusCode":201,"headers":{"Content-Type":"text/event-stream"},"cookies":["a=1"]}` + "\x00\x00\x00\x00\x00\x00\x00\x00"

func stream(t *testing.T, f Invoker) *httptest.Server {
	server := httptest.NewServer(Stream(f, slog.New(slog.DiscardHandler)))
	t.Cleanup(server.Close)
	return server
}

func TestStreamPassesOnWhatIsWritten(t *testing.T) {
	t.Parallel()
	body, function := io.Pipe()
	f := &invoker{contentType: streamed, body: body}
	server := stream(t, f)
	go io.WriteString(function, prelude+"one\n")
	response, err := http.Get(server.URL + "/v1/events%3F?a=1")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if response.StatusCode != 201 || response.Header.Get("Content-Type") != "text/event-stream" || response.Header.Get("Set-Cookie") != "a=1" {
		t.Errorf("got %d %v", response.StatusCode, response.Header)
	}
	lines := bufio.NewReader(response.Body)
	if line, err := lines.ReadString('\n'); err != nil || line != "one\n" {
		t.Fatalf("got %q, %v", line, err)
	}
	// Only now the function writes more: the first part did not wait for it.
	go func() {
		io.WriteString(function, "two\n")
		function.Close()
	}()
	if rest, err := io.ReadAll(lines); err != nil || string(rest) != "two\n" {
		t.Errorf("got %q, %v", rest, err)
	}
	var e events.LambdaFunctionURLRequest
	if err := json.Unmarshal(f.event, &e); err != nil {
		t.Fatal(err)
	}
	if e.RawPath != "/v1/events%3F" || e.RawQueryString != "a=1" || !strings.Contains(e.RequestContext.DomainName, ".lambda-url.") {
		t.Errorf("event is %s", f.event)
	}
}

func TestStreamThatBreaks(t *testing.T) {
	t.Parallel()
	body, function := io.Pipe()
	server := stream(t, &invoker{contentType: streamed, body: body})
	go func() {
		io.WriteString(function, prelude+"one\n")
		function.CloseWithError(errors.New("crashed"))
	}()
	response, err := http.Get(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if all, err := io.ReadAll(response.Body); err == nil {
		t.Errorf("a broken stream looks like a whole one: %q", all)
	}
}

func TestStreamWhoseClientLeaves(t *testing.T) {
	t.Parallel()
	body, function := io.Pipe()
	server := stream(t, &invoker{contentType: streamed, body: body})
	go io.WriteString(function, prelude+"one\n")
	ctx, cancel := context.WithCancel(t.Context())
	r, err := http.NewRequestWithContext(ctx, "GET", server.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	cancel()
	left := make(chan error, 1)
	go func() {
		for {
			if _, err := io.WriteString(function, "more\n"); err != nil {
				left <- err
				return
			}
		}
	}()
	select {
	case <-left:
	case <-time.After(30 * time.Second):
		t.Error("the function is still listened to")
	}
}

func TestStreamRefuses(t *testing.T) {
	t.Parallel()
	closed := func(s string) io.ReadCloser { return io.NopCloser(strings.NewReader(s)) }
	for name, c := range map[string]struct {
		f      *invoker
		status int
		body   string
	}{
		"a function that fails": {&invoker{err: errors.New("secret")}, 502, `{"message":"Internal Server Error"}`},
		"no prelude":            {&invoker{contentType: streamed, body: closed("{}")}, 502, `{"message":"Internal Server Error"}`},
		"no status":             {&invoker{contentType: streamed, body: closed("{}\x00\x00\x00\x00\x00\x00\x00\x00")}, 502, `{"message":"Internal Server Error"}`},
		"an answer in one piece": {
			&invoker{contentType: "application/json", body: closed(`{"statusCode":404,"body":"gone"}`)}, 404, "gone",
		},
	} {
		w := httptest.NewRecorder()
		Stream(c.f, slog.New(slog.DiscardHandler)).ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
		if w.Code != c.status || w.Body.String() != c.body {
			t.Errorf("%s: %d %s, want %d %s", name, w.Code, w.Body, c.status, c.body)
		}
	}
}

func TestBuffered(t *testing.T) {
	t.Parallel()
	f := &invoker{contentType: "application/json", body: io.NopCloser(strings.NewReader(`{"statusCode":200,"body":"hi"}`))}
	answer, err := Buffered(f)(t.Context(), events.APIGatewayV2HTTPRequest{RawPath: "/a"})
	if err != nil || answer.StatusCode != 200 || answer.Body != "hi" || !strings.Contains(string(f.event), `"rawPath":"/a"`) {
		t.Errorf("got %+v, %v of %s", answer, err, f.event)
	}
	for name, f := range map[string]*invoker{
		"failed":   {err: errors.New("x")},
		"streamed": {contentType: streamed, body: io.NopCloser(strings.NewReader(prelude))},
		"nonsense": {contentType: "application/json", body: io.NopCloser(strings.NewReader("?"))},
	} {
		if answer, err := Buffered(f)(t.Context(), events.APIGatewayV2HTTPRequest{}); err == nil {
			t.Errorf("%s: %+v", name, answer)
		}
	}
}
