package gateway

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
)

// memory is a queue that gives its batches out one after the other, and then
// holds polls until their context ends. An empty batch is a failure.
type memory struct {
	mu      sync.Mutex
	batches [][]string
	asked   int
	deleted []string
	// requests is how many deletions there were.
	requests int
	slow     time.Duration // a deletion is
	fifo     bool          // a message's group is its first letter
}

func (m *memory) ReceiveMessage(ctx context.Context, _ *sqs.ReceiveMessageInput, _ ...func(*sqs.Options)) (*sqs.ReceiveMessageOutput, error) {
	m.mu.Lock()
	m.asked++
	var batch []string
	more := len(m.batches) > 0
	if more {
		batch, m.batches = m.batches[0], m.batches[1:]
	}
	m.mu.Unlock()
	if !more {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	if len(batch) == 0 {
		return nil, errors.New("not now")
	}
	out := &sqs.ReceiveMessageOutput{}
	for _, id := range batch {
		var attributes map[string]string
		if m.fifo {
			attributes = map[string]string{"MessageGroupId": id[:1], "SequenceNumber": "1"}
		}
		out.Messages = append(out.Messages, types.Message{
			Attributes: attributes, MessageId: aws.String(id), ReceiptHandle: aws.String("receipt of " + id), Body: aws.String("body of " + id),
			MessageAttributes: map[string]types.MessageAttributeValue{"event": {DataType: aws.String("String"), StringValue: aws.String("x")}},
		})
	}
	return out, nil
}

func (m *memory) DeleteMessageBatch(_ context.Context, in *sqs.DeleteMessageBatchInput, _ ...func(*sqs.Options)) (*sqs.DeleteMessageBatchOutput, error) {
	time.Sleep(m.slow)
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(in.Entries) > 10 {
		return nil, errors.New("too many")
	}
	for _, e := range in.Entries {
		m.deleted = append(m.deleted, strings.TrimPrefix(aws.ToString(e.ReceiptHandle), "receipt of "))
	}
	m.requests++
	return &sqs.DeleteMessageBatchOutput{}, nil
}

func TestTrigger(t *testing.T) {
	t.Parallel()
	failures := func(ids ...string) (r events.SQSEventResponse) {
		for _, id := range ids {
			r.BatchItemFailures = append(r.BatchItemFailures, events.SQSBatchItemFailure{ItemIdentifier: id})
		}
		return r
	}
	for name, c := range map[string]struct {
		handler func(context.Context, events.SQSEvent) (events.SQSEventResponse, error)
		deleted []string
	}{
		"all done": {func(_ context.Context, e events.SQSEvent) (events.SQSEventResponse, error) {
			r := e.Records[0]
			if r.MessageId != "a" || r.Body != "body of a" || r.EventSource != "aws:sqs" || r.AWSRegion != "eu-central-1" || *r.MessageAttributes["event"].StringValue != "x" {
				t.Errorf("record is %+v", r)
			}
			return failures(), nil
		}, []string{"a", "b"}},
		"one failed": {func(context.Context, events.SQSEvent) (events.SQSEventResponse, error) { return failures("a"), nil }, []string{"b"}},
		"all failed": {func(context.Context, events.SQSEvent) (events.SQSEventResponse, error) {
			return failures("a", "b"), nil
		}, nil},
		"an unknown one": {func(context.Context, events.SQSEvent) (events.SQSEventResponse, error) { return failures("z"), nil }, nil},
		"the function failed": {func(context.Context, events.SQSEvent) (events.SQSEventResponse, error) {
			return failures(), errors.New("x")
		}, nil},
		"the function crashed": {func(context.Context, events.SQSEvent) (events.SQSEventResponse, error) { panic("x") }, nil},
		"the function took long": {func(ctx context.Context, _ events.SQSEvent) (events.SQSEventResponse, error) {
			<-ctx.Done()
			return failures(), ctx.Err()
		}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				queue := &memory{batches: [][]string{{}, {"a", "b"}}} // the first poll fails
				ctx, cancel := context.WithCancel(t.Context())
				ended := make(chan error, 1)
				go func() {
					ended <- Trigger{
						Queue: queue, ARN: "arn:aws:sqs:eu-central-1:1:q", Batch: 10, Timeout: time.Second, Handler: c.handler,
						Log: slog.New(slog.DiscardHandler),
					}.Run(ctx)
				}()
				time.Sleep(time.Minute)
				cancel()
				if err := <-ended; err != nil {
					t.Error(err)
				}
				if !slices.Equal(queue.deleted, c.deleted) {
					t.Errorf("deleted %v, want %v", queue.deleted, c.deleted)
				}
				if queue.asked != 3 {
					t.Errorf("polled %d times in a minute, want 3", queue.asked)
				}
			})
		})
	}
}

// TestTriggerRemovesTogether has many messages end while one is being deleted: they are
// deleted together, and the trigger ends after the last of them.
func TestTriggerRemovesTogether(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		queue := &memory{slow: time.Second}
		var want []string
		for n := range 31 {
			want = append(want, string(rune('A'+n)))
			queue.batches = append(queue.batches, want[n:])
		}
		for n := range queue.batches {
			queue.batches[n] = queue.batches[n][:1]
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() {
			ended <- Trigger{
				Queue: queue, Batch: 1, Concurrency: 40, Timeout: time.Second, Log: slog.New(slog.DiscardHandler),
				Handler: func(context.Context, events.SQSEvent) (events.SQSEventResponse, error) {
					return events.SQSEventResponse{}, nil
				},
			}.Run(ctx)
		}()
		time.Sleep(100 * time.Millisecond)
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if slices.Sort(queue.deleted); !slices.Equal(queue.deleted, want) {
			t.Errorf("deleted %v, want %v", queue.deleted, want)
		}
		if queue.requests > 5 {
			t.Errorf("%d deletions, want some of ten", queue.requests)
		}
	})
}

// TestTriggerKeepsGroups has messages of two groups come together to a function that takes
// one at a time: those of a group are one after another, and after a failure, or when
// their time is over, the rest of the group is left.
func TestTriggerKeepsGroups(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		queue := &memory{batches: [][]string{{"g1", "h1", "g2", "h2", "g3"}, {"i1", "i2", "i3"}}, fifo: true}
		var mu sync.Mutex
		under, seen := map[byte]int{}, map[string]bool{}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() {
			ended <- Trigger{
				Queue: queue, Batch: 1, Concurrency: 40, Timeout: time.Minute, Log: slog.New(slog.DiscardHandler),
				Handler: func(_ context.Context, e events.SQSEvent) (r events.SQSEventResponse, _ error) {
					id := e.Records[0].MessageId
					mu.Lock()
					if under[id[0]]++; under[id[0]] > 1 || len(e.Records) != 1 {
						t.Errorf("%s beside another of its group", id)
					}
					seen[id] = true
					mu.Unlock()
					time.Sleep(map[byte]time.Duration{'g': time.Second, 'h': time.Second, 'i': 40 * time.Second}[id[0]])
					mu.Lock()
					defer mu.Unlock()
					under[id[0]]--
					if id == "g2" {
						r.BatchItemFailures = []events.SQSBatchItemFailure{{ItemIdentifier: id}}
					}
					return r, nil
				},
			}.Run(ctx)
		}()
		time.Sleep(10 * time.Minute)
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if slices.Sort(queue.deleted); !slices.Equal(queue.deleted, []string{"g1", "h1", "h2", "i1", "i2"}) || seen["g3"] || seen["i3"] {
			t.Errorf("deleted %v, seen %v", queue.deleted, seen)
		}
	})
}
