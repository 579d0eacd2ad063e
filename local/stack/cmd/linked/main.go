// Command linked counts the instances that are linked to a phone, and fails if
// there are any: whoever removes the stack then would take WhatsApp connections
// away without unlinking them. It reads INSTANCES_TABLE.
package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"whatisup/shared/dynamo"
)

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	if err := run(ctx, os.Getenv, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, getenv func(string) string, out io.Writer) error {
	cfg, err := config.LoadDefaultConfig(ctx)
	if err != nil {
		return err
	}
	n, err := count(ctx, dynamodb.NewFromConfig(cfg), cmp.Or(getenv("INSTANCES_TABLE"), dynamo.Local().Instances))
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "%d instances are linked\n", n)
	if n > 0 {
		return fmt.Errorf("unlink them first (logout or DELETE), or say FORCE=1")
	}
	return nil
}

// count goes over the index alone, which has a row for each instance and no
// content of any customer. A tombstone whose link is not given up yet counts.
func count(ctx context.Context, client *dynamodb.Client, table string) (int, error) {
	pages := dynamodb.NewScanPaginator(client, &dynamodb.ScanInput{
		TableName:                 aws.String(table),
		IndexName:                 aws.String(dynamo.IndexByShard),
		Select:                    types.SelectCount,
		FilterExpression:          aws.String("#link > :none"),
		ExpressionAttributeNames:  map[string]string{"#link": "link"},
		ExpressionAttributeValues: map[string]types.AttributeValue{":none": &types.AttributeValueMemberN{Value: "0"}},
	})
	n := 0
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return 0, err
		}
		n += int(page.Count)
	}
	return n, nil
}
