package control

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"slices"
	"strings"
	"time"

	"whatisup/shared/mediafile"
	"whatisup/shared/whatisup"
)

// Files are the rows of files.
type Files interface {
	// PutMedia stores a file where nothing stands under its id, or returns what does.
	PutMedia(context.Context, *whatisup.Media) (old *whatisup.Media, err error)
	// Media reads a file, consistently: ErrNotFound also for one that has expired.
	Media(context.Context, whatisup.CustomerID, whatisup.Mode, whatisup.MediaID) (*whatisup.Media, error)
	// MediaByIDs reads those files that are there, and have not expired. No id comes twice.
	MediaByIDs(context.Context, whatisup.CustomerID, whatisup.Mode, []whatisup.MediaID) (map[whatisup.MediaID]*whatisup.Media, error)
	// ChangeMedia replaces a row if it still has the status: ErrConflict, ErrNotFound.
	ChangeMedia(ctx context.Context, m *whatisup.Media, was whatisup.MediaStatus) error
	DeleteMedia(context.Context, whatisup.CustomerID, whatisup.Mode, whatisup.MediaID) error
	// HoldMedia notes that a message uses a file until a time at the latest.
	HoldMedia(ctx context.Context, r whatisup.Ref, id whatisup.MediaID, message whatisup.MessageID, until time.Time) error
	MediaHolders(ctx context.Context, c whatisup.CustomerID, m whatisup.Mode, id whatisup.MediaID, most int) ([]whatisup.Holder, error)
}

// Objects are the bytes of files. Errors are those of package whatisup.
type Objects interface {
	Form(ctx context.Context, key, contentType string, size int64, within time.Duration) (whatisup.UploadForm, error)
	URL(ctx context.Context, method, key, contentType, disposition string, within time.Duration) (string, error)
	Stat(ctx context.Context, key string) (whatisup.StoredObject, error)
	Copy(ctx context.Context, from, etag, to string) error
	Open(ctx context.Context, key string, from int64) (io.ReadCloser, int64, error)
	Put(ctx context.Context, key string, body io.ReadSeeker) error
	Delete(ctx context.Context, key string) error
}

// Work asks the function that fetches foreign files to look at one.
type Work interface {
	SendMedia(context.Context, whatisup.MediaWork) error
}

// NewMedia is what a customer says of a file that it is about to give.
type NewMedia struct {
	SourceURL string // or the rest
	Size      int64
	MimeType  string
	Filename  string
	SHA256    []byte // may be nil
	// Once makes the id the same for every repetition of a request; empty: a new one.
	Once string
}

// The errors of files whose words do not depend on the request.
var (
	ErrMediaNotFound = whatisup.NewError(whatisup.CodeMediaNotFound, "There is no such file.")
	ErrMediaInUse    = whatisup.NewError(whatisup.CodeMediaInUse, "A message that waits to be sent uses this file. Cancel it first, or wait until it has left.")
	ErrMediaNotReady = whatisup.NewError(whatisup.CodeMediaNotReady, "The file is not ready yet. Get it until its status is ready, or wait for the event media.ready.")
	ErrMediaLate     = &whatisup.Error{
		Code: whatisup.CodeMediaNotReady, Message: "The file is still being fetched. Retry.", HTTPStatus: 503,
		RetryAfter: 2 * time.Second, Details: map[string]any{"reason": "fetching"},
	}
	ErrMediaGone = whatisup.NewError(whatisup.CodeMediaGone, "WhatsApp does not have this file any more, and the phone did not give it again.")
)

func stagingKey(m *whatisup.Media) string { return whatisup.ClassStaging.ObjectKey(m, "") }

