package queue

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
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

	webhooks string // of urls, the one that gets only what takers says
	takers   Takers

	// SetAside hears of each event that a queue refuses for good, and that is
	// therefore passed over; nil: nobody does.
	SetAside func(queue string, e whatisup.Event, reason string)
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

// Queues are the names that [Events.SendTo] knows: the queues' URLs.
func (e *Events) Queues() []string { return e.urls }

// Send gives the events to every queue. It returns nil once every queue has every
// event; a queue that fails keeps none of the others from theirs. After an error
// some may have been taken: send all again, event_id tells a subscriber.
func (e *Events) Send(ctx context.Context, events ...whatisup.Event) error {
	errs := make(chan error, len(e.urls))
	for _, url := range e.urls {
		go func() { errs <- e.SendTo(ctx, url, events...) }()
	}
	var all error
	for range e.urls {
		all = errors.Join(all, <-errs)
	}
	return all
}

// SendTo gives the events to one queue, in their order. After an error some may
// have been taken. An event that the queue refuses for good is set aside, and is
// no error: waiting can't mend it, and those behind it are not to wait for it.
func (e *Events) SendTo(ctx context.Context, url string, events ...whatisup.Event) error {
	events, err := e.taken(ctx, url, events)
	if err != nil {
		return err
	}
	entries := make([]types.SendMessageBatchRequestEntry, len(events))
	for i, ev := range events {
		var err error
		if entries[i], err = entryOf(ev, strconv.Itoa(i), strings.HasSuffix(url, ".fifo")); err != nil {
			return err
		}
		if url == e.webhooks && url != "" {
			entries[i].MessageGroupId = aws.String(fanOutGroup(&ev))
		}
	}
	for from := 0; from < len(entries); {
		to, size := from, 0
		for to < len(entries) && to-from < 10 {
			n := len(*entries[to].MessageBody)
			if to > from && size+n >= MaxMessage-64<<10 {
				break
			}
			size += n
			to++
		}
		if err := e.batch(ctx, url, events[from:to], entries[from:to]); err != nil {
			return translate("send events", err)
		}
		from = to
	}
	return nil
}

// batch sends one batch. What a batch is refused for is found out one by one.
func (e *Events) batch(ctx context.Context, url string, events []whatisup.Event, entries []types.SendMessageBatchRequestEntry) error {
	out, err := e.client.SendMessageBatch(ctx, &sqs.SendMessageBatchInput{QueueUrl: aws.String(url), Entries: entries})
	if err == nil && len(out.Failed) == 0 {
		return nil
	}
	if err != nil && !errors.Is(translate("", err), whatisup.ErrRefused) {
		return err
	}
	if len(entries) > 1 { // what was taken is sent again; event_id tells
		for i := range entries {
			if err := e.batch(ctx, url, events[i:i+1], entries[i:i+1]); err != nil {
				return err
			}
		}
		return nil
	}

	reason := "refused"
	if err == nil {
		reason = aws.ToString(out.Failed[0].Code)
		if !refusedForGood(reason) {
			return fmt.Errorf("not taken: %s", reason)
		}
	} else if api, ok := errors.AsType[interface {
		error
		ErrorCode() string
	}](err); ok {
		reason = api.ErrorCode()
	}
	if e.SetAside != nil {
		e.SetAside(url, events[0], strings.TrimPrefix(reason, "AWS.SimpleQueueService."))
	}
	return nil
}

// entryOf is an event as a message. In a FIFO queue its group is the instance, or
// the customer if the event is of no instance.
func entryOf(ev whatisup.Event, id string, fifo bool) (types.SendMessageBatchRequestEntry, error) {
	body, err := bodyOf(ev)
	if err != nil {
		return types.SendMessageBatchRequestEntry{}, err
	}
	entry := types.SendMessageBatchRequestEntry{
		Id: aws.String(id), MessageBody: aws.String(body),
		MessageAttributes: map[string]types.MessageAttributeValue{
			"event":       attribute(string(ev.Name)),
			"customer_id": attribute(string(ev.Customer)),
			"instance_id": attribute(string(ev.Instance)),
			"mode":        attribute(string(ev.Mode)),
		},
	}
	if fifo {
		group := string(ev.Instance)
		if group == "" {
			group = string(ev.Customer)
		}
		entry.MessageGroupId, entry.MessageDeduplicationId = aws.String(group), aws.String(string(ev.ID))
	}
	return entry, nil
}

// bodyOf is v as the body of a message: JSON in which the characters that SQS
// refuses are escaped. Of those that valid JSON can hold unescaped, these are the
// two noncharacters at the end of the first plane.
func bodyOf(v any) (string, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return "", err
	}
	b = bytes.ReplaceAll(b, []byte("\ufffe"), []byte(`\ufffe`))
	b = bytes.ReplaceAll(b, []byte("\uffff"), []byte(`\uffff`))
	return string(b), nil
}

// attribute is never empty: SQS refuses an empty value.
func attribute(s string) types.MessageAttributeValue {
	if s == "" {
		s = "-"
	}
	return types.MessageAttributeValue{DataType: aws.String("String"), StringValue: aws.String(s)}
}
