package dynamo

import (
	"context"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/feature/dynamodb/attributevalue"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"whatisup/shared/whatisup"
)

// leaseRow is who owns a shard; it is written when that changes, and once when
// the shard is up. A shard without an owner keeps its row and its epoch. Times
// are unix milliseconds, of the owner's wall clock, for display.
type leaseRow struct {
	Owner   string `dynamodbav:"owner"`
	Epoch   uint64 `dynamodbav:"epoch"`
	Counter uint64 `dynamodbav:"counter"`
	AliveAt int64  `dynamodbav:"alive_at"`
	Since   int64  `dynamodbav:"since,omitempty"`
	Up      bool   `dynamodbav:"up"`
}

// fleetHostRow is one host, in the list of all. Its writes keep every lease that
// the host has.
type fleetHostRow struct {
	Incarnation string `dynamodbav:"incarnation"`
	Counter     uint64 `dynamodbav:"counter"`
	Draining    bool   `dynamodbav:"draining"`
	Sessions    int    `dynamodbav:"sessions"`
	AliveAt     int64  `dynamodbav:"alive_at"`
	TTL         int64  `dynamodbav:"ttl"`
}

// hostKept is how long the row of a host that died stays. A host that comes
// counts it among the living until it has seen it stand still.
const hostKept = time.Hour

// Leases reads every shard of a mode; the index of the slice is the shard's
// number. A shard that nobody ever owned has the zero epoch. Hosts look every
// second, so the read is the cheaper, eventually consistent one: it may show a
// lease or a host of a moment ago. A claim of what has changed since fails, by
// its conditions. Counters only rise, so what was seen and can still be claimed
// has stood still since it was seen.
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
					leases[s].AliveAt, leases[s].Since, leases[s].Up = fromMillis(r.AliveAt), fromMillis(r.Since), r.Up
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
	l.Since = fromMillis(r.Since)
	return l, nil
}

// OwnersAlive is what is known of the owner of each shard; the index of the slice is
// the shard's number.
func (db *DB) OwnersAlive(ctx context.Context, m whatisup.Mode) ([]whatisup.Owner, error) {
	seen, err := db.lastSeen(ctx, m)
	if err != nil {
		return nil, err
	}
	alive := make([]whatisup.Owner, len(seen))
	for shard, s := range seen {
		alive[shard] = whatisup.Owner{Seen: s.Seen, Since: s.Lease.Since}
	}
	return alive, nil
}

// Silences are the shards that nobody has acted for since before, as far as their
// leases and their owners' beats tell. Shards that never had an owner are none.
func (db *DB) Silences(ctx context.Context, m whatisup.Mode, before time.Time) ([]whatisup.Silence, error) {
	seen, err := db.lastSeen(ctx, m)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(seen, func(s whatisup.Silence) bool { return s.Lease.Epoch == 0 || !s.Seen.Before(before) }), nil
}

// lastSeen is each shard's lease with its owner's last beat, and when the later of the
// two was written; the index of the slice is the shard's number.
func (db *DB) lastSeen(ctx context.Context, m whatisup.Mode) ([]whatisup.Silence, error) {
	leases, err := db.Leases(ctx, m)
	if err != nil {
		return nil, err
	}
	hosts, err := db.Hosts(ctx, m)
	if err != nil {
		return nil, err
	}
	beats := make(map[string]whatisup.Host, len(hosts))
	for _, h := range hosts {
		beats[h.ID] = h
	}
	seen := make([]whatisup.Silence, len(leases))
	for shard, l := range leases {
		seen[shard] = whatisup.Silence{Lease: l, Owner: beats[l.Owner], Seen: l.AliveAt}
		if beat := seen[shard].Owner.AliveAt; beat.After(l.AliveAt) {
			seen[shard].Seen = beat
		}
	}
	return seen, nil
}

// ClaimLease makes owner the owner of the shard as it was seen, with the next
// epoch, which it writes to the shard's epoch row in the same transaction: that
// row changes only here, so that a check on it meets nothing else. former is the
// seen owner as it was seen, without an incarnation if it was not on the list;
// it counts only if the shard is taken from somebody else. It answers ErrConflict
// if the lease is no longer as it was seen, or such an owner has beaten since.
// Whether the seen owner may be replaced is the caller's judgement.
func (db *DB) ClaimLease(ctx context.Context, m whatisup.Mode, seen whatisup.Lease, former whatisup.Host, owner string) (whatisup.Lease, error) {
	now := db.now()
	l := whatisup.Lease{Shard: seen.Shard, Owner: owner, Epoch: seen.Epoch + 1, Counter: seen.Counter + 1, AliveAt: now}
	written := leaseRow{Owner: owner, Epoch: uint64(l.Epoch), Counter: l.Counter, AliveAt: now.UnixMilli()}
	if seen.Owner != "" || now.Sub(seen.AliveAt) > whatisup.HandOver {
		l.Since, written.Since = now, now.UnixMilli()
	}
	row := marshal(written)
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
	items := []types.TransactWriteItem{lease, epoch}
	if seen.Owner != "" && seen.Owner != owner {
		items = append(items, db.stillBeats(m, seen.Owner, former))
	}
	err := db.transact(ctx, items)
	for i := range items {
		if _, failed := failedAt(err, i); failed {
			return whatisup.Lease{}, whatisup.ErrConflict
		}
	}
	return l, err
}

