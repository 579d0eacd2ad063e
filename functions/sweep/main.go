// Command sweep is the Lambda function that runs every minute for what is due and whose
// wake-up was lost, ends messages that expire while no session host lives, and writes
// down what the queues of webhooks have given up.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"strings"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"

	"whatisup/functions/internal/awsenv"
	"whatisup/functions/internal/hooks"
	"whatisup/shared/dynamo"
	"whatisup/shared/expiry"
	"whatisup/shared/webhook"
)

func main() {
	h, err := hooks.Open()
	if err != nil {
		slog.Error("not started", "error", err)
		os.Exit(1)
	}
	cfg, err := awsenv.Config(os.Getenv)
	if err != nil {
		slog.Error("not started", "error", err)
		os.Exit(1)
	}
	db := dynamo.New(dynamo.Config{Client: dynamodb.NewFromConfig(cfg), Tables: dynamo.TablesFromEnv(os.Getenv)})
	messages := expiry.Sweeper{Store: db, Events: h.Path.Events, Log: h.Path.Slog}
	// What runs every minute. Each is run whatever became of the others.
	jobs := []func(context.Context) error{h.Path.Sweep, messages.Sweep}
	dead := hooks.Handler(h.Path.Slog, func(arn string) func(context.Context, webhook.Message) error {
		if strings.HasSuffix(arn, "-sweep-fanout-dead.fifo") {
			return h.Path.DeadEvent
		}
		return h.Path.Dead
	})
	lambda.Start(func(ctx context.Context, raw json.RawMessage) (any, error) {
		var queued events.SQSEvent
		if json.Unmarshal(raw, &queued) == nil && len(queued.Records) > 0 {
			return dead(ctx, queued)
		}
		var problems error
		for _, job := range jobs {
			problems = errors.Join(problems, job(ctx))
		}
		return nil, problems
	})
}
