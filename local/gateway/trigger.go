package gateway

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
)

// Queue is where a trigger takes messages from. [sqs.Client] is one.
type Queue interface {
	ReceiveMessage(context.Context, *sqs.ReceiveMessageInput, ...func(*sqs.Options)) (*sqs.ReceiveMessageOutput, error)
	DeleteMessageBatch(context.Context, *sqs.DeleteMessageBatchInput, ...func(*sqs.Options)) (*sqs.DeleteMessageBatchOutput, error)
}

// Trigger feeds a function from a queue, as Lambda's event source mapping does:
// what the function did not fail on is deleted, the rest is left for its
// visibility to run out, and goes to the dead-letter queue after enough tries.
type Trigger struct {
	Queue    Queue
	QueueURL string
	ARN      string // of the queue, as the event names it
	Batch    int    // 1 to 10
	// Concurrency is how many batches are in hand at a time; 0 is one. A few of them
	// ask for the next, so that not hundreds wake up for one message.
	Concurrency int
	Timeout     time.Duration // of the function
	Handler     func(context.Context, events.SQSEvent) (events.SQSEventResponse, error)
	Log         *slog.Logger
}

const (
	wait       = 20 // seconds of a long poll
	backoffMin = 100 * time.Millisecond
	backoffMax = 10 * time.Second
)

// receivers is how many ask the queue at a time.
const receivers = 4

// Run polls until the context ends, and returns after the batches in hand.
func (t Trigger) Run(ctx context.Context) error {
	room := make(chan struct{}, max(t.Concurrency, 1))
	done := t.remover()
	var all sync.WaitGroup
	for range min(cap(room), receivers) {
		all.Go(func() { t.poll(ctx, room, done, &all) })
	}
	all.Wait()
	return nil
}

func (t Trigger) poll(ctx context.Context, room chan struct{}, done *remover, all *sync.WaitGroup) {
	backoff := backoffMin
	for {
		select {
		case <-ctx.Done():
			return
		case room <- struct{}{}:
		}
		out, err := t.Queue.ReceiveMessage(ctx, &sqs.ReceiveMessageInput{
			QueueUrl:                    aws.String(t.QueueURL),
			MaxNumberOfMessages:         t.most(room),
			WaitTimeSeconds:             wait,
			MessageAttributeNames:       []string{"All"},
			MessageSystemAttributeNames: []types.MessageSystemAttributeName{types.MessageSystemAttributeNameAll},
		})
		if err == nil && len(out.Messages) > 0 {
			backoff = backoffMin
			received := time.Now()
			for n, part := range t.parts(out.Messages) {
				if n > 0 {
					room <- struct{}{} // somebody ends, or the function's time is over
				}
				all.Go(func() {
					t.work(context.WithoutCancel(ctx), part, received, done)
					<-room
				})
			}
			continue
		}
		<-room
		if err == nil {
			backoff = backoffMin
			continue
		}
		if ctx.Err() != nil {
			return
		}
		t.Log.Error("queue does not answer", "error", err)
		select {
		case <-ctx.Done():
		case <-time.After(backoff/2 + rand.N(backoff)):
		}
		backoff = min(2*backoff, backoffMax)
	}
}

// aloneMost is how many messages are asked for at a time where the function is given one:
// few, because those of a group wait for each other here.
const aloneMost = 4

// most is how many messages to ask for, of which there is room for one.
func (t Trigger) most(room chan struct{}) int32 {
	if t.Batch > 1 {
		return int32(t.Batch)
	}
	return int32(min(aloneMost, 1+cap(room)-len(room)))
}

// parts are what one after another goes to the function: a batch, or the messages of a
// group, one by one.
func (t Trigger) parts(messages []types.Message) (all [][][]types.Message) {
	if t.Batch > 1 {
		return [][][]types.Message{{messages}}
	}
	of := map[string]int{}
	for _, m := range messages {
		group := m.Attributes["MessageGroupId"]
		n, ok := of[group]
		if !ok || m.Attributes["SequenceNumber"] == "" { // of a standard queue, each is by itself
			n = len(all)
			of[group], all = n, append(all, nil)
		}
		all[n] = append(all[n], []types.Message{m})
	}
	return all
}

