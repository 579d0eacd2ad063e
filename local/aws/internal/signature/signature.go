// Package signature verifies the signatures of AWS's requests, Signature
// Version 4, as the services do: over method, path, query, the signed headers
// and a hash of the body, with a key that is good for one day, one region and
// one service.
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
)

// Signature is what an Authorization header says.
type Signature struct {
	AccessKey             string
	Date, Region, Service string
	SignedHeaders         []string
	signature             []byte
}

// Parse reads the Authorization header of a request.
func Parse(r *http.Request) (*Signature, error) {
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
	scope := strings.Split(parts["Credential"], "/")
	signature, err := hex.DecodeString(parts["Signature"])
	n := len(scope)
	if n < 5 || scope[n-1] != "aws4_request" || err != nil || len(signature) == 0 || parts["SignedHeaders"] == "" {
		return nil, ErrIncomplete
	}
	return &Signature{
		AccessKey: strings.Join(scope[:n-4], "/"), Date: scope[n-4], Region: scope[n-3], Service: scope[n-2],
		SignedHeaders: strings.Split(parts["SignedHeaders"], ";"), signature: signature,
	}, nil
}

// Check is what can be checked before the body is there: whose signature it is,
// for which service, and when it was made.
func (s *Signature) Check(r *http.Request, accessKey, service string, now time.Time) error {
	at, err := time.Parse(timeFormat, r.Header.Get("X-Amz-Date"))
	switch {
	case s.AccessKey != accessKey:
		return ErrUnknownKey
	case err != nil, s.Service != service, !slices.Contains(s.SignedHeaders, "host"):
		return ErrIncomplete
	case at.Format("20060102") != s.Date, at.Sub(now).Abs() > Tolerance:
		return ErrExpired
	}
	return nil
}

// Verify compares the signature with the one that the secret key makes. The
// comparison takes the same time whatever differs.
func (s *Signature) Verify(r *http.Request, body string, secretKey string) error {
	bodyHash := sha256.Sum256([]byte(body))
	requestHash := sha256.Sum256([]byte(s.canonical(r, hex.EncodeToString(bodyHash[:]))))
	scope := strings.Join([]string{s.Date, s.Region, s.Service, "aws4_request"}, "/")
	text := strings.Join([]string{algorithm, r.Header.Get("X-Amz-Date"), scope, hex.EncodeToString(requestHash[:])}, "\n")

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
	b.WriteString(r.Method + "\n" + canonicalPath(r) + "\n" + canonicalQuery(r) + "\n")
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

// canonicalPath is the path, each of its segments escaped once more than it was
// sent.
func canonicalPath(r *http.Request) string {
	path := r.URL.EscapedPath()
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
