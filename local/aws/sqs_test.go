package aws_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"github.com/aws/smithy-go"
	"go.etcd.io/bbolt"

	local "whatisup/local/aws"
	"whatisup/local/aws/awstest"
)

// queueTest is a queue with the calls that tests make on it.
type queueTest struct {
	t   *testing.T
	aws *awstest.Instance
	c   *sqs.Client
	url *string
}

func newQueueTest(t *testing.T, name string, attributes ...string) *queueTest {
	t.Helper()
	a := awstest.Start(t)
	q := &queueTest{t: t, aws: a, c: sqs.NewFromConfig(a.Config, func(o *sqs.Options) { o.RetryMaxAttempts = 1 })}
	q.url = q.create(name, attributes...)
	return q
}

func (q *queueTest) create(name string, attributes ...string) *string {
	q.t.Helper()
	in := &sqs.CreateQueueInput{QueueName: &name, Attributes: map[string]string{}}
	if strings.HasSuffix(name, ".fifo") {
		in.Attributes["FifoQueue"] = "true"
	}
	for i := 0; i < len(attributes); i += 2 {
		in.Attributes[attributes[i]] = attributes[i+1]
	}
	out, err := q.c.CreateQueue(q.t.Context(), in)
	if err != nil {
		q.t.Fatal(err)
	}
	return out.QueueUrl
}

func (q *queueTest) send(body string, more ...func(*sqs.SendMessageInput)) *sqs.SendMessageOutput {
	q.t.Helper()
	in := &sqs.SendMessageInput{QueueUrl: q.url, MessageBody: &body}
	for _, f := range more {
		f(in)
	}
	out, err := q.c.SendMessage(q.t.Context(), in)
	if err != nil {
		q.t.Fatal(err)
	}
	return out
}

func group(g, dedup string) func(*sqs.SendMessageInput) {
	return func(in *sqs.SendMessageInput) {
		in.MessageGroupId = &g
		if dedup != "" {
			in.MessageDeduplicationId = &dedup
		}
	}
}

func (q *queueTest) receive(max int32, more ...func(*sqs.ReceiveMessageInput)) []types.Message {
	q.t.Helper()
	in := &sqs.ReceiveMessageInput{QueueUrl: q.url, MaxNumberOfMessages: max, MessageSystemAttributeNames: []types.MessageSystemAttributeName{"All"}, MessageAttributeNames: []string{"All"}}
	for _, f := range more {
		f(in)
	}
	out, err := q.c.ReceiveMessage(q.t.Context(), in)
	if err != nil {
		q.t.Fatal(err)
	}
	return out.Messages
}

// expect receives and holds the bodies to the wanted ones, in order.
func (q *queueTest) expect(bodies ...string) []types.Message {
	q.t.Helper()
	got := q.receive(10)
	var have []string
	for _, m := range got {
		have = append(have, *m.Body)
	}
	if !slices.Equal(have, bodies) {
		q.t.Fatalf("received %q, want %q", have, bodies)
	}
	return got
}

func (q *queueTest) delete(m types.Message) error {
	_, err := q.c.DeleteMessage(q.t.Context(), &sqs.DeleteMessageInput{QueueUrl: q.url, ReceiptHandle: m.ReceiptHandle})
	return err
}

func (q *queueTest) hide(m types.Message, seconds int32) error {
	_, err := q.c.ChangeMessageVisibility(q.t.Context(), &sqs.ChangeMessageVisibilityInput{QueueUrl: q.url, ReceiptHandle: m.ReceiptHandle, VisibilityTimeout: seconds})
	return err
}

func (q *queueTest) counts() string {
	q.t.Helper()
	out, err := q.c.GetQueueAttributes(q.t.Context(), &sqs.GetQueueAttributesInput{QueueUrl: q.url, AttributeNames: []types.QueueAttributeName{"All"}})
	if err != nil {
		q.t.Fatal(err)
	}
	a := out.Attributes
	return a["ApproximateNumberOfMessages"] + " " + a["ApproximateNumberOfMessagesNotVisible"] + " " + a["ApproximateNumberOfMessagesDelayed"]
}

