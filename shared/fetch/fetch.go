// Package fetch gets foreign files for package control, under the guard of foreign
// URLs: it turns what can go wrong on the way into words for the customer.
package fetch

import (
	"context"
	"errors"
	"io"
	"mime"
	"net/http"
	"net/url"
	"path"
	"strconv"
	"strings"

	"whatisup/shared/control"
	"whatisup/shared/foreign"
	"whatisup/shared/whatisup"
)

// Fetcher is [control.Fetcher].
type Fetcher struct{ Guard *foreign.Guard }

// Check is what [control.Config] wants as Foreign.
func (f Fetcher) Check(ctx context.Context, raw string, m whatisup.Mode) error {
	_, err := f.Guard.Check(ctx, raw, m == whatisup.Test)
	return err
}

// Fetch is [control.Fetcher].
func (f Fetcher) Fetch(ctx context.Context, raw string, m whatisup.Mode, limit int64) (*control.Fetched, error) {
	resp, err := f.Guard.Get(ctx, raw, m == whatisup.Test, limit)
	if err != nil {
		return nil, fetchError(err)
	}
	if resp.StatusCode != http.StatusOK {
		resp.Body.Close()
		again := resp.StatusCode >= 500 || resp.StatusCode == http.StatusTooManyRequests || resp.StatusCode == http.StatusRequestTimeout
		return nil, &control.FetchError{Text: "The URL answered " + strconv.Itoa(resp.StatusCode) + ".", Again: again}
	}
	got := &control.Fetched{Body: body{resp.Body}, Filename: nameOf(resp)}
	if kind, ok := whatisup.ParseMimeType(resp.Header.Get("Content-Type")); ok {
		got.MimeType = kind
	}
	return got, nil
}

// body gives the errors of a foreign file's bytes their words.
type body struct{ io.ReadCloser }

func (b body) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil && err != io.EOF {
		err = fetchError(err)
	}
	return n, err
}

// fetchErrors has the sentence of each problem, and whether it may pass.
var fetchErrors = map[foreign.Problem]control.FetchError{
	foreign.ProblemNotAllowed:  {Text: "The URL leads to an address that must not be fetched from."},
	foreign.ProblemTooLarge:    {Text: "The file has more than 100 MB."},
	foreign.ProblemRedirects:   {Text: "The URL redirects more than 3 times."},
	foreign.ProblemNoName:      {Text: "The URL's host has no address."},
	foreign.ProblemNameServer:  {Text: "The URL's host could not be looked up.", Again: true},
	foreign.ProblemTimeout:     {Text: "The URL did not answer in time.", Again: true},
	foreign.ProblemRefused:     {Text: "The URL's host refuses connections.", Again: true},
	foreign.ProblemUnreachable: {Text: "The URL's host can't be reached.", Again: true},
	foreign.ProblemTLS:         {Text: "The URL's host has no certificate that fits."},
	foreign.ProblemLost:        {Text: "The connection to the URL's host was lost.", Again: true},
}

func fetchError(err error) error {
	if errors.Is(err, context.Canceled) {
		return err
	}
	e, ok := fetchErrors[foreign.ProblemOf(err)]
	if !ok {
		e = control.FetchError{Text: "The file could not be fetched.", Again: true}
	}
	e.Cause = err
	return &e
}

// nameOf is the file's name, as the answer or its URL has it.
func nameOf(r *http.Response) string {
	name := ""
	if _, params, err := mime.ParseMediaType(r.Header.Get("Content-Disposition")); err == nil {
		name = params["filename"]
	}
	if name == "" {
		if u := r.Request.URL; strings.Contains(path.Base(u.Path), ".") {
			name, _ = url.PathUnescape(path.Base(u.EscapedPath()))
		}
	}
	name = strings.Map(func(c rune) rune {
		if c < 0x20 || c == 0x7f || c == '/' || c == '\\' {
			return -1
		}
		return c
	}, path.Base(name))
	if name == "." || len(name) > 255 {
		return ""
	}
	return name
}
