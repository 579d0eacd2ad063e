// Command sandbox is the Lambda function for the simulated phones of test keys.
package main

import (
	"whatisup/functions/internal/environment"
	"whatisup/shared/httpapi"
	"whatisup/shared/lambdahttp"
)

func main() {
	environment.Main(func(f *environment.Function) any {
		return lambdahttp.Wrap(f.Commands().Handler(httpapi.FunctionSandbox), f.Log())
	})
}