// CreateMedia makes a file's row, and for an upload the form.
func (c *Control) CreateMedia(ctx context.Context, who Caller, n NewMedia) (*whatisup.Media, *whatisup.UploadWire, error) {
	now := c.Now().UTC().Truncate(time.Millisecond)
	m := &whatisup.Media{
		Customer: who.Customer.ID, Mode: who.Mode, ID: whatisup.NewMediaID(), MadeBy: who.Key.Instance,
		Status: whatisup.MediaUploading, MimeType: n.MimeType, Size: n.Size, SHA256: n.SHA256, Filename: n.Filename,
		SourceURL: n.SourceURL, ExpiresAt: now.Add(c.MediaKept),
	}
	if n.Once != "" {
		m.ID = whatisup.MediaIDOf(whatisup.Ref{Customer: m.Customer, Mode: m.Mode}, "request\x00"+n.Once, now.Truncate(24*time.Hour))
	}
	m.CreatedAt = now
	if n.SourceURL != "" {
		if err := c.Foreign(ctx, n.SourceURL, m.Mode); err != nil {
			return nil, nil, problem("source_url", err.Error())
		}
		m.Status = whatisup.MediaFetching
	}
	old, err := c.Store.PutMedia(ctx, m)
	if err != nil {
		return nil, nil, err
	}
	if old != nil {
		m = old
	}
	if n.SourceURL != "" {
		return m, nil, c.Work.SendMedia(ctx, workOf(m))
	}
	form, err := c.Objects.Form(ctx, stagingKey(m), m.MimeType, m.Size, whatisup.UploadWithin)
	if err != nil {
		return nil, nil, err
	}
	return m, &whatisup.UploadWire{URL: form.URL, Fields: form.Fields, ExpiresAt: whatisup.At(now.Add(whatisup.UploadWithin))}, nil
}

func workOf(m *whatisup.Media) whatisup.MediaWork {
	return whatisup.MediaWork{Customer: m.Customer, Mode: m.Mode, Media: m.ID}
}

// GetMedia reads one of the caller's files. An upload that has come is looked at.
func (c *Control) GetMedia(ctx context.Context, who Caller, id string) (*whatisup.Media, error) {
	m, err := c.media(ctx, who, id)
	if err != nil {
		return nil, err
	}
	if m.Status == whatisup.MediaUploading {
		return c.FinishUpload(ctx, m)
	}
	return m, nil
}

// FilesOf reads the files of an instance's received messages: those that are there.
func (c *Control) FilesOf(ctx context.Context, i *whatisup.Instance, messages []*whatisup.Message) (map[whatisup.MediaID]*whatisup.Media, error) {
	var ids []whatisup.MediaID
	for _, m := range messages {
		ids = append(ids, m.Media)
	}
	slices.Sort(ids)
	if ids = slices.Compact(ids); len(ids) == 0 {
		return nil, nil
	}
	return c.Store.MediaByIDs(ctx, i.Config.Customer, i.Config.Mode, ids)
}

// media reads one of the caller's files. A text that is no id is read like one; what
// is not there, another's, of the other mode, of another instance than the key's, and
// what has died with its instance is one answer.
func (c *Control) media(ctx context.Context, who Caller, id string) (*whatisup.Media, error) {
	parsed, ok := whatisup.ParseMediaID(id)
	if !ok {
		parsed = "00000000-0000-0000-0000-000000000000"
	}
	m, err := c.Store.Media(ctx, who.Customer.ID, who.Mode, parsed)
	switch {
	case errors.Is(err, whatisup.ErrNotFound), err == nil && !m.MayUse(who.Key):
		return nil, ErrMediaNotFound
	case err != nil:
		return nil, err
	}
	return m, c.alive(ctx, m)
}

// alive says whether the instance that a file came to is still there.
func (c *Control) alive(ctx context.Context, m *whatisup.Media) error {
	if m.Instance == "" {
		return nil
	}
	_, err := c.Store.Instance(ctx, m.Customer, m.Mode, m.Instance)
	if errors.Is(err, whatisup.ErrNotFound) {
		return ErrMediaNotFound
	}
	return err
}

