package transfer

import (
	"bytes"
	"context"
	"io"
	"runtime"
	"testing"

	"whatisup/sessionhost/mediacrypt"
	"whatisup/shared/bucket"
	"whatisup/shared/whatisup"
)

// measured holds what the heap is at most while a transfer reads its file.
type measured struct {
	r    io.Reader
	seen int
	most *uint64
}

func (m *measured) Read(p []byte) (int, error) {
	n, err := m.r.Read(p)
	if m.seen += n; m.seen >= 8<<20 { // now and then: a measurement collects garbage
		m.seen = 0
		*m.most = max(*m.most, heap())
	}
	return n, err
}

// heap is what is in use, without garbage.
func heap() uint64 {
	runtime.GC()
	var s runtime.MemStats
	runtime.ReadMemStats(&s)
	return s.HeapAlloc
}

// A file of 64 MB takes at most 8 MB of memory on its way in, whatever its size: a part
// of the bucket's size and some buffers.
func TestMemoryOfAFetch(t *testing.T) {
	const size = 64 << 20
	key := bytes.Repeat([]byte{7}, mediacrypt.KeySize)
	seal := func() *mediacrypt.Sealer {
		s, err := mediacrypt.Seal(io.LimitReader(&endless{}, size), key, whatisup.BodyDocument)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	sums := seal()
	if _, err := io.Copy(io.Discard, sums); err != nil {
		t.Fatal(err)
	}
	plain, sealed, _ := sums.Sums()

	s := newStore()
	m, _ := received(t, 1, []byte("short"))
	m.Origin.Key, m.Origin.SHA256, m.Origin.Sealed = key, plain, sealed
	s.rows[m.ID] = *m
	d := deskOf(s, bucket.PartSize)
	d.c.Objects = parts{s}

	before := heap()
	most := before
	d.Fetch(t.Context(), &host{files: map[string]func() io.Reader{m.Origin.DirectPath: func() io.Reader { return &measured{r: seal(), most: &most} }}}, s.tell, ref, m.ID)
	d.Wait()
	if got := s.rows[m.ID]; got.Status != whatisup.MediaReady || got.Size != size || !bytes.Equal(got.SHA256, plain) {
		t.Fatalf("%s %+v, %d bytes", got.Status, got.Error, got.Size)
	}
	grown := float64(most-before) / (1 << 20)
	t.Logf("64 MB took %.1f MB more", grown)
	if grown > 8 {
		t.Errorf("64 MB took %.1f MB more", grown)
	}
}

// parts keeps no bytes but those of the part that is being gathered, as the bucket does.
type parts struct{ *store }

func (p parts) Writer(ctx context.Context, key string, b []byte) Stream {
	return &gathering{Stream: p.store.Writer(ctx, key, b), buffer: b[:cap(b)]}
}

type gathering struct {
	Stream
	buffer []byte
	n      int
}

func (g *gathering) Write(p []byte) (int, error) {
	for rest := p; len(rest) > 0; {
		if g.n == len(g.buffer) {
			g.n = 0
		}
		n := copy(g.buffer[g.n:], rest)
		g.n, rest = g.n+n, rest[n:]
	}
	return len(p), nil
}
