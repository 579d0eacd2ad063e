package mediafile

import (
	"bufio"
	"encoding/binary"
	"io"
)

// oggPage is one page of an Ogg stream.
type oggPage struct {
	flags   byte
	granule int64
	serial  uint32
	lacing  []byte
	body    []byte
}

const (
	oggContinued = 1
	oggFirst     = 2
	oggLast      = 4
)

// readPage reads the next page, at most 64 KB of it; io.EOF after the last one.
func readPage(r io.Reader) (*oggPage, error) {
	var head [27]byte
	if _, err := io.ReadFull(r, head[:]); err == io.EOF {
		return nil, io.EOF
	} else if err != nil {
		return nil, ErrBroken
	}
	if string(head[:4]) != "OggS" || head[4] != 0 {
		return nil, ErrBroken
	}
	p := &oggPage{
		flags: head[5], granule: int64(binary.LittleEndian.Uint64(head[6:])), serial: binary.LittleEndian.Uint32(head[14:]),
		lacing: make([]byte, head[26]),
	}
	if _, err := io.ReadFull(r, p.lacing); err != nil {
		return nil, ErrBroken
	}
	n := 0
	for _, l := range p.lacing {
		n += int(l)
	}
	p.body = make([]byte, n)
	if _, err := io.ReadFull(r, p.body); err != nil {
		return nil, ErrBroken
	}
	sum := binary.LittleEndian.Uint32(head[22:])
	clear(head[22:26])
	if oggSum(oggSum(oggSum(0, head[:]), p.lacing), p.body) != sum {
		return nil, ErrBroken
	}
	return p, nil
}

// oggTable is CRC-32 with the polynomial 0x04c11db7, unreflected.
var oggTable = func() (t [256]uint32) {
	for i := range t {
		c := uint32(i) << 24
		for range 8 {
			if c&0x80000000 != 0 {
				c = c<<1 ^ 0x04c11db7
			} else {
				c <<= 1
			}
		}
		t[i] = c
	}
	return t
}()

func oggSum(c uint32, p []byte) uint32 {
	for _, b := range p {
		c = c<<8 ^ oggTable[byte(c>>24)^b]
	}
	return c
}

// opusHead is the header of an Opus stream.
type opusHead struct {
	channels byte
	preSkip  int
}

func parseOpusHead(p []byte) (opusHead, bool) {
	if len(p) < 19 || string(p[:8]) != "OpusHead" || p[8]>>4 != 0 || p[9] == 0 {
		return opusHead{}, false
	}
	return opusHead{channels: p[9], preSkip: int(binary.LittleEndian.Uint16(p[10:]))}, true
}

// oggInfo reads an Ogg file: only one stream of Opus has a length here. The length
// is that of the last granule less what decoders skip.
func oggInfo(b *bufio.Reader, info *Info) error {
	first, err := readPage(b)
	if err != nil {
		return err
	}
	head, ok := parseOpusHead(first.body)
	if !ok {
		return nil // Ogg, and something else than Opus
	}
	granule := int64(0)
	for {
		p, err := readPage(b)
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		if p.serial != first.serial || p.flags&oggFirst != 0 {
			return ErrBroken // several streams: no voice note has them
		}
		if p.granule >= 0 {
			if p.granule < granule {
				return ErrBroken
			}
			granule = p.granule
		}
	}
	s := float64(granule-int64(head.preSkip)) / 48000
	if s <= 0 || s > 24*3600 {
		return ErrBroken
	}
	info.Opus, info.Seconds = true, s
	return nil
}