func wantCode(t *testing.T, err error, code, text string) {
	t.Helper()
	var api smithy.APIError
	if !errors.As(err, &api) || api.ErrorCode() != code || !strings.Contains(api.ErrorMessage(), text) {
		t.Errorf("got %v, want %s: …%s…", err, code, text)
	}
}

func TestVisibility(t *testing.T) {
	t.Parallel()
	q := newQueueTest(t, "work", "VisibilityTimeout", "30")
	q.send("one")
	first := q.expect("one")[0]
	if n := first.Attributes["ApproximateReceiveCount"]; n != "1" {
		t.Errorf("receive count %s", n)
	}
	q.expect()
	if c := q.counts(); c != "0 1 0" {
		t.Errorf("counts %s", c)
	}
	if err := q.hide(first, 100); err != nil {
		t.Fatal(err)
	}
	q.aws.Step(99 * time.Second)
	q.expect()
	q.aws.Step(2 * time.Second)
	wantCode(t, q.hide(first, 10), "AWS.SimpleQueueService.MessageNotInflight", "")
	second := q.expect("one")[0]
	if n := second.Attributes["ApproximateReceiveCount"]; n != "2" {
		t.Errorf("receive count %s", n)
	}
	if err := q.delete(first); err != nil {
		t.Errorf("an old receipt: %v", err)
	}
	if err := q.hide(second, 0); err != nil {
		t.Fatal(err)
	}
	third := q.expect("one")[0]
	if err := q.delete(third); err != nil {
		t.Fatal(err)
	}
	if err := q.delete(third); err != nil {
		t.Errorf("deleting again: %v", err)
	}
	wantCode(t, q.hide(third, 1), "InvalidParameterValue", "Message does not exist")
	wantCode(t, q.delete(types.Message{ReceiptHandle: sdk.String("nonsense")}), "ReceiptHandleIsInvalid", "nonsense")
	if c := q.counts(); c != "0 0 0" {
		t.Errorf("counts %s", c)
	}
}

