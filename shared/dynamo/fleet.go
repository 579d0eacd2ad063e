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

// leaseRow is who owns a shard. A shard without an owner keeps its row and its
// epoch. Times are unix milliseconds, of the owner's wall clock, for display.
type leaseRow struct {
	Owner   string `dynamodbav:"owner"`
	Epoch   uint64 `dynamodbav:"epoch"`
	Counter uint64 `dynamodbav:"counter"`
	AliveAt int64  `dynamodbav:"alive_at"`
	Up      bool   `dynamodbav:"up"`
}

// fleetHostRow is one host, in the list of all.
type fleetHostRow struct {
	Counter  uint64 `dynamodbav:"counter"`
	Draining bool   `dynamodbav:"draining"`
	Sessions int    `dynamodbav:"sessions"`
	AliveAt  int64  `dynamodbav:"alive_at"`
	TTL      int64  `dynamodbav:"ttl"`
}

// Leases reads every shard of a mode; the index of the slice is the shard's
// number. A shard that nobody ever owned has the zero epoch. Hosts look every
// second, so the read is the cheaper, eventually consistent one: it may show a
// lease of a moment ago, and a claim of that fails. Counters only rise, so one
// that was seen and can still be claimed has stood still since it was seen.
func (db *DB) Leases(ctx context.Context, m whatisup.Mode) ([]whatisup.Lease, error) {
	leases := make([]whatisup.Lease, db.shards)
	for s := range leases {
		leases[s].Shard = whatisup.Shard(s)
	}
	p := dynamodb.NewQueryPaginator(db.client, &dynamodb.QueryInput{
		TableName:                 aws.String(db.tables.Fleet),
		KeyConditionExpression:    aws.String("pk = :pk"),
		ExpressionAttributeValues: item{":pk": leaseKey(m, 0)[attrPK]},
	})
	for p.HasMorePages() {
		out, err := p.NextPage(ctx)
		if err != nil {
			return nil, translate(err)
		}
		for _, it := range out.Items {
			var r leaseRow
			if err := attributevalue.UnmarshalMap(it, &r); err != nil {
				return nil, err
			}
			for s := range leases {
				if stringOf(it[attrSK]) == shardName(whatisup.Shard(s)) {
					leases[s].Owner, leases[s].Epoch, leases[s].Counter = r.Owner, whatisup.Epoch(r.Epoch), r.Counter
					leases[s].AliveAt, leases[s].Up = fromMillis(r.AliveAt), r.Up
				}
			}
		}
	}
	return leases, nil
}

// Lease reads one shard, consistently.
func (db *DB) Lease(ctx context.Context, m whatisup.Mode, s whatisup.Shard) (whatisup.Lease, error) {
	l := whatisup.Lease{Shard: s}
	out, err := db.client.GetItem(ctx, &dynamodb.GetItemInput{
		TableName: aws.String(db.tables.Fleet), Key: leaseKey(m, s), ConsistentRead: aws.Bool(true),
	})
	if err != nil {
		return l, translate(err)
	}
	var r leaseRow
	if err := attributevalue.UnmarshalMap(out.Item, &r); err != nil {
		return l, err
	}
	l.Owner, l.Epoch, l.Counter, l.AliveAt, l.Up = r.Owner, whatisup.Epoch(r.Epoch), r.Counter, fromMillis(r.AliveAt), r.Up
	return l, nil
}

// ClaimLease makes owner the owner of the shard as it was seen, with the next
// epoch, which it writes to the shard's epoch row in the same transaction: that
// row changes only here, so that a check on it never meets a renewal. It answers
// ErrConflict if the lease is no longer as it was seen. Whether the seen owner
// may be replaced is the caller's judgement.
func (db *DB) ClaimLease(ctx context.Context, m whatisup.Mode, seen whatisup.Lease, owner string) (whatisup.Lease, error) {
	now := db.now()
	l := whatisup.Lease{Shard: seen.Shard, Owner: owner, Epoch: seen.Epoch + 1, Counter: seen.Counter + 1, AliveAt: now}
	row := marshal(leaseRow{Owner: owner, Epoch: uint64(l.Epoch), Counter: l.Counter, AliveAt: now.UnixMilli()})
	names := map[string]string{"#owner": "owner", "#counter": "counter"}
	lease := put(db.tables.Fleet, withKey(leaseKey(m, seen.Shard), row),
		"#owner = :owner AND epoch = :epoch AND #counter = :counter",
		item{":owner": str(seen.Owner), ":epoch": number(uint64(seen.Epoch)), ":counter": number(seen.Counter)}, names)
	epoch := put(db.tables.Fleet, withKey(epochKey(m, seen.Shard), item{attrEpoch: number(uint64(l.Epoch))}),
		"epoch = :epoch", item{":epoch": number(uint64(seen.Epoch))}, nil)
	if seen.Epoch == 0 {
		lease = put(db.tables.Fleet, withKey(leaseKey(m, seen.Shard), row), "attribute_not_exists(pk)", nil, nil)
		epoch = put(db.tables.Fleet, withKey(epochKey(m, seen.Shard), item{attrEpoch: number(uint64(l.Epoch))}), "attribute_not_exists(pk)", nil, nil)
	}
	err := db.transact(ctx, []types.TransactWriteItem{lease, epoch})
	for i := range 2 {
		if _, failed := failedAt(err, i); failed {
			return whatisup.Lease{}, whatisup.ErrConflict
		}
	}
	return l, err
}

