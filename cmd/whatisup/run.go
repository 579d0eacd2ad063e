package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"

	"whatisup/local"
	"whatisup/sessionhost/host"
	"whatisup/sessionhost/line"
	"whatisup/shared/whatisup"
)

// childVariable tells a process that it is a child, and which.
const childVariable = "WHATISUP_CHILD"

const (
	childStack   = "stack"   // everything but a second mode's host
	childSandbox = "sandbox" // the second mode's
	childHost    = "host"
)

// runStack is `whatisup run`. Without more it is the parent, which starts a child
// a mode and watches it: a panic inside the WhatsApp library kills the whole
// process it is in. The live child has the API and the embedded AWS, too; they are
// away for the moment that it takes to start it anew.
func runStack(ctx context.Context, p program) error {
	log, err := p.logger()
	if err != nil {
		return err
	}
	c, err := local.ConfigFromEnv(p.getenv, log)
	if err != nil {
		return err
	}
	c.Version = versionName()
	headroom := host.Headroom()
	defer runtime.KeepAlive(headroom)
	child := p.getenv(childVariable)
	if child == "" {
		return watch(ctx, c, log)
	}
	if err := inherit(&c, child == childSandbox); err != nil {
		return err
	}
	line.LogLibsignal(log)
	if child == childSandbox {
		return local.RunSandbox(ctx, c)
	}
	log.Info("whatisup starts", "version", c.Version, "whatsapp", c.WhatsApp, "data", c.DataDir)
	return local.Run(ctx, c, func(s *local.Stack) { p.greet(c, s) })
}

// watch is the parent. It holds the ports, so that a child that is started anew is
// where it was, and who calls meanwhile waits a moment and is not refused.
func watch(ctx context.Context, c local.Config, log *slog.Logger) error {
	children := []string{childStack}
	if c.Both() {
		children = append(children, childSandbox)
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	ended := make([]error, len(children))
	var wg sync.WaitGroup
	defer wg.Wait()
	for i, name := range children {
		child := host.Child{Args: []string{"run"}, Env: []string{childVariable + "=" + name}}
		for _, port := range c.Ports(name == childSandbox) {
			l, err := c.Listen(port)
			if err != nil {
				stop()
				return err
			}
			f, err := l.(*net.TCPListener).File()
			if err = errors.Join(err, l.Close()); err != nil {
				stop()
				return err
			}
			defer f.Close()
			child.Files = append(child.Files, f)
		}
		wg.Go(func() {
			defer stop() // a child that ends by itself ends all
			ended[i] = child.Watch(ctx, log.With("child", name))
		})
	}
	wg.Go(func() { notify(ctx, c) })
	wg.Wait()
	return errors.Join(ended...)
}

// inherit takes over the ports that the parent holds.
func inherit(c *local.Config, sandbox bool) error {
	c.Listeners = map[string]net.Listener{}
	for i, port := range c.Ports(sandbox) {
		f := os.NewFile(uintptr(3+i), port)
		l, err := net.FileListener(f)
		if err = errors.Join(err, f.Close()); err != nil {
			return fmt.Errorf("%s, from the parent: %w", port, err)
		}
		c.Listeners[port] = l
	}
	return nil
}

// greet says what runs where.
func (p program) greet(c local.Config, s *local.Stack) {
	fmt.Fprintf(p.out, "WhatIsUp %s is up.\n\n", c.Version)
	say := func(what, where string) {
		if where != "" {
			fmt.Fprintf(p.out, "  %-11s %s\n", what, where)
		}
	}
	say("Dashboard", s.Public+"/")
	say("API", s.Public+"/v1")
	say("Reference", s.Public+"/docs")
	switch {
	case c.Both():
		say("WhatsApp", "the real one for live keys (read the README first), a simulated one for test keys")
	case s.WhatsApp == "":
		say("WhatsApp", "the real one (read the README first)")
	default:
		say("WhatsApp", s.WhatsApp+"  (simulated)")
	}
	say("AWS", s.AWS)
	say("Health", s.Health)
	if s.Health != "" {
		say("Metrics", s.Health+"/metrics")
	}
	say("Log", "this program's standard error, as JSON; LOG_LEVEL (info)")
	fmt.Fprintln(p.out)
	for _, m := range []whatisup.Mode{whatisup.Live, whatisup.Test} {
		if c.Serves(m) { // the other's works nowhere
			say(strings.ToUpper(string(m)[:1])+string(m)[1:]+" key", filepath.Join(c.DataDir, string(m)+".key"))
		}
	}
	fmt.Fprintf(p.out, "\nEverything is kept in %s. Stop with Ctrl-C; the next run goes on from there.\n", c.DataDir)
}
