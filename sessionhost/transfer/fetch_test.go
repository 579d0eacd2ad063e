package transfer

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"whatisup/sessionhost/mediacrypt"
	"whatisup/shared/whatisup"
)

// store is rows and objects in memory. It can die: at a call, which takes effect or not,
// and every later one fails.
type store struct {
	mu      sync.Mutex
	rows    map[whatisup.MediaID]whatisup.Media
	objects map[string][]byte
	open    map[*stream]bool // begun, and neither committed nor aborted
	events  map[whatisup.EventID]whatisup.EventName
	deleted bool // the instance

	calls  int
	diesAt int  // 0: never
	takes  bool // the call at which it dies takes effect
}

var errDead = errors.New("the process has died")

func newStore() *store {
	return &store{rows: map[whatisup.MediaID]whatisup.Media{}, objects: map[string][]byte{}, open: map[*stream]bool{}, events: map[whatisup.EventID]whatisup.EventName{}}
}

// do is one call to the outside.
func (s *store) do(effect func() error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls++
	switch {
	case s.diesAt > 0 && s.calls > s.diesAt, s.calls == s.diesAt && !s.takes:
		return errDead
	case s.calls == s.diesAt:
		effect() //nolint:errcheck // nobody is there to hear of it
		return errDead
	}
	return effect()
}

func (s *store) Media(_ context.Context, _ whatisup.CustomerID, _ whatisup.Mode, id whatisup.MediaID) (m *whatisup.Media, err error) {
	err = s.do(func() error {
		row, ok := s.rows[id]
		if !ok {
			return whatisup.ErrNotFound
		}
		m = &row
		return nil
	})
	return m, err
}

func (s *store) ChangeMedia(_ context.Context, m *whatisup.Media, was whatisup.MediaStatus) error {
	return s.do(func() error {
		row, ok := s.rows[m.ID]
		if !ok {
			return whatisup.ErrNotFound
		}
		if row.Status != was {
			return whatisup.ErrConflict
		}
		s.rows[m.ID] = *m
		return nil
	})
}

func (s *store) Instance(context.Context, whatisup.CustomerID, whatisup.Mode, whatisup.InstanceID) (i *whatisup.Instance, err error) {
	return &whatisup.Instance{}, s.do(func() error {
		if s.deleted {
			return whatisup.ErrNotFound
		}
		return nil
	})
}

func (s *store) PutMedia(_ context.Context, m *whatisup.Media) (old *whatisup.Media, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rows[m.ID] = *m
	return nil, nil
}

func (s *store) Upload(context.Context, whatisup.Ref, whatisup.MediaID, string) (*whatisup.StoredUpload, error) {
	return nil, errors.New("nothing is sent here")
}

func (s *store) KeepUpload(context.Context, whatisup.Ref, whatisup.MediaID, string, *whatisup.StoredUpload, time.Time) error {
	return errors.New("nothing is sent here")
}

func (s *store) Open(context.Context, string, int64) (io.ReadCloser, int64, error) {
	return nil, 0, errors.New("nothing is sent here")
}

func (s *store) Delete(_ context.Context, key string) error {
	return s.do(func() error { delete(s.objects, key); return nil })
}

func (s *store) DeleteAll(_ context.Context, prefix string) error {
	return s.do(func() error {
		maps.DeleteFunc(s.objects, func(key string, _ []byte) bool { return strings.HasPrefix(key, prefix) })
		return nil
	})
}

func (s *store) Writer(_ context.Context, key string, buffer []byte) Stream {
	out := &stream{s: s, key: key, part: cap(buffer)}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open[out] = true
	return out
}

func (s *store) tell(_ context.Context, name whatisup.EventName, id whatisup.EventID, _ any) error {
	return s.do(func() error {
		if was, ok := s.events[id]; ok && was != name {
			return fmt.Errorf("%s was told as %s", id, was)
		}
		s.events[id] = name
		return nil
	})
}

// stream is an object on its way.
type stream struct {
	s    *store
	key  string
	part int
	b    []byte
	sent int
}

func (w *stream) Write(p []byte) (int, error) {
	w.b = append(w.b, p...)
	for len(w.b)-w.sent > w.part {
		if err := w.s.do(func() error { return nil }); err != nil { // a part
			return 0, err
		}
		w.sent += w.part
	}
	return len(p), nil
}

func (w *stream) Commit() error {
	return w.s.do(func() error {
		w.s.objects[w.key] = w.b
		delete(w.s.open, w)
		return nil
	})
}

func (w *stream) Abort() error {
	w.s.mu.Lock()
	done := !w.s.open[w]
	w.s.mu.Unlock()
	if done {
		return nil
	}
	return w.s.do(func() error { delete(w.s.open, w); return nil })
}

