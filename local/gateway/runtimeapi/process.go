package runtimeapi

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"slices"
	"strconv"
	"sync"
	"time"
)

// process is one process of the binary and the Runtime API that it talks to.
type process struct {
	function *Function
	once     sync.Once // ready

	mu       sync.Mutex
	asked    bool   // for an invocation, so it has started well
	broken   *Error // what it reported of its start
	current  *invocation
	deadline *time.Timer
	timedOut bool
	ended    bool
}

// run starts the process and returns when it has ended: with an error if it
// never got as far as asking for work.
func (p *process) run(ctx context.Context) error {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	cfg := p.function.cfg
	ctx, kill := context.WithCancel(ctx)
	defer kill()
	server := &http.Server{Handler: p.api(kill), ReadHeaderTimeout: 10 * time.Second}
	serving := make(chan error, 1)
	go func() { serving <- server.Serve(listener) }()

	cmd := exec.CommandContext(ctx, cfg.Binary)
	cmd.Env = append(slices.Clone(cfg.Env),
		"AWS_LAMBDA_RUNTIME_API="+listener.Addr().String(),
		"AWS_LAMBDA_FUNCTION_NAME="+cfg.Name,
		"AWS_LAMBDA_FUNCTION_VERSION=$LATEST",
		"AWS_LAMBDA_FUNCTION_MEMORY_SIZE="+strconv.Itoa(cmp.Or(cfg.MemoryMB, 128)),
		"AWS_LAMBDA_INITIALIZATION_TYPE=on-demand",
		"AWS_LAMBDA_LOG_FORMAT=JSON",
		"AWS_EXECUTION_ENV=AWS_Lambda_provided.al2023",
		"_HANDLER=bootstrap",
	)
	cmd.Stdout, cmd.Stderr = cfg.Output, cfg.Output
	cmd.WaitDelay = 5 * time.Second
	failed := cmd.Run()

	p.mu.Lock()
	p.ended = true
	in, timedOut, asked, broken := p.current, p.timedOut, p.asked, p.broken
	p.mu.Unlock()
	if in != nil {
		if timedOut {
			in.fail(ErrTimeout)
		} else {
			in.fail(fmt.Errorf("%w: %w", ErrExited, cmp.Or(failed, errors.New("without an error"))))
		}
	}
	closed := server.Close()
	<-serving
	switch {
	case asked || ctx.Err() != nil:
		return closed
	case broken != nil:
		return broken
	default:
		return fmt.Errorf("exited before it asked for work: %w", cmp.Or(failed, errors.New("without an error")))
	}
}

func (p *process) api(kill func()) http.Handler {
	const at = "/2018-06-01/runtime/"
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+at+"invocation/next", func(w http.ResponseWriter, r *http.Request) { p.next(w, r, kill) })
	mux.HandleFunc("POST "+at+"invocation/{id}/response", p.response)
	mux.HandleFunc("POST "+at+"invocation/{id}/error", p.failure)
	mux.HandleFunc("POST "+at+"init/error", func(w http.ResponseWriter, r *http.Request) {
		p.mu.Lock()
		p.broken = readError(r.Body)
		p.mu.Unlock()
		w.WriteHeader(http.StatusAccepted)
	})
	return mux
}

// next waits for an invocation and gives it to the process.
func (p *process) next(w http.ResponseWriter, r *http.Request, kill func()) {
	p.mu.Lock()
	p.asked = true
	p.mu.Unlock()
	var in *invocation
	select {
	case in = <-p.function.requests:
	default:
	}
	p.ready()
	if in == nil {
		select {
		case in = <-p.function.requests:
		case <-r.Context().Done():
			return
		}
	}
	p.mu.Lock()
	if p.ended {
		p.mu.Unlock()
		in.fail(ErrExited)
		return
	}
	p.current = in
	p.deadline = time.AfterFunc(in.timeout, func() {
		p.mu.Lock()
		p.timedOut = true
		p.mu.Unlock()
		kill()
	})
	p.mu.Unlock()
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Lambda-Runtime-Aws-Request-Id", in.id)
	h.Set("Lambda-Runtime-Deadline-Ms", strconv.FormatInt(time.Now().Add(in.timeout).UnixMilli(), 10))
	h.Set("Lambda-Runtime-Invoked-Function-Arn", "arn:aws:lambda:local:000000000000:function:"+p.function.cfg.Name)
	w.Write(in.event)
}

// ready ends the time in which the process was starting, however it ended.
func (p *process) ready() {
	p.once.Do(func() { p.function.count(&p.function.starting, -1) })
}

// response passes an answer on while the function writes it.
func (p *process) response(w http.ResponseWriter, r *http.Request) {
	in := p.take(w, r)
	if in == nil {
		return
	}
	in.begin(r.Header.Get("Content-Type"))
	_, err := io.Copy(&lenient{to: in.writer}, r.Body)
	if kind := r.Trailer.Get("Lambda-Runtime-Function-Error-Type"); err == nil && kind != "" {
		reported := &Error{Type: kind}
		if body, bad := base64.StdEncoding.DecodeString(r.Trailer.Get("Lambda-Runtime-Function-Error-Body")); bad == nil {
			if json.Unmarshal(body, reported) != nil {
				reported.Type = kind
			}
		}
		err = reported
	}
	if p.finish(in) {
		if err != nil {
			in.fail(err)
		}
		in.writer.Close()
	}
	w.WriteHeader(http.StatusAccepted)
}

// lenient goes on when nobody reads any more: as in AWS, a client that leaves
// stops nothing.
type lenient struct {
	to   io.Writer
	left bool
}

func (l *lenient) Write(b []byte) (int, error) {
	if !l.left {
		_, err := l.to.Write(b)
		l.left = err != nil
	}
	return len(b), nil
}

func (p *process) failure(w http.ResponseWriter, r *http.Request) {
	in := p.take(w, r)
	if in == nil {
		return
	}
	reported := readError(r.Body)
	if p.finish(in) {
		in.fail(reported)
	}
	w.WriteHeader(http.StatusAccepted)
}

// take returns the invocation that the request is about, if it is the one the
// process has.
func (p *process) take(w http.ResponseWriter, r *http.Request) *invocation {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.current == nil || p.current.id != r.PathValue("id") {
		http.Error(w, `{"errorType":"InvalidRequestID"}`, http.StatusBadRequest)
		return nil
	}
	return p.current
}

// finish makes the process free. It is false if the timeout came first, whose
// failure stands.
func (p *process) finish(in *invocation) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.timedOut || p.current != in {
		return false
	}
	p.deadline.Stop()
	p.current = nil
	return true
}

func readError(body io.Reader) *Error {
	reported := &Error{}
	b, err := io.ReadAll(io.LimitReader(body, 1<<20))
	if err != nil || json.Unmarshal(b, reported) != nil {
		return &Error{Type: "Unknown", Message: "the function's own report can't be read"}
	}
	return reported
}
