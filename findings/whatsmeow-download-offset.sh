#!/usr/bin/env bash
# whatsmeow downloads media into a file, and checks it. One expects to read the file
# then. It is left at its end: who reads on, or hands it to an uploader, gets zero bytes
# and no error. DownloadToFile ends in the function that is called here.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"

cat > main.go <<'GO'
package main

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"

	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/store"
)

func main() {
	media := []byte("the bytes of a picture in a channel, which is not encrypted")
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Write(media) }))
	defer server.Close()
	file, err := os.CreateTemp(".", "media")
	if err != nil {
		panic(err)
	}
	cli := whatsmeow.NewClient(store.NoopDevice, nil)
	sum := sha256.Sum256(media)
	err = cli.DangerousInternals().DownloadAndDecryptToFile(context.Background(), server.URL, nil, whatsmeow.MediaImage, nil, sum[:], file)
	if err != nil {
		panic(err)
	}
	rest, err := io.ReadAll(file)
	info, _ := file.Stat()
	fmt.Printf("the file has %d bytes; reading it gives %d, error %v\n", info.Size(), len(rest), err)
	if int(info.Size()) != len(media) || len(rest) != 0 {
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
