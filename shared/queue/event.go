package queue

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"whatisup/shared/whatisup"
)

// Events are the queues that every event goes to.
type Events struct {
	client *sqs.Client
	urls   []string
}

// NewEvents sends to every queue of urls; there may be none.
func NewEvents(client *sqs.Client, urls []string) *Events {
	return &Events{client: client, urls: urls}
}

// SplitURLs reads the value of EVENT_QUEUE_URLS.
func SplitURLs(s string) []string {
	var urls []string
	for u := range strings.SplitSeq(s, ",") {
		if u = strings.TrimSpace(u); u != "" {
			urls = append(urls, u)
		}
	}
	return urls
}

// Send returns nil once every queue has taken every event. After an error some
// may have been taken: send all again, event_id tells a subscriber.
func (e *Events) Send(ctx context.Context, events ...whatisup.Event) error {
	if len(events) == 0 || len(e.urls) == 0 {
		return nil
	}
	entries := make([]types.SendMessageBatchRequestEntry, len(events))
	sizes := make([]int, len(events))
	for i, ev := range events {
		body, err := json.Marshal(ev)
		if err != nil {
			return err
		}
		sizes[i] = len(body)
		entries[i] = types.SendMessageBatchRequestEntry{
			Id:          aws.String(strconv.Itoa(i)),
			MessageBody: aws.String(string(body)),
			MessageAttributes: map[string]types.MessageAttributeValue{
				"event":       attribute(string(ev.Name)),
				"customer_id": attribute(string(ev.Customer)),
				"instance_id": attribute(string(ev.Instance)),
				"mode":        attribute(string(ev.Mode)),
			},
		}
	}
	for _, url := range e.urls {
		batch := entries
		if strings.HasSuffix(url, ".fifo") {
			batch = make([]types.SendMessageBatchRequestEntry, len(entries))
			copy(batch, entries)
			for i, ev := range events {
				batch[i].MessageGroupId = aws.String(string(ev.Instance))
				batch[i].MessageDeduplicationId = aws.String(string(ev.ID))
			}
		}
		for from := 0; from < len(batch); {
			to, size := from, 0
			for to < len(batch) && to-from < 10 && (to == from || size+sizes[to] < MaxMessage-64<<10) {
				size += sizes[to]
				to++
			}
			out, err := e.client.SendMessageBatch(ctx, &sqs.SendMessageBatchInput{QueueUrl: aws.String(url), Entries: batch[from:to]})
			if err == nil && len(out.Failed) > 0 {
				err = fmt.Errorf("%d not taken: %s", len(out.Failed), aws.ToString(out.Failed[0].Code))
			}
			if err != nil {
				return translate("send events", err)
			}
			from = to
		}
	}
	return nil
}

// attribute is never empty: SQS refuses an empty value.
func attribute(s string) types.MessageAttributeValue {
	if s == "" {
		s = "-"
	}
	return types.MessageAttributeValue{DataType: aws.String("String"), StringValue: aws.String(s)}
}
