package dynamo

import (
	"context"
	"encoding/json"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"

	"whatisup/shared/whatisup"
)

func restrictionsKey(r whatisup.Ref) item { return key(messagesPartition(r), "s#restrictions") }

// Restrictions are those of the instance's account that were kept.
func (db *DB) Restrictions(ctx context.Context, r whatisup.Ref) (whatisup.Restrictions, error) {
	row, err := db.remembered(ctx, restrictionsKey(r))
	if err != nil || row == nil {
		return nil, err
	}
	var kept whatisup.Restrictions
	err = json.Unmarshal([]byte(stringOf(row["restrictions"])), &kept)
	return kept, err
}

// KeepRestrictions replaces them.
func (db *DB) KeepRestrictions(ctx context.Context, r whatisup.Ref, all whatisup.Restrictions) error {
	return db.remember(ctx, restrictionsKey(r), "restrictions", jsonOf(&all), db.now().Add(whatisup.MessageKept))
}

// exchangedMost is how many messages are looked through for those with whom messages
// were exchanged.
const exchangedMost = 50_000

// Exchanged names all with whom the instance has exchanged messages, as far as they are
// kept, by each of their ids, and counts the chats that it has begun at since or later.
func (db *DB) Exchanged(ctx context.Context, r whatisup.Ref, since time.Time) (known map[whatisup.Address]bool, begun int, err error) {
	first := make(map[whatisup.Person]bool) // by person: the oldest message is one that was begun with since
	known = make(map[whatisup.Address]bool)
	read := 0
	for l, err := range db.Messages(ctx, r, whatisup.Listing{}, 1000) {
		if err != nil {
			return nil, 0, err
		}
		if read++; read > exchangedMost {
			break
		}
		sent := l.Status.Rank() >= whatisup.MessageSent.Rank() && l.Status != whatisup.MessageCanceled
		p := peer(l.Message)
		if l.Direction == whatisup.Outgoing && !sent || p == (whatisup.Person{}) {
			continue
		}
		p.Name = ""
		for _, a := range p.Chats() {
			known[a] = true
		}
		first[p] = l.Direction == whatisup.Outgoing && !l.Times.Sent.Before(since)
	}
	for _, now := range first {
		if now {
			begun++
		}
	}
	return known, begun, nil
}

// A stop of sending is a row of the fleet: hosts read all of a mode together.
func stopKey(m whatisup.Mode, scope string) item { return key(string(m)+"#stop", scope) }

// Stops reads those of a mode.
func (db *DB) Stops(ctx context.Context, m whatisup.Mode) (whatisup.Stops, error) {
	in := &dynamodb.QueryInput{
		TableName: aws.String(db.tables.Fleet), KeyConditionExpression: aws.String("pk = :pk"),
		ExpressionAttributeValues: item{":pk": str(string(m) + "#stop")},
	}
	var all whatisup.Stops
	for row, err := range db.query(ctx, in) {
		if err != nil {
			return nil, err
		}
		var s whatisup.Stop
		if err := json.Unmarshal([]byte(stringOf(row["stop"])), &s); err != nil {
			return nil, err
		}
		if !db.past(row) {
			all = append(all, s)
		}
	}
	return all, nil
}

// PutStop stops sending, instead of an earlier stop of the same scope.
func (db *DB) PutStop(ctx context.Context, m whatisup.Mode, s whatisup.Stop) error {
	row := item{"stop": str(jsonOf(&s))}
	if !s.Until.IsZero() {
		row[attrTTL] = number(s.Until.Unix())
	}
	_, err := db.client.PutItem(ctx, &dynamodb.PutItemInput{TableName: aws.String(db.tables.Fleet), Item: withKey(stopKey(m, s.Scope), row)})
	return translate(err)
}

// RemoveStop takes a stop back.
func (db *DB) RemoveStop(ctx context.Context, m whatisup.Mode, scope string) error {
	_, err := db.client.DeleteItem(ctx, &dynamodb.DeleteItemInput{TableName: aws.String(db.tables.Fleet), Key: stopKey(m, scope)})
	return translate(err)
}
