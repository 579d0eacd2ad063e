package deploytest

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/events"

	"whatisup/local/gateway/sample"
	"whatisup/shared/dynamo"
)

// TestSystem runs the deployed programs on every sample event, with everything
// they do to AWS recorded, and compares that with what they are allowed.
func TestSystem(t *testing.T) {
	if testing.Short() {
		t.Skip("builds and runs all programs")
	}
	s := start(t)
	stop := s.startHost()
	t.Run("samples", func(t *testing.T) { trySamples(t, s) })
	t.Run("exercise", func(t *testing.T) { exercise(t, s) })
	t.Run("invoke", func(t *testing.T) { tryInvoke(t, s) })
	stop()
	s.t = t
	t.Run("empty root", func(t *testing.T) { tryEmptyRoot(t, filepath.Join(s.binaries, "sessionhost")) })
	t.Run("permissions", func(t *testing.T) { checkPermissions(t, s) })
	for _, odd := range s.recorder.odd {
		t.Errorf("not understood: %s", odd)
	}
}

// trySamples sends each sample event to its function's real binary, filled as
// `make invoke` fills it, in an order in which all of them succeed.
func trySamples(t *testing.T, s *system) {
	s.t = t
	all := samples(t)
	customer := string(s.made.Customer)
	id := s.create()
	spare := s.must(201, "POST", "/v1/api-keys", `{"name":"spare"}`).body["id"].(string)
	stack := sample.Stack{Key: s.made.TestKey, CustomerID: customer, InstanceID: id, KeyID: spare}
	functionOf := make(map[string]string)
	for _, f := range functions(t, s.template) {
		for _, r := range f.Routes {
			functionOf[r.Key()] = f.Name
		}
	}
	send := func(name string) string {
		t.Helper()
		text, ok := all[name]
		if !ok {
			t.Fatalf("no sample %s, or sent twice", name)
		}
		delete(all, name)
		stack.Now = time.Now()
		filled, err := sample.Fill(text, stack)
		if err != nil {
			t.Fatal(err)
		}
		return s.send(t, functionOf, name, filled)
	}
	expect := func(name string, status int) string {
		t.Helper()
		answer := send(name)
		var a events.APIGatewayV2HTTPResponse
		if err := json.Unmarshal([]byte(answer), &a); err != nil {
			t.Fatalf("%s: %v: %s", name, err, answer)
		}
		if a.StatusCode != status {
			t.Fatalf("%s: %d %s, want %d", name, a.StatusCode, a.Body, status)
		}
		return a.Body
	}

	expect("root", 200)
	expect("openapi", 200)
	expect("docs", 200)
	expect("default", 404)
	expect("create-instance", 201)
	expect("list-instances", 200)
	expect("get-instance", 200)
	expect("update-instance", 200)
	expect("get-settings", 200)
	expect("update-settings", 200)
	expect("instance-status", 200)
	expect("create-api-key", 201)
	expect("list-api-keys", 200)
	expect("revoke-api-key", 204)
	expect("limits", 200)
	expect("usage", 200)

	s.awaitCode("GET", "/v1/instances/"+id+"/qr", "")
	expect("qr", 200)
	expect("qr-png", 200)
	expect("sandbox-scan", 204)
	s.reach(id, "connected")
	expect("sandbox-message", 202)
	expect("sandbox-phones", 200)
	expect("sandbox-phone", 200)
	expect("sandbox-set-phone", 200)
	expect("sandbox-phone-messages", 200)
	expect("sandbox-act", 200)
	expect("send-message", 202)
	expect("list-messages", 200)
	expect("list-chats", 200)
	expect("get-message", 404) // of no message: its id is WhatsApp's, and not known beforehand
	expect("cancel-message", 404)
	expect("check-contacts", 200)
	expect("list-contacts", 200)
	expect("get-contact", 200)
	expect("subscribe-presence", 204)
	expect("get-profile", 200)
	expect("update-profile", 200)
	expect("block-contact", 204)
	expect("list-blocks", 200)
	expect("unblock-contact", 204)
	expect("create-group", 201)
	expect("list-groups", 200)
	for _, name := range []string{"get-group", "update-group", "leave-group", "change-participants", "get-group-invite", "renew-group-invite", "join-group"} {
		expect(name, 404) // ids and links of groups are WhatsApp's, too
	}
	expect("read-chat", 204)
	expect("set-chat-presence", 204)
	expect("set-presence", 422) // the simulated phone has told no name, and WhatsApp shows nobody without one
	expect("sandbox-fault", 204)
	s.reach(id, "connected")
	expect("disconnect", 202)
	s.reach(id, "disconnected")
	expect("connect", 202)
	s.reach(id, "connected")
	expect("sandbox-unlink", 204)
	s.reach(id, "disconnected")

	s.awaitCode("POST", "/v1/instances/"+id+"/pair-code", `{"phone_number":"+15550100001"}`)
	var paired struct{ Code string }
	if err := json.Unmarshal([]byte(expect("pair-code", 200)), &paired); err != nil {
		t.Fatal(err)
	}
	stack.Code = paired.Code
	expect("sandbox-enter-code", 204)
	s.reach(id, "connected")
	expect("logout", 202)
	expect("list-events", 200)
	expect("event-log", 200)
	unstreamed(t, s, stack, all["stream-events"])
	if got := send("stream-events"); !strings.Contains(got, `"statusCode":200`) || !strings.Contains(got, "text/event-stream") {
		t.Errorf("stream-events: %s", got)
	}
	if got := strings.TrimSpace(send("integration-command")); got != `{"batchItemFailures":null}` && got != `{"batchItemFailures":[]}` {
		t.Errorf("integration-command: %s", got)
	}
	expect("create-media", 201)
	expect("get-media", 404) // ids of files are not known beforehand
	expect("delete-media", 404)
	expect("media-file", 404)
	if got := strings.TrimSpace(send("fetch-media")); got != `{"batchItemFailures":null}` && got != `{"batchItemFailures":[]}` {
		t.Errorf("fetch-media: %s", got)
	}
	trySampleHooks(t, s, &stack, expect, send)
	expect("delete-instance", 204)
	for name := range all {
		t.Errorf("the sample %s was not sent", name)
	}
}

