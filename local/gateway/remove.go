package gateway

import (
	"context"
	"slices"
	"strconv"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"whatisup/shared/together"
)

const (
	removeMost   = 10
	removeWithin = 10 * time.Second
	// removers is how many deletions may be under way: two, so that a group whose message
	// is done seldom waits for somebody else's.
	removers = 2
)

// remover deletes what a trigger has done, by receipt handles: what ends while deletions
// are under way shares the next one. See [together].
type remover = together.Group[[]string]

func (t Trigger) remover() *remover {
	return &remover{
		Lanes: removers, Most: removeMost, Size: func(receipts []string) int { return len(receipts) },
		Send: func(parts [][]string) []error {
			t.remove(slices.Concat(parts...))
			return make([]error, len(parts)) // what stays in the queue comes again
		},
	}
}

func (t Trigger) remove(receipts []string) {
	ctx, cancel := context.WithTimeout(context.Background(), removeWithin)
	defer cancel()
	for some := range slices.Chunk(receipts, removeMost) {
		entries := make([]types.DeleteMessageBatchRequestEntry, len(some))
		for i, receipt := range some {
			entries[i] = types.DeleteMessageBatchRequestEntry{Id: aws.String(strconv.Itoa(i)), ReceiptHandle: aws.String(receipt)}
		}
		if _, err := t.Queue.DeleteMessageBatch(ctx, &sqs.DeleteMessageBatchInput{QueueUrl: aws.String(t.QueueURL), Entries: entries}); err != nil {
			t.Log.Error("messages that were done stay in the queue", "messages", len(some), "error", err)
		}
	}
}
