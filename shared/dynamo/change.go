package dynamo

import (
	"context"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/google/uuid"

	"whatisup/shared/whatisup"
)

// BeginChange records that a try of a change is about to be sent. Where a try
// before has begun it, or this one was called off, nothing is written, and what
// stands there is returned.
func (db *DB) BeginChange(ctx context.Context, id whatisup.ChangeID, try whatisup.CommandID) (*whatisup.Change, error) {
	return db.openChange(ctx, id, whatisup.Change{State: whatisup.ChangeBegun, Command: try},
		"attribute_not_exists(pk) OR change_state = :off AND try <> :try", item{":try": str(string(try))})
}

// CallOffChange records that a try that nobody waits for any more must not be sent.
// It returns what stands there instead if the change was begun.
func (db *DB) CallOffChange(ctx context.Context, id whatisup.ChangeID, try whatisup.CommandID) (*whatisup.Change, error) {
	return db.openChange(ctx, id, whatisup.Change{State: whatisup.ChangeOff, Command: try},
		"attribute_not_exists(pk) OR change_state = :off", item{})
}

func (db *DB) openChange(ctx context.Context, id whatisup.ChangeID, c whatisup.Change, condition string, values item) (*whatisup.Change, error) {
	values[":off"] = str(string(whatisup.ChangeOff))
	row, nonce := db.changeRow(id, c), uuid.NewString()
	row["nonce"] = str(nonce)
	_, err := db.client.PutItem(ctx, &dynamodb.PutItemInput{
		TableName: aws.String(db.tables.Calls), Item: row,
		ConditionExpression: aws.String(condition), ExpressionAttributeValues: values,
		ReturnValuesOnConditionCheckFailure: types.ReturnValuesOnConditionCheckFailureAllOld,
	})
	err = translate(err)
	if old, failed := failedAt(err, 0); failed {
		if stringOf(old["nonce"]) == nonce {
			return nil, nil // our own write, whose answer the SDK did not see
		}
		return &whatisup.Change{
			State: whatisup.ChangeState(stringOf(old["change_state"])), Command: whatisup.CommandID(stringOf(old["try"])),
			Answer: bytesOf(old["answer"]),
		}, nil
	}
	return nil, err
}

// EndChange records what has become of a change.
func (db *DB) EndChange(ctx context.Context, id whatisup.ChangeID, c whatisup.Change) error {
	_, err := db.client.PutItem(ctx, &dynamodb.PutItemInput{TableName: aws.String(db.tables.Calls), Item: db.changeRow(id, c)})
	return translate(err)
}

func (db *DB) changeRow(id whatisup.ChangeID, c whatisup.Change) item {
	row := changeKey(id)
	row["change_state"] = str(string(c.State))
	row["try"] = str(string(c.Command))
	if c.Answer != nil {
		row["answer"] = binary(c.Answer)
	}
	row[attrTTL] = number(db.now().Add(whatisup.ChangeKept).Unix())
	return row
}
