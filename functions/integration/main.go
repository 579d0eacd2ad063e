// Command integration is the Lambda function that carries out the commands of
// the integration queue.
package main

import (
	"context"
	"log/slog"
	"os"

	"github.com/aws/aws-lambda-go/lambda"

	"whatisup/functions/internal/environment"
	"whatisup/shared/lambdahttp"
)

func main() {
	f, err := environment.Open(context.Background())
	if err != nil {
		slog.Error("not started", "error", err)
		os.Exit(1)
	}
	lambda.Start(lambdahttp.Queue(f.Commands().Events().Integration().Carry))
}
