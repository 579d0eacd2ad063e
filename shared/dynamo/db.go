package dynamo

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/smithy-go"
	"github.com/google/uuid"

	"whatisup/shared/whatisup"
)

// Config of a [DB].
type Config struct {
	Client *dynamodb.Client
	// Inserting is the same client with its inserts shared, of a process that makes
	// many at once; nil: each has a request of its own.
	Inserting  *Inserting
	Tables     Tables
	ShardCount int // 0: whatisup.DefaultShardCount
	// Queues says that events also go to queues, so that each is kept as unsent
	// beside its row until the queues have it.
	Queues bool
	Clock  *Clock // nil: this machine's
}

// DB reads and writes the product's rows. It is safe for concurrent use and
// keeps nothing in memory.
type DB struct {
	client *dynamodb.Client
	insert func(context.Context, *dynamodb.PutItemInput, ...func(*dynamodb.Options)) (*dynamodb.PutItemOutput, error)
	tables Tables
	shards int
	queues bool
	clock  *Clock
}

// New returns a DB. It calls nothing.
func New(c Config) *DB {
	if c.ShardCount == 0 {
		c.ShardCount = whatisup.DefaultShardCount
	}
	if c.Clock == nil {
		c.Clock = NewClock(nil)
	}
	db := &DB{client: c.Client, insert: c.Client.PutItem, tables: c.Tables, shards: c.ShardCount, queues: c.Queues, clock: c.Clock}
	if c.Inserting != nil {
		db.insert = c.Inserting.PutItem
	}
	return db
}

// Position takes the position of this moment, for an event.
func (db *DB) Position() whatisup.Position { return db.clock.Position() }

func (db *DB) now() time.Time { return db.clock.Now() }

// ShardOf is the shard of an instance in this deployment.
func (db *DB) ShardOf(id whatisup.InstanceID) whatisup.Shard { return whatisup.ShardOf(id, db.shards) }

// WorldShard is the shard that the sandbox's calls about a customer's phones go
// to.
func (db *DB) WorldShard(c whatisup.CustomerID) whatisup.Shard {
	return db.ShardOf(whatisup.InstanceID(c))
}

// A transaction that meets another on an item is tried again: at most this
// often, after a jittered wait that doubles from the first to the last. All of
// it ends well within whatisup.PositionLag.
const (
	conflictTries    = 8
	conflictWait     = 10 * time.Millisecond
	conflictWaitMost = 400 * time.Millisecond
)

// conditionFailed says which items of a write failed their condition, by index,
// with what the row held instead (nil: no row, or not asked for).
type conditionFailed struct {
	items map[int]item
}

func (e *conditionFailed) Error() string {
	return fmt.Sprintf("condition failed on %d item(s)", len(e.items))
}

// failedAt says whether err is a failed condition of the i-th item, and what
// was there.
func failedAt(err error, i int) (item, bool) {
	e, ok := errors.AsType[*conditionFailed](err)
	if !ok {
		return nil, false
	}
	old, ok := e.items[i]
	return old, ok
}

// transact writes all items or none. Beside what translate answers, the error
// may be a *conditionFailed.
func (db *DB) transact(ctx context.Context, items []types.TransactWriteItem) error {
	in := &dynamodb.TransactWriteItemsInput{
		TransactItems:      items,
		ClientRequestToken: aws.String(uuid.NewString()),
	}
	return retry(ctx, func() error {
		_, err := db.client.TransactWriteItems(ctx, in)
		return translate(err)
	})
}

// updateOne is an update outside a transaction, which costs half.
func (db *DB) updateOne(ctx context.Context, u *types.Update) error {
	return retry(ctx, func() error {
		_, err := db.client.UpdateItem(ctx, &dynamodb.UpdateItemInput{
			TableName: u.TableName, Key: u.Key,
			UpdateExpression: u.UpdateExpression, ConditionExpression: u.ConditionExpression,
			ExpressionAttributeNames: u.ExpressionAttributeNames, ExpressionAttributeValues: u.ExpressionAttributeValues,
			ReturnValuesOnConditionCheckFailure: u.ReturnValuesOnConditionCheckFailure,
		})
		return translate(err)
	})
}

// retry repeats do while it meets another transaction.
func retry(ctx context.Context, do func() error) error {
	wait := conflictWait
	for try := 1; ; try++ {
		err := do()
		if !errors.Is(err, errMet) || try == conflictTries {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(wait/2 + rand.N(wait)):
		}
		wait = min(2*wait, conflictWaitMost)
	}
}

