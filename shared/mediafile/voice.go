package mediafile

import (
	"encoding/binary"
	"io"
	"slices"
)

// Voice rewrites a voice note, as a stream and without encoding it anew: Ogg with Opus
// in, Ogg with Opus out, with the same sound in packets of 60 ms. Apple's apps refuse
// what the usual encoders write, packets of one frame of 20 ms (code 0), and play what
// WhatsApp's own clients write, several frames in a packet (code 3). Frames of 20 ms
// and less are put together; packets of longer frames are passed on.
type Voice struct {
	r    io.Reader
	out  []byte
	err  error
	head *oggPage

	frames   [][]byte // of the packet that is being gathered
	config   byte     // the upper five bits of its frames' configuration, and stereo
	samples  int      // of one of its frames, at 48 kHz
	partial  []byte   // a packet that goes on in the next page
	granule  int64    // samples that were written
	last     int64    // the newest granule of the input
	preSkip  int
	sequence uint32
	page     []segment
	pageSize int
	loud     []uint16 // the size of each packet: a measure of loudness
	headers  int
	done     bool
}

type segment struct {
	packet  []byte
	granule int64
}

// packetSamples is the length of a packet that frames are gathered to: 60 ms.
const packetSamples = 2880

// packetsMost is how many packets are read of one voice note: a day of the usual ones.
// It bounds what is remembered, two bytes of each.
const packetsMost = 4 << 20

// packetMost is the size of a packet that fits in one page: more than 48 frames of
// 1,275 bytes, so only padding is longer.
const packetMost = 254 * 255

// pageMost is how many packets stand in a page: about a second.
const pageMost = 16

// NewVoice rewrites what is read from r. Anything else than one stream of Opus in Ogg
// is [ErrBroken].
func NewVoice(r io.Reader) *Voice { return &Voice{r: r} }

func (v *Voice) Read(p []byte) (int, error) {
	for len(v.out) == 0 {
		if v.err != nil {
			return 0, v.err
		}
		if v.done {
			return 0, io.EOF
		}
		v.err = v.next()
	}
	n := copy(p, v.out)
	v.out = v.out[n:]
	return n, nil
}

// next reads a page and writes what it completes.
func (v *Voice) next() error {
	page, err := readPage(v.r)
	if err == io.EOF {
		return v.finish()
	}
	if err != nil {
		return err
	}
	if v.head == nil {
		h, ok := parseOpusHead(page.body)
		if !ok || page.flags&oggFirst == 0 {
			return ErrBroken
		}
		v.head, v.preSkip = page, h.preSkip
		v.out = append(v.out, v.writePage(oggFirst, 0, [][]byte{page.body})...)
		v.headers = 1
		return nil
	}
	if page.serial != v.head.serial || page.flags&oggFirst != 0 {
		return ErrBroken
	}
	if page.granule >= 0 {
		if page.granule < v.last {
			return ErrBroken
		}
		v.last = page.granule
	}
	body := page.body
	if page.flags&oggContinued == 0 && v.partial != nil {
		return ErrBroken
	}
	for i := 0; i < len(page.lacing); {
		n, ended := 0, false
		for i < len(page.lacing) {
			l := int(page.lacing[i])
			n, i = n+l, i+1
			if l < 255 {
				ended = true
				break
			}
		}
		v.partial = append(v.partial, body[:n]...)
		body = body[n:]
		if len(v.partial) > packetMost {
			return ErrBroken
		}
		if ended {
			packet := v.partial
			v.partial = nil
			if err := v.packet(packet); err != nil {
				return err
			}
		}
	}
	return nil
}

