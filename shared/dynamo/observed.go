package dynamo

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/feature/dynamodb/attributevalue"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"whatisup/shared/whatisup"
)

// ShardInstances lists the instances of a shard from the index, deleted ones
// that are not wiped yet included.
func (db *DB) ShardInstances(ctx context.Context, m whatisup.Mode, s whatisup.Shard) ([]whatisup.Hint, error) {
	p := dynamodb.NewQueryPaginator(db.client, &dynamodb.QueryInput{
		TableName:                 aws.String(db.tables.Instances),
		IndexName:                 aws.String(IndexByShard),
		KeyConditionExpression:    aws.String("shard_key = :shard"),
		ExpressionAttributeValues: item{":shard": str(shardKey(m, s))},
	})
	var hints []whatisup.Hint
	at := map[whatisup.Ref]int{}
	for p.HasMorePages() {
		out, err := p.NextPage(ctx)
		if err != nil {
			return nil, translate(err)
		}
		for _, row := range out.Items {
			var r struct {
				PK           string `dynamodbav:"pk"`
				SK           string `dynamodbav:"sk"`
				DeletedAt    int64  `dynamodbav:"deleted_at"`
				HostUnsentAt int64  `dynamodbav:"host_unsent_at"`
				HostOwedAt   int64  `dynamodbav:"host_owed_at"`
				UnsentAt     int64  `dynamodbav:"unsent_at"`

				Wanted             bool   `dynamodbav:"wanted"`
				Generation         uint64 `dynamodbav:"generation"`
				UnlinkThrough      uint64 `dynamodbav:"unlink_through"`
				Link               uint64 `dynamodbav:"link"`
				Epoch              uint64 `dynamodbav:"epoch"`
				ObservedGeneration uint64 `dynamodbav:"observed_generation"`
				DoneGeneration     uint64 `dynamodbav:"done_generation"`
			}
			if err := attributevalue.UnmarshalMap(row, &r); err != nil {
				return nil, err
			}
			customer, mode, _ := strings.Cut(strings.TrimSuffix(r.PK, suffixDeleted), "#")
			id, host := strings.CutSuffix(r.SK, suffixHost)
			ref := whatisup.Ref{Customer: whatisup.CustomerID(customer), Mode: whatisup.Mode(mode), ID: whatisup.InstanceID(id)}
			n, seen := at[ref]
			if !seen {
				n = len(hints)
				at[ref] = n
				hints = append(hints, whatisup.Hint{Ref: ref})
			}
			h := &hints[n]
			if u := fromMillis(max(r.UnsentAt, r.HostUnsentAt)); u.After(h.UnsentAt) {
				h.UnsentAt = u
			}
			if u := fromMillis(r.HostOwedAt); !u.IsZero() {
				h.OwedAt = u
			}
			deleted := r.DeletedAt != 0
			if deleted {
				h.Deleted = true
			}
			if host || deleted {
				h.Link, h.Epoch = whatisup.Link(r.Link), whatisup.Epoch(r.Epoch)
				h.ObservedGeneration, h.DoneGeneration = whatisup.Generation(r.ObservedGeneration), whatisup.Generation(r.DoneGeneration)
			}
			if !host {
				h.Online, h.Generation, h.UnlinkThrough = r.Wanted, whatisup.Generation(r.Generation), whatisup.Link(r.UnlinkThrough)
			}
		}
	}
	return hints, nil
}

