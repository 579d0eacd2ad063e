package httpapi

import (
	"bytes"
	"io"
	"mime"
	"strings"

	"whatisup/shared/input"
)

// readBody reads the request's body: its size, then its type, then its text.
func (c *call) readBody() (*input.Object, error) {
	if c.r.ContentLength > input.MaxBody {
		return nil, errTooLarge
	}
	raw, err := io.ReadAll(io.LimitReader(c.r.Body, input.MaxBody+1))
	if err != nil {
		return nil, input.Invalid(input.Problem{Field: "body", Problem: "could not be read to its end"})
	}
	if len(raw) > input.MaxBody {
		return nil, errTooLarge
	}
	if len(bytes.TrimSpace(raw)) == 0 {
		return input.Parse([]byte("{}"))
	}
	if !isJSON(c.r.Header.Values("Content-Type"), c.r.Header.Get("Content-Encoding")) {
		return nil, errMediaType
	}
	return input.Parse(raw)
}

// emptyBody reads the body of a request that has no arguments: nothing, or an
// object without members.
func (c *call) emptyBody() (*input.Object, error) {
	b, err := c.readBody()
	if err != nil {
		return nil, err
	}
	return b, b.Done()
}

func isJSON(types []string, encoding string) bool {
	if encoding != "" && !strings.EqualFold(encoding, "identity") || len(types) != 1 {
		return false
	}
	kind, params, err := mime.ParseMediaType(types[0])
	if err != nil || kind != "application/json" {
		return false
	}
	charset, named := params["charset"]
	return !named || strings.EqualFold(charset, "utf-8")
}
