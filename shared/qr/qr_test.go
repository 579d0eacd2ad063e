package qr_test

import (
	"bytes"
	"encoding/base64"
	"image"
	"image/png"
	"slices"
	"strings"
	"sync"
	"testing"

	"whatisup/shared/qr"
	"whatisup/shared/qr/qrtest"
)

var raw = "https://wa.me/settings/linked_devices#2@" + strings.Repeat("Qk3/+x9", 12) + "==," +
	strings.Repeat("aB+9", 11) + "," + strings.Repeat("Zz/7", 11) + "," + strings.Repeat("k0Lm", 11)

func TestPictureReadsBackToItsText(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"1", "ABCD-EFGH", raw, strings.Repeat("x", 600)} {
		code, err := qr.Draw(text)
		if err != nil || !code.Valid() {
			t.Fatalf("valid: %v, %v", code.Valid(), err)
		}
		img, err := png.Decode(bytes.NewReader(code.PNG()))
		if err != nil {
			t.Fatal(err)
		}
		if got := qrtest.ReadImage(t, img); got != text {
			t.Errorf("read %q, want %q", got, text)
		}
		if side := img.Bounds().Dx(); len(text) < 300 && (side < 260 || side > 340) {
			t.Errorf("%d characters make %d pixels, want about %d", len(text), side, qr.Side)
		}
	}
}

func TestDataURLHoldsThePicture(t *testing.T) {
	t.Parallel()
	code, err := qr.Draw(raw)
	if err != nil {
		t.Fatal(err)
	}
	url := code.DataURL()
	encoded, ok := strings.CutPrefix(url, "data:image/png;base64,")
	if !ok {
		t.Fatalf("starts with %.30q", url)
	}
	got, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, code.PNG()) {
		t.Error("not the picture of PNG")
	}
}

func TestTextTooLongIsAnError(t *testing.T) {
	t.Parallel()
	if _, err := qr.Draw(strings.Repeat("x", 4000)); err == nil {
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
	if got := qrtest.ReadImage(t, img); got != raw {
		t.Errorf("read %q", got)
	}
}

// What was kept somewhere may be missing, cut off, or another's.
func TestOnlyItsOwnFormIsValid(t *testing.T) {
	t.Parallel()
	code, err := qr.Draw(raw)
	if err != nil {
		t.Fatal(err)
	}
	for _, other := range []qr.Code{nil, {}, {0}, {57}, code[:len(code)-1], append(slices.Clone(code), 0)} {
		if other.Valid() {
			t.Errorf("%d bytes are called valid", len(other))
		}
	}
}

// Pictures are drawn at the same time, with shared writers.
func TestPicturesDoNotMix(t *testing.T) {
	t.Parallel()
	pictures := make([][]byte, 8)
	text := func(n int) string { return strings.Repeat(string(rune('a'+n)), 20*(n+1)) }
	var group sync.WaitGroup
	for n := range pictures {
		group.Go(func() {
			code, err := qr.Draw(text(n))
			if err != nil {
				t.Error(err)
				return
			}
			pictures[n] = code.PNG()
		})
	}
	group.Wait()
	for n, picture := range pictures {
		if got := qrtest.Read(t, picture); got != text(n) {
			t.Errorf("read %q, want %q", got, text(n))
		}
	}
}

func BenchmarkDraw(b *testing.B) {
	for b.Loop() {
		if _, err := qr.Draw(raw); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkPNG(b *testing.B) {
	code, err := qr.Draw(raw)
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		code.PNG()
	}
}
