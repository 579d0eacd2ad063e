package local

import (
	"context"
	"errors"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/sqs"

	"whatisup/local/move"
	"whatisup/shared/dynamo"
	"whatisup/shared/queue"
	"whatisup/shared/whatisup"
)

// Still opens DATA_DIR for a move, with nothing running on it, calls do, and closes it:
// the API, the session hosts and the functions are not there. It fails while a stack
// runs on the folder. In an empty folder it makes the data, with these peppers; where
// peppers is empty it refuses such a folder.
func Still(ctx context.Context, c Config, peppers string, do func(*move.Side) error) (err error) {
	unlock, err := c.lockFolder(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	first, err := c.isFirst()
	if err != nil {
		return err
	}
	if first {
		if peppers == "" {
			return fmt.Errorf("%s is empty: there is nothing to move", c.DataDir)
		}
		if text, _, err := c.secret("PEPPER", pepperFile); err != nil {
			return err
		} else if text == "" {
			// openFolder takes the folder for a first start by this file, too.
			if err := errors.Join(writeSecret(c.path(firstFile), "a move is under way"), writeSecret(c.path(pepperFile), peppers)); err != nil {
				return err
			}
		}
	}
	secrets, err := c.openFolder()
	if err != nil {
		return err
	}
	parts, ctx := newParts(ctx)
	defer func() { err = parts.stop(ctx, err) }()
	s := &Stack{}
	c.AWSPort, c.Listeners = 0, nil
	if err := c.startAWS(s, secrets, parts.start); err != nil {
		return err
	}
	side := &move.Side{Name: c.DataDir, AWS: s.AWSConf, Tables: c.tables(), Bucket: mediaBucket, Queues: queue.LocalPrefix}
	db := dynamodb.NewFromConfig(s.AWSConf)
	if err := side.Tables.Create(ctx, db); err != nil {
		return fmt.Errorf("tables: %w", err)
	}
	names := queue.Local()
	names.Events, names.EventsDead = "", "" // if it is there, it stays
	if _, err := names.Create(ctx, sqs.NewFromConfig(s.AWSConf), whatisup.DefaultShardCount); err != nil {
		return err
	}
	if err := s.bucket().Create(ctx); err != nil {
		return fmt.Errorf("bucket: %w", err)
	}
	if side.Webhook, err = authKey(ctx, kms.NewFromConfig(s.AWSConf)); err != nil {
		return err
	}
	side.Keys = map[whatisup.Mode]string{whatisup.Live: side.Webhook, whatisup.Test: side.Webhook}
	if side.Peppers, err = whatisup.ParsePeppers(secrets.pepper); err != nil {
		return fmt.Errorf("the pepper: %w", err)
	}
	rows := dynamo.New(dynamo.Config{Client: db, Tables: side.Tables})
	if err := rows.CheckPeppers(ctx, side.Peppers); err != nil {
		return fmt.Errorf("the pepper: %w", err)
	}
	if err := do(side); err != nil {
		return err
	}
	return c.folderDone()
}
