// Command webhooks is the Lambda function for the calls of webhook endpoints and their
// deliveries. It makes no request to an endpoint itself.
package main

import (
	"context"
	"log/slog"
	"os"

	"github.com/aws/aws-lambda-go/lambda"

	"whatisup/functions/internal/environment"
	"whatisup/functions/internal/hooks"
	"whatisup/shared/httpapi"
	"whatisup/shared/lambdahttp"
)

func main() {
	f, err := environment.Open(context.Background())
	if err != nil {
		slog.Error("not started", "error", err)
		os.Exit(1)
	}
	h, err := hooks.Open()
	if err != nil {
		slog.Error("not started", "error", err)
		os.Exit(1)
	}
	lambda.Start(lambdahttp.Wrap(f.Webhooks(h).Handler(httpapi.FunctionWebhooks), f.Log()))
}
