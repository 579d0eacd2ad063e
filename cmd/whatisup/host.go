package main

import (
	"cmp"
	"context"
	"os"

	"github.com/google/uuid"

	"whatisup/local"
	"whatisup/local/deploy/stack"
	"whatisup/sessionhost/host"
)

// runHost is one more session host on a running stack, under a parent of its own.
func runHost(ctx context.Context, p program) error {
	log, err := p.logger()
	if err != nil {
		return err
	}
	if p.getenv(childVariable) == "" {
		id := cmp.Or(p.getenv("HOST_ID"), uuid.NewString())
		return host.Child{Args: []string{"host"}, Env: []string{childVariable + "=" + childHost, "HOST_ID=" + id}}.Watch(ctx, log)
	}
	env, err := enter(p)
	if err != nil {
		return err
	}
	mode := env["WHATSAPP"]
	if mode != "live" && mode != "sandbox" {
		mode = "live" // the sandbox of a stack that serves both has a host of its own
	}
	return host.Run(ctx, local.HostEnv(env, mode, "", p.getenv), log)
}

// enter makes the surroundings of the running stack this process's own, for the
// AWS SDK.
func enter(p program) (map[string]string, error) {
	env, err := stack.Local(cmp.Or(p.getenv("DATA_DIR"), ".data"))
	if err != nil {
		return nil, err
	}
	return env, set(env)
}

func set(env map[string]string) error {
	for name, value := range env {
		if name == "PEPPER" {
			continue // no secret of customers in the environment
		}
		if err := os.Setenv(name, value); err != nil {
			return err
		}
	}
	return nil
}
