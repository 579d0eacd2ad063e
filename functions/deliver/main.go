// Command deliver is the Lambda function that makes the requests to webhook endpoints.
// It is the only one that does, and reads no table but theirs.
package main

import (
	"context"
	"log/slog"
	"os"

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
	lambda.Start(hooks.Handler(h.Path.Slog, func(string) func(context.Context, webhook.Message) error { return h.Path.Deliver }))
}
