#!/usr/bin/env bash
# golang.org/x/image/webp tells the size of an animated WebP, so one expects to get its
# first picture. Decode refuses the file.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"

cat > main.go <<'GO'
package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"image"
	"os"

	"github.com/HugoSmits86/nativewebp"
	"golang.org/x/image/webp"
)

func chunk(name string, data []byte) []byte {
	b := binary.LittleEndian.AppendUint32([]byte(name), uint32(len(data)))
	if b = append(b, data...); len(data)%2 == 1 {
		b = append(b, 0)
	}
	return b
}

func main() {
	const width, height = 32, 24
	var still bytes.Buffer
	if err := nativewebp.Encode(&still, image.NewNRGBA(image.Rect(0, 0, width, height)), nil); err != nil {
		panic(err)
	}
	if _, err := webp.Decode(bytes.NewReader(still.Bytes())); err != nil {
		panic(err)
	}

	// The same picture twice, as the container specification lays an animation out:
	// sizes are three bytes, less one.
	canvas := []byte{width - 1, 0, 0, height - 1, 0, 0}
	frame := append([]byte{0, 0, 0, 0, 0, 0}, canvas...)
	frame = append(frame, 100, 0, 0, 0) // 100 ms
	frame = append(frame, still.Bytes()[12:]...)
	body := []byte("WEBP")
	body = append(body, chunk("VP8X", append([]byte{0x12, 0, 0, 0}, canvas...))...)
	body = append(body, chunk("ANIM", make([]byte, 6))...)
	body = append(body, chunk("ANMF", frame)...)
	body = append(body, chunk("ANMF", frame)...)
	file := chunk("RIFF", body)

	config, err := webp.DecodeConfig(bytes.NewReader(file))
	fmt.Printf("DecodeConfig: %d x %d, error %v\n", config.Width, config.Height, err)
	_, refused := webp.Decode(bytes.NewReader(file))
	fmt.Println("Decode:", refused)
	if err != nil || config.Width != width || config.Height != height || refused == nil {
		fmt.Println("CHANGED")
		os.Exit(1)
	}
}
GO

go mod init finding 2> /dev/null
go get golang.org/x/image@v0.48.0 github.com/HugoSmits86/nativewebp@v0.9.3 2> /dev/null
go mod tidy 2> /dev/null
go list -m golang.org/x/image github.com/HugoSmits86/nativewebp
go run .
