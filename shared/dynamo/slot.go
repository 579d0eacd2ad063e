package dynamo

import (
	"context"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"whatisup/shared/whatisup"
)

// All slots of one kind stand in one row: a map from the id of whoever has a
// slot to the time until when. One conditional update takes a slot, so no two
// callers take the last one.
//
// A write is billed by the size of the row: one unit for up to 20 taken slots,
// ten when all 200 attempts of a customer are open.

func slotsKey(s whatisup.Slots) item {
	sk := s.Kind + "#" + string(s.Mode)
	if s.Key != "" {
		sk += "#" + string(s.Key)
	}
	return key("customer#"+string(s.Customer), sk)
}

const (
	attrTaken = "taken"
	// slotTries bounds how often a call tries again on a row that others change.
	slotTries = 8
	// slotsSwept is how many lapsed slots a row may have before the next call
	// removes them.
	slotsSwept = 10
)

// TakeSlot takes a slot for id until the given time, or renews the one that id
// has; ErrTooMany if none is free. A slot whose time has passed is free. The
// slot of a predecessor, if it is still there, is given up in the same write.
func (db *DB) TakeSlot(ctx context.Context, s whatisup.Slots, id string, until time.Time, predecessor string) error {
	drop := map[string]types.AttributeValue{}
	if predecessor != "" && predecessor != id {
		drop[predecessor] = nil
	}
	for range slotTries {
		u := db.takeSlot(s, id, until, drop)
		out, err := db.client.UpdateItem(ctx, u)
		if err == nil {
			if over := lapsed(out.Attributes, db.now()); len(over) >= slotsSwept {
				return db.dropSlots(ctx, s, over)
			}
			return nil
		}
		old, failed := failedAt(translate(err), 0)
		if !failed {
			return translate(err)
		}

		taken, there := old[attrTaken].(*types.AttributeValueMemberM)
		if !there {
			if err := db.firstSlot(ctx, s); err != nil {
				return err
			}
			clear(drop)
			continue
		}

		// Take the slot of the predecessor or of whoever's time has passed.
		before := len(drop)
		drop = lapsed(old, db.now())
		delete(drop, id)
		if v := taken.Value[predecessor]; v != nil && predecessor != id {
			drop[predecessor] = v
		}
		if len(drop) == 0 && before == 0 && len(taken.Value) >= s.Limit {
			return whatisup.ErrTooMany
		}
	}
	return whatisup.ErrTooMany
}

// takeSlot is the update that takes a slot and gives up those in drop, each
// only if it is there, with the value that was read if it was.
func (db *DB) takeSlot(s whatisup.Slots, id string, until time.Time, drop map[string]types.AttributeValue) *dynamodb.UpdateItemInput {
	names := map[string]string{"#id": id}
	values := item{":until": number(millis(until)), ":room": number(s.Limit + len(drop))}
	expression := "SET taken.#id = :until"
	condition := "attribute_exists(taken) AND (size(taken) < :room OR attribute_exists(taken.#id))"
	remove, unchanged := dropped(drop, names, values)
	if remove != "" {
		expression += " REMOVE " + remove
		condition += " AND " + unchanged
	}
	return &dynamodb.UpdateItemInput{
		TableName: aws.String(db.tables.Access), Key: slotsKey(s),
		UpdateExpression: aws.String(expression), ConditionExpression: aws.String(condition),
		ExpressionAttributeNames: names, ExpressionAttributeValues: values,
		ReturnValues:                        types.ReturnValueAllNew,
		ReturnValuesOnConditionCheckFailure: types.ReturnValuesOnConditionCheckFailureAllOld,
	}
}

// dropped writes the paths to remove and the condition that nobody renewed them.
func dropped(drop map[string]types.AttributeValue, names map[string]string, values item) (remove, unchanged string) {
	var paths, conditions []string
	for n, id := range slices.Sorted(maps.Keys(drop)) {
		i := strconv.Itoa(n)
		names["#d"+i] = id
		paths = append(paths, "taken.#d"+i)
		if drop[id] == nil {
			conditions = append(conditions, "attribute_exists(taken.#d"+i+")")
			continue
		}
		values[":d"+i] = drop[id]
		conditions = append(conditions, "taken.#d"+i+" = :d"+i)
	}
	return strings.Join(paths, ", "), strings.Join(conditions, " AND ")
}

