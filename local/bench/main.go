package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"strconv"
	"strings"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var err error
	if role := os.Getenv(roleVariable); role != "" {
		err = play(ctx, role)
	} else {
		err = measure(ctx, os.Getenv, os.Stdout)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// play is this program in one of its other roles.
func play(ctx context.Context, role string) error {
	switch role {
	case "stack":
		return runStack(ctx)
	case "floor":
		return runFloor(ctx)
	}
	return fmt.Errorf("there is no role %q", role)
}

// measure runs the benchmark and prints and writes what it found.
func measure(ctx context.Context, getenv func(string) string, out io.Writer) error {
	s := full
	switch getenv("BENCH") {
	case "", "full":
	case "tenth":
		s = tenth
	case "short":
		s = short
	default:
		return errors.New("BENCH must be full, tenth or short")
	}
	if text := getenv("BENCH_SESSIONS"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 {
			return fmt.Errorf("BENCH_SESSIONS must be a number above 0, not %q", text)
		}
		s.Takeover, s.Density = min(s.Takeover, n), min(s.Density, n)
	}
	if text := getenv("BENCH_STEPS"); text != "" {
		s.Only = strings.Split(text, ",")
	}
	path := getenv("BENCH_OUT")
	if path == "" {
		path = "bench.json"
	}
	if commit := getenv("BENCH_AGAINST"); commit != "" {
		rounds := 5
		if text := getenv("BENCH_ROUNDS"); text != "" {
			n, err := strconv.Atoi(text)
			if err != nil || n < 1 {
				return fmt.Errorf("BENCH_ROUNDS must be a number above 0, not %q", text)
			}
			rounds = n
		}
		return against(ctx, commit, rounds, getenv, path, out)
	}
	dir, err := os.MkdirTemp("", "whatisup-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	r, _, err := run(ctx, s, dir, out)
	r.print(out)
	return errors.Join(err, r.write(path))
}

// moduleVersion is the version of a module that this program was built with.
func moduleVersion(path string) string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	for _, m := range info.Deps {
		if m.Path == path {
			return m.Version
		}
	}
	return ""
}