// Adopt makes epoch count for an instance, and reads it: from here on no write
// of an earlier owner succeeds on its observed row, its device row, or any row
// whose write checks the device row. It answers ErrFenced if the shard has
// another owner by now, and ErrNotFound if the instance doesn't exist, or was
// deleted and is already unlinked and wiped. Adopting again is harmless.
func (db *DB) Adopt(ctx context.Context, r whatisup.Ref, epoch whatisup.Epoch) (*whatisup.Instance, error) {
	shard := db.ShardOf(r.ID)
	// A live instance first; if there is none, its tombstone.
	for _, k := range []item{hostKey(r.Customer, r.Mode, r.ID), tombstoneKey(r.Customer, r.Mode, r.ID)} {
		err := db.transact(ctx, []types.TransactWriteItem{
			check(db.tables.Fleet, epochKey(r.Mode, shard), "epoch = :mine", item{":mine": number(epoch)}, nil),
			update(db.tables.Instances, k, "SET epoch = :mine, rev = rev + :one",
				"attribute_exists(pk) AND attribute_exists(shard_key) AND epoch <= :mine",
				item{":mine": number(epoch), ":one": number(1)}, nil),
			update(db.tables.Devices, DeviceKey(r.ID), "SET epoch = :mine, customer_id = :customer, #mode = :mode",
				"attribute_not_exists(epoch) OR epoch <= :mine",
				item{":mine": number(epoch), ":customer": str(string(r.Customer)), ":mode": str(string(r.Mode))},
				map[string]string{"#mode": "mode"}),
		})
		if err == nil {
			return db.Owned(ctx, r)
		}
		if _, ok := failedAt(err, 0); ok {
			return nil, fmt.Errorf("adopt: the shard has another owner: %w", whatisup.ErrFenced)
		}
		if _, ok := failedAt(err, 2); ok {
			return nil, fmt.Errorf("adopt: the device has another owner: %w", whatisup.ErrFenced)
		}
		old, ok := failedAt(err, 1)
		if !ok {
			return nil, err
		}
		if len(old) > 0 && old[attrShardKey] != nil {
			return nil, fmt.Errorf("adopt: the instance has another owner: %w", whatisup.ErrFenced)
		}
	}
	return nil, whatisup.ErrNotFound
}

// Owned reads an instance for its host, consistently: the live one, or its
// tombstone, or ErrNotFound.
func (db *DB) Owned(ctx context.Context, r whatisup.Ref) (*whatisup.Instance, error) {
	i, err := db.Instance(ctx, r.Customer, r.Mode, r.ID)
	if errors.Is(err, whatisup.ErrNotFound) {
		return db.Deleted(ctx, r.Customer, r.Mode, r.ID)
	}
	return i, err
}

// Observe stores o as what the host found of the instance, and appends events
// to the log, in one transaction under the epoch of i.Observed. On success
// i.Observed is what was stored: the time of the change is set if status or
// number changed, and the events are marked in Unsent until
// [DB.HostSent].
//
// It answers ErrFenced if another host has adopted the instance, and
// ErrNotFound if the row is not there: the instance was deleted meanwhile (then
// adopting finds the tombstone).
func (db *DB) Observe(ctx context.Context, i *whatisup.Instance, o whatisup.Observed, events ...whatisup.Event) error {
	now := db.now()
	o.Epoch = i.Observed.Epoch
	o.UpdatedAt = i.Observed.UpdatedAt
	if o.Status != i.Observed.Status {
		o.Since = now
	}
	if o.Status != i.Observed.Status || o.PhoneNumber != i.Observed.PhoneNumber {
		o.UpdatedAt = now
	}
	o.Unsent = i.Observed.Unsent
	if db.queues {
		o.Unsent = o.Unsent.With(now, events...)
	}
	write := db.observeItem(i, &o)
	items := []types.TransactWriteItem{write}
	for _, e := range events {
		it, err := db.eventItem(e)
		if err != nil {
			return err
		}
		items = append(items, it)
	}
	var err error
	if len(items) == 1 { // alone it needs no transaction, which would cost twice
		err = db.updateOne(ctx, write.Update)
	} else {
		err = db.transact(ctx, items)
	}
	if err := fencedOrGone(err); err != nil {
		return err
	}
	i.Observed = o
	i.Rev++
	return nil
}

// HostSent removes the mark of the host's unsent events, now that each queue has
// them, or owes them by [DB.Owe]. Errors as of Observe.
func (db *DB) HostSent(ctx context.Context, i *whatisup.Instance) error {
	o := i.Observed
	o.Unsent = whatisup.Unsent{}
	write := db.observeItem(i, &o)
	if err := fencedOrGone(db.updateOne(ctx, write.Update)); err != nil {
		return err
	}
	i.Observed = o
	i.Rev++
	return nil
}

