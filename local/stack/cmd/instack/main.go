// Command instack becomes another program, in the surroundings of a stack: that
// of `make run`, or with STACK the deployed one of that name.
package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"

	"github.com/aws/aws-sdk-go-v2/config"

	"whatisup/local/stack"
)

func main() {
	if err := run(context.Background(), os.Args[1:], os.Getenv); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// run does not return if all goes well.
func run(ctx context.Context, args []string, getenv func(string) string) error {
	if len(args) == 0 {
		return errors.New("instack: say which program to run")
	}
	env, err := surroundings(ctx, getenv)
	if err != nil {
		return err
	}
	program, err := exec.LookPath(args[0])
	if err != nil {
		return err
	}
	all := os.Environ()
	for name, value := range env {
		all = append(all, name+"="+value)
	}
	return syscall.Exec(program, args, all)
}

func surroundings(ctx context.Context, getenv func(string) string) (map[string]string, error) {
	name := getenv("STACK")
	if name == "" {
		return stack.Local(cmp.Or(getenv("DATA_DIR"), ".data"))
	}
	cfg, err := config.LoadDefaultConfig(ctx)
	if err != nil {
		return nil, err
	}
	return stack.Deployed(ctx, stack.Open(cfg), name)
}
