package transfer

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"sync"
	"time"

	"whatisup/sessionhost/fair"
	"whatisup/shared/whatisup"
)

// Rows are the rows of files. Errors are those of package whatisup.
type Rows interface {
	Media(context.Context, whatisup.CustomerID, whatisup.Mode, whatisup.MediaID) (*whatisup.Media, error)
	Upload(ctx context.Context, r whatisup.Ref, id whatisup.MediaID, kind string) (*whatisup.StoredUpload, error)
	KeepUpload(ctx context.Context, r whatisup.Ref, id whatisup.MediaID, kind string, u *whatisup.StoredUpload, until time.Time) error
	// PutMedia stores a file where nothing stands under its id, or returns what does.
	PutMedia(context.Context, *whatisup.Media) (old *whatisup.Media, err error)
	// ChangeMedia replaces a row if it still has the status: ErrConflict, ErrNotFound.
	ChangeMedia(ctx context.Context, m *whatisup.Media, was whatisup.MediaStatus) error
	// Instance reads an instance, consistently: ErrNotFound also for one that was deleted.
	Instance(context.Context, whatisup.CustomerID, whatisup.Mode, whatisup.InstanceID) (*whatisup.Instance, error)
}

// Objects are the bytes of files.
type Objects interface {
	// Open reads an object from a byte on: ErrNotFound.
	Open(ctx context.Context, key string, from int64) (io.ReadCloser, int64, error)
	// Writer begins an object with a buffer of PartSize, which is the writer's until
	// Commit or Abort.
	Writer(ctx context.Context, key string, buffer []byte) Stream
	Delete(ctx context.Context, key string) error
	// DeleteAll removes every object whose key begins with prefix.
	DeleteAll(ctx context.Context, prefix string) error
}

// Stream writes one object. Nothing can be read of it before Commit.
type Stream interface {
	io.Writer
	Commit() error
	Abort() error
}

// Host is WhatsApp's media host, as one connection reaches it.
type Host interface {
	// PutFile uploads an encrypted file of a size and a hash.
	PutFile(ctx context.Context, kind whatisup.BodyType, sealed io.Reader, size int64, hash []byte) (url, directPath string, err error)
}

// Most is how many transfers of a host run at one time, and Each how many of them may
// be one customer's.
const (
	Most = 8
	Each = Most / 2
)

// Metrics counts files.
type Metrics interface {
	// File counts one that was fetched, or that can't be: outcome is ready, or why not.
	File(outcome string)
}

// Config of a [Desk].
type Config struct {
	Rows     Rows
	Objects  Objects
	PartSize int // of the bucket
	Links    *whatisup.MediaLinks
	Kept     time.Duration // how long a received file is kept
	Metrics  Metrics
	Log      *slog.Logger
	Now      func() time.Time
}

// Desk carries the files of all sessions of a host.
type Desk struct {
	c       Config
	slots   *fair.Pool
	buffers sync.Pool // of parts; no more are out than there are slots

	mu      sync.Mutex
	tasks   map[whatisup.MediaID]*task
	waiting map[whatisup.CustomerID]int // how many tasks each has
	wg      sync.WaitGroup
}

// New returns a desk. It calls nothing.
func New(c Config) *Desk {
	return &Desk{
		c: c, slots: fair.NewPool(Most, Each), tasks: make(map[whatisup.MediaID]*task), waiting: make(map[whatisup.CustomerID]int),
		buffers: sync.Pool{New: func() any { b := make([]byte, c.PartSize); return &b }},
	}
}

// Wait waits for the last transfer of a received file.
func (d *Desk) Wait() { d.wg.Wait() }

// take waits for a customer's slot; the caller gives it back.
func (d *Desk) take(ctx context.Context, c whatisup.CustomerID) (give func(), err error) {
	granted, give := d.slots.Ask(c)
	select {
	case <-granted:
		return give, nil
	case <-ctx.Done():
		give()
		return nil, ctx.Err()
	}
}

// uploadKept is for how long an upload to WhatsApp is used again. WhatsApp keeps it
// for longer.
const uploadKept = 7 * 24 * time.Hour

// notReady is how long a message waits until its file is looked at again.
const notReady = time.Second

// errDeletedFile is for whoever has named a file that is not there any more.
var errDeletedFile = whatisup.NewError(whatisup.CodeMediaNotFound, "The file was deleted, or has expired.")

