package deploytest

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"image"
	"image/jpeg"
	"maps"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/google/uuid"

	stacktools "whatisup/local/deploy/stack"
	"whatisup/shared/bucket"
	"whatisup/shared/dynamo"
	"whatisup/shared/operator"
	"whatisup/shared/whatisup"
)

// exercise takes the system along the ways that the samples don't go, so that
// what is recorded is what the programs do in all their lives and not only on
// good days.
func exercise(t *testing.T, s *system) {
	s.t = t
	exerciseHooks(t, s)
	large := `{"name":"large","metadata":{"text":"` + strings.Repeat("x", 4000) + `"}}`

	// The API: large metadata, conditions, pages, repetition, bound keys.
	once := []string{"Idempotency-Key", "exercise-1"}
	first := s.must(201, "POST", "/v1/instances", large, once...)
	id := first.body["id"].(string)
	if s.must(201, "POST", "/v1/instances", large, once...).header.Get("Idempotency-Replayed") != "true" {
		t.Error("a repetition was carried out")
	}
	s.must(409, "POST", "/v1/instances", `{"name":"other"}`, once...)
	s.must(400, "POST", "/v1/instances", `{"name":""}`, "Idempotency-Key", "exercise-2")
	s.must(200, "GET", "/v1/instances/"+id, "")
	s.must(200, "PATCH", "/v1/instances/"+id, large, "If-Match", first.header.Get("ETag"))
	s.must(200, "PATCH", "/v1/instances/"+id, `{"metadata":{}}`)
	s.must(200, "PATCH", "/v1/instances/"+id, large)
	s.must(200, "GET", "/v1/instances?limit=1", "")
	s.must(200, "PATCH", "/v1/instances/"+id+"/settings", `{"receive":{"channels":true}}`, "If-Match", `"0"`)
	s.must(200, "PATCH", "/v1/instances/"+id+"/settings", `{"receive":null}`)
	boundKey := s.must(201, "POST", "/v1/api-keys", `{"name":"bound","instance_id":"`+id+`"}`, "Idempotency-Key", "exercise-3").body
	bound := boundKey["id"].(string)
	s.must(200, "GET", "/v1/event-log", "", "Authorization", "Bearer "+boundKey["secret"].(string))
	s.must(201, "POST", "/v1/api-keys", `{"name":"bound","instance_id":"`+id+`"}`, "Idempotency-Key", "exercise-3")
	s.must(400, "POST", "/v1/api-keys", `{"name":""}`, "Idempotency-Key", "exercise-4")

	// Pairing, with a stream open beside it, and messages.
	stop := s.stream(boundKey["secret"].(string))
	s.awaitCode("GET", "/v1/instances/"+id+"/qr", "")
	s.must(200, "GET", "/v1/instances/"+id+"/qr", "", "Accept", "image/png")
	s.must(204, "POST", "/v1/sandbox/instances/"+id+"/scan", "", "Idempotency-Key", "exercise-5")
	s.reach(id, "connected")
	for i := range 3 {
		s.must(202, "POST", "/v1/sandbox/instances/"+id+"/messages", fmt.Sprintf(`{"from":"1555010000%d","text":"hello"}`, i), "Idempotency-Key", fmt.Sprint("message-", i))
	}
	s.eventually("three messages in the log", func() bool {
		return strings.Count(s.must(200, "GET", "/v1/events?events=message.received", "").text, `"message.received"`) >= 3
	})
	stop()

	// Messages that are sent, cancelled and repeated.
	messages := "/v1/instances/" + id + "/messages"
	text := `{"to":"15550100007","body":{"type":"text","text":"hello"}`
	sent := s.must(202, "POST", messages, text+"}", "Idempotency-Key", "exercise-sent").body["message_id"].(string)
	s.must(202, "POST", messages, text+"}", "Idempotency-Key", "exercise-sent")
	s.eventually("the message is read", func() bool {
		return s.must(200, "GET", messages+"/"+sent, "").body["status"] == "read"
	})
	at := func(d time.Duration) string {
		return time.Now().Add(d).UTC().Format(`,"scheduled_at":"2006-01-02T15:04:05.000Z"}`)
	}
	far := s.must(202, "POST", messages, text+at(time.Hour)).body["message_id"].(string)
	s.must(200, "DELETE", messages+"/"+far, "")
	near := s.must(202, "POST", messages, text+at(2*time.Second)).body["message_id"].(string)
	s.eventually("the scheduled message is read", func() bool {
		return s.must(200, "GET", messages+"/"+near, "").body["status"] == "read"
	})
	s.must(200, "GET", messages+"?direction=any", "")
	s.must(200, "GET", "/v1/instances/"+id+"/chats", "")

	// What WhatsApp is asked, answers that are kept, and a change that is asked for
	// twice.
	check := `{"phone_numbers":["15550100011","15550100012"]}`
	s.must(200, "POST", "/v1/instances/"+id+"/contacts/check", check, "Idempotency-Key", "exercise-check")
	s.must(200, "POST", "/v1/instances/"+id+"/contacts/check", check)
	group := `{"subject":"exercise","participants":["15550100011"]}`
	s.must(201, "POST", "/v1/instances/"+id+"/groups", group, "Idempotency-Key", "exercise-group")
	s.must(201, "POST", "/v1/instances/"+id+"/groups", group, "Idempotency-Key", "exercise-group")
	s.must(200, "GET", "/v1/instances/"+id+"/groups", "")
	s.picture(id)

	s.files1(id)
	s.received(id)

	s.must(409, "GET", "/v1/instances/"+id+"/qr", "")
	s.must(409, "POST", "/v1/instances/"+id+"/pair-code", `{"phone_number":"15550100009"}`, "Idempotency-Key", "exercise-6")
	s.must(202, "POST", "/v1/instances/"+id+"/logout", "", "Idempotency-Key", "exercise-7")
	s.awaitCode("POST", "/v1/instances/"+id+"/pair-code", `{"phone_number":"15550100009"}`)
	s.must(200, "POST", "/v1/instances/"+id+"/pair-code", `{"phone_number":"15550100009"}`, "Idempotency-Key", "exercise-8")
	s.must(202, "POST", "/v1/instances/"+id+"/logout", "")
	s.must(202, "POST", "/v1/instances/"+id+"/connect", "", "Idempotency-Key", "exercise-9")
	s.must(409, "POST", "/v1/sandbox/instances/"+id+"/unlink", "", "Idempotency-Key", "exercise-10")

	// Commands from the queue.
	queued := s.command("create", "")
	s.eventually("the instance of the queue", func() bool {
		text := s.must(200, "GET", "/v1/events?events=instance.created", "").text
		return strings.Contains(text, queued)
	})
	second := s.create()
	s.connect(second)
	s.mayNotDestroy()
	s.command("send", second)
	s.eventually("the message of the queue", func() bool {
		return strings.Contains(s.must(200, "GET", "/v1/instances/"+second+"/messages", "").text, "queued_at")
	})
	s.commandWith("send", second, map[string]any{"reply_to": map[string]string{"message_id": "X", "from": "15550100007"}})
	s.command("disconnect", second)
	s.reach(second, "disconnected")
	s.command("connect", second)
	s.reach(second, "connected")
	s.command("logout", second)
	s.reach(second, "pending")
	s.must(201, "POST", "/v1/api-keys", `{"name":"bound","instance_id":"`+second+`"}`)
	s.command("delete", second)
	s.eventually("the queue's delete", func() bool { return s.call("GET", "/v1/instances/"+second, "").status == 404 })
	refused := s.command("connect", second)
	s.eventually("the refusal", func() bool {
		return strings.Contains(s.must(200, "GET", "/v1/events?events=command.refused", "").text, refused)
	})

	// A key made with another pepper, and the end of everything.
	s.useNewPepper()
	s.refusesAnotherPepper()
	s.must(204, "DELETE", "/v1/instances/"+id, "", "Idempotency-Key", "ignored")
	s.must(404, "DELETE", "/v1/api-keys/"+bound, "")
	s.eventually("nothing left of what was deleted", func() bool { return s.wiped(id) && s.wiped(second) })
}

