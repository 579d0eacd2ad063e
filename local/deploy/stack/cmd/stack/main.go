// Command stack looks at a stack on AWS and changes it where `sam deploy` is not
// enough: preflight looks before a deploy at what AWS would refuse half-way,
// protect switches termination protection on once there are session hosts,
// upgrade-hosts changes the hosts' image and nothing else, destroy removes all.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/aws/aws-sdk-go-v2/config"

	"whatisup/local/deploy/stack"
	"whatisup/local/gateway/template"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, in io.Reader, out io.Writer) error {
	flags := flag.NewFlagSet("stack", flag.ContinueOnError)
	name := flags.String("stack", "whatisup", "the stack's name")
	image := flags.String("image", "", "the session hosts' image")
	force := flags.Bool("force", false, "ask nothing")
	if len(args) == 0 {
		return errors.New("say preflight, protect, upgrade-hosts or destroy")
	}
	if err := flags.Parse(args[1:]); err != nil {
		return err
	}
	cfg, err := config.LoadDefaultConfig(ctx)
	if err != nil {
		return fmt.Errorf("AWS settings: %w", err)
	}
	var client *stack.Client
	if cfg.Region != "" {
		client = stack.Open(cfg)
	}
	if args[0] == "preflight" {
		return preflight(ctx, client, *name, *image, flags.Args(), out)
	}
	if client == nil {
		return errors.New("no region is set: set AWS_REGION")
	}
	switch args[0] {
	case "protect":
		on, err := stack.Protect(ctx, client, *name)
		if on && err == nil {
			fmt.Fprintln(out, "termination protection is on: only `make destroy` removes this stack")
		}
		return err
	case "upgrade-hosts":
		return stack.UpgradeHosts(ctx, client, stack.Upgrade{Stack: *name, Image: *image, Out: out, Now: time.Now(), Within: 30 * time.Minute})
	case "destroy":
		return stack.Destroy(ctx, client, stack.Removal{Stack: *name, Force: *force, In: in, Out: out, Now: time.Now(), Within: time.Hour})
	}
	return fmt.Errorf("there is no command %q", args[0])
}

// preflight prints what it finds, and fails if a deploy would.
func preflight(ctx context.Context, client *stack.Client, name, image string, set []string, out io.Writer) error {
	text, err := os.ReadFile("template.yaml")
	if err != nil {
		return err
	}
	w := stack.Wish{Stack: name, Set: make(map[string]string), Checkout: os.DirFS(".")}
	if w.Template, err = template.Parse(text); err != nil {
		return err
	}
	for _, pair := range set {
		parameter, value, ok := strings.Cut(pair, "=")
		if !ok {
			return fmt.Errorf("SET holds Name=value, and not %q", pair)
		}
		w.Set[parameter] = value
	}
	if image != "" {
		w.Set["HostImageUri"] = image
	}
	findings := stack.Preflight(ctx, client, w)
	if _, err := exec.LookPath("sam"); err != nil {
		findings = append(findings, stack.Finding{Text: "The SAM CLI is not installed: `make deploy` needs the command sam.", Fatal: true})
	}
	fatal := 0
	for _, f := range findings {
		if f.Fatal {
			fatal++
			fmt.Fprintln(out, "missing:", f.Text)
		} else {
			fmt.Fprintln(out, "note:", f.Text)
		}
	}
	if fatal > 0 {
		return errors.New("nothing was deployed")
	}
	fmt.Fprintf(out, "template.yaml can be deployed as %s\n", name)
	return nil
}
