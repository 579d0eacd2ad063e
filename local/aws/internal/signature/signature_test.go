package signature

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

var signedAt = time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)

const (
	accessKey = "AKID"
	secretKey = "secret/with+signs"
	body      = `{"TableName":"t"}`
)

// signed is a request that the SDK's own signer has signed.
func signed(t *testing.T) *http.Request {
	t.Helper()
	r, err := http.NewRequest("POST", "http://localhost:4566/000000000000/a%20queue?b=2&a=1%2F&a=0", bytes.NewReader([]byte(body)))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("X-Amz-Target", "AmazonSQS.SendMessage")
	r.Header.Set("X-Two", "a  b ")
	r.Header.Add("X-Two", "c")
	hash := sha256.Sum256([]byte(body))
	err = v4.NewSigner().SignHTTP(t.Context(), aws.Credentials{AccessKeyID: accessKey, SecretAccessKey: secretKey}, r, hex.EncodeToString(hash[:]), "sqs", "eu-west-1", signedAt)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func verify(r *http.Request, body, access, secret string, now time.Time) error {
	s, err := Parse(r)
	if err != nil {
		return err
	}
	if err := s.Check(access, "sqs", now, now); err != nil {
		return err
	}
	return s.Verify(r, BodyHash(body), secret)
}

func TestVerify(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change         func(*http.Request)
		body           string
		access, secret string
		now            time.Time
		want           error
	}{
		"as it was signed":         {},
		"14 minutes later":         {now: signedAt.Add(14 * time.Minute)},
		"14 minutes before":        {now: signedAt.Add(-14 * time.Minute)},
		"16 minutes later":         {now: signedAt.Add(16 * time.Minute), want: ErrExpired},
		"16 minutes before":        {now: signedAt.Add(-16 * time.Minute), want: ErrExpired},
		"another body":             {body: `{"TableName":"u"}`, want: ErrWrong},
		"another secret":           {secret: "other", want: ErrWrong},
		"another access key":       {access: "AKIE", want: ErrUnknownKey},
		"another method":           {change: func(r *http.Request) { r.Method = "PUT" }, want: ErrWrong},
		"another path":             {change: func(r *http.Request) { r.URL.Path, r.URL.RawPath = "/x", "" }, want: ErrWrong},
		"another query":            {change: func(r *http.Request) { r.URL.RawQuery = "b=2&a=1%2F&a=1" }, want: ErrWrong},
		"another host":             {change: func(r *http.Request) { r.Host = "evil.test" }, want: ErrWrong},
		"another target":           {change: func(r *http.Request) { r.Header.Set("X-Amz-Target", "AmazonSQS.PurgeQueue") }, want: ErrWrong},
		"a header that isn't part": {change: func(r *http.Request) { r.Header.Set("User-Agent", "other") }},
		"another date":             {change: func(r *http.Request) { r.Header.Set("X-Amz-Date", "20260501T120001Z") }, want: ErrWrong},
		"no date":                  {change: func(r *http.Request) { r.Header.Del("X-Amz-Date") }, want: ErrIncomplete},
		"no signature":             {change: func(r *http.Request) { r.Header.Del("Authorization") }, want: ErrMissing},
		"half a signature":         {change: func(r *http.Request) { r.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential=AKID") }, want: ErrIncomplete},
		"another kind":             {change: func(r *http.Request) { r.Header.Set("Authorization", "Bearer x") }, want: ErrIncomplete},
	} {
		t.Run(name, func(t *testing.T) {
			r := signed(t)
			r.Host = r.URL.Host // where a server has it
			if c.change != nil {
				c.change(r)
			}
			text, access, secret, now := body, accessKey, secretKey, signedAt
			if c.body != "" {
				text = c.body
			}
			if c.access != "" {
				access = c.access
			}
			if c.secret != "" {
				secret = c.secret
			}
			if !c.now.IsZero() {
				now = c.now
			}
			if err := verify(r, text, access, secret, now); !errors.Is(err, c.want) {
				t.Errorf("got %v, want %v", err, c.want)
			}
		})
	}
	r := signed(t)
	s, err := Parse(r)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Check(accessKey, "dynamodb", signedAt, signedAt); !errors.Is(err, ErrIncomplete) {
		t.Errorf("for another service: %v", err)
	}
}
