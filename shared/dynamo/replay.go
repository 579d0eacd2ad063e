package dynamo

import (
	"context"
	"encoding/json"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"

	"whatisup/shared/whatisup"
)

func replayKey(c whatisup.CustomerID, m whatisup.Mode, id whatisup.ReplayID) item {
	return key(partition(c, m)+"#replays", string(id))
}

// SaveReplay stores a replay as far as it is, due again at a time.
func (db *DB) SaveReplay(ctx context.Context, r *whatisup.Replay, due time.Time) error {
	b, err := json.Marshal(r)
	if err != nil {
		return err
	}
	row := replayKey(r.Customer, r.Mode, r.ID)
	row["body"], row["due"], row["due_at"] = str(string(b)), str(allDue), str(dueText(due))
	row[attrTTL] = number(db.now().Add(whatisup.DeliveriesKept).Unix())
	_, err = db.client.PutItem(ctx, &dynamodb.PutItemInput{TableName: aws.String(db.tables.Webhooks), Item: row})
	return translate(err)
}

// Replay reads a replay, consistently, or ErrNotFound.
func (db *DB) Replay(ctx context.Context, c whatisup.CustomerID, m whatisup.Mode, id whatisup.ReplayID) (*whatisup.Replay, error) {
	out, err := db.client.GetItem(ctx, &dynamodb.GetItemInput{
		TableName: aws.String(db.tables.Webhooks), Key: replayKey(c, m, id), ConsistentRead: aws.Bool(true),
	})
	if err != nil {
		return nil, translate(err)
	}
	if out.Item == nil {
		return nil, whatisup.ErrNotFound
	}
	r := new(whatisup.Replay)
	return r, json.Unmarshal([]byte(stringOf(out.Item["body"])), r)
}

// EndReplay removes a replay that has read everything.
func (db *DB) EndReplay(ctx context.Context, r *whatisup.Replay) error {
	_, err := db.client.DeleteItem(ctx, &dynamodb.DeleteItemInput{TableName: aws.String(db.tables.Webhooks), Key: replayKey(r.Customer, r.Mode, r.ID)})
	return translate(err)
}
