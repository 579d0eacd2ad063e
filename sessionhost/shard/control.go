package shard

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"whatisup/shared/whatisup"
)

// Control drives a simulator's phones over its HTTP control interface.
type Control struct {
	Endpoint string // http://host:port or https://host:port
	Client   *http.Client
}

// maxControlAnswer is more than any answer that a call here asks for.
const maxControlAnswer = 1 << 20

// Do implements [Phones].
func (c *Control) Do(ctx context.Context, call whatisup.PhoneCall, out any) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	u := strings.TrimSuffix(c.Endpoint, "/") + "/control/" + call.Path
	if len(call.Query) > 0 {
		query := url.Values{}
		for name, value := range call.Query {
			query.Set(name, value)
		}
		u += "?" + query.Encode()
	}
	r, err := http.NewRequestWithContext(ctx, call.Method, u, bytes.NewReader(call.Body))
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", "application/json")
	answer, err := c.Client.Do(r)
	if err != nil {
		return fmt.Errorf("simulator: %w", err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(io.LimitReader(answer.Body, maxControlAnswer))
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

// refusals are what a phone's refusals mean to a customer.
var refusals = map[string]*whatisup.Error{
	"nothing_to_scan":      errNothingToScan,
	"no_such_device":       errNoPhone,
	"no_code":              errNoCode,
	"wrong_code":           errNoCode,
	"no_such_message":      whatisup.NewError(whatisup.CodeMessageNotFound, "the phone shows no such message"),
	"no_poll":              whatisup.NewError(whatisup.CodeMessageNotFound, "the message is no poll"),
	"no_such_group":        whatisup.NewError(whatisup.CodeGroupNotFound, "there is no such group"),
	"no_such_call":         whatisup.NewError(whatisup.CodeMessageNotFound, "there is no such call"),
	"phone_offline":        whatisup.NewError(whatisup.CodeNotConnected, "the phone is offline"),
	"not_in_group":         whatisup.NewError(whatisup.CodeNotInGroup, "the phone is no member of the group"),
	"not_allowed_in_group": whatisup.NewError(whatisup.CodeNotAllowedInGroup, "only admins of the group may do that"),
}

var errNoCode = whatisup.NewError(whatisup.CodeNothingToScan, "no connection waits for this code")

// translateRefusal is what a phone's refusal means to a customer; nil if there is
// nothing to refuse.
func translateRefusal(status int, code, message string) error {
	switch code {
	case "message_exists", "call_exists":
		return nil // a repetition of the command
	case "passkey_required":
		return nil // the phone scanned; what came of it the instance's state tells
	case "invalid_request":
		return whatisup.NewError(whatisup.CodeInvalidRequest, message) // the simulator's own sentence
	}
	if refused := refusals[code]; refused != nil {
		return refused
	}
	said := "the phone could not do that: " + strings.ReplaceAll(code, "_", " ")
	switch {
	case status >= 500:
		return fmt.Errorf("simulator: %s: %s", code, message)
	case strings.HasSuffix(code, "_group") || code == "not_possible" || code == "approval_needed" || code == "group_full" || code == "no_such_link":
		return whatisup.NewError(whatisup.CodeRejected, said)
	case status == http.StatusConflict:
		return whatisup.NewError(whatisup.CodeNothingToScan, said)
	}
	return whatisup.NewError(whatisup.CodeInvalidRequest, said)
}
