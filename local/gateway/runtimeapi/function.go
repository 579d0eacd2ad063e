package runtimeapi

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/google/uuid"
)

// Config of a [Function].
type Config struct {
	Name    string
	Binary  string
	Env     []string // the whole environment beside what Lambda adds, as name=value
	Timeout time.Duration
	// MemoryMB is only told to the function.
	MemoryMB int
	// Concurrency is how many processes there may be, 0 for one.
	Concurrency int
	// Output gets what the processes print; it must be safe for concurrent use.
	Output io.Writer
}

// Response is what a function answers. Body must be closed.
type Response struct {
	ContentType string
	Body        io.ReadCloser
}

// Error is what a function reports of an invocation that failed.
type Error struct {
	Type    string `json:"errorType"`
	Message string `json:"errorMessage"`
}

func (e *Error) Error() string { return e.Type + ": " + e.Message }

var (
	// ErrTimeout: the function took longer than its timeout and was killed.
	ErrTimeout = errors.New("function timed out")
	// ErrExited: the process ended in the middle of an invocation.
	ErrExited = errors.New("function exited")
	// ErrStopped: Run has returned.
	ErrStopped = errors.New("function is not running")
)

// Function is a function that can be invoked while Run runs.
type Function struct {
	cfg      Config
	requests chan *invocation
	changed  chan struct{} // a nudge for Run; holds one
	stopped  chan struct{}
	cause    error // why it stopped; readable after stopped is closed

	mu       sync.Mutex
	waiting  int // invocations that no process has taken
	running  int // processes
	starting int // processes that have not been ready yet
}

// New returns a function. Nothing happens before Run and the first invocation.
func New(c Config) *Function {
	c.Concurrency = cmp.Or(c.Concurrency, 1)
	return &Function{
		cfg:      c,
		requests: make(chan *invocation),
		changed:  make(chan struct{}, 1),
		stopped:  make(chan struct{}),
	}
}

// Run starts processes as invocations need them, and kills them when the
// context ends. It returns after the last one.
func (f *Function) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var processes sync.WaitGroup
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-f.changed:
			for f.startOne() {
				processes.Go(func() {
					p := &process{function: f}
					if err := p.run(ctx); err != nil {
						cancel(fmt.Errorf("function %s: %w", f.cfg.Name, err))
					}
					p.ready()
					f.count(&f.running, -1)
				})
			}
		}
	}
	if cause := context.Cause(ctx); !errors.Is(cause, context.Canceled) && !errors.Is(cause, context.DeadlineExceeded) {
		f.cause = cause
	}
	close(f.stopped)
	processes.Wait()
	return f.cause
}

// Invoke puts an event through the function. The context bounds the wait for
// the answer's beginning; the function itself is only stopped by its timeout.
func (f *Function) Invoke(ctx context.Context, event []byte) (*Response, error) {
	in := newInvocation(event, f.cfg.Timeout)
	if err := f.hand(ctx, in); err != nil {
		return nil, err
	}
	select {
	case r := <-in.answered:
		return r.response, r.err
	case <-ctx.Done():
		in.reader.CloseWithError(ctx.Err())
		return nil, ctx.Err()
	}
}

// startOne says whether one more process is needed, and counts it.
func (f *Function) startOne() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.waiting <= f.starting || f.running == f.cfg.Concurrency {
		return false
	}
	f.running++
	f.starting++
	return true
}

// count changes a count and lets Run look.
func (f *Function) count(what *int, by int) {
	f.mu.Lock()
	*what += by
	f.mu.Unlock()
	select {
	case f.changed <- struct{}{}:
	default:
	}
}

// hand gives the invocation to a process that is free, or to a new one.
func (f *Function) hand(ctx context.Context, in *invocation) error {
	select {
	case f.requests <- in:
		return nil
	default:
	}
	f.count(&f.waiting, 1)
	defer f.count(&f.waiting, -1)
	select {
	case f.requests <- in:
		return nil
	case <-f.stopped:
		return f.over()
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (f *Function) over() error {
	if f.cause != nil {
		return fmt.Errorf("%w: %w", ErrStopped, f.cause)
	}
	return ErrStopped
}

// invocation is one event on its way through a process.
type invocation struct {
	id       string
	event    []byte
	timeout  time.Duration
	answered chan answer // gets one
	once     sync.Once
	reader   *io.PipeReader
	writer   *io.PipeWriter
}

type answer struct {
	response *Response
	err      error
}

func newInvocation(event []byte, timeout time.Duration) *invocation {
	in := &invocation{id: uuid.NewString(), event: event, timeout: timeout, answered: make(chan answer, 1)}
	in.reader, in.writer = io.Pipe()
	return in
}

// begin gives the answer's beginning to the invoker.
func (in *invocation) begin(contentType string) {
	in.once.Do(func() { in.answered <- answer{response: &Response{ContentType: contentType, Body: in.reader}} })
}

// fail ends the invocation, whether its answer has begun or not.
func (in *invocation) fail(err error) {
	in.once.Do(func() { in.answered <- answer{err: err} })
	in.writer.CloseWithError(err)
}
