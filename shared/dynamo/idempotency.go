package dynamo

import (
	"context"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"whatisup/shared/whatisup"
)

// recordKept is how long the broom leaves a record alone after its time.
const recordKept = 24 * time.Hour

func recordKey(k string) item { return item{attrPK: str("idem#" + k)} }

func binary(b []byte) types.AttributeValue { return &types.AttributeValueMemberB{Value: b} }

// Claim begins the record of a request: until the given time the call with
// o.Claim is the one that runs it. If the record is there already it is
// answered instead: with its Answer, or without one while another call is at
// work. The claim of a call that died lapses, and is then anybody's who asks
// the same; a record past its ExpiresAt is as none.
func (db *DB) Claim(ctx context.Context, o whatisup.Record, until time.Time) (*whatisup.Record, error) {
	now := db.now()
	row := recordKey(o.Key)
	row["claim"], row["claimed_until"], row["print"] = str(o.Claim), number(millis(until)), binary(o.Print)
	row["expires_at"], row[attrTTL] = number(millis(o.ExpiresAt)), number(o.ExpiresAt.Add(recordKept).Unix())
	_, err := db.client.PutItem(ctx, &dynamodb.PutItemInput{
		TableName: aws.String(db.tables.Calls), Item: row,
		ConditionExpression: aws.String("attribute_not_exists(pk) OR expires_at <= :now OR " +
			"(attribute_not_exists(answer) AND claimed_until <= :now AND print = :print)"),
		ExpressionAttributeValues: item{":now": number(millis(now)), ":print": binary(o.Print)},

		ReturnValuesOnConditionCheckFailure: types.ReturnValuesOnConditionCheckFailureAllOld,
	})
	err = translate(err)
	old, failed := failedAt(err, 0)
	if !failed {
		return nil, err
	}
	there := &whatisup.Record{Key: o.Key, Claim: stringOf(old["claim"]), ExpiresAt: fromMillis(intOf(old["expires_at"]))}
	there.Print = bytesOf(old["print"])
	there.Answer = bytesOf(old["answer"])
	return there, nil
}

// recordItem completes the record of a request inside the request's own
// transaction. The claim was written before; it fails if another call has taken
// it over.
func (db *DB) recordItem(o *whatisup.Record) types.TransactWriteItem {
	return update(db.tables.Calls, recordKey(o.Key),
		"SET answer = :answer, expires_at = :expires, #ttl = :ttl",
		recordMine, recordValues(o), map[string]string{"#ttl": attrTTL})
}

const recordMine = "attribute_exists(pk) AND claim = :claim AND attribute_not_exists(answer)"

func recordValues(o *whatisup.Record) item {
	return item{
		":answer": binary(o.Answer), ":expires": number(millis(o.ExpiresAt)),
		":ttl": number(o.ExpiresAt.Add(recordKept).Unix()), ":claim": str(o.Claim),
	}
}

// Complete is recordItem for an operation that writes nothing, or nothing more. It
// answers ErrClaimLost.
func (db *DB) Complete(ctx context.Context, o whatisup.Record) error {
	err := db.updateOne(ctx, db.recordItem(&o).Update)
	if isConditionFailed(err) {
		return whatisup.ErrClaimLost
	}
	return err
}

// Abandon gives a claim back whose call came to nothing that is worth keeping,
// so that the next call need not wait for it to lapse. A record that was
// completed stays.
func (db *DB) Abandon(ctx context.Context, o whatisup.Record) error {
	_, err := db.client.UpdateItem(ctx, &dynamodb.UpdateItemInput{
		TableName: aws.String(db.tables.Calls), Key: recordKey(o.Key),
		UpdateExpression:          aws.String("SET expires_at = :past"),
		ConditionExpression:       aws.String(recordMine),
		ExpressionAttributeValues: item{":claim": str(o.Claim), ":past": number(0)},
	})
	if err := translate(err); !isConditionFailed(err) {
		return err
	}
	return nil
}

func bytesOf(v types.AttributeValue) []byte {
	b, ok := v.(*types.AttributeValueMemberB)
	if !ok {
		return nil
	}
	return b.Value
}
