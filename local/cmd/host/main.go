// Command host is one more session host, a process of its own, on the stack of a
// running `make run`: it becomes the production program with that stack's
// settings.
package main

import (
	"cmp"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"

	"github.com/google/uuid"

	"whatisup/local"
	"whatisup/local/stack"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "host:", err)
		os.Exit(1)
	}
}

// run builds the session host and execs it, so that it gets the signals.
func run() error {
	env, err := stack.Local(cmp.Or(os.Getenv("DATA_DIR"), ".data"))
	if err != nil {
		return err
	}
	get := local.HostEnv(env, uuid.NewString(), os.Getenv)
	for _, name := range []string{"HOST_ID", "HEALTH_ADDR", "WHATSAPP_ENDPOINT", "WHATSAPP_NOISE_ROOT", "WHATSAPP_CA_FILE"} {
		env[name] = get(name)
	}
	delete(env, "PEPPER") // a host has no business with keys
	for name, value := range env {
		if err := os.Setenv(name, value); err != nil {
			return err
		}
	}
	program, err := filepath.Abs(filepath.Join(".build", "local", "sessionhost"))
	if err != nil {
		return err
	}
	build := exec.Command("go", "build", "-o", program, "./sessionhost")
	build.Stderr = os.Stderr
	if err := build.Run(); err != nil {
		return fmt.Errorf("build the session host: %w", err)
	}
	return syscall.Exec(program, []string{program}, os.Environ())
}
