package queue_test

import (
	"context"
	"encoding/json"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"

	"whatisup/local/aws/awstest"
	"whatisup/shared/queue"
	"whatisup/shared/whatisup"
)

const customer = whatisup.CustomerID("0197f0a0-1234-7abc-8def-0123456789ab")

func setUp(t *testing.T) (*sqs.Client, queue.URLs, *queue.Commands) {
	t.Helper()
	client := sqs.NewFromConfig(awstest.Start(t).Config)
	urls, err := queue.Local().Create(t.Context(), client, 2)
	if err != nil {
		t.Fatal(err)
	}
	again, err := queue.Local().Create(t.Context(), client, 2)
	if err != nil || again != urls {
		t.Fatalf("creating again: %v, %v", again, err)
	}
	return client, urls, queue.NewCommands(client, urls.CommandPrefix)
}

func command(kind whatisup.CommandKind, id whatisup.InstanceID) whatisup.Command {
	return whatisup.Command{
		ID: whatisup.NewCommandID(), Kind: kind, Customer: customer, Mode: whatisup.Test, Instance: id,
		RequestID: whatisup.NewRequestID(), SentAt: whatisup.At(time.Now()), Args: json.RawMessage(`{"from":"491"}`),
	}
}

func poll(t *testing.T, c *queue.Commands, s whatisup.Shard) []queue.Message {
	t.Helper()
	got, err := c.Poll(t.Context(), whatisup.Test, s, time.Second)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func TestCommandsArriveAsTheyWereSent(t *testing.T) {
	t.Parallel()
	_, _, c := setUp(t)
	sent := command(whatisup.SandboxMessage, whatisup.NewInstanceID())
	if err := c.Send(t.Context(), 1, sent); err != nil {
		t.Fatal(err)
	}
	if got := poll(t, c, 0); len(got) != 0 {
		t.Fatalf("another shard got %d messages", len(got))
	}
	got := poll(t, c, 1)
	if len(got) != 1 || got[0].Problem != nil {
		t.Fatalf("%+v", got)
	}
	a, _ := json.Marshal(sent)
	b, _ := json.Marshal(got[0].Command)
	if string(a) != string(b) || got[0].Receives != 1 || time.Since(got[0].SentAt) > time.Minute {
		t.Errorf("sent %s, got %s, %d times, at %v", a, b, got[0].Receives, got[0].SentAt)
	}
	if err := c.Delete(t.Context(), whatisup.Test, 1, got...); err != nil {
		t.Fatal(err)
	}
	if got := poll(t, c, 1); len(got) != 0 {
		t.Error("it is there after its deletion")
	}
}

// Work keeps its order and is sent once; a wake-up in somebody's hands holds up
// no other.
func TestGroups(t *testing.T) {
	t.Parallel()
	_, _, c := setUp(t)
	id := whatisup.NewInstanceID()
	first, second := command(whatisup.SandboxMessage, id), command(whatisup.SandboxUnlink, id)
	for _, cmd := range []whatisup.Command{first, first, second} {
		if err := c.Send(t.Context(), 0, cmd); err != nil {
			t.Fatal(err)
		}
	}
	got := poll(t, c, 0)
	if len(got) == 0 || got[0].Command.ID != first.ID {
		t.Fatalf("%+v", got)
	}
	for _, m := range got[1:] {
		if m.Command.ID == first.ID {
			t.Error("a repetition arrived")
		}
	}
	if err := c.Release(t.Context(), whatisup.Test, 0, got...); err != nil {
		t.Fatal(err)
	}
	if got = poll(t, c, 0); len(got) == 0 || got[0].Command.ID != first.ID || got[0].Receives != 2 {
		t.Fatalf("after the release %+v", got)
	}
	for range 2 { // while the work is in somebody's hands
		if err := c.Send(t.Context(), 0, command(whatisup.Wake, id)); err != nil {
			t.Fatal(err)
		}
		woken := poll(t, c, 0)
		if len(woken) != 1 || woken[0].Command.HasWork() {
			t.Fatalf("%+v", woken)
		}
	}
}

// What is no command is left alone, and ends in the dead-letter queue after its
// last receive.
func TestPoison(t *testing.T) {
	t.Parallel()
	client, urls, c := setUp(t)
	for n, body := range []string{"not json", `{"kind":"wake","mode":"test"}`, `{"kind":"wake","mode":"live","instance_id":"i","customer_id":"c"}`} {
		_, err := client.SendMessage(t.Context(), &sqs.SendMessageInput{
			QueueUrl: aws.String(urls.CommandPrefix + queue.CommandSuffix(whatisup.Test, 0)), MessageBody: aws.String(body),
			MessageGroupId: aws.String(string(rune('a' + n))), MessageDeduplicationId: aws.String(string(rune('a' + n))),
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for range queue.MaxReceives {
		got := poll(t, c, 0)
		if len(got) != 3 {
			t.Fatalf("%d messages", len(got))
		}
		for _, m := range got {
			if m.Problem == nil {
				t.Errorf("%+v is taken for a command", m.Command)
			}
		}
		if err := c.Release(t.Context(), whatisup.Test, 0, got...); err != nil {
			t.Fatal(err)
		}
	}
	if got := poll(t, c, 0); len(got) != 0 {
		t.Fatalf("still %d messages", len(got))
	}
	dead, err := client.ReceiveMessage(t.Context(), &sqs.ReceiveMessageInput{QueueUrl: aws.String(urls.SandboxDead), MaxNumberOfMessages: 10, WaitTimeSeconds: 1})
	if err != nil || len(dead.Messages) != 3 {
		t.Errorf("%d dead letters, %v", len(dead.Messages), err)
	}
}

// Every queue gets every event, in batches of any size.
func TestEvents(t *testing.T) {
	t.Parallel()
	client, urls, _ := setUp(t)
	second, err := client.CreateQueue(t.Context(), &sqs.CreateQueueInput{QueueName: aws.String("second.fifo"), Attributes: map[string]string{"FifoQueue": "true"}})
	if err != nil {
		t.Fatal(err)
	}
	e := queue.NewEvents(client, queue.SplitURLs(urls.Events+" , "+aws.ToString(second.QueueUrl)))
	id := whatisup.NewInstanceID()
	var sent []whatisup.Event
	for n := range 23 {
		ev, err := whatisup.NewEvent(whatisup.InstanceUpdated, customer, whatisup.Test, id, time.Now(), map[string]int{"n": n})
		if err != nil {
			t.Fatal(err)
		}
		sent = append(sent, ev)
	}
	if err := e.Send(t.Context(), sent...); err != nil {
		t.Fatal(err)
	}
	for _, url := range []string{urls.Events, aws.ToString(second.QueueUrl)} {
		got := make(map[whatisup.EventID]bool)
		var order []whatisup.EventID
		for len(got) < len(sent) {
			out, err := client.ReceiveMessage(t.Context(), &sqs.ReceiveMessageInput{
				QueueUrl: aws.String(url), MaxNumberOfMessages: 10, WaitTimeSeconds: 1, MessageAttributeNames: []string{"All"},
			})
			if err != nil {
				t.Fatal(err)
			}
			if len(out.Messages) == 0 {
				t.Fatalf("%d of %d events came", len(got), len(sent))
			}
			for _, m := range out.Messages {
				var ev whatisup.Event
				if err := json.Unmarshal([]byte(aws.ToString(m.Body)), &ev); err != nil {
					t.Fatal(err)
				}
				got[ev.ID] = true
				order = append(order, ev.ID)
				for name, want := range map[string]string{"event": string(ev.Name), "customer_id": string(customer), "instance_id": string(id), "mode": "test"} {
					if v := aws.ToString(m.MessageAttributes[name].StringValue); v != want {
						t.Errorf("attribute %s is %q", name, v)
					}
				}
				if _, err := client.DeleteMessage(t.Context(), &sqs.DeleteMessageInput{QueueUrl: aws.String(url), ReceiptHandle: m.ReceiptHandle}); err != nil {
					t.Fatal(err)
				}
			}
		}
		if url != urls.Events {
			for n, id := range order {
				if sent[n].ID != id {
					t.Fatal("a FIFO queue got the events out of order")
				}
			}
		}
	}
	if err := queue.NewEvents(client, nil).Send(t.Context(), sent...); err != nil {
		t.Error("no queues is no error")
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := e.Send(ended, sent...); err == nil {
		t.Error("sent under an ended context")
	}
}

// everything takes every event.
type everything struct{}

func (everything) Takes(context.Context, *whatisup.Event) (bool, error) { return true, nil }

// However many instances one customer's events are of, a few of them are fanned out at a
// time, and another customer's beside them.
func TestFanOutLanes(t *testing.T) {
	t.Parallel()
	client, urls, _ := setUp(t)
	events := queue.NewEvents(client, nil).WithWebhooks(urls.WebhookEvents, everything{})
	other := whatisup.NewCustomerID()
	var all []whatisup.Event
	for n := range 401 {
		c := customer
		if n == 400 {
			c = other
		}
		e, err := whatisup.NewEvent(whatisup.MessageReceived, c, whatisup.Test, whatisup.NewInstanceID(), time.Now(), map[string]any{})
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, e)
	}
	if err := events.Send(t.Context(), all...); err != nil {
		t.Fatal(err)
	}
	got := map[whatisup.CustomerID]int{}
	for {
		out, err := client.ReceiveMessage(t.Context(), &sqs.ReceiveMessageInput{QueueUrl: aws.String(urls.WebhookEvents), MaxNumberOfMessages: 1, WaitTimeSeconds: 1})
		if err != nil {
			t.Fatal(err)
		}
		if len(out.Messages) == 0 {
			break
		}
		var e whatisup.Event
		if err := json.Unmarshal([]byte(*out.Messages[0].Body), &e); err != nil {
			t.Fatal(err)
		}
		got[e.Customer]++
	}
	if got[customer] != 16 || got[other] != 1 {
		t.Errorf("in hand at a time: %v", got)
	}
}