// FinishUpload looks whether an upload has come, and makes it ready: it is copied to
// where nobody can write from outside, and what is told of it is the copy's. A copy's
// key has the ETag of what was copied, so two who do this at once, while the client
// uploads a third time, can't mix one file's facts with another's bytes.
//
// The event is told before the row says so, under an id that follows from the file: a
// death in between repeats it and never omits it.
func (c *Control) FinishUpload(ctx context.Context, m *whatisup.Media) (*whatisup.Media, error) {
	found, err := c.Objects.Stat(ctx, stagingKey(m))
	if errors.Is(err, whatisup.ErrNotFound) {
		if c.Now().Before(m.CreatedAt.Add(whatisup.UploadWithin + time.Minute)) {
			return m, nil
		}
		return c.endMedia(ctx, m, mediaError(whatisup.MediaUnavailable, "Nothing was uploaded while the form was good."))
	}
	if err != nil {
		return nil, err
	}
	key := whatisup.ClassWeek.ObjectKey(m, "_"+strings.Map(keyLetter, found.ETag))
	if err := c.Objects.Copy(ctx, stagingKey(m), found.ETag, key); errors.Is(err, whatisup.ErrConflict) || errors.Is(err, whatisup.ErrNotFound) {
		return m, nil // written again, or finished by another, at this moment
	} else if err != nil {
		return nil, err
	}
	announced := m.SHA256
	done, err := c.look(ctx, m, key)
	if err != nil {
		return nil, err
	}
	if announced != nil && !hmac.Equal(announced, done.SHA256) {
		return c.endMedia(ctx, m, mediaError(whatisup.MediaUnavailable, "The file's SHA-256 is not the one that was announced."))
	}
	return c.readyMedia(ctx, done, m.Status)
}

func keyLetter(r rune) rune {
	if r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r == '-' {
		return r
	}
	return -1
}

// look reads an object once, and returns the file with what it is.
func (c *Control) look(ctx context.Context, m *whatisup.Media, key string) (*whatisup.Media, error) {
	body, size, err := c.Objects.Open(ctx, key, 0)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	return lookAt(m, body, size, key)
}

// lookAt is what the bytes of a file say of it.
func lookAt(m *whatisup.Media, body io.Reader, size int64, key string) (*whatisup.Media, error) {
	sum := sha256.New()
	info, err := mediafile.Inspect(io.TeeReader(body, sum))
	if err != nil {
		return nil, err
	}
	done := *m
	done.Status, done.Key, done.Size, done.SHA256, done.SourceURL = whatisup.MediaReady, key, size, sum.Sum(nil), ""
	done.MimeType = info.TypeOver(done.MimeType)
	done.Facts = whatisup.MediaFacts{Width: info.Width, Height: info.Height, Seconds: info.Seconds, Voice: info.Opus}
	return &done, nil
}

func mediaError(code whatisup.MessageCode, text string) *whatisup.MessageError {
	e := whatisup.NewMessageError(code)
	e.Message = text
	return e
}

// readyMedia tells that a file is ready, and writes it.
func (c *Control) readyMedia(ctx context.Context, m *whatisup.Media, was whatisup.MediaStatus) (*whatisup.Media, error) {
	if err := c.tellMedia(ctx, m); err != nil {
		return nil, err
	}
	err := c.Store.ChangeMedia(ctx, m, was)
	switch {
	case errors.Is(err, whatisup.ErrConflict): // another has finished it
		_ = c.discard(ctx, m.Key, m)
		return c.reread(ctx, m)
	case errors.Is(err, whatisup.ErrNotFound): // deleted meanwhile
		return nil, errors.Join(ErrMediaNotFound, c.discard(ctx, m.Key, nil))
	case err != nil:
		return nil, err
	}
	if was == whatisup.MediaUploading {
		_ = c.Objects.Delete(ctx, stagingKey(m)) // else the bucket removes it after a day
	}
	return m, nil
}

// discard removes an object unless the row names it.
func (c *Control) discard(ctx context.Context, key string, m *whatisup.Media) error {
	if m != nil {
		if now, err := c.reread(ctx, m); err != nil || now.Key == key {
			return err
		}
	}
	return c.Objects.Delete(ctx, key)
}

