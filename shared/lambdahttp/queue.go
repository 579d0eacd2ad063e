package lambdahttp

import (
	"context"

	"github.com/aws/aws-lambda-go/events"
)

// Queue makes a function of an SQS trigger out of a function of one message. The
// messages that it failed on are reported one by one, so that only they are
// delivered again.
func Queue(carry func(context.Context, []byte) error) func(context.Context, events.SQSEvent) (events.SQSEventResponse, error) {
	return func(ctx context.Context, e events.SQSEvent) (events.SQSEventResponse, error) {
		response := events.SQSEventResponse{BatchItemFailures: []events.SQSBatchItemFailure{}}
		for _, m := range e.Records {
			if err := carry(ctx, []byte(m.Body)); err != nil {
				response.BatchItemFailures = append(response.BatchItemFailures, events.SQSBatchItemFailure{ItemIdentifier: m.MessageId})
			}
		}
		return response, nil
	}
}
