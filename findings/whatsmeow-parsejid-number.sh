#!/usr/bin/env bash
# types.ParseJID takes a phone number as people have it, and returns no error. What it
# returns is an address whose server is the phone number, and whose user is empty.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"

cat > main.go <<'GO'
package main

import (
	"fmt"
	"os"

	"go.mau.fi/whatsmeow/types"
)

func main() {
	jid, err := types.ParseJID("5511912345678")
	fmt.Printf("ParseJID(%q): user %q, server %q, error %v\n", "5511912345678", jid.User, jid.Server, err)
	if err != nil || jid.User != "" || jid.Server != "5511912345678" {
		fmt.Println("CHANGED: a bare number is no server any more")
		os.Exit(1)
	}
}
GO

go mod init finding 2> /dev/null
go get go.mau.fi/whatsmeow@v0.0.0-20260821141805-33cfac511629 2> /dev/null
go mod tidy 2> /dev/null
go list -m go.mau.fi/whatsmeow
go run .
