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
type parts []part

type part struct {
	name string
	stop context.CancelFunc
	done chan error
}

// start runs a part until it is stopped; if it ends before, fail is called.
func (p *parts) start(name string, run func(context.Context) error, fail context.CancelCauseFunc) {
	ctx, stop := context.WithCancel(context.Background())
	one := part{name: name, stop: stop, done: make(chan error, 1)}
	*p = append(*p, one)
	go func() {
		err := run(ctx)
		if ctx.Err() == nil {
			fail(fmt.Errorf("%w: %s: %w", errPart, name, errors.Join(err, errors.New("it ended by itself"))))
		}
		one.done <- err
	}()
}

// stop ends the parts, the last one first, each before the next.
func (p parts) stop() error {
	var problems []error
	for i := len(p) - 1; i >= 0; i-- {
		p[i].stop()
		select {
		case err := <-p[i].done:
			if err != nil && !errors.Is(err, context.Canceled) {
				problems = append(problems, fmt.Errorf("%s: %w", p[i].name, err))
			}
		case <-time.After(stopWithin):
			problems = append(problems, fmt.Errorf("%s did not stop within %v", p[i].name, stopWithin))
		}
	}
	return errors.Join(problems...)
}