func TestDelayAndRetention(t *testing.T) {
	t.Parallel()
	q := newQueueTest(t, "late", "DelaySeconds", "5", "MessageRetentionPeriod", "60")
	q.send("default")
	q.send("own", func(in *sqs.SendMessageInput) { in.DelaySeconds = 20 })
	if c := q.counts(); c != "0 0 2" {
		t.Errorf("counts %s", c)
	}
	q.aws.Step(6 * time.Second)
	q.expect("default")
	q.aws.Step(15 * time.Second)
	q.expect("own")
	q.aws.Step(time.Minute)
	q.expect()
	if c := q.counts(); c != "0 0 0" {
		t.Errorf("counts after the retention: %s", c)
	}
	if _, err := q.aws.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// TestLongPoll waits for messages that come by being sent, by their delay, and
// by a change of visibility.
func TestLongPoll(t *testing.T) {
	t.Parallel()
	q := newQueueTest(t, "work")
	poll := func(do func()) time.Duration {
		t.Helper()
		got := make(chan []types.Message, 1)
		start := time.Now()
		go func() {
			out, err := q.c.ReceiveMessage(t.Context(), &sqs.ReceiveMessageInput{QueueUrl: q.url, WaitTimeSeconds: 20, VisibilityTimeout: 1000})
			if err != nil {
				t.Error(err)
			}
			got <- out.Messages
		}()
		do()
		if m := <-got; len(m) != 1 {
			t.Fatalf("received %d messages", len(m))
		}
		return time.Since(start)
	}
	if d := poll(func() { q.send("sent") }); d > 5*time.Second {
		t.Errorf("a message sent came after %v", d)
	}
	if d := poll(func() { q.send("delayed", func(in *sqs.SendMessageInput) { in.DelaySeconds = 1 }) }); d > 8*time.Second {
		t.Errorf("a delayed message came after %v", d)
	}
	q.send("hidden", func(in *sqs.SendMessageInput) { in.DelaySeconds = 900 })
	if d := poll(func() { q.aws.Step(901 * time.Second) }); d > 5*time.Second {
		t.Errorf("a step of the clock was noticed after %v", d)
	}
}

func TestRedrive(t *testing.T) {
	t.Parallel()
	q := newQueueTest(t, "dead")
	dead := q.url
	policy := `{"deadLetterTargetArn":"arn:aws:sqs:us-east-1:000000000000:dead","maxReceiveCount":2}`
	q.url = q.create("alive", "RedrivePolicy", policy, "VisibilityTimeout", "10")
	id := *q.send("poison").MessageId
	for range 2 {
		q.expect("poison")
		q.aws.Step(11 * time.Second)
	}
	q.expect()
	alive := q.url
	q.url = dead
	m := q.expect("poison")[0]
	if *m.MessageId != id || m.Attributes["DeadLetterQueueSourceArn"] != "arn:aws:sqs:us-east-1:000000000000:alive" || m.Attributes["ApproximateReceiveCount"] != "3" {
		t.Errorf("moved as %s %v", *m.MessageId, m.Attributes)
	}
	q.url = alive
	if c := q.counts(); c != "0 0 0" {
		t.Errorf("counts of the source %s", c)
	}
	_, err := q.c.SetQueueAttributes(t.Context(), &sqs.SetQueueAttributesInput{QueueUrl: q.url, Attributes: map[string]string{"RedrivePolicy": strings.ReplaceAll(policy, ":dead", ":nobody")}})
	wantCode(t, err, "InvalidParameterValue", "Dead letter target does not exist")
}

func TestFIFO(t *testing.T) {
	t.Parallel()
	q := newQueueTest(t, "work.fifo", "VisibilityTimeout", "30")
	for i, g := range []string{"a", "a", "b", "a", "b"} {
		q.send(fmt.Sprintf("%s%d", g, i), group(g, fmt.Sprint(i)))
	}
	first := q.receive(1)[0]
	if *first.Body != "a0" {
		t.Fatalf("first came %s", *first.Body)
	}
	rest := q.expect("b2", "b4") // a is locked
	q.expect()
	if err := q.delete(first); err != nil {
		t.Fatal(err)
	}
	q.expect("a1", "a3")
	// Making the second of a group visible does not unlock the group.
	if err := q.hide(rest[0], 0); err != nil {
		t.Fatal(err)
	}
	q.expect()
	if err := q.hide(rest[1], 0); err != nil {
		t.Fatal(err)
	}
	again := q.expect("b2", "b4")
	if again[0].Attributes["SequenceNumber"] >= again[1].Attributes["SequenceNumber"] || len(again[0].Attributes["SequenceNumber"]) != 20 {
		t.Errorf("sequence numbers %s, %s", again[0].Attributes["SequenceNumber"], again[1].Attributes["SequenceNumber"])
	}
	q.aws.Step(31 * time.Second)
	wantCode(t, q.delete(again[0]), "InvalidParameterValue", "The receipt handle has expired")
	q.expect("a1", "b2", "a3", "b4")
}

func TestDeduplication(t *testing.T) {
	t.Parallel()
	q := newQueueTest(t, "once.fifo")
	sent := q.send("one", group("g", "same"))
	copied := q.send("another body", group("h", "same"))
	if *copied.MessageId != *sent.MessageId || *copied.SequenceNumber != *sent.SequenceNumber {
		t.Errorf("the copy got %s %s, the first %s %s", *copied.MessageId, *copied.SequenceNumber, *sent.MessageId, *sent.SequenceNumber)
	}
	if err := q.delete(q.expect("one")[0]); err != nil {
		t.Fatal(err)
	}
	q.aws.Step(4*time.Minute + 50*time.Second)
	q.send("one", group("g", "same"))
	q.expect() // still within five minutes, though the first copy is gone
	q.aws.Step(11 * time.Second)
	q.send("one", group("g", "same"))
	q.expect("one")

	_, err := q.c.SendMessage(t.Context(), &sqs.SendMessageInput{QueueUrl: q.url, MessageBody: sdk.String("x"), MessageGroupId: sdk.String("g")})
	wantCode(t, err, "InvalidParameterValue", "ContentBasedDeduplication")
	_, err = q.c.SendMessage(t.Context(), &sqs.SendMessageInput{QueueUrl: q.url, MessageBody: sdk.String("x"), MessageDeduplicationId: sdk.String("g")})
	wantCode(t, err, "MissingParameter", "MessageGroupId")
	_, err = q.c.SendMessage(t.Context(), &sqs.SendMessageInput{QueueUrl: q.url, MessageBody: sdk.String("x"), MessageGroupId: sdk.String("g"), MessageDeduplicationId: sdk.String("y"), DelaySeconds: 3})
	wantCode(t, err, "InvalidParameterValue", "not valid for this queue type")

	q.url = q.create("content.fifo", "ContentBasedDeduplication", "true")
	q.send("same text", group("g", ""))
	q.send("same text", group("g", ""))
	q.send("other text", group("g", ""))
	q.expect("same text", "other text")

	q.url = q.create("groups.fifo", "DeduplicationScope", "messageGroup", "FifoThroughputLimit", "perMessageGroupId")
	q.send("a", group("a", "same"))
	q.send("b", group("b", "same"))
	q.expect("a", "b")
}

func TestBatches(t *testing.T) {
	t.Parallel()
	q := newQueueTest(t, "work", "MaximumMessageSize", "1024")
	entry := func(id, body string) types.SendMessageBatchRequestEntry {
		return types.SendMessageBatchRequestEntry{Id: &id, MessageBody: &body}
	}
	ctx := t.Context()
	out, err := q.c.SendMessageBatch(ctx, &sqs.SendMessageBatchInput{QueueUrl: q.url, Entries: []types.SendMessageBatchRequestEntry{
		entry("ok", "fine"), entry("long", strings.Repeat("x", 1025)), entry("char", "\x01"), entry("fine", "too"),
	}})
	if err != nil {
		t.Fatal(err)
	}
	if len(out.Successful) != 2 || len(out.Failed) != 2 || *out.Failed[0].Id != "long" || *out.Failed[0].Code != "InvalidParameterValue" ||
		*out.Failed[1].Code != "InvalidMessageContents" || !out.Failed[1].SenderFault {
		t.Fatalf("answer %+v", out)
	}
	got := q.expect("fine", "too")
	deleted, err := q.c.DeleteMessageBatch(ctx, &sqs.DeleteMessageBatchInput{QueueUrl: q.url, Entries: []types.DeleteMessageBatchRequestEntry{
		{Id: sdk.String("a"), ReceiptHandle: got[0].ReceiptHandle}, {Id: sdk.String("b"), ReceiptHandle: sdk.String("bad")},
	}})
	if err != nil || len(deleted.Successful) != 1 || len(deleted.Failed) != 1 || *deleted.Failed[0].Code != "ReceiptHandleIsInvalid" {
		t.Fatalf("deleted %+v, %v", deleted, err)
	}
	hidden, err := q.c.ChangeMessageVisibilityBatch(ctx, &sqs.ChangeMessageVisibilityBatchInput{QueueUrl: q.url, Entries: []types.ChangeMessageVisibilityBatchRequestEntry{
		{Id: sdk.String("a"), ReceiptHandle: got[0].ReceiptHandle, VisibilityTimeout: 1}, {Id: sdk.String("b"), ReceiptHandle: got[1].ReceiptHandle},
	}})
	if err != nil || len(hidden.Successful) != 1 || len(hidden.Failed) != 1 {
		t.Fatalf("hidden %+v, %v", hidden, err)
	}
	q.expect("too")

	_, err = q.c.SendMessageBatch(ctx, &sqs.SendMessageBatchInput{QueueUrl: q.url, Entries: []types.SendMessageBatchRequestEntry{}})
	wantCode(t, err, "AWS.SimpleQueueService.EmptyBatchRequest", "")
	_, err = q.c.SendMessageBatch(ctx, &sqs.SendMessageBatchInput{QueueUrl: q.url, Entries: []types.SendMessageBatchRequestEntry{entry("a", "1"), entry("a", "2")}})
	wantCode(t, err, "AWS.SimpleQueueService.BatchEntryIdsNotDistinct", "")
	_, err = q.c.SendMessageBatch(ctx, &sqs.SendMessageBatchInput{QueueUrl: q.url, Entries: []types.SendMessageBatchRequestEntry{entry("a b", "1")}})
	wantCode(t, err, "AWS.SimpleQueueService.InvalidBatchEntryId", "")
	var many []types.SendMessageBatchRequestEntry
	for i := range 11 {
		many = append(many, entry(fmt.Sprint(i), "x"))
	}
	_, err = q.c.SendMessageBatch(ctx, &sqs.SendMessageBatchInput{QueueUrl: q.url, Entries: many})
	wantCode(t, err, "AWS.SimpleQueueService.TooManyEntriesInBatchRequest", "11")
	big := strings.Repeat("x", 600<<10)
	q.url = q.create("big")
	_, err = q.c.SendMessageBatch(ctx, &sqs.SendMessageBatchInput{QueueUrl: q.url, Entries: []types.SendMessageBatchRequestEntry{entry("a", big), entry("b", big)}})
	wantCode(t, err, "AWS.SimpleQueueService.BatchRequestTooLong", "1048576")
}

func TestQueues(t *testing.T) {
	t.Parallel()
	q := newQueueTest(t, "work", "VisibilityTimeout", "40")
	ctx := t.Context()
	if again := q.create("work", "VisibilityTimeout", "40"); *again != *q.url {
		t.Errorf("created again as %s", *again)
	}
	_, err := q.c.CreateQueue(ctx, &sqs.CreateQueueInput{QueueName: sdk.String("work"), Attributes: map[string]string{"VisibilityTimeout": "41"}})
	wantCode(t, err, "QueueAlreadyExists", "VisibilityTimeout")
	for name, attributes := range map[string]map[string]string{
		"bad name": nil, "plain": {"FifoQueue": "true"}, "x.fifo": nil, "y": {"VisibilityTimeout": "43201"}, "z": {"Nonsense": "1"},
	} {
		if _, err := q.c.CreateQueue(ctx, &sqs.CreateQueueInput{QueueName: &name, Attributes: attributes}); err == nil {
			t.Errorf("%s %v was created", name, attributes)
		}
	}
	q.create("worker")
	q.create("other")
	list, err := q.c.ListQueues(ctx, &sqs.ListQueuesInput{QueueNamePrefix: sdk.String("work"), MaxResults: sdk.Int32(1)})
	if err != nil || len(list.QueueUrls) != 1 || list.NextToken == nil {
		t.Fatalf("listed %+v, %v", list, err)
	}
	list, err = q.c.ListQueues(ctx, &sqs.ListQueuesInput{QueueNamePrefix: sdk.String("work"), MaxResults: sdk.Int32(1), NextToken: list.NextToken})
	if err != nil || len(list.QueueUrls) != 1 || list.QueueUrls[0] == *q.url {
		t.Fatalf("listed %+v, %v", list, err)
	}
	q.send("purged")
	if _, err := q.c.PurgeQueue(ctx, &sqs.PurgeQueueInput{QueueUrl: q.url}); err != nil {
		t.Fatal(err)
	}
	q.expect()
	_, err = q.c.PurgeQueue(ctx, &sqs.PurgeQueueInput{QueueUrl: q.url})
	wantCode(t, err, "AWS.SimpleQueueService.PurgeQueueInProgress", "")
	if _, err := q.c.DeleteQueue(ctx, &sqs.DeleteQueueInput{QueueUrl: q.url}); err != nil {
		t.Fatal(err)
	}
	_, err = q.c.SendMessage(ctx, &sqs.SendMessageInput{QueueUrl: q.url, MessageBody: sdk.String("x")})
	wantCode(t, err, "AWS.SimpleQueueService.NonExistentQueue", "")
	_, err = q.c.CreateQueue(ctx, &sqs.CreateQueueInput{QueueName: sdk.String("work")})
	wantCode(t, err, "AWS.SimpleQueueService.QueueDeletedRecently", "60 seconds")
	q.aws.Step(time.Minute)
	q.url = q.create("work")
	q.expect()
}

func TestSQSFaults(t *testing.T) {
	t.Parallel()
	q := newQueueTest(t, "work")
	if err := q.aws.Inject(local.Fault{Kind: local.Duplicate, Service: "sqs", Resource: "work", Times: 1}); err != nil {
		t.Fatal(err)
	}
	q.send("twice")
	q.expect("twice")
	q.expect("twice")
	q.expect()
	if err := q.aws.Inject(local.Fault{Kind: local.Late, Delay: time.Minute, Times: 1}); err != nil {
		t.Fatal(err)
	}
	q.send("late")
	q.send("in time")
	q.expect("in time")
	q.aws.Step(61 * time.Second)
	for _, m := range q.receive(10) {
		if *m.Body == "late" {
			return
		}
	}
	t.Error("the late message did not come")
}

// TestSearchWindow has a FIFO queue look for free groups among its first
// messages only: behind a backlog of one group others are not found.
func TestSearchWindow(t *testing.T) {
	t.Parallel()
	a := awstest.StartWith(t, local.Config{SearchWindow: 10})
	q := &queueTest{t: t, aws: a, c: sqs.NewFromConfig(a.Config)}
	q.url = q.create("q.fifo", "VisibilityTimeout", "30", "DeduplicationScope", "messageGroup", "FifoThroughputLimit", "perMessageGroupId")
	for i := range 12 {
		q.send(fmt.Sprint("a", i), group("a", fmt.Sprint(i)))
	}
	q.send("b0", group("b", "0"))
	first := q.receive(1)
	if len(first) != 1 || *first[0].Body != "a0" {
		t.Fatalf("received %v", first)
	}
	q.expect() // the window holds a's messages alone, and a is in flight
	if err := q.delete(first[0]); err != nil {
		t.Fatal(err)
	}
	second := q.receive(2) // a's messages 1 to 10 are in the window
	if len(second) != 2 || *second[0].Body != "a1" || *second[1].Body != "a2" {
		t.Fatalf("received %v", second)
	}
	for _, m := range second {
		if err := q.delete(m); err != nil {
			t.Fatal(err)
		}
	}
	locked := q.receive(1) // a3: 9 of a's messages are left, and b's is the tenth
	if len(locked) != 1 || *locked[0].Body != "a3" {
		t.Fatalf("received %v", locked)
	}
	q.expect("b0")
}

// TestFlightKept has a FIFO queue know after a restart which groups are locked,
// also in a file from before it kept a list of them.
func TestFlightKept(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "aws.db")
	start := func(t *testing.T) *queueTest {
		a := awstest.StartWith(t, local.Config{Path: path})
		q := &queueTest{t: t, aws: a, c: sqs.NewFromConfig(a.Config)}
		q.url = q.create("q.fifo")
		return q
	}
	t.Run("before", func(t *testing.T) {
		q := start(t)
		q.send("a0", group("a", "0"))
		q.send("a1", group("a", "1"))
		q.send("b0", group("b", "2"))
		if got := q.receive(1); len(got) != 1 || *got[0].Body != "a0" {
			t.Fatalf("received %v", got)
		}
	})
	forgetFlights(t, path)
	t.Run("after", func(t *testing.T) {
		q := start(t)
		q.expect("b0")
		q.aws.Step(31 * time.Second)
		q.expect("a0", "a1", "b0")
	})
}