// packet takes one packet of the input.
func (v *Voice) packet(p []byte) error {
	if v.headers == 1 { // comments
		if len(p) < 8 || string(p[:8]) != "OpusTags" {
			return ErrBroken
		}
		v.headers = 2
		tags := append([]byte("OpusTags"), 8, 0, 0, 0)
		tags = append(tags, "WhatsApp"...)
		tags = append(tags, 0, 0, 0, 0)
		v.out = append(v.out, v.writePage(0, 0, [][]byte{tags})...)
		return nil
	}
	if len(p) == 0 {
		return nil
	}
	frames, samples, ok := opusFrames(p)
	if !ok {
		return ErrBroken
	}
	if len(v.loud) == packetsMost {
		return ErrBroken
	}
	v.loud = append(v.loud, uint16(len(p)))
	config := p[0] &^ 3
	if len(v.frames) > 0 && (config != v.config || (len(v.frames)+len(frames))*samples > packetSamples) {
		v.flush()
	}
	if samples > packetSamples/2 || len(frames)*samples > packetSamples {
		// Long frames, and packets of more than 60 ms, are passed on as they are.
		v.emit(p, len(frames)*samples)
		return nil
	}
	for _, f := range frames {
		v.frames = append(v.frames, append([]byte(nil), f...))
	}
	v.config, v.samples = config, samples
	if len(v.frames)*samples >= packetSamples {
		v.flush()
	}
	return nil
}

// flush writes the frames that were gathered as one packet of code 3.
func (v *Voice) flush() {
	n := len(v.frames)
	if n == 0 {
		return
	}
	vbr := false
	for _, f := range v.frames {
		vbr = vbr || len(f) != len(v.frames[0])
	}
	p := []byte{v.config | 3, byte(n)}
	if vbr {
		p[1] |= 0x80
		for _, f := range v.frames[:n-1] {
			if len(f) < 252 {
				p = append(p, byte(len(f)))
			} else {
				p = append(p, byte(252+len(f)%4), byte((len(f)-252-len(f)%4)/4))
			}
		}
	}
	for _, f := range v.frames {
		p = append(p, f...)
	}
	v.frames = v.frames[:0]
	v.emit(p, n*v.samples)
}

func (v *Voice) emit(packet []byte, samples int) {
	v.granule += int64(samples)
	v.page = append(v.page, segment{append([]byte(nil), packet...), v.granule})
	v.pageSize += len(packet)/255 + 1
	// The last page is written at the end, with its mark: one packet is held back.
	if len(v.page) > pageMost || v.pageSize > 200 {
		v.writePackets(v.page[:len(v.page)-1], 0)
		last := v.page[len(v.page)-1]
		v.page, v.pageSize = append(v.page[:0], last), len(last.packet)/255+1
	}
}

func (v *Voice) writePackets(all []segment, flags byte) {
	if len(all) == 0 {
		return
	}
	packets := make([][]byte, len(all))
	for i, s := range all {
		packets[i] = s.packet
	}
	granule := all[len(all)-1].granule
	if flags&oggLast != 0 && v.last > 0 && v.last < granule {
		granule = v.last // the input's own end cuts the last packet
	}
	v.out = append(v.out, v.writePage(flags, granule, packets)...)
}

func (v *Voice) finish() error {
	if v.head == nil || v.headers < 2 || v.partial != nil {
		return ErrBroken
	}
	v.flush()
	if len(v.page) == 0 || v.last-int64(v.preSkip) <= 0 {
		return ErrBroken
	}
	v.writePackets(v.page, oggLast)
	v.done = true
	return nil
}

// writePage makes one page of whole packets.
func (v *Voice) writePage(flags byte, granule int64, packets [][]byte) []byte {
	var lacing []byte
	for _, p := range packets {
		n := len(p)
		for ; n >= 255; n -= 255 {
			lacing = append(lacing, 255)
		}
		lacing = append(lacing, byte(n))
	}
	b := make([]byte, 27, 27+len(lacing))
	copy(b, "OggS")
	b[5] = flags
	binary.LittleEndian.PutUint64(b[6:], uint64(granule))
	binary.LittleEndian.PutUint32(b[14:], v.head.serial)
	binary.LittleEndian.PutUint32(b[18:], v.sequence)
	b[26] = byte(len(lacing))
	v.sequence++
	b = append(b, lacing...)
	for _, p := range packets {
		b = append(b, p...)
	}
	binary.LittleEndian.PutUint32(b[22:], oggSum(0, b))
	return b
}

