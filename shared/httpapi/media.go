package httpapi

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"strings"
	"time"
	"unicode/utf8"

	"whatisup/shared/control"
	"whatisup/shared/input"
	"whatisup/shared/whatisup"
)

// The limits of files' URLs, which need no key: by address, and by token.
var (
	fileLimitOfAddress = whatisup.RateLimit{Burst: 300, PerSecond: 20}
	fileLimitOfToken   = whatisup.RateLimit{Burst: 60, PerSecond: 5}
)

const maxFilename = 255 // characters

func createMedia(c *call) (*answer, error) {
	b, err := c.readBody()
	if err != nil {
		return nil, err
	}
	n, err := readMedia(b)
	if err != nil {
		return nil, err
	}
	return c.idempotent(b, func(r *claim) (*answer, error) {
		if r != nil {
			n.Once = r.record.Key // a call that died has left a row under this id
		}
		m, upload, err := c.control.CreateMedia(c.ctx, c.who(), n)
		if err != nil {
			return nil, err
		}
		w := c.mediaWire(m)
		w.Upload = upload
		return reply(http.StatusCreated, w).set("Location", "/v1/media/"+string(m.ID)), nil
	})
}

func readMedia(b *input.Object) (control.NewMedia, error) {
	var n control.NewMedia
	if source, ok := b.Text("source_url", false); ok {
		n.SourceURL = source
		if source == "" {
			b.Problem("source_url", "must not be empty")
		}
		for _, name := range []string{"size", "mime_type", "filename", "sha256"} {
			if b.Has(name) {
				b.Ignore(name)
				b.Problem(name, "can't stand beside source_url: the file itself says it")
			}
		}
		return n, b.Done()
	}

	if raw, ok := b.Take("size"); !ok {
		b.Problem("size", "is required, or source_url instead")
	} else if json.Unmarshal(raw, &n.Size) != nil || n.Size < 1 || n.Size > whatisup.MediaMost {
		b.Problem("size", "must be a whole number of bytes from 1 to 104857600")
	}
	if kind, ok := b.Text("mime_type", true); ok {
		if n.MimeType, ok = whatisup.ParseMimeType(kind); !ok {
			b.Problem("mime_type", "must be a type such as image/jpeg")
		}
	}
	if name, ok := b.TextOrNull("filename"); ok {
		n.Filename = name
		if name == "" || utf8.RuneCountInString(name) > maxFilename || strings.ContainsFunc(name, isControl) {
			b.Problem("filename", "must have 1 to 255 characters, and no control characters")
		}
	}
	if sum, ok := b.TextOrNull("sha256"); ok {
		digest, err := hex.DecodeString(sum)
		if err != nil || len(digest) != sha256.Size {
			b.Problem("sha256", "must be 64 hexadecimal digits")
		}
		n.SHA256 = digest
	}
	return n, b.Done()
}

func isControl(r rune) bool { return r < 0x20 || r == 0x7f }

// links makes URLs under the address that the deployment is known by, or where it has
// no name of its own under the one that it was asked at.
func (c *call) links() *whatisup.MediaLinks {
	if c.PublicURL != "" {
		return c.Links
	}
	return c.Links.At("https://" + c.r.Host)
}

func (c *call) mediaWire(m *whatisup.Media) whatisup.MediaWire { return m.Wire(c.links().URL(m)) }

func getMedia(c *call) (*answer, error) {
	m, err := c.control.GetMedia(c.ctx, c.who(), c.sub)
	if err != nil {
		return nil, err
	}
	return reply(http.StatusOK, c.mediaWire(m)), nil
}

func deleteMedia(c *call) (*answer, error) {
	if err := c.control.DeleteMedia(c.ctx, c.who(), c.sub); err != nil {
		return nil, err
	}
	return reply(http.StatusNoContent, nil), nil
}

// getMediaFile leads to a file's bytes. The token is the right to them: no key is
// looked at. Nothing of the token is logged or kept.
func getMediaFile(c *call) (*answer, error) {
	c.w.Header().Set("Referrer-Policy", "no-referrer")
	if err := c.takeFile("address", address(c.r), fileLimitOfAddress); err != nil {
		return nil, err
	}
	if err := c.takeFile("token", c.sub, fileLimitOfToken); err != nil {
		return nil, err
	}
	method := http.MethodGet
	if c.r.Method == http.MethodHead {
		method = http.MethodHead
	}
	who := control.Caller{Request: c.id, Began: c.began, Log: c.log}
	location, err := c.control.MediaFile(c.ctx, who, c.sub, method)
	if err != nil {
		return nil, err
	}
	return reply(http.StatusFound, nil).set("Location", location), nil
}

// takeFile takes a token of whoever uses a file's URL. What is kept of them is a hash
// under the pepper.
func (c *call) takeFile(kind, who string, l whatisup.RateLimit) error {
	name := hex.EncodeToString(mac(c.Peppers.Oldest(), "files\x00"+kind+"\x00"+who)[:16])
	b, err := c.Store.TakeFile(c.ctx, name, l)
	if errors.Is(err, whatisup.ErrTooMany) {
		return errRateLimited.After(max(b.NextIn, time.Second))
	}
	return err
}

// address is the client's, to the /64 where it is of version 6: whoever has one has
// all of it.
func address(r *http.Request) string {
	host := r.RemoteAddr
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	ip := net.ParseIP(host)
	if ip == nil || ip.To4() != nil {
		return host
	}
	return ip.Mask(net.CIDRMask(64, 128)).String()
}
