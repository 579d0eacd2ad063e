package session

import (
	"context"

	"whatisup/shared/whatisup"
)

// request is something the instance is asked to do.
type request struct {
	ctx     context.Context
	command *whatisup.Command
	answer  chan<- answer // has room for one
}

type answer struct {
	result whatisup.Result
	err    error
}

var (
	errNotConnected   = whatisup.NewError(whatisup.CodeNotConnected, "The instance is not connected.")
	errUnknownCommand = whatisup.NewError(whatisup.CodeInvalidRequest, "This version knows no command of this kind.")
)

// Do has the session run a command, and returns its result. A refusal is a
// [whatisup.Error]; after any other error the command may be tried again. Do ends
// with ctx at the latest, whether or not the session ever comes to it.
func (s *Session) Do(ctx context.Context, c *whatisup.Command) (whatisup.Result, error) {
	if s.kit.Performers[c.Kind] == nil {
		return whatisup.Result{}, errUnknownCommand
	}
	answers := make(chan answer, 1)
	select {
	case s.requests <- request{ctx, c, answers}:
	case <-s.ended:
		return whatisup.Result{}, errNotConnected
	case <-ctx.Done():
		return whatisup.Result{}, ctx.Err()
	}
	select {
	case a := <-answers:
		return a.result, a.err
	case <-ctx.Done():
		return whatisup.Result{}, ctx.Err()
	}
}

// accept answers a request or has it run. The command runs on a goroutine of its
// own, so that the session goes on hearing of its line; it ends with the
// connection.
func (s *Session) accept(r request, l Line) {
	if l == nil || s.up == nil {
		r.answer <- answer{err: errNotConnected}
		return
	}
	ctx, cancel := context.WithCancel(r.ctx)
	forget := context.AfterFunc(s.up, cancel)
	perform := s.kit.Performers[r.command.Kind]
	s.working.Go(func() {
		defer cancel()
		defer forget()
		result, err := perform(ctx, l, r.command)
		r.answer <- answer{result, err}
	})
}
