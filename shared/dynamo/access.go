package dynamo

import (
	"context"
	"errors"
	"iter"
	"math"
	"strconv"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/feature/dynamodb/attributevalue"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"whatisup/shared/whatisup"
)

// customerRow is a customer. Times are unix milliseconds, 0 for none.
type customerRow struct {
	ID           string  `dynamodbav:"customer_id"`
	Name         string  `dynamodbav:"name"`
	Suspended    bool    `dynamodbav:"suspended"`
	MaxInstances int     `dynamodbav:"max_instances"`
	Burst        int     `dynamodbav:"burst"`
	PerSecond    float64 `dynamodbav:"per_second"`
	CreatedAt    int64   `dynamodbav:"created_at"`

	SendBurst             int     `dynamodbav:"send_burst,omitempty"`
	SendPerSecond         float64 `dynamodbav:"send_per_second,omitempty"`
	InstanceSendBurst     int     `dynamodbav:"instance_send_burst,omitempty"`
	InstanceSendPerSecond float64 `dynamodbav:"instance_send_per_second,omitempty"`
}

func (r *customerRow) customer() whatisup.Customer {
	return whatisup.Customer{
		ID: whatisup.CustomerID(r.ID), Name: r.Name, Suspended: r.Suspended, MaxInstances: r.MaxInstances,
		Limits: whatisup.RateLimit{Burst: r.Burst, PerSecond: r.PerSecond},
		Sends: whatisup.SendLimits{
			Customer: whatisup.RateLimit{Burst: r.SendBurst, PerSecond: r.SendPerSecond},
			Instance: whatisup.RateLimit{Burst: r.InstanceSendBurst, PerSecond: r.InstanceSendPerSecond},
		},
		CreatedAt: fromMillis(r.CreatedAt),
	}
}

// keyRow is a key: whole under its own id, without hash under its customer.
type keyRow struct {
	ID         string `dynamodbav:"key_id"`
	Customer   string `dynamodbav:"customer_id"`
	Mode       string `dynamodbav:"mode"`
	Instance   string `dynamodbav:"instance_id"`
	Name       string `dynamodbav:"name"`
	Prefix     string `dynamodbav:"prefix"`
	Hash       []byte `dynamodbav:"hash,omitempty"`
	Pepper     int    `dynamodbav:"pepper"`
	LastUsedAt int64  `dynamodbav:"last_used_at"`
	ExpiresAt  int64  `dynamodbav:"expires_at"`
	CreatedAt  int64  `dynamodbav:"created_at"`
	RevokedAt  int64  `dynamodbav:"revoked_at"`
}

func (r *keyRow) key() whatisup.APIKey {
	return whatisup.APIKey{
		ID: whatisup.KeyID(r.ID), Customer: whatisup.CustomerID(r.Customer), Mode: whatisup.Mode(r.Mode),
		Instance: whatisup.InstanceID(r.Instance), Name: r.Name, Prefix: r.Prefix,
		Hash: r.Hash, Pepper: r.Pepper,
		LastUsedAt: fromMillis(r.LastUsedAt), ExpiresAt: fromMillis(r.ExpiresAt),
		CreatedAt: fromMillis(r.CreatedAt), RevokedAt: fromMillis(r.RevokedAt),
	}
}

func keyRowOf(k *whatisup.APIKey) keyRow {
	return keyRow{
		ID: string(k.ID), Customer: string(k.Customer), Mode: string(k.Mode), Instance: string(k.Instance),
		Name: k.Name, Prefix: k.Prefix, Hash: k.Hash, Pepper: k.Pepper,
		LastUsedAt: millis(k.LastUsedAt), ExpiresAt: millis(k.ExpiresAt),
		CreatedAt: millis(k.CreatedAt), RevokedAt: millis(k.RevokedAt),
	}
}

func customerKey(c whatisup.CustomerID) item { return key("customer#"+string(c), "customer") }

