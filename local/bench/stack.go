package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"

	"whatisup/local"
	localaws "whatisup/local/aws"
	"whatisup/shared/dynamo"
	"whatisup/shared/operator"
	"whatisup/shared/whatisup"
)

// stack is the local stack without a session host, in a process of its own: API,
// AWS and the simulator, each on its port.
type stack struct {
	*child
	API, WhatsApp string
	// AWS is the embedded AWS itself, HostAWS what hosts are given: the same
	// behind a meter. Functions have a meter of their own.
	AWS, HostAWS string
	Env          map[string]string
	dir          string
}

// readyStack is what a stack says when it is up.
type readyStack struct {
	API, WhatsApp, AWS, HostAWS string
	Env                         map[string]string
}

// metered is a question to both meters: begin a new count or end it.
type metered struct{ On bool }

// readings are their answers.
type readings struct{ API, Host counted }

// startStack starts a stack on a fresh directory under dir.
func startStack(ctx context.Context, dir string) (*stack, error) {
	dir, err := os.MkdirTemp(dir, "stack-")
	if err != nil {
		return nil, err
	}
	up := make(chan readyStack, 1)
	// What stands in for AWS and WhatsApp shares the processors with what is
	// measured, and its memory is nobody's concern.
	c, err := spawn("stack", []string{dirVariable + "=" + dir, "GOGC=400"}, func(body json.RawMessage) {
		var r readyStack
		if json.Unmarshal(body, &r) == nil {
			up <- r
		}
	})
	if err != nil {
		return nil, err
	}
	select {
	case r := <-up:
		return &stack{c, r.API, r.WhatsApp, r.AWS, r.HostAWS, r.Env, dir}, nil
	case <-c.ended:
		return nil, c.failed
	case <-ctx.Done():
		c.stop()
		return nil, ctx.Err()
	}
}

const dirVariable = "WHATISUP_BENCH_DIR"

// customer makes a customer and returns it with its keys.
func (s *stack) customer(ctx context.Context, name string) (made operator.Made, err error) {
	err = s.ask(ctx, "customer", name, &made)
	return made, err
}

// meter begins a new count (or ends it) and returns what the last one came to.
func (s *stack) meter(ctx context.Context, on bool) (r readings, err error) {
	err = s.ask(ctx, "meter", metered{on}, &r)
	return r, err
}

// metering counts what happens while f runs.
func (s *stack) metering(ctx context.Context, f func() error) (readings, error) {
	if _, err := s.meter(ctx, true); err != nil {
		return readings{}, err
	}
	err := f()
	r, err2 := s.meter(ctx, false)
	return r, errors.Join(err, err2)
}

// root is the folder with go.mod, from which a stack is started.
func root() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			return "", errors.New("go.mod is nowhere above the working directory")
		}
		dir = filepath.Dir(dir)
	}
}

// runStack is the role "stack".
func runStack(ctx context.Context) error {
	var api, host meter
	api.reset(false)
	host.reset(false)
	var direct, hostAWS string
	var fronts sync.WaitGroup
	var listeners []net.Listener
	front := func(aws *localaws.Server) (string, error) {
		urls := make([]string, 3)
		for i, h := range []http.Handler{&api, &host, aws} {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				return "", err
			}
			listeners = append(listeners, l)
			urls[i] = "http://" + l.Addr().String()
			server := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second}
			fronts.Go(func() { _ = server.Serve(l) }) // ends with its listener
		}
		api.aws, host.aws = aws, aws
		hostAWS, direct = urls[1], urls[2]
		return urls[0], nil
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	ready := make(chan *local.Stack, 1)
	ended := make(chan error, 1)
	go func() {
		ended <- local.Run(ctx, local.Config{
			DataDir: os.Getenv(dirVariable), Bind: "127.0.0.1", WhatsApp: "sandbox", EventQueue: true, NoHost: true, Front: front,
			// The bucket is as busy as in production, and never empty.
			Limits: whatisup.RateLimit{Burst: 10_000_000, PerSecond: 1},
			Log:    slog.New(slog.NewJSONHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError})),
		}, func(s *local.Stack) { ready <- s })
	}()
	var s *local.Stack
	select {
	case s = <-ready:
	case err := <-ended:
		return err
	}
	api.signs.Store(&s.AWSConf)
	host.signs.Store(&s.AWSConf)
	peppers, err := whatisup.ParsePeppers(s.Env["PEPPER"])
	if err != nil {
		return err
	}
	db := dynamo.New(dynamo.Config{Client: dynamodb.NewFromConfig(s.AWSConf), Tables: dynamo.Local(), Queues: true})
	customers := operator.New(db, peppers)
	err = serve(ctx, func(say func(any)) answers {
		say(readyStack{s.API, s.WhatsApp, direct, hostAWS, s.Env})
		return answers{
			"customer": on(func(ctx context.Context, name string) (any, error) { return customers.MakeCustomer(ctx, name) }),
			"fill":     on(func(ctx context.Context, in filling) (any, error) { return nil, fill(ctx, db, in) }),
			"meter": on(func(_ context.Context, in metered) (any, error) {
				return readings{api.reset(in.On), host.reset(in.On)}, nil
			}),
			"process": on(func(context.Context, struct{}) (any, error) { return readSelf(), nil }),
		}
	})
	stop()
	err = errors.Join(err, <-ended)
	for _, l := range listeners {
		err = errors.Join(err, l.Close())
	}
	fronts.Wait()
	for what, n := range s.Server.Unknown() {
		err = errors.Join(err, fmt.Errorf("AWS was asked %d times for %s, which the embedded one doesn't know", n, what))
	}
	return err
}

// filling asks for a customer's live instances straight in the tables, as the API
// makes them.
type filling struct {
	Customer whatisup.CustomerID
	N        int
}

func fill(ctx context.Context, db *dynamo.DB, in filling) error {
	_, err := each(in.N, 8, func(i int) (time.Duration, time.Duration, error) {
		id := whatisup.NewInstanceID()
		e, err := whatisup.NewEvent(whatisup.InstanceCreated, in.Customer, whatisup.Live, id, id.CreatedAt(), map[string]int{"n": i})
		if err != nil {
			return 0, 0, err
		}
		return 0, 0, db.CreateInstance(ctx, whatisup.Config{
			Customer: in.Customer, Mode: whatisup.Live, ID: id, Name: fmt.Sprintf("instance %d", i),
			Metadata: json.RawMessage("{}"), Version: 1, UpdatedAt: id.CreatedAt(),
		}, whatisup.Created{Event: e})
	})
	return err
}

// cpuOf is the processor time that this process has used.
func cpuOf() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
