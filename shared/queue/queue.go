package queue

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"github.com/aws/smithy-go"

	"whatisup/shared/whatisup"
)

const (
	// Visibility is how long a received command is hidden from other receivers.
	Visibility = 15 * time.Second
	// MaxReceives is how often a message is received before it is dead.
	MaxReceives = 5
	// MaxMessage is the size up to which messages are taken.
	MaxMessage = 1 << 20

	// DeliverWithin is how long the function that makes deliveries may take.
	DeliverWithin = 30 * time.Second

	commandsKept = 24 * time.Hour
	deadKept     = 14 * 24 * time.Hour
	// eventsKept outlasts a long weekend without a reader, and leaves some days to
	// what goes to the dead letters on its last.
	eventsKept = 10 * 24 * time.Hour
)

// Names are the names of the deployment's queues.
type Names struct {
	CommandPrefix string // of every shard's queue; the rest is [CommandSuffix]
	CommandsDead  string // of live instances
	SandboxDead   string // of test ones: nobody is woken by them
	Events        string // empty: there is none
	EventsDead    string
	Integration   string
	IntegrateDead string
	Media         string
	MediaDead     string

	WebhookEvents, WebhookEventsDead         string
	WebhookDeliveries, WebhookDeliveriesDead string
	WebhookWakes, WebhookWakesDead           string
}

// LocalPrefix is how the names of [Local] begin; in a deployed stack they begin with its
// name and a dash.
const LocalPrefix = "whatisup-"

// Local are the names used where nobody else's queues are about.
func Local() Names {
	return Names{
		CommandPrefix: "whatisup-commands-",
		CommandsDead:  "whatisup-commands-dead.fifo",
		SandboxDead:   "whatisup-sandbox-commands-dead.fifo",
		Events:        "whatisup-events",
		EventsDead:    "whatisup-events-dead",
		Integration:   "whatisup-integration-commands",
		IntegrateDead: "whatisup-integration-commands-dead",
		Media:         "whatisup-fetch-media",
		MediaDead:     "whatisup-fetch-media-dead",

		WebhookEvents:         "whatisup-fanout-events.fifo",
		WebhookEventsDead:     "whatisup-sweep-fanout-dead.fifo",
		WebhookDeliveries:     "whatisup-deliver-attempts.fifo",
		WebhookDeliveriesDead: "whatisup-sweep-deliver-dead.fifo",
		WebhookWakes:          "whatisup-fanout-wakes",
		WebhookWakesDead:      "whatisup-fanout-wakes-dead",
	}
}

// CommandSuffix is what follows the prefix in the name and the URL of the queue
// of a shard, as in "live-0003.fifo".
func CommandSuffix(m whatisup.Mode, s whatisup.Shard) string {
	return fmt.Sprintf("%s-%04d.fifo", m, int(s))
}

// Definition is a queue as it must be made. template.yaml declares the same; a
// test holds the two together.
type Definition struct {
	Name       string
	FIFO       bool
	Visibility time.Duration
	Kept       time.Duration
	Dead       string // name of the dead-letter queue; empty for one
}

// Definitions lists the queues for the number of shards, dead-letter queues
// before those that name them.
func (n Names) Definitions(shards int) []Definition {
	all := []Definition{
		{Name: n.CommandsDead, FIFO: true, Visibility: 30 * time.Second, Kept: deadKept},
		{Name: n.SandboxDead, FIFO: true, Visibility: 30 * time.Second, Kept: deadKept},
		{Name: n.IntegrateDead, Visibility: 30 * time.Second, Kept: deadKept},
		{Name: n.MediaDead, Visibility: 30 * time.Second, Kept: deadKept},
		// Six times the timeout of the function that is fed from it.
		{Name: n.Integration, Visibility: 180 * time.Second, Kept: 4 * 24 * time.Hour, Dead: n.IntegrateDead},
		{Name: n.Media, Visibility: 720 * time.Second, Kept: 4 * 24 * time.Hour, Dead: n.MediaDead},
	}
	if n.Events != "" {
		all = append(all,
			Definition{Name: n.EventsDead, Visibility: 30 * time.Second, Kept: deadKept},
			Definition{Name: n.Events, Visibility: 30 * time.Second, Kept: eventsKept, Dead: n.EventsDead})
	}
	all = append(all,
		// Their consumers write rows, and have time for it.
		Definition{Name: n.WebhookEventsDead, FIFO: true, Visibility: 180 * time.Second, Kept: deadKept},
		Definition{Name: n.WebhookDeliveriesDead, FIFO: true, Visibility: 180 * time.Second, Kept: deadKept},
		Definition{Name: n.WebhookWakesDead, Visibility: 30 * time.Second, Kept: deadKept},
		Definition{Name: n.WebhookEvents, FIFO: true, Visibility: 180 * time.Second, Kept: 4 * 24 * time.Hour, Dead: n.WebhookEventsDead},
		// Half a minute more than the function may take: a group stands still for as
		// long when the function died.
		Definition{Name: n.WebhookDeliveries, FIFO: true, Visibility: DeliverWithin + 30*time.Second, Kept: 4 * 24 * time.Hour, Dead: n.WebhookDeliveriesDead},
		Definition{Name: n.WebhookWakes, Visibility: 180 * time.Second, Kept: 4 * 24 * time.Hour, Dead: n.WebhookWakesDead},
	)
	dead := map[whatisup.Mode]string{whatisup.Live: n.CommandsDead, whatisup.Test: n.SandboxDead}
	for _, m := range []whatisup.Mode{whatisup.Live, whatisup.Test} {
		for s := range whatisup.Shard(shards) {
			all = append(all, Definition{
				Name: n.CommandPrefix + CommandSuffix(m, s), FIFO: true,
				Visibility: Visibility, Kept: commandsKept, Dead: dead[m],
			})
		}
	}
	return all
}

