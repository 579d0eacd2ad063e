// Command events is the Lambda function for the event log, behind API Gateway.
package main

import (
	"whatisup/functions/internal/environment"
	"whatisup/shared/httpapi"
	"whatisup/shared/lambdahttp"
)

func main() {
	environment.Main(func(f *environment.Function) any {
		return lambdahttp.Wrap(f.Unstreamed().Handler(httpapi.FunctionEvents), f.Log())
	})
}