// observeItem writes all that a host observes in one update, so that what is
// stored is always one moment's whole.
func (db *DB) observeItem(i *whatisup.Instance, o *whatisup.Observed) types.TransactWriteItem {
	expression, names, values := setAll(marshal(hostRowOf(o)))
	values[":mine"], values[":one"] = number(i.Observed.Epoch), number(1)
	return update(db.tables.Instances, db.observedKey(i), expression+", rev = rev + :one",
		"attribute_exists(pk) AND epoch = :mine", values, names)
}

// Owe stores which queues lack events of the instance, and from which position of
// the log on; none is no debt. It is written to the live instance, or to its
// tombstone. Errors as of Observe.
func (db *DB) Owe(ctx context.Context, r whatisup.Ref, epoch whatisup.Epoch, owed map[string]whatisup.Position) error {
	expression := "REMOVE host_owed, host_owed_at SET rev = rev + :one"
	values := item{":mine": number(epoch), ":one": number(1)}
	if len(owed) > 0 {
		row := marshal(owedRow(owed, db.now()))
		expression = "SET rev = rev + :one, host_owed = :owed, host_owed_at = :at"
		values[":owed"], values[":at"] = row["host_owed"], row["host_owed_at"]
	}
	var err error
	for _, k := range []item{hostKey(r.Customer, r.Mode, r.ID), tombstoneKey(r.Customer, r.Mode, r.ID)} {
		err = fencedOrGone(db.updateOne(ctx, update(db.tables.Instances, k, expression,
			"attribute_exists(pk) AND epoch = :mine", values, nil).Update))
		if !errors.Is(err, whatisup.ErrNotFound) {
			return err
		}
	}
	return err
}

func (db *DB) observedKey(i *whatisup.Instance) item {
	c := &i.Config
	if i.DeletedAt.IsZero() {
		return hostKey(c.Customer, c.Mode, c.ID)
	}
	return tombstoneKey(c.Customer, c.Mode, c.ID)
}

// fencedOrGone tells what a failed condition of the first item means to a host.
func fencedOrGone(err error) error {
	old, failed := failedAt(err, 0)
	switch {
	case !failed:
		return err
	case len(old) == 0:
		return whatisup.ErrNotFound
	default:
		return whatisup.ErrFenced
	}
}

// TellDeleted writes the last event of a deleted instance to the log, once. Errors as
// of Observe.
func (db *DB) TellDeleted(ctx context.Context, i *whatisup.Instance) error {
	event, err := db.eventItem(*i.Farewell)
	if err != nil {
		return err
	}
	err = db.transact(ctx, []types.TransactWriteItem{
		update(db.tables.Instances, db.observedKey(i), "SET rev = rev + :one REMOVE farewell",
			"attribute_exists(farewell) AND epoch = :mine", item{":one": number(1), ":mine": number(i.Observed.Epoch)}, nil),
		event,
	})
	if old, failed := failedAt(err, 0); failed && len(old) > 0 && old["farewell"] == nil {
		return nil // told by a try whose answer was lost
	}
	return fencedOrGone(err)
}

// FinishDeleted takes a tombstone out of its shard, now that the link is given
// up and wiped and every event is sent. The device row must be gone; the
// transaction checks that, so a pairing that completes this late can't leave
// auth state behind. Errors as of Observe, and ErrConflict while the device row
// is still there.
func (db *DB) FinishDeleted(ctx context.Context, i *whatisup.Instance) error {
	err := db.transact(ctx, []types.TransactWriteItem{
		update(db.tables.Instances, db.observedKey(i),
			"SET phone_number = :none, link = :zero, confirmed = :no, rev = rev + :one REMOVE shard_key, unsent_from, unsent_last, unsent_at, host_unsent_from, host_unsent_last, host_unsent_at, host_owed, host_owed_at",
			"attribute_exists(pk) AND attribute_exists(deleted_at) AND epoch = :mine",
			item{":none": str(""), ":zero": number(0), ":no": boolean(false), ":one": number(1), ":mine": number(i.Observed.Epoch)}, nil),
		check(db.tables.Devices, DeviceKey(i.Config.ID), "attribute_not_exists(pk)", nil, nil),
		remove(db.tables.Calls, pairingKey(i.Config.ID), "", nil, nil),
	})
	if _, ok := failedAt(err, 1); ok {
		return whatisup.ErrConflict
	}
	return fencedOrGone(err)
}
