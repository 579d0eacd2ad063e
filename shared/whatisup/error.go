package whatisup

import (
	"errors"
	"time"
)

// Code is the machine-readable kind of an error, as customers see it. The set
// is closed: contract and OpenAPI document list the same codes.
type Code string

const (
	CodeInvalidRequest         Code = "invalid_request"
	CodeAuthMissing            Code = "auth_missing"
	CodeAuthMalformed          Code = "auth_malformed"
	CodeAuthInvalid            Code = "auth_invalid"
	CodeAuthExpired            Code = "auth_expired"
	CodeInstanceScopedKey      Code = "instance_scoped_key"
	CodeCustomerSuspended      Code = "customer_suspended"
	CodeInstanceNotFound       Code = "instance_not_found"
	CodeAPIKeyNotFound         Code = "api_key_not_found"
	CodeRouteNotFound          Code = "route_not_found"
	CodeMethodNotAllowed       Code = "method_not_allowed"
	CodeMessageNotFound        Code = "message_not_found"
	CodeInvalidTransition      Code = "invalid_lifecycle_transition"
	CodeNotConnected           Code = "not_connected"
	CodeMessageNotCancelable   Code = "message_not_cancelable"
	CodeEditWindowPassed       Code = "edit_window_passed"
	CodeIdempotencyConflict    Code = "idempotency_conflict"
	CodeIdempotencyInProgress  Code = "idempotency_in_progress"
	CodeInstanceLimitReached   Code = "instance_limit_reached"
	CodeNothingToScan          Code = "nothing_to_scan"
	CodePositionExpired        Code = "position_expired"
	CodeConcurrentModification Code = "concurrent_modification"
	CodePayloadTooLarge        Code = "payload_too_large"
	CodeUnsupportedMediaType   Code = "unsupported_media_type"
	CodePairCodeFailed         Code = "pair_code_failed"
	CodeRateLimited            Code = "rate_limited"
	CodePairingThrottled       Code = "pairing_throttled"
	CodeTooManyStreams         Code = "too_many_streams"
	CodeQueueFull              Code = "queue_full"
	CodeTooManyWaiting         Code = "too_many_waiting"
	CodeInternal               Code = "internal"
	CodeNoQR                   Code = "no_qr"
	CodeWhatsAppUnreachable    Code = "whatsapp_unreachable"
	CodeAtCapacity             Code = "at_capacity"
	CodeNoSessionHost          Code = "no_session_host"
	CodeUnavailable            Code = "unavailable"
	CodeAPIKeyLimitReached     Code = "api_key_limit_reached"
	CodeMediaNotFound          Code = "media_not_found"
	CodeEndpointNotFound       Code = "webhook_endpoint_not_found"
	CodeDeliveryNotFound       Code = "webhook_delivery_not_found"
	CodeGroupNotFound          Code = "group_not_found"
	CodeContactNotFound        Code = "contact_not_found"
	CodeMediaInUse             Code = "media_in_use"
	CodeMediaNotReady          Code = "media_not_ready"
	CodeNotInGroup             Code = "not_in_group"
	CodeNotAllowedInGroup      Code = "not_allowed_in_group"
	CodeEndpointLimitReached   Code = "webhook_endpoint_limit_reached"
	CodeMediaGone              Code = "media_gone"
	CodeRejected               Code = "rejected"
	CodeUnsupportedMedia       Code = "unsupported_media"
	CodeOutcomeUnknown         Code = "outcome_unknown"
)

// Status is the HTTP status that belongs to the code.
func (c Code) Status() int {
	if s, ok := codeStatus[c]; ok {
		return s
	}
	return 500
}

