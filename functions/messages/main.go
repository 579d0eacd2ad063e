// Command messages is the Lambda function for the messages of instances: it accepts
// what is to be sent, and reads and cancels it.
package main

import (
	"context"
	"log/slog"
	"os"

	"github.com/aws/aws-lambda-go/lambda"

	"whatisup/functions/internal/environment"
	"whatisup/functions/internal/files"
	"whatisup/shared/httpapi"
	"whatisup/shared/lambdahttp"
)

func main() {
	f, err := environment.Open(context.Background())
	if err == nil {
		err = f.Commands().Files(files.Add(os.Getenv)).Check()
	}
	if err != nil {
		slog.Error("not started", "error", err)
		os.Exit(1)
	}
	lambda.Start(lambdahttp.Wrap(f.Handler(httpapi.FunctionMessages), f.Log()))
}
