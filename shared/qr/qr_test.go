package qr_test

import (
	"bytes"
	"encoding/base64"
	"image"
	"image/png"
	"strings"
	"testing"

	"github.com/makiuchi-d/gozxing"
	"github.com/makiuchi-d/gozxing/qrcode"

	"whatisup/shared/qr"
)

var raw = "https://wa.me/settings/linked_devices#2@" + strings.Repeat("Qk3/+x9", 12) + "==," +
	strings.Repeat("aB+9", 11) + "," + strings.Repeat("Zz/7", 11) + "," + strings.Repeat("k0Lm", 11)

func read(t *testing.T, img image.Image) string {
	t.Helper()
	bitmap, err := gozxing.NewBinaryBitmapFromImage(img)
	if err != nil {
		t.Fatal(err)
	}
	result, err := qrcode.NewQRCodeReader().Decode(bitmap, nil)
	if err != nil {
		t.Fatal(err)
	}
	return result.GetText()
}

func TestPictureReadsBackToItsText(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"1", "ABCD-EFGH", raw, strings.Repeat("x", 600)} {
		b, err := qr.PNG(text)
		if err != nil {
			t.Fatal(err)
		}
		img, err := png.Decode(bytes.NewReader(b))
		if err != nil {
			t.Fatal(err)
		}
		if got := read(t, img); got != text {
			t.Errorf("read %q, want %q", got, text)
		}
		if side := img.Bounds().Dx(); len(text) < 300 && (side < 260 || side > 340) {
			t.Errorf("%d characters make %d pixels, want about %d", len(text), side, qr.Side)
		}
	}
}

func TestDataURLHoldsThePicture(t *testing.T) {
	t.Parallel()
	url, err := qr.DataURL(raw)
	if err != nil {
		t.Fatal(err)
	}
	encoded, ok := strings.CutPrefix(url, "data:image/png;base64,")
	if !ok {
		t.Fatalf("starts with %.30q", url)
	}
	got, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil {
		t.Fatal(err)
	}
	want, _ := qr.PNG(raw)
	if !bytes.Equal(got, want) {
		t.Error("not the picture of PNG")
	}
}

func TestTextTooLongIsAnError(t *testing.T) {
	t.Parallel()
	if _, err := qr.PNG(strings.Repeat("x", 4000)); err == nil {
		t.Error("no error")
	}
}

// The terminal's characters are turned back into pixels and read like a photo.
func TestTerminalReadsBackToItsText(t *testing.T) {
	t.Parallel()
	drawn, err := qr.Terminal(raw)
	if err != nil {
		t.Fatal(err)
	}
	const scale = 4
	lines := strings.Split(strings.TrimSuffix(drawn, "\n"), "\n")
	img := image.NewGray(image.Rect(0, 0, len([]rune(lines[0]))*scale, len(lines)*2*scale))
	for y, line := range lines {
		for x, c := range []rune(line) {
			for half, lit := range []bool{c == '█' || c == '▀', c == '█' || c == '▄'} {
				if !lit {
					continue
				}
				for i := range scale * scale {
					img.Pix[((y*2+half)*scale+i/scale)*img.Stride+x*scale+i%scale] = 255
				}
			}
		}
	}
	if got := read(t, img); got != raw {
		t.Errorf("read %q", got)
	}
}

func BenchmarkPNG(b *testing.B) {
	for b.Loop() {
		if _, err := qr.PNG(raw); err != nil {
			b.Fatal(err)
		}
	}
}
