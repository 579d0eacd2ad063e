package lambdahttp

import (
	"context"
	"strconv"
	"time"

	"github.com/aws/aws-lambda-go/events"
)

// Queue makes a function of an SQS trigger out of a function of one message and the
// time at which it was sent. The messages that it failed on are reported one by one,
// so that only they are delivered again.
func Queue(carry func(ctx context.Context, message []byte, sent time.Time) error) func(context.Context, events.SQSEvent) (events.SQSEventResponse, error) {
	return func(ctx context.Context, e events.SQSEvent) (events.SQSEventResponse, error) {
		response := events.SQSEventResponse{BatchItemFailures: []events.SQSBatchItemFailure{}}
		for _, m := range e.Records {
			var sent time.Time // zero: the queue does not say
			if ms, err := strconv.ParseInt(m.Attributes["SentTimestamp"], 10, 64); err == nil {
				sent = time.UnixMilli(ms)
			}
			if err := carry(ctx, []byte(m.Body), sent); err != nil {
				response.BatchItemFailures = append(response.BatchItemFailures, events.SQSBatchItemFailure{ItemIdentifier: m.MessageId})
			}
		}
		return response, nil
	}
}
