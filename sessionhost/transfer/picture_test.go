package transfer

import (
	"bytes"
	"context"
	"errors"
	"image"
	"image/jpeg"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"whatisup/shared/whatisup"
)

// aPicture is the row of a picture whose URL was used, and its bytes.
func aPicture(t testing.TB) (*whatisup.Media, []byte) {
	t.Helper()
	var b bytes.Buffer
	if err := jpeg.Encode(&b, image.NewGray(image.Rect(0, 0, 64, 64)), nil); err != nil {
		t.Fatal(err)
	}
	m := whatisup.PictureMedia(ref, "1@lid", "17", time.Now(), whatisup.MediaKept)
	m.Status = whatisup.MediaFetching
	return m, b.Bytes()
}

// pictures is WhatsApp with one picture.
type pictures struct {
	host
	picture io.Reader
	tries   int
}

func (p *pictures) GetFile(context.Context, *whatisup.MediaOrigin) (io.ReadCloser, int64, error) {
	p.tries++
	switch {
	case p.failing > 0:
		p.failing--
		return nil, 0, errors.New("WhatsApp does not answer")
	case p.picture == nil:
		return nil, 0, whatisup.ErrNotFound
	}
	size := p.length
	if size == 0 {
		size = -1
	}
	return io.NopCloser(p.picture), size, nil
}

// What becomes of a picture. Nobody is told of it, and no phone is asked for it.
func TestFetchPicture(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		spoil  func(p *pictures)
		status whatisup.MediaStatus
		text   string // of the error
		tries  int
	}{
		{name: "as it is", status: whatisup.MediaReady, tries: 1},
		{name: "WhatsApp answers later", spoil: func(p *pictures) { p.failing = 5 }, status: whatisup.MediaReady, tries: 6},
		{name: "WhatsApp never answers", spoil: func(p *pictures) { p.failing = 1 << 30 }, status: whatisup.MediaFailed, text: "WhatsApp's media host did not give the file.", tries: triesLater},
		{name: "another one by now", spoil: func(p *pictures) { p.picture = nil }, status: whatisup.MediaFailed, text: errPictureGone.text, tries: 1},
		{name: "announced too large", spoil: func(p *pictures) { p.length = whatisup.PictureMost + 1 }, status: whatisup.MediaFailed, text: errPictureTooLarge.text, tries: 1},
		{name: "without an end", spoil: func(p *pictures) { p.picture = io.MultiReader(p.picture, &endless{}) }, status: whatisup.MediaFailed, text: errPictureTooLarge.text, tries: 1},
		{name: "empty", spoil: func(p *pictures) { p.picture = bytes.NewReader(nil) }, status: whatisup.MediaFailed, text: errNoPicture.text, tries: 1},
		{name: "a page", spoil: func(p *pictures) { p.picture = bytes.NewReader([]byte("<html>")) }, status: whatisup.MediaFailed, text: errNoPicture.text, tries: 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := newStore()
				m, file := aPicture(t)
				s.rows[m.ID] = *m
				p := &pictures{picture: bytes.NewReader(file)}
				if c.spoil != nil {
					c.spoil(p)
				}
				d := desk(s)
				d.Fetch(t.Context(), p, s.tell, ref, m.ID)
				d.Wait()
				got := s.rows[m.ID]
				if got.Status != c.status || got.Untold || p.tries != c.tries || p.asked != 0 || len(s.events) != 0 || len(s.open) != 0 || len(d.tasks)+len(d.waiting) != 0 {
					t.Fatalf("%s %+v after %d tries, untold %v, %d unfinished, events %v", got.Status, got.Error, p.tries, got.Untold, len(s.open), s.events)
				}
				if c.status == whatisup.MediaFailed {
					if got.Error.Message != c.text || got.Key != "" || len(s.objects) != 0 {
						t.Errorf("%+v, key %q, %d objects", got.Error, got.Key, len(s.objects))
					}
					return
				}
				if len(s.objects) != 1 || !bytes.Equal(s.objects[got.Key], file) || got.MimeType != "image/jpeg" || got.Facts.Width != 64 {
					t.Errorf("%+v in %d objects", got, len(s.objects))
				}
			})
		})
	}
}

