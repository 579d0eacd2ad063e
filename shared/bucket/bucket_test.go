package bucket

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"whatisup/local/aws/awstest"
	"whatisup/shared/whatisup"
)

// hooked does something before each request.
type hooked struct {
	before func(*http.Request)
}

func (h hooked) Do(r *http.Request) (*http.Response, error) {
	h.before(r)
	return http.DefaultClient.Do(r)
}

func start(t *testing.T, before func(*http.Request)) *Bucket {
	t.Helper()
	a := awstest.Start(t).Config
	if before != nil {
		a.HTTPClient = hooked{before}
	}
	b := New(Config{AWS: a, Name: "files"})
	if err := b.Create(t.Context()); err != nil {
		t.Fatal(err)
	}
	return b
}

func (b *Bucket) count(t *testing.T, prefix string) (objects, unfinished int) {
	t.Helper()
	err := errors.Join(
		b.List(t.Context(), prefix, func(string) bool { objects++; return true }),
		b.Unfinished(t.Context(), prefix, func(string) bool { unfinished++; return true }),
	)
	if err != nil {
		t.Fatal(err)
	}
	return objects, unfinished
}

// An object can be read when it was committed, whole; before, and when it was given up,
// nothing is there. That its context ends while it is committed cuts off nothing.
func TestWriter(t *testing.T) {
	t.Parallel()
	for name, size := range map[string]int{"none": 0, "small": 1000, "a part": PartSize, "two parts": PartSize + 1, "three parts": 2*PartSize + 7} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var committing context.CancelFunc
			b := start(t, func(*http.Request) {
				if committing != nil {
					committing()
				}
			})
			file := bytes.Repeat([]byte("0123456789abcdef!"), size/17+1)[:size]
			parts := 0
			if size > PartSize {
				parts = 1
			}
			write := func(ctx context.Context, key string) *Writer {
				w := b.Writer(ctx, key, make([]byte, PartSize))
				if n, err := io.Copy(w, bytes.NewReader(file)); n != int64(size) || err != nil {
					t.Fatal(n, err)
				}
				if objects, unfinished := b.count(t, key); objects != 0 || unfinished != parts {
					t.Errorf("before the end: %d objects, %d unfinished", objects, unfinished)
				}
				return w
			}

			given := write(t.Context(), "d8/given-up")
			if err := given.Abort(); err != nil {
				t.Fatal(err)
			}
			ctx, end := context.WithCancel(t.Context())
			w := write(ctx, "d8/kept")
			committing = end
			if err := errors.Join(w.Commit(), w.Abort()); err != nil {
				t.Fatal(err)
			}
			committing = nil
			if objects, unfinished := b.count(t, ""); objects != 1 || unfinished != 0 {
				t.Errorf("%d objects, %d unfinished", objects, unfinished)
			}
			body, length, err := b.Open(t.Context(), "d8/kept", 0)
			if err != nil {
				t.Fatal(err)
			}
			defer body.Close()
			if got, err := io.ReadAll(body); err != nil || length != int64(size) || !bytes.Equal(got, file) {
				t.Errorf("%d of %d bytes, %v", len(got), size, err)
			}
			over, end := context.WithCancel(t.Context())
			w = write(over, "d8/late")
			if end(); w.Commit() == nil {
				t.Error("a commit begins after its context has ended")
			}
			if err := w.Abort(); err != nil {
				t.Error(err)
			}
			if err := b.DeleteAll(t.Context(), "d8/k"); err != nil {
				t.Error(err)
			}
			if objects, unfinished := b.count(t, ""); objects != 0 || unfinished != 0 {
				t.Errorf("at the end: %d objects, %d unfinished", objects, unfinished)
			}
			if _, _, err := b.Open(t.Context(), "d8/kept", 0); !errors.Is(err, whatisup.ErrNotFound) {
				t.Errorf("a removed object: %v", err)
			}
		})
	}
}

// On AWS forms and URLs lead to the bucket's own address in its region, which the
// template tells the dashboard.
func TestAddress(t *testing.T) {
	t.Parallel()
	b := New(Config{Name: "acme-media", AWS: aws.Config{Region: "us-east-1", Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
		return aws.Credentials{AccessKeyID: "a", SecretAccessKey: "b"}, nil
	})}})
	form, err := b.Form(t.Context(), "staging/x", "text/plain", 10, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	url, err := b.URL(t.Context(), "GET", "d8/x", "text/plain", "inline", time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	const want = "https://acme-media.s3.us-east-1.amazonaws.com"
	if strings.TrimSuffix(form.URL, "/") != want || !strings.HasPrefix(url, want+"/d8/x?") {
		t.Errorf("a form for %s and a URL %s", form.URL, url)
	}
}
