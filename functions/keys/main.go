// Command keys is the Lambda function for API keys and limits.
package main

import (
	"whatisup/functions/internal/environment"
	"whatisup/shared/httpapi"
	"whatisup/shared/lambdahttp"
)

func main() {
	environment.Main(func(f *environment.Function) any {
		return lambdahttp.Wrap(f.Handler(httpapi.FunctionKeys), f.Log())
	})
}
