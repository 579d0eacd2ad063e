package httpapi_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/sqs"

	"whatisup/shared/foreign"
	"whatisup/shared/httpapi"
	"whatisup/shared/queue"
	"whatisup/shared/seal"
	"whatisup/shared/webhook"
	"whatisup/shared/whatisup"
)

// hooks are the API's part of webhooks, over real queues that nobody takes from.
func (f *fixture) hooks(c *httpapi.Config) *webhook.Desk {
	f.t.Helper()
	ctx := f.t.Context()
	queues := sqs.NewFromConfig(f.aws.Config)
	urls := make([]string, 2)
	for i, name := range []string{"attempts.fifo", "wakes"} {
		in := &sqs.CreateQueueInput{QueueName: aws.String(name)}
		if strings.HasSuffix(name, ".fifo") {
			in.Attributes = map[string]string{"FifoQueue": "true"}
		}
		out, err := queues.CreateQueue(ctx, in)
		if err != nil {
			f.t.Fatal(err)
		}
		urls[i] = *out.QueueUrl
	}
	key, err := kms.NewFromConfig(f.aws.Config).CreateKey(ctx, &kms.CreateKeyInput{})
	if err != nil {
		f.t.Fatal(err)
	}
	guard, err := foreign.New(foreign.Config{OneMachine: true})
	if err != nil {
		f.t.Fatal(err)
	}
	sealer := webhook.NewSealer(seal.NewKeyring(kms.NewFromConfig(f.aws.Config), aws.ToString(key.KeyMetadata.KeyId)))
	return &webhook.Desk{Sealer: sealer, Guard: guard, Path: &webhook.Path{
		Store: f.db, Log: f.db, Secrets: sealer, Now: f.clock.now, Slog: c.Log, Queue: queue.NewWebhooks(queues, urls[0], urls[1]),
		Client: func(test bool) *http.Client { return guard.Client(test, 0) },
	}}
}

// hook makes an endpoint, and a delivery to it, and returns their ids.
func (f *fixture) hook(key string) (endpoint, delivery string) {
	f.t.Helper()
	made := into[struct {
		ID         string
		CustomerID whatisup.CustomerID
	}](f.t, f.want(201, "", key, "POST", "/v1/webhook-endpoints", `{"url":"http://127.0.0.1:9/hook","events":["*"]}`))
	d := &whatisup.Delivery{
		Customer: f.a.Customer, Mode: whatisup.Test, Endpoint: whatisup.EndpointID(made.ID), Event: whatisup.QRUpdated,
		EventID: whatisup.NewEventID(), Status: whatisup.DeliveryFailed, Error: "timeout", UpdatedAt: f.clock.now(), Payload: []byte(`{"event":"qr.updated"}`),
	}
	d.ID = whatisup.DeliveryIDOf(d.Endpoint, d.EventID, "", f.clock.now())
	if err := f.db.PutDelivery(f.t.Context(), d); err != nil {
		f.t.Fatal(err)
	}
	return made.ID, string(d.ID)
}

