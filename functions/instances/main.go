// Command instances is the Lambda function for instances, and for
// whatever has no function of its own.
package main

import (
	"net/http"
	"os"

	"whatisup/functions/internal/environment"
	"whatisup/shared/dashboard"
	"whatisup/shared/httpapi"
	"whatisup/shared/lambdahttp"
)

func main() {
	environment.Main(func(f *environment.Function) any {
		page := func(eventsURL string) http.Handler { return dashboard.Handler(eventsURL, os.Getenv("BUCKET_URL")) }
		return lambdahttp.Wrap(f.Commands().Events().Pages(httpapi.Contract(), page).Handler(httpapi.FunctionInstances), f.Log())
	})
}
