package whatisup

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// stack returns a client of a running stack: the test of the repository's own module
// starts one and names it. Its key is a test key.
func stack(t *testing.T) *Client {
	t.Helper()
	c := &Client{URL: os.Getenv("WHATISUP_URL"), Key: os.Getenv("WHATISUP_KEY")}
	if c.URL == "" {
		t.Skip("needs a running stack in WHATISUP_URL, and a test key in WHATISUP_KEY")
	}
	return c
}

func pair(t *testing.T, c *Client) Instance {
	t.Helper()
	i, err := c.CreateInstance(t.Context(), "support line", map[string]string{"team": "blue"})
	if err != nil {
		t.Fatal(err)
	}
	code, err := c.WaitQR(t.Context(), i.ID)
	if err != nil || !strings.HasPrefix(code.Picture, "data:image/png;base64,") || code.Raw == "" {
		t.Fatalf("%v: %+v", err, code)
	}
	if err := c.Scan(t.Context(), i.ID); err != nil {
		t.Fatal(err)
	}
	if i, err = c.WaitStatus(t.Context(), i.ID, "connected"); err != nil || i.PhoneNumber == nil {
		t.Fatalf("%v: %+v", err, i)
	}
	return i
}

func TestMainJob(t *testing.T) {
	t.Parallel()
	c := stack(t)
	i := pair(t, c)
	m, err := c.SendText(t.Context(), i.ID, "+55 11 98765-4321", "Hello!")
	if err != nil {
		t.Fatal(err)
	}
	if m, err = c.WaitMessage(t.Context(), i.ID, m.ID, "read"); err != nil || m.Status != "read" {
		t.Fatalf("%v: %+v", err, m)
	}

	first, err := c.Send(t.Context(), i.ID, SendMessage{To: "5511987654321", Body: map[string]string{"type": "text", "text": "once"}, IdempotencyKey: "order-17"})
	if err != nil {
		t.Fatal(err)
	}
	again, err := c.Send(t.Context(), i.ID, SendMessage{To: "5511987654321", Body: map[string]string{"type": "text", "text": "once"}, IdempotencyKey: "order-17"})
	if err != nil || again.ID != first.ID {
		t.Errorf("%v: one key, two messages: %s and %s", err, first.ID, again.ID)
	}
	n := 0
	for m, err := range c.Messages(t.Context(), i.ID, nil) {
		if err != nil {
			t.Fatal(err)
		}
		n++
		if n == 1 && m.ID != first.ID {
			t.Errorf("the newest is %s", m.ID)
		}
	}
	if n != 2 {
		t.Errorf("%d messages", n)
	}

	if err := c.DeleteInstance(t.Context(), i.ID); err != nil {
		t.Fatal(err)
	}
	_, err = c.Instance(t.Context(), i.ID)
	if Code(err) != "instance_not_found" {
		t.Errorf("a deleted instance: %v", err)
	}
	for other, err := range c.Instances(t.Context(), nil) {
		if err != nil || other.ID == i.ID {
			t.Errorf("%v: listed %s", err, other.ID)
		}
	}
}

func TestUpload(t *testing.T) {
	t.Parallel()
	c := stack(t)
	i := pair(t, c)
	text := []byte("%PDF-1.4 a document\n%%EOF\n")
	file, err := c.Upload(t.Context(), bytes.NewReader(text), int64(len(text)), "application/pdf", "invoice.pdf")
	if err != nil || file.Status != "ready" {
		t.Fatalf("%v: %+v", err, file)
	}
	answer, err := http.Get(file.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	if b, err := io.ReadAll(answer.Body); err != nil || !bytes.Equal(b, text) {
		t.Errorf("%v: the file is %q", err, b)
	}
	m, err := c.Send(t.Context(), i.ID, SendMessage{To: "5511987654321", Body: map[string]string{"type": "document", "media_id": file.ID}})
	if err != nil {
		t.Fatal(err)
	}
	if m, err = c.WaitMessage(t.Context(), i.ID, m.ID, "delivered"); err != nil {
		t.Errorf("%v: %+v", err, m)
	}
}

// A bot: it answers what people write.
func TestBot(t *testing.T) {
	t.Parallel()
	c := stack(t)
	i := pair(t, c)
	ctx, stop := context.WithTimeout(t.Context(), time.Minute)
	defer stop()
	said := func(text string) {
		t.Helper()
		err := c.Do(ctx, "POST", "/v1/sandbox/instances/"+i.ID+"/messages", map[string]string{"from": "15550101234", "text": text}, nil)
		if err != nil {
			t.Fatal(err)
		}
	}
	var position string
	for e, err := range c.Events(ctx, Events{Instance: i.ID, Names: []string{"message.received"}}) {
		if err != nil {
			t.Fatal(err)
		}
		if e.Name == "stream.opened" {
			said("ping")
			continue
		}
		var m struct{ Chat, Text string }
		if err := json.Unmarshal(e.Data, &m); err != nil {
			t.Fatal(err)
		}
		answer, err := c.Send(ctx, i.ID, SendMessage{To: m.Chat, Body: map[string]string{"type": "text", "text": "you said " + m.Text}, IdempotencyKey: e.ID})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.WaitMessage(ctx, i.ID, answer.ID, "delivered"); err != nil {
			t.Error(err)
		}
		position = e.Position
		break
	}

	// What happens while nobody listens is there after the position.
	said("still there?")
	for e, err := range c.Events(ctx, Events{Instance: i.ID, Names: []string{"message.received"}, After: position}) {
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(e.Data), "still there?") {
			return
		}
	}
	t.Error("the stream ended")
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	c := stack(t)
	_, err := c.CreateInstance(t.Context(), "", nil)
	if e, ok := err.(*Error); !ok || e.Status != 400 || e.Code != "invalid_request" || e.RequestID == "" || !strings.Contains(string(e.Details), "name") {
		t.Errorf("%v", err)
	}
	for _, err := range (&Client{URL: c.URL, Key: "wiu_test_x"}).Events(t.Context(), Events{}) {
		if e, ok := err.(*Error); !ok || e.Status != 401 {
			t.Errorf("a stream with a wrong key: %v", err)
		}
	}
}