// trySampleHooks sends the samples of webhooks, with an endpoint and a delivery that
// there are.
func trySampleHooks(t *testing.T, s *system, stack *sample.Stack, expect func(string, int) string, send func(string) string) {
	t.Helper()
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }))
	t.Cleanup(receiver.Close)
	var made struct{ ID string }
	if err := json.Unmarshal([]byte(expect("create-webhook-endpoint", 201)), &made); err != nil {
		t.Fatal(err)
	}
	s.must(204, "DELETE", "/v1/webhook-endpoints/"+made.ID, "")
	stack.EndpointID = s.must(201, "POST", "/v1/webhook-endpoints", `{"url":"`+receiver.URL+`/","events":["*"]}`).body["id"].(string)
	s.must(200, "PATCH", "/v1/instances/"+stack.InstanceID, `{"name":"told by a webhook"}`)
	s.eventually("a delivery that succeeded", func() bool {
		list := s.must(200, "GET", "/v1/webhook-deliveries?status=success", "").body["data"].([]any)
		if len(list) > 0 {
			stack.DeliveryID = list[0].(map[string]any)["id"].(string)
		}
		return len(list) > 0
	})
	expect("list-webhook-endpoints", 200)
	expect("get-webhook-endpoint", 200)
	expect("rotate-webhook-secret", 200)
	expect("test-webhook-endpoint", 200)
	expect("replay-webhooks", 400) // its times are long past
	expect("list-webhook-deliveries", 200)
	expect("get-webhook-delivery", 200)
	expect("replay-webhook-delivery", 202)
	for _, name := range []string{"fanout-event", "deliver-attempt", "sweep-dead"} {
		if got := strings.TrimSpace(send(name)); got != `{"batchItemFailures":[]}` {
			t.Errorf("%s: %s", name, got)
		}
	}
	expect("update-webhook-endpoint", 200)
	expect("delete-webhook-endpoint", 204)
}

