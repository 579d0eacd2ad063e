package aws

import (
	"net"
	"net/http"
	"net/netip"
	"time"

	"whatisup/local/aws/internal/wire"
	"whatisup/local/body"
)

// Bounds of requests' bodies.
const (
	// maxBody is the largest request that DynamoDB takes.
	maxBody = 16 << 20
	// bodyWithin is how long a body may take to come.
	bodyWithin = 30 * time.Second
	// defaultMaxBodies is the sum of the bodies that are held at once.
	defaultMaxBodies = 256 << 20
)

var (
	errTooLarge = &wire.Error{Status: http.StatusRequestEntityTooLarge, Type: "com.amazon.coral.service#RequestEntityTooLargeException", Message: "Request size exceeded the limit of 16 MB"}
	errNoRoom   = &wire.Error{Status: http.StatusServiceUnavailable, Type: "com.amazon.coral.service#ServiceUnavailableException", QueryCode: "ServiceUnavailable;Receiver", Message: "Too many bytes of requests are in hand."}
	errTooSlow  = &wire.Error{Status: http.StatusRequestTimeout, Type: "com.amazon.coral.service#RequestTimeoutException", QueryCode: "RequestTimeout;Sender", Message: "The request's body did not come in time."}
)

// readBody reads a request's body. What it holds counts against the server's
// room until release is called, which is never nil.
func (s *Server) readBody(w http.ResponseWriter, r *http.Request) (sent string, release func(), err error) {
	b, release, err := s.bodies.Read(w, r, body.Limits{Max: maxBody, Cut: maxBody, Within: s.config.BodyWithin})
	switch err {
	case nil:
		return string(b), release, nil
	case body.ErrTooLong:
		return "", release, errTooLarge
	case body.ErrNoRoom:
		return "", release, errNoRoom
	case body.ErrTooSlow:
		return "", release, errTooSlow
	}
	return "", release, wire.Serialization("")
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