func (c *Control) reread(ctx context.Context, m *whatisup.Media) (*whatisup.Media, error) {
	m, err := c.Store.Media(ctx, m.Customer, m.Mode, m.ID)
	if errors.Is(err, whatisup.ErrNotFound) {
		return nil, ErrMediaNotFound
	}
	return m, err
}

// endMedia tells that a file has failed, and writes it.
func (c *Control) endMedia(ctx context.Context, m *whatisup.Media, why *whatisup.MessageError) (*whatisup.Media, error) {
	done := *m
	done.Status, done.Error, done.Key, done.SourceURL = whatisup.MediaFailed, why, "", ""
	return c.readyMedia(ctx, &done, m.Status)
}

// tellMedia tells what became of a file that the customer gave.
func (c *Control) tellMedia(ctx context.Context, m *whatisup.Media) error {
	name := whatisup.MediaIsReady
	if m.Status == whatisup.MediaFailed {
		name = whatisup.MediaHasFailed
	}
	e, err := whatisup.NewEvent(name, m.Customer, m.Mode, "", c.Now(), m.Wire(c.Links.URL(m)))
	if err != nil {
		return err
	}
	e.ID = whatisup.MediaEventID(m.ID, m.Status)
	if c.Events != nil {
		if err := c.Events.Send(ctx, e); err != nil {
			return err
		}
	}
	return c.Store.PutEvent(ctx, e)
}

// holdersMost is how many messages are looked at to find whether one still uses a
// file; one that more have used in an hour counts as in use.
const holdersMost = 500

// DeleteMedia ends a file and its URLs.
func (c *Control) DeleteMedia(ctx context.Context, who Caller, id string) error {
	m, err := c.media(ctx, who, id)
	if err != nil {
		return err
	}
	holders, err := c.Store.MediaHolders(ctx, m.Customer, m.Mode, m.ID, holdersMost)
	if err != nil {
		return err
	}
	if len(holders) == holdersMost {
		return ErrMediaInUse
	}
	for _, h := range holders {
		message, err := c.Store.Message(ctx, h.Ref, h.Message)
		if err == nil && message.Status.Waiting() {
			return ErrMediaInUse
		}
		if err != nil && !errors.Is(err, whatisup.ErrNotFound) {
			return err
		}
	}
	if err := c.Store.DeleteMedia(ctx, m.Customer, m.Mode, m.ID); err != nil {
		return err
	}
	if m.Key != "" {
		return c.Objects.Delete(ctx, m.Key)
	}
	return nil
}

// MediaFile finds where a token's bytes can be had: a URL of the bucket, good for some
// minutes, for GET or HEAD. What is not there, for whatever reason, is one answer.
func (c *Control) MediaFile(ctx context.Context, who Caller, token, method string) (string, error) {
	customer, mode, id, ok := c.Links.Open(token)
	if !ok {
		return "", ErrMediaNotFound
	}
	m, err := c.Store.Media(ctx, customer, mode, id)
	if errors.Is(err, whatisup.ErrNotFound) {
		return "", ErrMediaNotFound
	}
	if err != nil {
		return "", err
	}
	if err := c.alive(ctx, m); err != nil {
		return "", err
	}
	if m.Status == whatisup.MediaWaiting || m.Status == whatisup.MediaFetching {
		if m, err = c.awaitMedia(ctx, who, m); err != nil {
			return "", err
		}
	}
	switch m.Status {
	case whatisup.MediaReady:
	case whatisup.MediaFailed:
		if m.Origin != nil {
			return "", ErrMediaGone
		}
		return "", ErrMediaNotFound
	case whatisup.MediaFetching:
		return "", ErrMediaLate
	default:
		return "", ErrMediaNotFound
	}
	kind, disposition := m.Shown()
	return c.Objects.URL(ctx, method, m.Key, kind, disposition, whatisup.MediaURLFor)
}

