package mediafile

import (
	"bytes"
	"image"
	"image/color"
	"image/jpeg"
	_ "image/png" // decoded by Thumbnail
)

// The budget of a picture that is decoded: its pixels, by what one takes in memory.
const (
	thumbnailSide   = 72 // pixels, as the apps do
	thumbnailMost   = 4 << 10
	decodeMost      = 24 << 20 // bytes of pixels
	bytesOfJPEG     = 3        // a pixel without subsampling
	bytesOfCoded    = 12       // a pixel of a progressive JPEG: its coefficients are kept
	bytesOfPNG      = 8        // a pixel of 16 bits a colour
	thumbnailTries  = 3
	thumbnailBegins = 60 // quality
)

// decodes lets one picture be decoded at a time, in the whole process.
var decodes = make(chan struct{}, 1)

// Thumbnail is a small JPEG of a picture, nil if there can be none: of what is no JPEG
// or PNG, is damaged, or would take more memory than the budget to decode.
func Thumbnail(picture []byte) []byte {
	info, err := Inspect(bytes.NewReader(picture))
	if err != nil || info.Broken {
		return nil
	}
	pixel := int64(bytesOfPNG)
	switch info.Type {
	case "image/jpeg":
		pixel = bytesOfJPEG
		if progressive(picture) {
			pixel = bytesOfCoded
		}
	case "image/png":
	default:
		return nil
	}
	if int64(info.Width)*int64(info.Height)*pixel > decodeMost {
		return nil
	}
	decodes <- struct{}{}
	defer func() { <-decodes }()
	img, _, err := image.Decode(bytes.NewReader(picture))
	if err != nil {
		return nil
	}
	small := shrink(img)
	for try := range thumbnailTries {
		var out bytes.Buffer
		if jpeg.Encode(&out, small, &jpeg.Options{Quality: thumbnailBegins >> try}) != nil {
			return nil
		}
		if out.Len() <= thumbnailMost {
			return out.Bytes()
		}
	}
	return nil
}

// progressive says whether a JPEG's frame is of the progressive kind.
func progressive(p []byte) bool {
	for i := 2; i+4 <= len(p) && p[i] == 0xff; {
		if p[i+1] == 0xff {
			i++
			continue
		}
		if p[i+1] >= 0xc0 && p[i+1] <= 0xc3 {
			return p[i+1] == 0xc2
		}
		i += 2 + int(p[i+2])<<8 + int(p[i+3])
	}
	return false
}

// shrink averages a picture down to its thumbnail's size.
func shrink(img image.Image) image.Image {
	b := img.Bounds()
	w, h := b.Dx(), b.Dy()
	if w <= 0 || h <= 0 {
		return image.NewRGBA(image.Rect(0, 0, 1, 1))
	}
	tw, th := thumbnailSide, max(h*thumbnailSide/w, 1)
	if h > w {
		tw, th = max(w*thumbnailSide/h, 1), thumbnailSide
	}
	tw, th = min(tw, w), min(th, h)
	out := image.NewRGBA(image.Rect(0, 0, tw, th))
	for y := range th {
		for x := range tw {
			// At most 8 by 8 samples of what a pixel covers.
			x0, x1 := x*w/tw, max((x+1)*w/tw, x*w/tw+1)
			y0, y1 := y*h/th, max((y+1)*h/th, y*h/th+1)
			var r, g, bl, n uint32
			for sy := y0; sy < y1; sy += max((y1-y0)/8, 1) {
				for sx := x0; sx < x1; sx += max((x1-x0)/8, 1) {
					cr, cg, cb, _ := img.At(b.Min.X+sx, b.Min.Y+sy).RGBA()
					r, g, bl, n = r+cr>>8, g+cg>>8, bl+cb>>8, n+1
				}
			}
			out.SetRGBA(x, y, color.RGBA{uint8(r / n), uint8(g / n), uint8(bl / n), 255})
		}
	}
	return out
}

// AnimatedWebP says whether a WebP of which these are the first bytes moves.
func AnimatedWebP(head []byte) bool {
	return len(head) > 20 && Sniff(head) == "image/webp" && string(head[12:16]) == "VP8X" && head[20]&0x02 != 0
}
