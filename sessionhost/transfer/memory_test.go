package transfer

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"whatisup/sessionhost/mediacrypt"
	"whatisup/shared/bucket"
	"whatisup/shared/whatisup"
)

// peak is what the heap was at most since it began.
type peak struct {
	mu           sync.Mutex
	before, most uint64
}

func (p *peak) begin() {
	heap() // a pool lets go of what it has at the second collection
	p.before, p.most = heap(), 0
}

func (p *peak) look() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.most = max(p.most, heap())
}

// hold says how much the heap has grown, which may be so many MB.
func (p *peak) hold(t *testing.T, what string, mb float64) {
	t.Helper()
	grown := (float64(p.most) - float64(p.before)) / (1 << 20)
	t.Logf("%s took %.1f MB more", what, grown)
	if grown > mb || p.most == 0 {
		t.Errorf("%s took %.1f MB more than before, not at most %v", what, grown, mb)
	}
}

// measured looks at the heap while a transfer reads its file.
type measured struct {
	r    io.Reader
	seen int
	most *peak
}

func (m *measured) Read(p []byte) (int, error) {
	n, err := m.r.Read(p)
	if m.seen += n; m.seen >= 8<<20 { // now and then: a measurement collects garbage
		m.seen = 0
		m.most.look()
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
	s := newStore()
	d := deskOf(s, bucket.PartSize)
	d.c.Objects = parts{s}
	most := new(peak)
	m, from := large(t, s, size64, most)

	most.begin()
	d.Fetch(t.Context(), &host{files: from}, s.tell, ref, m.ID)
	d.Wait()
	most.hold(t, "64 MB in", 8)
	if got := s.rows[m.ID]; got.Status != whatisup.MediaReady || got.Size != size64 || !bytes.Equal(got.SHA256, m.Origin.SHA256) {
		t.Fatalf("%s %+v, %d bytes", got.Status, got.Error, got.Size)
	}
}

const size64 = 64 << 20

// large is a received file of a size, and how it is served.
func large(t *testing.T, s *store, size int64, most *peak) (*whatisup.Media, map[string]func() io.Reader) {
	t.Helper()
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
	m, _ := received(t, 1, []byte("short"))
	m.Origin.Key = key
	m.Origin.SHA256, m.Origin.Sealed, _ = sums.Sums()
	s.rows[m.ID] = *m
	return m, map[string]func() io.Reader{m.Origin.DirectPath: func() io.Reader { return &measured{r: seal(), most: most} }}
}

// A file of 64 MB takes at most 8 MB of memory on its way out.
func TestMemoryOfAnUpload(t *testing.T) {
	s := newStore()
	most := new(peak)
	d, to := sender(s, size64, most)
	m := given(s, 1)
	most.begin()
	u, _, why, err := d.Ready(t.Context(), to, ref, m.ID, &whatisup.Body{Type: whatisup.BodyDocument})
	most.hold(t, "64 MB out", 8)
	if err != nil || why != nil || u.Size != size64 || to.n.Load() != size64+26 {
		t.Fatalf("%+v %+v %v, %d bytes", u, why, err, to.n.Load())
	}
}

// size16 is enough to tell ten files that are held in memory from ten that are not.
const size16 = 16 << 20

// Ten files in and ten out, at one time, take at most 64 MB in all, whatever their size.
func TestMemoryOfTen(t *testing.T) {
	s := newStore()
	most := new(peak)
	in := deskOf(s, bucket.PartSize)
	in.c.Objects = parts{s}
	out, to := sender(s, size16, most)
	m, from := large(t, s, size16, most)
	var ids []whatisup.MediaID
	for n := range 10 {
		one := *m
		one.ID = whatisup.MediaIDOf(ref, fmt.Sprint("in", n), m.CreatedAt)
		s.rows[one.ID] = one
		ids = append(ids, one.ID)
	}
	most.begin()
	// Of two customers, so that all slots are taken.
	other := ref
	other.Customer = "other"
	in.Fetch(t.Context(), &host{files: from}, s.tell, ref, ids[:5]...)
	in.Fetch(t.Context(), &host{files: from}, s.tell, other, ids[5:]...)
	var wg sync.WaitGroup
	for n := range 10 {
		wg.Go(func() {
			u, _, why, err := out.Ready(t.Context(), to, ref, given(s, n).ID, &whatisup.Body{Type: whatisup.BodyDocument})
			if err != nil || why != nil || u.Size != size16 {
				t.Errorf("%+v %+v %v", u, why, err)
			}
		})
	}
	wg.Wait()
	in.Wait()
	most.hold(t, "ten files in and ten out", 64)
	for _, id := range ids {
		if got := s.rows[id]; got.Status != whatisup.MediaReady || got.Size != size16 {
			t.Errorf("%s %+v, %d bytes", got.Status, got.Error, got.Size)
		}
	}
}

// sender is a desk whose objects have a size, and the media host that it sends to.
func sender(s *store, size int64, most *peak) (*Desk, *uploads) {
	d := deskOf(s, bucket.PartSize)
	d.c.Rows, d.c.Objects = unsent{s}, sized{s, size}
	return d, &uploads{most: most}
}

// given is the row of a file that a customer has given.
func given(s *store, n int) *whatisup.Media {
	m := &whatisup.Media{ID: whatisup.MediaIDOf(ref, fmt.Sprint("out", n), time.Now()), Status: whatisup.MediaReady, MimeType: "text/plain", Key: "own"}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rows[m.ID] = *m
	return m
}

// unsent has no uploads yet.
type unsent struct{ *store }

func (unsent) Upload(context.Context, whatisup.Ref, whatisup.MediaID, string) (*whatisup.StoredUpload, error) {
	return nil, nil
}

func (unsent) KeepUpload(context.Context, whatisup.Ref, whatisup.MediaID, string, *whatisup.StoredUpload, time.Time) error {
	return nil
}

type sized struct {
	*store
	size int64
}

func (o sized) Open(context.Context, string, int64) (io.ReadCloser, int64, error) {
	return io.NopCloser(io.LimitReader(&endless{}, o.size)), o.size, nil
}

// uploads is a media host that takes what comes.
type uploads struct {
	most *peak
	n    atomic.Int64
}

func (u *uploads) PutFile(_ context.Context, _ whatisup.BodyType, sealed io.Reader, _ int64, _ []byte) (url, directPath string, err error) {
	n, err := io.Copy(io.Discard, &measured{r: sealed, most: u.most})
	u.n.Add(n)
	return "https://media.example/f", "/f", err
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