// files1 gives a file by an upload, one in a message, and one by a URL that leads to
// nothing.
func (s *system) files1(id string) {
	s.t.Helper()
	picture := "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNk+A8AAQUBAScY42YAAAAASUVORK5CYII="
	s.must(202, "POST", "/v1/instances/"+id+"/messages", `{"to":"15550100007","body":{"type":"image","media_base64":"`+picture+`"}}`)
	made := s.must(201, "POST", "/v1/media", `{"size":70,"mime_type":"image/png"}`).body["media_id"].(string)
	bytes, err := base64.StdEncoding.DecodeString(picture)
	if err != nil {
		s.t.Fatal(err)
	}
	given := &whatisup.Media{ID: whatisup.MediaID(made), Mode: whatisup.Test, Customer: s.made.Customer}
	if err := s.files.Put(s.t.Context(), whatisup.ClassStaging.ObjectKey(given, ""), strings.NewReader(string(bytes))); err != nil {
		s.t.Fatal(err)
	}
	s.eventually("the upload is ready", func() bool { return s.must(200, "GET", "/v1/media/"+made, "").body["status"] == "ready" })
	sent := s.must(202, "POST", "/v1/instances/"+id+"/messages", `{"to":"15550100007","body":{"type":"image","media_id":"`+made+`"}}`).body["message_id"].(string)
	s.eventually("the picture has left or failed", func() bool {
		status := s.must(200, "GET", "/v1/instances/"+id+"/messages/"+sent, "").body["status"]
		return status != "queued"
	})
	token := strings.SplitAfter(s.must(200, "GET", "/v1/media/"+made, "").body["url"].(string), "/v1/media-files/")[1]
	s.must(200, "GET", "/v1/media-files/"+token, "") // and on to where it leads
	s.must(404, "GET", "/v1/media-files/x", "")
	fetched := s.must(201, "POST", "/v1/media", `{"source_url":"https://whatisup.invalid/file"}`, "Idempotency-Key", "exercise-source").body["media_id"].(string)
	s.eventually("the fetch has failed", func() bool { return s.must(200, "GET", "/v1/media/"+fetched, "").body["status"] == "failed" })
	s.must(204, "DELETE", "/v1/media/"+made, "")
}

