package aws_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/smithy-go"

	local "whatisup/local/aws"
	"whatisup/local/aws/awstest"
)

// TestSecretKey has each service refuse what is not signed with the stack's key.
func TestSecretKey(t *testing.T) {
	t.Parallel()
	now := time.Now()
	a := awstest.StartWith(t, local.Config{AccessKey: "stack", SecretKey: "the stack's own", Clock: func() time.Time { return now }})
	call := func(access, secret string) (codes []string) {
		config := a.Config
		config.Credentials = credentials.NewStaticCredentialsProvider(access, secret, "")
		once := sdk.NopRetryer{}
		_, ddbErr := dynamodb.NewFromConfig(config, func(o *dynamodb.Options) { o.Retryer = once }).ListTables(t.Context(), &dynamodb.ListTablesInput{})
		_, sqsErr := sqs.NewFromConfig(config, func(o *sqs.Options) { o.Retryer = once }).ListQueues(t.Context(), &sqs.ListQueuesInput{})
		_, kmsErr := kms.NewFromConfig(config, func(o *kms.Options) { o.Retryer = once }).CreateKey(t.Context(), &kms.CreateKeyInput{})
		for _, err := range []error{ddbErr, sqsErr, kmsErr} {
			var e smithy.APIError
			if errors.As(err, &e) {
				codes = append(codes, e.ErrorCode())
			} else if err != nil {
				t.Fatal(err)
			} else {
				codes = append(codes, "")
			}
		}
		return codes
	}
	check := func(what string, got []string, want ...string) {
		t.Helper()
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s: %q, want %q", what, got, want)
		}
	}
	check("the stack's key", call("stack", "the stack's own"), "", "", "")
	check("another secret", call("stack", "local"), "InvalidSignatureException", "SignatureDoesNotMatch", "InvalidSignatureException")
	check("another access key", call("local", "the stack's own"), "UnrecognizedClientException", "InvalidClientTokenId", "UnrecognizedClientException")
	a.Step(time.Hour) // which is not the signer's clock
	check("after a step", call("stack", "the stack's own"), "", "", "")
}

// TestSignersClock has a clock that is too far from the signer's refuse.
func TestSignersClock(t *testing.T) {
	t.Parallel()
	a := awstest.StartWith(t, local.Config{SecretKey: "local", Clock: func() time.Time { return time.Now().Add(16 * time.Minute) }})
	_, err := dynamodb.NewFromConfig(a.Config, func(o *dynamodb.Options) { o.Retryer = sdk.NopRetryer{} }).ListTables(t.Context(), &dynamodb.ListTablesInput{})
	wantCode(t, err, "InvalidSignatureException", "Signature expired")
}

// TestOffLoopback has requests that come over another address than loopback
// refused without a key, and served with one.
func TestOffLoopback(t *testing.T) {
	t.Parallel()
	for secret, want := range map[string]int{"": http.StatusForbidden, "stack": http.StatusOK} {
		server, err := local.Open(local.Config{Path: filepath.Join(t.TempDir(), "aws.db"), SecretKey: secret})
		if err != nil {
			t.Fatal(err)
		}
		defer server.Close()
		r := httptest.NewRequest("GET", "/", nil)
		far := context.WithValue(r.Context(), http.LocalAddrContextKey, &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1)})
		w := httptest.NewRecorder()
		server.ServeHTTP(w, r.WithContext(far))
		if w.Code != want {
			t.Errorf("secret %q: %d, want %d", secret, w.Code, want)
		}
		w = httptest.NewRecorder()
		server.ServeHTTP(w, httptest.NewRequest("GET", "/control/faults", nil).WithContext(far))
		if w.Code != http.StatusForbidden {
			t.Errorf("secret %q: a control call from far away was answered %d", secret, w.Code)
		}
	}
}

// TestControlHost has control calls refused under a name that a web page can
// have lead here.
func TestControlHost(t *testing.T) {
	t.Parallel()
	a := awstest.Start(t)
	for host, want := range map[string]int{
		"127.0.0.1:4566": 200, "localhost:4566": 200, "localhost": 200, "[::1]:4566": 200, "10.0.0.1": 200,
		"evil.test:4566": 403, "evil.test": 403, "localhost.evil.test": 403, "127.0.0.1.evil.test:80": 403,
	} {
		r, err := http.NewRequest("GET", a.Endpoint+"/control/faults", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Host = host
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("Host %s: %d, want %d", host, resp.StatusCode, want)
		}
	}
}