func TestWebhookEndpoints(t *testing.T) {
	t.Parallel()
	f := start(t)
	path, instance := f.create(f.a.TestKey, "bound to")
	type endpoint struct {
		ID             string
		Enabled        bool
		Status         string
		DisabledReason *string `json:"disabled_reason"`
		InstanceID     *string `json:"instance_id"`
		MaxInFlight    int     `json:"max_in_flight"`
		Secret         *string `json:"signing_secret"`
		Events         []string
	}
	made := into[endpoint](t, f.want(201, "", f.a.TestKey, "POST", "/v1/webhook-endpoints",
		fmt.Sprintf(`{"url":"https://1.1.1.1/hook","events":["message.*","qr.updated"],"instance_id":%q,"max_in_flight":16}`, instance)))
	if made.Secret == nil || !whatisup.ValidSigningSecret(*made.Secret) || *made.InstanceID != string(instance) || made.MaxInFlight != 16 || made.Status != "active" {
		t.Errorf("made %+v", made)
	}
	at := "/v1/webhook-endpoints/" + made.ID
	if got := into[endpoint](t, f.want(200, "", f.a.TestKey, "GET", at, "")); got.Secret != nil {
		t.Error("the secret is shown again")
	}
	own := "whsec_" + strings.Repeat("AAAA", 10) + "AA=="
	if given := into[endpoint](t, f.want(201, "", f.a.TestKey, "POST", "/v1/webhook-endpoints",
		fmt.Sprintf(`{"url":"https://1.1.1.1/","events":["*"],"signing_secret":%q}`, own))); *given.Secret != own {
		t.Errorf("the customer's own secret became %s", *given.Secret)
	}
	rotated := into[endpoint](t, f.want(200, "", f.a.TestKey, "POST", at+"/rotate-secret", `{"overlap_hours":1}`))
	if *rotated.Secret == *made.Secret {
		t.Error("the secret is the same after its rotation")
	}
	row, err := f.db.Endpoint(t.Context(), f.a.Customer, whatisup.Test, whatisup.EndpointID(made.ID))
	if err != nil {
		t.Fatal(err)
	}
	for after, want := range map[time.Duration]int{0: 2, time.Hour: 1} {
		secrets, err := f.desk.OpenSecrets(t.Context(), row, f.clock.now().Add(after))
		if err != nil || len(secrets) != want || string(secrets[0]) != *rotated.Secret {
			t.Errorf("%v after the rotation %d secrets sign, want %d: %v", after, len(secrets), want, err)
		}
	}
	off := into[endpoint](t, f.want(200, "", f.a.TestKey, "PATCH", at, `{"enabled":false}`))
	if off.Enabled || off.Status != "disabled" || *off.DisabledReason != "disabled_by_customer" {
		t.Errorf("disabled: %+v", off)
	}
	if on := into[endpoint](t, f.want(200, "", f.a.TestKey, "PATCH", at, `{"enabled":true,"events":["*"]}`)); !on.Enabled || len(on.Events) != 1 {
		t.Errorf("enabled: %+v", on)
	}
	// What the operator has disabled stays so.
	told, err := whatisup.DisabledEvent(row, whatisup.DisabledByOperator, f.clock.now())
	if err != nil {
		t.Fatal(err)
	}
	if err := f.db.DisableEndpoint(t.Context(), row, whatisup.DisabledByOperator, told); err != nil {
		t.Fatal(err)
	}
	f.want(400, "invalid_request", f.a.TestKey, "PATCH", at, `{"enabled":true}`)
	if still := into[endpoint](t, f.want(200, "", f.a.TestKey, "PATCH", at, `{"enabled":false,"description":"x"}`)); *still.DisabledReason != "disabled_by_operator" {
		t.Errorf("disabled by the operator: %+v", still)
	}
	// Another customer and the other mode see nothing.
	for _, key := range []string{f.a.LiveKey, f.b.TestKey} {
		f.want(404, "webhook_endpoint_not_found", key, "GET", at, "")
		f.want(404, "webhook_endpoint_not_found", key, "PATCH", at, `{}`)
		f.want(404, "webhook_endpoint_not_found", key, "DELETE", at, "")
	}
	// A live key never gets loopback.
	f.want(400, "invalid_request", f.a.LiveKey, "POST", "/v1/webhook-endpoints", `{"url":"http://127.0.0.1:9/","events":["*"]}`)
	// The one with 16 under way has four places, each other one.
	for n := 5; n < whatisup.MaxEndpoints; n++ {
		f.want(201, "", f.a.TestKey, "POST", "/v1/webhook-endpoints", `{"url":"https://1.1.1.1/","events":["*"]}`)
	}
	f.want(409, "webhook_endpoint_limit_reached", f.a.TestKey, "POST", "/v1/webhook-endpoints", `{"url":"https://1.1.1.1/","events":["*"]}`)
	f.want(204, "", f.a.TestKey, "DELETE", at, "")
	f.want(404, "webhook_endpoint_not_found", f.a.TestKey, "GET", at, "")
	f.want(201, "", f.a.TestKey, "POST", "/v1/webhook-endpoints", `{"url":"https://1.1.1.1/","events":["*"]}`)
	f.want(409, "webhook_endpoint_limit_reached", f.a.TestKey, "POST", "/v1/webhook-endpoints", `{"url":"https://1.1.1.1/","events":["*"],"max_in_flight":13}`)
	f.want(201, "", f.a.TestKey, "POST", "/v1/webhook-endpoints", `{"url":"https://1.1.1.1/","events":["*"],"max_in_flight":12}`)
	f.want(409, "webhook_endpoint_limit_reached", f.a.TestKey, "POST", "/v1/webhook-endpoints", `{"url":"https://1.1.1.1/","events":["*"],"max_in_flight":1}`)
	f.want(204, "", f.a.TestKey, "DELETE", path, "")
	f.want(404, "instance_not_found", f.a.TestKey, "POST", "/v1/webhook-endpoints",
		fmt.Sprintf(`{"url":"https://1.1.1.1/","events":["*"],"instance_id":%q}`, instance))
}

func TestWebhookDeliveries(t *testing.T) {
	t.Parallel()
	f := start(t)
	endpoint, id := f.hook(f.a.TestKey)
	type list struct {
		Data []struct {
			ID, Status string
			ReplayOf   *string `json:"replay_of"`
		}
	}
	for query, want := range map[string]int{
		"": 1, "?status=failed": 1, "?status=success": 0, "?events=qr.updated": 1, "?events=message.received": 0,
		"?endpoint_id=" + endpoint: 1, "?endpoint_id=" + id: 0, "?instance_id=" + id: 0,
	} {
		if got := into[list](t, f.want(200, "", f.a.TestKey, "GET", "/v1/webhook-deliveries"+query, "")); len(got.Data) != want {
			t.Errorf("%s lists %d, want %d", query, len(got.Data), want)
		}
	}
	for _, key := range []string{f.a.LiveKey, f.b.TestKey} {
		f.want(404, "webhook_delivery_not_found", key, "GET", "/v1/webhook-deliveries/"+id, "")
	}
	f.want(202, "", f.a.TestKey, "POST", "/v1/webhook-deliveries/"+id+"/replay", "")
	got := into[list](t, f.want(200, "", f.a.TestKey, "GET", "/v1/webhook-deliveries", ""))
	if len(got.Data) != 2 || got.Data[0].ReplayOf == nil || *got.Data[0].ReplayOf != id || got.Data[0].Status != "pending" {
		t.Errorf("after the replay: %+v", got.Data)
	}
	f.want(202, "", f.a.TestKey, "POST", "/v1/webhook-endpoints/"+endpoint+"/replay",
		fmt.Sprintf(`{"from":%q,"to":%q}`, whatisup.At(f.clock.now().Add(-time.Hour)), whatisup.At(f.clock.now())))
}
