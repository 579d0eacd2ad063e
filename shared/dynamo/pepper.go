package dynamo

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"whatisup/shared/whatisup"
)

// CheckPeppers compares the peppers with those that this table's keys were hashed
// with, and remembers those it sees for the first time. With another pepper every
// API key would be refused as wrong: whatisup.ErrPepper, and whoever gets it must
// not serve.
func (db *DB) CheckPeppers(ctx context.Context, p whatisup.Peppers) error {
	for _, version := range slices.Sorted(maps.Keys(p)) {
		mark, err := p.Mark(version)
		if err != nil {
			return err
		}
		out, err := db.client.UpdateItem(ctx, &dynamodb.UpdateItemInput{
			TableName:                 aws.String(db.tables.Access),
			Key:                       key("pepper", strconv.Itoa(version)),
			UpdateExpression:          aws.String("SET mark = if_not_exists(mark, :mark)"),
			ExpressionAttributeValues: item{":mark": &types.AttributeValueMemberB{Value: mark}},
			ReturnValues:              types.ReturnValueAllNew,
		})
		if err != nil {
			return translate(err)
		}
		if kept, ok := out.Attributes["mark"].(*types.AttributeValueMemberB); !ok || !bytes.Equal(kept.Value, mark) {
			return fmt.Errorf("version %d: %w", version, whatisup.ErrPepper)
		}
	}
	return nil
}
