package dynamo

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/google/uuid"

	"whatisup/shared/whatisup"
)

// Customers can be moved to another deployment with all their rows. What follows is what
// a move has to know of the tables.

// attrMovedShard has the value of attrShardKey of an instance that was moved away. So its
// rows are in no shard: no host finds or adopts it, of whatever version.
const attrMovedShard = "moved_shard_key"

// Moves says whether a row goes along with its customer: not what belongs to the
// deployment or to one moment, as leases, codes, buckets and slots. Rows of device state
// are not asked for here; they are package devicestore's.
func (t Tables) Moves(table string, row map[string]types.AttributeValue, modes []whatisup.Mode) bool {
	pk, sk := stringOf(row[attrPK]), stringOf(row[attrSK])
	begins := func(s string, with ...string) bool {
		return slices.ContainsFunc(with, func(w string) bool { return strings.HasPrefix(s, w) })
	}
	first, rest, _ := strings.Cut(pk, "#")
	second, _, _ := strings.Cut(rest, "#")
	has := func(m string) bool { return slices.Contains(modes, whatisup.Mode(m)) }
	switch table {
	case t.Access:
		if m, ok := strings.CutPrefix(sk, "count#"); ok {
			return begins(pk, "customer#") && has(m)
		}
		return pk == customersPartition || begins(pk, "key#") || begins(pk, "customer#") && (sk == "customer" || begins(sk, "key#"))
	case t.Instances, t.Events:
		return has(second)
	case t.Messages, t.Media:
		return has(first)
	case t.Webhooks:
		return has(first) || has(second) || begins(pk, "owed#", "queued#")
	case t.Calls:
		return begins(pk, "idem#", "change#")
	case t.Fleet:
		return second == "stop" && has(first) && sk != whatisup.StopAll
	}
	return false
}

// Landed is a row as it is to stand in the deployment that it is moved to: of no owner
// yet, and in its shard. Queues are named as they are called there; a debt to a queue
// that queue names empty is dropped.
func Landed(row map[string]types.AttributeValue, queue func(string) string) map[string]types.AttributeValue {
	if shard, ok := row[attrMovedShard]; ok {
		row[attrShardKey] = shard
		delete(row, attrMovedShard)
	}
	if row[attrEpoch] != nil {
		row[attrEpoch] = number(0)
	}
	if owed, ok := row["host_owed"].(*types.AttributeValueMemberM); ok {
		there := item{}
		for name, position := range owed.Value {
			if name = queue(name); name != "" {
				there[name] = position
			}
		}
		row["host_owed"] = &types.AttributeValueMemberM{Value: there}
		if len(there) == 0 {
			delete(row, "host_owed")
			delete(row, "host_owed_at")
		}
	}
	return row
}

// KeyPepper is the version of the pepper that a row's API key is hashed under, 0 if the
// row is of no key, and whether the key can be used. SetKeyPepper names another version.
func KeyPepper(row map[string]types.AttributeValue) (version int, usable bool) {
	if stringOf(row["key_id"]) == "" {
		return 0, false
	}
	return int(intOf(row["pepper"])), intOf(row["revoked_at"]) == 0
}

// SetKeyPepper is the other half of [KeyPepper].
func SetKeyPepper(row map[string]types.AttributeValue, version int) { row["pepper"] = number(version) }

// IsKey says whether a row of the table access lets somebody in. Such rows come last.
func IsKey(row map[string]types.AttributeValue) bool {
	return strings.HasPrefix(stringOf(row[attrPK]), "key#")
}

// CustomerOfRow is the customer that a row of the table access makes, empty for another.
func CustomerOfRow(row map[string]types.AttributeValue) whatisup.CustomerID {
	if stringOf(row[attrSK]) != "customer" {
		return ""
	}
	return whatisup.CustomerID(stringOf(row["customer_id"]))
}

// RefOfRow is the instance that a row of the table instances belongs to, and whether the
// row is the instance's first: the config row, or the tombstone.
func RefOfRow(row map[string]types.AttributeValue) (r whatisup.Ref, first bool) {
	customer, mode, _ := strings.Cut(strings.TrimSuffix(stringOf(row[attrPK]), suffixDeleted), "#")
	id, part, _ := strings.Cut(stringOf(row[attrSK]), "#")
	return whatisup.Ref{Customer: whatisup.CustomerID(customer), Mode: whatisup.Mode(mode), ID: whatisup.InstanceID(id)}, part == ""
}

// EndpointOfRow is the endpoint that a row of the table webhooks is, with its wrapped data
// key; ok is false for another row. SetDataKey names another form of the key.
func EndpointOfRow(row map[string]types.AttributeValue) (c whatisup.CustomerID, id whatisup.EndpointID, wrapped []byte, ok bool) {
	if !strings.HasPrefix(stringOf(row[attrSK]), endpointPrefix) {
		return "", "", nil, false
	}
	wrapped = bytesOf(row["data_key"])
	return whatisup.CustomerID(stringOf(row["customer_id"])), whatisup.EndpointID(stringOf(row["endpoint_id"])), wrapped, len(wrapped) > 0
}

// SetDataKey is the other half of [EndpointOfRow].
func SetDataKey(row map[string]types.AttributeValue, wrapped []byte) {
	row["data_key"] = binary(wrapped)
}

