#!/usr/bin/env bash
# whatsmeow clears its store of sent messages at most every 12 hours, one reads in
# addRecentMessage. The time of the last clearing is never written, so with
# UseRetryMessageStore every single send also runs DeleteOldOutgoingEvents.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"

cat > main.go <<'GO'
package main

import (
	"context"
	"fmt"
	"os"

	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/store"
	"go.mau.fi/whatsmeow/types"
	"google.golang.org/protobuf/proto"
)

type counting struct {
	*store.NoopStore
	added, cleared int
}

func (c *counting) AddOutgoingEvent(context.Context, types.JID, types.MessageID, string, []byte) error {
	c.added++
	return nil
}

func (c *counting) DeleteOldOutgoingEvents(context.Context) error {
	c.cleared++
	return nil
}

func main() {
	c := &counting{NoopStore: store.NoopDevice.EventBuffer.(*store.NoopStore)}
	device := *store.NoopDevice
	device.EventBuffer = c
	cli := whatsmeow.NewClient(&device, nil)
	cli.UseRetryMessageStore = true
	to := types.NewJID("5511912345678", types.DefaultUserServer)
	for i := range 5 {
		// What SendMessage calls for each message.
		err := cli.DangerousInternals().AddRecentMessage(context.Background(), to, types.MessageID(fmt.Sprint("A", i)),
			&waE2E.Message{Conversation: proto.String("hello")}, nil)
		if err != nil {
			panic(err)
		}
	}
	fmt.Printf("messages kept for a retry: %d\nclearings within a second:  %d (a reader of the code expects 1)\n", c.added, c.cleared)
	if c.cleared != c.added {
		fmt.Println("CHANGED: not every send clears any more")
		os.Exit(1)
	}
}
GO

go mod init finding 2> /dev/null
go get go.mau.fi/whatsmeow@v0.0.0-20260821141805-33cfac511629 2> /dev/null
go mod tidy 2> /dev/null
go list -m go.mau.fi/whatsmeow
go run .
