package aws_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	local "whatisup/local/aws"
)

// serve serves a server until the test ends and returns its URL.
func serve(t *testing.T, server *local.Server) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- server.Serve(ctx, l) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return "http://" + l.Addr().String()
}

func newRequest(t testing.TB, endpoint, target, body string) *http.Request {
	t.Helper()
	req, err := http.NewRequest("POST", endpoint, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-amz-json-1.0")
	req.Header.Set("X-Amz-Target", target)
	req.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential=local/20260101/eu-central-1/any/aws4_request, SignedHeaders=host, Signature=00")
	return req
}

func do(t testing.TB, req *http.Request) (status int, body string) {
	t.Helper()
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

func TestSecondProcess(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "aws.db")
	first, err := local.Open(local.Config{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := local.Open(local.Config{Path: path}); !errors.Is(err, local.ErrInUse) || !strings.Contains(err.Error(), "only one process at a time") {
		t.Errorf("a second server on the same file: %v", err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := local.Open(local.Config{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	if err := again.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestProtocol(t *testing.T) {
	t.Parallel()
	server, err := local.Open(local.Config{Path: filepath.Join(t.TempDir(), "aws.db")})
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	endpoint := serve(t, server)
	if status, body := do(t, newRequest(t, endpoint, "DynamoDB_20120810.ListTables", `{}`)); status != 200 || body != `{"TableNames":[]}` {
		t.Errorf("ListTables: %d %s", status, body)
	}
	req := newRequest(t, endpoint, "DynamoDB_20120810.ListTables", `{}`)
	req.Header.Set("Origin", "https://example.com")
	if status, _ := do(t, req); status != http.StatusForbidden {
		t.Errorf("a request from a web page: %d", status)
	}
	req = newRequest(t, endpoint, "DynamoDB_20120810.ListTables", `{}`)
	req.Header.Del("Authorization")
	if status, body := do(t, req); status != 400 || !strings.Contains(body, "MissingAuthenticationTokenException") {
		t.Errorf("an unsigned request: %d %s", status, body)
	}
	if status, body := do(t, newRequest(t, endpoint, "DynamoDB_20120810.PutItem", `{"x":"`+strings.Repeat("x", 17<<20)+`"}`)); status != http.StatusRequestEntityTooLarge {
		t.Errorf("17 MB: %d %s", status, body)
	}
	// Names carry the region that a request was signed for.
	_, body := do(t, newRequest(t, endpoint, "TrentService.CreateKey", `{}`))
	if !strings.Contains(body, `"Arn":"arn:aws:kms:eu-central-1:000000000000:key/`) {
		t.Errorf("CreateKey: %s", body)
	}
	_, body = do(t, newRequest(t, endpoint, "TrentService.Decrypt", `{"CiphertextBlob":"AAAA"}`))
	if body != `{"__type":"InvalidCiphertextException"}` {
		t.Errorf("Decrypt: %s", body)
	}
	_, body = do(t, newRequest(t, endpoint, "TrentService.DescribeKey", `{"KeyId":"alias/none"}`))
	if !strings.Contains(body, `"__type":"NotFoundException","message":"Alias arn:aws:kms:eu-central-1:000000000000:alias/none is not found."`) {
		t.Errorf("DescribeKey: %s", body)
	}
}

func TestControl(t *testing.T) {
	t.Parallel()
	start := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	server, err := local.Open(local.Config{Path: filepath.Join(t.TempDir(), "aws.db"), Clock: func() time.Time { return start }})
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	endpoint := serve(t, server)
	ask := func(method, path, body string) (int, string) {
		t.Helper()
		req, err := http.NewRequest(method, endpoint+"/control/"+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		return do(t, req)
	}
	for _, c := range []struct {
		method, path, body string
		status             int
		answer             string
	}{
		{"POST", "faults", `{"kind":"latency","service":"sqs","delay":"50ms","times":2}`, 201, `{"kind":"latency","service":"sqs","times":2,"delay":"50ms"}`},
		{"POST", "faults", `{"kind":"nonsense"}`, 400, `"error"`},
		{"POST", "faults", `nonsense`, 400, `"error"`},
		{"GET", "faults", "", 200, `[{"kind":"latency","service":"sqs","times":2,"delay":"50ms"}]`},
		{"DELETE", "faults", "", 204, ""},
		{"GET", "faults", "", 200, "[]"},
		{"POST", "clock", `{"step":"90s"}`, 200, `{"now":"2026-05-01T12:01:30Z"}`},
		{"POST", "clock", `{"step":"soon"}`, 400, `"error"`},
		{"GET", "clock", "", 200, `{"now":"2026-05-01T12:01:30Z"}`},
		{"POST", "sweep", "", 200, `{"items":0}`},
		{"GET", "unknown", "", 200, "{}"},
		{"GET", "nothing", "", 404, `"error"`},
	} {
		if status, body := ask(c.method, c.path, c.body); status != c.status || !strings.Contains(body, c.answer) {
			t.Errorf("%s %s %s: %d %s", c.method, c.path, c.body, status, body)
		}
	}
}
