package whatsapp

import (
	"errors"
	"fmt"
	"net/http"
)

// Error is an answer to somebody who drives the simulator: a code to branch
// on, a message to read, and the HTTP status it has on the control interface.
type Error struct {
	Status  int
	Code    string
	Message string
}

func (e *Error) Error() string { return e.Code + ": " + e.Message }

func refuse(status int, code, format string, args ...any) *Error {
	return &Error{Status: status, Code: code, Message: fmt.Sprintf(format, args...)}
}

func badRequest(format string, args ...any) *Error {
	return refuse(http.StatusBadRequest, "invalid_request", format, args...)
}

// ErrorCode returns the code of an error of this package, or "internal".
func ErrorCode(err error) string {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Code
	}
	return "internal"
}

var errStopped = &Error{Status: http.StatusServiceUnavailable, Code: "stopped", Message: "the simulator has stopped"}
