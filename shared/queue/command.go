package queue

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"github.com/google/uuid"

	"whatisup/shared/whatisup"
)

// Commands are the shards' queues.
type Commands struct {
	client *sqs.Client
	prefix string
}

// NewCommands is on the queues whose URLs begin with prefix.
func NewCommands(client *sqs.Client, prefix string) *Commands {
	return &Commands{client: client, prefix: prefix}
}

func (c *Commands) url(m whatisup.Mode, s whatisup.Shard) *string {
	return aws.String(c.prefix + CommandSuffix(m, s))
}

// Send puts a command on the queue of a shard.
func (c *Commands) Send(ctx context.Context, s whatisup.Shard, cmd whatisup.Command) error {
	body, err := bodyOf(cmd)
	if err != nil {
		return err
	}
	group, dedup := uuid.NewString(), uuid.NewString()
	if cmd.HasWork() {
		group, dedup = cmd.Group(), string(cmd.ID)
	}
	_, err = c.client.SendMessage(ctx, &sqs.SendMessageInput{
		QueueUrl:               c.url(cmd.Mode, s),
		MessageBody:            aws.String(body),
		MessageGroupId:         aws.String(group),
		MessageDeduplicationId: aws.String(dedup),
	})
	return translate("send command", err)
}

// Message is a received command.
type Message struct {
	Command whatisup.Command
	// Problem is why the body is no command; such a message is left alone, so
	// that it ends in the dead-letter queue, where somebody sees it.
	Problem error
	// SentAt is the queue's own time of arrival.
	SentAt   time.Time
	Receives int
	receipt  string
}

// Poll waits up to wait for messages and returns at most ten. The open call ends
// with ctx, but what the queue handed out at that moment is then hidden until
// its visibility ends; to lose no time, let an open poll end by itself.
func (c *Commands) Poll(ctx context.Context, m whatisup.Mode, s whatisup.Shard, wait time.Duration) ([]Message, error) {
	// A stalled connection must not look like an empty queue for ever.
	ctx, cancel := context.WithTimeout(ctx, wait+5*time.Second)
	defer cancel()
	out, err := c.client.ReceiveMessage(ctx, &sqs.ReceiveMessageInput{
		QueueUrl:            c.url(m, s),
		MaxNumberOfMessages: 10,
		WaitTimeSeconds:     max(int32(wait/time.Second), 1), // 0 would mean the queue's own
		VisibilityTimeout:   int32(Visibility / time.Second),
		MessageSystemAttributeNames: []types.MessageSystemAttributeName{
			types.MessageSystemAttributeNameSentTimestamp, types.MessageSystemAttributeNameApproximateReceiveCount,
		},
	})
	if err != nil {
		return nil, translate("receive commands", err)
	}
	messages := make([]Message, len(out.Messages))
	for i, in := range out.Messages {
		msg := Message{receipt: aws.ToString(in.ReceiptHandle)}
		if ms, err := strconv.ParseInt(in.Attributes[string(types.MessageSystemAttributeNameSentTimestamp)], 10, 64); err == nil {
			msg.SentAt = time.UnixMilli(ms)
		}
		msg.Receives, _ = strconv.Atoi(in.Attributes[string(types.MessageSystemAttributeNameApproximateReceiveCount)])
		if err := json.Unmarshal([]byte(aws.ToString(in.Body)), &msg.Command); err != nil {
			msg.Problem = fmt.Errorf("not a command: %w", err)
		} else if !msg.Command.Valid() || msg.Command.Mode != m {
			msg.Problem = fmt.Errorf("not a command of this queue")
		}
		messages[i] = msg
	}
	return messages, nil
}

// Delete takes handled messages off the queue, at most ten.
func (c *Commands) Delete(ctx context.Context, m whatisup.Mode, s whatisup.Shard, messages ...Message) error {
	if len(messages) == 0 {
		return nil
	}
	entries := make([]types.DeleteMessageBatchRequestEntry, len(messages))
	for i, msg := range messages {
		entries[i] = types.DeleteMessageBatchRequestEntry{Id: aws.String(strconv.Itoa(i)), ReceiptHandle: aws.String(msg.receipt)}
	}
	out, err := c.client.DeleteMessageBatch(ctx, &sqs.DeleteMessageBatchInput{QueueUrl: c.url(m, s), Entries: entries})
	if err == nil && len(out.Failed) > 0 {
		err = fmt.Errorf("%d not deleted: %s", len(out.Failed), aws.ToString(out.Failed[0].Code))
	}
	return translate("delete commands", err)
}

// Extend keeps messages hidden for another [Visibility].
func (c *Commands) Extend(ctx context.Context, m whatisup.Mode, s whatisup.Shard, messages ...Message) error {
	return c.hide(ctx, m, s, Visibility, messages)
}

// Release gives messages back at once, for the shard's next owner.
func (c *Commands) Release(ctx context.Context, m whatisup.Mode, s whatisup.Shard, messages ...Message) error {
	return c.hide(ctx, m, s, 0, messages)
}

func (c *Commands) hide(ctx context.Context, m whatisup.Mode, s whatisup.Shard, d time.Duration, messages []Message) error {
	if len(messages) == 0 {
		return nil
	}
	entries := make([]types.ChangeMessageVisibilityBatchRequestEntry, len(messages))
	for i, msg := range messages {
		entries[i] = types.ChangeMessageVisibilityBatchRequestEntry{
			Id: aws.String(strconv.Itoa(i)), ReceiptHandle: aws.String(msg.receipt), VisibilityTimeout: int32(d / time.Second),
		}
	}
	out, err := c.client.ChangeMessageVisibilityBatch(ctx, &sqs.ChangeMessageVisibilityBatchInput{QueueUrl: c.url(m, s), Entries: entries})
	if err == nil && len(out.Failed) > 0 {
		err = fmt.Errorf("%d unchanged: %s", len(out.Failed), aws.ToString(out.Failed[0].Code))
	}
	return translate("change visibility of commands", err)
}
