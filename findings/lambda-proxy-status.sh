#!/usr/bin/env bash
# An http.Handler that calls WriteHeader twice answers with the first status under
# net/http. Under aws-lambda-go-api-proxy the last one wins; and a handler that writes
# nothing is not a 200 but an error.
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
	"net/http/httptest"
	"os"

	"github.com/aws/aws-lambda-go/events"
	"github.com/awslabs/aws-lambda-go-api-proxy/httpadapter"
)

func both(h http.HandlerFunc) (int, int, error) {
	w := httptest.NewRecorder()
	h(w, httptest.NewRequest("GET", "/", nil))
	r, err := httpadapter.NewV2(h).ProxyWithContext(context.Background(), events.APIGatewayV2HTTPRequest{
		RawPath: "/",
		RequestContext: events.APIGatewayV2HTTPRequestContext{HTTP: events.APIGatewayV2HTTPRequestContextHTTPDescription{Method: "GET", Path: "/"}},
	})
	return w.Code, r.StatusCode, err
}

func main() {
	std, proxied, err := both(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(400); w.WriteHeader(200) })
	fmt.Printf("400, then 200: net/http %d, the proxy %d, error %v\n", std, proxied, err)
	std0, _, err0 := both(func(http.ResponseWriter, *http.Request) {})
	fmt.Printf("nothing written: net/http %d, the proxy's error: %v\n", std0, err0)
	if std != 400 || proxied != 200 || err != nil || std0 != 200 || err0 == nil {
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