// work gives batches to the function. After one that it failed on the others are left for
// later, and so they are when they would not be hidden any more by the time it is done.
func (t Trigger) work(ctx context.Context, part [][]types.Message, received time.Time, done *remover) {
	for n, batch := range part {
		if n > 0 && time.Since(received) > t.Timeout || !t.deliver(ctx, batch, done) {
			return
		}
	}
}

// deliver gives a batch to the function and deletes what is done. It is false if that is
// not all of it.
func (t Trigger) deliver(ctx context.Context, messages []types.Message, done *remover) bool {
	event := events.SQSEvent{Records: make([]events.SQSMessage, len(messages))}
	for i, m := range messages {
		event.Records[i] = t.record(m)
	}
	call, cancel := context.WithTimeout(ctx, t.Timeout)
	defer cancel()
	response, err := t.call(call, event)
	if err != nil {
		t.Log.Error("function failed on a batch", "messages", len(messages), "error", err)
		return false
	}
	failed := make(map[string]bool)
	for _, f := range response.BatchItemFailures {
		failed[f.ItemIdentifier] = true
	}
	var receipts []string
	for _, m := range messages {
		if !failed[aws.ToString(m.MessageId)] {
			receipts = append(receipts, aws.ToString(m.ReceiptHandle))
		}
		delete(failed, aws.ToString(m.MessageId))
	}
	if len(failed) > 0 {
		// Lambda takes an answer that names no message of the batch for a failure
		// of all of it.
		t.Log.Error("function failed on messages that it was not given", "messages", len(failed))
		return false
	}
	if len(receipts) > 0 {
		_ = done.Do(ctx, receipts) // what stays in the queue comes again
	}
	return len(receipts) == len(messages)
}

// call is the handler with a crash made an error, since Lambda outlives one.
func (t Trigger) call(ctx context.Context, event events.SQSEvent) (response events.SQSEventResponse, err error) {
	defer func() {
		if recover() != nil {
			err = errors.New("function panicked")
		}
	}()
	return t.Handler(ctx, event)
}

func (t Trigger) record(m types.Message) events.SQSMessage {
	attributes := make(map[string]events.SQSMessageAttribute, len(m.MessageAttributes))
	for name, a := range m.MessageAttributes {
		attributes[name] = events.SQSMessageAttribute{
			StringValue: a.StringValue, BinaryValue: a.BinaryValue, DataType: aws.ToString(a.DataType),
		}
	}
	region := "local"
	if parts := strings.Split(t.ARN, ":"); len(parts) > 3 {
		region = parts[3]
	}
	return events.SQSMessage{
		MessageId:         aws.ToString(m.MessageId),
		ReceiptHandle:     aws.ToString(m.ReceiptHandle),
		Body:              aws.ToString(m.Body),
		Md5OfBody:         aws.ToString(m.MD5OfBody),
		Attributes:        m.Attributes,
		MessageAttributes: attributes,
		EventSourceARN:    t.ARN,
		EventSource:       "aws:sqs",
		AWSRegion:         region,
	}
}

// Schedule calls a function at a fixed distance, as EventBridge does.
type Schedule struct {
	Every   time.Duration
	Timeout time.Duration // of the function
	Handler func(context.Context) error
	Log     *slog.Logger
}

// Run calls until the context ends, and returns after the call in hand.
func (s Schedule) Run(ctx context.Context) error {
	tick := time.NewTicker(s.Every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			call, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.Timeout)
			if err := s.Handler(call); err != nil {
				s.Log.Error("a scheduled function failed", "error", err)
			}
			cancel()
		}
	}
}
