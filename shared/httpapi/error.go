package httpapi

import (
	"cmp"
	"errors"
	"math"
	"net/http"
	"strconv"
	"time"

	"whatisup/shared/whatisup"
)

// errorBody is the one shape of every error.
type errorBody struct {
	Error     errorObject        `json:"error"`
	RequestID whatisup.RequestID `json:"request_id"`
}

type errorObject struct {
	Code    whatisup.Code  `json:"code"`
	Message string         `json:"message"`
	Details map[string]any `json:"details,omitempty"`
}

// errorAnswer is what a customer sees of err. Nothing of an error without a
// code leaves but that there was one.
func errorAnswer(err error, id whatisup.RequestID) *answer {
	e, ok := errors.AsType[*whatisup.Error](err)
	switch {
	case ok:
	case errors.Is(err, whatisup.ErrUnavailable):
		e = errUnavailable
	default:
		e = errInternal
	}
	a := &answer{
		status: cmp.Or(e.HTTPStatus, e.Code.Status()),
		body:   errorBody{errorObject{e.Code, e.Message, e.Details}, id},
	}
	if e.RetryAfter > 0 {
		a.set("Retry-After", strconv.Itoa(int(math.Ceil(e.RetryAfter.Seconds()))))
	}
	if a.status == 401 {
		a.set("WWW-Authenticate", `Bearer realm="whatisup"`)
	}
	return a
}

// The errors of this door whose words do not depend on the request.
var (
	errInternal        = whatisup.NewError(whatisup.CodeInternal, "Something failed on our side. Retry; if it keeps failing, report the request id.")
	errUnavailable     = whatisup.NewError(whatisup.CodeUnavailable, "A part of the service can't be reached right now. Retry.").After(2*time.Second).With("reason", "store")
	errRoute           = whatisup.NewError(whatisup.CodeRouteNotFound, "There is nothing at this path.")
	errMethod          = whatisup.NewError(whatisup.CodeMethodNotAllowed, "This path does not allow that method. The Allow header lists those that it does.")
	errAuthMissing     = whatisup.NewError(whatisup.CodeAuthMissing, "Send your API key in the header \"Authorization: Bearer <api key>\".")
	errAuthMalformed   = whatisup.NewError(whatisup.CodeAuthMalformed, "Expected \"Authorization: Bearer <api key>\" with one complete key.")
	errAuthInvalid     = whatisup.NewError(whatisup.CodeAuthInvalid, "This API key does not exist.")
	errAuthExpired     = whatisup.NewError(whatisup.CodeAuthExpired, "This API key has expired or was revoked.")
	errScoped          = whatisup.NewError(whatisup.CodeInstanceScopedKey, "This API key is bound to one instance and is not allowed to do this.")
	errTooLarge        = whatisup.NewError(whatisup.CodePayloadTooLarge, "The body must have at most 262144 bytes.")
	errMediaType       = whatisup.NewError(whatisup.CodeUnsupportedMediaType, "Send the body as application/json in UTF-8, not compressed.")
	errAddress         = whatisup.NewError(whatisup.CodeRateLimited, "Too many requests from this address. Wait as long as Retry-After says.")
	errRateLimited     = whatisup.NewError(whatisup.CodeRateLimited, "Too many requests. The X-RateLimit headers tell the limit and when it resets.")
	errIdemConflict    = whatisup.NewError(whatisup.CodeIdempotencyConflict, "This Idempotency-Key was already used with another body or another API key.")
	errIdemInProgress  = whatisup.NewError(whatisup.CodeIdempotencyInProgress, "The first request with this Idempotency-Key is still running. Retry.").After(time.Second)
	errPositionExpired = whatisup.NewError(whatisup.CodePositionExpired, "The event log does not go back that far. Start without a position.")
	errStreams         = whatisup.NewError(whatisup.CodeTooManyStreams, "This account has reached its limit of open event streams.").After(30 * time.Second)
)

// RefuseAddress answers a request of an address that has sent too many, for who
// stands before the API and looks at nothing but that.
func RefuseAddress(w http.ResponseWriter, retryAfter time.Duration) {
	id := whatisup.NewRequestID()
	a := errorAnswer(errAddress.After(retryAfter), id)
	b, kind, err := a.encode()
	if err != nil {
		w.WriteHeader(http.StatusTooManyRequests) // of constants: it does not happen
		return
	}
	for _, h := range a.headers {
		w.Header().Set(h[0], h[1])
	}
	w.Header().Set("X-Request-Id", string(id))
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Content-Type", kind)
	w.WriteHeader(a.status)
	w.Write(b) // a client that left is nobody's failure
}
