// Command sweep is the Lambda function that runs every minute for what is due and whose
// wake-up was lost, and writes down what the queues of webhooks have given up.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"strings"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-lambda-go/lambda"

	"whatisup/functions/internal/hooks"
	"whatisup/shared/webhook"
)

func main() {
	h, err := hooks.Open()
	if err != nil {
		slog.Error("not started", "error", err)
		os.Exit(1)
	}
	// What runs every minute. Each is run whatever became of the others.
	jobs := []func(context.Context) error{h.Path.Sweep}
	dead := hooks.Handler(h.Path.Slog, func(arn string) func(context.Context, webhook.Message) error {
		if strings.HasSuffix(arn, "-sweep-fanout-dead.fifo") {
			return h.Path.DeadEvent
		}
		return h.Path.Dead
	})
	lambda.Start(func(ctx context.Context, raw json.RawMessage) (any, error) {
		var queued events.SQSEvent
		if json.Unmarshal(raw, &queued) == nil && len(queued.Records) > 0 {
			return dead(ctx, queued)
		}
		var problems error
		for _, job := range jobs {
			problems = errors.Join(problems, job(ctx))
		}
		return nil, problems
	})
}
