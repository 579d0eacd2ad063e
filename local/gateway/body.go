package gateway

import (
	"errors"
	"io"
	"net/http"
	"sync"
	"time"
)

// bodyStep is how much of a body is read, and room made for, at a time: what a
// request says of its own length makes no room.
const bodyStep = 16 << 10

// room counts the bytes of all bodies in hand.
type room struct {
	mu   sync.Mutex
	left int64
}

func (r *room) take(n int64) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if n > r.left {
		return false
	}
	r.left -= n
	return true
}

func (r *room) give(n int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.left += n
}

var (
	errNoRoom  = errors.New("too many bytes of requests are in hand")
	errTooSlow = errors.New("the body did not come in time")
	errTooLong = errors.New("the body is over the gateway's limit")
)

// readBody reads a body. What it holds counts against the gateway's room until
// release is called, which is never nil. A body that is longer than the functions
// are to see is cut one byte behind that, so that they can refuse it in the API's
// own form, after they have looked at the key.
func (g *Gateway) readBody(w http.ResponseWriter, r *http.Request) (body []byte, release func(), err error) {
	held := int64(0)
	release = func() { g.bodies.give(held) }
	if r.ContentLength == 0 || r.Body == nil {
		return nil, release, nil
	}
	if r.ContentLength > maxBody {
		return nil, release, errTooLong
	}
	// The deadline ends with the body: the function may take longer.
	control := http.NewResponseController(w)
	control.SetReadDeadline(time.Now().Add(g.bodyWithin)) //nolint:errcheck // not every writer has one
	defer control.SetReadDeadline(time.Time{})            //nolint:errcheck

	from := io.Reader(r.Body)
	if g.seen < maxBody {
		from = io.LimitReader(r.Body, g.seen+1)
	}
	for {
		step := int64(bodyStep)
		if left := r.ContentLength - int64(len(body)); r.ContentLength >= 0 {
			step = min(step, left+1) // one more, to meet the end
		}
		if !g.bodies.take(step) {
			return nil, release, errNoRoom
		}
		held += step
		start := len(body)
		body = append(body, make([]byte, step)...)
		n, err := io.ReadFull(from, body[start:])
		body = body[:start+n]
		switch {
		case len(body) > maxBody:
			return nil, release, errTooLong
		case int64(len(body)) > g.seen:
			w.Header().Set("Connection", "close") // in the middle of a body
			return body, release, nil
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF) && (r.ContentLength < 0 || int64(len(body)) >= r.ContentLength):
			return body, release, nil
		case isTimeout(err):
			return nil, release, errTooSlow
		case err != nil:
			return nil, release, err
		}
	}
}

func isTimeout(err error) bool {
	var timeout interface{ Timeout() bool }
	return errors.As(err, &timeout) && timeout.Timeout()
}