// forgetFlights takes the lists of messages in flight out of a file.
func forgetFlights(t *testing.T, path string) {
	t.Helper()
	db, err := bbolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		queues := tx.Bucket([]byte("sqs/data"))
		return queues.ForEachBucket(func(id []byte) error { return queues.Bucket(id).DeleteBucket([]byte("flight")) })
	})
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
}

// TestThroughputMode has the two halves of high-throughput mode go together.
func TestThroughputMode(t *testing.T) {
	t.Parallel()
	q := newQueueTest(t, "q.fifo")
	create := func(attributes map[string]string) error {
		attributes["FifoQueue"] = "true"
		_, err := q.c.CreateQueue(t.Context(), &sqs.CreateQueueInput{QueueName: sdk.String("other.fifo"), Attributes: attributes})
		return err
	}
	set := func(attributes map[string]string) error {
		_, err := q.c.SetQueueAttributes(t.Context(), &sqs.SetQueueAttributesInput{QueueUrl: q.url, Attributes: attributes})
		return err
	}
	wantCode(t, create(map[string]string{"FifoThroughputLimit": "perMessageGroupId"}), "InvalidParameterValue", "DeduplicationScope")
	wantCode(t, set(map[string]string{"FifoThroughputLimit": "perMessageGroupId", "DeduplicationScope": "queue"}), "InvalidParameterValue", "DeduplicationScope")
	if err := set(map[string]string{"FifoThroughputLimit": "perMessageGroupId", "DeduplicationScope": "messageGroup"}); err != nil {
		t.Fatal(err)
	}
	wantCode(t, set(map[string]string{"DeduplicationScope": "queue"}), "InvalidParameterValue", "DeduplicationScope")
	out, err := q.c.GetQueueAttributes(t.Context(), &sqs.GetQueueAttributesInput{QueueUrl: q.url, AttributeNames: []types.QueueAttributeName{"All"}})
	if err != nil || out.Attributes["FifoThroughputLimit"] != "perMessageGroupId" || out.Attributes["DeduplicationScope"] != "messageGroup" {
		t.Errorf("%v %v", out, err)
	}
}