func (s *store) File(string) {}

// host is WhatsApp's media host, and the phone.
type host struct {
	files   map[string]func() io.Reader // by path
	failing int                         // so many times, before it answers
	asked   int
	again   string // the path that the phone gives; empty: it does not
	length  int64  // what it says of the file; 0: nothing
}

func (h *host) GetFile(_ context.Context, o *whatisup.MediaOrigin) (io.ReadCloser, int64, error) {
	if h.failing > 0 {
		h.failing--
		return nil, 0, errors.New("the media host does not answer")
	}
	if h.files[o.DirectPath] == nil {
		return nil, 0, whatisup.ErrNotFound
	}
	size := h.length
	if size == 0 {
		size = -1
	}
	return io.NopCloser(h.files[o.DirectPath]()), size, nil
}

func (h *host) AskFile(context.Context, *whatisup.MediaOrigin) (string, error) {
	if h.asked++; h.again == "" {
		return "", whatisup.ErrNotFound
	}
	return h.again, nil
}

const part = 1000

func desk(s *store) *Desk { return deskOf(s, part) }

func deskOf(s *store, partSize int) *Desk {
	links, err := whatisup.NewMediaLinks("https://api.example.com", "a secret of sixteen")
	if err != nil {
		panic(err)
	}
	return New(Config{
		Rows: s, Objects: s, PartSize: partSize, Links: links, Kept: whatisup.MediaKept, Metrics: s,
		Log: slog.New(slog.DiscardHandler), Now: time.Now,
	})
}

var ref = whatisup.Ref{Customer: "c", Mode: whatisup.Test, ID: "i"}

// received is the row of a file that a message has brought, and the encrypted file.
func received(t testing.TB, n int, file []byte) (*whatisup.Media, []byte) {
	t.Helper()
	key := make([]byte, mediacrypt.KeySize)
	rand.Read(key)
	s, err := mediacrypt.Seal(bytes.NewReader(file), key, whatisup.BodyDocument)
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := io.ReadAll(s)
	if err != nil {
		t.Fatal(err)
	}
	plain, hash, _ := s.Sums()
	now := time.Now()
	return &whatisup.Media{
		Customer: ref.Customer, Mode: ref.Mode, Instance: ref.ID, ID: whatisup.MediaIDOf(ref, fmt.Sprint(n), now),
		Status: whatisup.MediaFetching, CreatedAt: now, ExpiresAt: now.Add(whatisup.MediaKept), Size: int64(len(file)),
		Origin: &whatisup.MediaOrigin{
			Kind: whatisup.BodyDocument, DirectPath: fmt.Sprint("/v/", n), Key: key, SHA256: plain, Sealed: hash, Size: int64(len(file)),
			MessageID: "m", Chat: "1@lid", From: whatisup.Person{LID: "1@lid"},
		},
	}, sealed
}

func serve(b []byte) func() io.Reader { return func() io.Reader { return bytes.NewReader(b) } }

