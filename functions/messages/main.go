// Command messages is the Lambda function for the messages of instances: it accepts
// what is to be sent, and reads and cancels it.
package main

import (
	"os"

	"whatisup/functions/internal/environment"
	"whatisup/functions/internal/files"
	"whatisup/functions/internal/sends"
	"whatisup/shared/httpapi"
	"whatisup/shared/lambdahttp"
)

func main() {
	environment.Main(func(f *environment.Function) any {
		return lambdahttp.Wrap(f.Commands().With(files.Add(os.Getenv)).With(sends.Add(os.Getenv)).Handler(httpapi.FunctionMessages), f.Log())
	})
}
