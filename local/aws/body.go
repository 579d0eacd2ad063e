package aws

import (
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"whatisup/local/aws/internal/wire"
)

// Bounds of requests' bodies.
const (
	// maxBody is the largest request that DynamoDB takes.
	maxBody = 16 << 20
	// bodyWithin is how long a body may take to come.
	bodyWithin = 30 * time.Second
	// bodyStep is how much of a body is read, and room made for, at a time:
	// what a request says of its own length makes no room.
	bodyStep = 64 << 10
	// defaultMaxBodies is the sum of the bodies that are held at once.
	defaultMaxBodies = 256 << 20
)

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
	errTooLarge = &wire.Error{Status: http.StatusRequestEntityTooLarge, Type: "com.amazon.coral.service#RequestEntityTooLargeException", Message: "Request size exceeded the limit of 16 MB"}
	errNoRoom   = &wire.Error{Status: http.StatusServiceUnavailable, Type: "com.amazon.coral.service#ServiceUnavailableException", QueryCode: "ServiceUnavailable;Receiver", Message: "Too many bytes of requests are in hand."}
	errTooSlow  = &wire.Error{Status: http.StatusRequestTimeout, Type: "com.amazon.coral.service#RequestTimeoutException", QueryCode: "RequestTimeout;Sender", Message: "The request's body did not come in time."}
)

// readBody reads a request's body. What it holds counts against the server's
// room until release is called, which is never nil.
func (s *Server) readBody(w http.ResponseWriter, r *http.Request) (body string, release func(), err error) {
	held := int64(0)
	release = func() { s.bodies.give(held) }
	if r.ContentLength > maxBody {
		return "", release, errTooLarge
	}

	// The deadline ends with the body: a long poll goes on for longer.
	control := http.NewResponseController(w)
	control.SetReadDeadline(time.Now().Add(s.config.BodyWithin)) //nolint:errcheck // not every writer has one
	defer control.SetReadDeadline(time.Time{})                   //nolint:errcheck

	var b []byte
	for {
		step := int64(bodyStep)
		if left := r.ContentLength - int64(len(b)); r.ContentLength >= 0 {
			step = min(step, left+1) // one more, to meet the end
		}
		if !s.bodies.take(step) {
			return "", release, errNoRoom
		}
		held += step
		start := len(b)
		b = append(b, make([]byte, step)...)
		n, err := io.ReadFull(r.Body, b[start:])
		b = b[:start+n]
		switch {
		case len(b) > maxBody:
			return "", release, errTooLarge
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF) && int64(len(b)) >= r.ContentLength:
			return string(b), release, nil
		case isTimeout(err):
			return "", release, errTooSlow
		case err != nil:
			return "", release, wire.Serialization("")
		}
	}
}

func isTimeout(err error) bool {
	var timeout interface{ Timeout() bool }
	return errors.As(err, &timeout) && timeout.Timeout()
}

// namesThisMachine says whether a Host header is an address or localhost. A web
// page that has its own name lead here sends that name.
func namesThisMachine(host string) bool {
	if addr, err := netip.ParseAddrPort(host); err == nil {
		return addr.IsValid()
	}
	name := host
	if h, _, err := net.SplitHostPort(host); err == nil {
		name = h
	}
	_, err := netip.ParseAddr(name)
	return err == nil || name == "localhost"
}
