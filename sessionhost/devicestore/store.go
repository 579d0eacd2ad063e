package devicestore

import (
	"cmp"
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"golang.org/x/sync/errgroup"

	"whatisup/shared/seal"
	"whatisup/shared/whatisup"
)

// DynamoDB is what this package asks of the table; [dynamodb.Client] has it.
type DynamoDB interface {
	GetItem(context.Context, *dynamodb.GetItemInput, ...func(*dynamodb.Options)) (*dynamodb.GetItemOutput, error)
	BatchGetItem(context.Context, *dynamodb.BatchGetItemInput, ...func(*dynamodb.Options)) (*dynamodb.BatchGetItemOutput, error)
	Query(context.Context, *dynamodb.QueryInput, ...func(*dynamodb.Options)) (*dynamodb.QueryOutput, error)
	PutItem(context.Context, *dynamodb.PutItemInput, ...func(*dynamodb.Options)) (*dynamodb.PutItemOutput, error)
	UpdateItem(context.Context, *dynamodb.UpdateItemInput, ...func(*dynamodb.Options)) (*dynamodb.UpdateItemOutput, error)
	DeleteItem(context.Context, *dynamodb.DeleteItemInput, ...func(*dynamodb.Options)) (*dynamodb.DeleteItemOutput, error)
	BatchWriteItem(context.Context, *dynamodb.BatchWriteItemInput, ...func(*dynamodb.Options)) (*dynamodb.BatchWriteItemOutput, error)
	TransactWriteItems(context.Context, *dynamodb.TransactWriteItemsInput, ...func(*dynamodb.Options)) (*dynamodb.TransactWriteItemsOutput, error)
}

// Config is what a [Store] needs. Table, DynamoDB and Keyring must be set.
type Config struct {
	Table    string
	DynamoDB DynamoDB
	Keyring  *seal.Keyring
	Log      *slog.Logger // nothing secret is written to it; nil: slog.Default()

	// Format is how links are stored; 0 means FormatLog. A link of another one
	// takes this one when it is loaded.
	Format Format

	// CacheBytes bounds the rows kept in memory for one busy link; 0 means
	// 256 KB. A link that has been idle for two minutes keeps at most 8 KB.
	CacheBytes int
}

// Format is a way to store a link.
type Format uint64

// The formats that links can be given.
const (
	FormatRows Format = formatNumbered // each change is a transaction of its rows
	FormatLog  Format = formatLog      // each change is an entry of a log; see the package's text
)

const (
	readTimeout    = 5 * time.Second          // one read with all its retries
	commitTimeout  = 8 * time.Second          // one write with all its retries; below a lease's trust
	logWithin      = whatisup.PositionLag / 2 // from a decryption until its row of the log
	putTimeout     = 2 * time.Second          // that row, before it is written the other way
	flushAfter     = 10 * time.Minute         // how long a staged write may wait for company
	idleAfter      = 2 * time.Minute
	idleCacheBytes = 8 << 10
	tick           = time.Second
	flushers       = 8
)

// Store is a host's access to the devices table. One serves all instances.
type Store struct {
	db         DynamoDB
	table      string
	keyring    *seal.Keyring
	log        *slog.Logger
	cacheBytes int
	format     Format
	packer     packer

	readTimeout   time.Duration // the constants, but for tests
	commitTimeout time.Duration
	logWithin     time.Duration
	foldSoon      uint64
	foldNow       uint64

	mu      sync.Mutex
	handles map[*Handle]struct{}
	sweeps  map[whatisup.InstanceID]*sweeping
}

// New returns a store. Nothing runs until [Store.Run].
func New(c Config) *Store {
	return &Store{
		db:            c.DynamoDB,
		table:         c.Table,
		keyring:       c.Keyring,
		log:           cmp.Or(c.Log, slog.Default()),
		format:        cmp.Or(c.Format, FormatLog),
		cacheBytes:    cmp.Or(c.CacheBytes, 256<<10),
		readTimeout:   readTimeout,
		commitTimeout: commitTimeout,
		logWithin:     logWithin,
		foldSoon:      foldSoon,
		foldNow:       foldNow,
		handles:       make(map[*Handle]struct{}),
		sweeps:        make(map[whatisup.InstanceID]*sweeping),
	}
}

// Instance names one instance and its owner, as its data keys are bound to
// them.
type Instance struct {
	ID         whatisup.InstanceID
	CustomerID whatisup.CustomerID
	Mode       whatisup.Mode
}

func (i Instance) owner() seal.Owner {
	return seal.Owner{CustomerID: string(i.CustomerID), InstanceID: string(i.ID)}
}

// Fence is the right to act for an instance, and what happens when it is lost.
type Fence struct {
	// Epoch is the one that adoption wrote to the device row.
	Epoch whatisup.Epoch

	// Context ends when the shard's trust or the session ends. Every operation
	// of the handle ends with it.
	Context context.Context

	// Fail closes the session's connection. It is called once, by the operation
	// that cannot be mended and before that operation returns, so that nothing
	// can be acknowledged after it. It must not block and must not call the
	// handle.
	Fail func(error)
}

// Open returns a handle for an adopted instance. It asks the table nothing.
// There must be one open handle for an instance at a time; another one is
// opened after [Handle.Close], or after the first has failed.
func (s *Store) Open(instance Instance, fence Fence) *Handle {
	h := &Handle{store: s, instance: instance, fence: fence, opened: time.Now()}
	h.ctx, h.cancel = context.WithCancelCause(fence.Context)
	s.mu.Lock()
	s.handles[h] = struct{}{}
	s.mu.Unlock()
	return h
}

func (s *Store) forget(h *Handle) {
	s.mu.Lock()
	delete(s.handles, h)
	s.mu.Unlock()
}

// open returns the handles that are open now.
func (s *Store) open() []*Handle {
	s.mu.Lock()
	defer s.mu.Unlock()
	hs := make([]*Handle, 0, len(s.handles))
	for h := range s.handles {
		hs = append(hs, h)
	}
	return hs
}

// Run does what no call waits for, until ctx ends: it writes what was staged
// and found no company, shrinks the caches of idle links, and removes the rows
// of wiped links. It returns after its last goroutine, with ctx's error.
func (s *Store) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { s.runSweeper(ctx) })

	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case now := <-ticker.C:
			var some errgroup.Group
			some.SetLimit(flushers)
			for _, h := range s.open() {
				some.Go(func() error { h.maintain(ctx, now); return nil })
			}
			_ = some.Wait() // nothing fails but by log
		}
	}
}