// errUnread is a file that can't be read now; nothing was done with it.
var errUnread = whatisup.NewError(whatisup.CodeUnavailable, "The file can't be read now.")

// Read reads a file of at most so many bytes, whole. Its errors are [whatisup.Error]s.
func (d *Desk) Read(ctx context.Context, r whatisup.Ref, id whatisup.MediaID, most int64) ([]byte, error) {
	m, err := d.c.Rows.Media(ctx, r.Customer, r.Mode, id)
	if errors.Is(err, whatisup.ErrNotFound) || err == nil && m.Status != whatisup.MediaReady {
		return nil, errDeletedFile
	}
	if err != nil {
		return nil, errUnread.Because(err)
	}
	give, err := d.take(ctx, r.Customer)
	if err != nil {
		return nil, errUnread.Because(err)
	}
	defer give()
	body, size, err := d.c.Objects.Open(ctx, m.Key, 0)
	if errors.Is(err, whatisup.ErrNotFound) || err == nil && size > most {
		return nil, errDeletedFile
	}
	if err != nil {
		return nil, errUnread.Because(err)
	}
	defer body.Close()
	b, err := io.ReadAll(io.LimitReader(body, most))
	if err != nil {
		return nil, errUnread.Because(err)
	}
	return b, nil
}

// within bounds one transfer.
const within = 10 * time.Minute

// Ready has a message's file at WhatsApp, for this instance. It says how long to wait
// if the file itself is not ready yet, or why the message can't be sent.
func (d *Desk) Ready(ctx context.Context, host Host, r whatisup.Ref, id whatisup.MediaID, b *whatisup.Body) (u *whatisup.StoredUpload, wait time.Duration, why *whatisup.MessageError, err error) {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	form := formOf(b)
	if u, err = d.c.Rows.Upload(ctx, r, id, form.name); u != nil || err != nil {
		return u, 0, nil, err
	}
	m, err := d.c.Rows.Media(ctx, r.Customer, r.Mode, id)
	switch {
	case errors.Is(err, whatisup.ErrNotFound):
		return nil, 0, because(whatisup.MediaUnavailable, "The file was deleted, or has expired."), nil
	case err != nil:
		return nil, 0, nil, err
	case m.Status == whatisup.MediaFailed:
		return nil, 0, m.Error, nil
	case m.Status != whatisup.MediaReady:
		return nil, notReady, nil, nil
	}
	if problem := m.Unsendable(form.kind, form.voice); problem != "" {
		return nil, 0, because(whatisup.UnsupportedMedia, problem), nil
	}

	give, err := d.take(ctx, r.Customer)
	if err != nil {
		return nil, 0, nil, err
	}
	defer give()
	u, err = d.upload(ctx, host, m, form)
	if why, ok := errors.AsType[*unusable](err); ok {
		return nil, 0, because(whatisup.UnsupportedMedia, why.text), nil
	}
	if errors.Is(err, whatisup.ErrNotFound) {
		return nil, 0, because(whatisup.MediaUnavailable, "The file was deleted, or has expired."), nil
	}
	if err != nil {
		return nil, 0, nil, err
	}
	if err := d.c.Rows.KeepUpload(ctx, r, id, form.name, u, d.c.Now().Add(uploadKept)); err != nil {
		d.c.Log.Warn("an upload was not kept; the next message uploads the file again", "media_id", string(id), "error", err.Error())
	}
	return u, 0, nil, nil
}

func because(code whatisup.MessageCode, text string) *whatisup.MessageError {
	e := whatisup.NewMessageError(code)
	e.Message = text
	return e
}

// form is what a file is uploaded as.
type form struct {
	name  string // of the row of the upload
	kind  whatisup.BodyType
	voice bool
}

func formOf(b *whatisup.Body) form {
	f := form{kind: b.Type, voice: b.Type == whatisup.BodyAudio && b.Voice}
	if b.Type == whatisup.BodyText { // the picture of a link's preview
		f.kind = whatisup.BodyImage
	}
	f.name = string(f.kind)
	if f.voice {
		f.name = "voice"
	}
	return f
}

// unusable is a file that WhatsApp's apps would not play.
type unusable struct{ text string }

func (u *unusable) Error() string { return u.text }
