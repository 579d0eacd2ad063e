// Command integration is the Lambda function that carries out the commands of
// the integration queue.
package main

import (
	"whatisup/functions/internal/environment"
	"whatisup/shared/lambdahttp"
)

func main() {
	environment.Main(func(f *environment.Function) any {
		return lambdahttp.Queue(f.Commands().Events().Integration().Carry)
	})
}