// What becomes of a file, by what the media host and the phone do, and by what its
// message says of it.
func TestFetch(t *testing.T) {
	t.Parallel()
	file := []byte(strings.Repeat("a document. ", 300))
	for _, c := range []struct {
		name   string
		spoil  func(m *whatisup.Media, sealed []byte, h *host)
		status whatisup.MediaStatus
		text   string // of the error
		asked  int
	}{
		{name: "as its message says", status: whatisup.MediaReady},
		{name: "declared shorter", spoil: func(m *whatisup.Media, _ []byte, _ *host) { m.Origin.Size = 10 }, status: whatisup.MediaReady},
		{name: "declared longer", spoil: func(m *whatisup.Media, _ []byte, _ *host) { m.Origin.Size = 1 << 20 }, status: whatisup.MediaReady},
		{name: "no length", spoil: func(m *whatisup.Media, _ []byte, _ *host) { m.Origin.Size = 0 }, status: whatisup.MediaReady},
		{name: "no hashes", spoil: func(m *whatisup.Media, _ []byte, _ *host) { m.Origin.SHA256, m.Origin.Sealed = nil, nil }, status: whatisup.MediaReady},
		{name: "declared too large", spoil: func(m *whatisup.Media, _ []byte, _ *host) { m.Origin.Size = whatisup.MediaMost + 1 }, status: whatisup.MediaFailed, text: errTooLarge.text},
		{name: "announced too large by the host", spoil: func(_ *whatisup.Media, _ []byte, h *host) { h.length = 1 << 40 }, status: whatisup.MediaFailed, text: errTooLarge.text},
		{name: "another plain hash", spoil: func(m *whatisup.Media, _ []byte, _ *host) { m.Origin.SHA256[0] ^= 1 }, status: whatisup.MediaFailed, text: errNotIt.text},
		{name: "another sealed hash", spoil: func(m *whatisup.Media, _ []byte, _ *host) { m.Origin.Sealed[0] ^= 1 }, status: whatisup.MediaFailed, text: errNotIt.text},
		{name: "another key", spoil: func(m *whatisup.Media, _ []byte, _ *host) { m.Origin.Key[0] ^= 1 }, status: whatisup.MediaFailed, text: errNotIt.text},
		{name: "no key", spoil: func(m *whatisup.Media, _ []byte, _ *host) { m.Origin.Key = nil }, status: whatisup.MediaFailed, text: errNotIt.text},
		{name: "another kind", spoil: func(m *whatisup.Media, _ []byte, _ *host) { m.Origin.Kind = whatisup.BodyImage }, status: whatisup.MediaFailed, text: errNotIt.text},
		{name: "changed on the way", spoil: func(_ *whatisup.Media, sealed []byte, _ *host) { sealed[2000] ^= 1 }, status: whatisup.MediaFailed, text: errNotIt.text},
		{name: "cut off", spoil: func(m *whatisup.Media, sealed []byte, h *host) { h.files[m.Origin.DirectPath] = serve(sealed[:1600]) }, status: whatisup.MediaFailed, text: errNotIt.text},
		{name: "empty", spoil: func(m *whatisup.Media, _ []byte, h *host) { h.files[m.Origin.DirectPath] = serve(nil) }, status: whatisup.MediaFailed, text: errNotIt.text},
		{name: "the host answers later", spoil: func(_ *whatisup.Media, _ []byte, h *host) { h.failing = 5 }, status: whatisup.MediaReady},
		{name: "the host never answers", spoil: func(_ *whatisup.Media, _ []byte, h *host) { h.failing = 1 << 30 }, status: whatisup.MediaFailed, text: "WhatsApp's media host did not give the file."},
		{name: "gone, and given again", spoil: func(m *whatisup.Media, sealed []byte, h *host) {
			h.files, h.again = map[string]func() io.Reader{"/again": serve(sealed)}, "/again"
		}, status: whatisup.MediaReady, asked: 1},
		{name: "gone, and gone where it was given again", spoil: func(_ *whatisup.Media, _ []byte, h *host) { h.files, h.again = nil, "/again" }, status: whatisup.MediaFailed, text: errGone.text, asked: 1},
		{name: "gone for good", spoil: func(_ *whatisup.Media, _ []byte, h *host) { h.files = nil }, status: whatisup.MediaFailed, text: errGone.text, asked: 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := newStore()
				m, sealed := received(t, 1, file)
				h := &host{files: map[string]func() io.Reader{m.Origin.DirectPath: serve(sealed)}}
				if c.spoil != nil {
					c.spoil(m, sealed, h)
				}
				s.rows[m.ID] = *m
				d := desk(s)
				d.Fetch(t.Context(), h, s.tell, ref, m.ID)
				d.Wait()
				got := s.rows[m.ID]
				if got.Status != c.status || got.Untold || h.asked != c.asked || len(s.open) != 0 || len(s.events) != 1 || len(d.tasks)+len(d.waiting) != 0 {
					t.Fatalf("%s %+v, untold %v, asked %d times, %d unfinished, events %v", got.Status, got.Error, got.Untold, h.asked, len(s.open), s.events)
				}
				if c.status == whatisup.MediaFailed {
					if got.Error.Message != c.text || got.Key != "" || len(s.objects) != 0 {
						t.Errorf("%+v, key %q, objects %v", got.Error, got.Key, slices.Collect(maps.Keys(s.objects)))
					}
					return
				}
				if len(s.objects) != 1 || !bytes.Equal(s.objects[got.Key], file) || got.Size != int64(len(file)) {
					t.Errorf("%d bytes of %d, in %d objects", got.Size, len(file), len(s.objects))
				}
			})
		})
	}
}

// endless counts what is read of it.
type endless struct{ n int64 }

func (e *endless) Read(p []byte) (int, error) { e.n += int64(len(p)); return len(p), nil }