// picture sets the number's picture, and shows it.
func (s *system) picture(id string) {
	s.t.Helper()
	var jpg bytes.Buffer
	if err := jpeg.Encode(&jpg, image.NewGray(image.Rect(0, 0, 64, 64)), nil); err != nil {
		s.t.Fatal(err)
	}
	made := s.must(201, "POST", "/v1/media", fmt.Sprintf(`{"size":%d,"mime_type":"image/jpeg"}`, jpg.Len())).body["media_id"].(string)
	given := &whatisup.Media{ID: whatisup.MediaID(made), Mode: whatisup.Test, Customer: s.made.Customer}
	if err := s.files.Put(s.t.Context(), whatisup.ClassStaging.ObjectKey(given, ""), bytes.NewReader(jpg.Bytes())); err != nil {
		s.t.Fatal(err)
	}
	s.eventually("the upload is ready", func() bool { return s.must(200, "GET", "/v1/media/"+made, "").body["status"] == "ready" })
	shown := s.must(200, "PATCH", "/v1/instances/"+id+"/profile", `{"picture":"`+made+`"}`)
	if shown.body["picture_state"] != "shown" {
		s.t.Errorf("the profile is %s", shown.text)
	}
}

// received takes in files: one that is fetched at once, and one when it is asked for. They
// go with the instance.
func (s *system) received(id string) {
	s.t.Helper()
	from := func(phone string) string {
		return `{"from":"` + phone + `","body":{"type":"document","filename":"a.txt","media_base64":"` + base64.StdEncoding.EncodeToString([]byte("a file")) + `"}}`
	}
	s.must(202, "POST", "/v1/sandbox/instances/"+id+"/messages", from("15550100021"))
	s.eventually("the file was fetched", func() bool {
		return strings.Contains(s.must(200, "GET", "/v1/events?events=message.media_ready", "").text, "media_ready")
	})
	s.must(200, "GET", "/v1/instances/"+id+"/messages?direction=in", "") // with its file
	s.must(200, "PATCH", "/v1/instances/"+id+"/settings", `{"media":"on_demand"}`)
	var url string
	s.eventually("the file that is fetched on demand", func() bool { // once the host knows of the setting
		s.must(202, "POST", "/v1/sandbox/instances/"+id+"/messages", from("15550100022"))
		for _, e := range s.must(200, "GET", "/v1/event-log?events=message.received&limit=1000", "").body["data"].([]any) {
			data := e.(map[string]any)["data"].(map[string]any)
			if m, ok := data["media"].(map[string]any); ok && m["status"] == "on_demand" {
				url = m["url"].(string)
			}
		}
		return url != ""
	})
	s.eventually("the file was fetched on demand", func() bool {
		return s.call("GET", "/v1/media-files/"+strings.SplitAfter(url, "/v1/media-files/")[1], "").status == 200
	})
}

