package dynamo

import (
	"context"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"

	"whatisup/shared/whatisup"
)

const attrVersion = "version"

// ClientVersion is the client version that hosts of a mode have last learned
// from WhatsApp; empty if none has.
func (db *DB) ClientVersion(ctx context.Context, m whatisup.Mode) (string, error) {
	out, err := db.client.GetItem(ctx, &dynamodb.GetItemInput{
		TableName: aws.String(db.tables.Fleet), Key: versionKey(m), ConsistentRead: aws.Bool(true),
	})
	if err != nil {
		return "", translate(err)
	}
	return stringOf(out.Item[attrVersion]), nil
}

// KeepClientVersion keeps it for hosts that can't ask.
func (db *DB) KeepClientVersion(ctx context.Context, m whatisup.Mode, version string) error {
	_, err := db.client.PutItem(ctx, &dynamodb.PutItemInput{
		TableName: aws.String(db.tables.Fleet), Item: withKey(versionKey(m), item{attrVersion: str(version)}),
	})
	return translate(err)
}