func apiKeyKey(id whatisup.KeyID) item { return key("key#"+string(id), "key") }

func listedKeyKey(c whatisup.CustomerID, m whatisup.Mode, id whatisup.KeyID) item {
	return key("customer#"+string(c), "key#"+string(m)+"#"+string(id))
}

// bucketKey is the bucket of a customer and mode, or of one key of theirs.
func bucketKey(c whatisup.CustomerID, m whatisup.Mode, k whatisup.KeyID) item {
	if k != "" {
		return key("bucket#"+partition(c, m), "key#"+string(k))
	}
	return key("bucket#"+partition(c, m), "bucket")
}

const customersPartition = "customers"

// CreateCustomer writes a customer and its first keys, all or nothing. It
// answers ErrConflict if the id is taken.
func (db *DB) CreateCustomer(ctx context.Context, c whatisup.Customer, keys ...whatisup.APIKey) error {
	row := marshal(customerRow{
		ID: string(c.ID), Name: c.Name, Suspended: c.Suspended, MaxInstances: c.MaxInstances,
		Burst: c.Limits.Burst, PerSecond: c.Limits.PerSecond, CreatedAt: millis(c.CreatedAt),
		SendBurst: c.Sends.Customer.Burst, SendPerSecond: c.Sends.Customer.PerSecond,
		InstanceSendBurst: c.Sends.Instance.Burst, InstanceSendPerSecond: c.Sends.Instance.PerSecond,
	})
	items := []types.TransactWriteItem{
		put(db.tables.Access, withKey(customerKey(c.ID), row), "attribute_not_exists(pk)", nil, nil),
		put(db.tables.Access, key(customersPartition, string(c.ID)), "", nil, nil),
	}
	for _, k := range keys {
		items = append(items, db.keyItems(k)...)
	}
	err := db.transact(ctx, items)
	if _, failed := failedAt(err, 0); failed {
		return whatisup.ErrConflict
	}
	return err
}

// Customer reads a customer, consistently, or ErrNotFound.
func (db *DB) Customer(ctx context.Context, c whatisup.CustomerID) (whatisup.Customer, error) {
	var r customerRow
	err := db.accessRow(ctx, customerKey(c), &r)
	return r.customer(), err
}

// Customers lists all customers, oldest first.
func (db *DB) Customers(ctx context.Context) iter.Seq2[whatisup.Customer, error] {
	return func(yield func(whatisup.Customer, error) bool) {
		for row, err := range db.query(ctx, &dynamodb.QueryInput{
			TableName:                 aws.String(db.tables.Access),
			KeyConditionExpression:    aws.String("pk = :pk"),
			ExpressionAttributeValues: item{":pk": str(customersPartition)},
		}) {
			var c whatisup.Customer
			if err == nil {
				c, err = db.Customer(ctx, whatisup.CustomerID(stringOf(row[attrSK])))
			}
			if !yield(c, err) || err != nil {
				return
			}
		}
	}
}

// SetSuspended suspends a customer or lets it back, or answers ErrNotFound.
func (db *DB) SetSuspended(ctx context.Context, c whatisup.CustomerID, suspended bool) error {
	if err := db.holdWebhooks(ctx, c, suspended); err != nil {
		return err
	}
	return db.updateCustomer(ctx, c, "SET suspended = :suspended", item{":suspended": boolean(suspended)})
}

// SetLimits stores what a customer may, zero values meaning the deployment's.
func (db *DB) SetLimits(ctx context.Context, c whatisup.CustomerID, maxInstances int, l whatisup.RateLimit, sends whatisup.SendLimits) error {
	rate := func(v float64) types.AttributeValue {
		return &types.AttributeValueMemberN{Value: strconv.FormatFloat(v, 'f', -1, 64)}
	}
	return db.updateCustomer(ctx, c, "SET max_instances = :max, burst = :burst, per_second = :rate, "+
		"send_burst = :send_burst, send_per_second = :send_rate, instance_send_burst = :instance_burst, instance_send_per_second = :instance_rate", item{
		":max": number(maxInstances), ":burst": number(l.Burst), ":rate": rate(l.PerSecond),
		":send_burst": number(sends.Customer.Burst), ":send_rate": rate(sends.Customer.PerSecond),
		":instance_burst": number(sends.Instance.Burst), ":instance_rate": rate(sends.Instance.PerSecond),
	})
}

