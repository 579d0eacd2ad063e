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
	"syscall"

	_ "golang.org/x/crypto/x509roots/fallback" // the image has no certificate files

	"whatisup/sessionhost/host"
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
		err = host.Run(ctx, os.Getenv, log)
	}
	if err != nil && !errors.Is(err, context.Canceled) {
		fmt.Fprintln(os.Stderr, "sessionhost:", err)
		os.Exit(1)
	}
}
