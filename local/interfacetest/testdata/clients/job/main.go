// Command job does the main job with the client that its argument names: an instance,
// its code, a scan, a message, and how far it came.
package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"time"

	"clients/oapicodegen"
	"clients/ogen"
)

// client is the job as a generated client does it.
type client interface {
	create(ctx context.Context, name string) (id string, err error)
	qr(ctx context.Context, id string) (raw string, err error)
	scan(ctx context.Context, id string) error
	connected(ctx context.Context, id string) (bool, error)
	send(ctx context.Context, id, to, text string) (message string, err error)
	status(ctx context.Context, id, message string) (string, error)
}

func main() {
	ctx, stop := context.WithTimeout(context.Background(), time.Minute)
	defer stop()
	if err := run(ctx, os.Args[1], os.Getenv("WHATISUP_URL"), os.Getenv("WHATISUP_KEY")); err != nil {
		fmt.Fprintln(os.Stderr, os.Args[1]+":", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, name, url, key string) error {
	var c client
	switch name {
	case "ogen":
		o, err := ogen.NewClient(url, bearer(key))
		if err != nil {
			return err
		}
		c = byOgen{o}
	case "oapi-codegen":
		o, err := oapicodegen.NewClientWithResponses(url, oapicodegen.WithRequestEditorFn(func(_ context.Context, r *http.Request) error {
			r.Header.Set("Authorization", "Bearer "+key)
			return nil
		}))
		if err != nil {
			return err
		}
		c = byOapi{o}
	}

	id, err := c.create(ctx, name)
	if err != nil {
		return err
	}
	raw, err := c.qr(ctx, id)
	if err != nil {
		return err
	}
	if raw == "" {
		return errors.New("a code without a text")
	}
	if err := c.scan(ctx, id); err != nil {
		return err
	}
	for {
		if ok, err := c.connected(ctx, id); err != nil {
			return err
		} else if ok {
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	message, err := c.send(ctx, id, "+55 11 98765-4321", "Hello!")
	if err != nil {
		return err
	}
	for {
		status, err := c.status(ctx, id, message)
		if err != nil {
			return err
		}
		if status == "read" {
			fmt.Println("read")
			return nil
		}
		time.Sleep(100 * time.Millisecond)
	}
}

type bearer string

func (b bearer) Bearer(context.Context, ogen.OperationName) (ogen.Bearer, error) {
	return ogen.Bearer{Token: string(b)}, nil
}

type byOgen struct{ *ogen.Client }

func (c byOgen) create(ctx context.Context, name string) (string, error) {
	got, err := c.CreateInstance(ctx, &ogen.CreateInstance{Name: name}, ogen.CreateInstanceParams{})
	if i, ok := got.(*ogen.InstanceHeaders); ok {
		return i.Response.ID.String(), err
	}
	return "", unexpected(got, err)
}

func (c byOgen) qr(ctx context.Context, id string) (string, error) {
	got, err := c.GetInstanceQR(ctx, ogen.GetInstanceQRParams{ID: id})
	if code, ok := got.(*ogen.QRCodeHeaders); ok {
		return code.Response.Raw, err
	}
	return "", unexpected(got, err)
}

func (c byOgen) scan(ctx context.Context, id string) error {
	got, err := c.SandboxScan(ctx, ogen.OptSandboxScan{}, ogen.SandboxScanParams{ID: id})
	if _, ok := got.(*ogen.SandboxScanNoContent); ok {
		return err
	}
	return unexpected(got, err)
}

func (c byOgen) connected(ctx context.Context, id string) (bool, error) {
	got, err := c.GetInstance(ctx, ogen.GetInstanceParams{ID: id})
	if i, ok := got.(*ogen.GetInstanceOKHeaders); ok {
		return i.Response.Status == ogen.StatusConnected, err
	}
	return false, unexpected(got, err)
}

func (c byOgen) send(ctx context.Context, id, to, text string) (string, error) {
	got, err := c.SendMessage(ctx, &ogen.SendMessage{To: to, Body: ogen.NewTextBodyBody(ogen.TextBody{Type: "text", Text: text})}, ogen.SendMessageParams{ID: id})
	if m, ok := got.(*ogen.MessageHeaders); ok {
		return m.Response.MessageID, err
	}
	return "", unexpected(got, err)
}

func (c byOgen) status(ctx context.Context, id, message string) (string, error) {
	got, err := c.GetMessage(ctx, ogen.GetMessageParams{ID: id, MessageID: message})
	if m, ok := got.(*ogen.GetMessageOKHeaders); ok {
		return string(m.Response.Status), err
	}
	return "", unexpected(got, err)
}

type byOapi struct {
	*oapicodegen.ClientWithResponses
}

func (c byOapi) create(ctx context.Context, name string) (string, error) {
	got, err := c.CreateInstanceWithResponse(ctx, nil, oapicodegen.CreateInstance{Name: name})
	if err != nil || got.JSON201 == nil {
		return "", unexpected(got, err)
	}
	return got.JSON201.Id.String(), nil
}

func (c byOapi) qr(ctx context.Context, id string) (string, error) {
	got, err := c.GetInstanceQRWithResponse(ctx, id)
	if err != nil || got.JSON200 == nil {
		return "", unexpected(got, err)
	}
	return got.JSON200.Raw, nil
}

func (c byOapi) scan(ctx context.Context, id string) error {
	got, err := c.SandboxScanWithResponse(ctx, id, nil, oapicodegen.SandboxScan{})
	if err != nil || got.StatusCode() != http.StatusNoContent {
		return unexpected(got, err)
	}
	return nil
}

func (c byOapi) connected(ctx context.Context, id string) (bool, error) {
	got, err := c.GetInstanceWithResponse(ctx, id, nil)
	if err != nil || got.JSON200 == nil {
		return false, unexpected(got, err)
	}
	return got.JSON200.Status == "connected", nil
}

func (c byOapi) send(ctx context.Context, id, to, text string) (string, error) {
	var body oapicodegen.Body
	if err := body.FromTextBody(oapicodegen.TextBody{Text: text}); err != nil {
		return "", err
	}
	got, err := c.SendMessageWithResponse(ctx, id, nil, oapicodegen.SendMessage{To: to, Body: body})
	if err != nil || got.JSON202 == nil {
		return "", unexpected(got, err)
	}
	return got.JSON202.MessageId, nil
}

func (c byOapi) status(ctx context.Context, id, message string) (string, error) {
	got, err := c.GetMessageWithResponse(ctx, id, message, nil)
	if err != nil || got.JSON200 == nil {
		return "", unexpected(got, err)
	}
	return got.JSON200.Status, nil
}

func unexpected(got any, err error) error {
	if err != nil {
		return err
	}
	return fmt.Errorf("unexpected answer: %T %+v", got, got)
}
