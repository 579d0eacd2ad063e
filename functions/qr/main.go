// Command qr is the Lambda function for the two calls that wait for a
// session host: the QR code and the pair code.
package main

import (
	"whatisup/functions/internal/environment"
	"whatisup/shared/httpapi"
	"whatisup/shared/lambdahttp"
)

func main() {
	environment.Main(func(f *environment.Function) any {
		return lambdahttp.Wrap(f.Commands().Handler(httpapi.FunctionQR), f.Log())
	})
}
