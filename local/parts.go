package local

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// errPart marks the end of a part that should have gone on.
var errPart = errors.New("a part of the stack ended")

type starter func(name string, run func(context.Context) error)

// parts are things that run, in the order in which they were started.
type parts struct {
	all  []part
	fail context.CancelCauseFunc
}

// newParts returns no parts yet, and a context that ends with ctx, or when a part ends
// that should have gone on.
func newParts(ctx context.Context) (*parts, context.Context) {
	ctx, fail := context.WithCancelCause(ctx)
	return &parts{fail: fail}, ctx
}

type part struct {
	name string
	stop context.CancelFunc
	done chan error
}

// start runs a part until it is stopped.
func (p *parts) start(name string, run func(context.Context) error) {
	ctx, stop := context.WithCancel(context.Background())
	one := part{name: name, stop: stop, done: make(chan error, 1)}
	p.all = append(p.all, one)
	go func() {
		err := run(ctx)
		if ctx.Err() == nil {
			p.fail(fmt.Errorf("%w: %s: %w", errPart, name, errors.Join(err, errors.New("it ended by itself"))))
		}
		one.done <- err
	}()
}

// stop ends the parts, the last one first, each before the next. It returns the part's
// end that ended ctx, the one of newParts, then err, then what went wrong in stopping.
func (p *parts) stop(ctx context.Context, err error) error {
	p.fail(nil)
	problems := []error{err}
	if cause := context.Cause(ctx); errors.Is(cause, errPart) {
		problems = []error{cause, err}
	}
	for i := len(p.all) - 1; i >= 0; i-- {
		one := p.all[i]
		one.stop()
		select {
		case err := <-one.done:
			if err != nil && !errors.Is(err, context.Canceled) {
				problems = append(problems, fmt.Errorf("%s: %w", one.name, err))
			}
		case <-time.After(stopWithin):
			problems = append(problems, fmt.Errorf("%s did not stop within %v", one.name, stopWithin))
		}
	}
	return errors.Join(problems...)
}
