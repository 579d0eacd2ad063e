package dynamo

import (
	"context"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"

	"whatisup/shared/whatisup"
)

// PutResult keeps the outcome of a command with work for the call that waits
// for it. A repetition of the command writes the same again.
func (db *DB) PutResult(ctx context.Context, r whatisup.Result) error {
	row := resultKey(r.Command)
	row["error"] = str(string(r.Error))
	row["message"] = str(r.Message)
	row["message_id"] = str(r.MessageID)
	if len(r.Answer) > whatisup.MaxAnswer {
		return fmt.Errorf("result of %s: an answer of %d bytes", r.Command, len(r.Answer))
	}
	if r.Answer != nil {
		row["answer"] = binary(r.Answer)
	}
	expires := db.now().Add(whatisup.ResultKept)
	row["expires_at"] = number(expires.UnixMilli())
	row[attrTTL] = number(expires.Unix())
	_, err := db.client.PutItem(ctx, &dynamodb.PutItemInput{TableName: aws.String(db.tables.Calls), Item: row})
	return translate(err)
}

// Result reads the outcome of a command, consistently: nil without an error
// while there is none.
func (db *DB) Result(ctx context.Context, id whatisup.CommandID) (*whatisup.Result, error) {
	out, err := db.client.GetItem(ctx, &dynamodb.GetItemInput{
		TableName: aws.String(db.tables.Calls), Key: resultKey(id), ConsistentRead: aws.Bool(true),
	})
	if err != nil || out.Item == nil {
		return nil, translate(err)
	}
	return &whatisup.Result{
		Command: id, Error: whatisup.Code(stringOf(out.Item["error"])),
		Message: stringOf(out.Item["message"]), MessageID: stringOf(out.Item["message_id"]),
		Answer: bytesOf(out.Item["answer"]),
	}, nil
}