// mayNotDestroy counts as `make destroy` does first, while something is linked.
func (s *system) mayNotDestroy() {
	s.t.Helper()
	n, err := stacktools.Linked(s.t.Context(), dynamodb.NewFromConfig(s.config), dynamo.Local().Instances)
	if err != nil || n != 1 {
		s.t.Errorf("with a linked instance, `make destroy` counts %d, %v", n, err)
	}
}

// stream opens the event stream and reads until something has come.
func (s *system) stream(key string) (stop func()) {
	s.t.Helper()
	ctx, cancel := context.WithCancel(s.t.Context())
	r, err := http.NewRequestWithContext(ctx, "GET", s.api+"/v1/events", nil)
	if err != nil {
		s.t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+key)
	r.Header.Set("Accept", "text/event-stream")
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		s.t.Fatal(err)
	}
	if response.StatusCode != 200 {
		s.t.Fatalf("stream: %s", response.Status)
	}
	came := make(chan struct{})
	go func() {
		defer close(came)
		for lines := bufio.NewScanner(response.Body); lines.Scan(); {
			if data, ok := strings.CutPrefix(lines.Text(), "data:"); ok && !strings.Contains(data, "stream.opened") {
				return
			}
		}
	}()
	return func() {
		s.t.Helper()
		select {
		case <-came:
		case <-time.After(30 * time.Second):
			s.t.Error("nothing came on the stream")
		}
		cancel()
		response.Body.Close()
		<-came
	}
}

// command sends a command over the integration queue and returns its id.
func (s *system) command(name, instance string) string {
	s.t.Helper()
	return s.commandWith(name, instance, nil)
}

// commandWith is command with further fields.
func (s *system) commandWith(name, instance string, more map[string]any) string {
	s.t.Helper()
	id := uuid.Must(uuid.NewV7()).String()
	body := map[string]any{"command_id": id, "command": name, "customer_id": s.made.Customer, "mode": "test"}
	if instance != "" {
		body["instance_id"] = instance
	} else {
		body["name"] = "queued"
	}
	if name == "send" {
		body["to"], body["body"] = "15550100007", map[string]string{"type": "text", "text": "from a queue"}
	}
	maps.Copy(body, more)
	text, err := json.Marshal(body)
	if err != nil {
		s.t.Fatal(err)
	}
	_, err = sqs.NewFromConfig(s.config).SendMessage(s.t.Context(), &sqs.SendMessageInput{
		QueueUrl: sdk.String(s.known["IntegrationCommands"].(string)), MessageBody: sdk.String(string(text)),
	})
	if err != nil {
		s.t.Fatal(err)
	}
	return id
}

// useNewPepper goes on with a customer's key that an earlier pepper hashed.
func (s *system) useNewPepper() {
	s.t.Helper()
	old, err := whatisup.ParsePeppers(oldPepper)
	if err != nil {
		s.t.Fatal(err)
	}
	o := s.operator(old)
	_, text, err := o.MakeKey(s.t.Context(), s.made.Customer, whatisup.Test, "old")
	if err != nil {
		s.t.Fatal(err)
	}
	s.made.TestKey = text
	s.must(200, "GET", "/v1/limits", "")
	s.must(200, "GET", "/v1/usage", "")
}

// refusesAnotherPepper starts a function with a pepper that the stored keys were
// not hashed with. It must end, which Lambda counts as an error, and not tell
// everybody that their keys are wrong.
func (s *system) refusesAnotherPepper() {
	s.t.Helper()
	cmd := exec.CommandContext(s.t.Context(), filepath.Join(s.binaries, "keys"))
	cmd.Env = []string{
		"AWS_ENDPOINT_URL=" + s.aws, "AWS_REGION=eu-central-1", "AWS_ACCESS_KEY_ID=a", "AWS_SECRET_ACCESS_KEY=b",
		"ACCESS_TABLE=" + dynamo.Local().Access, "PEPPER=2:YW5vdGhlciBwZXBwZXIgdGhhdCBpcyBsb25n",
	}
	out, err := cmd.CombinedOutput()
	if err == nil || !strings.Contains(string(out), "PEPPER: version 2: "+whatisup.ErrPepper.Error()) {
		s.t.Errorf("with another pepper a function starts: %v\n%s", err, out)
	}
}

