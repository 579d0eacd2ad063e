// Command keys is the Lambda function for API keys and limits.
package main

import (
	"os"

	"whatisup/functions/internal/environment"
	"whatisup/functions/internal/sends"
	"whatisup/shared/httpapi"
	"whatisup/shared/lambdahttp"
)

func main() {
	environment.Main(func(f *environment.Function) any {
		return lambdahttp.Wrap(f.With(sends.Add(os.Getenv)).Handler(httpapi.FunctionKeys), f.Log())
	})
}
