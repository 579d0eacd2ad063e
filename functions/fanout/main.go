// Command fanout is the Lambda function that makes the deliveries of events, and gives
// to the queue what endpoints are owed.
package main

import (
	"context"
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
	fanOut := hooks.Together(h.Path.Slog, h.Path.FanOut)
	wake := hooks.Handler(h.Path.Slog, func(string) func(context.Context, webhook.Message) error { return h.Path.Wake })
	// A batch is of one queue.
	lambda.Start(func(ctx context.Context, e events.SQSEvent) (events.SQSEventResponse, error) {
		if len(e.Records) > 0 && strings.HasSuffix(e.Records[0].EventSourceARN, "-fanout-wakes") {
			return wake(ctx, e)
		}
		return fanOut(ctx, e)
	})
}
