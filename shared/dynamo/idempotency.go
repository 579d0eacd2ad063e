package dynamo

import (
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"whatisup/shared/whatisup"
)

// onceItem completes the record of a request inside the request's own
// transaction. The claim was written before; it fails if another call has taken
// it over.
func (db *DB) onceItem(o *whatisup.Once) types.TransactWriteItem {
	return update(db.tables.Pairings, item{attrPK: str("idem#" + o.Key)},
		"SET answer = :answer, print = :print, expires_at = :expires, #ttl = :ttl",
		"attribute_exists(pk) AND claim = :claim AND attribute_not_exists(answer)",
		item{
			":answer": &types.AttributeValueMemberB{Value: o.Answer}, ":print": &types.AttributeValueMemberB{Value: o.Print},
			":expires": number(o.ExpiresAt.UnixMilli()), ":ttl": number(o.ExpiresAt.Add(24 * time.Hour).Unix()), ":claim": str(o.Claim),
		}, map[string]string{"#ttl": attrTTL})
}
