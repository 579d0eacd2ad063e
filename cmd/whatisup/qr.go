package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"time"

	"whatisup/shared/qr"
)

// longest bounds the whole: an attempt's codes run out after about 160 s.
const longest = 3 * time.Minute

// runQR draws an instance's QR code in the terminal, from the API of the running
// stack or, with API and KEY or KEY_FILE set, of any deployment, and draws the
// next one when it has run out, until the instance is connected.
func runQR(ctx context.Context, p program) error {
	if len(p.args) != 1 || p.args[0] == "" {
		return errors.New("say which instance, as in: whatisup qr 0197…")
	}
	a, err := p.api(true)
	if err != nil {
		return err
	}
	a.base += "/instances/" + url.PathEscape(p.args[0])
	out := p.out
	ctx, cancel := context.WithTimeout(ctx, longest)
	defer cancel()
	var drawn string
	for {
		var code struct {
			Raw       string    `json:"raw"`
			ExpiresAt time.Time `json:"expires_at"`
		}
		err := a.get(ctx, "/qr", &code)
		if refused, ok := errors.AsType[*refusal](err); ok && refused.Code == "invalid_lifecycle_transition" {
			var i struct {
				Status string  `json:"status"`
				Number *string `json:"phone_number"`
			}
			if err := a.get(ctx, "", &i); err != nil {
				return err
			}
			if i.Status == "connected" && i.Number != nil {
				_, err = fmt.Fprintf(out, "Connected as +%s.\n", *i.Number)
				return err
			}
			if i.Status != "connecting" {
				return refused
			}
		} else if err != nil {
			return err
		}
		if code.Raw != "" && code.Raw != drawn {
			drawn = code.Raw
			picture, err := qr.Terminal(code.Raw)
			if err != nil {
				return err
			}
			fmt.Fprintf(out, "%s\nOn the phone: Settings, Linked devices, Link a device. Good until %s.\n",
				picture, code.ExpiresAt.Local().Format(time.TimeOnly))
		}
		select {
		case <-ctx.Done():
			return errors.New("nobody scanned the code in time")
		case <-time.After(time.Second):
		}
	}
}
