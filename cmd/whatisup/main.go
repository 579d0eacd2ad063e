// Command whatisup is WhatIsUp on one machine, and the operator's hand on any
// deployment. Each command's settings are environment variables; OPERATIONS.md
// lists them.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"syscall"

	_ "golang.org/x/crypto/x509roots/fallback" // a bare system has no certificate files

	"whatisup/shared/operator"
)

// version is set by `make release`.
var version = ""

// program is what a command works with.
type program struct {
	args           []string
	getenv         func(string) string
	out, diagnosis io.Writer
}

type command struct {
	name, args, does string
	run              func(context.Context, program) error
}

var commands = []command{
	{"run", "", "the whole system in one process a mode, until it is stopped", runStack},
	{"host", "", "one more session host, a process of its own, on the running stack", runHost},
	{"operator", "COMMAND …", "the operator's commands; STACK=name for a deployed stack", runOperator},
	{"customer", "NAME", "makes a customer and prints its id and keys; STACK=name as well", runCustomer},
	{"qr", "INSTANCE", "draws an instance's code in the terminal; API=https://… for another deployment, its key in KEY, or in the file KEY_FILE", runQR},
	{"mcp", "", "speaks the Model Context Protocol over stdio, or over HTTP at MCP_ADDR; the sandbox's key unless API, KEY or KEY_FILE say another", runMCP},
	{"backup", "FILE", "writes everything of DATA_DIR to a file, also while the stack runs", runBackup},
	{"restore", "FILE", "makes DATA_DIR from a backup; refuses one that is not empty", runRestore},
	{"move", "--to-stack NAME | --from-stack NAME", "moves all customers with their links between DATA_DIR and a deployed stack, both of which must be stopped; --test takes test instances along", runMove},
	{"check", "", "looks at settings, keys, files, ports and clock, and changes nothing", runCheck},
	{"version", "", "prints the version", runVersion},
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := run(ctx, program{os.Args[1:], os.Getenv, os.Stdout, os.Stderr})
	switch {
	case errors.Is(err, operator.ErrUsage):
		fmt.Fprintf(os.Stderr, "%v\n\n%s", err, operator.Usage())
		os.Exit(2)
	case errors.Is(err, errUsage):
		fmt.Fprintf(os.Stderr, "%v\n\n%s", err, usage())
		os.Exit(2)
	case err != nil && !errors.Is(err, context.Canceled):
		fmt.Fprintln(os.Stderr, "whatisup:", err)
		os.Exit(1)
	}
}

var errUsage = errors.New("say what to do")

func run(ctx context.Context, p program) error {
	if len(p.args) == 0 {
		return errUsage
	}
	name := p.args[0]
	if name == "help" || name == "-h" || name == "--help" {
		_, err := io.WriteString(p.out, usage())
		return err
	}
	for _, c := range commands {
		if c.name == name {
			p.args = p.args[1:]
			if c.args == "" && len(p.args) > 0 {
				return fmt.Errorf("%w: %s takes no arguments; its settings are environment variables", errUsage, name)
			}
			return c.run(ctx, p)
		}
	}
	return fmt.Errorf("%w: there is no command %q", errUsage, name)
}

func usage() string {
	text := "Usage: whatisup COMMAND\n\n"
	for _, c := range commands {
		text += fmt.Sprintf("  %-22s %s\n", c.name+" "+c.args, c.does)
	}
	return text + "\nDATA_DIR (.data) is where the data is. All settings: OPERATIONS.md.\n"
}

func runVersion(_ context.Context, p program) error {
	_, err := fmt.Fprintf(p.out, "whatisup %s %s/%s %s\n", versionName(), runtime.GOOS, runtime.GOARCH, runtime.Version())
	return err
}

// versionName is the release's, or the commit's of a checkout.
func versionName() string {
	if version != "" {
		return version
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && len(s.Value) > 12 {
			return s.Value[:12]
		}
	}
	return "devel"
}

// logger writes JSON, from LOG_LEVEL (info) on.
func (p program) logger() (*slog.Logger, error) {
	var level slog.Level
	if s := p.getenv("LOG_LEVEL"); s != "" {
		if err := level.UnmarshalText([]byte(s)); err != nil {
			return nil, fmt.Errorf("LOG_LEVEL must be debug, info, warn or error, not %q", s)
		}
	}
	return slog.New(slog.NewJSONHandler(p.diagnosis, &slog.HandlerOptions{Level: level})), nil
}