func (db *DB) updateCustomer(ctx context.Context, c whatisup.CustomerID, expression string, values item) error {
	_, err := db.client.UpdateItem(ctx, &dynamodb.UpdateItemInput{
		TableName: aws.String(db.tables.Access), Key: customerKey(c),
		UpdateExpression: aws.String(expression), ConditionExpression: aws.String("attribute_exists(pk)"),
		ExpressionAttributeValues: values,
	})
	return goneIfFailed(translate(err))
}

// goneIfFailed is for a write whose only condition is that the row exists.
func goneIfFailed(err error) error {
	if _, failed := failedAt(err, 0); failed {
		return whatisup.ErrNotFound
	}
	return err
}

// keyItems are both rows of a new key.
func (db *DB) keyItems(k whatisup.APIKey) []types.TransactWriteItem {
	row := keyRowOf(&k)
	listed := row
	listed.Hash = nil
	return []types.TransactWriteItem{
		put(db.tables.Access, withKey(apiKeyKey(k.ID), marshal(row)), "attribute_not_exists(pk)", nil, nil),
		put(db.tables.Access, withKey(listedKeyKey(k.Customer, k.Mode, k.ID), marshal(listed)), "", nil, nil),
	}
}

// CreateKey writes a key, and the record of the request if there is one. A key
// that is bound to an instance is counted on the instance's row, so that none
// outlives it: DeleteInstance fails if one was made since the instance was read.
// It answers ErrSuspended, ErrNotFound if the instance is gone, and ErrClaimLost.
func (db *DB) CreateKey(ctx context.Context, k whatisup.APIKey, record *whatisup.Record) error {
	items := append(db.keyItems(k), db.notSuspended(k.Customer))
	bound, recorded := -1, -1
	if k.Instance != "" {
		bound = len(items)
		items = append(items, update(db.tables.Instances, configKey(k.Customer, k.Mode, k.Instance),
			"ADD bound_keys :one", "attribute_exists(pk)", item{":one": number(1)}, nil))
	}
	if record != nil {
		recorded = len(items)
		items = append(items, db.recordItem(record))
	}
	err := db.transact(ctx, items)
	for n, answer := range map[int]error{2: whatisup.ErrSuspended, bound: whatisup.ErrNotFound, recorded: whatisup.ErrClaimLost} {
		if _, failed := failedAt(err, n); failed && n >= 0 {
			return answer
		}
	}
	return err
}

// Key reads a key with its hash, consistently, or ErrNotFound. A revoked key is
// found, and says so.
func (db *DB) Key(ctx context.Context, id whatisup.KeyID) (whatisup.APIKey, error) {
	var r keyRow
	err := db.accessRow(ctx, apiKeyKey(id), &r)
	return r.key(), err
}

// Keys lists a customer's keys of one mode that are not revoked, newest first,
// without their hashes. Long after its end an expired key leaves the list.
func (db *DB) Keys(ctx context.Context, c whatisup.CustomerID, m whatisup.Mode) iter.Seq2[whatisup.APIKey, error] {
	return func(yield func(whatisup.APIKey, error) bool) {
		for row, err := range db.query(ctx, &dynamodb.QueryInput{
			TableName:              aws.String(db.tables.Access),
			KeyConditionExpression: aws.String("pk = :pk AND begins_with(sk, :sk)"),
			ExpressionAttributeValues: item{
				":pk": str("customer#" + string(c)), ":sk": str("key#" + string(m) + "#"),
			},
			ScanIndexForward: aws.Bool(false),
			ConsistentRead:   aws.Bool(true),
		}) {
			var r keyRow
			if err == nil {
				err = attributevalue.UnmarshalMap(row, &r)
			}
			if end := fromMillis(r.ExpiresAt); err == nil && !end.IsZero() && db.now().Sub(end) > whatisup.ExpiredKeysListed {
				continue
			}
			if !yield(r.key(), err) || err != nil {
				return
			}
		}
	}
}

