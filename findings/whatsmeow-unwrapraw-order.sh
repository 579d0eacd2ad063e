#!/usr/bin/env bash
# events.Message.UnwrapRaw takes a message out of its wrappers. It looks for each kind
# of wrapper once, in one fixed order: a disappearing message inside a view-once wrapper
# stays wrapped, and is not marked as disappearing; the other way round it is unwrapped.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"

cat > main.go <<'GO'
package main

import (
	"fmt"
	"os"

	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/types/events"
	"google.golang.org/protobuf/proto"
)

func wrapped(m *waE2E.Message) *waE2E.FutureProofMessage { return &waE2E.FutureProofMessage{Message: m} }

func show(name string, m *waE2E.Message) *events.Message {
	e := (&events.Message{RawMessage: m}).UnwrapRaw()
	fmt.Printf("%s: text %q, IsEphemeral %v, IsViewOnce %v\n", name, e.Message.GetConversation(), e.IsEphemeral, e.IsViewOnce)
	return e
}

func main() {
	text := func() *waE2E.Message { return &waE2E.Message{Conversation: proto.String("hello")} }
	usual := show("view-once in disappearing", &waE2E.Message{EphemeralMessage: wrapped(&waE2E.Message{ViewOnceMessage: wrapped(text())})})
	other := show("disappearing in view-once", &waE2E.Message{ViewOnceMessage: wrapped(&waE2E.Message{EphemeralMessage: wrapped(text())})})
	if usual.Message.GetConversation() != "hello" || other.Message.GetConversation() != "" || other.IsEphemeral {
		fmt.Println("CHANGED: the order of the wrappers makes another difference now")
		os.Exit(1)
	}
}
GO

go mod init finding 2> /dev/null
go get go.mau.fi/whatsmeow@v0.0.0-20260821141805-33cfac511629 2> /dev/null
go mod tidy 2> /dev/null
go list -m go.mau.fi/whatsmeow
go run .
