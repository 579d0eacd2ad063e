package aws_test

import (
	"bytes"
	"errors"
	"testing"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	ddb "github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	kmstypes "github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	sqstypes "github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"whatisup/local/aws/awstest"
)

func s(v string) ddb.AttributeValue { return &ddb.AttributeValueMemberS{Value: v} }
func n(v string) ddb.AttributeValue { return &ddb.AttributeValueMemberN{Value: v} }

// newTable makes a table with keys pk and sk and an index "by-kind" on kind and at.
func newTable(t testing.TB, c *dynamodb.Client, name string) {
	t.Helper()
	_, err := c.CreateTable(t.Context(), &dynamodb.CreateTableInput{
		TableName:   sdk.String(name),
		BillingMode: ddb.BillingModePayPerRequest,
		AttributeDefinitions: []ddb.AttributeDefinition{
			{AttributeName: sdk.String("pk"), AttributeType: ddb.ScalarAttributeTypeS},
			{AttributeName: sdk.String("sk"), AttributeType: ddb.ScalarAttributeTypeS},
			{AttributeName: sdk.String("kind"), AttributeType: ddb.ScalarAttributeTypeS},
			{AttributeName: sdk.String("at"), AttributeType: ddb.ScalarAttributeTypeN},
		},
		KeySchema: []ddb.KeySchemaElement{
			{AttributeName: sdk.String("pk"), KeyType: ddb.KeyTypeHash},
			{AttributeName: sdk.String("sk"), KeyType: ddb.KeyTypeRange},
		},
		GlobalSecondaryIndexes: []ddb.GlobalSecondaryIndex{{
			IndexName: sdk.String("by-kind"),
			KeySchema: []ddb.KeySchemaElement{
				{AttributeName: sdk.String("kind"), KeyType: ddb.KeyTypeHash},
				{AttributeName: sdk.String("at"), KeyType: ddb.KeyTypeRange},
			},
			Projection: &ddb.Projection{ProjectionType: ddb.ProjectionTypeInclude, NonKeyAttributes: []string{"name"}},
		}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := dynamodb.NewTableExistsWaiter(c).Wait(t.Context(), &dynamodb.DescribeTableInput{TableName: sdk.String(name)}, time.Minute); err != nil {
		t.Fatal(err)
	}
}

func TestSDKDynamoDB(t *testing.T) {
	t.Parallel()
	c := dynamodb.NewFromConfig(awstest.Start(t).Config)
	newTable(t, c, "things")
	ctx := t.Context()
	for _, item := range []map[string]ddb.AttributeValue{
		{"pk": s("a"), "sk": s("1"), "kind": s("x"), "at": n("10"), "name": s("ten"), "secret": s("no")},
		{"pk": s("a"), "sk": s("2"), "kind": s("x"), "at": n("9"), "name": s("nine")},
		{"pk": s("a"), "sk": s("3"), "name": s("in no index")},
	} {
		if _, err := c.PutItem(ctx, &dynamodb.PutItemInput{TableName: sdk.String("things"), Item: item}); err != nil {
			t.Fatal(err)
		}
	}
	got, err := c.Query(ctx, &dynamodb.QueryInput{
		TableName: sdk.String("things"), IndexName: sdk.String("by-kind"), KeyConditionExpression: sdk.String("kind = :k and #at between :a and :b"),
		ExpressionAttributeNames:  map[string]string{"#at": "at"},
		ExpressionAttributeValues: map[string]ddb.AttributeValue{":k": s("x"), ":a": n("1"), ":b": n("100")},
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Items) != 2 || got.Items[0]["name"].(*ddb.AttributeValueMemberS).Value != "nine" {
		t.Fatalf("index query: %v", got.Items)
	}
	if _, there := got.Items[1]["secret"]; there {
		t.Error("the index shows an attribute that it does not hold")
	}
	_, err = c.UpdateItem(ctx, &dynamodb.UpdateItemInput{
		TableName: sdk.String("things"), Key: map[string]ddb.AttributeValue{"pk": s("a"), "sk": s("1")},
		UpdateExpression: sdk.String("SET n = if_not_exists(n, :zero) + :one"), ConditionExpression: sdk.String("attribute_not_exists(pk)"),
		ExpressionAttributeValues:           map[string]ddb.AttributeValue{":zero": n("0"), ":one": n("1")},
		ReturnValuesOnConditionCheckFailure: ddb.ReturnValuesOnConditionCheckFailureAllOld,
	})
	var failed *ddb.ConditionalCheckFailedException
	if !errors.As(err, &failed) || failed.Item["secret"].(*ddb.AttributeValueMemberS).Value != "no" {
		t.Fatalf("conditional update: %v", err)
	}
	_, err = c.TransactWriteItems(ctx, &dynamodb.TransactWriteItemsInput{TransactItems: []ddb.TransactWriteItem{
		{Put: &ddb.Put{TableName: sdk.String("things"), Item: map[string]ddb.AttributeValue{"pk": s("b"), "sk": s("1")}}},
		{ConditionCheck: &ddb.ConditionCheck{TableName: sdk.String("things"), Key: map[string]ddb.AttributeValue{"pk": s("c"), "sk": s("1")}, ConditionExpression: sdk.String("attribute_exists(pk)")}},
	}})
	var cancelled *ddb.TransactionCanceledException
	if !errors.As(err, &cancelled) || len(cancelled.CancellationReasons) != 2 || *cancelled.CancellationReasons[0].Code != "None" || *cancelled.CancellationReasons[1].Code != "ConditionalCheckFailed" {
		t.Fatalf("transaction: %v", err)
	}
	one, err := c.GetItem(ctx, &dynamodb.GetItemInput{TableName: sdk.String("things"), Key: map[string]ddb.AttributeValue{"pk": s("b"), "sk": s("1")}})
	if err != nil || one.Item != nil {
		t.Fatalf("a cancelled transaction wrote %v, %v", one.Item, err)
	}
}

func TestSDKSQS(t *testing.T) {
	t.Parallel()
	c := sqs.NewFromConfig(awstest.Start(t).Config)
	ctx := t.Context()
	q, err := c.CreateQueue(ctx, &sqs.CreateQueueInput{QueueName: sdk.String("work.fifo"), Attributes: map[string]string{"FifoQueue": "true"}})
	if err != nil {
		t.Fatal(err)
	}
	type answer struct {
		out *sqs.ReceiveMessageOutput
		err error
	}
	waiting := make(chan answer, 1)
	go func() {
		out, err := c.ReceiveMessage(ctx, &sqs.ReceiveMessageInput{QueueUrl: q.QueueUrl, WaitTimeSeconds: 20, MessageSystemAttributeNames: []sqstypes.MessageSystemAttributeName{"All"}, MessageAttributeNames: []string{"All"}})
		waiting <- answer{out, err}
	}()
	_, err = c.SendMessage(ctx, &sqs.SendMessageInput{QueueUrl: q.QueueUrl, MessageBody: sdk.String("héllo"), MessageGroupId: sdk.String("g"), MessageDeduplicationId: sdk.String("d"),
		MessageAttributes: map[string]sqstypes.MessageAttributeValue{"kind": {DataType: sdk.String("String"), StringValue: sdk.String("test")}, "raw": {DataType: sdk.String("Binary"), BinaryValue: []byte{1, 2}}}})
	if err != nil {
		t.Fatal(err)
	}
	got := <-waiting
	if got.err != nil || len(got.out.Messages) != 1 || *got.out.Messages[0].Body != "héllo" || got.out.Messages[0].Attributes["MessageGroupId"] != "g" {
		t.Fatalf("received %+v, %v", got.out, got.err)
	}
	if !bytes.Equal(got.out.Messages[0].MessageAttributes["raw"].BinaryValue, []byte{1, 2}) {
		t.Errorf("attributes: %+v", got.out.Messages[0].MessageAttributes)
	}
	if _, err := c.DeleteMessage(ctx, &sqs.DeleteMessageInput{QueueUrl: q.QueueUrl, ReceiptHandle: got.out.Messages[0].ReceiptHandle}); err != nil {
		t.Fatal(err)
	}
	var none *sqstypes.QueueDoesNotExist
	if _, err := c.GetQueueUrl(ctx, &sqs.GetQueueUrlInput{QueueName: sdk.String("nope")}); !errors.As(err, &none) {
		t.Errorf("an unknown queue: %v", err)
	}
}

func TestSDKKMS(t *testing.T) {
	t.Parallel()
	c := kms.NewFromConfig(awstest.Start(t).Config)
	ctx := t.Context()
	key, err := c.CreateKey(ctx, &kms.CreateKeyInput{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.CreateAlias(ctx, &kms.CreateAliasInput{AliasName: sdk.String("alias/devices"), TargetKeyId: key.KeyMetadata.KeyId}); err != nil {
		t.Fatal(err)
	}
	data, err := c.GenerateDataKey(ctx, &kms.GenerateDataKeyInput{KeyId: sdk.String("alias/devices"), KeySpec: kmstypes.DataKeySpecAes256, EncryptionContext: map[string]string{"a": "1", "b": "2"}})
	if err != nil {
		t.Fatal(err)
	}
	plain, err := c.Decrypt(ctx, &kms.DecryptInput{CiphertextBlob: data.CiphertextBlob, EncryptionContext: map[string]string{"b": "2", "a": "1"}})
	if err != nil || !bytes.Equal(plain.Plaintext, data.Plaintext) || len(data.Plaintext) != 32 {
		t.Fatalf("decrypt: %v", err)
	}
	var invalid *kmstypes.InvalidCiphertextException
	if _, err := c.Decrypt(ctx, &kms.DecryptInput{CiphertextBlob: data.CiphertextBlob, EncryptionContext: map[string]string{"a": "1"}}); !errors.As(err, &invalid) {
		t.Fatalf("decrypt in another context: %v", err)
	}
}
