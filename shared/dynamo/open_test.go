package dynamo

import (
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"

	"whatisup/local/aws/awstest"
	"whatisup/shared/whatisup"
)

// open returns a DB on empty tables.
func open(t *testing.T) *DB {
	t.Helper()
	client := dynamodb.NewFromConfig(awstest.Start(t).Config)
	if err := Local().Create(t.Context(), client); err != nil {
		t.Fatal(err)
	}
	return New(Config{Client: client, Tables: Local(), Queues: true})
}

// dropDevice removes an instance's device row, as the device store does once a
// link is wiped.
func dropDevice(t *testing.T, db *DB, id whatisup.InstanceID) {
	t.Helper()
	if _, err := db.client.DeleteItem(t.Context(), &dynamodb.DeleteItemInput{
		TableName: aws.String(db.tables.Devices), Key: DeviceKey(id),
	}); err != nil {
		t.Fatal(err)
	}
}
