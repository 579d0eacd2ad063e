package s3

import (
	"encoding/xml"
	"fmt"
	"net/http"
)

// Error is an answer instead of a result, in S3's form.
type Error struct {
	Status        int
	Code, Message string
	// Unknown marks a request for something that is not implemented here; the
	// server counts those.
	Unknown bool
}

func (e *Error) Error() string { return e.Code + ": " + e.Message }

func failure(status int, code, format string, args ...any) *Error {
	return &Error{Status: status, Code: code, Message: fmt.Sprintf(format, args...)}
}

func notImplemented(what string) *Error {
	return &Error{Status: http.StatusNotImplemented, Code: "NotImplemented", Message: "the embedded AWS does not implement " + what, Unknown: true}
}

func invalid(format string, args ...any) *Error {
	return failure(400, "InvalidArgument", format, args...)
}

func denied(format string, args ...any) *Error { return failure(403, "AccessDenied", format, args...) }

var (
	errNoBucket     = failure(404, "NoSuchBucket", "The specified bucket does not exist")
	errNoKey        = failure(404, "NoSuchKey", "The specified key does not exist.")
	errNoUpload     = failure(404, "NoSuchUpload", "The specified upload does not exist. The upload ID may be invalid, or the upload may have been aborted or completed.")
	errPrecondition = failure(412, "PreconditionFailed", "At least one of the pre-conditions you specified did not hold")
	errNotModified  = failure(304, "NotModified", "Not Modified")
	errRange        = failure(416, "InvalidRange", "The requested range is not satisfiable")
	errTooLarge     = failure(400, "EntityTooLarge", "Your proposed upload exceeds the maximum allowed size")
	errTooSmall     = failure(400, "EntityTooSmall", "Your proposed upload is smaller than the minimum allowed size")
	errIncomplete   = failure(400, "IncompleteBody", "You did not provide the number of bytes specified by the Content-Length HTTP header")
	errBadDigest    = failure(400, "BadDigest", "The Content-MD5 or checksum value that you specified did not match what the server received.")
	errBadHash      = failure(400, "XAmzContentSHA256Mismatch", "The provided 'x-amz-content-sha256' header does not match what was computed.")
	errMalformed    = failure(400, "MalformedXML", "The XML you provided was not well-formed or did not validate against our published schema")
)

// Write writes the error as the answer.
func (e *Error) Write(w http.ResponseWriter, r *http.Request) {
	if e.Status == http.StatusNotModified {
		w.WriteHeader(e.Status)
		return
	}
	body := append([]byte(xml.Header), mustXML(struct {
		XMLName                            xml.Name `xml:"Error"`
		Code, Message, Resource, RequestId string
	}{Code: e.Code, Message: e.Message, Resource: r.URL.Path, RequestId: w.Header().Get("X-Amzn-Requestid")})...)
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(e.Status)
	if r.Method != http.MethodHead {
		w.Write(body) //nolint:errcheck // the client is gone
	}
}

func mustXML(v any) []byte {
	b, err := xml.Marshal(v)
	if err != nil {
		panic(err)
	}
	return b
}

func answerXML(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(status)
	w.Write(append([]byte(xml.Header), mustXML(v)...)) //nolint:errcheck // the client is gone
}