func (s *system) operator(p whatisup.Peppers) *operator.Operator {
	o := operator.New(dynamo.New(dynamo.Config{Client: dynamodb.NewFromConfig(s.config), Tables: sandboxTables()}), p)
	o.Objects = bucket.New(bucket.Config{AWS: s.config, Name: "whatisup-media"})
	return o
}

func (s *system) wiped(id string) bool {
	s.t.Helper()
	var out strings.Builder
	return s.operator(nil).Run(s.t.Context(), []string{"wiped", string(s.made.Customer), id}, &out) == nil
}

// exerciseHooks takes webhooks along the ways that the samples don't go: an endpoint
// that fails and is tried again, a range that is replayed, a sweep.
func exerciseHooks(t *testing.T, s *system) {
	t.Helper()
	var mu sync.Mutex
	status, hits := http.StatusInternalServerError, 0
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		hits++
		w.WriteHeader(status)
	}))
	t.Cleanup(receiver.Close)
	once := []string{"Idempotency-Key", "hook-1"}
	bound := s.must(201, "POST", "/v1/instances", `{"name":"hooked"}`).body["id"].(string)
	id := s.must(201, "POST", "/v1/webhook-endpoints", `{"url":"`+receiver.URL+`/","events":["instance.*"],"instance_id":"`+bound+`"}`, once...).body["id"].(string)
	s.must(201, "POST", "/v1/webhook-endpoints", `{"url":"`+receiver.URL+`/","events":["instance.*"],"instance_id":"`+bound+`"}`, once...)
	s.must(200, "PATCH", "/v1/instances/"+bound, `{"name":"fails"}`)
	s.eventually("a delivery is retried", func() bool {
		return len(s.must(200, "GET", "/v1/webhook-deliveries?status=retrying&endpoint_id="+id, "").body["data"].([]any)) > 0
	})
	mu.Lock()
	status = http.StatusNoContent
	mu.Unlock()
	s.eventually("its second attempt succeeds", func() bool {
		return len(s.must(200, "GET", "/v1/webhook-deliveries?status=success&endpoint_id="+id, "").body["data"].([]any)) > 0
	})
	now := time.Now().UTC()
	s.must(202, "POST", "/v1/webhook-endpoints/"+id+"/replay", `{"from":"`+now.Add(-time.Hour).Format(time.RFC3339)+`","to":"`+now.Add(time.Minute).Format(time.RFC3339)+`"}`)
	s.eventually("a range is replayed", func() bool {
		for _, d := range s.must(200, "GET", "/v1/webhook-deliveries?status=success&endpoint_id="+id, "").body["data"].([]any) {
			if d.(map[string]any)["replay_of"] != nil {
				return true
			}
		}
		return false
	})
	s.rotates(id)
	response, err := s.invoke["sweep"].Invoke(t.Context(), []byte(`{"source":"aws.events"}`))
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	s.must(204, "DELETE", "/v1/instances/"+bound, "")
	s.eventually("the endpoint of a deleted instance is disabled", func() bool {
		return s.must(200, "GET", "/v1/webhook-endpoints/"+id, "").body["disabled_reason"] == "instance_deleted"
	})
	s.must(204, "DELETE", "/v1/webhook-endpoints/"+id, "")
}

// rotates gives an endpoint new secrets until a process of the function has done so
// that has not sealed the older one, and so asks KMS for its key.
func (s *system) rotates(endpoint string) {
	s.t.Helper()
	s.eventually("a secret's key is opened", func() bool {
		var calls sync.WaitGroup
		for range 4 {
			calls.Go(func() {
				if a := s.call("POST", "/v1/webhook-endpoints/"+endpoint+"/rotate-secret", ""); a.status != 200 {
					s.t.Errorf("rotate-secret: %d %s", a.status, a.text)
				}
			})
		}
		calls.Wait()
		return slices.ContainsFunc(s.recorder.of("webhooks"), func(c call) bool { return c.action == "kms:Decrypt" })
	})
}
