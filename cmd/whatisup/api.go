package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"whatisup/local/deploy/stack"
)

// api is the API as a customer's program calls it.
type api struct{ base, key string } // base ends in /v1

// api is that of API, with the key of KEY or of the file KEY_FILE; without API it is the
// running stack's, with one of its keys: live where the stack serves live keys and
// preferLive says so.
func (p program) api(preferLive bool) (api, error) {
	a := api{base: strings.TrimRight(p.getenv("API"), "/") + "/v1", key: p.getenv("KEY")}
	if path := p.getenv("KEY_FILE"); path != "" { // stands in no list of processes
		key, err := os.ReadFile(path)
		if err != nil {
			return a, fmt.Errorf("KEY_FILE: %w", err)
		}
		a.key = strings.TrimSpace(string(key))
	}
	if p.getenv("API") != "" {
		return a, nil
	}
	dir := cmp.Or(p.getenv("DATA_DIR"), ".data")
	env, err := stack.Local(dir)
	if err != nil {
		return a, err
	}
	a.base = strings.TrimSuffix(env["EVENTS_URL"], "/events")
	if a.key == "" {
		file := "test.key"
		if preferLive && strings.HasPrefix(env["WHATSAPP"], "live") {
			file = "live.key"
		}
		key, err := os.ReadFile(filepath.Join(dir, file))
		if err != nil {
			return a, err
		}
		a.key = strings.TrimSpace(string(key))
	}
	return a, nil
}

// refusal is the API's own error.
type refusal struct {
	Code    string          `json:"code"`
	Message string          `json:"message"`
	Details json.RawMessage `json:"details"`
}

func (r *refusal) Error() string { return r.Message + " (" + r.Code + ")" }

func (a api) get(ctx context.Context, path string, into any) error {
	return a.call(ctx, http.MethodGet, path, nil, into)
}

// call makes one call; in may be nil, and into too. Headers are names and values in turn.
func (a api) call(ctx context.Context, method, path string, in, into any, headers ...string) error {
	var body []byte
	if in != nil {
		var err error
		if body, err = json.Marshal(in); err != nil {
			return err
		}
	}
	r, err := http.NewRequestWithContext(ctx, method, a.base+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	r.Header.Set("Authorization", "Bearer "+a.key)
	if in != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, 8<<20))
	if err != nil {
		return err
	}
	if resp.StatusCode > 299 {
		var e struct {
			Error *refusal `json:"error"`
		}
		if json.Unmarshal(answer, &e) != nil || e.Error == nil {
			return fmt.Errorf("HTTP %d", resp.StatusCode)
		}
		return e.Error
	}
	if into == nil || len(answer) == 0 {
		return nil
	}
	return json.Unmarshal(answer, into)
}
