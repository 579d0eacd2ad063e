package aws

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"whatisup/local/aws/internal/dynamodb"
	"whatisup/local/aws/internal/fault"
	"whatisup/local/aws/internal/kms"
	"whatisup/local/aws/internal/s3"
	"whatisup/local/aws/internal/sqs"
	"whatisup/local/aws/internal/store"
	"whatisup/local/body"
)

// ErrInUse is what Open returns for a file that another process has open.
var ErrInUse = store.ErrInUse

// Root is a key that seals the keys of KMS in the file.
type Root = kms.Root

// ParseRoots reads root keys as "2:<base64 of 32 bytes>,1:<base64 of 32 bytes>".
// The first one seals; the others open what they sealed before, and Open seals it
// anew.
func ParseRoots(text string) ([]Root, error) { return kms.ParseRoots(text) }

// ErrDamaged says that the file can't be read as it is.
var ErrDamaged = store.ErrDamaged

// Config is how the services are set up.
type Config struct {
	// Path is the file that everything is kept in; it is made if need be.
	Path string
	// Objects is the folder of the bytes of S3's objects; "objects" beside the
	// file by default. It belongs to the file: neither is worth anything alone.
	Objects string
	// Clock tells the time; time.Now by default.
	Clock func() time.Time
	// Log takes what goes wrong; nothing is logged by default. Requests, keys
	// and messages are never logged.
	Log *slog.Logger
	// ExpiryDelay is how long an item outlives its TTL at least; a minute by
	// default. SweepEvery is how often expired items are looked for; 15
	// seconds by default.
	ExpiryDelay, SweepEvery time.Duration
	// AccessKey ("local" by default) and SecretKey are what requests must be
	// signed with. Without a SecretKey any signature will do, and then only
	// requests over loopback are served; S3's, which can be lent, must then be
	// signed with "local".
	AccessKey, SecretKey string
	// Roots seal the keys of KMS in the file: see ParseRoots. Without any they
	// stand in it as they are.
	Roots []Root
	// Created hears of each object of S3 that was written, once it can be read; nil:
	// nobody does. It is what S3's notifications are elsewhere, and must not wait.
	Created func(bucket, key string)
	// Written hears of each item of DynamoDB that was put or changed, once it can be
	// read, by its table and its partition; nil: nobody does. It is what DynamoDB
	// Streams are elsewhere, and must not wait.
	Written func(table, partition string)
	// SearchWindow is among how many messages at the front of a FIFO queue a
	// receive looks for free groups; SQS's own number by default.
	SearchWindow int
	// MaxBodies bounds the sum of the requests' bodies in hand, in bytes; 256
	// MiB by default. BodyWithin is how long one may take to come; 30 seconds by
	// default.
	MaxBodies  int64
	BodyWithin time.Duration
}

// Server is the four services behind one http.Handler.
type Server struct {
	config   Config
	store    *store.Store
	dynamodb *dynamodb.Service
	sqs      *sqs.Service
	kms      *kms.Service
	s3       *s3.Service
	faults   fault.Set
	bodies   *body.Room
	offset   atomic.Int64 // what Step has added to the clock

	mu       sync.Mutex
	unknown  map[string]int
	requests map[string]int
}

