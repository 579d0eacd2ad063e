// Command media is the Lambda function for files: upload forms, what is known of a
// file, and the URLs of their bytes.
package main

import (
	"os"

	"whatisup/functions/internal/environment"
	"whatisup/functions/internal/files"
	"whatisup/shared/httpapi"
	"whatisup/shared/lambdahttp"
)

func main() {
	environment.Main(func(f *environment.Function) any {
		return lambdahttp.Wrap(f.Commands().Events().With(files.Add(os.Getenv)).Handler(httpapi.FunctionMedia), f.Log())
	})
}
