package runtimeapi

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-lambda-go/lambdacontext"
)

// The test binary is also the function under test: with this variable set it is
// a Lambda main of that kind.
const kindVariable = "FUNCTION_UNDER_TEST"

func TestMain(m *testing.M) {
	switch os.Getenv(kindVariable) {
	case "":
		os.Exit(m.Run())
	case "broken":
		os.Exit(3)
	default:
		lambda.Start(functionUnderTest)
	}
}

func functionUnderTest(ctx context.Context, in map[string]string) (any, error) {
	lc, _ := lambdacontext.FromContext(ctx)
	switch in["do"] {
	case "echo":
		deadline, _ := ctx.Deadline()
		return map[string]any{
			"said": in["say"], "id": lc.AwsRequestID, "name": os.Getenv("AWS_LAMBDA_FUNCTION_NAME"),
			"left": time.Until(deadline).Seconds(), "pid": os.Getpid(),
		}, nil
	case "fail":
		return nil, errors.New("refused")
	case "exit":
		os.Exit(7)
	case "hang":
		time.Sleep(time.Hour)
	case "stream":
		r, w := io.Pipe()
		go func() {
			io.WriteString(w, "one")
			io.WriteString(w, "two")
			if in["end"] == "badly" {
				w.CloseWithError(errors.New("lost it"))
			}
			w.Close()
		}()
		return &events.LambdaFunctionURLStreamingResponse{StatusCode: 200, Body: r}, nil
	}
	return nil, nil
}

// start runs a function of the kind until the test ends.
func start(t *testing.T, c Config, kind string) *Function {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c.Name, c.Binary, c.Env, c.Output = "under-test", self, []string{kindVariable + "=" + kind}, io.Discard
	if c.Timeout == 0 {
		c.Timeout = 30 * time.Second
	}
	f := New(c)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := f.Run(ctx); err != nil && kind != "broken" {
			t.Error(err)
		}
	})
	t.Cleanup(func() { cancel(); running.Wait() })
	return f
}

func call(t *testing.T, f *Function, event string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	r, err := f.Invoke(ctx, []byte(event))
	if err != nil {
		return "", err
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	return string(b), err
}

type echoed struct {
	Said, ID, Name string
	Left           float64
	PID            int
}

func echo(t *testing.T, f *Function) echoed {
	t.Helper()
	var got echoed
	answer, err := call(t, f, `{"do":"echo","say":"hello"}`)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(answer), &got); err != nil {
		t.Fatal(err)
	}
	return got
}

func TestInvoke(t *testing.T) {
	t.Parallel()
	f := start(t, Config{}, "good")
	first, second := echo(t, f), echo(t, f)
	if first.Said != "hello" || first.Name != "under-test" || first.ID == "" || first.ID == second.ID {
		t.Errorf("got %+v, then %+v", first, second)
	}
	if first.Left < 1 || first.Left > 30 {
		t.Errorf("the function had %v s left, want up to its timeout of 30", first.Left)
	}
	if first.PID != second.PID {
		t.Error("a process that was free was not used again")
	}
}

func TestFailures(t *testing.T) {
	t.Parallel()
	f := start(t, Config{Timeout: time.Second}, "good")
	before := echo(t, f)
	_, err := call(t, f, `{"do":"fail"}`)
	if reported, ok := errors.AsType[*Error](err); !ok || reported.Message != "refused" {
		t.Errorf("failure: got %v", err)
	}
	if after := echo(t, f); after.PID != before.PID {
		t.Error("a function that returned an error was not used again")
	}
	if _, err := call(t, f, `{"do":"exit"}`); !errors.Is(err, ErrExited) {
		t.Errorf("exit: got %v", err)
	}
	if _, err := call(t, f, `{"do":"hang"}`); !errors.Is(err, ErrTimeout) {
		t.Errorf("hang: got %v", err)
	}
	if after := echo(t, f); after.PID == before.PID {
		t.Error("a killed process answered")
	}
}

func TestStreaming(t *testing.T) {
	t.Parallel()
	f := start(t, Config{}, "good")
	answer, err := call(t, f, `{"do":"stream"}`)
	if err != nil {
		t.Fatal(err)
	}
	prelude, body, found := strings.Cut(answer, strings.Repeat("\x00", 8))
	if !found || body != "onetwo" || !strings.Contains(prelude, `"statusCode":200`) {
		t.Errorf("got %q", answer)
	}
	answer, err = call(t, f, `{"do":"stream","end":"badly"}`)
	if reported, ok := errors.AsType[*Error](err); !ok || reported.Message != "lost it" || !strings.HasSuffix(answer, "onetwo") {
		t.Errorf("got %q, %v", answer, err)
	}
}

func TestConcurrency(t *testing.T) {
	t.Parallel()
	f := start(t, Config{Concurrency: 2, Timeout: 30 * time.Second}, "good")
	// Two streams that nobody reads yet keep two processes busy.
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	var open []*Response
	for range 2 {
		r, err := f.Invoke(ctx, []byte(`{"do":"stream"}`))
		if err != nil {
			t.Fatal(err)
		}
		open = append(open, r)
	}
	short, stop := context.WithTimeout(ctx, 50*time.Millisecond)
	defer stop()
	if _, err := f.Invoke(short, []byte(`{"do":"echo"}`)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a third invocation beside two: %v", err)
	}
	open[0].Body.Close() // the client leaves, the function ends by itself
	echo(t, f)
	open[1].Body.Close()
}

func TestBroken(t *testing.T) {
	t.Parallel()
	f := start(t, Config{}, "broken")
	_, err := call(t, f, `{}`)
	if !errors.Is(err, ErrStopped) || !strings.Contains(err.Error(), "exit status 3") {
		t.Errorf("got %v", err)
	}
	if _, err := call(t, f, `{}`); !errors.Is(err, ErrStopped) {
		t.Errorf("afterwards: %v", err)
	}
}