// firstSlot makes the row.
func (db *DB) firstSlot(ctx context.Context, s whatisup.Slots) error {
	_, err := db.client.UpdateItem(ctx, &dynamodb.UpdateItemInput{
		TableName: aws.String(db.tables.Access), Key: slotsKey(s),
		UpdateExpression:          aws.String("SET taken = if_not_exists(taken, :none)"),
		ExpressionAttributeValues: item{":none": &types.AttributeValueMemberM{Value: item{}}},
	})
	return translate(err)
}

// KeepSlot renews a slot that id has taken; ErrNotFound if it is gone, because a
// successor has it or its time had passed.
func (db *DB) KeepSlot(ctx context.Context, s whatisup.Slots, id string, until time.Time) error {
	_, err := db.client.UpdateItem(ctx, &dynamodb.UpdateItemInput{
		TableName: aws.String(db.tables.Access), Key: slotsKey(s),
		UpdateExpression:          aws.String("SET taken.#id = :until"),
		ConditionExpression:       aws.String("attribute_exists(taken.#id)"),
		ExpressionAttributeNames:  map[string]string{"#id": id},
		ExpressionAttributeValues: item{":until": number(millis(until))},
	})
	return goneIfFailed(translate(err))
}

// TakenSlots lists the ids that have a slot whose time has not passed.
func (db *DB) TakenSlots(ctx context.Context, s whatisup.Slots) ([]string, error) {
	out, err := db.client.GetItem(ctx, &dynamodb.GetItemInput{
		TableName: aws.String(db.tables.Access), Key: slotsKey(s), ConsistentRead: aws.Bool(true),
	})
	if err != nil {
		return nil, translate(err)
	}
	taken, _ := out.Item[attrTaken].(*types.AttributeValueMemberM)
	if taken == nil {
		return nil, nil
	}
	over := lapsed(out.Item, db.now())
	var ids []string
	for id := range taken.Value {
		if over[id] == nil {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids, nil
}

// FreeSlots gives slots back before their time. An id that has none is ignored.
func (db *DB) FreeSlots(ctx context.Context, s whatisup.Slots, ids ...string) error {
	if len(ids) == 0 {
		return nil
	}
	names := map[string]string{}
	var paths []string
	for n, id := range ids {
		i := strconv.Itoa(n)
		names["#d"+i] = id
		paths = append(paths, "taken.#d"+i)
	}
	_, err := db.client.UpdateItem(ctx, &dynamodb.UpdateItemInput{
		TableName: aws.String(db.tables.Access), Key: slotsKey(s),
		UpdateExpression:         aws.String("REMOVE " + strings.Join(paths, ", ")),
		ConditionExpression:      aws.String("attribute_exists(taken)"),
		ExpressionAttributeNames: names,
	})
	if err := translate(err); !isConditionFailed(err) {
		return err
	}
	return nil
}

// dropSlots removes lapsed slots, all or, if one was renewed meanwhile, none.
func (db *DB) dropSlots(ctx context.Context, s whatisup.Slots, drop map[string]types.AttributeValue) error {
	names, values := map[string]string{}, item{}
	remove, unchanged := dropped(drop, names, values)
	_, err := db.client.UpdateItem(ctx, &dynamodb.UpdateItemInput{
		TableName: aws.String(db.tables.Access), Key: slotsKey(s),
		UpdateExpression: aws.String("REMOVE " + remove), ConditionExpression: aws.String(unchanged),
		ExpressionAttributeNames: names, ExpressionAttributeValues: values,
	})
	if err := translate(err); !isConditionFailed(err) {
		return err
	}
	return nil
}

// lapsed are the slots whose time has passed, at most 50 of them.
func lapsed(row item, now time.Time) map[string]types.AttributeValue {
	over := map[string]types.AttributeValue{}
	taken, _ := row[attrTaken].(*types.AttributeValueMemberM)
	if taken == nil {
		return over
	}
	for id, until := range taken.Value {
		if len(over) < 50 && intOf(until) <= now.UnixMilli() {
			over[id] = until
		}
	}
	return over
}