// Expires is when a row's time is over, zero for never.
func Expires(row map[string]types.AttributeValue) time.Time {
	if n, ok := row[attrTTL].(*types.AttributeValueMemberN); ok {
		if at, err := strconv.ParseInt(n.Value, 10, 64); err == nil {
			return time.Unix(at, 0)
		}
	}
	return time.Time{}
}

// Move is what a deployment knows of a move of its customers to or from another.
type Move struct {
	Other string // the deployment's id
	Name  string // how people call it
	Modes []whatisup.Mode
	Begun time.Time
	Done  bool
}

var (
	moveAway = key("moved", "to")
	moveHere = key("moved", "from")
)

// DeploymentID tells deployments apart. It is made when it is asked for first.
func (db *DB) DeploymentID(ctx context.Context) (string, error) {
	out, err := db.client.UpdateItem(ctx, &dynamodb.UpdateItemInput{
		TableName: aws.String(db.tables.Access), Key: key("moved", "self"),
		UpdateExpression:          aws.String("SET deployment = if_not_exists(deployment, :fresh)"),
		ExpressionAttributeValues: item{":fresh": str(uuid.NewString())},
		ReturnValues:              types.ReturnValueAllNew,
	})
	if err != nil {
		return "", translate(err)
	}
	return stringOf(out.Attributes["deployment"]), nil
}

// MovedAway is the move that took customers away from here, and MovedHere the one that
// brought them; nil: there was none.
func (db *DB) MovedAway(ctx context.Context) (*Move, error) { return db.move(ctx, moveAway) }

// MovedHere is the other end of [DB.MovedAway].
func (db *DB) MovedHere(ctx context.Context) (*Move, error) { return db.move(ctx, moveHere) }

// SetMovedAway and SetMovedHere store the two ends of a move.
func (db *DB) SetMovedAway(ctx context.Context, m Move) error { return db.setMove(ctx, moveAway, m) }

// SetMovedHere is the other end of [DB.SetMovedAway].
func (db *DB) SetMovedHere(ctx context.Context, m Move) error { return db.setMove(ctx, moveHere, m) }

func (db *DB) move(ctx context.Context, k item) (*Move, error) {
	out, err := db.client.GetItem(ctx, &dynamodb.GetItemInput{TableName: aws.String(db.tables.Access), Key: k, ConsistentRead: aws.Bool(true)})
	if err != nil || len(out.Item) == 0 {
		return nil, translate(err)
	}
	m := &Move{
		Other: stringOf(out.Item["other"]), Name: stringOf(out.Item["name"]),
		Begun: fromMillis(intOf(out.Item["begun_at"])), Done: boolOf(out.Item["done"]),
	}
	for mode := range strings.SplitSeq(stringOf(out.Item["modes"]), ",") {
		m.Modes = append(m.Modes, whatisup.Mode(mode))
	}
	return m, nil
}

func (db *DB) setMove(ctx context.Context, k item, m Move) error {
	var modes []string
	for _, mode := range m.Modes {
		modes = append(modes, string(mode))
	}
	_, err := db.client.PutItem(ctx, &dynamodb.PutItemInput{TableName: aws.String(db.tables.Access), Item: withKey(k, item{
		"other": str(m.Other), "name": str(m.Name), "modes": str(strings.Join(modes, ",")),
		"begun_at": number(millis(m.Begun)), "done": boolean(m.Done),
	})})
	return translate(err)
}

// CheckMoved refuses to serve a mode whose customers were moved away, and a deployment
// that a move into is not finished: [whatisup.ErrConflict].
func (db *DB) CheckMoved(ctx context.Context, serves func(whatisup.Mode) bool) error {
	away, err := db.MovedAway(ctx)
	if err != nil {
		return err
	}
	if away != nil && slices.ContainsFunc(away.Modes, serves) {
		return fmt.Errorf("the customers of this deployment were moved to %s on %s, and a link must not have two owners: %w",
			away.Name, away.Begun.UTC().Format(time.DateTime), whatisup.ErrConflict)
	}
	here, err := db.MovedHere(ctx)
	if err == nil && here != nil && !here.Done {
		err = fmt.Errorf("a move from %s to here is not finished: run it again: %w", here.Name, whatisup.ErrConflict)
	}
	return err
}

// TakeOutOfShard takes a row of the table instances out of its shard, and notes which it
// was. A row that is in none is left alone.
func (db *DB) TakeOutOfShard(ctx context.Context, row map[string]types.AttributeValue) error {
	err := db.updateOne(ctx, update(db.tables.Instances, item{attrPK: row[attrPK], attrSK: row[attrSK]},
		"SET "+attrMovedShard+" = "+attrShardKey+" REMOVE "+attrShardKey, "attribute_exists("+attrShardKey+")", nil, nil).Update)
	if isConditionFailed(err) {
		return nil
	}
	return err
}

// Land writes the rows of one instance, all or none, unless they are there already.
func (db *DB) Land(ctx context.Context, rows []map[string]types.AttributeValue) error {
	var items []types.TransactWriteItem
	for _, row := range rows {
		items = append(items, put(db.tables.Instances, row, "attribute_not_exists(pk)", nil, nil))
	}
	err := db.transact(ctx, items)
	if _, ok := errors.AsType[*conditionFailed](err); ok {
		return nil
	}
	return err
}