// RenewLease raises the lease's counter. It answers ErrFenced if the shard has
// another owner, or this one with another epoch.
func (db *DB) RenewLease(ctx context.Context, m whatisup.Mode, l whatisup.Lease) error {
	return db.changeLease(ctx, m, l, "SET alive_at = :now, up = :up ADD #counter :one", item{
		":now": number(db.now().UnixMilli()), ":up": boolean(l.Up), ":one": number(1),
	}, map[string]string{"#counter": "counter", "#owner": "owner"})
}

// ReleaseLease leaves the shard without an owner. Errors as of RenewLease.
func (db *DB) ReleaseLease(ctx context.Context, m whatisup.Mode, l whatisup.Lease) error {
	return db.changeLease(ctx, m, l, "SET #owner = :nobody, up = :up ADD #counter :one", item{
		":nobody": str(""), ":up": boolean(false), ":one": number(1),
	}, map[string]string{"#owner": "owner", "#counter": "counter"})
}

func (db *DB) changeLease(ctx context.Context, m whatisup.Mode, l whatisup.Lease, expression string, values item, names map[string]string) error {
	values[":owner"], values[":epoch"] = str(l.Owner), number(uint64(l.Epoch))
	_, err := db.client.UpdateItem(ctx, &dynamodb.UpdateItemInput{
		TableName: aws.String(db.tables.Fleet), Key: leaseKey(m, l.Shard),
		UpdateExpression:          aws.String(expression),
		ConditionExpression:       aws.String("#owner = :owner AND epoch = :epoch"),
		ExpressionAttributeValues: values, ExpressionAttributeNames: names,
	})
	err = translate(err)
	if _, failed := failedAt(err, 0); failed {
		return whatisup.ErrFenced
	}
	return err
}

// Beat shows a host to the others.
func (db *DB) Beat(ctx context.Context, m whatisup.Mode, h whatisup.Host) error {
	now := db.now()
	row := marshal(fleetHostRow{
		Counter: h.Counter, Draining: h.Draining, Sessions: h.Sessions,
		AliveAt: now.UnixMilli(), TTL: now.Add(time.Hour).Unix(),
	})
	_, err := db.client.PutItem(ctx, &dynamodb.PutItemInput{
		TableName: aws.String(db.tables.Fleet), Item: withKey(fleetHostKey(m, h.ID), row),
	})
	return translate(err)
}

// Leave takes a host off the list.
func (db *DB) Leave(ctx context.Context, m whatisup.Mode, id string) error {
	_, err := db.client.DeleteItem(ctx, &dynamodb.DeleteItemInput{
		TableName: aws.String(db.tables.Fleet), Key: fleetHostKey(m, id),
	})
	return translate(err)
}

// Hosts lists the hosts that have not left, dead ones included: whether one is
// alive is seen by watching its counter. It may be a moment behind, too.
func (db *DB) Hosts(ctx context.Context, m whatisup.Mode) ([]whatisup.Host, error) {
	p := dynamodb.NewQueryPaginator(db.client, &dynamodb.QueryInput{
		TableName:                 aws.String(db.tables.Fleet),
		KeyConditionExpression:    aws.String("pk = :pk"),
		ExpressionAttributeValues: item{":pk": fleetHostKey(m, "")[attrPK]},
	})
	var hosts []whatisup.Host
	for p.HasMorePages() {
		out, err := p.NextPage(ctx)
		if err != nil {
			return nil, translate(err)
		}
		for _, it := range out.Items {
			var r fleetHostRow
			if err := attributevalue.UnmarshalMap(it, &r); err != nil {
				return nil, err
			}
			hosts = append(hosts, whatisup.Host{
				ID: stringOf(it[attrSK]), Counter: r.Counter, Draining: r.Draining, Sessions: r.Sessions, AliveAt: fromMillis(r.AliveAt),
			})
		}
	}
	return hosts, nil
}
