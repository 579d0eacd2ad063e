// Command whatisup-operator makes, lists and suspends customers, makes and ends
// keys, sets limits, and checks that what was deleted is gone. It reads the
// SDK's ordinary settings, the names of the tables (ACCESS_TABLE and so on; the
// local stack's without them) and PEPPER.
package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"

	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"

	"whatisup/shared/dynamo"
	"whatisup/shared/operator"
	"whatisup/shared/whatisup"
)

func main() {
	err := run(os.Args[1:])
	if errors.Is(err, operator.ErrUsage) {
		fmt.Fprintf(os.Stderr, "%v\n\n%s", err, operator.Usage)
		os.Exit(2)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(args []string) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, operator.Timeout)
	defer cancel()
	peppers := whatisup.Peppers{}
	if s := os.Getenv("PEPPER"); s != "" {
		var err error
		if peppers, err = whatisup.ParsePeppers(s); err != nil {
			return fmt.Errorf("PEPPER: %w", err)
		}
	}
	cfg, err := config.LoadDefaultConfig(ctx)
	if err != nil {
		return err
	}
	t, local := dynamo.TablesFromEnv(os.Getenv), dynamo.Local()
	db := dynamo.New(dynamo.Config{Client: dynamodb.NewFromConfig(cfg), Tables: dynamo.Tables{
		Access:    cmp.Or(t.Access, local.Access),
		Instances: cmp.Or(t.Instances, local.Instances),
		Calls:     cmp.Or(t.Calls, local.Calls),
		Events:    cmp.Or(t.Events, local.Events),
		Fleet:     cmp.Or(t.Fleet, local.Fleet),
		Devices:   cmp.Or(t.Devices, local.Devices),

		SandboxDevices: os.Getenv("SANDBOX_DEVICES_TABLE"),
	}})
	if err := db.CheckPeppers(ctx, peppers); err != nil {
		return fmt.Errorf("PEPPER: %w", err)
	}
	return operator.New(db, peppers).Run(ctx, args, os.Stdout)
}
