// Command stream is the Lambda function for the event stream, behind a function
// URL.
package main

import (
	"whatisup/functions/internal/environment"
	"whatisup/shared/httpapi"
	"whatisup/shared/lambdahttp"
)

func main() {
	environment.Main(func(f *environment.Function) any {
		return lambdahttp.Stream(f.Handler(httpapi.FunctionEvents), f.Log())
	})
}