// awaitMedia has a file fetched that is fetched when it is first used, and waits for
// it as long as a call may.
func (c *Control) awaitMedia(ctx context.Context, who Caller, m *whatisup.Media) (*whatisup.Media, error) {
	if m.Status == whatisup.MediaWaiting {
		i, err := c.Store.Instance(ctx, m.Customer, m.Mode, m.Instance)
		if err != nil {
			return nil, err
		}
		wanted := *m
		wanted.Status = whatisup.MediaFetching
		err = c.Store.ChangeMedia(ctx, &wanted, whatisup.MediaWaiting)
		if err != nil && !errors.Is(err, whatisup.ErrConflict) {
			return nil, err
		}
		c.wakeFor(ctx, who, i, whatisup.WakeMedia, m.ID)
	}
	err := Poll(ctx, c.Now, c.waitUntil(ctx, who), false, func(ctx context.Context) (bool, error) {
		var err error
		m, err = c.reread(ctx, m)
		return err == nil && m.Status != whatisup.MediaFetching, err
	})
	if errors.Is(err, ErrOver) {
		return m, nil
	}
	return m, err
}

// errNoMedia is the one answer to every file that the caller can't send.
func errNoMedia(field string) error { return problem(field, "is no file that can be sent") }

// mediaOfBody finds the file of a message, and refuses what its row already shows to
// be impossible. It returns nil for a body without one.
func (c *Control) mediaOfBody(ctx context.Context, who Caller, m *whatisup.Message, s *whatisup.Send) (*whatisup.Media, error) {
	field, id := "body.media_id", s.Body.MediaID
	kind := s.Body.Type
	if v := s.Body.LinkPreview; v != nil && v.MediaID != "" {
		field, id, kind = "body.link_preview.media_id", v.MediaID, whatisup.BodyImage
	}
	if c.Objects == nil && (id != "" || kind.IsMedia()) {
		return nil, problem("body.type", "can't be sent by this door: send files over HTTP")
	}
	switch {
	case id != "":
		return c.mediaByID(ctx, who, field, id, kind, s.Body)
	case s.Body.MediaBase64 != "":
		return c.inline(ctx, m, s)
	case s.Body.MediaURL != "":
		return c.foreign(ctx, m, s)
	}
	return nil, nil
}

func (c *Control) mediaByID(ctx context.Context, who Caller, field, id string, kind whatisup.BodyType, b *whatisup.Body) (*whatisup.Media, error) {
	media, err := c.media(ctx, who, id)
	if errors.Is(err, ErrMediaNotFound) {
		return nil, errNoMedia(field)
	}
	if err != nil {
		return nil, err
	}
	switch media.Status {
	case whatisup.MediaReady:
		return media, sendable(media, kind, b)
	case whatisup.MediaFailed:
		return nil, whatisup.NewError(whatisup.CodeUnsupportedMedia, "The file has failed and can't be sent: "+media.Error.Message)
	}
	if media.Status == whatisup.MediaUploading {
		// It may have come a moment ago, or S3's word of it may be lost.
		if err := c.Work.SendMedia(ctx, workOf(media)); err != nil {
			who.Log.Warn("nobody was asked to look at an upload", "error", err)
		}
	}
	return nil, ErrMediaNotReady
}

// sendable refuses a file that can't be sent as a type.
func sendable(m *whatisup.Media, t whatisup.BodyType, b *whatisup.Body) error {
	if text := m.Unsendable(t, b.Voice); text != "" {
		return whatisup.NewError(whatisup.CodeUnsupportedMedia, text)
	}
	return nil
}