// unstreamed asks the log's function for the stream. It can't stream, and must not
// be held by somebody who has mistaken the address.
func unstreamed(t *testing.T, s *system, stack sample.Stack, text []byte) {
	t.Helper()
	stack.Now = time.Now()
	event, err := sample.Fill(text, stack)
	if err != nil {
		t.Fatal(err)
	}
	response, err := s.invoke["events"].Invoke(t.Context(), event)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	var a events.APIGatewayV2HTTPResponse
	if err := json.NewDecoder(response.Body).Decode(&a); err != nil || a.StatusCode != 200 || !strings.Contains(a.Body, "retry:") {
		t.Errorf("the log's function, asked for the stream: %v, %d %s", err, a.StatusCode, a.Body)
	}
	if took := time.Since(stack.Now); took > 4*time.Second {
		t.Errorf("it held the log's function for %v", took)
	}
}

// send puts an event through the function it is for. Of a stream it returns the
// beginning.
func (s *system) send(t *testing.T, functionOf map[string]string, name string, event []byte) string {
	t.Helper()
	kind, err := sample.KindOf(event)
	if err != nil {
		t.Fatal(err)
	}
	function := ""
	if kind == sample.Queued {
		var e events.SQSEvent
		if err := json.Unmarshal(event, &e); err != nil {
			t.Fatal(err)
		}
		_, queue, _ := strings.Cut(e.Records[0].EventSourceARN, stack+"-")
		function, _, _ = strings.Cut(queue, "-")
	} else if kind == sample.URL {
		function = "stream"
	} else if kind == sample.HTTP {
		var e events.APIGatewayV2HTTPRequest
		if err := json.Unmarshal(event, &e); err != nil {
			t.Fatal(err)
		}
		function = functionOf[e.RouteKey]
	}
	response, err := s.invoke[function].Invoke(t.Context(), event)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	defer response.Body.Close()
	var text strings.Builder
	buffer := make([]byte, 4096)
	for {
		n, err := response.Body.Read(buffer)
		text.Write(buffer[:n])
		if err != nil || kind == sample.URL && strings.Contains(text.String(), strings.Repeat("\x00", 8)) {
			return text.String()
		}
	}
}

// tryInvoke runs the commands behind `make invoke` and `make events`, with what
// `make run` would have left in its data directory.
func tryInvoke(t *testing.T, s *system) {
	s.t = t
	dir := t.TempDir()
	env := map[string]string{
		"EVENTS_URL": s.api + "/v1/events", "AWS_ENDPOINT_URL": s.aws, "PEPPER": oldPepper + "," + pepper,
		"AWS_REGION": "eu-central-1", "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b",
		"ACCESS_TABLE": dynamo.Local().Access, "INSTANCES_TABLE": dynamo.Local().Instances,
	}
	text, err := json.Marshal(env)
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{"env.json": string(text), "test.key": s.made.TestKey + "\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	run := func(args ...string) string {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), filepath.Join(s.binaries, "invoke"), args...)
		cmd.Dir = root
		cmd.Env = append(os.Environ(), "DATA_DIR="+dir)
		var diagnosis strings.Builder
		cmd.Stderr = &diagnosis
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%v: %v\n%s", args, err, &diagnosis)
		}
		return string(out)
	}
	var answer events.APIGatewayV2HTTPResponse
	if err := json.Unmarshal([]byte(run("-event", "limits")), &answer); err != nil {
		t.Fatal(err)
	}
	if answer.StatusCode != 200 || !strings.Contains(answer.Body, "per_customer") {
		t.Errorf("invoke: %d %s", answer.StatusCode, answer.Body)
	}
	listed := run()
	for name := range samples(t) {
		if !strings.Contains(listed, "  "+name+" ") {
			t.Errorf("the list of samples lacks %s: %s", name, listed)
		}
	}
	filled := filepath.Join(dir, "events")
	run("-fill", filled)
	for name := range samples(t) {
		text, err := os.ReadFile(filepath.Join(filled, name+".json"))
		if err != nil {
			t.Error(err)
		} else if kind, err := sample.KindOf(text); err != nil || kind != sample.Queued && !strings.Contains(string(text), s.made.TestKey) {
			t.Errorf("%s is not filled", name)
		}
	}
	var forSAM struct{ Parameters map[string]string }
	text, err = os.ReadFile(filepath.Join(filled, "env.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &forSAM); err != nil || forSAM.Parameters["PEPPER"] != env["PEPPER"] {
		t.Errorf("env.json: %v, %v", forSAM, err)
	}
}
