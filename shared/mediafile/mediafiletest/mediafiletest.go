// Package mediafiletest makes files for tests: whole in what package mediafile reads of
// them, and without a sound or a picture that anybody could play.
package mediafiletest

import (
	"bytes"
	"encoding/binary"
	"slices"
)

// WebP is a sticker of a size in pixels, animated or not.
func WebP(w, h int, animated bool) []byte {
	b := []byte("RIFF\x00\x00\x00\x00WEBPVP8X\x0a\x00\x00\x00\x00\x00\x00\x00")
	if animated {
		b[20] |= 2
	}
	b = append(b, byte(w-1), byte((w-1)>>8), byte((w-1)>>16), byte(h-1), byte((h-1)>>8), byte((h-1)>>16))
	b = append(b, bytes.Repeat([]byte{7}, 40)...)
	binary.LittleEndian.PutUint32(b[4:], uint32(len(b)-8))
	return b
}

// Box is a box of MP4 with parts in it.
func Box(kind string, parts ...[]byte) []byte {
	body := slices.Concat(parts...)
	b := binary.BigEndian.AppendUint32(nil, uint32(len(body)+8))
	return append(append(b, kind...), body...)
}

// Film is an MP4 of a size in pixels and a length in seconds, with its header at the
// end, as cameras write it; turned says that it is to be shown on its side. The film
// itself has as many bytes as filled says.
func Film(w, h int, seconds uint32, turned bool, filled int) []byte {
	mvhd := make([]byte, 100)
	binary.BigEndian.PutUint32(mvhd[12:], 600)
	binary.BigEndian.PutUint32(mvhd[16:], 600*seconds)
	tkhd := make([]byte, 84)
	one := tkhd[40:]
	if turned {
		one = tkhd[44:]
	}
	binary.BigEndian.PutUint32(one, 1<<16)
	binary.BigEndian.PutUint32(tkhd[76:], uint32(w)<<16)
	binary.BigEndian.PutUint32(tkhd[80:], uint32(h)<<16)
	hdlr := append(make([]byte, 8), "vide"...)
	stsd := append([]byte{0, 0, 0, 0, 0, 0, 0, 1}, Box("avc1", make([]byte, 70))...)
	trak := Box("trak", Box("tkhd", tkhd), Box("mdia", Box("hdlr", hdlr), Box("minf", Box("stbl", Box("stsd", stsd)))))
	return slices.Concat(Box("ftyp", []byte("isom\x00\x00\x02\x00isom")), Box("mdat", make([]byte, filled)), Box("moov", Box("mvhd", mvhd), trak))
}

// Flags of a page of Ogg.
const (
	First = 2
	Last  = 4
)

// Page is a page of Ogg with whole packets.
func Page(flags byte, granule int64, sequence uint32, packets ...[]byte) []byte {
	b := append([]byte("OggS\x00"), flags)
	b = binary.LittleEndian.AppendUint64(b, uint64(granule))
	b = binary.LittleEndian.AppendUint32(b, 7) // the stream
	b = binary.LittleEndian.AppendUint32(b, sequence)
	b = append(b, 0, 0, 0, 0) // the sum
	var lacing, body []byte
	for _, p := range packets {
		lacing = append(lacing, bytes.Repeat([]byte{255}, len(p)/255)...)
		lacing = append(lacing, byte(len(p)%255))
		body = append(body, p...)
	}
	b = append(append(append(b, byte(len(lacing))), lacing...), body...)
	sum := uint32(0)
	for _, c := range b {
		sum ^= uint32(c) << 24
		for range 8 {
			over := sum & (1 << 31)
			if sum <<= 1; over != 0 {
				sum ^= 0x04c11db7
			}
		}
	}
	binary.LittleEndian.PutUint32(b[22:], sum)
	return b
}

// Note is a voice note as the usual encoders write it: n packets of one frame of 20 ms.
// It returns the frames, too.
func Note(n int) (file []byte, frames [][]byte) {
	head := []byte("OpusHead\x01\x01\x38\x01\x80\xbb\x00\x00\x00\x00\x00")
	file = append(Page(First, 0, 0, head), Page(0, 0, 1, append([]byte("OpusTags"), make([]byte, 8)...))...)
	for i := range n {
		frame := bytes.Repeat([]byte{byte(i)}, 20+i%30)
		frames = append(frames, frame)
		flags := byte(0)
		if i == n-1 {
			flags = Last
		}
		// Configuration 15 is 20 ms of both layers.
		file = append(file, Page(flags, int64(i+1)*960, uint32(i+2), append([]byte{15 << 3}, frame...))...)
	}
	return file, frames
}
