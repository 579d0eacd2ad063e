package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"

	"whatisup/local/deploy/stack"
	"whatisup/shared/bucket"
	"whatisup/shared/dynamo"
	"whatisup/shared/operator"
	"whatisup/shared/whatisup"
)

func runCustomer(ctx context.Context, p program) error {
	if len(p.args) != 1 || p.args[0] == "" {
		return errors.New("say the customer's name, as in: make customer NAME=acme, or whatisup customer acme")
	}
	p.args = []string{"make", p.args[0]}
	return runOperator(ctx, p)
}

// runOperator works on the tables of the running stack, or of the deployed one
// that STACK names.
func runOperator(ctx context.Context, p program) error {
	ctx, cancel := context.WithTimeout(ctx, operator.Timeout)
	defer cancel()
	var env map[string]string
	var err error
	if name := p.getenv("STACK"); name != "" {
		aws, err := config.LoadDefaultConfig(ctx)
		if err != nil {
			return err
		}
		if env, err = stack.Deployed(ctx, stack.Open(aws), name); err != nil {
			return err
		}
	} else if env, err = enter(p); err != nil {
		return err
	}
	peppers, err := whatisup.ParsePeppers(env["PEPPER"])
	if err != nil {
		return fmt.Errorf("PEPPER: %w", err)
	}
	aws, err := config.LoadDefaultConfig(ctx)
	if err != nil {
		return err
	}
	get := func(name string) string { return cmp.Or(env[name], p.getenv(name)) }
	tables := dynamo.TablesFromEnv(get)
	tables.SandboxDevices = get("SANDBOX_DEVICES_TABLE")
	db := dynamo.New(dynamo.Config{Client: dynamodb.NewFromConfig(aws), Tables: tables})
	if err := db.CheckPeppers(ctx, peppers); err != nil {
		return fmt.Errorf("PEPPER: %w", err)
	}
	o := operator.New(db, peppers)
	if name := get("MEDIA_BUCKET"); name != "" {
		o.Objects = bucket.New(bucket.Config{AWS: aws, Name: name})
	}
	return o.Run(ctx, p.args, p.out)
}