// errMet: another transaction was at work on one of the items. It says nothing
// about the conditions, and becomes ErrUnavailable when it doesn't pass.
var errMet = fmt.Errorf("met another transaction: %w", whatisup.ErrUnavailable)

// translate turns an error of the SDK into one of ours. It is the only place
// that knows DynamoDB's exceptions.
func translate(err error) error {
	if err == nil {
		return nil
	}
	if e, ok := errors.AsType[*types.ConditionalCheckFailedException](err); ok {
		return &conditionFailed{items: map[int]item{0: e.Item}}
	}
	if e, ok := errors.AsType[*types.TransactionCanceledException](err); ok {
		failed := map[int]item{}
		met := false
		for i, r := range e.CancellationReasons {
			switch aws.ToString(r.Code) {
			case "None", "":
			case "ConditionalCheckFailed":
				failed[i] = r.Item
			case "TransactionConflict", "ThrottlingError", "ProvisionedThroughputExceeded":
				met = true
			default: // ValidationError, ItemCollectionSizeLimitExceeded
				return fmt.Errorf("transaction refused at item %d: %s: %s: %w: %w", i, aws.ToString(r.Code), aws.ToString(r.Message), whatisup.ErrRefused, err)
			}
		}
		if len(failed) > 0 {
			return &conditionFailed{items: failed}
		}
		if met {
			return errMet
		}
		return err
	}
	if _, ok := errors.AsType[*types.TransactionConflictException](err); ok {
		return errMet
	}
	if _, ok := errors.AsType[*types.TransactionInProgressException](err); ok {
		return errMet
	}
	if e, ok := errors.AsType[smithy.APIError](err); ok {
		switch e.ErrorCode() {
		case "ProvisionedThroughputExceededException", "ThrottlingException", "RequestLimitExceeded",
			"InternalServerError", "ServiceUnavailable", "LimitExceededException":
			return fmt.Errorf("%w: %w", whatisup.ErrUnavailable, err)
		case "ValidationException", "ItemCollectionSizeLimitExceededException": // too large, or a bug
			return fmt.Errorf("%w: %w", whatisup.ErrRefused, err)
		}
		return err // a bug or a missing right: never retried, never hidden
	}
	// No answer: the connection broke, or the context ended.
	return fmt.Errorf("%w: %w", whatisup.ErrUnavailable, err)
}

// put, update, check and remove build the items of a transaction. Each asks for
// the old row when its condition fails, which tells a missing row from a
// changed one without a second read.

func put(table string, row item, condition string, values item, names map[string]string) types.TransactWriteItem {
	p := &types.Put{TableName: aws.String(table), Item: row}
	if condition != "" {
		p.ConditionExpression = aws.String(condition)
		p.ExpressionAttributeValues = values
		p.ExpressionAttributeNames = names
		p.ReturnValuesOnConditionCheckFailure = types.ReturnValuesOnConditionCheckFailureAllOld
	}
	return types.TransactWriteItem{Put: p}
}

func update(table string, key item, expression, condition string, values item, names map[string]string) types.TransactWriteItem {
	return types.TransactWriteItem{Update: &types.Update{
		TableName: aws.String(table), Key: key,
		UpdateExpression:                    aws.String(expression),
		ConditionExpression:                 aws.String(condition),
		ExpressionAttributeValues:           values,
		ExpressionAttributeNames:            names,
		ReturnValuesOnConditionCheckFailure: types.ReturnValuesOnConditionCheckFailureAllOld,
	}}
}

func check(table string, key item, condition string, values item, names map[string]string) types.TransactWriteItem {
	return types.TransactWriteItem{ConditionCheck: &types.ConditionCheck{
		TableName: aws.String(table), Key: key,
		ConditionExpression:                 aws.String(condition),
		ExpressionAttributeValues:           values,
		ExpressionAttributeNames:            names,
		ReturnValuesOnConditionCheckFailure: types.ReturnValuesOnConditionCheckFailureAllOld,
	}}
}

func remove(table string, key item, condition string, values item, names map[string]string) types.TransactWriteItem {
	d := &types.Delete{TableName: aws.String(table), Key: key}
	if condition != "" {
		d.ConditionExpression = aws.String(condition)
		d.ExpressionAttributeValues = values
		d.ExpressionAttributeNames = names
		d.ReturnValuesOnConditionCheckFailure = types.ReturnValuesOnConditionCheckFailureAllOld
	}
	return types.TransactWriteItem{Delete: d}
}
