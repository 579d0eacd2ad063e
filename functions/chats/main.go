// Command chats is the Lambda function for the calls that ask WhatsApp through an
// instance and wait for its answer: contacts, groups, presence.
package main

import (
	"context"
	"log/slog"
	"os"

	"github.com/aws/aws-lambda-go/lambda"

	"whatisup/functions/internal/environment"
	"whatisup/shared/httpapi"
	"whatisup/shared/lambdahttp"
)

func main() {
	f, err := environment.Open(context.Background())
	if err != nil {
		slog.Error("not started", "error", err)
		os.Exit(1)
	}
	lambda.Start(lambdahttp.Wrap(f.Commands().Handler(httpapi.FunctionChats), f.Log()))
}