var codeStatus = map[Code]int{
	CodeInvalidRequest:         400,
	CodeAuthMissing:            401,
	CodeAuthMalformed:          401,
	CodeAuthInvalid:            401,
	CodeAuthExpired:            401,
	CodeInstanceScopedKey:      403,
	CodeCustomerSuspended:      403,
	CodeInstanceNotFound:       404,
	CodeAPIKeyNotFound:         404,
	CodeRouteNotFound:          404,
	CodeMethodNotAllowed:       405,
	CodeMessageNotFound:        404,
	CodeInvalidTransition:      409,
	CodeMessageNotCancelable:   409,
	CodeEditWindowPassed:       409,
	CodeNotConnected:           409,
	CodeIdempotencyConflict:    409,
	CodeIdempotencyInProgress:  409,
	CodeInstanceLimitReached:   409,
	CodeNothingToScan:          409,
	CodePositionExpired:        410,
	CodeConcurrentModification: 412,
	CodePayloadTooLarge:        413,
	CodeUnsupportedMediaType:   415,
	CodePairCodeFailed:         422,
	CodeRateLimited:            429,
	CodePairingThrottled:       429,
	CodeTooManyStreams:         429,
	CodeQueueFull:              429,
	CodeTooManyWaiting:         429,
	CodeInternal:               500,
	CodeNoQR:                   503,
	CodeWhatsAppUnreachable:    503,
	CodeAtCapacity:             503,
	CodeNoSessionHost:          503,
	CodeUnavailable:            503,
	CodeAPIKeyLimitReached:     409,
	CodeMediaNotFound:          404,
	CodeEndpointNotFound:       404,
	CodeDeliveryNotFound:       404,
	CodeGroupNotFound:          404,
	CodeContactNotFound:        404,
	CodeMediaInUse:             409,
	CodeMediaNotReady:          409, // 503 where a file's URL is used
	CodeNotInGroup:             409,
	CodeNotAllowedInGroup:      409,
	CodeEndpointLimitReached:   409,
	CodeMediaGone:              410,
	CodeRejected:               422,
	CodeUnsupportedMedia:       422,
	CodeOutcomeUnknown:         503,
}

// Codes returns every code, for tests that hold documents and code together.
func Codes() []Code {
	codes := make([]Code, 0, len(codeStatus))
	for c := range codeStatus {
		codes = append(codes, c)
	}
	return codes
}

// Error is the one error type that may reach a customer: a code, a message
// written for the customer, and a cause that is logged and never shown. An
// error without a code is internal, and its text never leaves.
type Error struct {
	Code       Code
	Message    string
	Details    map[string]any // part of the answer; may be nil
	RetryAfter time.Duration  // with 429 and 503; 0 otherwise
	HTTPStatus int            // instead of the code's; 0: the code's
	Cause      error          // logged, never shown; may be nil
}

// NewError returns an error with a message for the customer. There is no
// formatting constructor on purpose: a message is a sentence written once, not
// built from values that might be secret.
func NewError(code Code, message string) *Error {
	return &Error{Code: code, Message: message}
}

func (e *Error) Error() string {
	if e.Cause != nil {
		return string(e.Code) + ": " + e.Message + ": " + e.Cause.Error()
	}
	return string(e.Code) + ": " + e.Message
}

func (e *Error) Unwrap() error { return e.Cause }

// Because returns a copy of e with its cause.
func (e *Error) Because(cause error) *Error {
	c := *e
	c.Cause = cause
	return &c
}

// With returns a copy of e with one more detail.
func (e *Error) With(key string, value any) *Error {
	c := *e
	c.Details = make(map[string]any, len(e.Details)+1)
	for k, v := range e.Details {
		c.Details[k] = v
	}
	c.Details[key] = value
	return &c
}

// After returns a copy of e that asks the caller to come back after d.
func (e *Error) After(d time.Duration) *Error {
	c := *e
	c.RetryAfter = d
	return &c
}

// ErrorCode is the code of err: that of the first [Error] in its tree, else
// internal. It is empty for nil.
func ErrorCode(err error) Code {
	if err == nil {
		return ""
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Code
	}
	return CodeInternal
}

// The errors that adapters give each other; they carry no code because the
// caller decides what they mean for a customer.
var (
	// ErrNotFound: no such row, or a row of another customer.
	ErrNotFound = errors.New("not found")
	// ErrConflict: the row changed since it was read; read again.
	ErrConflict = errors.New("changed since it was read")
	// ErrCaughtUp: the endpoint is not behind, so its deliveries go to the queue.
	ErrCaughtUp = errors.New("the endpoint is not behind")
	// ErrFenced: another host owns the instance now, or the row is gone. The
	// writer must stop acting for it.
	ErrFenced = errors.New("not the owner")
	// ErrUnavailable: the service did not answer, throttled for too long, or
	// the outcome is unknown.
	ErrUnavailable = errors.New("store unavailable")
	// ErrRefused: the service refuses this input for good; waiting can't mend it.
	ErrRefused = errors.New("refused for good")
	// ErrTooMany: the customer has as many of the thing as it may.
	ErrTooMany = errors.New("limit reached")
	// ErrSuspended: the customer is suspended, so nothing may start.
	ErrSuspended = errors.New("the customer is suspended")
	// ErrClaimLost: the record of the request is no longer held by this call;
	// another one carries it out, or has.
	ErrClaimLost = errors.New("the claim on the request is lost")

	// ErrCorrupt: what is stored does not open, or is not what belongs there. Waiting
	// does not mend that.
	ErrCorrupt = errors.New("stored value is corrupt")
)