// A POST whose answer was lost, or that was refused for a moment, is sent again under
// the same key; what the API has decided is not.
func TestRepeats(t *testing.T) {
	t.Parallel()
	for _, x := range []struct {
		status, want int
		body         string
	}{
		{0, 3, ""},
		{502, 3, ""},
		{503, 3, `{"error":{"code":"unavailable"}}`},
		{409, 3, `{"error":{"code":"idempotency_in_progress"}}`},
		{503, 1, `{"error":{"code":"outcome_unknown"}}`},
		{409, 1, `{"error":{"code":"not_connected"}}`},
		{400, 1, `{"error":{"code":"invalid_request"}}`},
	} {
		var calls atomic.Int32
		var key atomic.Value
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if old := key.Swap(r.Header.Get("Idempotency-Key")); old != nil && old != r.Header.Get("Idempotency-Key") || r.Header.Get("Idempotency-Key") == "" {
				t.Errorf("the keys are %q and %q", old, r.Header.Get("Idempotency-Key"))
			}
			if calls.Add(1) == 3 {
				w.WriteHeader(http.StatusNoContent)
				return
			}
			if x.status == 0 {
				panic(http.ErrAbortHandler)
			}
			w.WriteHeader(x.status)
			io.WriteString(w, x.body)
		}))
		c := &Client{URL: s.URL}
		err := c.Do(t.Context(), "POST", "/v1/x", nil, nil)
		if int(calls.Load()) != x.want || (x.want == 3) != (err == nil) {
			t.Errorf("%d %s: %d calls, %v", x.status, x.body, calls.Load(), err)
		}
		s.Close()
	}
}

// The published vectors of signatures.
func TestWebhook(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../shared/whatisup/testdata/webhook-signatures.json")
	if err != nil {
		t.Fatal(err)
	}
	var vectors []struct {
		Secret, Body string
		Timestamp    int64
		Signature    string `json:"x-whatisup-signature"`
	}
	if err := json.Unmarshal(text, &vectors); err != nil || len(vectors) == 0 {
		t.Fatalf("%v: %d vectors", err, len(vectors))
	}
	for _, v := range vectors {
		now := time.Unix(v.Timestamp, 0)
		header := http.Header{"X-Whatisup-Signature": {v.Signature + ",v1=of-another-secret"}}
		if _, err := webhookAt(now.Add(tolerance), v.Secret, header, []byte(v.Body)); err != nil {
			t.Errorf("%s: %v", v.Signature, err)
		}
		for what, err := range map[string]error{
			"another body":   second(webhookAt(now, v.Secret, header, []byte(v.Body+" "))),
			"another secret": second(webhookAt(now, v.Secret+"x", header, []byte(v.Body))),
			"late":           second(webhookAt(now.Add(tolerance+time.Second), v.Secret, header, []byte(v.Body))),
			"no signature":   second(webhookAt(now, v.Secret, http.Header{}, []byte(v.Body))),
		} {
			if err != ErrSignature {
				t.Errorf("%s: %v", what, err)
			}
		}
	}
}

func second(_ Event, err error) error { return err }
