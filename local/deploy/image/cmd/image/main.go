// Command image makes a container image of programs, as an archive, and may send
// it to a registry. It needs no Docker.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/aws/aws-sdk-go-v2/config"

	"whatisup/local/deploy/image"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Getenv, os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, getenv func(string) string, out, diagnosis io.Writer) error {
	flags := flag.NewFlagSet("image", flag.ContinueOnError)
	flags.SetOutput(diagnosis)
	arch := flags.String("arch", "arm64", "architecture of the programs")
	file := flags.String("o", "", "file to write the archive to")
	push := flags.String("push", "", "host/repository:tag to send the image to, with REGISTRY_USER and REGISTRY_PASSWORD, or the AWS settings for Amazon's registry")
	if err := flags.Parse(args); err != nil {
		return err
	}
	img, err := image.Build(image.Config{Architecture: *arch, Programs: flags.Args()})
	if err != nil {
		return err
	}
	if *file != "" {
		f, err := os.Create(*file)
		if err != nil {
			return err
		}
		size, err := img.WriteTo(f)
		if err := errors.Join(err, f.Close()); err != nil {
			return err
		}
		fmt.Fprintf(diagnosis, "%s: %.1f MB, %s\n", *file, float64(size)/1e6, img.Manifest)
	}
	if *push == "" {
		return nil
	}
	to, err := image.ParseReference(*push)
	if err != nil {
		return err
	}
	registry := image.Registry{User: getenv("REGISTRY_USER"), Password: getenv("REGISTRY_PASSWORD")}
	if endpoint := image.ECREndpoint(to.Host); endpoint != "" && registry.Password == "" {
		cfg, err := config.LoadDefaultConfig(ctx)
		if err != nil {
			return err
		}
		if registry, err = image.ECR(ctx, cfg, endpoint); err != nil {
			return err
		}
	}
	if err := registry.Push(ctx, to, img); err != nil {
		return err
	}
	_, err = fmt.Fprintln(out, to.Digested(img.Manifest))
	return err
}
