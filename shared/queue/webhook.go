package queue

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"

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

// SendDeliveries gives messages to their groups; one of a name that was given before is
// dropped for five minutes. It returns what failed, by index, nil if nothing did. Of
// several messages of a group a later one may be taken without the one before.
func (w *Webhooks) SendDeliveries(ctx context.Context, all []whatisup.Queued) []error {
	var errs []error
	fail := func(from, to int, err error) {
		if errs == nil {
			errs = make([]error, len(all))
		}
		for i := from; i < to; i++ {
			errs[i] = translate("send delivery", err)
		}
	}
	for from := 0; from < len(all); {
		to, size := from, 0
		var entries []types.SendMessageBatchRequestEntry
		for ; to < len(all) && to-from < 10; to++ {
			if size += len(all[to].Body); to > from && size >= MaxMessage-64<<10 {
				break
			}
			entries = append(entries, types.SendMessageBatchRequestEntry{
				Id: aws.String(strconv.Itoa(to)), MessageBody: aws.String(string(all[to].Body)),
				MessageGroupId: aws.String(all[to].Group), MessageDeduplicationId: aws.String(all[to].Name),
			})
		}
		out, err := w.client.SendMessageBatch(ctx, &sqs.SendMessageBatchInput{QueueUrl: aws.String(w.deliveries), Entries: entries})
		if err != nil {
			fail(from, to, err)
		} else {
			for _, f := range out.Failed {
				if i, err := strconv.Atoi(aws.ToString(f.Id)); err == nil {
					fail(i, i+1, fmt.Errorf("not taken: %s: %w", aws.ToString(f.Code), whatisup.ErrUnavailable))
				}
			}
		}
		from = to
	}
	return errs
}

// Wake sends a wake-up that arrives after a while, of whole seconds, 15 minutes at most.
// The queue is a standard one, whose groups keep no order: they are whose it is, so that
// many of one customer's do not hold up those of others.
func (w *Webhooks) Wake(ctx context.Context, c whatisup.CustomerID, body []byte, after time.Duration) error {
	_, err := w.client.SendMessage(ctx, &sqs.SendMessageInput{
		QueueUrl: aws.String(w.wakes), MessageBody: aws.String(string(body)), MessageGroupId: aws.String(string(c)),
		DelaySeconds: int32((after + time.Second - 1) / time.Second),
	})
	return translate("send wake-up", err)
}