// A host that dies while it fetches a picture leaves nothing that the next owner does
// not put right.
func TestDeathWithAPicture(t *testing.T) {
	t.Parallel()
	deaths := 0
	for at, over := 1, false; !over; at++ {
		for _, takes := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				s := newStore()
				m, file := aPicture(t)
				s.rows[m.ID] = *m
				s.diesAt, s.takes = at, takes
				ctx, kill := context.WithCancel(t.Context())
				d := desk(s)
				d.Fetch(ctx, &pictures{picture: bytes.NewReader(file)}, s.tell, ref, m.ID)
				time.Sleep(5 * time.Minute) // it has ended, or can do nothing
				kill()
				d.Wait()
				if over = s.calls < at; !over {
					deaths++
				}

				s.diesAt, s.calls = 0, 0
				d = desk(s)
				d.Fetch(t.Context(), &pictures{picture: bytes.NewReader(file)}, s.tell, ref, m.ID)
				d.Wait()
				if row := s.rows[m.ID]; row.Status != whatisup.MediaReady || row.Untold || !bytes.Equal(s.objects[row.Key], file) || len(s.events) != 0 || len(s.objects) > 2 {
					t.Errorf("dead at call %d (%v), afterwards: %s %+v, %d objects", at, takes, row.Status, row.Error, len(s.objects))
				}
			})
		}
	}
	if deaths < 8 {
		t.Errorf("it died %d times only", deaths)
	}
}

// gives is a bucket with one object.
type gives struct {
	*store
	b   []byte
	err error
}

func (g gives) Open(context.Context, string, int64) (io.ReadCloser, int64, error) {
	return io.NopCloser(bytes.NewReader(g.b)), int64(len(g.b)), g.err
}

// A file that a call names is read whole, or it is said why not, in words for the caller:
// nothing was done by then.
func TestRead(t *testing.T) {
	t.Parallel()
	file := []byte("a picture")
	for _, c := range []struct {
		name  string
		spoil func(m *whatisup.Media, g *gives, s *store)
		want  whatisup.Code
	}{
		{name: "there"},
		{name: "deleted", spoil: func(m *whatisup.Media, _ *gives, s *store) { delete(s.rows, m.ID) }, want: whatisup.CodeMediaNotFound},
		{name: "not ready", spoil: func(m *whatisup.Media, _ *gives, s *store) { m.Status = whatisup.MediaFailed; s.rows[m.ID] = *m }, want: whatisup.CodeMediaNotFound},
		{name: "deleted after its row was read", spoil: func(_ *whatisup.Media, g *gives, _ *store) { g.err = whatisup.ErrNotFound }, want: whatisup.CodeMediaNotFound},
		{name: "larger than its row says", spoil: func(_ *whatisup.Media, g *gives, _ *store) { g.b = append(g.b, '.') }, want: whatisup.CodeMediaNotFound},
		{name: "no bucket", spoil: func(_ *whatisup.Media, g *gives, _ *store) { g.err = errors.New("no route") }, want: whatisup.CodeUnavailable},
		{name: "no table", spoil: func(_ *whatisup.Media, _ *gives, s *store) { s.diesAt = 1 }, want: whatisup.CodeUnavailable},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := newStore()
			m, _ := aPicture(t)
			m.Status = whatisup.MediaReady
			s.rows[m.ID] = *m
			g := gives{store: s, b: bytes.Clone(file)}
			if c.spoil != nil {
				c.spoil(m, &g, s)
			}
			d := desk(s)
			d.c.Objects = g
			b, err := d.Read(t.Context(), ref, m.ID, int64(len(file)))
			if c.want == "" {
				if err != nil || !bytes.Equal(b, file) {
					t.Errorf("%q, %v", b, err)
				}
				return
			}
			if refused, ok := errors.AsType[*whatisup.Error](err); !ok || refused.Code != c.want || b != nil {
				t.Errorf("%q, %v, want %v", b, err, c.want)
			}
		})
	}
}