// revokeItems end a key: it stays known under its id, so that its holder is told
// that it is revoked, and leaves its customer's list.
func (db *DB) revokeItems(k whatisup.APIKey, at time.Time) []types.TransactWriteItem {
	return []types.TransactWriteItem{
		update(db.tables.Access, apiKeyKey(k.ID), "SET revoked_at = :at", "attribute_exists(pk)",
			item{":at": number(millis(at))}, nil),
		remove(db.tables.Access, listedKeyKey(k.Customer, k.Mode, k.ID), "", nil, nil),
	}
}

// RevokeKey ends a key of the customer and mode. It answers ErrNotFound for
// another's, an unknown and a revoked one.
func (db *DB) RevokeKey(ctx context.Context, c whatisup.CustomerID, m whatisup.Mode, id whatisup.KeyID) error {
	items := db.revokeItems(whatisup.APIKey{ID: id, Customer: c, Mode: m}, db.now())
	// The listed row is what tells whose the key is.
	items[1] = remove(db.tables.Access, listedKeyKey(c, m, id), "attribute_exists(pk)", nil, nil)
	err := db.transact(ctx, items)
	if _, ok := errors.AsType[*conditionFailed](err); ok {
		return whatisup.ErrNotFound
	}
	return err
}

// TouchKey notes when a key was last used. A key that was revoked meanwhile is
// left alone.
func (db *DB) TouchKey(ctx context.Context, k whatisup.APIKey, at time.Time) error {
	_, err := db.client.UpdateItem(ctx, &dynamodb.UpdateItemInput{
		TableName: aws.String(db.tables.Access), Key: listedKeyKey(k.Customer, k.Mode, k.ID),
		UpdateExpression:          aws.String("SET last_used_at = :at"),
		ConditionExpression:       aws.String("attribute_exists(pk) AND last_used_at < :at"),
		ExpressionAttributeValues: item{":at": number(millis(at))},
	})
	if err := translate(err); !isConditionFailed(err) {
		return err
	}
	return nil
}

// RehashKey replaces a key's hash by one made with a newer pepper, unless that
// has happened already.
func (db *DB) RehashKey(ctx context.Context, k whatisup.APIKey, hash []byte, pepper int) error {
	_, err := db.client.UpdateItem(ctx, &dynamodb.UpdateItemInput{
		TableName: aws.String(db.tables.Access), Key: apiKeyKey(k.ID),
		UpdateExpression:         aws.String("SET #hash = :hash, pepper = :pepper"),
		ConditionExpression:      aws.String("attribute_exists(pk) AND pepper < :pepper"),
		ExpressionAttributeNames: map[string]string{"#hash": "hash"},
		ExpressionAttributeValues: item{
			":hash": &types.AttributeValueMemberB{Value: hash}, ":pepper": number(pepper),
		},
	})
	if err := translate(err); !isConditionFailed(err) {
		return err
	}
	return nil
}

func isConditionFailed(err error) bool {
	_, ok := errors.AsType[*conditionFailed](err)
	return ok
}

