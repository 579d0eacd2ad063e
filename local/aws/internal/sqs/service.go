package sqs

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"go.etcd.io/bbolt"

	"whatisup/local/aws/internal/store"
	"whatisup/local/aws/internal/wire"
)

// Config is what the service is built on.
type Config struct {
	Store *store.Store
	Clock func() time.Time
	Log   *slog.Logger
	// Duplicate is asked for each message handed out whether to leave it
	// visible; Late for each one sent how long it shall be on its way.
	Duplicate func(queue string) bool
	Late      func(queue string) time.Duration
	// SearchWindow is among how many messages at the front of a FIFO queue a
	// receive looks for free groups; SearchWindow by default.
	SearchWindow int
}

// SearchWindow is SQS's own.
const SearchWindow = 120_000

// Service is SQS.
type Service struct {
	Config
	mu     sync.RWMutex
	queues map[string]*queue
	closed chan struct{}
}

// Open reads the queues' definitions.
func Open(c Config) (*Service, error) {
	s := &Service{Config: c, queues: map[string]*queue{}, closed: make(chan struct{})}
	if s.Duplicate == nil {
		s.Duplicate = func(string) bool { return false }
	}
	if s.Late == nil {
		s.Late = func(string) time.Duration { return 0 }
	}
	if s.SearchWindow == 0 {
		s.SearchWindow = SearchWindow
	}
	err := c.Store.Update(func(tx *bbolt.Tx) error {
		for _, b := range [][]byte{queuesBucket, dataBucket, deletedBucket} {
			if _, err := tx.CreateBucketIfNotExists(b); err != nil {
				return err
			}
		}
		return listFlights(tx)
	})
	if err != nil {
		return nil, err
	}
	return s, c.Store.View(func(tx *bbolt.Tx) error {
		return tx.Bucket(queuesBucket).ForEach(func(_, v []byte) error {
			d, err := loadDefinition(v)
			if err == nil {
				s.queues[d.Name] = newQueue(d)
			}
			return err
		})
	})
}

// Release ends every long poll, now and from now on.
func (s *Service) Release() {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-s.closed:
	default:
		close(s.closed)
	}
}

// Wake makes every long poll look at the clock again.
func (s *Service) Wake() {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, q := range s.queues {
		q.notify()
	}
}

// Request is one call.
type Request struct {
	Operation string
	Region    string
	BaseURL   string // of queue URLs: scheme and host
	Input     *wire.Node
}

type operation struct {
	shape *wire.Shape
	run   func(*Service, context.Context, *Request) (any, error)
}

var operations = map[string]operation{
	"CreateQueue":                  {createQueueShape, (*Service).createQueue},
	"DeleteQueue":                  {queueShape, (*Service).deleteQueue},
	"GetQueueUrl":                  {getQueueURLShape, (*Service).getQueueURL},
	"GetQueueAttributes":           {getQueueAttributesShape, (*Service).getQueueAttributes},
	"SetQueueAttributes":           {setQueueAttributesShape, (*Service).setQueueAttributes},
	"ListQueues":                   {listQueuesShape, (*Service).listQueues},
	"PurgeQueue":                   {queueShape, (*Service).purgeQueue},
	"SendMessage":                  {sendMessageShape, (*Service).sendMessage},
	"SendMessageBatch":             {sendMessageBatchShape, (*Service).sendMessageBatch},
	"ReceiveMessage":               {receiveMessageShape, (*Service).receiveMessage},
	"DeleteMessage":                {deleteMessageShape, (*Service).deleteMessage},
	"DeleteMessageBatch":           {deleteMessageBatchShape, (*Service).deleteMessageBatch},
	"ChangeMessageVisibility":      {changeMessageVisibilityShape, (*Service).changeMessageVisibility},
	"ChangeMessageVisibilityBatch": {changeMessageVisibilityBatchShape, (*Service).changeMessageVisibilityBatch},
}

// Serves says whether the operation is one of the closed list.
func Serves(op string) bool { _, ok := operations[op]; return ok }

// Do serves one request; the answer is to be marshalled, nil for none.
func (s *Service) Do(ctx context.Context, r *Request) (any, error) {
	op := operations[r.Operation]
	if err := op.shape.Check(r.Operation, r.Input); err != nil {
		return nil, err
	}
	return op.run(s, ctx, r)
}

// QueueOf names the queue that a request is about; "" if none.
func QueueOf(input *wire.Node) string {
	if name := input.Str("QueueName"); name != "" {
		return name
	}
	return queueName(input.Str("QueueUrl"))
}
