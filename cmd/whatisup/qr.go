package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"whatisup/local/deploy/stack"
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
	getenv, out := p.getenv, p.out
	instance := "/instances/" + url.PathEscape(p.args[0])
	a := api{base: strings.TrimRight(getenv("API"), "/") + "/v1" + instance, key: getenv("KEY")}
	if path := getenv("KEY_FILE"); path != "" { // stands in no list of processes
		key, err := os.ReadFile(path)
		if err != nil {
			return fmt.Errorf("KEY_FILE: %w", err)
		}
		a.key = strings.TrimSpace(string(key))
	}
	if getenv("API") == "" {
		dir := cmp.Or(getenv("DATA_DIR"), ".data")
		env, err := stack.Local(dir)
		if err != nil {
			return err
		}
		if a.key == "" {
			file := "test.key"
			if strings.HasPrefix(env["WHATSAPP"], "live") {
				file = "live.key"
			}
			key, err := os.ReadFile(filepath.Join(dir, file))
			if err != nil {
				return err
			}
			a.key = strings.TrimSpace(string(key))
		}
		a.base = strings.TrimSuffix(env["EVENTS_URL"], "/events") + instance
	}
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

type api struct{ base, key string }

// refusal is the API's own error.
type refusal struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

func (r *refusal) Error() string { return r.Message + " (" + r.Code + ")" }

func (a api) get(ctx context.Context, path string, into any) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, a.base+path, nil)
	if err != nil {
		return err
	}
	r.Header.Set("Authorization", "Bearer "+a.key)
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		var e struct {
			Error *refusal `json:"error"`
		}
		if json.Unmarshal(body, &e) != nil || e.Error == nil {
			return fmt.Errorf("HTTP %d", resp.StatusCode)
		}
		return e.Error
	}
	return json.Unmarshal(body, into)
}
