// Command withroot asks the simulated WhatsApp at WHATSAPP_ENDPOINT for its root
// key and becomes another program, with the key in WHATSAPP_NOISE_ROOT. In the
// sandbox's task the simulator starts beside the session host and makes its key
// then, so nobody can know it beforehand.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

// The simulator starts at the same moment; a minute is more than it takes.
const (
	within = time.Minute
	pause  = 200 * time.Millisecond
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Getenv); err != nil {
		fmt.Fprintln(os.Stderr, "withroot:", err)
		os.Exit(1)
	}
}

// run does not return if all goes well.
func run(ctx context.Context, args []string, getenv func(string) string) error {
	if len(args) == 0 {
		return errors.New("say which program to run")
	}
	program, err := exec.LookPath(args[0])
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	root, err := ask(ctx, strings.TrimSuffix(getenv("WHATSAPP_ENDPOINT"), "/")+"/control/root")
	if err != nil {
		return err
	}
	return syscall.Exec(program, args, append(os.Environ(), "WHATSAPP_NOISE_ROOT="+root))
}

// ask asks until there is an answer.
func ask(ctx context.Context, url string) (string, error) {
	for {
		root, err := askOnce(ctx, url)
		if err == nil {
			return root, nil
		}
		select {
		case <-ctx.Done():
			return "", fmt.Errorf("the simulator does not tell its root key: %w", err)
		case <-time.After(pause):
		}
	}
}

func askOnce(ctx context.Context, url string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	var answer struct{ Root string }
	if err := json.NewDecoder(io.LimitReader(response.Body, 64<<10)).Decode(&answer); err != nil {
		return "", err
	}
	if answer.Root == "" {
		return "", fmt.Errorf("%s has no root key", response.Status)
	}
	return answer.Root, nil
}
