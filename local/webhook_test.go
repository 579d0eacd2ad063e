package local_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"whatisup/local/localtest"
	"whatisup/shared/whatisup"
)

// receiver is a customer's program that takes webhooks.
type receiver struct {
	*httptest.Server
	mu   sync.Mutex
	got  []received
	seen chan struct{}
	// answer is what it does with each request; nil: 204.
	answer func(http.ResponseWriter, *http.Request)
}

type received struct {
	header http.Header
	body   []byte
	event  whatisup.Event
}

func receive(t *testing.T) *receiver {
	t.Helper()
	r := &receiver{seen: make(chan struct{}, 1000)}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		one := received{header: req.Header.Clone()}
		one.body, _ = io.ReadAll(req.Body)
		if err := json.Unmarshal(one.body, &one.event); err != nil {
			t.Errorf("a webhook that is no event: %v: %s", err, one.body)
		}
		r.mu.Lock()
		r.got = append(r.got, one)
		answer := r.answer
		r.mu.Unlock()
		r.seen <- struct{}{}
		if answer != nil {
			answer(w, req)
			return
		}
		w.WriteHeader(http.StatusNoContent)
	}))
	t.Cleanup(r.Close)
	return r
}

// names are the events received so far, in order.
func (r *receiver) names() (all []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, one := range r.got {
		all = append(all, string(one.event.Name))
	}
	return all
}

func (r *receiver) await(t *testing.T, name whatisup.EventName) received {
	t.Helper()
	for {
		r.mu.Lock()
		for _, one := range r.got {
			if one.event.Name == name {
				r.mu.Unlock()
				return one
			}
		}
		r.mu.Unlock()
		select {
		case <-r.seen:
		case <-t.Context().Done():
			t.Fatalf("no %s; received %v", name, r.names())
		}
	}
}

// TestWebhook follows a message from a simulated phone to the request at a customer's
// own program, and looks at it from the customer's side.
func TestWebhook(t *testing.T) {
	t.Parallel()
	s := localtest.Start(t, nil)
	c := localtest.NewClient(t, s.API, s.Keys[whatisup.Test])
	r := receive(t)

	var made struct {
		ID     string `json:"id"`
		Secret string `json:"signing_secret"`
		Status string `json:"status"`
	}
	c.Must(201, "POST", "/v1/webhook-endpoints", fmt.Sprintf(`{"url":%q,"events":["*"]}`, r.URL+"/hook"), &made)
	if made.Status != "active" || !whatisup.ValidSigningSecret(made.Secret) {
		t.Fatalf("made %+v", made)
	}
	var instance struct {
		ID string `json:"id"`
	}
	c.Must(201, "POST", "/v1/instances", `{"name":"phone"}`, &instance)
	first := r.await(t, whatisup.InstanceCreated)
	if string(first.event.Instance) != instance.ID {
		t.Errorf("instance.created of %s", first.event.Instance)
	}
	stamp := first.header.Get("Webhook-Timestamp")
	if want := fmt.Sprintf("t=%s,v1=", stamp); !strings.HasPrefix(first.header.Get("X-WhatIsUp-Signature"), want) {
		t.Errorf("signature %q", first.header.Get("X-WhatIsUp-Signature"))
	}
	var unix int64
	fmt.Sscan(stamp, &unix)
	secrets := []whatisup.Secret{whatisup.Secret(made.Secret)}
	if first.header.Get("X-WhatIsUp-Signature") != whatisup.Sign(secrets, unix, first.body) ||
		first.header.Get("Webhook-Signature") != whatisup.SignStandard(secrets, string(first.event.ID), unix, first.body) ||
		first.header.Get("Webhook-Id") != string(first.event.ID) {
		t.Errorf("headers %v", first.header)
	}

	c.Must(200, "GET", "/v1/instances/"+instance.ID+"/qr", "", nil)
	c.Must(204, "POST", "/v1/sandbox/instances/"+instance.ID+"/scan", "", nil)
	r.await(t, whatisup.InstanceConnected)
	c.Must(202, "POST", "/v1/sandbox/instances/"+instance.ID+"/messages", `{"from":"15550101234","text":"hello"}`, nil)
	message := r.await(t, whatisup.MessageReceived)
	if !strings.Contains(string(message.body), `"hello"`) {
		t.Errorf("message %s", message.body)
	}

	var list struct {
		Data []struct {
			ID           string `json:"id"`
			Event        string `json:"event"`
			Status       string `json:"status"`
			AttemptCount int    `json:"attempt_count"`
		} `json:"data"`
	}
	localtest.Await(t, "the row of the message's delivery", func() bool {
		c.Must(200, "GET", "/v1/webhook-deliveries?events=message.received", "", &list)
		return len(list.Data) == 1 && list.Data[0].Status == "success"
	})
	_, figures := get(t, s.Health+"/metrics")
	for _, want := range []string{`whatisup_received_messages_total{mode="test"} 1`, `whatisup_deliveries_total{mode="test",outcome="delivered"} `, `whatisup_deliveries_total{mode="live",outcome="delivered"} 0`} {
		if !strings.Contains(string(figures), want) || strings.Contains(string(figures), `{mode="test",outcome="delivered"} 0`) {
			t.Errorf("the metrics lack %s", want)
		}
	}
	id := message.header.Get("X-WhatIsUp-Delivery-Id")
	if list.Data[0].ID != id || list.Data[0].AttemptCount != 1 {
		t.Errorf("delivery %+v, the header says %s", list.Data[0], id)
	}
	var one struct {
		Payload json.RawMessage `json:"payload"`
	}
	c.Must(200, "GET", "/v1/webhook-deliveries/"+id, "", &one)
	if string(one.Payload) != string(message.body) {
		t.Errorf("payload %s", one.Payload)
	}

	var test struct {
		Status *int    `json:"status"`
		Error  *string `json:"error"`
	}
	c.Must(200, "POST", "/v1/webhook-endpoints/"+made.ID+"/test", "", &test)
	if test.Status == nil || *test.Status != 204 || test.Error != nil {
		t.Errorf("test: %+v", test)
	}
	var again struct {
		ID       string `json:"id"`
		ReplayOf string `json:"replay_of"`
	}
	c.Must(202, "POST", "/v1/webhook-deliveries/"+id+"/replay", "", &again)
	if again.ReplayOf != id {
		t.Errorf("replay %+v", again)
	}
	localtest.Await(t, "the replayed message", func() bool {
		n := 0
		for _, name := range r.names() {
			if name == string(whatisup.MessageReceived) {
				n++
			}
		}
		return n == 2
	})
	c.Must(204, "DELETE", "/v1/webhook-endpoints/"+made.ID, "", nil)
	c.Must(404, "GET", "/v1/webhook-endpoints/"+made.ID, "", nil)
}
