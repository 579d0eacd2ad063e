package aws_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	local "whatisup/local/aws"
	"whatisup/local/aws/awstest"
)

// On a full disk writes are refused and nothing is damaged: what was answered is
// there, reads go on, and writes too when there is room again.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	disk := t.TempDir()
	if err := syscall.Mount("tmpfs", disk, "tmpfs", 0, "size=12m"); err != nil {
		t.Skipf("NOT TRIED on a full disk: it takes the right to mount one (%v)", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(disk, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	path := filepath.Join(disk, "aws.db")
	written := map[string]bool{}
	check := func(client *dynamodb.Client) {
		t.Helper()
		for name := range written {
			out, err := client.GetItem(t.Context(), &dynamodb.GetItemInput{TableName: aws.String("disk"), Key: map[string]types.AttributeValue{"pk": &types.AttributeValueMemberS{Value: name}}})
			if err != nil || len(out.Item) != 2 {
				t.Fatalf("%s was answered and is not there (%v)", name, err)
			}
		}
	}
	t.Run("full", func(t *testing.T) {
		client := dynamodb.NewFromConfig(awstest.StartWith(t, local.Config{Path: path}).Config, func(o *dynamodb.Options) { o.RetryMaxAttempts = 1 })
		if _, err := client.CreateTable(t.Context(), &dynamodb.CreateTableInput{
			TableName: aws.String("disk"), BillingMode: types.BillingModePayPerRequest,
			AttributeDefinitions: []types.AttributeDefinition{{AttributeName: aws.String("pk"), AttributeType: types.ScalarAttributeTypeS}},
			KeySchema:            []types.KeySchemaElement{{AttributeName: aws.String("pk"), KeyType: types.KeyTypeHash}},
		}); err != nil {
			t.Fatal(err)
		}
		put := func(name string) error {
			_, err := client.PutItem(t.Context(), &dynamodb.PutItemInput{TableName: aws.String("disk"), Item: map[string]types.AttributeValue{
				"pk": &types.AttributeValueMemberS{Value: name}, "v": &types.AttributeValueMemberS{Value: strings.Repeat("x", 100<<10)},
			}})
			if err == nil {
				written[name] = true
			}
			return err
		}
		other := filepath.Join(disk, "other")
		if err := os.WriteFile(other, make([]byte, 2<<20), 0o600); err != nil {
			t.Fatal(err)
		}
		refused := 0
		for i := range 200 {
			if put(fmt.Sprint("fill ", i)) != nil {
				if refused++; refused == 5 {
					break
				}
			}
		}
		if refused == 0 {
			t.Fatal("the disk was never full")
		}
		check(client)
		if err := os.Remove(other); err != nil {
			t.Fatal(err)
		}
		if err := put("with room again"); err != nil {
			t.Errorf("with room again: %v", err)
		}
		check(client)
	})
	t.Run("opened again", func(t *testing.T) {
		check(dynamodb.NewFromConfig(awstest.StartWith(t, local.Config{Path: path}).Config))
	})
}
