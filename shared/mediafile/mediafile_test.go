package mediafile

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"image"
	"image/color"
	"image/gif"
	"image/jpeg"
	"image/png"
	"io"
	"runtime"
	"slices"
	"testing"

	"whatisup/shared/mediafile/mediafiletest"
)

func picture(w, h int) image.Image {
	m := image.NewRGBA(image.Rect(0, 0, w, h))
	for y := range h {
		for x := range w {
			m.Set(x, y, color.RGBA{uint8(x), uint8(y), uint8(x ^ y), 255})
		}
	}
	return m
}

func jpegOf(t testing.TB, w, h int) []byte {
	var b bytes.Buffer
	if err := jpeg.Encode(&b, picture(w, h), nil); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func pngOf(t testing.TB, w, h int) []byte {
	var b bytes.Buffer
	if err := png.Encode(&b, picture(w, h)); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func gifOf(t testing.TB, w, h int) []byte {
	var b bytes.Buffer
	if err := gif.Encode(&b, picture(w, h), nil); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// webpOf is the frame of a WebP in its extended form.
func TestInspect(t *testing.T) {
	t.Parallel()
	note, _ := mediafiletest.Note(100)
	for name, c := range map[string]struct {
		file []byte
		want Info
	}{
		"jpeg":          {jpegOf(t, 120, 80), Info{Type: "image/jpeg", Width: 120, Height: 80}},
		"png":           {pngOf(t, 3, 500), Info{Type: "image/png", Width: 3, Height: 500}},
		"gif":           {gifOf(t, 9, 8), Info{Type: "image/gif", Width: 9, Height: 8}},
		"sticker":       {mediafiletest.WebP(512, 512, false), Info{Type: "image/webp", Width: 512, Height: 512}},
		"moving one":    {mediafiletest.WebP(512, 300, true), Info{Type: "image/webp", Width: 512, Height: 300, Animated: true}},
		"film":          {mediafiletest.Film(640, 360, 12, false, 3000), Info{Type: "video/mp4", Width: 640, Height: 360, Seconds: 12, VideoCodec: "avc1"}},
		"film, turned":  {mediafiletest.Film(640, 360, 12, true, 3000), Info{Type: "video/mp4", Width: 360, Height: 640, Seconds: 12, VideoCodec: "avc1"}},
		"voice note":    {note, Info{Type: "audio/ogg", Opus: true, Seconds: float64(100*960-312) / 48000}},
		"pdf":           {[]byte("%PDF-1.7\n"), Info{Type: "application/pdf"}},
		"page":          {[]byte("<html><script>"), Info{}},
		"drawing":       {[]byte(`<svg xmlns="http://www.w3.org/2000/svg">`), Info{}},
		"nothing":       {nil, Info{}},
		"one byte":      {[]byte{0xff}, Info{}},
		"Ogg, not Opus": {mediafiletest.Page(mediafiletest.First, 0, 0, []byte("\x01vorbis")), Info{Type: "audio/ogg"}},
	} {
		got, err := Inspect(bytes.NewReader(c.file))
		if err != nil || got != c.want {
			t.Errorf("%s: %+v, %v; want %+v", name, got, err, c.want)
		}
	}
}

// TestCutOff cuts files at every byte: none may be taken for a whole one of another
// size, and none may do harm.
func TestCutOff(t *testing.T) {
	t.Parallel()
	note, _ := mediafiletest.Note(20)
	for name, file := range map[string][]byte{
		"sticker": mediafiletest.WebP(100, 100, false), "film": mediafiletest.Film(64, 36, 3, false, 3000), "voice note": note,
	} {
		whole, err := Inspect(bytes.NewReader(file))
		if err != nil || whole.Broken {
			t.Fatalf("%s: %+v, %v", name, whole, err)
		}
		for n := range len(file) {
			got, err := Inspect(bytes.NewReader(file[:n]))
			if err != nil {
				t.Fatalf("%s, %d bytes: %v", name, n, err)
			}
			if name != "voice note" && got.Type == whole.Type && !got.Broken {
				t.Errorf("%s, %d of %d bytes, is taken for a whole one: %+v", name, n, len(file), got)
			}
			if got.Seconds > whole.Seconds {
				t.Errorf("%s, %d of %d bytes: %v s", name, n, len(file), got.Seconds)
			}
		}
	}
}

// TestLies has headers that promise what does not come: they must not be paid for in
// memory, and the file is broken.
func TestLies(t *testing.T) {
	t.Parallel()
	huge := binary.BigEndian.AppendUint32(nil, 0xffffffff)
	long := append(append([]byte{0, 0, 0, 1}, "mdat"...), 0, 0, 0, 0xff, 0, 0, 0, 0)
	ftyp := mediafiletest.Box("ftyp", []byte("isom\x00\x00\x02\x00"))
	endless := append(append([]byte{0, 0, 0, 1}, "free"...), 0, 0, 0, 0, 0, 0, 0, 0) // a box of no length
	for name, file := range map[string][]byte{
		"a film with a header of 4 GB":      slices.Concat(ftyp, huge, []byte("moov"), make([]byte, 100)),
		"a film with a box of 1 TB":         slices.Concat(ftyp, long, make([]byte, 100)),
		"a film with a box of no length":    slices.Concat(ftyp, endless, make([]byte, 100)),
		"a film without a header":           slices.Concat(ftyp, mediafiletest.Box("mdat", make([]byte, 100))),
		"a film with a size below a box's":  slices.Concat(ftyp, []byte{0, 0, 0, 3}, []byte("free"), make([]byte, 100)),
		"a JPEG with a segment of one byte": {0xff, 0xd8, 0xff, 0xe0, 0, 1, 0, 0},
		"a JPEG without a frame":            {0xff, 0xd8, 0xff, 0xda, 0, 4, 0, 0},
		"a PNG of no width":                 slices.Concat([]byte("\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR"), make([]byte, 40)),
		"a PNG of 4 billion pixels a side":  slices.Concat([]byte("\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR"), huge, huge, make([]byte, 40)),
		"a WebP longer than it is":          append(mediafiletest.WebP(10, 10, false)[:4:4], append(slices.Clone(huge), mediafiletest.WebP(10, 10, false)[8:]...)...),
		"an Ogg with a wrong sum":           append(mediafiletest.Page(mediafiletest.First, 0, 0, []byte("OpusHead"))[:27:27], "\x08OpusHeae"...),
	} {
		got, err := Inspect(bytes.NewReader(file))
		if err != nil || !got.Broken || got.Width != 0 {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
}

// TestLengthOfAHeader holds a film whose header is longer than is read, and one whose
// header's announced 7 MB end early: memory follows what came.
func TestLengthOfAHeader(t *testing.T) {
	ftyp := mediafiletest.Box("ftyp", []byte("isom\x00\x00\x02\x00"))
	announced := slices.Concat(ftyp, binary.BigEndian.AppendUint32(nil, 7<<20), []byte("moov"), make([]byte, 1000))
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range 100 {
		if got, err := Inspect(bytes.NewReader(announced)); err != nil || !got.Broken {
			t.Fatalf("%+v %v", got, err)
		}
	}
	runtime.ReadMemStats(&after)
	if grown := after.TotalAlloc - before.TotalAlloc; grown > 100<<18 {
		t.Errorf("%d bytes for 100 headers of 1,000 bytes", grown)
	}
}

// TestReadError: the end of the stream is not the end of the file.
func TestReadError(t *testing.T) {
	t.Parallel()
	lost := errors.New("the connection was lost")
	if _, err := Inspect(io.MultiReader(bytes.NewReader(mediafiletest.Film(64, 36, 3, false, 3000)[:50]), failing{lost})); !errors.Is(err, lost) {
		t.Errorf("%v", err)
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

// bombOf is a PNG that says it has many pixels.
func bombOf(t *testing.T, side uint32) []byte {
	b := pngOf(t, 8, 8)
	binary.BigEndian.PutUint32(b[16:], side)
	binary.BigEndian.PutUint32(b[20:], side)
	binary.BigEndian.PutUint32(b[29:], crc32.ChecksumIEEE(b[12:29]))
	return b
}

func TestThumbnail(t *testing.T) {
	t.Parallel()
	for name, file := range map[string][]byte{"jpeg": jpegOf(t, 900, 600), "png": pngOf(t, 900, 600)} {
		small := Thumbnail(file)
		c, kind, err := image.DecodeConfig(bytes.NewReader(small))
		if err != nil || kind != "jpeg" || c.Width != 72 || c.Height != 48 || len(small) > thumbnailMost {
			t.Errorf("%s: %v %s %dx%d, %d bytes", name, err, kind, c.Width, c.Height, len(small))
		}
	}
	if tall := Thumbnail(pngOf(t, 1, 3000)); tall == nil {
		t.Error("a picture of one pixel's width has no thumbnail")
	}
	whole := jpegOf(t, 300, 300)
	for name, file := range map[string][]byte{
		"nothing": nil, "a WebP": mediafiletest.WebP(9, 9, false), "a GIF": gifOf(t, 9, 9), "a JPEG's first half": whole[:len(whole)/3],
	} {
		if Thumbnail(file) != nil {
			t.Errorf("%s has a thumbnail", name)
		}
	}
}

// TestPixelBomb has pictures of a few bytes that would need up to 2 GB to decode.
func TestPixelBomb(t *testing.T) {
	var before, after runtime.MemStats
	for _, side := range []uint32{2000, 16384, 1 << 24} {
		bomb := bombOf(t, side)
		runtime.ReadMemStats(&before)
		if Thumbnail(bomb) != nil {
			t.Errorf("a picture of %d by %d pixels in %d bytes has a thumbnail", side, side, len(bomb))
		}
		runtime.ReadMemStats(&after)
		if grown := after.TotalAlloc - before.TotalAlloc; grown > decodeMost {
			t.Errorf("%d bytes for a picture of %d by %d", grown, side, side)
		}
	}
}

// framesOf takes the packets of a rewritten voice note apart.
func framesOf(t *testing.T, file []byte) (frames [][]byte, packets int) {
	t.Helper()
	r := bytes.NewReader(file)
	for i := 0; ; i++ {
		p, err := readPage(r)
		if err == io.EOF {
			return frames, packets
		}
		if err != nil {
			t.Fatal(err)
		}
		if i < 2 {
			continue
		}
		body := p.body
		for n, at := 0, 0; at < len(p.lacing); at++ {
			n += int(p.lacing[at])
			if p.lacing[at] == 255 {
				continue
			}
			if body[0]&3 != 3 {
				t.Errorf("a packet of code %d", body[0]&3)
			}
			got, samples, ok := opusFrames(body[:n])
			if !ok || samples != 960 {
				t.Fatalf("a packet that is none: %x", body[:n])
			}
			frames, packets = append(frames, got...), packets+1
			body, n = body[n:], 0
		}
	}
}

// TestVoice rewrites a voice note: every frame is there, byte for byte and in its order,
// three to a packet, and the length is the same.
func TestVoice(t *testing.T) {
	t.Parallel()
	for _, n := range []int{1, 2, 3, 4, 50, 1000} {
		file, want := mediafiletest.Note(n)
		v := NewVoice(oneByte{bytes.NewReader(file)})
		out, err := io.ReadAll(v)
		if err != nil {
			t.Fatalf("%d frames: %v", n, err)
		}
		got, packets := framesOf(t, out)
		if len(got) != len(want) || packets != (n+2)/3 {
			t.Fatalf("%d frames became %d in %d packets", n, len(got), packets)
		}
		for i := range want {
			if !bytes.Equal(got[i], want[i]) {
				t.Fatalf("frame %d of %d: %x, want %x", i, n, got[i], want[i])
			}
		}
		before, _ := Inspect(bytes.NewReader(file))
		after, err := Inspect(bytes.NewReader(out))
		if err != nil || after.Broken || !after.Opus || after.Seconds != before.Seconds || v.Seconds() != before.Seconds {
			t.Errorf("%d frames: %+v became %+v, %v", n, before, after, err)
		}
		bars := v.Waveform()
		if len(bars) != waveBars || slices.Max(bars) > 100 {
			t.Errorf("%d frames: %v", n, bars)
		}
	}
}

// oneByte reads a byte at a time.
type oneByte struct{ r io.Reader }

func (o oneByte) Read(p []byte) (int, error) { return o.r.Read(p[:min(len(p), 1)]) }

// TestVoiceRefuses: what no phone plays is damaged, not passed on.
func TestVoiceRefuses(t *testing.T) {
	t.Parallel()
	file, _ := mediafiletest.Note(10)
	head := mediafiletest.Page(mediafiletest.First, 0, 0, []byte("OpusHead\x01\x01\x38\x01\x80\xbb\x00\x00\x00\x00\x00"))
	tags := mediafiletest.Page(0, 0, 1, append([]byte("OpusTags"), make([]byte, 8)...))
	// 20 ms in 65,000 bytes, of which all but two are padding.
	padded := append([]byte{15<<3 | 3, 0x41}, bytes.Repeat([]byte{255}, 255)...)
	padded = append(append(padded, 0), make([]byte, 255*254+2)...)
	for name, file := range map[string][]byte{
		"nothing":                 nil,
		"a header alone":          head,
		"no tags":                 slices.Concat(head, mediafiletest.Page(mediafiletest.Last, 960, 1, []byte{15 << 3, 1})),
		"no sound":                slices.Concat(head, tags),
		"a page that is cut off":  file[:len(file)-3],
		"a flipped bit":           append(slices.Clone(file[:len(file)-1]), file[len(file)-1]^1),
		"a film":                  mediafiletest.Film(64, 36, 1, false, 3000),
		"no frames in the packet": slices.Concat(head, tags, mediafiletest.Page(mediafiletest.Last, 960, 2, []byte{15<<3 | 3, 0})),
		"a packet of padding":     slices.Concat(head, tags, mediafiletest.Page(0, 960, 2, padded[:255*254]), mediafiletest.Page(mediafiletest.Last, 1920, 3, []byte{15 << 3})),
		"time that goes back":     slices.Concat(head, tags, mediafiletest.Page(0, 1920, 2, []byte{15 << 3, 1}), mediafiletest.Page(mediafiletest.Last, 960, 3, []byte{15 << 3, 1})),
	} {
		if out, err := io.ReadAll(NewVoice(bytes.NewReader(file))); !errors.Is(err, ErrBroken) {
			t.Errorf("%s: %d bytes, %v", name, len(out), err)
		}
	}
}

func seed(f *testing.F) {
	note, _ := mediafiletest.Note(7)
	for _, b := range [][]byte{jpegOf(f, 9, 7), pngOf(f, 9, 7), gifOf(f, 9, 7), mediafiletest.WebP(9, 7, true), mediafiletest.Film(64, 36, 1, true, 3000), note, nil} {
		f.Add(b)
	}
}

func FuzzInspect(f *testing.F) {
	seed(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		info, err := Inspect(bytes.NewReader(b))
		if err != nil || info.Width < 0 || info.Height < 0 || info.Seconds < 0 || (info.Width == 0) != (info.Height == 0) {
			t.Errorf("%+v, %v", info, err)
		}
	})
}

func FuzzThumbnail(f *testing.F) {
	seed(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		if small := Thumbnail(b); len(small) > thumbnailMost {
			t.Errorf("%d bytes", len(small))
		}
	})
}

// FuzzVoice: what is written is read by the same rules, and rewriting it again changes
// no length.
func FuzzVoice(f *testing.F) {
	seed(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		v := NewVoice(bytes.NewReader(b))
		out, err := io.ReadAll(v)
		if err != nil {
			return
		}
		if len(v.Waveform()) != waveBars || v.Seconds() <= 0 {
			t.Errorf("%v s", v.Seconds())
		}
		if _, err := io.ReadAll(NewVoice(bytes.NewReader(out))); err != nil {
			t.Errorf("what was written can't be read: %v", err)
		}
	})
}
