package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"runtime"
	"strconv"
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
	switch p.getenv(childVariable) {
	case "":
		return watch(ctx, c, log)
	case childSandbox:
		line.LogLibsignal(log)
		return local.RunSandbox(ctx, c)
	}
	line.LogLibsignal(log)
	log.Info("whatisup starts", "version", c.Version, "whatsapp", c.WhatsApp, "data", c.DataDir)
	return local.Run(ctx, c, func(s *local.Stack) { p.greet(c, s) })
}

// watch is the parent. Ports that the system was to choose are chosen once, so
// that a child that is started anew is where it was.
func watch(ctx context.Context, c local.Config, log *slog.Logger) error {
	var ports []string
	for _, one := range []struct {
		name string
		port int
		bind string
	}{{"PORT", c.Port, c.Bind}, {"AWS_PORT", c.AWSPort, c.AWSBind}, {"WHATSAPP_PORT", c.WhatsAppPort, "127.0.0.1"}} {
		if one.port == 0 {
			free, err := freePort(one.bind)
			if err != nil {
				return err
			}
			one.port = free
		}
		ports = append(ports, one.name+"="+strconv.Itoa(one.port))
	}
	children := []string{childStack}
	if c.Both() {
		children = append(children, childSandbox)
		free, err := freePort("127.0.0.1")
		if err != nil {
			return err
		}
		ports = append(ports, local.SandboxHealth+"=127.0.0.1:"+strconv.Itoa(free))
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	ended := make([]error, len(children))
	var wg sync.WaitGroup
	for i, child := range children {
		wg.Go(func() {
			defer stop() // a child that ends by itself ends all
			ended[i] = host.Child{Args: []string{"run"}, Env: append([]string{childVariable + "=" + child}, ports...)}.
				Watch(ctx, log.With("child", child))
		})
	}
	wg.Wait()
	return errors.Join(ended...)
}

func freePort(bind string) (int, error) {
	l, err := net.Listen("tcp", net.JoinHostPort(bind, "0"))
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
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
	fmt.Fprintln(p.out)
	for _, m := range []whatisup.Mode{whatisup.Live, whatisup.Test} {
		if c.Serves(m) { // the other's works nowhere
			say(strings.ToUpper(string(m)[:1])+string(m)[1:]+" key", filepath.Join(c.DataDir, string(m)+".key"))
		}
	}
	fmt.Fprintf(p.out, "\nEverything is kept in %s. Stop with Ctrl-C; the next run goes on from there.\n", c.DataDir)
}
