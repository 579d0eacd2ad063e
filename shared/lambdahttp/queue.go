package lambdahttp

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/aws/aws-lambda-go/events"
)

// Queue makes a function of an SQS trigger out of a function of one message and the
// time at which it was sent. The messages that it failed on are reported one by one,
// so that only they are delivered again.
func Queue(carry func(ctx context.Context, message []byte, sent time.Time) error) func(context.Context, events.SQSEvent) (events.SQSEventResponse, error) {
	return Messages(func(ctx context.Context, m Message) error { return carry(ctx, m.Body, m.Sent) })
}

// Message is one of a queue.
type Message struct {
	Body []byte
	Sent time.Time // zero: the queue does not say
	// Order is greater than that of every message that its group had before: when
	// the queue got it, in milliseconds, and its number.
	Order string
	Group string // empty: none
	// Queue is the ARN of the queue that it came from.
	Queue string
}

// Messages is [Queue] for functions that need to know more of a message. After a
// failure the rest of the message's group is left for later, too.
func Messages(carry func(context.Context, Message) error) func(context.Context, events.SQSEvent) (events.SQSEventResponse, error) {
	return Batches(func(ctx context.Context, all []Message) []error {
		errs := make([]error, len(all))
		stopped := make(map[string]error)
		for i, m := range all {
			if errs[i] = stopped[m.Group]; errs[i] != nil {
				continue
			}
			// Of a standard queue, each is by itself.
			if errs[i] = carry(ctx, m); m.Group != "" {
				stopped[m.Group] = errs[i]
			}
		}
		return errs
	})
}

// Batches is [Messages] for functions that take all messages together, and answer with an
// error or none for each.
func Batches(carry func(context.Context, []Message) []error) func(context.Context, events.SQSEvent) (events.SQSEventResponse, error) {
	return func(ctx context.Context, e events.SQSEvent) (events.SQSEventResponse, error) {
		all := make([]Message, len(e.Records))
		for i, m := range e.Records {
			all[i] = Message{
				Body: []byte(m.Body), Queue: m.EventSourceARN, Group: m.Attributes["MessageGroupId"],
				Order: fmt.Sprintf("%015s#%s", m.Attributes["SentTimestamp"], m.Attributes["SequenceNumber"]),
			}
			if ms, err := strconv.ParseInt(m.Attributes["SentTimestamp"], 10, 64); err == nil {
				all[i].Sent = time.UnixMilli(ms)
			}
		}
		response := events.SQSEventResponse{BatchItemFailures: []events.SQSBatchItemFailure{}}
		for i, err := range carry(ctx, all) {
			if err != nil {
				response.BatchItemFailures = append(response.BatchItemFailures, events.SQSBatchItemFailure{ItemIdentifier: e.Records[i].MessageId})
			}
		}
		return response, nil
	}
}
