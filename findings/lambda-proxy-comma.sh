#!/usr/bin/env bash
# aws-lambda-go-api-proxy makes an http.Request of an API Gateway event. One expects a
# header to arrive as it was sent. Every header outside a short list is split at its
# commas into several values, so Header.Get returns what stands before the first comma.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"

cat > main.go <<'GO'
package main

import (
	"context"
	"fmt"
	"net/http"
	"os"

	"github.com/aws/aws-lambda-go/events"
	"github.com/awslabs/aws-lambda-go-api-proxy/httpadapter"
)

func main() {
	const sent = "t=1795858241,v1=5257a869"
	var got string
	var values int
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got, values = r.Header.Get("X-Signature"), len(r.Header.Values("X-Signature"))
		w.WriteHeader(204)
	})
	_, err := httpadapter.NewV2(h).ProxyWithContext(context.Background(), events.APIGatewayV2HTTPRequest{
		RawPath: "/", Headers: map[string]string{"x-signature": sent},
		RequestContext: events.APIGatewayV2HTTPRequestContext{HTTP: events.APIGatewayV2HTTPRequestContextHTTPDescription{Method: "GET", Path: "/"}},
	})
	if err != nil {
		panic(err)
	}
	fmt.Printf("sent: %q\nHeader.Get: %q, one of %d values\n", sent, got, values)
	if got != "t=1795858241" {
		fmt.Println("CHANGED")
		os.Exit(1)
	}
}
GO

go mod init finding 2> /dev/null
go get github.com/awslabs/aws-lambda-go-api-proxy@v0.16.2 github.com/aws/aws-lambda-go@v1.55.1 2> /dev/null
go mod tidy 2> /dev/null
go list -m github.com/awslabs/aws-lambda-go-api-proxy github.com/aws/aws-lambda-go
go run .
