package mediafile

import (
	"bufio"
	"encoding/binary"
	"io"
)

// maxBox is the largest header of a film that is read, and so the most that any
// parser here keeps in memory. A film of an hour has less than one megabyte.
const maxBox = 8 << 20

// mp4Info walks the boxes of a film to its header, wherever that is.
func mp4Info(b *bufio.Reader, info *Info) error {
	for {
		head := make([]byte, 8)
		if _, err := io.ReadFull(b, head); err == io.EOF {
			return ErrBroken // no header to the end
		} else if err != nil {
			return ErrBroken
		}
		size, kind := int64(binary.BigEndian.Uint32(head)), string(head[4:])
		rest := size - 8
		switch size {
		case 0:
			return ErrBroken // to the end of the file, and the header has not come
		case 1:
			long, err := take(b, 8)
			if err != nil {
				return err
			}
			n := binary.BigEndian.Uint64(long)
			if n < 16 || n > 1<<40 {
				return ErrBroken
			}
			rest = int64(n) - 16
		}
		if rest < 0 {
			return ErrBroken
		}
		if kind != "moov" {
			if err := skip(b, rest); err != nil {
				return err
			}
			continue
		}
		if rest > maxBox {
			return ErrBroken
		}
		var moov limited
		if _, err := io.CopyN(&moov, b, rest); err != nil { // grows as the bytes come
			return ErrBroken
		}
		return moovInfo(moov.b, info)
	}
}

// limited gathers bytes as they come.
type limited struct{ b []byte }

func (l *limited) Write(p []byte) (int, error) {
	l.b = append(l.b, p...)
	return len(p), nil
}

// boxes calls each for the boxes of a box; a broken one ends the walk.
func boxes(p []byte, each func(kind string, body []byte)) {
	for len(p) >= 8 {
		size := int64(binary.BigEndian.Uint32(p))
		head := int64(8)
		if size == 1 && len(p) >= 16 {
			if n := binary.BigEndian.Uint64(p[8:]); n <= uint64(len(p)) {
				size, head = int64(n), 16
			}
		} else if size == 0 {
			size = int64(len(p))
		}
		if size < head || size > int64(len(p)) {
			return
		}
		each(string(p[4:8]), p[head:size])
		p = p[size:]
	}
}

func moovInfo(moov []byte, info *Info) error {
	known := false
	boxes(moov, func(kind string, body []byte) {
		switch kind {
		case "mvhd":
			if s, ok := duration(body); ok {
				info.Seconds, known = s, true
			}
		case "trak":
			track(body, info)
		}
	})
	if !known {
		return ErrBroken
	}
	return nil
}

// duration is the length that a movie header has, in seconds.
func duration(b []byte) (float64, bool) {
	var scale uint32
	var length uint64
	switch {
	case len(b) >= 32 && b[0] == 1:
		scale, length = binary.BigEndian.Uint32(b[20:]), binary.BigEndian.Uint64(b[24:])
	case len(b) >= 20 && b[0] == 0:
		scale, length = binary.BigEndian.Uint32(b[12:]), uint64(binary.BigEndian.Uint32(b[16:]))
		if length == 1<<32-1 {
			return 0, true // not known
		}
	}
	if scale == 0 {
		return 0, false
	}
	s := float64(length) / float64(scale)
	return s, s < 100*3600
}

func track(trak []byte, info *Info) {
	var w, h int
	var turned bool
	var handler, codec string
	boxes(trak, func(kind string, body []byte) {
		switch kind {
		case "tkhd":
			w, h, turned = trackSize(body)
		case "mdia":
			boxes(body, func(kind string, body []byte) {
				switch kind {
				case "hdlr":
					if len(body) >= 12 {
						handler = string(body[8:12])
					}
				case "minf":
					codec = sampleEntry(body)
				}
			})
		}
	})
	switch handler {
	case "vide":
		if turned {
			w, h = h, w
		}
		if info.VideoCodec = codec; w > 0 && h > 0 && w*h > info.Width*info.Height {
			info.Width, info.Height = w, h
		}
	case "soun":
		info.AudioCodec = codec
	}
}

// trackSize is the size of a picture, and whether it is turned by a quarter.
func trackSize(b []byte) (w, h int, turned bool) {
	at := 76
	if len(b) > 0 && b[0] == 1 {
		at = 88
	}
	if len(b) < at+8 {
		return 0, 0, false
	}
	matrix := b[at-36:]
	turned = binary.BigEndian.Uint32(matrix) == 0 && binary.BigEndian.Uint32(matrix[4:]) != 0
	return int(binary.BigEndian.Uint32(b[at:]) >> 16), int(binary.BigEndian.Uint32(b[at+4:]) >> 16), turned
}

func sampleEntry(minf []byte) (codec string) {
	boxes(minf, func(kind string, body []byte) {
		if kind != "stbl" {
			return
		}
		boxes(body, func(kind string, body []byte) {
			if kind == "stsd" && len(body) >= 16 {
				codec = string(body[12:16])
			}
		})
	})
	return codec
}
