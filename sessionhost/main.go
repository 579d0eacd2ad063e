// Command sessionhost runs WhatsApp sessions: the program behind the ECS service.
//
// Without arguments it is two processes. The parent starts the child, which does
// the work, and watches it: a panic inside the WhatsApp library kills the whole
// process, and with it every session. The parent reads from the crash whose
// session it was, and starts the child anew; an instance that crashes its host
// three times in ten minutes is kept out.
//
// With -healthcheck it asks the running host whether it is well, for a container
// that has no curl.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"runtime"
	"syscall"

	"github.com/aws/aws-sdk-go-v2/config"
	_ "golang.org/x/crypto/x509roots/fallback" // the image has no certificate files

	"whatisup/sessionhost/host"
	"whatisup/sessionhost/line"
)

func main() {
	check := flag.Bool("healthcheck", false, "ask the running host whether it is healthy")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	log := slog.New(slog.NewJSONHandler(os.Stdout, nil))
	var err error
	switch {
	case *check:
		address := os.Getenv("HEALTH_ADDR")
		if address == "" {
			address = host.DefaultHealth
		}
		err = host.Check(ctx, address)
	case os.Getenv(host.ChildVariable) == "":
		err = host.Watch(ctx, log)
	default:
		err = run(ctx, log)
	}
	if err != nil && !errors.Is(err, context.Canceled) {
		fmt.Fprintln(os.Stderr, "sessionhost:", err)
		os.Exit(1)
	}
}

// run is the child.
func run(ctx context.Context, log *slog.Logger) error {
	headroom := host.Headroom()
	defer runtime.KeepAlive(headroom)
	cfg, err := host.FromEnv(os.Getenv)
	if err != nil {
		return err
	}
	aws, err := config.LoadDefaultConfig(ctx)
	if err != nil {
		return fmt.Errorf("AWS settings: %w", err)
	}
	line.LogLibsignal(log)
	h, err := host.New(cfg, aws, log)
	if err != nil {
		return err
	}
	return h.Run(ctx)
}
