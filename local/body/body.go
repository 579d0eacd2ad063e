// Package body reads the bodies of requests within bounds: of one body's bytes and
// time, and of the bytes of all bodies in hand.
package body

import (
	"errors"
	"io"
	"net/http"
	"sync"
	"time"
)

// Step is how much of a body is read, and room made for, at a time, in bytes: what
// a request says of its own length makes no room.
const Step = 16 << 10

var (
	ErrTooLong = errors.New("the body is over the limit")
	ErrNoRoom  = errors.New("too many bytes of requests are in hand")
	ErrTooSlow = errors.New("the body did not come in time")
)

// Room counts the bytes of all bodies in hand.
type Room struct {
	mu   sync.Mutex
	left int64
}

// NewRoom makes a room for so many bytes.
func NewRoom(size int64) *Room { return &Room{left: size} }

func (r *Room) take(n int64) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if n > r.left {
		return false
	}
	r.left -= n
	return true
}

func (r *Room) give(n int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.left += n
}

// Limits bound one body.
type Limits struct {
	Max    int64         // bytes; a longer body is ErrTooLong
	Cut    int64         // bytes, up to Max; a longer body comes cut one byte behind it, so that the caller can tell
	Within time.Duration // for the whole body
}

// Read reads the body of a request. What it holds counts against the room until
// release is called, which is never nil.
func (r *Room) Read(w http.ResponseWriter, request *http.Request, limits Limits) (b []byte, release func(), err error) {
	held := int64(0)
	release = func() { r.give(held) }
	announced := request.ContentLength // -1 where it is not known
	if announced == 0 || request.Body == nil {
		return nil, release, nil
	}
	if announced > limits.Max {
		return nil, release, ErrTooLong
	}
	// The deadline ends with the body: the answer may take longer.
	control := http.NewResponseController(w)
	control.SetReadDeadline(time.Now().Add(limits.Within)) //nolint:errcheck // not every writer has one
	defer control.SetReadDeadline(time.Time{})             //nolint:errcheck

	from := io.Reader(request.Body)
	if limits.Cut < limits.Max {
		from = io.LimitReader(request.Body, limits.Cut+1)
	}
	for {
		step := int64(Step)
		if announced >= 0 {
			step = min(step, announced-int64(len(b))+1) // one more, to meet the end
		}
		if !r.take(step) {
			return nil, release, ErrNoRoom
		}
		held += step
		start := len(b)
		b = append(b, make([]byte, step)...)
		n, err := io.ReadFull(from, b[start:])
		b = b[:start+n]
		switch {
		case int64(len(b)) > limits.Max:
			return nil, release, ErrTooLong
		case int64(len(b)) > limits.Cut:
			w.Header().Set("Connection", "close") // in the middle of a body
			return b, release, nil
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF) && int64(len(b)) >= announced:
			return b, release, nil
		case isTimeout(err):
			return nil, release, ErrTooSlow
		case err != nil:
			return nil, release, err
		}
	}
}

func isTimeout(err error) bool {
	var timeout interface{ Timeout() bool }
	return errors.As(err, &timeout) && timeout.Timeout()
}
