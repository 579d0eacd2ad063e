#!/usr/bin/env bash
# BuildPollCreation takes the number of options that one may choose. Asked for more than
# there are, one expects an error, or as many as there are. It writes 0, which means any
# number.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"

cat > main.go <<'GO'
package main

import (
	"fmt"
	"os"

	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/store"
)

func main() {
	cli := whatsmeow.NewClient(store.NoopDevice, nil)
	var got []uint32
	for _, selectable := range []int{1, 2, 3} {
		m := cli.BuildPollCreation("Lunch?", []string{"rice", "beans"}, selectable)
		got = append(got, m.GetPollCreationMessage().GetSelectableOptionsCount())
		fmt.Printf("two options, %d selectable: the message says %d\n", selectable, got[len(got)-1])
	}
	if fmt.Sprint(got) != "[1 2 0]" {
		fmt.Println("CHANGED")
		os.Exit(1)
	}
}
GO

go mod init finding 2> /dev/null
go get go.mau.fi/whatsmeow@v0.0.0-20260821141805-33cfac511629 2> /dev/null
go mod tidy 2> /dev/null
go list -m go.mau.fi/whatsmeow
go run .
