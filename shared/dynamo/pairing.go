package dynamo

import (
	"context"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/feature/dynamodb/attributevalue"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"whatisup/shared/whatisup"
)

// pairingRow is the code row. Times are unix milliseconds, 0 for none.
type pairingRow struct {
	Generation    uint64 `dynamodbav:"generation"`
	Epoch         uint64 `dynamodbav:"epoch"`
	N             uint64 `dynamodbav:"n"`
	Raw           string `dynamodbav:"raw"`
	Modules       []byte `dynamodbav:"modules"`
	ExpiresAt     int64  `dynamodbav:"expires_at"`
	AliveUntil    int64  `dynamodbav:"alive_until"`
	Code          string `dynamodbav:"code"`
	CodePhone     string `dynamodbav:"code_phone"`
	CodeSerial    uint64 `dynamodbav:"code_serial"`
	CodeExpiresAt int64  `dynamodbav:"code_expires_at"`
	CodeRefused   bool   `dynamodbav:"code_refused"`
	CodeRetryAt   int64  `dynamodbav:"code_retry_at"`
	TTL           int64  `dynamodbav:"ttl"`
}

// TakePairCode takes the one pair code that a number is sent each
// [whatisup.PairCodeEvery]. hash names the number, within the scope. It answers
// ErrTooMany, with when the next is to be had.
func (db *DB) TakePairCode(ctx context.Context, scope, hash string) (next time.Time, err error) {
	now := db.now()
	_, err = db.client.PutItem(ctx, &dynamodb.PutItemInput{
		TableName: aws.String(db.tables.Calls),
		Item: item{
			attrPK: str("paircode#" + scope + "#" + hash), "at": number(now.UnixMilli()),
			attrTTL: number(now.Add(time.Hour).Unix()),
		},
		ConditionExpression:                 aws.String("attribute_not_exists(pk) OR #at <= :past"),
		ExpressionAttributeNames:            map[string]string{"#at": "at"},
		ExpressionAttributeValues:           item{":past": number(now.Add(-whatisup.PairCodeEvery).UnixMilli())},
		ReturnValuesOnConditionCheckFailure: types.ReturnValuesOnConditionCheckFailureAllOld,
	})
	if old, failed := failedAt(translate(err), 0); failed {
		return time.UnixMilli(intOf(old["at"])).Add(whatisup.PairCodeEvery), whatisup.ErrTooMany
	}
	return time.Time{}, translate(err)
}

// PutPairing writes what the present attempt has to show, over whatever an
// earlier attempt, or this one, wrote. It answers ErrFenced if a newer attempt,
// of this owner or the next, has written already.
func (db *DB) PutPairing(ctx context.Context, p whatisup.Pairing) error {
	ends := p.ExpiresAt
	if p.CodeExpiresAt.After(ends) {
		ends = p.CodeExpiresAt
	}
	if ends.IsZero() {
		ends = db.now()
	}
	expression, names, values := setAll(marshal(pairingRow{
		Generation: uint64(p.Attempt.Generation), Epoch: uint64(p.Attempt.Epoch), N: p.Attempt.N,
		Raw: p.Raw, Modules: p.Modules, ExpiresAt: millis(p.ExpiresAt), AliveUntil: millis(p.AliveUntil),
		Code: p.Code, CodePhone: string(p.CodePhone), CodeSerial: p.CodeSerial,
		CodeExpiresAt: millis(p.CodeExpiresAt), CodeRefused: p.CodeRefused,
		CodeRetryAt: millis(p.CodeRetryAt),
		TTL:         ends.Add(24 * time.Hour).Unix(),
	}))
	_, err := db.client.UpdateItem(ctx, &dynamodb.UpdateItemInput{
		TableName: aws.String(db.tables.Calls), Key: pairingKey(p.Instance),
		UpdateExpression: aws.String(expression),
		ConditionExpression: aws.String("attribute_not_exists(pk) OR #generation < :generation OR " +
			"(#generation = :generation AND (#epoch < :epoch OR (#epoch = :epoch AND #n <= :n)))"),
		ExpressionAttributeNames: names, ExpressionAttributeValues: values,
	})
	err = translate(err)
	if _, failed := failedAt(err, 0); failed {
		return whatisup.ErrFenced
	}
	return err
}

// VouchPairing renews (or, with the zero time, withdraws) the host's word that
// the socket behind the attempt's code is alive. It answers ErrFenced if the row
// is another attempt's by now.
func (db *DB) VouchPairing(ctx context.Context, id whatisup.InstanceID, a whatisup.AttemptID, until time.Time) error {
	_, err := db.client.UpdateItem(ctx, &dynamodb.UpdateItemInput{
		TableName: aws.String(db.tables.Calls), Key: pairingKey(id),
		UpdateExpression:    aws.String("SET alive_until = :until"),
		ConditionExpression: aws.String("attribute_exists(pk) AND generation = :generation AND epoch = :epoch AND n = :n"),
		ExpressionAttributeValues: item{
			":until": number(millis(until)), ":generation": number(uint64(a.Generation)),
			":epoch": number(a.Epoch), ":n": number(a.N),
		},
	})
	err = translate(err)
	if _, failed := failedAt(err, 0); failed {
		return whatisup.ErrFenced
	}
	return err
}

// Pairing reads an instance's code row, consistently: nil without an error if
// there is none.
func (db *DB) Pairing(ctx context.Context, id whatisup.InstanceID) (*whatisup.Pairing, error) {
	out, err := db.client.GetItem(ctx, &dynamodb.GetItemInput{
		TableName: aws.String(db.tables.Calls), Key: pairingKey(id), ConsistentRead: aws.Bool(true),
	})
	if err != nil || out.Item == nil {
		return nil, translate(err)
	}
	var r pairingRow
	if err := attributevalue.UnmarshalMap(out.Item, &r); err != nil {
		return nil, err
	}
	return &whatisup.Pairing{
		Instance: id,
		Attempt: whatisup.AttemptID{
			Generation: whatisup.Generation(r.Generation), Epoch: whatisup.Epoch(r.Epoch), N: r.N,
		},
		Raw: r.Raw, Modules: r.Modules, ExpiresAt: fromMillis(r.ExpiresAt), AliveUntil: fromMillis(r.AliveUntil),
		Code: r.Code, CodePhone: whatisup.PhoneNumber(r.CodePhone), CodeSerial: r.CodeSerial,
		CodeExpiresAt: fromMillis(r.CodeExpiresAt), CodeRefused: r.CodeRefused,
		CodeRetryAt: fromMillis(r.CodeRetryAt),
	}, nil
}
