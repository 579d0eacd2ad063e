package dynamo

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"

	"whatisup/shared/whatisup"
)

// PutEvent writes an event to the log that belongs to no change of a row.
func (db *DB) PutEvent(ctx context.Context, e whatisup.Event) error {
	w, err := db.EventItem(e)
	if err != nil {
		return err
	}
	_, err = db.client.PutItem(ctx, &dynamodb.PutItemInput{TableName: w.Put.TableName, Item: w.Put.Item})
	return translate(err)
}

// EventsAfter lists the customer's events with positions above after, in their
// order, as the loop goes on. An event may still turn up below a position that
// was listed, for up to whatisup.PositionLag: see [whatisup.PositionReread].
// about says how many events the caller expects to take.
func (db *DB) EventsAfter(ctx context.Context, c whatisup.CustomerID, m whatisup.Mode, after whatisup.Position, about int) iter.Seq2[whatisup.Logged, error] {
	return db.events(ctx, about, &dynamodb.QueryInput{
		KeyConditionExpression:    aws.String("pk = :pk AND sk > :sk"),
		ExpressionAttributeValues: item{":pk": str(owner(c, m)), ":sk": str(string(after))},
	})
}

// EventsBefore lists the customer's events with positions below before (empty:
// all), newest first.
func (db *DB) EventsBefore(ctx context.Context, c whatisup.CustomerID, m whatisup.Mode, before whatisup.Position, about int) iter.Seq2[whatisup.Logged, error] {
	in := &dynamodb.QueryInput{
		KeyConditionExpression:    aws.String("pk = :pk"),
		ExpressionAttributeValues: item{":pk": str(owner(c, m))},
		ScanIndexForward:          aws.Bool(false),
	}
	if before != "" {
		in.KeyConditionExpression = aws.String("pk = :pk AND sk < :sk")
		in.ExpressionAttributeValues[":sk"] = str(string(before))
	}
	return db.events(ctx, about, in)
}

func (db *DB) events(ctx context.Context, about int, in *dynamodb.QueryInput) iter.Seq2[whatisup.Logged, error] {
	in.TableName = aws.String(db.tables.Events)
	in.ConsistentRead = aws.Bool(true)
	in.ProjectionExpression = aws.String("sk, body, #ttl")
	in.ExpressionAttributeNames = map[string]string{"#ttl": attrTTL}
	if about > 0 {
		in.Limit = aws.Int32(int32(min(about, 1000)))
	}
	return func(yield func(whatisup.Logged, error) bool) {
		for row, err := range db.query(ctx, in) {
			if err == nil && intOf(row[attrTTL]) <= db.now().Unix() {
				continue // past its time; the broom has not come yet
			}
			l := whatisup.Logged{Position: whatisup.Position(stringOf(row[attrSK]))}
			if err == nil {
				if err = json.Unmarshal([]byte(stringOf(row["body"])), &l.Event); err != nil {
					err = fmt.Errorf("event at %s: %w", l.Position, err)
				}
			}
			if !yield(l, err) || err != nil {
				return
			}
		}
	}
}
