package foreign

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"os"
	"syscall"
)

// Problem is the kind of a request's failure. Customers see it.
type Problem string

const (
	ProblemNotAllowed  Problem = "address_not_allowed" // the guard refused
	ProblemNoName      Problem = "name_not_found"
	ProblemNameServer  Problem = "name_lookup_failed"
	ProblemRefused     Problem = "connection_refused"
	ProblemUnreachable Problem = "host_unreachable"
	ProblemTLS         Problem = "tls_failed"
	ProblemTimeout     Problem = "timeout"
	ProblemTooLarge    Problem = "too_large"
	ProblemRedirects   Problem = "too_many_redirects"
	ProblemLost        Problem = "connection_lost" // closed, reset, or no HTTP
)

// Error is a refusal of the guard or of a limit. Its text is for the customer, and
// never tells an address that the customer's URL doesn't show: that would make the
// guard a way to ask our name servers.
type Error struct {
	Problem Problem
	text    string
}

func (e *Error) Error() string { return e.text }

func refuse(text string) error { return &Error{Problem: ProblemNotAllowed, text: text} }

// ErrTooLarge is returned by the body of a Get that is longer than its limit.
var ErrTooLarge error = &Error{Problem: ProblemTooLarge, text: "the answer is longer than allowed"}

var errRedirects error = &Error{Problem: ProblemRedirects, text: "the URL redirects too often"}

// ProblemOf tells the kind of an error that a request of a Guard's client returned.
func ProblemOf(err error) Problem {
	if own, ok := errors.AsType[*Error](err); ok {
		return own.Problem
	}
	if dns, ok := errors.AsType[*net.DNSError](err); ok {
		switch {
		case dns.IsNotFound:
			return ProblemNoName
		case dns.IsTimeout:
			return ProblemTimeout
		}
		return ProblemNameServer
	}
	if isTimeout(err) {
		return ProblemTimeout
	}
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return ProblemRefused
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH), errors.Is(err, syscall.EADDRNOTAVAIL):
		return ProblemUnreachable
	case isTLS(err):
		return ProblemTLS
	}
	return ProblemLost
}

func isTimeout(err error) bool {
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, syscall.ETIMEDOUT) {
		return true
	}
	timeout, ok := errors.AsType[net.Error](err)
	return ok && timeout.Timeout()
}

func isTLS(err error) bool {
	if errors.Is(err, errPlain) {
		return true
	}
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return true
	}
	if _, ok := errors.AsType[tls.RecordHeaderError](err); ok {
		return true
	}
	if _, ok := errors.AsType[tls.AlertError](err); ok {
		return true
	}
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return true
	}
	_, ok := errors.AsType[x509.HostnameError](err)
	return ok
}
