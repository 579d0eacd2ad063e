// Command simulator runs the WhatsApp simulator alone. It reads WHATSAPP_PORT
// (8090), BIND (127.0.0.1) and DATA_DIR (.data).
package main

import (
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"syscall"

	"golang.org/x/sync/errgroup"

	"whatisup/local/whatsapp"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Getenv, os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "simulator:", err)
		os.Exit(1)
	}
}

type config struct {
	address string
	dataDir string
}

func configFrom(getenv func(string) string) (config, error) {
	port := cmp.Or(getenv("WHATSAPP_PORT"), "8090")
	bind := cmp.Or(getenv("BIND"), "127.0.0.1")
	var problems []error
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		problems = append(problems, fmt.Errorf("WHATSAPP_PORT must be a port number, not %q", port))
	}
	if net.ParseIP(bind) == nil && bind != "localhost" {
		problems = append(problems, fmt.Errorf("BIND must be an IP address, not %q", bind))
	}
	return config{
		address: net.JoinHostPort(bind, port),
		dataDir: filepath.Join(cmp.Or(getenv("DATA_DIR"), ".data"), "whatsapp"),
	}, errors.Join(problems...)
}

func run(ctx context.Context, getenv func(string) string, stdout, stderr io.Writer) error {
	cfg, err := configFrom(getenv)
	if err != nil {
		return err
	}
	server, err := whatsapp.New(whatsapp.Config{
		DataDir: cfg.dataDir,
		Log:     slog.New(slog.NewJSONHandler(stderr, nil)),
	})
	if err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return server.Run(ctx) })
	group.Go(func() error {
		listener, err := net.Listen("tcp", cfg.address)
		if err != nil {
			return err
		}
		root := server.Root()
		fmt.Fprintf(stdout, "simulator http://%s root %s\n", listener.Addr(), hex.EncodeToString(root[:]))
		return server.Serve(ctx, listener)
	})
	return group.Wait()
}