// TestBacklog receives from a FIFO queue in front of which one group owes more
// than SQS's window, as one consumer after another would.
func TestBacklog(t *testing.T) {
	if testing.Short() || os.Getenv("CONFORMANCE") != "long" {
		t.Skip("200,000 messages are for CONFORMANCE=long")
	}
	q := newQueueTest(t, "q.fifo", "DeduplicationScope", "messageGroup", "FifoThroughputLimit", "perMessageGroupId", "VisibilityTimeout", "600")
	send := func(g string, from, n int) {
		var wg sync.WaitGroup
		for w := range 16 {
			wg.Go(func() {
				for i := from + w*10; i < from+n; i += 160 {
					var entries []types.SendMessageBatchRequestEntry
					for j := i; j < min(i+10, from+n); j++ {
						entries = append(entries, types.SendMessageBatchRequestEntry{Id: sdk.String(fmt.Sprint(j)), MessageBody: sdk.String("x"), MessageGroupId: &g, MessageDeduplicationId: sdk.String(fmt.Sprint(j))})
					}
					if _, err := q.c.SendMessageBatch(t.Context(), &sqs.SendMessageBatchInput{QueueUrl: q.url, Entries: entries}); err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		wg.Wait()
	}
	send("hangs", 0, 119_000)
	send("waits", 0, 100)
	q.receive(1) // locks the group that hangs
	start := time.Now()
	const rounds = 100
	for range rounds {
		got := q.receive(1)
		if len(got) != 1 || got[0].Attributes["MessageGroupId"] != "waits" {
			t.Fatalf("received %v", got)
		}
		if err := q.delete(got[0]); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("a message behind 119,000 of a locked group took %v", time.Since(start)/rounds)
	send("hangs", 119_000, 81_000)
	send("late", 0, 1)
	q.expect() // behind the window
}
