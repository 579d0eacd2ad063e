package dynamo

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"whatisup/shared/whatisup"
)

// PutEvent writes an event to the log that belongs to no change of a row.
func (db *DB) PutEvent(ctx context.Context, e whatisup.Event) error {
	w, err := db.eventItem(e)
	if err != nil {
		return err
	}
	_, err = db.client.PutItem(ctx, &dynamodb.PutItemInput{TableName: w.Put.TableName, Item: w.Put.Item})
	return translate(err)
}

// eventItem is the log's row of an event, as part of a transaction. Its position
// is taken now, so the transaction must commit within whatisup.PositionLag.
func (db *DB) eventItem(e whatisup.Event) (types.TransactWriteItem, error) {
	rows, err := db.EventRows(e)
	if err != nil {
		return types.TransactWriteItem{}, err
	}
	p := rows.Event(db.Position())
	return types.TransactWriteItem{Put: &p}, nil
}

// EventRows makes the rows that the log may have because of one event, for
// whoever writes them in a way of its own. Each requires that nothing stands at
// its position.
type EventRows struct {
	db    *DB
	event whatisup.Event
	body  string
	ttl   int64
}

// EventRows returns the event's.
func (db *DB) EventRows(e whatisup.Event) (*EventRows, error) {
	body, err := json.Marshal(e)
	if err != nil {
		return nil, err
	}
	return &EventRows{db: db, event: e, body: string(body), ttl: db.now().Add(whatisup.EventsKept).Unix()}, nil
}

// Position takes the position of this moment.
func (r *EventRows) Position() whatisup.Position { return r.db.Position() }

// Event is the event's row at a position.
func (r *EventRows) Event(at whatisup.Position) types.Put {
	row := r.row(at)
	row["event"] = str(string(r.event.Name))
	row["event_id"] = str(string(r.event.ID))
	row["instance_id"] = str(string(r.event.Instance))
	row["body"] = packed(r.body)
	return *put(r.db.tables.Events, row, "attribute_not_exists(pk)", nil, nil).Put
}

// Void is a row without an event. It keeps the event's out of a position, where
// a write that was given up may still arrive, and readers pass over it. It stays
// at least as long as a row that was made before it would have.
func (r *EventRows) Void(at whatisup.Position) types.Put {
	return *put(r.db.tables.Events, r.row(at), "attribute_not_exists(pk)", nil, nil).Put
}

// IsEvent says whether a row that was found in the log is the event's.
func (r *EventRows) IsEvent(row map[string]types.AttributeValue) bool {
	return stringOf(row["event_id"]) == string(r.event.ID)
}

func (r *EventRows) row(at whatisup.Position) item {
	row := eventKey(r.event.Customer, r.event.Mode, at)
	row[attrTTL] = number(r.ttl)
	return row
}

// EventsAfter lists the customer's events with positions above after, in their
// order, as the loop goes on. An event may still turn up below a position that
// was listed, for up to whatisup.PositionLag: see [whatisup.PositionReread].
// about says how many events the caller expects to take.
func (db *DB) EventsAfter(ctx context.Context, c whatisup.CustomerID, m whatisup.Mode, after whatisup.Position, about int) iter.Seq2[whatisup.Logged, error] {
	return db.events(ctx, about, &dynamodb.QueryInput{
		KeyConditionExpression:    aws.String("pk = :pk AND sk > :sk"),
		ExpressionAttributeValues: item{":pk": str(partition(c, m)), ":sk": str(string(after))},
	})
}

// EventsBefore lists the customer's events with positions below before (empty:
// all), newest first.
func (db *DB) EventsBefore(ctx context.Context, c whatisup.CustomerID, m whatisup.Mode, before whatisup.Position, about int) iter.Seq2[whatisup.Logged, error] {
	in := &dynamodb.QueryInput{
		KeyConditionExpression:    aws.String("pk = :pk"),
		ExpressionAttributeValues: item{":pk": str(partition(c, m))},
		ScanIndexForward:          aws.Bool(false),
	}
	if before != "" {
		in.KeyConditionExpression = aws.String("pk = :pk AND sk < :sk")
		in.ExpressionAttributeValues[":sk"] = str(string(before))
	}
	return db.events(ctx, about, in)
}

func (db *DB) events(ctx context.Context, about int, in *dynamodb.QueryInput) iter.Seq2[whatisup.Logged, error] {
	in.TableName = aws.String(db.tables.Events)
	in.ConsistentRead = aws.Bool(true)
	in.ProjectionExpression = aws.String("sk, body, #ttl")
	in.ExpressionAttributeNames = map[string]string{"#ttl": attrTTL}
	if about > 0 {
		in.Limit = aws.Int32(int32(min(about, 1000)))
	}
	return func(yield func(whatisup.Logged, error) bool) {
		for row, err := range db.query(ctx, in) {
			if err == nil && intOf(row[attrTTL]) <= db.now().Unix() {
				continue // past its time; the broom has not come yet
			}
			if err == nil && row["body"] == nil {
				continue // a void, see EventRows
			}
			l := whatisup.Logged{Position: whatisup.Position(stringOf(row[attrSK]))}
			if err == nil {
				var body []byte
				if body, err = unpacked(row["body"]); err == nil {
					err = json.Unmarshal(body, &l.Event)
				}
				if err != nil {
					err = fmt.Errorf("event at %s: %w", l.Position, err)
				}
			}
			if !yield(l, err) || err != nil {
				return
			}
		}
	}
}
