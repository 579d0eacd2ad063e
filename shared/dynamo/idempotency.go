package dynamo

import (
	"context"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"whatisup/shared/whatisup"
)

// onceKept is how long the broom leaves a record alone after its time.
const onceKept = 24 * time.Hour

func onceKey(k string) item { return item{attrPK: str("idem#" + k)} }

func binary(b []byte) types.AttributeValue { return &types.AttributeValueMemberB{Value: b} }

// Claim begins the record of a request: until the given time the call with
// o.Claim is the one that carries it out. If the record is there already it is
// answered instead: with its Answer, or without one while another call is at
// work. The claim of a call that died lapses, and is then anybody's who asks
// the same; a record past its ExpiresAt is as none.
func (db *DB) Claim(ctx context.Context, o whatisup.Once, until time.Time) (*whatisup.Once, error) {
	now := db.now()
	row := onceKey(o.Key)
	row["claim"], row["claimed_until"], row["print"] = str(o.Claim), number(millis(until)), binary(o.Print)
	row["expires_at"], row[attrTTL] = number(millis(o.ExpiresAt)), number(o.ExpiresAt.Add(onceKept).Unix())
	_, err := db.client.PutItem(ctx, &dynamodb.PutItemInput{
		TableName: aws.String(db.tables.Pairings), Item: row,
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
	there := &whatisup.Once{Key: o.Key, Claim: stringOf(old["claim"]), ExpiresAt: fromMillis(intOf(old["expires_at"]))}
	there.Print = bytesOf(old["print"])
	there.Answer = bytesOf(old["answer"])
	return there, nil
}

// onceItem completes the record of a request inside the request's own
// transaction. The claim was written before; it fails if another call has taken
// it over.
func (db *DB) onceItem(o *whatisup.Once) types.TransactWriteItem {
	return update(db.tables.Pairings, onceKey(o.Key),
		"SET answer = :answer, expires_at = :expires, #ttl = :ttl",
		onceMine, onceValues(o), map[string]string{"#ttl": attrTTL})
}

const onceMine = "attribute_exists(pk) AND claim = :claim AND attribute_not_exists(answer)"

func onceValues(o *whatisup.Once) item {
	return item{
		":answer": binary(o.Answer), ":expires": number(millis(o.ExpiresAt)),
		":ttl": number(o.ExpiresAt.Add(onceKept).Unix()), ":claim": str(o.Claim),
	}
}

// Complete is onceItem for an operation that writes nothing, or nothing more. It
// answers ErrClaimLost.
func (db *DB) Complete(ctx context.Context, o whatisup.Once) error {
	u := db.onceItem(&o).Update
	_, err := db.client.UpdateItem(ctx, &dynamodb.UpdateItemInput{
		TableName: u.TableName, Key: u.Key, UpdateExpression: u.UpdateExpression,
		ConditionExpression: u.ConditionExpression, ExpressionAttributeValues: u.ExpressionAttributeValues,
		ExpressionAttributeNames: u.ExpressionAttributeNames,
	})
	if err = translate(err); isConditionFailed(err) {
		return whatisup.ErrClaimLost
	}
	return err
}

// Abandon gives a claim back whose call came to nothing that is worth keeping,
// so that the next call need not wait for it to lapse. A record that was
// completed stays.
func (db *DB) Abandon(ctx context.Context, o whatisup.Once) error {
	_, err := db.client.UpdateItem(ctx, &dynamodb.UpdateItemInput{
		TableName: aws.String(db.tables.Pairings), Key: onceKey(o.Key),
		UpdateExpression:          aws.String("SET expires_at = :past"),
		ConditionExpression:       aws.String(onceMine),
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
