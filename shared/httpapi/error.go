package httpapi

import (
	"encoding/json"
	"errors"
	"math"
	"strconv"
	"time"

	"whatisup/shared/whatisup"
)

// field is one problem of a request's body or query.
type field struct {
	Field   string `json:"field"`
	Problem string `json:"problem"`
}

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
	if !ok {
		e = errInternal
	}
	a := &answer{
		status: e.Code.Status(),
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

// errorJSON is the error object alone, for events.
func errorJSON(err error) json.RawMessage {
	e, ok := errors.AsType[*whatisup.Error](err)
	if !ok {
		e = errInternal
	}
	b, err := json.Marshal(errorObject{e.Code, e.Message, e.Details})
	if err != nil { // details hold strings, numbers and times
		b, _ = json.Marshal(errorObject{e.Code, e.Message, nil})
	}
	return b
}

// The errors whose words do not depend on the request.
var (
	errInternal         = whatisup.NewError(whatisup.CodeInternal, "Something failed on our side. Try again; if it lasts, tell us the request id.")
	errRoute            = whatisup.NewError(whatisup.CodeRouteNotFound, "There is nothing at this path.")
	errMethod           = whatisup.NewError(whatisup.CodeMethodNotAllowed, "This path does not have that method; the Allow header lists what it has.")
	errAuthMissing      = whatisup.NewError(whatisup.CodeAuthMissing, "Send your API key in the header Authorization: Bearer <key>.")
	errAuthMalformed    = whatisup.NewError(whatisup.CodeAuthMalformed, "The Authorization header must be Bearer, a space, and one API key as it was given.")
	errAuthInvalid      = whatisup.NewError(whatisup.CodeAuthInvalid, "There is no such API key.")
	errAuthExpired      = whatisup.NewError(whatisup.CodeAuthExpired, "This API key has expired or was revoked.")
	errScoped           = whatisup.NewError(whatisup.CodeInstanceScopedKey, "This API key is bound to one instance and can't be used for this.")
	errSuspended        = whatisup.NewError(whatisup.CodeCustomerSuspended, "This account is suspended. Its links are kept.")
	errInstanceNotFound = whatisup.NewError(whatisup.CodeInstanceNotFound, "There is no such instance.")
	errKeyNotFound      = whatisup.NewError(whatisup.CodeAPIKeyNotFound, "There is no such API key.")
	errTooLarge         = whatisup.NewError(whatisup.CodePayloadTooLarge, "The body may have at most 262144 bytes.")
	errMediaType        = whatisup.NewError(whatisup.CodeUnsupportedMediaType, "Send the body as application/json in UTF-8, not compressed.")
	errModified         = whatisup.NewError(whatisup.CodeConcurrentModification, "The instance was changed since the version that If-Match names. Get it again.")
	errRateLimited      = whatisup.NewError(whatisup.CodeRateLimited, "Too many requests; the headers say how many there may be and when.")
	errInstanceLimit    = whatisup.NewError(whatisup.CodeInstanceLimitReached, "The account has as many instances as it may.")
	errThrottled        = whatisup.NewError(whatisup.CodePairingThrottled, "Too many attempts to pair were begun and not scanned.")
	errPairCodeFailed   = whatisup.NewError(whatisup.CodePairCodeFailed, "WhatsApp refused to give a pair code for this number.")
	errNoQR             = whatisup.NewError(whatisup.CodeNoQR, "There is no code yet. Ask again.").After(time.Second)
	errUnreachable      = whatisup.NewError(whatisup.CodeWhatsAppUnreachable, "WhatsApp could not be reached.").After(5 * time.Second)
	errAtCapacity       = whatisup.NewError(whatisup.CodeAtCapacity, "No session host has room for another pairing just now.").After(30 * time.Second)
	errNoHost           = whatisup.NewError(whatisup.CodeNoSessionHost, "No session host is running for this instance.").After(10 * time.Second)
	errIdemConflict     = whatisup.NewError(whatisup.CodeIdempotencyConflict, "This Idempotency-Key was used for another body or with another API key.")
	errIdemInProgress   = whatisup.NewError(whatisup.CodeIdempotencyInProgress, "The first request with this Idempotency-Key is still under way. Ask again.").After(time.Second)
	errPositionExpired  = whatisup.NewError(whatisup.CodePositionExpired, "The log does not reach back that far. Begin without a position.")
	errStreams          = whatisup.NewError(whatisup.CodeTooManyStreams, "The account has as many event streams open as it may.").After(30 * time.Second)
)

// invalid is an invalid_request that names each field.
func invalid(fields ...field) *whatisup.Error {
	message := "The request is not valid."
	if len(fields) > 0 {
		message = fields[0].Field + " " + fields[0].Problem
	}
	return whatisup.NewError(whatisup.CodeInvalidRequest, message).With("fields", fields)
}
