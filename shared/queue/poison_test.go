package queue_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"

	"whatisup/local/aws/awstest"
	"whatisup/shared/queue"
	"whatisup/shared/whatisup"
)

// makeQueue makes a queue of events and returns its URL.
func makeQueue(t *testing.T, client *sqs.Client, name string) string {
	t.Helper()
	in := &sqs.CreateQueueInput{QueueName: aws.String(name), Attributes: map[string]string{"MaximumMessageSize": "1048576"}}
	if strings.HasSuffix(name, ".fifo") {
		in.Attributes["FifoQueue"] = "true"
	}
	out, err := client.CreateQueue(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	return *out.QueueUrl
}

// drain takes every event off a queue.
func drain(t *testing.T, client *sqs.Client, url string) (all []whatisup.Event) {
	t.Helper()
	for {
		out, err := client.ReceiveMessage(t.Context(), &sqs.ReceiveMessageInput{QueueUrl: aws.String(url), MaxNumberOfMessages: 10})
		if err != nil {
			t.Fatal(err)
		}
		if len(out.Messages) == 0 {
			return all
		}
		for _, m := range out.Messages {
			var e whatisup.Event
			if err := json.Unmarshal([]byte(*m.Body), &e); err != nil {
				t.Fatal(err)
			}
			all = append(all, e)
			if _, err := client.DeleteMessage(t.Context(), &sqs.DeleteMessageInput{QueueUrl: aws.String(url), ReceiptHandle: m.ReceiptHandle}); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func textEvent(t *testing.T, instance whatisup.InstanceID, text string) whatisup.Event {
	t.Helper()
	e, err := whatisup.NewEvent(whatisup.MessageReceived, customer, whatisup.Test, instance, time.Now(), map[string]string{"text": text})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// Whatever a stranger can write gets into every kind of queue, and comes out as it
// was written.
func TestEveryTextIsTaken(t *testing.T) {
	t.Parallel()
	client := sqs.NewFromConfig(awstest.Start(t).Config)
	urls := []string{makeQueue(t, client, "events"), makeQueue(t, client, "events.fifo")}
	events := queue.NewEvents(client, urls)
	events.SetAside = func(url string, e whatisup.Event, reason string) {
		t.Errorf("%s is set aside by %s: %s", e.ID, url, reason)
	}

	texts := []string{"x \uffff", "\ufffe", "\x00\x01\x1f\x7f", "\u2028\u2029", "🙂\U0010ffff\U0001fffe", strings.Repeat("\uffff", 60<<10)}
	for _, r := range []rune{0xd7ff, 0xd800, 0xdfff, 0xe000, 0xfffd, 0xfdd0} {
		texts = append(texts, string(r)) // the surrogates become U+FFFD in any Go string
	}
	var all []whatisup.Event
	for _, text := range texts {
		for _, instance := range []whatisup.InstanceID{whatisup.NewInstanceID(), ""} {
			all = append(all, textEvent(t, instance, text))
		}
	}
	if err := events.Send(t.Context(), all...); err != nil {
		t.Fatal(err)
	}
	for _, url := range urls {
		got := make(map[whatisup.EventID]string)
		for _, e := range drain(t, client, url) {
			var d struct{ Text string }
			if err := json.Unmarshal(e.Data, &d); err != nil {
				t.Fatal(err)
			}
			got[e.ID] = d.Text
		}
		for i, e := range all {
			if got[e.ID] != texts[i/2] {
				t.Errorf("%s: %.40q arrives as %.40q", url, texts[i/2], got[e.ID])
			}
		}
	}
}

// A queue that refuses an event for good passes it over: the events around it
// arrive, the other queues get it, and somebody is told.
func TestRefusedEventIsSetAside(t *testing.T) {
	t.Parallel()
	client := sqs.NewFromConfig(awstest.Start(t).Config)
	small, large := makeQueue(t, client, "small"), makeQueue(t, client, "large")
	if _, err := client.SetQueueAttributes(t.Context(), &sqs.SetQueueAttributesInput{
		QueueUrl: aws.String(small), Attributes: map[string]string{"MaximumMessageSize": "2048"},
	}); err != nil {
		t.Fatal(err)
	}
	events := queue.NewEvents(client, []string{small, large})
	aside := make(chan string, 10)
	events.SetAside = func(url string, e whatisup.Event, reason string) { aside <- fmt.Sprint(url, e.ID, reason != "") }
	id := whatisup.NewInstanceID()
	all := []whatisup.Event{textEvent(t, id, "before"), textEvent(t, id, strings.Repeat("x", 4000)), textEvent(t, id, "after")}
	if err := events.Send(t.Context(), all...); err != nil {
		t.Fatal(err)
	}
	if got := <-aside; got != fmt.Sprint(small, all[1].ID, true) || len(aside) != 0 {
		t.Errorf("set aside: %s and %d more", got, len(aside))
	}
	ids := func(url string) (ids []whatisup.EventID) {
		for _, e := range drain(t, client, url) {
			ids = append(ids, e.ID)
		}
		return ids
	}
	if got := ids(small); len(got) < 2 || !slices.Contains(got, all[0].ID) || !slices.Contains(got, all[2].ID) {
		t.Errorf("the queue that refuses one event has %v", got)
	}
	if got := ids(large); len(got) != 3 {
		t.Errorf("the other queue has %v", got)
	}
}

// A queue that is missing is an outage, and keeps nothing from the others.
func TestMissingQueueIsAnOutage(t *testing.T) {
	t.Parallel()
	client := sqs.NewFromConfig(awstest.Start(t).Config)
	there := makeQueue(t, client, "there")
	missing := strings.TrimSuffix(there, "there") + "missing"
	events := queue.NewEvents(client, []string{missing, there})
	events.SetAside = func(string, whatisup.Event, string) { t.Error("an outage sets events aside") }
	e := textEvent(t, whatisup.NewInstanceID(), "hi")
	if err := events.Send(t.Context(), e); !errors.Is(err, whatisup.ErrUnavailable) {
		t.Errorf("sending answers %v", err)
	}
	if got := drain(t, client, there); len(got) != 1 || got[0].ID != e.ID {
		t.Errorf("the queue that is there has %v", got)
	}
}