// Take takes one token from a customer's bucket, or from that of one key, and answers how it stands
// afterwards; ErrTooMany if it was empty.
//
// The row keeps one number: the moment at which the bucket is full again, in
// microseconds. Taking a token moves it by the time one token takes to grow.
// That is an addition, so any number of functions share the row without reading
// it first; only a bucket that was full has its moment in the past, and is set
// from now instead.
func (db *DB) Take(ctx context.Context, c whatisup.CustomerID, m whatisup.Mode, k whatisup.KeyID, l whatisup.RateLimit) (whatisup.Bucket, error) {
	return db.take(ctx, bucketKey(c, m, k), l, 1)
}

// TakeSend is Take of a bucket that sends draw on: the customer's, or with the id of an
// instance or of a key, that one's.
func (db *DB) TakeSend(ctx context.Context, c whatisup.CustomerID, m whatisup.Mode, of string, l whatisup.RateLimit) (whatisup.Bucket, error) {
	return db.take(ctx, sendsKey(c, m, of), l, 1)
}

// SendBucket says how such a bucket stands, and takes nothing from it.
func (db *DB) SendBucket(ctx context.Context, c whatisup.CustomerID, m whatisup.Mode, of string, l whatisup.RateLimit) (whatisup.Bucket, error) {
	return db.bucketAt(ctx, sendsKey(c, m, of), l)
}

func sendsKey(c whatisup.CustomerID, m whatisup.Mode, of string) item {
	k := bucketKey(c, m, "")
	k[attrSK] = str("sends#" + of)
	return k
}

// TakeChecks takes tokens, one a number, from one of the buckets of numbers that an
// instance may check; all of them or none. n is at most the bucket's burst.
func (db *DB) TakeChecks(ctx context.Context, r whatisup.Ref, n int, l whatisup.RateLimit) (whatisup.Bucket, error) {
	k := bucketKey(r.Customer, r.Mode, "")
	k[attrSK] = str("checks" + strconv.Itoa(l.Burst) + "#" + string(r.ID))
	return db.take(ctx, k, l, n)
}

func (db *DB) take(ctx context.Context, k item, l whatisup.RateLimit, n int) (whatisup.Bucket, error) {
	return db.takeFrom(ctx, db.tables.Access, k, l, n)
}

// takeFrom takes n tokens from a bucket in any table. Its row goes, where the table
// lets rows go, some time after the bucket was last set: it is full then.
func (db *DB) takeFrom(ctx context.Context, table string, k item, l whatisup.RateLimit, n int) (whatisup.Bucket, error) {
	one := micros(1 / l.PerSecond)
	token := one * int64(n)
	for range takeTries {
		now := db.now()
		at := now.UnixMicro()
		most := at + one*int64(l.Burst-n)
		// The usual case first: the bucket is neither full nor empty.
		out, err := db.client.UpdateItem(ctx, &dynamodb.UpdateItemInput{
			TableName: aws.String(table), Key: k,
			UpdateExpression:    aws.String("SET full_at = full_at + :token"),
			ConditionExpression: aws.String("full_at BETWEEN :now AND :most"),
			ExpressionAttributeValues: item{
				":token": number(token), ":now": number(at), ":most": number(most),
			},
			ReturnValues:                        types.ReturnValueUpdatedNew,
			ReturnValuesOnConditionCheckFailure: types.ReturnValuesOnConditionCheckFailureAllOld,
		})
		if err == nil {
			return bucket(intOf(out.Attributes["full_at"]), l, now), nil
		}
		old, failed := failedAt(translate(err), 0)
		if !failed {
			return whatisup.Bucket{}, translate(err)
		}
		if full := intOf(old["full_at"]); full > most {
			return bucket(full, l, now), whatisup.ErrTooMany
		}
		reset := &dynamodb.UpdateItemInput{
			TableName: aws.String(table), Key: k,
			UpdateExpression:          aws.String("SET full_at = :next"),
			ConditionExpression:       aws.String("attribute_not_exists(full_at) OR full_at < :now"),
			ExpressionAttributeValues: item{":next": number(at + token), ":now": number(at)},
		}
		if table == db.tables.Calls {
			reset.UpdateExpression = aws.String("SET full_at = :next, #ttl = :ttl")
			reset.ExpressionAttributeNames = map[string]string{"#ttl": attrTTL}
			reset.ExpressionAttributeValues[":ttl"] = number(now.Add(time.Hour).Unix())
		}
		_, err = db.client.UpdateItem(ctx, reset)
		if err == nil {
			return bucket(at+token, l, now), nil
		}
		if _, failed := failedAt(translate(err), 0); !failed {
			return whatisup.Bucket{}, translate(err)
		}
		// Another call set it from its own now: add to that.
	}
	if token < int64(10*time.Millisecond/time.Microsecond) {
		// It fills faster than calls can agree on how full it is: it is full.
		return bucket(db.now().UnixMicro()+token, l, db.now()), nil
	}
	return whatisup.Bucket{}, whatisup.ErrUnavailable
}

