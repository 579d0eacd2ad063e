// Command run is the whole system in one process: see package local.
package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"whatisup/local"
	"whatisup/sessionhost/line"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Getenv, os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "not running:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, getenv func(string) string, out, diagnosis io.Writer) error {
	level := slog.LevelWarn
	if s := getenv("LOG_LEVEL"); s != "" {
		if err := level.UnmarshalText([]byte(s)); err != nil {
			return fmt.Errorf("LOG_LEVEL: %w", err)
		}
	}
	log := slog.New(slog.NewJSONHandler(diagnosis, &slog.HandlerOptions{Level: level}))
	c, err := local.ConfigFromEnv(getenv, log)
	if err != nil {
		return err
	}
	line.LogLibsignal(log)
	return local.Run(ctx, c, func(s *local.Stack) {
		whatsapp := s.WhatsApp + "  (simulated: use the test key)"
		if s.WhatsApp == "" {
			whatsapp = "the real one  (use the live key; read the README first)"
		}
		fmt.Fprintf(out, `WhatIsUp is up.

  Dashboard   %[1]s/
  API         %[1]s/v1
  Reference   %[1]s/docs
  WhatsApp    %[2]s
  AWS         %[3]s

  Test key    %[4]s
  Live key    %[5]s

Everything is kept in %[6]s. Stop with Ctrl-C; the next run goes on from there.
`, s.API, whatsapp, s.AWS, filepath.Join(c.DataDir, "test.key"), filepath.Join(c.DataDir, "live.key"), c.DataDir)
	})
}
