package whatisup

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"net/url"
)

// Media is a file, given or received.
type Media struct {
	ID       string        `json:"media_id"`
	Status   string        `json:"status"`
	Error    *MessageError `json:"error"`
	MIMEType string        `json:"mime_type"`
	Size     int64         `json:"size"`
	Filename string        `json:"filename"`
	URL      string        `json:"url"` // needs no key: send none
}

// Upload gives a file to send, and waits until it is ready: its ID then goes into a
// body as media_id.
func (c *Client) Upload(ctx context.Context, content io.Reader, size int64, mimeType, filename string) (Media, error) {
	ask := map[string]any{"size": size, "mime_type": mimeType}
	if filename != "" {
		ask["filename"] = filename
	}
	var made struct {
		Media
		Upload struct {
			URL    string            `json:"url"`
			Fields map[string]string `json:"fields"`
		} `json:"upload"`
	}
	if err := c.Do(ctx, http.MethodPost, "/v1/media", ask, &made); err != nil {
		return Media{}, err
	}
	if err := c.fill(ctx, made.Upload.URL, made.Upload.Fields, content, size); err != nil {
		return made.Media, err
	}
	return await(ctx, func() (Media, error) { return c.Media(ctx, made.ID) }, func(m Media) (bool, error) {
		if m.Status == "failed" {
			if m.Error != nil {
				return false, fmt.Errorf("file %s: %s (%s)", m.ID, m.Error.Message, m.Error.Code)
			}
			return false, fmt.Errorf("file %s has failed", m.ID)
		}
		return m.Status == "ready", nil
	})
}

// Media reads a file's state.
func (c *Client) Media(ctx context.Context, id string) (m Media, err error) {
	err = c.Do(ctx, http.MethodGet, "/v1/media/"+url.PathEscape(id), nil, &m)
	return m, err
}

// fill sends an upload form. The file goes through as it is read; what stands before
// and after it is made first, for the form has to say how long it is.
func (c *Client) fill(ctx context.Context, to string, fields map[string]string, content io.Reader, size int64) error {
	var form bytes.Buffer
	w := multipart.NewWriter(&form)
	for k, v := range fields {
		if err := w.WriteField(k, v); err != nil {
			return err
		}
	}
	if _, err := w.CreateFormFile("file", "file"); err != nil {
		return err
	}
	before := bytes.Clone(form.Bytes())
	form.Reset()
	if err := w.Close(); err != nil {
		return err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, to, io.MultiReader(bytes.NewReader(before), io.LimitReader(content, size), &form))
	if err != nil {
		return err
	}
	r.ContentLength = int64(len(before)) + size + int64(form.Len())
	r.Header.Set("Content-Type", w.FormDataContentType())
	answer, err := c.http().Do(r)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode > 299 {
		said, _ := io.ReadAll(io.LimitReader(answer.Body, 1000)) // for the error's text only
		return fmt.Errorf("the upload was answered %s: %s", answer.Status, said)
	}
	return nil
}
