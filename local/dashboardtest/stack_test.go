package dashboardtest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"

	"whatisup/local"
	"whatisup/shared/dynamo"
	"whatisup/shared/operator"
	"whatisup/shared/whatisup"
)

// stack runs the whole system until the test ends.
func stack(t *testing.T) *local.Stack {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ready := make(chan *local.Stack, 1)
	ended := make(chan error, 1)
	go func() {
		ended <- local.Run(ctx, local.Config{
			DataDir: t.TempDir(), Bind: "127.0.0.1", WhatsApp: "sandbox",
			Limits: whatisup.RateLimit{Burst: 2000, PerSecond: 200},
			Log:    slog.New(slog.NewTextHandler(&testLog{t: t}, &slog.HandlerOptions{Level: slog.LevelError})),
		}, func(s *local.Stack) { ready <- s })
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("the stack ended with %v", err)
		}
	})
	select {
	case s := <-ready:
		return s
	case err := <-ended:
		ended <- nil
		t.Fatalf("the stack did not start: %v", err)
	case <-time.After(time.Minute):
		t.Fatal("the stack did not start within a minute")
	}
	return nil
}

// testLog shows what went wrong in the stack.
type testLog struct{ t *testing.T }

func (l *testLog) Write(b []byte) (int, error) {
	l.t.Logf("%s", bytes.TrimSpace(b))
	return len(b), nil
}

// customer makes one more customer and returns its test key.
func customer(t *testing.T, s *local.Stack) string {
	t.Helper()
	peppers, err := whatisup.ParsePeppers(s.Env["PEPPER"])
	if err != nil {
		t.Fatal(err)
	}
	db := dynamo.New(dynamo.Config{Client: dynamodb.NewFromConfig(s.AWSConf), Tables: dynamo.Local(), Queues: true})
	made, err := operator.New(db, peppers).MakeCustomer(t.Context(), t.Name())
	if err != nil {
		t.Fatal(err)
	}
	return made.TestKey
}

// api calls the API behind the page's back.
type api struct {
	*testing.T
	url, key string
}

func (a api) call(method, path string, body, into any) {
	a.Helper()
	if err := a.try(method, path, body, into); err != nil {
		a.Fatal(err)
	}
}

func (a api) try(method, path string, body, into any) error {
	var text bytes.Buffer
	if body != nil {
		if err := json.NewEncoder(&text).Encode(body); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, method, a.url+path, &text)
	if err != nil {
		return err
	}
	r.Header.Set("Authorization", "Bearer "+a.key)
	if body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode >= 300 {
		b, _ := io.ReadAll(answer.Body)
		return fmt.Errorf("%s %s: %d %s", method, path, answer.StatusCode, b)
	}
	if into == nil {
		return nil
	}
	return json.NewDecoder(answer.Body).Decode(into)
}

type instance struct {
	ID     string `json:"id"`
	Name   string `json:"name"`
	Status string `json:"status"`
}

func (a api) create(name string) string {
	a.Helper()
	var i instance
	a.call("POST", "/v1/instances", map[string]any{"name": name}, &i)
	return i.ID
}

func (a api) sandbox(id, call string, body any) {
	a.Helper()
	a.call("POST", "/v1/sandbox/instances/"+id+"/"+call, body, nil)
}

// link pairs an instance.
func (a api) link(id, number string) {
	a.Helper()
	a.call("GET", "/v1/instances/"+id+"/qr", nil, nil)
	a.sandbox(id, "scan", map[string]any{"phone_number": number})
	a.awaitStatus(id, "connected")
}

func (a api) awaitStatus(id, status string) {
	a.Helper()
	deadline := time.Now().Add(patience)
	for {
		var i instance
		a.call("GET", "/v1/instances/"+id, nil, &i)
		if i.Status == status {
			return
		}
		if time.Now().After(deadline) {
			a.Fatalf("%s is %s, not %s", i.Name, i.Status, status)
		}
		time.Sleep(50 * time.Millisecond)
	}
}
