// Package qr draws a code's text: as a PNG for the API, as characters for a
// terminal. It adds nothing to the text and takes nothing from it.
//
// Finding a code's modules is the dear part, some milliseconds; painting them is
// a twentieth of it. So they are found once, by the session host that shows the
// code, and kept beside the text for every call that answers it.
package qr

import (
	"bytes"
	"compress/zlib"
	"encoding/base64"
	"encoding/binary"
	"hash/crc32"
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

	var header [13]byte
	binary.BigEndian.PutUint32(header[0:], uint32(side))
	binary.BigEndian.PutUint32(header[4:], uint32(side))
	header[8] = 1 // bits a pixel; the zeros behind it: shades of grey, nothing special

	// Each row of pixels follows the number of its filter. A row of modules is
	// scale rows of pixels, of which all but the first differ from the one above
	// by nothing.
	const asItIs, differenceToAbove = 0, 2
	first, again := make([]byte, 1+(side+7)/8), make([]byte, 1+(side+7)/8)
	first[0], again[0] = asItIs, differenceToAbove
	var pixels bytes.Buffer
	z := writer()
	z.Reset(&pixels)
	for y := range n {
		for i := range first[1:] {
			first[1+i] = 0xff
		}
		for x := range n {
			if !c.black(x, y) {
				continue
			}
			for i := x * scale; i < (x+1)*scale; i++ {
				first[1+i/8] &^= 0x80 >> (i % 8)
			}
		}
		z.Write(first) // to memory: never an error
		for range scale - 1 {
			z.Write(again)
		}
	}
	z.Close()
	select {
	case writers <- z:
	default:
	}

	out := []byte("\x89PNG\r\n\x1a\n")
	out = appendChunk(out, "IHDR", header[:])
	out = appendChunk(out, "IDAT", pixels.Bytes())
	return appendChunk(out, "IEND", nil)
}

// writers are kept, for a new one takes almost a megabyte, and more time than what
// it is used for. (A sync.Pool is emptied by each garbage collection, which new
// writers would soon bring about.)
var writers = make(chan *zlib.Writer, 4)

func writer() *zlib.Writer {
	select {
	case z := <-writers:
		return z
	default:
		return zlib.NewWriter(nil)
	}
}

// appendChunk appends a part of a PNG: length, name, content, checksum.
func appendChunk(out []byte, name string, content []byte) []byte {
	out = binary.BigEndian.AppendUint32(out, uint32(len(content)))
	from := len(out)
	out = append(append(out, name...), content...)
	return binary.BigEndian.AppendUint32(out, crc32.ChecksumIEEE(out[from:]))
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