// A sender who declares 1 KB and sends without an end is cut off at the largest file
// that is taken, and nothing is kept.
func TestHostileLength(t *testing.T) {
	t.Parallel()
	s := newStore()
	m, _ := received(t, 1, []byte("short"))
	m.Origin.Size = 1024
	s.rows[m.ID] = *m
	e := &endless{}
	d := desk(s)
	d.c.Objects = nothing{s}
	d.Fetch(t.Context(), &host{files: map[string]func() io.Reader{m.Origin.DirectPath: func() io.Reader { return e }}}, s.tell, ref, m.ID)
	d.Wait()
	if got := s.rows[m.ID]; got.Status != whatisup.MediaFailed || got.Error.Message != errTooLarge.text || len(s.objects) != 0 || len(s.open) != 0 {
		t.Errorf("%s %+v, %d objects, %d unfinished", got.Status, got.Error, len(s.objects), len(s.open))
	}
	if over := e.n - whatisup.MediaMost; over < 0 || over > 1<<20 {
		t.Errorf("%d bytes were read", e.n)
	}
}

// nothing keeps no bytes.
type nothing struct{ *store }

func (n nothing) Writer(ctx context.Context, key string, b []byte) Stream {
	return forgetful{n.store.Writer(ctx, key, b)}
}

type forgetful struct{ Stream }

func (forgetful) Write(p []byte) (int, error) { return len(p), nil }

// A host that dies at any call, whether the call took effect or not, leaves nothing that
// the next owner does not put right: no row names bytes that are not there, nothing half
// can be read, and the event is told, always as the same one.
func TestDeathAtEveryCall(t *testing.T) {
	t.Parallel()
	file := []byte(strings.Repeat("a document. ", 300)) // 4 parts
	for _, gone := range []bool{false, true} {
		deaths := 0
		for at, over := 1, false; !over; at++ {
			for _, takes := range []bool{false, true} {
				synctest.Test(t, func(t *testing.T) {
					s := newStore()
					m, sealed := received(t, 1, file)
					s.rows[m.ID] = *m
					h := &host{files: map[string]func() io.Reader{m.Origin.DirectPath: serve(sealed)}}
					if gone {
						h.files, h.again = map[string]func() io.Reader{"/again": serve(sealed)}, "/again"
					}
					s.diesAt, s.takes = at, takes
					ctx, kill := context.WithCancel(t.Context())
					d := desk(s)
					d.Fetch(ctx, h, s.tell, ref, m.ID)
					time.Sleep(time.Minute) // it has ended, or can do nothing
					kill()
					d.Wait()
					over = s.calls < at // it did not get that far
					if !over {
						deaths++
					}

					row := s.rows[m.ID]
					if row.Status == whatisup.MediaReady != (row.Key != "") || row.Key != "" && !bytes.Equal(s.objects[row.Key], file) {
						t.Errorf("dead at call %d (%v): %s names %q, which has %d bytes", at, takes, row.Status, row.Key, len(s.objects[row.Key]))
					}
					for key, b := range s.objects {
						if !bytes.Equal(b, file) {
							t.Errorf("dead at call %d (%v): %s has %d bytes", at, takes, key, len(b))
						}
					}
					left := len(s.open)
					if row.Status == whatisup.MediaReady && !row.Untold && len(s.events) != 1 {
						t.Errorf("dead at call %d (%v): told %v", at, takes, s.events)
					}

					// The next owner finds it in the index where something is left to do.
					s.diesAt, s.calls = 0, 0
					d = desk(s)
					d.Fetch(t.Context(), h, s.tell, ref, m.ID)
					d.Wait()
					row = s.rows[m.ID]
					if row.Status != whatisup.MediaReady || row.Untold || !bytes.Equal(s.objects[row.Key], file) || len(s.events) != 1 || len(s.open) != left || left > 1 || len(s.objects) > 2 {
						t.Errorf("dead at call %d (%v), afterwards: %s, untold %v, %d bytes, %d objects, events %v, %d unfinished", at, takes, row.Status, row.Untold, len(s.objects[row.Key]), len(s.objects), s.events, len(s.open))
					}
				})
			}
		}
		if deaths < 14 {
			t.Errorf("it died %d times only", deaths)
		}
	}
}

// A file that is deleted while it is fetched leaves no object.
func TestDeletedMeanwhile(t *testing.T) {
	t.Parallel()
	s := newStore()
	m, sealed := received(t, 1, []byte("a document"))
	s.rows[m.ID] = *m
	d := desk(s)
	d.Fetch(t.Context(), &host{files: map[string]func() io.Reader{m.Origin.DirectPath: func() io.Reader {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.rows, m.ID)
		return bytes.NewReader(sealed)
	}}}, s.tell, ref, m.ID)
	d.Wait()
	if len(s.objects)+len(s.open)+len(s.rows)+len(s.events) != 0 {
		t.Errorf("left: %+v", s)
	}
}

