// Package signature verifies the signatures of AWS's requests, Signature
// Version 4, as the services do: over method, path, query, the signed headers
// and a hash of the body, with a key that is good for one day, one region and
// one service. The signature stands in the Authorization header, or, presigned,
// in the query.
package signature

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Tolerance is how far the signer's clock may be from the verifier's.
const Tolerance = 15 * time.Minute

// What can be wrong with a signature.
var (
	// ErrMissing says that there is none.
	ErrMissing = errors.New("the request is not signed")
	// ErrIncomplete says that it lacks a part.
	ErrIncomplete = errors.New("the signature is incomplete")
	// ErrUnknownKey says that nobody has the access key.
	ErrUnknownKey = errors.New("the access key is unknown")
	// ErrExpired says that it was made too long ago, or lies too far ahead.
	ErrExpired = errors.New("the signature's time is too far from the present")
	// ErrWrong says that it is another one than the secret key makes.
	ErrWrong = errors.New("the signature is wrong")
)

const (
	algorithm  = "AWS4-HMAC-SHA256"
	timeFormat = "20060102T150405Z"

	serviceS3 = "s3"
	// longest is how long a presigned URL may be good.
	longest = 7 * 24 * time.Hour
)

// Signature is what a request says of its signature.
type Signature struct {
	AccessKey             string
	Date, Region, Service string
	SignedHeaders         []string
	// Presigned says that it stands in the query; Expires is then how long it
	// is good.
	Presigned bool
	Expires   time.Duration

	time      string
	signature []byte
}

// Parse reads the signature of a request.
func Parse(r *http.Request) (*Signature, error) {
	if query := r.URL.Query(); query.Has("X-Amz-Algorithm") || query.Has("X-Amz-Signature") {
		seconds, err := strconv.Atoi(query.Get("X-Amz-Expires"))
		expires := time.Duration(seconds) * time.Second
		if query.Get("X-Amz-Algorithm") != algorithm || err != nil || expires <= 0 || expires > longest {
			return nil, ErrIncomplete
		}
		s, err := New(query.Get("X-Amz-Credential"), query.Get("X-Amz-Date"), query.Get("X-Amz-Signature"))
		if err != nil {
			return nil, err
		}
		s.SignedHeaders = strings.Split(query.Get("X-Amz-SignedHeaders"), ";")
		s.Presigned, s.Expires = true, expires
		return s, nil
	}

	header := r.Header.Get("Authorization")
	if header == "" {
		return nil, ErrMissing
	}
	rest, ok := strings.CutPrefix(header, algorithm+" ")
	if !ok {
		return nil, ErrIncomplete
	}
	parts := map[string]string{}
	for part := range strings.SplitSeq(rest, ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(part), "=")
		parts[name] = value
	}
	s, err := New(parts["Credential"], r.Header.Get("X-Amz-Date"), parts["Signature"])
	if err != nil {
		return nil, err
	}
	s.SignedHeaders = strings.Split(parts["SignedHeaders"], ";")
	return s, nil
}

// New is a signature of the parts that each kind has.
func New(credential, at, signature string) (*Signature, error) {
	scope := strings.Split(credential, "/")
	sum, err := hex.DecodeString(signature)
	n := len(scope)
	if n < 5 || scope[n-1] != "aws4_request" || err != nil || len(sum) == 0 {
		return nil, ErrIncomplete
	}
	return &Signature{
		AccessKey: strings.Join(scope[:n-4], "/"), Date: scope[n-4], Region: scope[n-3], Service: scope[n-2],
		time: at, signature: sum,
	}, nil
}

// Check is what can be checked before the body is there: whose signature it is,
// for which service, and when it was made. signer is the clock that whoever
// signed should have; expiry the one by which presigned URLs expire.
func (s *Signature) Check(accessKey, service string, signer, expiry time.Time) error {
	at, err := time.Parse(timeFormat, s.time)
	switch {
	case s.AccessKey != accessKey:
		return ErrUnknownKey
	case err != nil, s.Service != service, !slices.Contains(s.SignedHeaders, "host"):
		return ErrIncomplete
	case at.Format("20060102") != s.Date, at.Sub(signer) > Tolerance:
		return ErrExpired
	case s.Presigned && expiry.Sub(at) > s.Expires, !s.Presigned && signer.Sub(at) > Tolerance:
		return ErrExpired
	}
	return nil
}

// BodyHash is the hash under which a body is signed.
func BodyHash(body string) string {
	sum := sha256.Sum256([]byte(body))
	return hex.EncodeToString(sum[:])
}

// Verify compares the signature with the one that the secret key makes. The
// comparison takes the same time whatever differs.
func (s *Signature) Verify(r *http.Request, bodyHash, secretKey string) error {
	requestHash := sha256.Sum256([]byte(s.canonical(r, bodyHash)))
	scope := strings.Join([]string{s.Date, s.Region, s.Service, "aws4_request"}, "/")
	return s.VerifyText(strings.Join([]string{algorithm, s.time, scope, hex.EncodeToString(requestHash[:])}, "\n"), secretKey)
}

// VerifyText is Verify for a text that was signed as it stands.
func (s *Signature) VerifyText(text, secretKey string) error {
	key := []byte("AWS4" + secretKey)
	for _, part := range []string{s.Date, s.Region, s.Service, "aws4_request", text} {
		mac := hmac.New(sha256.New, key)
		mac.Write([]byte(part))
		key = mac.Sum(nil)
	}
	if !hmac.Equal(key, s.signature) {
		return ErrWrong
	}
	return nil
}

// canonical writes the request as it was signed.
func (s *Signature) canonical(r *http.Request, bodyHash string) string {
	var b strings.Builder
	b.WriteString(r.Method + "\n" + s.canonicalPath(r) + "\n" + canonicalQuery(r) + "\n")
	for _, name := range s.SignedHeaders {
		b.WriteString(name + ":" + headerValue(r, name) + "\n")
	}
	b.WriteString("\n" + strings.Join(s.SignedHeaders, ";") + "\n" + bodyHash)
	return b.String()
}

func headerValue(r *http.Request, name string) string {
	var values []string
	switch name {
	case "host":
		values = []string{r.Host}
	case "content-length":
		values = []string{strconv.FormatInt(r.ContentLength, 10)}
	default:
		values = slices.Clone(r.Header.Values(name))
	}
	for i, v := range values {
		values[i] = strings.Join(strings.Fields(v), " ")
	}
	return strings.Join(values, ",")
}

// canonicalPath is the path, escaped once for S3 and twice for the others.
func (s *Signature) canonicalPath(r *http.Request) string {
	path := r.URL.Path
	if s.Service != serviceS3 {
		path = r.URL.EscapedPath()
	}
	if path == "" {
		return "/"
	}
	segments := strings.Split(path, "/")
	for i := range segments {
		segments[i] = escape(segments[i])
	}
	return strings.Join(segments, "/")
}

func canonicalQuery(r *http.Request) string {
	var parts []string
	for name, values := range r.URL.Query() {
		if name == "X-Amz-Signature" {
			continue
		}
		for _, v := range values {
			parts = append(parts, escape(name)+"="+escape(v))
		}
	}
	slices.Sort(parts)
	return strings.Join(parts, "&")
}

// escape escapes everything but letters, digits and - . _ ~.
func escape(s string) string {
	const digits = "0123456789ABCDEF"
	var b strings.Builder
	for _, c := range []byte(s) {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', strings.IndexByte("-._~", c) >= 0:
			b.WriteByte(c)
		default:
			b.Write([]byte{'%', digits[c>>4], digits[c&15]})
		}
	}
	return b.String()
}
