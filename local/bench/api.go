package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"
)

// customer calls the API with its key, as any customer does.
type customer struct {
	id, key, base string
	http          *http.Client
}

func newCustomer(base, id, key string) *customer {
	return &customer{id, key, base, &http.Client{Timeout: time.Minute, Transport: &http.Transport{MaxIdleConnsPerHost: 256}}}
}

// refused is an answer other than the one that was wanted.
type refused struct {
	status int
	text   string
}

func (r *refused) Error() string { return fmt.Sprintf("HTTP %d: %s", r.status, r.text) }

// unavailable says whether the answer was to ask again.
func unavailable(err error) bool {
	r, ok := errors.AsType[*refused](err)
	return ok && r.status == http.StatusServiceUnavailable
}

// do makes a call and decodes its answer into out, which may be nil.
func (c *customer) do(ctx context.Context, method, path string, in, out any) (took time.Duration, err error) {
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return 0, err
		}
		body = bytes.NewReader(b)
	}
	r, err := http.NewRequestWithContext(ctx, method, c.base+path, body)
	if err != nil {
		return 0, err
	}
	r.Header.Set("Authorization", "Bearer "+c.key)
	if in != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	began := time.Now()
	answer, err := c.http.Do(r)
	if err != nil {
		return 0, err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	took = time.Since(began)
	if err == nil && answer.StatusCode > 299 {
		err = fmt.Errorf("%s %s: %w", method, path, &refused{answer.StatusCode, string(text)})
	}
	if err != nil || out == nil {
		return took, err
	}
	return took, json.Unmarshal(text, out)
}

// instance is what the benchmark needs to know of one.
type instance struct {
	ID     string
	Number string // of its phone
	World  string
}

func (c *customer) create(ctx context.Context, name string) (id string, took time.Duration, err error) {
	var made struct {
		ID string `json:"id"`
	}
	took, err = c.do(ctx, "POST", "/v1/instances", map[string]string{"name": name}, &made)
	return made.ID, took, err
}

func (c *customer) qr(ctx context.Context, id string) (raw string, took time.Duration, err error) {
	var code struct {
		Raw string `json:"raw"`
	}
	took, err = c.do(ctx, "GET", "/v1/instances/"+id+"/qr", nil, &code)
	return code.Raw, took, err
}

func (c *customer) status(ctx context.Context, id string) (string, error) {
	var s struct {
		Status string `json:"status"`
	}
	_, err := c.do(ctx, "GET", "/v1/instances/"+id+"/status", nil, &s)
	return s.Status, err
}

// becomes waits until the instance has the status, looking every so often.
func (c *customer) becomes(ctx context.Context, id, status string, every time.Duration) error {
	deadline := time.Now().Add(2 * time.Minute)
	for {
		is, err := c.status(ctx, id)
		if err != nil || is == status {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("the instance is %s and does not become %s", is, status)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(every):
		}
	}
}
