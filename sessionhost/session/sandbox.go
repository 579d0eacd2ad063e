package session

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"whatisup/shared/whatisup"
)

// Phones drives the simulated phones. What a phone refuses is a
// [whatisup.Error]; anything else may be tried again.
type Phones interface {
	// Do makes one control call and decodes its answer into out, if that is not
	// nil.
	Do(ctx context.Context, call string, in, out any) error
}

// target is how the simulator finds what is meant: a customer has a world of
// its own.
type target struct {
	World    whatisup.CustomerID `json:"world"`
	Instance whatisup.InstanceID `json:"instance,omitempty"`
}

// sandbox carries out a sandbox command. Doing it twice has the effect of doing
// it once, as far as a person at a phone could tell.
func (s *Shard) sandbox(ctx context.Context, c *whatisup.Command, result *whatisup.Result) error {
	var args whatisup.SandboxArgs
	if err := json.Unmarshal(c.Args, &args); err != nil {
		return whatisup.NewError(whatisup.CodeInvalidRequest, "the command's arguments can't be read").Because(err)
	}
	whom := target{World: c.Customer, Instance: c.Instance}
	switch c.Kind {
	case whatisup.SandboxScan:
		code := s.code(c.Instance)
		if code == "" {
			return errNothingToScan
		}
		return s.kit.Phones.Do(ctx, "scan", struct {
			target
			QR          string `json:"qr"`
			PhoneNumber string `json:"phone_number"`
		}{whom, code, args.PhoneNumber}, nil)
	case whatisup.SandboxEnterCode:
		return s.kit.Phones.Do(ctx, "enter-code", struct {
			World       whatisup.CustomerID `json:"world"`
			Code        string              `json:"code"`
			PhoneNumber string              `json:"phone_number"`
		}{c.Customer, args.Code, args.PhoneNumber}, nil)
	case whatisup.SandboxUnlink:
		return s.kit.Phones.Do(ctx, "unlink", whom, nil)
	case whatisup.SandboxMessage:
		return s.sandboxMessage(ctx, c, args, result)
	case whatisup.SandboxFault:
		return s.kit.Phones.Do(ctx, "faults", struct {
			target
			Kind    string `json:"kind"`
			Seconds int    `json:"seconds,omitempty"`
		}{whom, args.Fault, args.Seconds}, nil)
	}
	return fmt.Errorf("a command of the unknown kind %q", c.Kind)
}

// sandboxMessage lets somebody write to the instance's number. The message's id
// is the command's, so that it is written once.
func (s *Shard) sandboxMessage(ctx context.Context, c *whatisup.Command, args whatisup.SandboxArgs, result *whatisup.Result) error {
	i, err := s.kit.Store.Owned(ctx, refOf(c))
	if errors.Is(err, whatisup.ErrNotFound) || err == nil && !i.DeletedAt.IsZero() {
		return whatisup.NewError(whatisup.CodeInstanceNotFound, "no such instance")
	}
	if err != nil {
		return err
	}
	if !i.HasLink() || i.Observed.PhoneNumber == "" {
		return whatisup.NewError(whatisup.CodeNotConnected, "no phone is linked to this instance")
	}
	result.MessageID = "AC" + strings.ToUpper(strings.ReplaceAll(string(c.ID), "-", ""))
	return s.kit.Phones.Do(ctx, "messages", struct {
		World     whatisup.CustomerID `json:"world"`
		From      string              `json:"from"`
		To        string              `json:"to"`
		Text      string              `json:"text"`
		MessageID string              `json:"message_id"`
	}{c.Customer, args.From, string(i.Observed.PhoneNumber), args.Text, result.MessageID}, nil)
}

var errNothingToScan = whatisup.NewError(whatisup.CodeNothingToScan, "no code is shown that could be scanned")

// code is the QR text that the instance shows now, empty if none.
func (s *Shard) code(id whatisup.InstanceID) string {
	s.mu.Lock()
	r := s.sessions[id]
	s.mu.Unlock()
	if r == nil {
		return ""
	}
	if c := r.code.Load(); c != nil {
		return *c
	}
	return ""
}

// Control drives a simulator's phones over its HTTP control interface.
type Control struct {
	Endpoint string // http://host:port or https://host:port
	Client   *http.Client
}

// Do is [Phones].
func (c *Control) Do(ctx context.Context, call string, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, strings.TrimSuffix(c.Endpoint, "/")+"/control/"+call, bytes.NewReader(body))
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", "application/json")
	answer, err := c.Client.Do(r)
	if err != nil {
		return fmt.Errorf("simulator: %w", err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(io.LimitReader(answer.Body, 1<<20))
	if err != nil {
		return fmt.Errorf("simulator: %w", err)
	}
	if answer.StatusCode < 300 {
		if out == nil {
			return nil
		}
		return json.Unmarshal(text, out)
	}
	var refused struct {
		Error struct{ Code, Message string }
	}
	if err := json.Unmarshal(text, &refused); err != nil {
		return fmt.Errorf("simulator: status %d", answer.StatusCode)
	}
	return translateRefusal(answer.StatusCode, refused.Error.Code, refused.Error.Message)
}

// translateRefusal is what a phone's refusal means to a customer; nil if there is
// nothing to refuse.
func translateRefusal(status int, code, message string) error {
	switch code {
	case "message_exists":
		return nil // a repetition of the command
	case "passkey_required":
		return nil // the phone scanned; what came of it the instance's state tells
	case "nothing_to_scan":
		return errNothingToScan
	case "no_such_device":
		return whatisup.NewError(whatisup.CodeNotConnected, "no phone is linked to this instance")
	case "no_code", "wrong_code":
		return whatisup.NewError(whatisup.CodeNothingToScan, "no connection waits for this code")
	}
	if status >= 500 {
		return fmt.Errorf("simulator: %s: %s", code, message)
	}
	if status == http.StatusConflict {
		return whatisup.NewError(whatisup.CodeNothingToScan, "the phone could not do that: "+strings.ReplaceAll(code, "_", " "))
	}
	return whatisup.NewError(whatisup.CodeInvalidRequest, "the phone could not do that: "+strings.ReplaceAll(code, "_", " "))
}
