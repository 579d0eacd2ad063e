package aws_test

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	local "whatisup/local/aws"
	"whatisup/local/aws/awstest"
)

// post sends a form as SQS's older clients do, signed.
func post(t *testing.T, to, secret string, parameters ...string) (int, string) {
	t.Helper()
	form := url.Values{"Version": {"2012-11-05"}}
	for i := 0; i < len(parameters); i += 2 {
		form.Set(parameters[i], parameters[i+1])
	}
	body := form.Encode()
	r, err := http.NewRequest("POST", to, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded; charset=utf-8")
	hash := sha256.Sum256([]byte(body))
	err = v4.NewSigner().SignHTTP(t.Context(), sdk.Credentials{AccessKeyID: "local", SecretAccessKey: secret}, r, hex.EncodeToString(hash[:]), "sqs", "us-east-1", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if kind := resp.Header.Get("Content-Type"); kind != "text/xml" {
		t.Errorf("the answer is %s", kind)
	}
	return resp.StatusCode, string(answer)
}

// TestQueryProtocol sends what botocore 1.29 (of AWS CLI 2.9) sent for each
// operation, and reads the answers as it does.
func TestQueryProtocol(t *testing.T) {
	t.Parallel()
	a := awstest.StartWith(t, local.Config{SecretKey: "local"})
	ask := func(want string, parameters ...string) string {
		t.Helper()
		to := a.Endpoint + "/"
		for i := 0; i < len(parameters); i += 2 {
			if parameters[i] == "QueueUrl" {
				to = parameters[i+1] // where that client sends it
			}
		}
		status, answer := post(t, to, "local", parameters...)
		if !regexp.MustCompile(want).MatchString(answer) || status != 200 && !strings.Contains(answer, "<ErrorResponse") {
			t.Errorf("%v: %d %s, want %s", parameters, status, answer, want)
		}
		return answer
	}
	part := func(answer, element string) string {
		t.Helper()
		m := regexp.MustCompile("<" + element + ">([^<]*)</" + element + ">").FindStringSubmatch(answer)
		if m == nil {
			t.Fatalf("no %s in %s", element, answer)
		}
		return m[1]
	}

	queue := part(ask(`^<\?xml version="1.0"\?><CreateQueueResponse xmlns="http://queue.amazonaws.com/doc/2012-11-05/"><CreateQueueResult><QueueUrl>http://127.0.0.1:\d+/000000000000/work</QueueUrl></CreateQueueResult><ResponseMetadata><RequestId>\w+</RequestId></ResponseMetadata></CreateQueueResponse>$`,
		"Action", "CreateQueue", "QueueName", "work", "Attribute.1.Name", "VisibilityTimeout", "Attribute.1.Value", "7", "Tag.1.Key", "a", "Tag.1.Value", "b"), "QueueUrl")
	ask(`<GetQueueUrlResult><QueueUrl>`+queue+`</QueueUrl>`, "Action", "GetQueueUrl", "QueueName", "work")
	ask(`<ListQueuesResult><QueueUrl>`+queue+`</QueueUrl></ListQueuesResult>`, "Action", "ListQueues", "QueueNamePrefix", "wo")
	ask(`<Attribute><Name>VisibilityTimeout</Name><Value>7</Value></Attribute>`, "Action", "GetQueueAttributes", "QueueUrl", queue, "AttributeName.1", "QueueArn", "AttributeName.2", "VisibilityTimeout")
	ask(`<SetQueueAttributesResponse [^>]*><ResponseMetadata>`, "Action", "SetQueueAttributes", "QueueUrl", queue, "Attribute.1.Name", "DelaySeconds", "Attribute.1.Value", "0")
	sent := ask(`<SendMessageResult>.*<MD5OfMessageBody>[0-9a-f]{32}</MD5OfMessageBody>`, "Action", "SendMessage", "QueueUrl", queue, "MessageBody", "a <b> & \"c\" ü", "DelaySeconds", "0",
		"MessageAttribute.1.Name", "kind", "MessageAttribute.1.Value.DataType", "String", "MessageAttribute.1.Value.StringValue", "x&y",
		"MessageAttribute.2.Name", "raw", "MessageAttribute.2.Value.DataType", "Binary", "MessageAttribute.2.Value.BinaryValue", "AAE=")
	got := ask(`<Message>.*<Body>a &lt;b&gt; &amp; &#34;c&#34; ü</Body>`, "Action", "ReceiveMessage", "QueueUrl", queue, "MaxNumberOfMessages", "1", "WaitTimeSeconds", "0", "AttributeName.1", "All", "MessageAttributeName.1", "All")
	for _, want := range []string{
		"<MessageId>" + part(sent, "MessageId") + "</MessageId>",
		"<MD5OfBody>" + part(sent, "MD5OfMessageBody") + "</MD5OfBody>",
		"<MD5OfMessageAttributes>" + part(sent, "MD5OfMessageAttributes") + "</MD5OfMessageAttributes>",
		"<Attribute><Name>ApproximateReceiveCount</Name><Value>1</Value></Attribute>",
		"<MessageAttribute><Name>kind</Name><Value><DataType>String</DataType><StringValue>x&amp;y</StringValue></Value></MessageAttribute>",
		"<MessageAttribute><Name>raw</Name><Value><DataType>Binary</DataType><BinaryValue>AAE=</BinaryValue></Value></MessageAttribute>",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("received %s, want %s", got, want)
		}
	}
	handle := part(got, "ReceiptHandle")
	ask(`<ChangeMessageVisibilityResponse `, "Action", "ChangeMessageVisibility", "QueueUrl", queue, "ReceiptHandle", handle, "VisibilityTimeout", "3")
	ask(`<DeleteMessageResponse [^>]*><ResponseMetadata>`, "Action", "DeleteMessage", "QueueUrl", queue, "ReceiptHandle", handle)
	ask(`<ReceiveMessageResult></ReceiveMessageResult>`, "Action", "ReceiveMessage", "QueueUrl", queue)
	batch := ask(`<SendMessageBatchResultEntry>.*<Id>two</Id>.*</SendMessageBatchResultEntry>`, "Action", "SendMessageBatch", "QueueUrl", queue,
		"SendMessageBatchRequestEntry.1.Id", "one", "SendMessageBatchRequestEntry.1.MessageBody", "\x02",
		"SendMessageBatchRequestEntry.2.Id", "two", "SendMessageBatchRequestEntry.2.MessageBody", "2",
		"SendMessageBatchRequestEntry.10.Id", "ten", "SendMessageBatchRequestEntry.10.MessageBody", "10")
	if !strings.Contains(batch, "<BatchResultErrorEntry><Id>one</Id><Code>InvalidMessageContents</Code>") || !strings.Contains(batch, "<SenderFault>true</SenderFault>") {
		t.Errorf("the batch's failure is told as %s", batch)
	}
	got = ask(`<Body>2</Body>.*<Body>10</Body>`, "Action", "ReceiveMessage", "QueueUrl", queue, "MaxNumberOfMessages", "10")
	ask(`<DeleteMessageBatchResultEntry><Id>a</Id></DeleteMessageBatchResultEntry>`, "Action", "DeleteMessageBatch", "QueueUrl", queue,
		"DeleteMessageBatchRequestEntry.1.Id", "a", "DeleteMessageBatchRequestEntry.1.ReceiptHandle", part(got, "ReceiptHandle"))
	ask(`<PurgeQueueResponse `, "Action", "PurgeQueue", "QueueUrl", queue)

	ask(`<ErrorResponse [^>]*><Error><Type>Sender</Type><Code>AWS.SimpleQueueService.NonExistentQueue</Code><Message>The specified queue does not exist.</Message><Detail/></Error><RequestId>`, "Action", "GetQueueUrl", "QueueName", "none")
	ask(`<Code>InvalidMessageContents</Code>`, "Action", "SendMessage", "QueueUrl", queue, "MessageBody", "\x01")
	ask(`<Code>InvalidParameterValue</Code>`, "Action", "ReceiveMessage", "QueueUrl", queue, "MaxNumberOfMessages", "many")
	ask(`<DeleteQueueResponse `, "Action", "DeleteQueue", "QueueUrl", queue)
	if status, answer := post(t, a.Endpoint+"/", "other", "Action", "ListQueues"); status != 403 || !strings.Contains(answer, "<Code>SignatureDoesNotMatch</Code>") {
		t.Errorf("with another secret: %d %s", status, answer)
	}
}

// TestQueryUnknown has what is not served refused by name and counted, in this
// protocol as in the other.
func TestQueryUnknown(t *testing.T) {
	t.Parallel()
	server, err := local.Open(local.Config{Path: filepath.Join(t.TempDir(), "aws.db")})
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	front := httptest.NewServer(server)
	defer front.Close()
	if status, answer := post(t, front.URL, "local", "Action", "AddPermission"); status != 400 || !strings.Contains(answer, "<Code>InvalidAction</Code>") {
		t.Errorf("%d %s", status, answer)
	}
	if status, answer := post(t, front.URL, "local", "Action", "ReceiveMessage", "QueueUrl", "q", "ReceiveRequestAttemptId", "x"); status != 400 || !strings.Contains(answer, "ReceiveRequestAttemptId") {
		t.Errorf("%d %s", status, answer)
	}
	if unknown := server.Unknown(); unknown["sqs.the action AddPermission"] != 1 || unknown["sqs.ReceiveMessage.ReceiveRequestAttemptId"] != 1 {
		t.Errorf("counted %v", unknown)
	}
}

// TestCLI speaks to SQS with every AWS CLI that is installed: Debian's 2.9 and
// those of the 1.x line before 1.29 send forms, newer ones JSON. Each of its
// calls takes a second or more, so it is for CONFORMANCE=long.
func TestCLI(t *testing.T) {
	t.Parallel()
	if os.Getenv("CONFORMANCE") != "long" {
		t.Skip("the AWS CLI is for CONFORMANCE=long")
	}
	tried := map[string]bool{}
	for _, name := range []string{"aws", "/usr/bin/aws", "/usr/local/bin/aws"} {
		path, err := exec.LookPath(name)
		if err != nil || tried[path] {
			continue
		}
		tried[path] = true
		t.Run(path, func(t *testing.T) { tryCLI(t, path) })
	}
	if len(tried) == 0 {
		t.Skip("NOT TRIED: no AWS CLI is installed")
	}
}

func tryCLI(t *testing.T, path string) {
	a := awstest.StartWith(t, local.Config{SecretKey: "local"})
	run := func(arguments ...string) map[string]any {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), path, append([]string{"--endpoint-url", a.Endpoint, "--region", "us-east-1", "--output", "json"}, arguments...)...)
		cmd.Env = append(os.Environ(), "AWS_ACCESS_KEY_ID=local", "AWS_SECRET_ACCESS_KEY=local", "AWS_PAGER=", "AWS_EC2_METADATA_DISABLED=true")
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %v\n%s", arguments, err, out)
		}
		var v map[string]any
		if len(out) > 0 {
			if err := json.Unmarshal(out, &v); err != nil {
				t.Fatalf("%v: %s", arguments, out)
			}
		}
		return v
	}
	queue := run("sqs", "create-queue", "--queue-name", "q.fifo", "--attributes", "FifoQueue=true")["QueueUrl"].(string)
	run("sqs", "send-message", "--queue-url", queue, "--message-body", `{"a": "<ü>"}`, "--message-group-id", "g", "--message-deduplication-id", "d",
		"--message-attributes", `{"k":{"DataType":"String","StringValue":"v"}}`)
	messages := run("sqs", "receive-message", "--queue-url", queue, "--attribute-names", "All", "--message-attribute-names", "All")["Messages"].([]any)
	m := messages[0].(map[string]any)
	if m["Body"] != `{"a": "<ü>"}` || m["Attributes"].(map[string]any)["MessageGroupId"] != "g" || m["MessageAttributes"].(map[string]any)["k"].(map[string]any)["StringValue"] != "v" {
		t.Errorf("received %v", m)
	}
	run("sqs", "delete-message", "--queue-url", queue, "--receipt-handle", m["ReceiptHandle"].(string))
	run("sqs", "get-queue-attributes", "--queue-url", queue, "--attribute-names", "All")
	run("sqs", "delete-queue", "--queue-url", queue)

	run("dynamodb", "list-tables")
	run("s3api", "create-bucket", "--bucket", "media")
	file := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(file, random(9<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	run("s3api", "put-object", "--bucket", "media", "--key", "a/b", "--body", file)
	if head := run("s3api", "head-object", "--bucket", "media", "--key", "a/b"); head["ContentLength"] != 9.0*(1<<20) {
		t.Errorf("%v", head)
	}
	back := file + "2"
	run("s3api", "get-object", "--bucket", "media", "--key", "a/b", back)
	before, _ := os.ReadFile(file)
	after, err := os.ReadFile(back)
	if err != nil || string(before) != string(after) {
		t.Errorf("%d bytes came back as %d: %v", len(before), len(after), err)
	}
}
