// Command media is the Lambda function for files: upload forms, what is known of a
// file, and the URLs of their bytes.
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
		err = f.Commands().Events().Files(files.Add(os.Getenv)).Check()
	}
	if err != nil {
		slog.Error("not started", "error", err)
		os.Exit(1)
	}
	lambda.Start(lambdahttp.Wrap(f.Handler(httpapi.FunctionMedia), f.Log()))
}
