package mediafile

import (
	"bufio"
	"encoding/binary"
	"io"
)

// skip passes over n bytes.
func skip(b *bufio.Reader, n int64) error {
	got, err := io.CopyN(io.Discard, b, n)
	if got < n {
		return ErrBroken
	}
	return err
}

// take reads n bytes.
func take(b *bufio.Reader, n int) ([]byte, error) {
	p := make([]byte, n)
	if _, err := io.ReadFull(b, p); err != nil {
		return nil, ErrBroken
	}
	return p, nil
}

// jpegInfo walks the segments to the frame header.
func jpegInfo(b *bufio.Reader, info *Info) error {
	if err := skip(b, 2); err != nil {
		return err
	}
	for {
		c, err := b.ReadByte()
		if err != nil || c != 0xff {
			return ErrBroken
		}
		for c == 0xff {
			if c, err = b.ReadByte(); err != nil {
				return ErrBroken
			}
		}
		if c == 0x01 || c >= 0xd0 && c <= 0xd7 {
			continue
		}
		if c == 0xd9 || c == 0xda {
			return ErrBroken // the end, or the picture itself, before its size
		}
		size, err := take(b, 2)
		if err != nil {
			return err
		}
		n := int64(binary.BigEndian.Uint16(size)) - 2
		if n < 0 {
			return ErrBroken
		}
		if c >= 0xc0 && c <= 0xcf && c != 0xc4 && c != 0xc8 && c != 0xcc {
			frame, err := take(b, 5)
			if err != nil {
				return err
			}
			info.Height, info.Width = int(binary.BigEndian.Uint16(frame[1:])), int(binary.BigEndian.Uint16(frame[3:]))
			return positive(info)
		}
		if err := skip(b, n); err != nil {
			return err
		}
	}
}

func positive(info *Info) error {
	if info.Width <= 0 || info.Height <= 0 {
		info.Width, info.Height = 0, 0
		return ErrBroken
	}
	return nil
}

func pngInfo(b *bufio.Reader, info *Info) error {
	head, err := take(b, 24)
	if err != nil || string(head[12:16]) != "IHDR" {
		return ErrBroken
	}
	w, h := binary.BigEndian.Uint32(head[16:]), binary.BigEndian.Uint32(head[20:])
	if w > 1<<24 || h > 1<<24 {
		return ErrBroken
	}
	info.Width, info.Height = int(w), int(h)
	return positive(info)
}

func gifInfo(b *bufio.Reader, info *Info) error {
	head, err := take(b, 10)
	if err != nil {
		return err
	}
	info.Width, info.Height = int(binary.LittleEndian.Uint16(head[6:])), int(binary.LittleEndian.Uint16(head[8:]))
	return positive(info)
}

// webpInfo reads the first chunk, which has the size in each of the three forms.
func webpInfo(b *bufio.Reader, info *Info) error {
	head, err := take(b, 30)
	if err != nil {
		return err
	}
	p := head[20:]
	switch string(head[12:16]) {
	case "VP8X":
		info.Animated = p[0]&0x02 != 0
		info.Width = 1 + (int(p[4]) | int(p[5])<<8 | int(p[6])<<16)
		info.Height = 1 + (int(p[7]) | int(p[8])<<8 | int(p[9])<<16)
	case "VP8 ":
		if p[3] != 0x9d || p[4] != 0x01 || p[5] != 0x2a {
			return ErrBroken
		}
		info.Width = int(binary.LittleEndian.Uint16(p[6:])) & 0x3fff
		info.Height = int(binary.LittleEndian.Uint16(p[8:])) & 0x3fff
	case "VP8L":
		if p[0] != 0x2f {
			return ErrBroken
		}
		bits := binary.LittleEndian.Uint32(p[1:])
		info.Width, info.Height = 1+int(bits&0x3fff), 1+int(bits>>14&0x3fff)
	default:
		return ErrBroken
	}
	// The file says how long it is: one that is cut off shows nothing.
	declared := int64(binary.LittleEndian.Uint32(head[4:])) + 8
	if err := skip(b, declared-int64(len(head))); declared < int64(len(head)) || err != nil {
		info.Width, info.Height = 0, 0
		return ErrBroken
	}
	return positive(info)
}
