// Command instances is the Lambda function for instances, and for
// whatever has no function of its own.
package main

import (
	"whatisup/functions/internal/environment"
	"whatisup/shared/dashboard"
	"whatisup/shared/httpapi"
	"whatisup/shared/lambdahttp"
)

func main() {
	environment.Main(func(f *environment.Function) any {
		return lambdahttp.Wrap(f.Commands().Events().Pages(httpapi.Contract(), dashboard.Handler).Handler(httpapi.FunctionInstances), f.Log())
	})
}
