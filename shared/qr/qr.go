// Package qr draws a code's text: as a PNG for the API, as characters for a
// terminal. It adds nothing to the text and takes nothing from it.
//
// Finding a code's modules is the dear part, some milliseconds and 13,000
// allocations; painting them is less than a third of it, and 11. So they are found once, by the session host that shows the
// code, and kept beside the text for every call that answers it.
package qr

import (
	"bytes"
	"encoding/base64"
	"image"
	"image/color"
	"image/png"
	"strings"

	qrcode "github.com/skip2/go-qrcode"
)

// Side is about how many pixels a picture is wide and high. The true size is
// the multiple of the code's own modules that comes nearest, for a module that
// is a fraction of a pixel wider than its neighbour is harder to read.
const Side = 300

const (
	// leastScale keeps the modules of the largest codes apart for a camera.
	leastScale = 3
	// quiet is how many white modules stand around a code.
	quiet = 4
)

// Code is a code's modules, without the white ones around, in a form that can be
// kept: how many there are in a row, then a bit for each, set for black, row
// after row.
type Code []byte

// Draw finds the modules of text. The screen that shows them is clean, so the
// least error correction gives the largest modules.
func Draw(text string) (Code, error) {
	drawn, err := qrcode.New(text, qrcode.Low)
	if err != nil {
		return nil, err
	}
	drawn.DisableBorder = true
	rows := drawn.Bitmap()
	code := make(Code, bytesOf(len(rows)))
	code[0] = byte(len(rows)) // at most 177
	for y, row := range rows {
		for x, black := range row {
			if black {
				i := y*len(rows) + x
				code[1+i/8] |= 0x80 >> (i % 8)
			}
		}
	}
	return code, nil
}

// bytesOf is the length of a code with n modules in a row.
func bytesOf(n int) int { return 1 + (n*n+7)/8 }

// Valid says whether c is of the form that [Draw] gives. The other methods need
// that.
func (c Code) Valid() bool { return len(c) > 1 && len(c) == bytesOf(int(c[0])) }

// side is how many modules there are in a row, those around included.
func (c Code) side() int { return int(c[0]) + 2*quiet }

// black says what the module at x, y is; what is outside is white.
func (c Code) black(x, y int) bool {
	n := int(c[0])
	x, y = x-quiet, y-quiet
	if x < 0 || y < 0 || x >= n || y >= n {
		return false
	}
	i := y*n + x
	return c[1+i/8]&(0x80>>(i%8)) != 0
}

// PNG is the code in black on white, a bit a pixel.
func (c Code) PNG() []byte {
	n := c.side()
	scale := max(leastScale, (Side+n/2)/n)
	side := scale * n
	img := image.NewPaletted(image.Rect(0, 0, side, side), color.Palette{color.White, color.Black})
	for y := range n {
		line := img.Pix[y*scale*img.Stride:][:side]
		for x := range n {
			if !c.black(x, y) {
				continue
			}
			for i := x * scale; i < (x+1)*scale; i++ {
				line[i] = 1
			}
		}
		for i := 1; i < scale; i++ {
			copy(img.Pix[(y*scale+i)*img.Stride:], line)
		}
	}
	var out bytes.Buffer
	// Two colours: more effort saves a few bytes.
	encoder := png.Encoder{CompressionLevel: png.BestSpeed, BufferPool: buffers}
	_ = encoder.Encode(&out, img) // to memory, and of a size: never an error
	return out.Bytes()
}

// buffers are kept, for a new one takes almost a megabyte, and more time than what
// it is used for. (A sync.Pool is emptied by each garbage collection, which new
// buffers would soon bring about.)
var buffers = make(pool, 4)

type pool chan *png.EncoderBuffer

func (p pool) Get() *png.EncoderBuffer {
	select {
	case b := <-p:
		return b
	default:
		return nil
	}
}

func (p pool) Put(b *png.EncoderBuffer) {
	select {
	case p <- b:
	default:
	}
}

// DataURL is the PNG as a data URL.
func (c Code) DataURL() string { return DataURL(c.PNG()) }

// DataURL is a PNG as a data URL.
func DataURL(png []byte) string {
	return "data:image/png;base64," + base64.StdEncoding.EncodeToString(png)
}

// Terminal draws text with half blocks, two rows of modules a line, for a
// terminal with light text on a dark ground.
func Terminal(text string) (string, error) {
	c, err := Draw(text)
	if err != nil {
		return "", err
	}
	var out strings.Builder
	for y := 0; y < c.side(); y += 2 {
		for x := range c.side() {
			switch top, bottom := !c.black(x, y), !c.black(x, y+1); {
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
