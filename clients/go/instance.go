package whatisup

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"net/http"
	"net/url"
	"time"
)

// Instance is one WhatsApp connection: one phone number, one linked device.
type Instance struct {
	ID          string          `json:"id"`
	CustomerID  string          `json:"customer_id"`
	Name        string          `json:"name"`
	PhoneNumber *string         `json:"phone_number"`
	Status      string          `json:"status"`
	LastSeenAt  *time.Time      `json:"last_seen_at"`
	Metadata    json.RawMessage `json:"metadata"`
	CreatedAt   time.Time       `json:"created_at"`
	UpdatedAt   time.Time       `json:"updated_at"`
}

// QR is a code that a phone can scan now.
type QR struct {
	Picture   string    `json:"qr"`  // a data: URL of a PNG
	Raw       string    `json:"raw"` // the code's text
	ExpiresAt time.Time `json:"expires_at"`
}

func instancePath(id string) string { return "/v1/instances/" + url.PathEscape(id) }

// CreateInstance makes an instance. metadata is anything that is a JSON object, or nil.
func (c *Client) CreateInstance(ctx context.Context, name string, metadata any) (i Instance, err error) {
	body := map[string]any{"name": name}
	if metadata != nil {
		body["metadata"] = metadata
	}
	err = c.Do(ctx, http.MethodPost, "/v1/instances", body, &i)
	return i, err
}

// Instance reads an instance.
func (c *Client) Instance(ctx context.Context, id string) (i Instance, err error) {
	err = c.Do(ctx, http.MethodGet, instancePath(id), nil, &i)
	return i, err
}

// Instances lists the instances, newest first. filter may be nil, or have status.
func (c *Client) Instances(ctx context.Context, filter url.Values) iter.Seq2[Instance, error] {
	return func(yield func(Instance, error) bool) { list(ctx, c, "/v1/instances", filter, yield) }
}

// DeleteInstance unlinks the phone and deletes the instance.
func (c *Client) DeleteInstance(ctx context.Context, id string) error {
	return c.Do(ctx, http.MethodDelete, instancePath(id), nil, nil)
}

// WaitQR returns a code, and asks until there is one or ctx ends. An instance that has
// a link gives an error with the code invalid_lifecycle_transition.
func (c *Client) WaitQR(ctx context.Context, id string) (QR, error) {
	var code QR
	for {
		err := c.Do(ctx, http.MethodGet, instancePath(id)+"/qr", nil, &code)
		if Code(err) != "no_qr" {
			return code, err
		}
		if sleep(ctx, time.Second) != nil {
			return code, err
		}
	}
}

// WaitStatus waits until the instance has the status. An instance that has failed, and
// was not to, is an error.
func (c *Client) WaitStatus(ctx context.Context, id, status string) (Instance, error) {
	return await(ctx, func() (Instance, error) { return c.Instance(ctx, id) }, func(i Instance) (bool, error) {
		if i.Status == "failed" && status != "failed" {
			return false, fmt.Errorf("instance %s has failed: GET /v1/instances/{id}/status says why", id)
		}
		return i.Status == status, nil
	})
}

// Connect, Disconnect and Logout ask for the state and do not wait for it.
func (c *Client) Connect(ctx context.Context, id string) error { return c.ask(ctx, id, "connect") }

// Disconnect closes the connection and keeps the link.
func (c *Client) Disconnect(ctx context.Context, id string) error {
	return c.ask(ctx, id, "disconnect")
}

// Logout gives the link up.
func (c *Client) Logout(ctx context.Context, id string) error { return c.ask(ctx, id, "logout") }

func (c *Client) ask(ctx context.Context, id, what string) error {
	return c.Do(ctx, http.MethodPost, instancePath(id)+"/"+what, nil, nil)
}

// Scan has the simulated phone scan the code that is shown now. Only with a test key.
func (c *Client) Scan(ctx context.Context, id string) error {
	return c.Do(ctx, http.MethodPost, "/v1/sandbox/instances/"+url.PathEscape(id)+"/scan", nil, nil)
}
