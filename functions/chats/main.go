// Command chats is the Lambda function for the calls that ask WhatsApp through an
// instance and wait for its answer: contacts, groups, presence.
package main

import (
	"os"

	"whatisup/functions/internal/environment"
	"whatisup/functions/internal/links"
	"whatisup/shared/httpapi"
	"whatisup/shared/lambdahttp"
)

func main() {
	environment.Main(func(f *environment.Function) any {
		return lambdahttp.Wrap(f.Commands().With(links.Add(os.Getenv)).Handler(httpapi.FunctionChats), f.Log())
	})
}
