package sample

import (
	"crypto/md5"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/events"
)

func fill(t *testing.T, name string, s Stack, into any) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("../../../events", name+".json"))
	if err != nil {
		t.Fatal(err)
	}
	filled, err := Fill(text, s)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(filled, into); err != nil {
		t.Fatal(err)
	}
}

func TestFillRequest(t *testing.T) {
	t.Parallel()
	now := time.UnixMilli(1_790_000_000_000)
	s := Stack{Key: "the key", InstanceID: "the instance", KeyID: "another key", Code: "WXYZ-1234", Now: now}
	var e events.APIGatewayV2HTTPRequest
	fill(t, "sandbox-enter-code", s, &e)
	path := "/v1/sandbox/instances/the instance/enter-code"
	if e.RawPath != path || e.RequestContext.HTTP.Path != path || e.PathParameters["id"] != "the instance" {
		t.Errorf("path is %q, %q, %v", e.RawPath, e.RequestContext.HTTP.Path, e.PathParameters)
	}
	if e.Headers["authorization"] != "Bearer the key" || !strings.Contains(e.Body, "WXYZ-1234") {
		t.Errorf("key %q, body %s", e.Headers["authorization"], e.Body)
	}
	if e.RequestContext.TimeEpoch != now.UnixMilli() {
		t.Errorf("taken at %d, want %d", e.RequestContext.TimeEpoch, now.UnixMilli())
	}
	e = events.APIGatewayV2HTTPRequest{}
	fill(t, "revoke-api-key", s, &e)
	if e.RawPath != "/v1/api-keys/another key" {
		t.Errorf("path is %q", e.RawPath)
	}
	var first, second events.APIGatewayV2HTTPRequest
	fill(t, "create-instance", s, &first)
	fill(t, "create-instance", s, &second)
	if first.Headers["idempotency-key"] == second.Headers["idempotency-key"] {
		t.Error("sent twice, the event would be answered from the record of the first")
	}
}

func TestFillQueued(t *testing.T) {
	t.Parallel()
	var e events.SQSEvent
	fill(t, "integration-command", Stack{CustomerID: "the customer", Now: time.Now()}, &e)
	var body map[string]any
	if err := json.Unmarshal([]byte(e.Records[0].Body), &body); err != nil {
		t.Fatal(err)
	}
	if body["customer_id"] != "the customer" {
		t.Errorf("body is %s", e.Records[0].Body)
	}
	sum := md5.Sum([]byte(e.Records[0].Body))
	if e.Records[0].Md5OfBody != hex.EncodeToString(sum[:]) {
		t.Error("the checksum is not the body's")
	}
}

func TestKindOf(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]Kind{"qr": HTTP, "stream-events": URL, "integration-command": Queued} {
		text, err := os.ReadFile(filepath.Join("../../../events", name+".json"))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := KindOf(text); err != nil || got != want {
			t.Errorf("%s: %v, %v; want %v", name, got, err, want)
		}
	}
	for _, bad := range []string{"", "[]", "{}"} {
		if _, err := KindOf([]byte(bad)); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}
