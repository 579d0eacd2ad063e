package whatisup

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Client calls the API with one key. All its methods may be called at the same time.
type Client struct {
	URL  string       // the API's address, without /v1
	Key  string       // wiu_live_… or wiu_test_…
	HTTP *http.Client // nil: http.DefaultClient; it must not have a Timeout if streams are read
}

// Error is an error that the API answered.
type Error struct {
	Status    int             // of HTTP
	Code      string          // as in the documentation; more codes may be added
	Message   string          // for people
	Details   json.RawMessage // nil if there are none
	RequestID string          // name it when you ask for help
	after     time.Duration   // Retry-After
}

func (e *Error) Error() string { return fmt.Sprintf("%s (%s, %s)", e.Message, e.Code, e.RequestID) }

// Code returns the code of an API error, "" for every other error.
func Code(err error) string {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Code
	}
	return ""
}

const (
	attempts  = 5
	firstWait = 250 * time.Millisecond
	mostWait  = 30 * time.Second
)

// Do makes one call and decodes its answer into out, unless that is nil. path begins
// with /v1, in is the body or nil. The call is repeated, up to 5 times in all, when
// nothing or a refusal came back that time can mend: no answer, 429, 502, 503, 504,
// or idempotency_in_progress. A POST is sent under an Idempotency-Key, so it happens once.
func (c *Client) Do(ctx context.Context, method, path string, in, out any) error {
	return c.do(ctx, method, path, rand.Text(), in, out)
}

func (c *Client) do(ctx context.Context, method, path, idempotencyKey string, in, out any) error {
	var body []byte
	if in != nil {
		var err error
		if body, err = json.Marshal(in); err != nil {
			return err
		}
	}
	for n := 1; ; n++ {
		err := c.once(ctx, method, path, idempotencyKey, body, out)
		if err == nil {
			return nil
		}
		e, answered := errors.AsType[*Error](err)
		// The answer to the first DELETE was lost, and it had deleted.
		if answered && e.Status == http.StatusNotFound && method == http.MethodDelete && n > 1 {
			return nil
		}
		if n == attempts || ctx.Err() != nil || answered && !e.mends() {
			return err
		}
		if !answered && !isTransport(err) {
			return err
		}
		wait := backoff(n)
		if answered {
			wait = max(wait, e.after)
		}
		if wait > mostWait || sleep(ctx, wait) != nil {
			return err
		}
	}
}

// mends says whether the same call may succeed later, and may be repeated.
func (e *Error) mends() bool {
	switch e.Status {
	case http.StatusTooManyRequests:
		return e.Code != "pairing_throttled" && e.Code != "queue_full"
	case http.StatusBadGateway, http.StatusGatewayTimeout:
		return true
	case http.StatusServiceUnavailable:
		return e.Code != "outcome_unknown" && e.Code != "no_qr"
	}
	return e.Code == "idempotency_in_progress"
}

type transportError struct{ error }

func (t transportError) Unwrap() error { return t.error }

func isTransport(err error) bool { _, ok := errors.AsType[transportError](err); return ok }

func (c *Client) once(ctx context.Context, method, path, idempotencyKey string, body []byte, out any) error {
	r, err := c.request(ctx, method, path, body)
	if err != nil {
		return err
	}
	if method == http.MethodPost {
		r.Header.Set("Idempotency-Key", idempotencyKey)
	}
	answer, err := c.http().Do(r)
	if err != nil {
		return transportError{err}
	}
	defer answer.Body.Close()
	if answer.StatusCode > 299 {
		return readError(answer)
	}
	b, err := io.ReadAll(answer.Body)
	if err != nil {
		return transportError{err}
	}
	if out == nil || len(b) == 0 {
		return nil
	}
	return json.Unmarshal(b, out)
}

func (c *Client) request(ctx context.Context, method, path string, body []byte) (*http.Request, error) {
	var content io.Reader
	if body != nil {
		content = bytes.NewReader(body)
	}
	r, err := http.NewRequestWithContext(ctx, method, strings.TrimRight(c.URL, "/")+path, content)
	if err != nil {
		return nil, err
	}
	r.Header.Set("Authorization", "Bearer "+c.Key)
	r.Header.Set("Accept", "application/json")
	if body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	return r, nil
}

func (c *Client) http() *http.Client {
	if c.HTTP != nil {
		return c.HTTP
	}
	return http.DefaultClient
}

func readError(answer *http.Response) error {
	b, _ := io.ReadAll(io.LimitReader(answer.Body, 1<<20)) // what is missing then is only the text
	var wire struct {
		Error struct {
			Code, Message string
			Details       json.RawMessage
		}
		RequestID string `json:"request_id"`
	}
	e := &Error{Status: answer.StatusCode, RequestID: answer.Header.Get("X-Request-Id")}
	if json.Unmarshal(b, &wire) == nil && wire.Error.Code != "" {
		e.Code, e.Message, e.Details, e.RequestID = wire.Error.Code, wire.Error.Message, wire.Error.Details, wire.RequestID
	} else {
		e.Message = answer.Status
	}
	if s, err := strconv.Atoi(answer.Header.Get("Retry-After")); err == nil && s > 0 {
		e.after = time.Duration(s) * time.Second
	}
	return e
}

// backoff doubles, with jitter, so that clients that failed together don't return together.
func backoff(n int) time.Duration {
	most := min(firstWait<<(n-1), mostWait)
	random, err := rand.Int(rand.Reader, big.NewInt(int64(most/2)))
	if err != nil {
		return most
	}
	return most/2 + time.Duration(random.Int64())
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// page is one page of a list.
type page[T any] struct {
	Data []T     `json:"data"`
	Next *string `json:"next_cursor"`
}

// list reads a list page by page.
func list[T any](ctx context.Context, c *Client, path string, filter url.Values, yield func(T, error) bool) {
	query := url.Values{}
	for k, v := range filter {
		query[k] = v
	}
	if !query.Has("limit") {
		query.Set("limit", "100")
	}
	for {
		var p page[T]
		if err := c.Do(ctx, http.MethodGet, path+"?"+query.Encode(), nil, &p); err != nil {
			var none T
			yield(none, err)
			return
		}
		for _, item := range p.Data {
			if !yield(item, nil) {
				return
			}
		}
		if p.Next == nil {
			return
		}
		query.Set("cursor", *p.Next)
	}
}

const pollEvery = 200 * time.Millisecond

// await reads until done says so.
func await[T any](ctx context.Context, read func() (T, error), done func(T) (bool, error)) (T, error) {
	for {
		v, err := read()
		if err != nil {
			return v, err
		}
		if ok, err := done(v); ok || err != nil {
			return v, err
		}
		if err := sleep(ctx, pollEvery); err != nil {
			return v, err
		}
	}
}
