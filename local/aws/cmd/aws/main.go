// Command aws serves the embedded DynamoDB, SQS, KMS and S3 alone.
//
// AWS_PORT (4566) and BIND (127.0.0.1) say where, DATA_DIR (.data) where the
// file is. It ends on SIGINT or SIGTERM.
package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"syscall"

	"whatisup/local/aws"
)

func main() {
	// The heap is a few megabytes: collecting it less often costs little
	// memory and saves a fifth of the time.
	debug.SetGCPercent(400)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Getenv, os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "aws:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, getenv func(string) string, stdout, stderr io.Writer) error {
	dir := cmp.Or(getenv("DATA_DIR"), ".data")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	server, err := aws.Open(aws.Config{Path: filepath.Join(dir, "aws.db"), Log: slog.New(slog.NewJSONHandler(stderr, nil))})
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", net.JoinHostPort(cmp.Or(getenv("BIND"), "127.0.0.1"), cmp.Or(getenv("AWS_PORT"), "4566")))
	if err != nil {
		return errors.Join(err, server.Close())
	}
	fmt.Fprintf(stdout, "AWS_ENDPOINT_URL=http://%s\n", listener.Addr())
	return errors.Join(server.Serve(ctx, listener), server.Close())
}
