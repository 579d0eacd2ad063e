package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"time"
)

// roleVariable says which part a process of this program plays.
const roleVariable = "WHATISUP_BENCH_ROLE"

// line is what parent and child say to each other, one a line. The child answers
// a question under its number; what it says by itself has number 0.
type line struct {
	ID    int             `json:"id,omitempty"`
	Do    string          `json:"do,omitempty"`
	Body  json.RawMessage `json:"body,omitempty"`
	Error string          `json:"error,omitempty"`
}

// child is this program in another role, in a process of its own. It ends when
// its standard input does, so it never outlives this process.
type child struct {
	cmd   *exec.Cmd
	in    io.WriteCloser
	said  func(json.RawMessage)
	ended chan struct{}

	mu     sync.Mutex
	next   int
	asked  map[int]chan line
	failed error
}

// spawn starts a role with further settings of the form NAME=value. said gets
// what the child says unasked; it may be nil.
func spawn(role string, env []string, said func(json.RawMessage)) (*child, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	c := &child{cmd: exec.Command(program), said: said, ended: make(chan struct{}), asked: make(map[int]chan line)}
	c.cmd.Env = append(append(os.Environ(), roleVariable+"="+role), env...)
	c.cmd.Stderr = os.Stderr
	if c.in, err = c.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := c.cmd.Start(); err != nil {
		return nil, err
	}
	go c.read(role, out)
	return c, nil
}

func (c *child) read(role string, out io.Reader) {
	defer close(c.ended)
	lines := bufio.NewReaderSize(out, 1<<16)
	for {
		text, err := lines.ReadBytes('\n')
		if err != nil {
			break
		}
		var l line
		if json.Unmarshal(text, &l) != nil {
			continue
		}
		if l.ID == 0 {
			if c.said != nil {
				c.said(l.Body)
			}
			continue
		}
		c.mu.Lock()
		answer := c.asked[l.ID]
		delete(c.asked, l.ID)
		c.mu.Unlock()
		if answer != nil {
			answer <- l
		}
	}
	err := c.cmd.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.failed = fmt.Errorf("the process in the role %q has ended: %w", role, errors.Join(err, io.EOF))
	for id, answer := range c.asked {
		answer <- line{ID: id, Error: c.failed.Error()}
	}
	c.asked = nil
}

// ask asks the child to do something, and decodes its answer into out, which may
// be nil.
func (c *child) ask(ctx context.Context, do string, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	answer := make(chan line, 1)
	c.mu.Lock()
	if c.asked == nil {
		c.mu.Unlock()
		return c.failed
	}
	c.next++
	text, err := json.Marshal(line{ID: c.next, Do: do, Body: body})
	if err == nil {
		c.asked[c.next] = answer
		_, err = c.in.Write(append(text, '\n'))
	}
	c.mu.Unlock()
	if err != nil {
		return err
	}
	select {
	case l := <-answer:
		if l.Error != "" {
			return fmt.Errorf("%s: %s", do, l.Error)
		}
		if out == nil {
			return nil
		}
		return json.Unmarshal(l.Body, out)
	case <-ctx.Done():
		return fmt.Errorf("%s: %w", do, ctx.Err())
	}
}

// stop ends the child and waits for it, within bounds.
func (c *child) stop() {
	_ = c.in.Close()
	select {
	case <-c.ended:
	case <-time.After(30 * time.Second):
		_ = c.cmd.Process.Kill()
		<-c.ended
	}
}

// answers is what a role can do.
type answers map[string]func(ctx context.Context, in json.RawMessage) (any, error)

// serve answers the parent until standard input ends. say, given to begin, tells
// the parent something unasked.
func serve(ctx context.Context, begin func(say func(any)) answers) error {
	var mu sync.Mutex
	out := json.NewEncoder(os.Stdout)
	write := func(l line) {
		mu.Lock()
		defer mu.Unlock()
		_ = out.Encode(l) // if the parent is gone, so is standard input
	}
	all := begin(func(v any) {
		if body, err := json.Marshal(v); err == nil {
			write(line{Body: body})
		}
	})
	ctx, stop := context.WithCancel(ctx)
	var working sync.WaitGroup
	defer working.Wait()
	defer stop()
	in := json.NewDecoder(os.Stdin)
	for {
		var l line
		if err := in.Decode(&l); err != nil {
			return nil // the parent wants no more
		}
		do := all[l.Do]
		if do == nil {
			write(line{ID: l.ID, Error: "unknown: " + l.Do})
			continue
		}
		working.Go(func() {
			v, err := do(ctx, l.Body)
			answer := line{ID: l.ID}
			if err == nil {
				answer.Body, err = json.Marshal(v)
			}
			if err != nil {
				answer.Error = err.Error()
			}
			write(answer)
		})
	}
}

// on makes an answer of a function with a typed question.
func on[In any](do func(ctx context.Context, in In) (any, error)) func(context.Context, json.RawMessage) (any, error) {
	return func(ctx context.Context, raw json.RawMessage) (any, error) {
		var in In
		if err := json.Unmarshal(raw, &in); err != nil {
			return nil, err
		}
		return do(ctx, in)
	}
}
