package queue

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"

	"whatisup/shared/whatisup"
)

// Takers says which events some webhook endpoint takes.
type Takers interface {
	Takes(context.Context, *whatisup.Event) (bool, error)
}

// WithWebhooks adds the queue that begins the way to webhook endpoints. It gets the
// events that some endpoint takes; of the others it lacks nothing.
func (e *Events) WithWebhooks(url string, takers Takers) *Events {
	if url != "" {
		e.urls = append(e.urls[:len(e.urls):len(e.urls)], url)
		e.webhooks, e.takers = url, takers
	}
	return e
}

// taken are the events that belong into a queue. A queue can name no events, so it
// gets none that have to be named.
func (e *Events) taken(ctx context.Context, url string, events []whatisup.Event) ([]whatisup.Event, error) {
	if e.takers == nil || url != e.webhooks {
		named := func(ev whatisup.Event) bool { return ev.Name.NamedOnly() }
		if !slices.ContainsFunc(events, named) {
			return events, nil
		}
		return slices.DeleteFunc(slices.Clone(events), named), nil
	}
	var some []whatisup.Event
	for i := range events {
		takes, err := e.takers.Takes(ctx, &events[i])
		if err != nil {
			return nil, err
		}
		if takes {
			some = append(some, events[i])
		}
	}
	return some, nil
}

// fanOutLanes is how many events of one customer and mode are fanned out at a time,
// however many instances they are of.
const fanOutLanes = 16

func fanOutGroup(e *whatisup.Event) string {
	return fmt.Sprintf("%s#%s#%d", e.Customer, e.Mode, whatisup.LaneOf(e.Instance, fanOutLanes))
}

// Webhooks are the queues between an event and its requests.
type Webhooks struct {
	client            *sqs.Client
	deliveries, wakes string
}

// NewWebhooks is on the queues with these URLs.
func NewWebhooks(client *sqs.Client, deliveries, wakes string) *Webhooks {
	return &Webhooks{client: client, deliveries: deliveries, wakes: wakes}
}

// SendDelivery gives a message to a group; one of the same name is dropped for five
// minutes.
func (w *Webhooks) SendDelivery(ctx context.Context, group, name string, body []byte) error {
	_, err := w.client.SendMessage(ctx, &sqs.SendMessageInput{
		QueueUrl: aws.String(w.deliveries), MessageBody: aws.String(string(body)),
		MessageGroupId: aws.String(group), MessageDeduplicationId: aws.String(name),
	})
	return translate("send delivery", err)
}

// Wake sends a wake-up that arrives after a while, of whole seconds, 15 minutes at most.
func (w *Webhooks) Wake(ctx context.Context, body []byte, after time.Duration) error {
	_, err := w.client.SendMessage(ctx, &sqs.SendMessageInput{
		QueueUrl: aws.String(w.wakes), MessageBody: aws.String(string(body)),
		DelaySeconds: int32((after + time.Second - 1) / time.Second),
	})
	return translate("send wake-up", err)
}
