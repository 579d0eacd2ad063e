package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"

	"github.com/aws/aws-sdk-go-v2/config"

	"whatisup/local"
	"whatisup/local/deploy/stack"
	"whatisup/local/move"
	"whatisup/shared/dynamo"
	"whatisup/shared/whatisup"
)

// runMove moves all customers between DATA_DIR and a deployed stack.
func runMove(ctx context.Context, p program) error {
	flags := flag.NewFlagSet("move", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	to, from := flags.String("to-stack", "", ""), flags.String("from-stack", "", "")
	test := flags.Bool("test", false, "")
	if err := flags.Parse(p.args); err != nil || flags.NArg() > 0 || (*to == "") == (*from == "") {
		return errors.Join(err, errors.New("say where to, as in: whatisup move --to-stack whatisup, or where from: --from-stack whatisup"))
	}
	log, err := p.logger()
	if err != nil {
		return err
	}
	c, err := local.ConfigFromEnv(p.getenv, log)
	if err != nil {
		return err
	}
	c.Version = versionName()
	modes := []whatisup.Mode{whatisup.Live}
	if *test {
		modes = append(modes, whatisup.Test)
	}
	there, peppers, err := deployed(ctx, *to+*from)
	if err != nil {
		return err
	}
	say := func(format string, args ...any) { fmt.Fprintf(p.out, format+"\n", args...) }
	if *to != "" {
		return local.Still(ctx, c, "", func(here *move.Side) error { return move.Run(ctx, here, there, modes, say) })
	}
	return local.Still(ctx, c, peppers, func(here *move.Side) error { return move.Run(ctx, there, here, modes, say) })
}

// deployed is a deployed stack as one end of a move, and its peppers as they are kept in
// a file.
func deployed(ctx context.Context, name string) (*move.Side, string, error) {
	aws, err := config.LoadDefaultConfig(ctx)
	if err != nil {
		return nil, "", err
	}
	env, err := stack.Inside(ctx, stack.Open(aws), name)
	if err != nil {
		return nil, "", err
	}
	peppers, err := whatisup.ParsePeppers(env["PEPPER"])
	if err != nil {
		return nil, "", fmt.Errorf("the pepper of %s: %w", name, err)
	}
	side := &move.Side{
		Name: name, AWS: aws, Tables: dynamo.TablesFromEnv(func(name string) string { return env[name] }), Webhook: env["WEBHOOK_KEY_ID"],
		Bucket: env["MEDIA_BUCKET"], Queues: name + "-", Peppers: peppers,
		Keys: map[whatisup.Mode]string{whatisup.Live: env["AUTH_KEY_ID"], whatisup.Test: env["SANDBOX_AUTH_KEY_ID"]},
	}
	side.Tables.SandboxDevices = env["SANDBOX_DEVICES_TABLE"]
	return side, env["PEPPER"], nil
}
