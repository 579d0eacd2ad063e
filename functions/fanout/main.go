// Command fanout is the Lambda function that makes the deliveries of events, and gives
// to the queue what endpoints are owed.
package main

import (
	"context"
	"log/slog"
	"os"
	"strings"

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
	lambda.Start(hooks.Handler(h.Path.Slog, func(arn string) func(context.Context, webhook.Message) error {
		if strings.HasSuffix(arn, "-fanout-wakes") {
			return h.Path.Wake
		}
		return h.Path.FanOut
	}))
}
