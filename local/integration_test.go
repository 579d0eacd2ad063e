package local_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"

	"whatisup/local/localtest"
	"whatisup/shared/whatisup"
)

// envelope is an event as an integration reads it.
type envelope struct {
	Event    string          `json:"event"`
	ID       string          `json:"event_id"`
	Instance string          `json:"instance_id"`
	Command  string          `json:"command_id"`
	Data     json.RawMessage `json:"data"`
}

// subscriber reads the event queue as an integration does.
type subscriber struct {
	t      *testing.T
	client *sqs.Client
	url    string
	seen   map[string]envelope // by event id: delivery is at least once
}

func (s *subscriber) await(what string, wanted func(envelope) bool) envelope {
	s.t.Helper()
	var found *envelope
	localtest.Await(s.t, what, func() bool {
		out, err := s.client.ReceiveMessage(s.t.Context(), &sqs.ReceiveMessageInput{
			QueueUrl: aws.String(s.url), MaxNumberOfMessages: 10, WaitTimeSeconds: 1, MessageAttributeNames: []string{"All"},
		})
		if err != nil {
			s.t.Fatal(err)
		}
		for _, m := range out.Messages {
			var e envelope
			if err := json.Unmarshal([]byte(aws.ToString(m.Body)), &e); err != nil {
				s.t.Fatal(err)
			}
			if got := aws.ToString(m.MessageAttributes["event"].StringValue); got != e.Event {
				s.t.Errorf("the attribute says %s, the body %s", got, e.Event)
			}
			s.seen[e.ID] = e
			if _, err := s.client.DeleteMessage(s.t.Context(), &sqs.DeleteMessageInput{QueueUrl: aws.String(s.url), ReceiptHandle: m.ReceiptHandle}); err != nil {
				s.t.Fatal(err)
			}
		}
		for _, e := range s.seen {
			if wanted(e) {
				found = &e
			}
		}
		return found != nil
	})
	return *found
}

// An integration that speaks only to queues: commands in, events out.
func TestIntegrationOverQueues(t *testing.T) {
	t.Parallel()
	s := localtest.Start(t, nil)
	c := localtest.NewClient(t, s.API, s.Keys[whatisup.Test])
	client := sqs.NewFromConfig(s.AWSConf)
	events := &subscriber{t: t, client: client, url: s.Env["EVENT_QUEUE_URLS"], seen: map[string]envelope{}}

	var customer struct {
		Customer string `json:"customer_id"`
	}
	c.Must(201, "POST", "/v1/instances", `{"name":"to learn the customer's id"}`, &customer)
	send := func(body string) {
		t.Helper()
		if _, err := client.SendMessage(t.Context(), &sqs.SendMessageInput{QueueUrl: aws.String(s.Env["INTEGRATION_QUEUE_URL"]), MessageBody: aws.String(body)}); err != nil {
			t.Fatal(err)
		}
	}
	command := func(name, more string) whatisup.CommandID {
		t.Helper()
		id := whatisup.NewCommandID()
		send(fmt.Sprintf(`{"command_id":%q,"command":%q,"customer_id":%q,"mode":"test"%s}`, id, name, customer.Customer, more))
		return id
	}

	create := command("create", `,"name":"from a queue","metadata":{"n":1}`)
	created := events.await("instance.created", func(e envelope) bool { return e.Event == "instance.created" && e.Command == string(create) })
	if got := c.Get(created.Instance); got.Name != "from a queue" {
		t.Errorf("made %+v", got)
	}
	command("connect", fmt.Sprintf(`,"instance_id":%q`, created.Instance))
	events.await("a code", func(e envelope) bool { return e.Event == "qr.updated" && e.Instance == created.Instance })
	c.Must(204, "POST", "/v1/sandbox/instances/"+created.Instance+"/scan", "", nil)
	events.await("connected", func(e envelope) bool { return e.Event == "instance.connected" && e.Instance == created.Instance })

	// A message that somebody writes to the number arrives as an event, once.
	c.Must(202, "POST", "/v1/sandbox/instances/"+created.Instance+"/messages", `{"from":"4915198765432","text":"hello ✓"}`, nil)
	received := events.await("message.received", func(e envelope) bool { return e.Event == "message.received" })
	var message struct {
		Text *string `json:"text"`
		From struct {
			PhoneNumber *string `json:"phone_number"`
		} `json:"from"`
	}
	if err := json.Unmarshal(received.Data, &message); err != nil || message.Text == nil || *message.Text != "hello ✓" ||
		message.From.PhoneNumber == nil || *message.From.PhoneNumber != "4915198765432" {
		t.Errorf("received %s (%v)", received.Data, err)
	}

	// A message over the queue, twice the same command: it is sent once.
	body := fmt.Sprintf(`{"command_id":"order-17","command":"send","customer_id":%q,"mode":"test","instance_id":%q,"to":"4915111111111",`+
		`"client_ref":"17","body":{"type":"text","text":"from a queue"}}`, customer.Customer, created.Instance)
	send(body)
	send(body)
	var told struct {
		ID        string `json:"message_id"`
		ClientRef string `json:"client_ref"`
		Status    string `json:"status"`
	}
	status := func(want string) func(envelope) bool {
		return func(e envelope) bool {
			return e.Event == "message.status" && e.Command == "order-17" && json.Unmarshal(e.Data, &told) == nil && told.Status == want
		}
	}
	first := events.await("the message waits", status("queued"))
	if told.ClientRef != "17" || !whatisup.MessageID(told.ID).IsOwn() {
		t.Errorf("told %s", first.Data)
	}
	events.await("the message is read", status("read"))
	if shown := shownBy(t, s.Simulator, customer.Customer, "4915111111111"); len(shown) != 1 || shown[0].ID != told.ID {
		t.Errorf("the phone shows %+v", shown)
	}
	send(strings.Replace(strings.Replace(body, "order-17", "order-18", 1), `"client_ref"`, `"expires_at":"2026-01-01T00:00:00.000Z","client_ref"`, 1))
	events.await("the refusal of what has expired", func(e envelope) bool { return e.Event == "command.refused" && e.Command == "order-18" })
	send(strings.Replace(body, `"from a queue"`, `"another"`, 1))
	events.await("the refusal of another message under the name", func(e envelope) bool {
		return e.Event == "command.refused" && e.Command == "order-17" && strings.Contains(string(e.Data), "idempotency_conflict")
	})

	// What can't be done is answered, not retried.
	refused := command("connect", fmt.Sprintf(`,"instance_id":%q`, whatisup.NewInstanceID()))
	events.await("command.refused", func(e envelope) bool { return e.Event == "command.refused" && e.Command == string(refused) })
	send("no command at all")

	command("delete", fmt.Sprintf(`,"instance_id":%q`, created.Instance))
	events.await("instance.deleted", func(e envelope) bool { return e.Event == "instance.deleted" && e.Instance == created.Instance })
	c.Must(404, "GET", "/v1/instances/"+created.Instance, "", nil)

	// The log has each of them once, also of the deleted instance.
	var log struct{ Data []envelope }
	c.Must(200, "GET", "/v1/events?instance_id="+created.Instance, "", &log)
	count := map[string]int{}
	for _, e := range log.Data {
		count[e.Event]++
	}
	for _, name := range []string{"instance.created", "instance.connected", "message.received", "instance.deleted"} {
		if count[name] != 1 {
			t.Errorf("the log has %s %d times", name, count[name])
		}
	}
}