// Seconds is the length, after the end.
func (v *Voice) Seconds() float64 { return float64(v.last-int64(v.preSkip)) / 48000 }

// waveBars is how many bars a voice note shows.
const waveBars = 64

// Waveform is the picture of the sound, 64 bars from 0 to 100, after the end. Nothing is
// decoded: Opus spends more bytes where more is to be heard.
func (v *Voice) Waveform() []byte {
	bars := make([]byte, waveBars)
	if len(v.loud) == 0 {
		return bars
	}
	least, most := int(slices.Min(v.loud)), int(slices.Max(v.loud))
	for i := range bars {
		from := i * len(v.loud) / waveBars
		to := max((i+1)*len(v.loud)/waveBars, from+1)
		sum := 0
		for _, n := range v.loud[from:to] {
			sum += int(n)
		}
		if most > least {
			bars[i] = byte((sum/(to-from) - least) * 100 / (most - least))
		} else {
			bars[i] = 50
		}
	}
	return bars
}

// opusFrames takes a packet apart (RFC 6716, section 3.2), and says how many samples at
// 48 kHz each frame has.
func opusFrames(p []byte) (frames [][]byte, samples int, ok bool) {
	samples = frameSamples(p[0])
	body := p[1:]
	switch p[0] & 3 {
	case 0:
		return [][]byte{body}, samples, len(body) <= 1275
	case 1:
		if len(body)%2 != 0 {
			return nil, 0, false
		}
		return [][]byte{body[:len(body)/2], body[len(body)/2:]}, samples, len(body)/2 <= 1275
	case 2:
		n, rest, ok := frameSize(body)
		if !ok || n > len(rest) {
			return nil, 0, false
		}
		return [][]byte{rest[:n], rest[n:]}, samples, len(rest)-n <= 1275
	}
	if len(body) < 1 {
		return nil, 0, false
	}
	count, vbr, padded := int(body[0]&0x3f), body[0]&0x80 != 0, body[0]&0x40 != 0
	body = body[1:]
	if count == 0 || count*samples > 5760 { // 120 ms
		return nil, 0, false
	}
	if padded {
		padding := 0
		for {
			if len(body) == 0 {
				return nil, 0, false
			}
			b := int(body[0])
			body = body[1:]
			if b < 255 {
				padding += b
				break
			}
			padding += 254
		}
		if padding > len(body) {
			return nil, 0, false
		}
		body = body[:len(body)-padding]
	}
	if !vbr {
		if len(body)%count != 0 || len(body)/count > 1275 {
			return nil, 0, false
		}
		n := len(body) / count
		for i := range count {
			frames = append(frames, body[i*n:(i+1)*n])
		}
		return frames, samples, true
	}
	sizes := make([]int, count-1)
	for i := range sizes {
		if sizes[i], body, ok = frameSize(body); !ok {
			return nil, 0, false
		}
	}
	for _, n := range sizes {
		if n > len(body) {
			return nil, 0, false
		}
		frames, body = append(frames, body[:n]), body[n:]
	}
	return append(frames, body), samples, len(body) <= 1275
}

func frameSize(p []byte) (n int, rest []byte, ok bool) {
	switch {
	case len(p) >= 1 && p[0] < 252:
		return int(p[0]), p[1:], true
	case len(p) >= 2:
		return int(p[0]) + 4*int(p[1]), p[2:], true
	}
	return 0, nil, false
}

// frameSamples is the length of a frame of a configuration, at 48 kHz.
func frameSamples(toc byte) int {
	config := toc >> 3
	switch {
	case config < 12: // SILK
		return []int{480, 960, 1920, 2880}[config%4]
	case config < 16: // both
		return []int{480, 960}[config%2]
	}
	return []int{120, 240, 480, 960}[config%4] // CELT
}
