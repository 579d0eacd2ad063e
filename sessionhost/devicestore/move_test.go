package devicestore

import (
	"errors"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/aws-sdk-go-v2/service/kms"

	"whatisup/shared/seal"
)

// A link whose host was killed loads at another deployment with everything that it has:
// in another table, under another key of another KMS, and for owners with lower epochs.
func TestMoved(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		format  Format
		settled bool
	}{{"rows", FormatRows, false}, {"entries of the log", FormatLog, false}, {"a log in rows", FormatLog, true}} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			from, to := newBench(t), newBench(t)
			from.format, to.format, to.instance = c.format, c.format, from.instance
			h := from.open(70)
			device := h.pair(t, 1)
			fill(t, h, device)
			ctx, err := h.Send(t.Context(), "3EB0LARGE", nil) // a value in several pieces
			if err != nil {
				t.Fatal(err)
			}
			if err := device.EventBuffer.AddOutgoingEvent(ctx, annL, "3EB0LARGE", "wa", random(900<<10)); err != nil {
				t.Fatal(err)
			}
			if c.settled {
				h.settle(t)
			}
			there := kms.NewFromConfig(to.cloud.Config)
			key, err := there.CreateKey(t.Context(), &kms.CreateKeyInput{})
			if err != nil {
				t.Fatal(err)
			}
			m := Mover{DynamoDB: from.db, Keyring: from.keyring, Wrap: there, WrapID: *key.KeyMetadata.KeyId, From: testTable, To: logTable}
			head, rows, err := m.Rows(t.Context(), from.instance.ID, from.instance.CustomerID)
			if err != nil {
				t.Fatal(err)
			}
			for _, row := range append(rows, head) {
				if _, err := to.db.PutItem(t.Context(), &dynamodb.PutItemInput{TableName: aws.String(logTable), Item: row}); err != nil {
					t.Fatal(err)
				}
			}
			// The first owner there has epoch 1.
			if _, err := to.db.UpdateItem(t.Context(), &dynamodb.UpdateItemInput{
				TableName: aws.String(logTable), Key: primaryKey(string(to.instance.ID), headSK),
				UpdateExpression: aws.String("SET epoch = :e"), ConditionExpression: aws.String("attribute_not_exists(epoch) OR epoch <= :e"),
				ExpressionAttributeValues: map[string]types.AttributeValue{":e": num(uint64(1))},
			}); err != nil {
				t.Fatal(err)
			}
			next := &host{rec: &recorder{db: to.db}}
			next.store = New(Config{Table: logTable, DynamoDB: next.rec, Keyring: seal.NewKeyring(there, *key.KeyMetadata.KeyId), Format: c.format})
			next.Handle = next.store.Open(to.instance, Fence{Epoch: 1, Context: t.Context(), Fail: func(error) { next.failed.Add(1) }})
			loaded := next.load(t)
			for _, r := range readers {
				if err := r.do(t.Context(), next, loaded); err != nil {
					t.Errorf("%s: %v", r.name, err)
				}
			}
			if sent, ok, err := next.Copy(t.Context(), "3EB0LARGE"); err != nil || !ok || len(sent.Bytes) != 900<<10 {
				t.Errorf("the large value: %v", err)
			}
			if err := loaded.Save(t.Context()); err != nil {
				t.Errorf("it can't be written to: %v", err)
			}
			// What is sealed does not open where it does not belong.
			m.To = testTable
			m.Keyring = seal.NewKeyring(there, *key.KeyMetadata.KeyId)
			if _, _, err := m.Rows(t.Context(), from.instance.ID, from.instance.CustomerID); err == nil || errors.Is(err, ErrNewerFormat) {
				t.Errorf("with a key of another KMS: %v", err)
			}
		})
	}
}
