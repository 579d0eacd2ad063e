package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"
)

// release is how the functions are built for Lambda; the Makefile says the same.
var release = []string{"build", "-trimpath", "-buildvcs=false", "-tags", "lambda.norpc", "-ldflags=-s -w -buildid="}

// lambdas measures the size of each function's binary as it is deployed, and how
// long one built for this machine takes from its start to asking for work.
func (b *bench) lambdas(ctx context.Context) error {
	top, err := root()
	if err != nil {
		return err
	}
	mains, err := filepath.Glob(filepath.Join(top, "functions", "*", "main.go"))
	if err != nil || len(mains) == 0 {
		return errors.Join(err, errors.New("no functions"))
	}
	if b.size.Functions > 0 {
		mains = mains[:min(b.size.Functions, len(mains))]
	}
	build := func(name, arch string) (string, error) {
		path := filepath.Join(b.dir, name+"-"+arch)
		cmd := exec.CommandContext(ctx, "go", append(release, "-o", path, "./functions/"+name)...)
		cmd.Dir = top
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+arch)
		if runtime.GOOS != "linux" && arch == runtime.GOARCH {
			cmd.Env = append(cmd.Env, "GOOS="+runtime.GOOS)
		}
		if out, err := cmd.CombinedOutput(); err != nil {
			return "", fmt.Errorf("build %s: %w: %s", name, err, out)
		}
		return path, nil
	}
	for _, main := range mains {
		name := filepath.Base(filepath.Dir(main))
		deployed, err := build(name, b.size.Arch)
		if err != nil {
			return err
		}
		info, err := os.Stat(deployed)
		if err != nil {
			return err
		}
		most := 11.0
		if uses, err := links(ctx, top, name, "github.com/aws/aws-sdk-go-v2/service/s3"); err != nil {
			return err
		} else if uses {
			most = 13
		}
		b.report.add("Lambda: "+name+", size", float64(info.Size())/1e6, "MB", goal(most), note("linux/%s", b.size.Arch))
		native, err := build(name, runtime.GOARCH)
		if err != nil {
			return err
		}
		var ready spread
		for range b.size.Starts {
			d, err := b.start(ctx, native)
			if err != nil {
				return fmt.Errorf("start %s: %w", name, err)
			}
			ready = append(ready, ms(d))
		}
		b.report.add("Lambda: "+name+", start to ready, p50", ready.at(.5), "ms", goal(20), note("to asking for its first event; p99 %.3g ms of %d", ready.at(.99), len(ready)))
	}
	return nil
}

// links says whether a function links a package.
func links(ctx context.Context, top, name, pkg string) (bool, error) {
	cmd := exec.CommandContext(ctx, "go", "list", "-deps", "./functions/"+name)
	cmd.Dir = top
	out, err := cmd.Output()
	return slices.Contains(strings.Fields(string(out)), pkg), err
}

// start starts a function's binary and returns how long it took to ask for its
// first event.
func (b *bench) start(ctx context.Context, binary string) (time.Duration, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	asked := make(chan time.Time, 1)
	server := &http.Server{ReadHeaderTimeout: 10 * time.Second, Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/invocation/next") {
			select {
			case asked <- time.Now():
			default:
			}
		}
		<-r.Context().Done() // there is no event
	})}
	var serving sync.WaitGroup
	serving.Go(func() { _ = server.Serve(l) }) // ends with Close
	defer serving.Wait()
	defer server.Close()
	cmd := exec.Command(binary)
	for name, value := range b.stack.Env {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	cmd.Env = append(cmd.Env, "AWS_LAMBDA_RUNTIME_API="+l.Addr().String(), "AWS_LAMBDA_FUNCTION_NAME=bench", "AWS_LAMBDA_FUNCTION_MEMORY_SIZE=256")
	began := time.Now()
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}()
	select {
	case at := <-asked:
		return at.Sub(began), nil
	case <-time.After(20 * time.Second):
		return 0, errors.New("it does not ask for an event")
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}
