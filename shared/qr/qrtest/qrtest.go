// Package qrtest reads the pictures of codes in tests, with a reader that shares
// nothing with what has drawn them.
package qrtest

import (
	"bytes"
	"encoding/base64"
	"image"
	"image/png"
	"strings"
	"testing"

	"github.com/makiuchi-d/gozxing"
	"github.com/makiuchi-d/gozxing/qrcode"
)

// Read returns the text of the code in a PNG.
func Read(t testing.TB, picture []byte) string {
	t.Helper()
	img, err := png.Decode(bytes.NewReader(picture))
	if err != nil {
		t.Fatal(err)
	}
	return ReadImage(t, img)
}

// ReadImage returns the text of the code in a picture that holds nothing else. The
// reader is told so: its search for a code's corners in a photograph misses one
// clean picture in sixty.
func ReadImage(t testing.TB, img image.Image) string {
	t.Helper()
	bitmap, err := gozxing.NewBinaryBitmapFromImage(img)
	if err != nil {
		t.Fatal(err)
	}
	result, err := qrcode.NewQRCodeReader().Decode(bitmap, map[gozxing.DecodeHintType]any{gozxing.DecodeHintType_PURE_BARCODE: true})
	if err != nil {
		t.Fatal(err)
	}
	return result.GetText()
}

// ReadURL returns the text of the code in a PNG that is a data URL.
func ReadURL(t testing.TB, url string) string {
	t.Helper()
	encoded, ok := strings.CutPrefix(url, "data:image/png;base64,")
	if !ok {
		t.Fatalf("the picture is %.40s…", url)
	}
	picture, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil {
		t.Fatal(err)
	}
	return Read(t, picture)
}
