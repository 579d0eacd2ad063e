package shard

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"whatisup/shared/whatisup"
)

// Control drives a simulator's phones over its HTTP control interface.
type Control struct {
	Endpoint string // http://host:port or https://host:port
	Client   *http.Client
}

// Do implements [Phones].
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
		return errNoPhone
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