// stillBeats is the condition that a host has not beaten since it was seen: without an
// incarnation it was not on the list.
func (db *DB) stillBeats(m whatisup.Mode, host string, seen whatisup.Host) types.TransactWriteItem {
	if seen.Incarnation == "" {
		return check(db.tables.Fleet, fleetHostKey(m, host), "attribute_not_exists(incarnation)", nil, nil)
	}
	return check(db.tables.Fleet, fleetHostKey(m, host), "incarnation = :incarnation AND #counter = :counter",
		item{":incarnation": str(seen.Incarnation), ":counter": number(seen.Counter)}, map[string]string{"#counter": "counter"})
}

// MarkUp says that the shard's sessions have been started. It answers ErrFenced
// if the shard has another owner, or this one with another epoch.
func (db *DB) MarkUp(ctx context.Context, m whatisup.Mode, l whatisup.Lease) error {
	return db.changeLease(ctx, m, l, "SET alive_at = :now, up = :up ADD #counter :one", item{":up": boolean(true)})
}

// ReleaseLease leaves the shard without an owner. Errors as of MarkUp.
func (db *DB) ReleaseLease(ctx context.Context, m whatisup.Mode, l whatisup.Lease) error {
	return db.changeLease(ctx, m, l, "SET alive_at = :now, #owner = :nobody, up = :up ADD #counter :one", item{
		":nobody": str(""), ":up": boolean(false),
	})
}

func (db *DB) changeLease(ctx context.Context, m whatisup.Mode, l whatisup.Lease, expression string, values item) error {
	values[":owner"], values[":epoch"] = str(l.Owner), number(uint64(l.Epoch))
	values[":now"], values[":one"] = number(db.now().UnixMilli()), number(1)
	_, err := db.client.UpdateItem(ctx, &dynamodb.UpdateItemInput{
		TableName: aws.String(db.tables.Fleet), Key: leaseKey(m, l.Shard),
		UpdateExpression:          aws.String(expression),
		ConditionExpression:       aws.String("#owner = :owner AND epoch = :epoch"),
		ExpressionAttributeValues: values,
		ExpressionAttributeNames:  map[string]string{"#counter": "counter", "#owner": "owner"},
	})
	return fenced(translate(err))
}

// Join puts a host on the list, in place of whatever had its name.
func (db *DB) Join(ctx context.Context, m whatisup.Mode, h whatisup.Host) error {
	_, err := db.client.PutItem(ctx, &dynamodb.PutItemInput{
		TableName: aws.String(db.tables.Fleet), Item: db.beatOf(m, h),
	})
	return translate(err)
}

// Beat shows to the others that a host on the list is alive, which keeps its
// leases. It answers ErrFenced if the list has another incarnation of the host,
// or none. A beat that arrives after a later one changes nothing.
func (db *DB) Beat(ctx context.Context, m whatisup.Mode, h whatisup.Host) error {
	_, err := db.client.PutItem(ctx, &dynamodb.PutItemInput{
		TableName: aws.String(db.tables.Fleet), Item: db.beatOf(m, h),
		ConditionExpression:       aws.String("incarnation = :incarnation AND #counter < :counter"),
		ExpressionAttributeValues: item{":incarnation": str(h.Incarnation), ":counter": number(h.Counter)},
		ExpressionAttributeNames:  map[string]string{"#counter": "counter"},
	})
	return fenced(translate(err))
}

func (db *DB) beatOf(m whatisup.Mode, h whatisup.Host) item {
	now := db.now()
	return withKey(fleetHostKey(m, h.ID), marshal(fleetHostRow{
		Incarnation: h.Incarnation, Counter: h.Counter, Draining: h.Draining, Sessions: h.Sessions,
		AliveAt: now.UnixMilli(), TTL: now.Add(hostKept).Unix(),
	}))
}

// Leave takes a host off the list. It answers ErrFenced if the list has another
// incarnation of it, or none.
func (db *DB) Leave(ctx context.Context, m whatisup.Mode, h whatisup.Host) error {
	_, err := db.client.DeleteItem(ctx, &dynamodb.DeleteItemInput{
		TableName: aws.String(db.tables.Fleet), Key: fleetHostKey(m, h.ID),
		ConditionExpression:       aws.String("incarnation = :incarnation"),
		ExpressionAttributeValues: item{":incarnation": str(h.Incarnation)},
	})
	return fenced(translate(err))
}

// fenced is the error of a write whose only condition is that the writer still
// is who it was.
func fenced(err error) error {
	if _, failed := failedAt(err, 0); failed {
		return whatisup.ErrFenced
	}
	return err
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
				ID: stringOf(it[attrSK]), Incarnation: r.Incarnation, Counter: r.Counter,
				Draining: r.Draining, Sessions: r.Sessions, AliveAt: fromMillis(r.AliveAt),
			})
		}
	}
	return hosts, nil
}