// takeTries is how often a call that takes from a full bucket, at the moment at
// which others do, begins anew.
const takeTries = 8

// Bucket says how a customer's bucket stands, and takes nothing from it.
func (db *DB) Bucket(ctx context.Context, c whatisup.CustomerID, m whatisup.Mode, k whatisup.KeyID, l whatisup.RateLimit) (whatisup.Bucket, error) {
	return db.bucketAt(ctx, bucketKey(c, m, k), l)
}

func (db *DB) bucketAt(ctx context.Context, k item, l whatisup.RateLimit) (whatisup.Bucket, error) {
	out, err := db.client.GetItem(ctx, &dynamodb.GetItemInput{
		TableName: aws.String(db.tables.Access), Key: k, ConsistentRead: aws.Bool(true),
	})
	if err != nil {
		return whatisup.Bucket{}, translate(err)
	}
	return bucket(intOf(out.Item["full_at"]), l, db.now()), nil
}

func bucket(fullAt int64, l whatisup.RateLimit, now time.Time) whatisup.Bucket {
	token := micros(1 / l.PerSecond)
	missing := max(fullAt-now.UnixMicro(), 0)
	b := whatisup.Bucket{
		Limit:     l.Burst,
		Remaining: max(l.Burst-int((missing+token-1)/token), 0),
		FullAt:    now.Add(time.Duration(missing) * time.Microsecond).UTC(),
	}
	if wait := missing - token*int64(l.Burst-1); wait > 0 {
		b.NextIn = time.Duration(wait) * time.Microsecond
	}
	return b
}

func micros(seconds float64) int64 { return max(int64(math.Round(seconds*1e6)), 1) }

func intOf(v types.AttributeValue) int64 {
	n, ok := v.(*types.AttributeValueMemberN)
	if !ok {
		return 0
	}
	i, err := strconv.ParseInt(n.Value, 10, 64)
	if err != nil {
		return 0
	}
	return i
}

// accessRow reads one row of the access table into out, consistently, or
// ErrNotFound.
func (db *DB) accessRow(ctx context.Context, k item, out any) error {
	got, err := db.client.GetItem(ctx, &dynamodb.GetItemInput{
		TableName: aws.String(db.tables.Access), Key: k, ConsistentRead: aws.Bool(true),
	})
	if err != nil {
		return translate(err)
	}
	if got.Item == nil {
		return whatisup.ErrNotFound
	}
	return attributevalue.UnmarshalMap(got.Item, out)
}

// query reads all pages of a query as the loop goes on. An error ends it.
func (db *DB) query(ctx context.Context, in *dynamodb.QueryInput) iter.Seq2[item, error] {
	return func(yield func(item, error) bool) {
		for {
			out, err := db.client.Query(ctx, in)
			if err != nil {
				yield(nil, translate(err))
				return
			}
			for _, row := range out.Items {
				if !yield(row, nil) {
					return
				}
			}
			if out.LastEvaluatedKey == nil {
				return
			}
			in.ExclusiveStartKey = out.LastEvaluatedKey
		}
	}
}
