package gateway

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/events"

	"whatisup/local/body"
)

// door is a gateway on a real connection whose function answers with the length
// of the body that it saw.
func door(t *testing.T, c Config) *httptest.Server {
	t.Helper()
	c.Template, c.Log = parse(t, small), slog.New(slog.DiscardHandler)
	c.Functions = map[string]Handler{"instances": func(_ context.Context, e events.APIGatewayV2HTTPRequest) (events.APIGatewayV2HTTPResponse, error) {
		return events.APIGatewayV2HTTPResponse{StatusCode: 200, Body: fmt.Sprint(len(e.Body))}, nil
	}}
	c.Streams = map[string]http.Handler{"events": http.NotFoundHandler()}
	g, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(g)
	t.Cleanup(s.Close)
	return s
}

// begin sends a request's head, which promises a body of some bytes, and a part of
// the body.
func begin(t *testing.T, s *httptest.Server, promised int, part string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", s.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	fmt.Fprintf(c, "POST /slow HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", promised, part)
	return c
}

func status(t *testing.T, c net.Conn) int {
	t.Helper()
	c.SetReadDeadline(time.Now().Add(20 * time.Second)) //nolint:errcheck
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	return resp.StatusCode
}

// A body that does not come ends with the deadline, not with the client.
func TestUnfinishedBody(t *testing.T) {
	t.Parallel()
	s := door(t, Config{BodyWithin: 50 * time.Millisecond})
	if got := status(t, begin(t, s, 1000, "some")); got != http.StatusRequestTimeout {
		t.Errorf("an unfinished body: %d", got)
	}
}

// All bodies in hand have one bound, and what a request promises takes no room.
func TestBodiesInHand(t *testing.T) {
	t.Parallel()
	s := door(t, Config{MaxBodies: 4 * body.Step, BodyWithin: 20 * time.Second})
	var held []net.Conn
	for range 3 { // each holds a step and has begun a second
		held = append(held, begin(t, s, 5<<20, strings.Repeat("x", body.Step+1)))
	}
	// Those that find no room are told so at once; the others go on.
	refused := make(chan int, len(held)+1)
	for _, c := range append(held, begin(t, s, 5<<20, strings.Repeat("x", body.Step+1))) {
		go func() {
			c.SetReadDeadline(time.Now().Add(5 * time.Second)) //nolint:errcheck
			if resp, err := http.ReadResponse(bufio.NewReader(c), nil); err == nil {
				refused <- resp.StatusCode
			}
		}()
	}
	if got := <-refused; got != http.StatusServiceUnavailable {
		t.Errorf("over the bound: %d", got)
	}
	for _, c := range held {
		c.Close()
	}
	// What is released can be used again.
	for until := time.Now().Add(10 * time.Second); ; {
		resp, err := http.Post(s.URL+"/slow", "text/plain", strings.NewReader(strings.Repeat("x", body.Step)))
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode == 200 {
			break
		}
		if time.Now().After(until) {
			t.Fatalf("after the others left: %d", resp.StatusCode)
		}
	}
}

// A function sees one byte more than it takes, and says itself that it is too
// much; the rest is never read.
func TestLongBodyIsCut(t *testing.T) {
	t.Parallel()
	s := door(t, Config{MaxBody: 1000, BodyWithin: 20 * time.Second})
	for sent, seen := range map[int]string{10: "10", 1000: "1000", 1001: "1001", 2 << 20: "1001"} {
		for _, chunked := range []bool{false, true} {
			var body io.Reader = strings.NewReader(strings.Repeat("x", sent))
			if chunked {
				body = io.MultiReader(body) // of unknown length
			}
			resp, err := http.Post(s.URL+"/slow", "text/plain", body)
			if err != nil {
				t.Fatal(err)
			}
			b, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			if err != nil || string(b) != seen {
				t.Errorf("of %d bytes the function saw %s (%v)", sent, b, err)
			}
		}
	}
	if got := status(t, begin(t, s, 5<<20, strings.Repeat("x", 2000))); got != 200 {
		t.Errorf("the rest was waited for: %d", got)
	}
}