// An instance that is deleted, with its objects, while its file is on the way leaves no
// object, though the connection has ended; one whose commit was cut off neither.
func TestInstanceDeletedMeanwhile(t *testing.T) {
	t.Parallel()
	for name, fails := range map[string]error{"committed": nil, "cut off": errors.New("no answer")} {
		t.Run(name, func(t *testing.T) {
			s := newStore()
			m, sealed := received(t, 1, []byte("a document"))
			s.rows[m.ID] = *m
			d := desk(s)
			up, end := context.WithCancel(t.Context())
			d.c.Objects = late{s, func() error {
				s.mu.Lock()
				s.deleted = fails == nil
				s.mu.Unlock()
				end()
				return errors.Join(d.Remove(t.Context(), ref), fails)
			}}
			d.Fetch(up, &host{files: map[string]func() io.Reader{m.Origin.DirectPath: serve(sealed)}}, s.tell, ref, m.ID)
			d.Wait()
			if len(s.objects)+len(s.open)+len(s.events) != 0 || s.rows[m.ID].Status != whatisup.MediaFetching {
				t.Errorf("left: %d objects, %d unfinished, %v told, %s", len(s.objects), len(s.open), s.events, s.rows[m.ID].Status)
			}
		})
	}
}

// late has something happen before each commit, which takes effect, and then fails if
// that failed.
type late struct {
	*store
	before func() error
}

func (l late) Writer(ctx context.Context, key string, b []byte) Stream {
	return lateStream{l.store.Writer(ctx, key, b), l.before}
}

type lateStream struct {
	Stream
	before func() error
}

func (l lateStream) Commit() error {
	err := l.before()
	return errors.Join(l.Stream.Commit(), err)
}

// What stands still is given up and tried again, and holds up nobody's slot for good.
func TestStall(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStore()
		m, sealed := received(t, 1, []byte("a document"))
		s.rows[m.ID] = *m
		d := desk(s)
		tries := 0
		began := time.Now()
		conn := &stalling{&host{files: map[string]func() io.Reader{m.Origin.DirectPath: serve(sealed)}}, &tries}
		d.Fetch(t.Context(), conn, s.tell, ref, m.ID)
		d.Wait()
		if got := s.rows[m.ID]; got.Status != whatisup.MediaReady || tries != 2 {
			t.Errorf("%s after %d tries", got.Status, tries)
		}
		if took := time.Since(began); took < stallsAfter || took > stallsAfter+2*time.Second {
			t.Errorf("it took %v", took)
		}
	})
}

// stalling stands still at the first try, until it is given up.
type stalling struct {
	*host
	tries *int
}

func (c *stalling) GetFile(ctx context.Context, o *whatisup.MediaOrigin) (io.ReadCloser, int64, error) {
	if *c.tries++; *c.tries > 1 {
		return c.host.GetFile(ctx, o)
	}
	return io.NopCloser(readerFunc(func([]byte) (int, error) {
		<-ctx.Done()
		return 0, ctx.Err()
	})), -1, nil
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// No more wait than there is room for, and no customer takes all of it. No more are
// fetched at a time than there are slots.
func TestWaitingFiles(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStore()
		d := desk(s)
		ctx, end := context.WithCancel(t.Context())
		conn := &holding{}
		for _, c := range []whatisup.CustomerID{"greedy", "other"} {
			var ids []whatisup.MediaID
			for n := range pendingEach + 50 {
				m, _ := received(t, n, []byte("a"))
				m.Customer, m.ID = c, whatisup.MediaID(fmt.Sprint(c, n))
				if err := d.Keep(ctx, m); err != nil {
					t.Fatal(err)
				}
				ids = append(ids, m.ID)
			}
			r := ref
			r.Customer = c
			d.Fetch(ctx, conn, s.tell, r, ids...)
			d.Fetch(ctx, conn, s.tell, r, ids[0]) // is there already
		}
		synctest.Wait()
		if d.waiting["greedy"] != pendingEach || d.waiting["other"] != pendingEach || len(d.tasks) != 2*pendingEach {
			t.Errorf("%v wait", d.waiting)
		}
		if conn.n != Most {
			t.Errorf("%d are fetched at a time", conn.n)
		}
		end()
		d.Wait()
		if len(d.tasks)+len(d.waiting) != 0 {
			t.Errorf("left: %v", d.waiting)
		}
	})
}

// holding answers nobody.
type holding struct {
	host
	mu sync.Mutex
	n  int
}

func (h *holding) GetFile(ctx context.Context, _ *whatisup.MediaOrigin) (io.ReadCloser, int64, error) {
	h.mu.Lock()
	h.n++
	h.mu.Unlock()
	<-ctx.Done()
	return nil, 0, ctx.Err()
}
