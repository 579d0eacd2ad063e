package s3

import (
	"bufio"
	"crypto/md5"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"hash"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
)

// How a request says that its body is signed.
const (
	unsignedPayload = "UNSIGNED-PAYLOAD"
	unsignedChunks  = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
)

// maxPut is the largest object of one request, maxParts how many parts an upload
// may have, minPart how small all of them but the last may be.
const (
	maxPut   = 5 << 30
	maxParts = 10_000
	minPart  = 5 << 20
)

// stall is how long a body, or the reader of an answer, may stand still.
const stall = 30 * time.Second

// steady is a body that may take as long as it goes on coming.
type steady struct {
	io.Reader
	control *http.ResponseController
}

func (s *steady) Read(p []byte) (int, error) {
	s.control.SetReadDeadline(time.Now().Add(stall)) //nolint:errcheck // not every writer has one
	return s.Reader.Read(p)
}

// chunks reads the aws-chunked encoding: each chunk behind its length, and
// headers behind the last one.
type chunks struct {
	in      *bufio.Reader
	left    int64
	started bool
	ended   bool
	trailer http.Header
}

func (c *chunks) Read(p []byte) (int, error) {
	for c.left == 0 {
		if c.ended {
			return 0, io.EOF
		}
		if c.started {
			if line, err := c.line(); err != nil || line != "" {
				return 0, errIncomplete
			}
		}
		c.started = true
		line, err := c.line()
		if err != nil {
			return 0, errIncomplete
		}
		size, _, _ := strings.Cut(line, ";")
		if c.left, err = strconv.ParseInt(size, 16, 64); err != nil || c.left < 0 {
			return 0, errIncomplete
		}
		if c.left == 0 {
			c.ended = true
			return 0, c.trailers()
		}
	}
	n, err := c.in.Read(p[:min(int64(len(p)), c.left)])
	c.left -= int64(n)
	if errors.Is(err, io.EOF) {
		err = errIncomplete
	}
	return n, err
}

func (c *chunks) trailers() error {
	c.trailer = http.Header{}
	for range 20 {
		line, err := c.line()
		if line == "" {
			if err != nil && !errors.Is(err, io.EOF) {
				return errIncomplete
			}
			return io.EOF
		}
		name, value, _ := strings.Cut(line, ":")
		c.trailer.Add(strings.TrimSpace(name), strings.TrimSpace(value))
	}
	return errIncomplete
}

// line reads one line of at most 4 KB.
func (c *chunks) line() (string, error) {
	b, err := c.in.ReadSlice('\n')
	return strings.TrimRight(string(b), "\r\n"), err
}

// written is a file of an object's bytes, and what they add up to.
type written struct {
	File     string
	Size     int64
	MD5      []byte
	Checksum checksum
}

func (w *written) etag() string { return `"` + hex.EncodeToString(w.MD5) + `"` }

var buffers = sync.Pool{New: func() any { b := make([]byte, 64<<10); return &b }}

// receive writes a request's body to a new file and holds it to everything that
// the request says of it. The file is gone if it fails.
func (s *Service) receive(w http.ResponseWriter, r *http.Request) (*written, error) {
	want, err := checksumIn(r.Header)
	if err != nil {
		return nil, err
	}
	control := http.NewResponseController(w)
	defer control.SetReadDeadline(time.Time{}) //nolint:errcheck // not every writer has one
	body := io.Reader(&steady{r.Body, control})
	size := r.ContentLength
	var chunked *chunks
	var signedHash hash.Hash
	switch hashed := r.Header.Get("X-Amz-Content-Sha256"); {
	case hashed == unsignedChunks:
		chunked = &chunks{in: bufio.NewReader(body)}
		body = chunked
		if size, err = strconv.ParseInt(r.Header.Get("X-Amz-Decoded-Content-Length"), 10, 64); err != nil {
			return nil, failure(411, "MissingContentLength", "You must provide the Content-Length HTTP header.")
		}
	case len(hashed) == 64:
		signedHash = sha256.New()
	}
	if size < 0 {
		return nil, failure(411, "MissingContentLength", "You must provide the Content-Length HTTP header.")
	}
	if size > maxPut {
		return nil, errTooLarge
	}
	f, err := s.store(body, size, want.Algorithm, signedHash)
	if err != nil {
		return nil, err
	}
	fail := func(err error) (*written, error) { s.discard(f.File); return nil, err }
	if f.Size != size {
		return fail(errIncomplete)
	}
	if chunked != nil {
		if n, err := chunked.Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) {
			return fail(errIncomplete)
		}
		if want.Algorithm != "" && want.Value == "" {
			want.Value = chunked.trailer.Get(checksumPrefix + want.Algorithm)
		}
	}
	sum := r.Header.Get("X-Amz-Content-Sha256")
	switch {
	case signedHash != nil && hex.EncodeToString(signedHash.Sum(nil)) != sum:
		return fail(errBadHash)
	case want.Value != "" && want.Value != f.Checksum.Value:
		return fail(errBadDigest)
	case r.Header.Get("Content-Md5") != "" && r.Header.Get("Content-Md5") != base64.StdEncoding.EncodeToString(f.MD5):
		return fail(errBadDigest)
	}
	return f, nil
}

// store writes size bytes at most to a new file, which is on disk when it
// returns. A body that is longer is an error.
func (s *Service) store(body io.Reader, size int64, algorithm string, also hash.Hash) (_ *written, err error) {
	if algorithm == "" {
		algorithm = "crc64nvme" // what S3 itself takes where nothing is asked for
	}
	name := uuid.NewString()
	path := s.path(name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	defer func() {
		if closed := f.Close(); err == nil {
			err = closed
		}
		if err != nil {
			s.discard(name)
		}
	}()
	sum, check := md5.New(), algorithms[algorithm]()
	hashes := []io.Writer{f, sum, check}
	if also != nil {
		hashes = append(hashes, also)
	}
	buffer := buffers.Get().(*[]byte)
	defer buffers.Put(buffer)
	n, err := io.CopyBuffer(io.MultiWriter(hashes...), &io.LimitedReader{R: body, N: size + 1}, *buffer)
	var own *Error
	switch {
	case n > size:
		return nil, errTooLarge
	case errors.As(err, &own):
		return nil, own
	case errors.Is(err, io.ErrUnexpectedEOF), err != nil && isTimeout(err):
		return nil, errIncomplete
	case err != nil:
		return nil, err
	}
	if err := errors.Join(f.Sync(), syncDir(filepath.Dir(path))); err != nil {
		return nil, err
	}
	return &written{name, n, sum.Sum(nil), checksum{Algorithm: algorithm, Value: sumText(check)}}, nil
}

func isTimeout(err error) bool {
	var timeout interface{ Timeout() bool }
	return errors.As(err, &timeout) && timeout.Timeout()
}

// syncDir makes a new file's name durable.
func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// path is where a file lies: 256 folders keep each of them small.
func (s *Service) path(file string) string { return filepath.Join(s.Dir, file[:2], file) }

// discard removes files that no record names.
func (s *Service) discard(files ...string) {
	for _, file := range files {
		os.Remove(s.path(file)) //nolint:errcheck // what stays is removed at the next opening
	}
}

func itoa(n int) string { return strconv.Itoa(n) }
