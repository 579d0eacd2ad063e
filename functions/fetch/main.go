// Command fetch is the Lambda function that works on files: it makes an upload ready
// that has come, and fetches files from foreign URLs. It reads no table but that of
// files.
package main

import (
	"log/slog"
	"os"

	"github.com/aws/aws-lambda-go/lambda"

	"whatisup/functions/internal/environment"
	"whatisup/functions/internal/files"
	"whatisup/shared/control"
	"whatisup/shared/lambdahttp"
)

func main() {
	f, err := environment.OpenApart()
	if err == nil {
		err = f.Events().With(files.Add(os.Getenv)).Check()
	}
	var c *control.Control
	if err == nil {
		c, err = files.Worker(f, os.Getenv)
	}
	if err != nil {
		slog.Error("not started", "error", err)
		os.Exit(1)
	}
	lambda.Start(lambdahttp.Queue(c.CarryMedia))
}