// Open opens the file. A file that another process has open is refused with
// ErrInUse.
func Open(c Config) (*Server, error) {
	c.ExpiryDelay = cmp.Or(c.ExpiryDelay, time.Minute)
	c.SweepEvery = cmp.Or(c.SweepEvery, 15*time.Second)
	c.AccessKey = cmp.Or(c.AccessKey, "local")
	c.Objects = cmp.Or(c.Objects, filepath.Join(filepath.Dir(c.Path), "objects"))
	c.MaxBodies = cmp.Or(c.MaxBodies, defaultMaxBodies)
	c.BodyWithin = cmp.Or(c.BodyWithin, bodyWithin)
	if c.Clock == nil {
		c.Clock = time.Now
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	st, err := store.Open(c.Path, c.Log)
	if errors.Is(err, store.ErrInUse) {
		return nil, fmt.Errorf("%w: only one process at a time can serve this data; stop the other one or choose another DATA_DIR", err)
	}
	if err != nil {
		return nil, err
	}
	s := &Server{config: c, store: st, unknown: map[string]int{}, requests: map[string]int{}, bodies: body.NewRoom(c.MaxBodies)}
	if err := s.open(); err != nil {
		return nil, errors.Join(err, st.Close())
	}
	return s, nil
}

func (s *Server) open() (err error) {
	s.dynamodb, err = dynamodb.Open(dynamodb.Config{
		Store: s.store, Clock: s.Now, Written: s.config.Written,
		Unprocessed: func(operation, table string) bool {
			_, hit := s.faults.Take(fault.Unprocessed, serviceDynamoDB, operation, table)
			return hit
		},
	})
	if err != nil {
		return err
	}
	s.sqs, err = sqs.Open(sqs.Config{
		Store: s.store, Clock: s.Now, SearchWindow: s.config.SearchWindow,
		Duplicate: func(queue string) bool {
			_, hit := s.faults.Take(fault.Duplicate, serviceSQS, "ReceiveMessage", queue)
			return hit
		},
		Late: func(queue string) time.Duration {
			f, _ := s.faults.Take(fault.Late, serviceSQS, "SendMessage", queue)
			return f.Delay
		},
	})
	if err != nil {
		return err
	}
	var bare bool
	s.kms, bare, err = kms.Open(kms.Config{Store: s.store, Clock: s.Now, Roots: s.config.Roots})
	if err != nil {
		return err
	}
	if bare {
		if err := s.store.Compact(); err != nil {
			return fmt.Errorf("remove unsealed keys from %s: %w", s.config.Path, err)
		}
	}
	s.s3, err = s3.Open(s3.Config{
		Store: s.store, Dir: s.config.Objects, Clock: s.Now, Signer: s.config.Clock,
		AccessKey: s.config.AccessKey, SecretKey: cmp.Or(s.config.SecretKey, "local"), Created: s.config.Created,
	})
	return err
}

// Now is the services' time: the clock's, with every Step added.
func (s *Server) Now() time.Time { return s.config.Clock().Add(time.Duration(s.offset.Load())) }

// Step moves the services' time, forwards or backwards.
func (s *Server) Step(d time.Duration) {
	s.offset.Add(int64(d))
	s.sqs.Wake()
}

// Sweep deletes now what Run would delete next: expired items, messages past
// their retention, tokens and deduplication ids that no longer count. It
// returns the number of items.
func (s *Server) Sweep(ctx context.Context) (items int, err error) {
	items, err = s.dynamodb.Sweep(ctx, s.config.ExpiryDelay)
	return items, errors.Join(err, s.dynamodb.Forget(), s.sqs.Sweep(ctx), s.s3.Sweep(ctx))
}

// Run does what happens without being asked for, until ctx ends; then it
// returns nil.
func (s *Server) Run(ctx context.Context) error {
	tick := time.NewTicker(s.config.SweepEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if _, err := s.Sweep(ctx); err != nil && ctx.Err() == nil {
			s.config.Log.Error("sweep failed", "error", err)
		}
	}
}

// Serve answers requests on the listener and does what Run does, until ctx
// ends. It closes the listener and waits for requests under way, long polls
// excepted, which end empty.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	server := &http.Server{Handler: s, ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 2 * time.Minute, IdleTimeout: 5 * time.Minute}
	ctx, stop := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() { s.Run(ctx) }) //nolint:errcheck // always nil
	wg.Go(func() {
		<-ctx.Done()
		s.sqs.Release()
		grace, done := context.WithTimeout(context.Background(), 5*time.Second)
		defer done()
		if server.Shutdown(grace) != nil {
			server.Close()
		}
	})
	err := server.Serve(l)
	stop()
	wg.Wait()
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// Close ends long polls and closes the file. Requests that come later are
// answered with a 500.
func (s *Server) Close() error {
	s.sqs.Release()
	return s.store.Close()
}

// Snapshot writes the file as it is at one moment, while requests go on; size is
// told before how much that is. The bytes of S3's objects are not in it.
func (s *Server) Snapshot(size func(int64) error, to io.Writer) error {
	return s.store.Snapshot(size, to)
}

// Unknown lists the requests for what is not implemented, each once, with how
// often it came. A test of the whole system ends by finding it empty.
func (s *Server) Unknown() map[string]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.unknown)
}

// Requests tells how often each operation was asked for, as service.Operation,
// faults included.
func (s *Server) Requests() map[string]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.requests)
}

func (s *Server) count(service, operation string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests[service+"."+operation]++
}

func (s *Server) countUnknown(what string) {
	s.config.Log.Error("not implemented", "request", what)
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.unknown[what]; ok || len(s.unknown) < maxUnknown {
		s.unknown[what]++
	}
}

// maxUnknown bounds the list; its first entries tell enough.
const maxUnknown = 1000
