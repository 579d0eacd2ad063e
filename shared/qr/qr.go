// Package qr draws a code's text: as a PNG for the API, as characters for a
// terminal. It adds nothing to the text and takes nothing from it.
package qr

import (
	"bytes"
	"encoding/base64"
	"image"
	"image/color"
	"image/png"

	qrcode "github.com/skip2/go-qrcode"
)

// Side is about how many pixels a picture is wide and high. The true size is
// the multiple of the code's own modules that comes nearest, for a module that
// is a fraction of a pixel wider than its neighbour is harder to read.
const Side = 300

// leastScale keeps the modules of the largest codes apart for a camera.
const leastScale = 3

// PNG draws text in black on white, quiet zone included.
func PNG(text string) ([]byte, error) {
	modules, err := bitmap(text)
	if err != nil {
		return nil, err
	}
	scale := max(leastScale, (Side+len(modules)/2)/len(modules))
	side := scale * len(modules)
	img := image.NewPaletted(image.Rect(0, 0, side, side), color.Palette{color.White, color.Black})
	for y, row := range modules {
		line := img.Pix[y*scale*img.Stride:][:side]
		for x, black := range row {
			if !black {
				continue
			}
			for i := range scale {
				line[x*scale+i] = 1
			}
		}
		for i := 1; i < scale; i++ {
			copy(img.Pix[(y*scale+i)*img.Stride:], line)
		}
	}
	var out bytes.Buffer
	encoder := png.Encoder{CompressionLevel: png.BestSpeed} // two colours: more effort saves a few bytes
	if err := encoder.Encode(&out, img); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// DataURL is [PNG] as a data URL.
func DataURL(text string) (string, error) {
	b, err := PNG(text)
	if err != nil {
		return "", err
	}
	return "data:image/png;base64," + base64.StdEncoding.EncodeToString(b), nil
}

// Terminal draws text with half blocks, two rows of modules a line, for a
// terminal with light text on a dark ground.
func Terminal(text string) (string, error) {
	modules, err := bitmap(text)
	if err != nil {
		return "", err
	}
	var out bytes.Buffer
	for y := 0; y < len(modules); y += 2 {
		for x := range modules[y] {
			top, bottom := !modules[y][x], y+1 >= len(modules) || !modules[y+1][x]
			switch {
			case top && bottom:
				out.WriteRune('█')
			case top:
				out.WriteRune('▀')
			case bottom:
				out.WriteRune('▄')
			default:
				out.WriteByte(' ')
			}
		}
		out.WriteByte('\n')
	}
	return out.String(), nil
}

// bitmap is the code's modules, true for black, with four white ones around.
// The screen that shows it is clean, so the least error correction gives the
// largest modules.
func bitmap(text string) ([][]bool, error) {
	code, err := qrcode.New(text, qrcode.Low)
	if err != nil {
		return nil, err
	}
	return code.Bitmap(), nil
}
