#!/usr/bin/env bash
# A Standard Webhooks secret is whsec_ and base64. Many tools write base64 without its
# padding. The Go library of Standard Webhooks refuses such a secret, while it takes the
# same bytes with padding.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"

cat > main.go <<'GO'
package main

import (
	"encoding/base64"
	"fmt"
	"os"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

func main() {
	secret := []byte("thirty-two bytes of a secret, ok") // 32 bytes: one sign of padding
	_, padded := standardwebhooks.NewWebhook("whsec_" + base64.StdEncoding.EncodeToString(secret))
	_, bare := standardwebhooks.NewWebhook("whsec_" + base64.RawStdEncoding.EncodeToString(secret))
	fmt.Println("with padding:   ", padded)
	fmt.Println("without padding:", bare)
	if padded != nil || bare == nil {
		fmt.Println("CHANGED")
		os.Exit(1)
	}
}
GO

go mod init finding 2> /dev/null
go get github.com/standard-webhooks/standard-webhooks/libraries@v0.0.1 2> /dev/null
go mod tidy 2> /dev/null
go list -m github.com/standard-webhooks/standard-webhooks/libraries
go run .