// inline stores the file that stands in a request. Its id follows from the message's,
// so a repetition finds it there.
func (c *Control) inline(ctx context.Context, m *whatisup.Message, s *whatisup.Send) (*whatisup.Media, error) {
	b, err := base64.StdEncoding.DecodeString(s.Body.MediaBase64)
	if err != nil || len(b) == 0 {
		return nil, problem("body.media_base64", "must be standard base64 of at least one byte")
	}
	if len(b) > whatisup.MaxInline {
		return nil, problem("body.media_base64", "must have at most 180000 bytes before encoding; use POST /v1/media for more")
	}
	media := c.broughtBy(m, s)
	key := whatisup.ClassWeek.ObjectKey(media, "")
	media, err = lookAt(media, bytes.NewReader(b), int64(len(b)), key)
	if err != nil {
		return nil, err
	}
	if err := sendable(media, s.Body.Type, s.Body); err != nil {
		return nil, err
	}
	if err := c.Objects.Put(ctx, key, bytes.NewReader(b)); err != nil {
		return nil, err
	}
	if _, err := c.Store.PutMedia(ctx, media); err != nil {
		return nil, err
	}
	m.Raw, err = inlined(m.Raw, media.ID)
	return media, err
}

// foreign has a URL fetched once, afterwards.
func (c *Control) foreign(ctx context.Context, m *whatisup.Message, s *whatisup.Send) (*whatisup.Media, error) {
	if err := c.Foreign(ctx, s.Body.MediaURL, m.Ref.Mode); err != nil {
		return nil, problem("body.media_url", err.Error())
	}
	media := c.broughtBy(m, s)
	media.Status, media.SourceURL = whatisup.MediaFetching, s.Body.MediaURL
	if _, err := c.Store.PutMedia(ctx, media); err != nil {
		return nil, err
	}
	return media, c.Work.SendMedia(ctx, workOf(media))
}

// broughtBy is the file that a message brings with it.
func (c *Control) broughtBy(m *whatisup.Message, s *whatisup.Send) *whatisup.Media {
	return &whatisup.Media{
		Customer: m.Ref.Customer, Mode: m.Ref.Mode, ID: whatisup.MediaIDOf(m.Ref, string(m.ID), m.Times.Created), MadeBy: m.Ref.ID,
		Status: whatisup.MediaReady, Filename: s.Body.Filename, CreatedAt: m.Times.Created,
		ExpiresAt: later(m.Times.Created.Add(c.MediaKept), m.ExpiresAt),
	}
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// inlined replaces media_base64 by the file's id, and leaves everything else as it
// was written.
func inlined(raw json.RawMessage, id whatisup.MediaID) (json.RawMessage, error) {
	d := json.NewDecoder(bytes.NewReader(raw))
	if _, err := d.Token(); err != nil {
		return nil, err
	}
	out := bytes.NewBufferString("{")
	for n := 0; d.More(); n++ {
		name, err := d.Token()
		if err != nil {
			return nil, err
		}
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return nil, err
		}
		if name == "media_base64" {
			name, value = "media_id", json.RawMessage(`"`+string(id)+`"`)
		}
		if n > 0 {
			out.WriteByte(',')
		}
		key, err := Encode(name)
		if err != nil {
			return nil, err
		}
		out.Write(key)
		out.WriteByte(':')
		out.Write(value)
	}
	out.WriteByte('}')
	return out.Bytes(), nil
}

// keepMedia keeps a file for a message that waits, until the message's end at the
// latest.
func (c *Control) keepMedia(ctx context.Context, who Caller, m *whatisup.Message, media *whatisup.Media) error {
	if err := c.Store.HoldMedia(ctx, m.Ref, media.ID, m.ID, m.ExpiresAt); err != nil {
		return err
	}
	if !m.ExpiresAt.After(media.ExpiresAt) {
		return nil
	}
	// What is kept for longer than its class needs an object of the other class.
	longer := *media
	longer.ExpiresAt = m.ExpiresAt
	if class, rest, ok := strings.Cut(media.Key, "/"); ok && class == whatisup.ClassWeek.Prefix {
		longer.Key = whatisup.ClassMonth.Prefix + "/" + rest
		if err := c.Objects.Copy(ctx, media.Key, "", longer.Key); err != nil {
			return err
		}
	}
	return c.Store.ChangeMedia(ctx, &longer, media.Status)
}