// change gives a queue that is there the attributes that it should have.
func change(ctx context.Context, client *sqs.Client, name string, attrs map[string]string) (*sqs.CreateQueueOutput, error) {
	found, err := client.GetQueueUrl(ctx, &sqs.GetQueueUrlInput{QueueName: aws.String(name)})
	if err != nil {
		return nil, err
	}
	delete(attrs, string(types.QueueAttributeNameFifoQueue)) // for good
	_, err = client.SetQueueAttributes(ctx, &sqs.SetQueueAttributesInput{QueueUrl: found.QueueUrl, Attributes: attrs})
	return &sqs.CreateQueueOutput{QueueUrl: found.QueueUrl}, err
}

// URLs are where the queues of a deployment are.
type URLs struct {
	CommandPrefix string
	Events        string
	EventsDead    string
	CommandsDead  string
	SandboxDead   string
	Integration   string
	Media         string

	WebhookEvents, WebhookEventsDead, WebhookDeliveries, WebhookDeliveriesDead, WebhookWakes string
}

// Create makes every queue that is not there yet and returns where they are. On
// AWS the template does this.
func (n Names) Create(ctx context.Context, client *sqs.Client, shards int) (URLs, error) {
	urls := make(map[string]string)
	arns := make(map[string]string)
	for _, d := range n.Definitions(shards) {
		attrs := map[string]string{
			string(types.QueueAttributeNameVisibilityTimeout):             seconds(d.Visibility),
			string(types.QueueAttributeNameMessageRetentionPeriod):        seconds(d.Kept),
			string(types.QueueAttributeNameMaximumMessageSize):            strconv.Itoa(MaxMessage),
			string(types.QueueAttributeNameReceiveMessageWaitTimeSeconds): "20",
		}
		if d.FIFO {
			attrs[string(types.QueueAttributeNameFifoQueue)] = "true"
			attrs[string(types.QueueAttributeNameDeduplicationScope)] = "messageGroup"
			attrs[string(types.QueueAttributeNameFifoThroughputLimit)] = "perMessageGroupId"
		}
		if d.Dead != "" {
			policy, err := json.Marshal(map[string]any{"deadLetterTargetArn": arns[d.Dead], "maxReceiveCount": MaxReceives})
			if err != nil {
				return URLs{}, err
			}
			attrs[string(types.QueueAttributeNameRedrivePolicy)] = string(policy)
		}
		out, err := client.CreateQueue(ctx, &sqs.CreateQueueInput{QueueName: aws.String(d.Name), Attributes: attrs})
		if _, other := errors.AsType[*types.QueueNameExists](err); other { // an earlier version made it
			out, err = change(ctx, client, d.Name, attrs)
		}
		if err != nil {
			return URLs{}, fmt.Errorf("create queue %s: %w", d.Name, err)
		}
		urls[d.Name] = aws.ToString(out.QueueUrl)
		if d.Dead == "" {
			got, err := client.GetQueueAttributes(ctx, &sqs.GetQueueAttributesInput{
				QueueUrl: out.QueueUrl, AttributeNames: []types.QueueAttributeName{types.QueueAttributeNameQueueArn},
			})
			if err != nil {
				return URLs{}, fmt.Errorf("read queue %s: %w", d.Name, err)
			}
			arns[d.Name] = got.Attributes[string(types.QueueAttributeNameQueueArn)]
		}
	}
	first := n.CommandPrefix + CommandSuffix(whatisup.Live, 0)
	return URLs{
		CommandPrefix: strings.TrimSuffix(urls[first], CommandSuffix(whatisup.Live, 0)),
		Events:        urls[n.Events],
		EventsDead:    urls[n.EventsDead],
		CommandsDead:  urls[n.CommandsDead],
		SandboxDead:   urls[n.SandboxDead],
		Integration:   urls[n.Integration],
		Media:         urls[n.Media],

		WebhookEvents:         urls[n.WebhookEvents],
		WebhookEventsDead:     urls[n.WebhookEventsDead],
		WebhookDeliveries:     urls[n.WebhookDeliveries],
		WebhookDeliveriesDead: urls[n.WebhookDeliveriesDead],
		WebhookWakes:          urls[n.WebhookWakes],
	}, nil
}

func seconds(d time.Duration) string { return strconv.Itoa(int(d / time.Second)) }

// translate turns what SQS and its client say into the product's words. What
// the caller's own context ended stays what it is.
func translate(op string, err error) error {
	if err == nil || errors.Is(err, context.Canceled) {
		return err
	}
	if e, ok := errors.AsType[smithy.APIError](err); ok && refusedForGood(e.ErrorCode()) {
		return fmt.Errorf("%s: %w: %w", op, whatisup.ErrRefused, err)
	}
	return fmt.Errorf("%s: %w: %w", op, whatisup.ErrUnavailable, err)
}

// refusedForGood says whether SQS refuses a message for what it is, so that no
// waiting can mend it. A queue that is missing or forbidden is an outage: somebody
// can make it, or allow it.
func refusedForGood(code string) bool {
	switch strings.TrimPrefix(code, "AWS.SimpleQueueService.") {
	case "InvalidMessageContents", "InvalidParameterValue", "InvalidAttributeValue", "MissingParameter", "InvalidBatchEntryId",
		"BatchRequestTooLong", "UnsupportedOperation", "ValidationError", "ValidationException":
		return true
	}
	return false
}
