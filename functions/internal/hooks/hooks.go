// Package hooks reads what template.yaml gives the functions on the way of events to
// webhook endpoints.
package hooks

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-lambda-go/lambdacontext"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/sqs"

	"whatisup/functions/internal/awsenv"
	"whatisup/shared/dynamo"
	"whatisup/shared/foreign"
	"whatisup/shared/lambdahttp"
	"whatisup/shared/queue"
	"whatisup/shared/seal"
	"whatisup/shared/webhook"
	"whatisup/shared/webhook/takers"
)

// Open makes the way of events to endpoints, for whichever part of it a function is.
func Open() (*webhook.Desk, error) {
	cfg, err := awsenv.Config(os.Getenv)
	if err != nil {
		return nil, err
	}
	allow, err := foreign.ParseAllow(os.Getenv("FOREIGN_ALLOW"))
	if err != nil {
		return nil, fmt.Errorf("FOREIGN_ALLOW: %w", err)
	}
	guard, err := foreign.New(foreign.Config{Allow: allow, Own: queue.SplitURLs(os.Getenv("OWN_URLS"))})
	if err != nil {
		return nil, fmt.Errorf("OWN_URLS: %w", err)
	}
	db := dynamo.New(dynamo.Config{Client: dynamodb.NewFromConfig(cfg), Tables: dynamo.TablesFromEnv(os.Getenv)})
	queues := sqs.NewFromConfig(cfg)
	sealer := webhook.NewSealer(seal.NewKeyring(kms.NewFromConfig(cfg), os.Getenv("WEBHOOK_KEY_ID")))
	return &webhook.Desk{Sealer: sealer, Guard: guard, Path: &webhook.Path{
		Store: db, Log: db, Secrets: sealer, Slog: lambdacontext.NewLogger(),
		Events: queue.NewEvents(queues, queue.SplitURLs(os.Getenv("EVENT_QUEUE_URLS"))).
			WithWebhooks(os.Getenv("WEBHOOK_EVENTS_QUEUE_URL"), takers.New(db)),
		Queue:  queue.NewWebhooks(queues, os.Getenv("WEBHOOK_ATTEMPTS_QUEUE_URL"), os.Getenv("WEBHOOK_WAKES_QUEUE_URL")),
		Client: func(test bool) *http.Client { return guard.Client(test, 0) },
	}}, nil
}

// Handler makes a function of SQS triggers out of what is done with the messages of
// each queue, by a part of the queue's name.
func Handler(log *slog.Logger, queues func(arn string) func(context.Context, webhook.Message) error) func(context.Context, events.SQSEvent) (events.SQSEventResponse, error) {
	return lambdahttp.Messages(func(ctx context.Context, m lambdahttp.Message) error {
		do := queues(m.Queue)
		if do == nil {
			return errors.New("a queue that is not known")
		}
		err := do(ctx, webhook.Message{Body: m.Body, Group: m.Group, Order: m.Order})
		if err != nil {
			log.ErrorContext(ctx, "a message is taken again", "error", err)
		}
		return err
	})
}

// Together is [Handler] for one queue whose messages are taken together.
func Together(log *slog.Logger, do func(context.Context, []webhook.Message) []error) func(context.Context, events.SQSEvent) (events.SQSEventResponse, error) {
	return lambdahttp.Batches(func(ctx context.Context, all []lambdahttp.Message) []error {
		messages := make([]webhook.Message, len(all))
		for i, m := range all {
			messages[i] = webhook.Message{Body: m.Body, Group: m.Group, Order: m.Order}
		}
		errs := do(ctx, messages)
		for _, err := range errs {
			if err != nil {
				log.ErrorContext(ctx, "a message is taken again", "error", err)
			}
		}
		return errs
	})
}
