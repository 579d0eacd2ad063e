package control

import (
	"context"
	"io"
	"runtime"
	"testing"
	"time"

	"whatisup/shared/whatisup"
)

const memorySize = 64 << 20

// endless is a file without an end, which looks at the heap now and then.
type endless struct {
	seen int
	most uint64
}

func (e *endless) Read(p []byte) (int, error) {
	if e.seen += len(p); e.seen >= 8<<20 {
		e.seen, e.most = 0, max(e.most, heapInUse())
	}
	return len(p), nil
}

func heapInUse() uint64 {
	runtime.GC()
	var s runtime.MemStats
	runtime.ReadMemStats(&s)
	return s.HeapAlloc
}

type oneFile struct{ io.Reader }

func (o oneFile) Fetch(context.Context, string, whatisup.Mode, int64) (*Fetched, error) {
	return &Fetched{Body: io.NopCloser(o.Reader), MimeType: "application/pdf"}, nil
}

// gathering keeps a part of what it is given, as the bucket does.
type gathering struct {
	part []byte
	n    int
}

func (g *gathering) Write(p []byte) (int, error) {
	for rest := p; len(rest) > 0; {
		n := copy(g.part[g.n:], rest)
		g.n, rest = (g.n+n)%len(g.part), rest[n:]
	}
	return len(p), nil
}

func (*gathering) Commit() error { return nil }
func (*gathering) Abort() error  { return nil }

// A foreign file of 64 MB takes at most 8 MB of a function's memory on its way into the
// bucket.
func TestMemoryOfAForeignFile(t *testing.T) {
	file := new(endless)
	c := &Control{Config: Config{
		Fetcher: oneFile{io.LimitReader(file, memorySize)},
		Stream:  func(context.Context, string) Stream { return &gathering{part: make([]byte, 5<<20)} },
	}}
	now := time.Now()
	m := &whatisup.Media{ID: whatisup.NewMediaID(), SourceURL: "https://files.example/f", CreatedAt: now, ExpiresAt: now.Add(time.Hour)}
	before := heapInUse()
	done, err := c.fetchInto(t.Context(), m)
	if err != nil || done.Size != memorySize {
		t.Fatalf("%+v, %v", done, err)
	}
	grown := (float64(file.most) - float64(before)) / (1 << 20)
	t.Logf("64 MB took %.1f MB more", grown)
	if grown > 8 || file.most == 0 {
		t.Errorf("64 MB took %.1f MB more", grown)
	}
}
