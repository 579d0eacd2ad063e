package aws

import (
	"errors"
	"net/http"
	"strings"
	"time"

	"whatisup/local/aws/internal/fault"
	"whatisup/local/aws/internal/s3"
)

// isS3 says whether a request is for S3, which has no X-Amz-Target: signed for
// it, presigned, an upload form, or about a path.
func isS3(r *http.Request) bool {
	if r.Header.Get("X-Amz-Target") != "" {
		return false
	}
	authorization := r.Header.Get("Authorization")
	switch {
	case authorization != "":
		return strings.Contains(authorization, "/s3/aws4_request")
	case r.URL.Query().Has("X-Amz-Signature"):
		return true
	case r.Method == http.MethodGet || r.Method == http.MethodHead:
		return r.URL.Path != "/"
	}
	return r.Method == http.MethodPut || r.Method == http.MethodDelete || strings.HasPrefix(r.Header.Get("Content-Type"), "multipart/form-data")
}

// serveS3 answers a request for S3, under whatever path it came.
func (s *Server) serveS3(w http.ResponseWriter, r *http.Request, path string) {
	q, err := s3.Parse(r, path)
	s.answerS3(w, r, q, err)
}

func (s *Server) answerS3(w http.ResponseWriter, r *http.Request, q *s3.Request, err error) {
	if err == nil {
		err = s.s3.Authenticate(r, q)
	}
	if err == nil {
		s.count(serviceS3, q.Operation)
		err = s.doS3(w, r, q)
	}
	if err == nil || r.Context().Err() != nil {
		return
	}
	var own *s3.Error
	if !errors.As(err, &own) {
		s.config.Log.Error("request failed", "service", serviceS3, "operation", q.Operation, "error", err)
		own = &s3.Error{Status: http.StatusInternalServerError, Code: "InternalError", Message: "We encountered an internal error. Please try again."}
	}
	if own.Unknown {
		s.countUnknown(serviceS3 + "." + strings.TrimPrefix(own.Message, "the embedded AWS does not implement "))
	}
	own.Write(w, r)
}

func (s *Server) doS3(w http.ResponseWriter, r *http.Request, q *s3.Request) error {
	take := func(kind fault.Kind) (fault.Fault, bool) {
		return s.faults.Take(kind, serviceS3, q.Operation, q.Bucket)
	}
	if f, hit := take(fault.Latency); hit {
		timer := time.NewTimer(f.Delay)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-r.Context().Done():
			return r.Context().Err()
		}
	}
	for kind, answer := range s3Refusals {
		if _, hit := take(kind); hit {
			return answer
		}
	}
	if _, hit := take(fault.Lost); hit {
		if err := s.s3.Do(&lost{header: http.Header{}}, r, q); err != nil {
			return err
		}
		return s3Refusals[fault.Internal]
	}
	return s.s3.Do(w, r, q)
}

var s3Refusals = map[fault.Kind]*s3.Error{
	fault.Internal:  {Status: 500, Code: "InternalError", Message: "We encountered an internal error. Please try again."},
	fault.Throttle:  {Status: 503, Code: "SlowDown", Message: "Please reduce your request rate."},
	fault.Full:      {Status: 503, Code: "ServiceUnavailable", Message: "Service is unable to handle request."}, // S3 itself is never full
	fault.Missing:   {Status: 404, Code: "NoSuchBucket", Message: "The specified bucket does not exist"},
	fault.Forbidden: {Status: 403, Code: "AccessDenied", Message: "Access Denied"},
}

// lost is an answer that nobody gets.
type lost struct{ header http.Header }

func (l *lost) Header() http.Header         { return l.header }
func (l *lost) WriteHeader(int)             {}
func (l *lost) Write(b []byte) (int, error) { return len(b), nil }

// Lent serves, of one bucket, what was lent to whoever has no key: presigned
// reads, and upload forms. It is meant to be mounted under prefix on a listener
// that the world can reach, behind the same path that the bucket's URLs were
// signed for; nothing else of S3 is served, however it is signed.
//
//	GET, HEAD  <prefix>/<bucket>/<key>?X-Amz-Signature=…
//	POST       <prefix>/<bucket>, multipart/form-data with a signed policy
func (s *Server) Lent(prefix, bucket string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Amzn-Requestid", requestID())
		path, ok := strings.CutPrefix(r.URL.Path, prefix)
		if !ok {
			http.NotFound(w, r)
			return
		}
		q, err := s3.Parse(r, path)
		lent := err == nil && q.Bucket == bucket &&
			(q.Operation == "PostObject" || q.Lent && (q.Operation == "GetObject" || q.Operation == "HeadObject"))
		if !lent {
			// Strangers can ask for anything: nothing of it is counted.
			s3Refusals[fault.Forbidden].Write(w, r)
			return
		}
		s.answerS3(w, r, q, nil)
	})
}