// TestRefusedBeforeTheBody announces bodies that never come. What is unsigned, signed
// with another key or for another service, or too large is refused at once: nothing
// waits for a body, and none is read.
func TestRefusedBeforeTheBody(t *testing.T) {
	t.Parallel()
	a := awstest.StartWith(t, local.Config{AccessKey: "stack", SecretKey: "the stack's own"})
	const dynamo, queues, keys = "DynamoDB_20120810.PutItem", "AmazonSQS.SendMessage", "TrentService.Decrypt"
	signed := func(access, service string) string {
		now := time.Now().UTC()
		return fmt.Sprintf("Authorization: AWS4-HMAC-SHA256 Credential=%s/%s/us-east-1/%s/aws4_request, SignedHeaders=host;x-amz-date, Signature=%s\r\nX-Amz-Date: %s\r\n",
			access, now.Format("20060102"), service, strings.Repeat("0", 64), now.Format("20060102T150405Z"))
	}
	type refusal struct {
		name, target, header string
		length, want         int
	}
	var all []refusal
	for service, target := range map[string]string{"dynamodb": dynamo, "sqs": queues, "kms": keys} {
		want := 400
		if service == "sqs" {
			want = 403
		}
		all = append(all,
			refusal{service + " unsigned", target, "", 1 << 20, want},
			refusal{service + " with another kind of signature", target, "Authorization: Basic x\r\n", 1 << 20, want},
			refusal{service + " with another key", target, signed("other", service), 1 << 20, want},
			refusal{service + " signed for another service", target, signed("stack", "s3x"), 1 << 20, want},
			refusal{service + " too large", target, signed("stack", service), 17 << 20, 413},
		)
	}
	for _, c := range all {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			conn, err := net.Dial("tcp", strings.TrimPrefix(a.Endpoint, "http://"))
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			conn.SetDeadline(time.Now().Add(20 * time.Second)) //nolint:errcheck // less than a body may take
			fmt.Fprintf(conn, "POST / HTTP/1.1\r\nHost: localhost\r\nX-Amz-Target: %s\r\nContent-Type: application/x-amz-json-1.0\r\n%sContent-Length: %d\r\n\r\n",
				c.target, c.header, c.length)
			if code := status(bufio.NewReader(conn)); code != c.want {
				t.Errorf("answered %d, not %d", code, c.want)
			}
		})
	}
}

// unfinished begins a request of a length and sends some of its body.
func unfinished(t *testing.T, a *awstest.Instance, length, sent int) (*bufio.Reader, net.Conn) {
	t.Helper()
	c, err := net.Dial("tcp", strings.TrimPrefix(a.Endpoint, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	fmt.Fprintf(c, "POST / HTTP/1.1\r\nHost: localhost\r\nX-Amz-Target: DynamoDB_20120810.ListTables\r\nContent-Type: application/x-amz-json-1.0\r\n"+
		"Authorization: AWS4-HMAC-SHA256 x\r\nContent-Length: %d\r\n\r\n%s", length, strings.Repeat(" ", sent))
	return bufio.NewReader(c), c
}

// status reads an answer's status; 0 is a connection that ended without one.
func status(r *bufio.Reader) int {
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		return 0
	}
	io.Copy(io.Discard, resp.Body) //nolint:errcheck
	resp.Body.Close()
	return resp.StatusCode
}

// TestUnfinishedBodies begins many large bodies: what they only announce takes
// no memory, and after a while they are given up.
func TestUnfinishedBodies(t *testing.T) {
	a := awstest.StartWith(t, local.Config{BodyWithin: 2 * time.Second})
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	var readers []*bufio.Reader
	for range 100 {
		r, _ := unfinished(t, a, 15<<20, 10)
		readers = append(readers, r)
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 40<<20 {
		t.Errorf("100 announcements of 15 MB hold %d MB", grown>>20)
	}
	for _, r := range readers {
		if code := status(r); code != http.StatusRequestTimeout {
			t.Fatalf("an unfinished body was answered %d", code)
		}
	}
}

// TestRoomForBodies fills the room that there is for bodies: what finds none is
// told to come again, and there is room when the others are gone.
func TestRoomForBodies(t *testing.T) {
	t.Parallel()
	a := awstest.StartWith(t, local.Config{MaxBodies: 4 << 20})
	var open []net.Conn
	for range 3 {
		_, c := unfinished(t, a, 2<<20, 1<<20)
		open = append(open, c)
	}
	full := func() bool {
		r, c := unfinished(t, a, 2<<20, 2<<20)
		defer c.Close()
		return status(r) == http.StatusServiceUnavailable
	}
	awaitTrue(t, "no room", full)
	for _, c := range open {
		c.Close()
	}
	awaitTrue(t, "room again", func() bool { return !full() })
}

func awaitTrue(t *testing.T, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("there is never %s", what)
		}
	}
}

