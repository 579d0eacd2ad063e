package control

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/url"
	"strings"
	"time"

	"whatisup/shared/whatisup"
)

// Fetcher gets foreign files, under the guard of foreign URLs.
type Fetcher interface {
	// Fetch begins to read what is at a URL. The body ends with an error after limit
	// bytes. Errors of the guard and of the other side are for the customer to see,
	// and are [FetchError]s.
	Fetch(ctx context.Context, url string, m whatisup.Mode, limit int64) (*Fetched, error)
}

// Fetched is a foreign file that is being read.
type Fetched struct {
	Body     io.ReadCloser
	MimeType string // as the other side says; empty: unknown
	Filename string
}

// FetchError says why a foreign file could not be fetched, in words for the customer.
type FetchError struct {
	Text  string
	Again bool // it may be there later
	Cause error
}

func (e *FetchError) Error() string { return "fetch a foreign file: " + e.Text }

func (e *FetchError) Unwrap() error { return e.Cause }

// Stream writes one object. Nothing can be read of it before Commit.
type Stream interface {
	io.Writer
	Commit() error
	Abort() error
}

// errNoWork is a message of the media queue that names no file.
var errNoWork = errors.New("the message names no file")

// CarryMedia does the work of one message of the media queue: an order of ours, or
// S3's word that an upload has come. Both only say where to look; the row decides. An
// error means that the message is to be delivered again.
func (c *Control) CarryMedia(ctx context.Context, message []byte, _ time.Time) error {
	all, err := mediaWork(message)
	if err != nil {
		return err
	}
	for _, w := range all {
		m, err := c.Store.Media(ctx, w.Customer, w.Mode, w.Media)
		switch {
		case errors.Is(err, whatisup.ErrNotFound): // deleted meanwhile
			continue
		case err != nil:
			return err
		case m.Status == whatisup.MediaUploading:
			_, err = c.FinishUpload(ctx, m)
		case m.Status == whatisup.MediaFetching && m.SourceURL != "":
			_, err = c.fetchSource(ctx, m)
		}
		if err != nil && !errors.Is(err, ErrMediaNotFound) {
			return err
		}
	}
	return nil
}

// mediaWork reads a message: our own form, or S3's.
func mediaWork(message []byte) ([]whatisup.MediaWork, error) {
	var body struct {
		whatisup.MediaWork
		Event   string `json:"Event"` // S3's test message, when the notification is set up
		Records []struct {
			S3 struct {
				Object struct {
					Key string `json:"key"`
				} `json:"object"`
			} `json:"s3"`
		} `json:"Records"`
	}
	if err := json.Unmarshal(message, &body); err != nil {
		return nil, errNoWork
	}
	if body.Media != "" {
		return []whatisup.MediaWork{body.MediaWork}, nil
	}
	if body.Event == "s3:TestEvent" {
		return nil, nil
	}
	var all []whatisup.MediaWork
	for _, r := range body.Records {
		key, err := url.QueryUnescape(r.S3.Object.Key)
		parts := strings.Split(key, "/")
		if err != nil || len(parts) != 5 || parts[0] != whatisup.ClassStaging.Prefix {
			return nil, errNoWork
		}
		all = append(all, whatisup.MediaWork{Mode: whatisup.Mode(parts[1]), Customer: whatisup.CustomerID(parts[2]), Media: whatisup.MediaID(parts[4])})
	}
	if len(all) == 0 {
		return nil, errNoWork
	}
	return all, nil
}

// fetchSource fetches a file from its URL, as a stream. What the other side refuses
// for good is failed; what may be there later is tried again by the queue.
func (c *Control) fetchSource(ctx context.Context, m *whatisup.Media) (*whatisup.Media, error) {
	done, err := c.fetchInto(ctx, m)
	if why, ok := errors.AsType[*FetchError](err); ok {
		if why.Again && ctx.Err() == nil && c.Now().Before(m.CreatedAt.Add(fetchTriesFor)) {
			return nil, err
		}
		return c.endMedia(ctx, m, mediaError(whatisup.MediaUnavailable, why.Text))
	}
	if err != nil {
		return nil, err
	}
	return c.readyMedia(ctx, done, m.Status)
}

// fetchTriesFor is for how long a foreign file that may be there later is asked for.
const fetchTriesFor = 10 * time.Minute

func (c *Control) fetchInto(ctx context.Context, m *whatisup.Media) (*whatisup.Media, error) {
	got, err := c.Fetcher.Fetch(ctx, m.SourceURL, m.Mode, whatisup.MediaMost)
	if err != nil {
		return nil, err
	}
	defer got.Body.Close()
	class := whatisup.ClassWeek
	if m.ExpiresAt.Sub(m.CreatedAt) > whatisup.MediaKept {
		class = whatisup.ClassMonth
	}
	key := class.ObjectKey(m, "_"+string(whatisup.NewMediaID())) // a try of its own
	out := c.Stream(ctx, key)
	defer out.Abort()
	named := *m
	named.MimeType, named.Filename = got.MimeType, m.Filename
	if named.Filename == "" {
		named.Filename = got.Filename
	}
	count := &counting{w: out}
	done, err := lookAt(&named, io.TeeReader(got.Body, count), 0, key)
	if err != nil {
		return nil, err
	}
	if done.Size = count.n; done.Size == 0 {
		return nil, &FetchError{Text: "The URL answered with an empty file."}
	}
	return done, out.Commit()
}

// counting counts what it passes on.
type counting struct {
	w io.Writer
	n int64
}

func (c *counting) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}
