package gateway

import (
	"context"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
)

// remover deletes what a trigger has done, several messages at a time: those that end
// while deletions are under way share the next one. Nobody waits for more of them.
type remover struct {
	trigger Trigger
	// lead is held by those who delete for all that wait.
	lead chan struct{}

	mu      sync.Mutex
	waiting []*removal
}

type removal struct {
	receipt string
	done    chan struct{}
}

const (
	removeMost = 10
	// removers is how many deletions may be under way: two, so that a group whose message
	// is done seldom waits for somebody else's.
	removers = 2
)

// remove returns when the messages are deleted, or it was tried.
func (r *remover) remove(ctx context.Context, receipts []string) {
	all := make([]*removal, len(receipts))
	for i, receipt := range receipts {
		all[i] = &removal{receipt, make(chan struct{})}
	}
	r.mu.Lock()
	r.waiting = append(r.waiting, all...)
	r.mu.Unlock()
	for _, one := range all {
		for gone := false; !gone; {
			select {
			case <-one.done:
				gone = true
			case r.lead <- struct{}{}:
				more := r.next(ctx)
				<-r.lead
				if !more { // somebody else is deleting it
					<-one.done
					gone = true
				}
			}
		}
	}
}

// next deletes the first ones that wait. It is false if none do.
func (r *remover) next(ctx context.Context) bool {
	r.mu.Lock()
	some := slices.Clone(r.waiting[:min(len(r.waiting), removeMost)])
	r.waiting = r.waiting[len(some):]
	r.mu.Unlock()
	if len(some) == 0 {
		return false
	}
	entries := make([]types.DeleteMessageBatchRequestEntry, len(some))
	for i, one := range some {
		entries[i] = types.DeleteMessageBatchRequestEntry{Id: aws.String(strconv.Itoa(i)), ReceiptHandle: aws.String(one.receipt)}
		defer close(one.done)
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	t := r.trigger
	if _, err := t.Queue.DeleteMessageBatch(ctx, &sqs.DeleteMessageBatchInput{QueueUrl: aws.String(t.QueueURL), Entries: entries}); err != nil {
		t.Log.Error("messages that were done stay in the queue", "messages", len(some), "error", err)
	}
	return true
}