// TestLongPollOutlivesBodyDeadline has a long poll last longer than a body may.
func TestLongPollOutlivesBodyDeadline(t *testing.T) {
	t.Parallel()
	a := awstest.StartWith(t, local.Config{BodyWithin: 100 * time.Millisecond})
	c := sqs.NewFromConfig(a.Config)
	q, err := c.CreateQueue(t.Context(), &sqs.CreateQueueInput{QueueName: sdk.String("q")})
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	start := time.Now()
	wg.Go(func() {
		out, err := c.ReceiveMessage(t.Context(), &sqs.ReceiveMessageInput{QueueUrl: q.QueueUrl, WaitTimeSeconds: 1})
		if err != nil || len(out.Messages) != 0 || time.Since(start) < 900*time.Millisecond {
			t.Errorf("after %v: %v %v", time.Since(start), out, err)
		}
	})
	wg.Wait()
}

// TestRefusals has each fault answer in each service's own words, for the
// resource it names alone, also where a request names it among others.
func TestRefusals(t *testing.T) {
	t.Parallel()
	a := awstest.Start(t)
	ddb := dynamodb.NewFromConfig(a.Config, func(o *dynamodb.Options) { o.Retryer = sdk.NopRetryer{} })
	queues := sqs.NewFromConfig(a.Config, func(o *sqs.Options) { o.Retryer = sdk.NopRetryer{} })
	newTable(t, ddb, "one")
	newTable(t, ddb, "two")
	url := func(name string) *string {
		q, err := queues.CreateQueue(t.Context(), &sqs.CreateQueueInput{QueueName: &name})
		if err != nil {
			t.Fatal(err)
		}
		return q.QueueUrl
	}
	one, two := url("one"), url("two")
	send := func(to *string) error {
		_, err := queues.SendMessage(t.Context(), &sqs.SendMessageInput{QueueUrl: to, MessageBody: sdk.String("x")})
		return err
	}
	put := func(table string) error {
		_, err := ddb.PutItem(t.Context(), &dynamodb.PutItemInput{TableName: &table, Item: key("p")})
		return err
	}
	for kind, codes := range map[local.FaultKind][2]string{
		local.Missing:   {"AWS.SimpleQueueService.NonExistentQueue", "ResourceNotFoundException"},
		local.Full:      {"OverLimit", "ItemCollectionSizeLimitExceededException"},
		local.Forbidden: {"AccessDenied", "AccessDeniedException"},
		local.Throttle:  {"RequestThrottled", "ProvisionedThroughputExceededException"},
	} {
		for _, service := range []string{"sqs", "dynamodb"} {
			if err := a.Inject(local.Fault{Kind: kind, Service: service, Resource: "one"}); err != nil {
				t.Fatal(err)
			}
		}
		wantCode(t, send(one), codes[0], "")
		wantCode(t, put("one"), codes[1], "")
		if err := errors.Join(send(two), put("two")); err != nil {
			t.Errorf("%s reaches others: %v", kind, err)
		}
		for operation, body := range map[string]string{
			"BatchGetItem":       `{"RequestItems":{"two":{"Keys":[{"pk":{"S":"p"},"sk":{"S":"-"}}]},"one":{"Keys":[{"pk":{"S":"p"},"sk":{"S":"-"}}]}}}`,
			"TransactWriteItems": `{"TransactItems":[{"Delete":{"TableName":"two","Key":{"pk":{"S":"p"},"sk":{"S":"-"}}}},{"Delete":{"TableName":"one","Key":{"pk":{"S":"q"},"sk":{"S":"-"}}}}]}`,
		} {
			if r := call(t, a.Endpoint, operation, []byte(body)); outcome(r) != codes[1] {
				t.Errorf("%s: %s answered %s", kind, operation, r)
			}
		}
		a.ClearFaults()
	}
	if n := a.Requests()["sqs.SendMessage"]; n != 8 {
		t.Errorf("%d SendMessage were counted, want 8", n)
	}
}
