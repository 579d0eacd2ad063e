package dynamo

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"

	"whatisup/shared/whatisup"
)

// What a session remembers of an instance's chats stands beside its messages.

// chatKey is the row of one chat.
func chatKey(r whatisup.Ref, chat whatisup.Address) item {
	sum := sha256.Sum256([]byte(chat))
	return key(messagesPartition(r), "c#"+base64.RawURLEncoding.EncodeToString(sum[:16]))
}

// groupNameKey is the row of a group's name, which outlives the chat's.
func groupNameKey(r whatisup.Ref, group whatisup.Address) item {
	sum := sha256.Sum256([]byte(group))
	return key(messagesPartition(r), "n#"+base64.RawURLEncoding.EncodeToString(sum[:16]))
}

func subscriptionsKey(r whatisup.Ref) item { return key(messagesPartition(r), "s#presence") }

// ReadThrough is the place, in the list of received messages, through which the
// chat was marked as read; empty if it never was.
func (db *DB) ReadThrough(ctx context.Context, r whatisup.Ref, chat whatisup.Address) (place string, err error) {
	row, err := db.remembered(ctx, chatKey(r, chat))
	return stringOf(row["read_through"]), err
}

// KeepReadThrough keeps that place as long as there are messages before it.
func (db *DB) KeepReadThrough(ctx context.Context, r whatisup.Ref, chat whatisup.Address, place string) error {
	return db.remember(ctx, chatKey(r, chat), "read_through", place, db.now().Add(whatisup.MessageKept))
}

// ChatTimer is the timer of a direct chat, as it was heard last; never, if it was not.
func (db *DB) ChatTimer(ctx context.Context, r whatisup.Ref, chat whatisup.Address) (t whatisup.Timer, err error) {
	row, err := db.remembered(ctx, chatKey(r, chat))
	if err != nil || stringOf(row["timer"]) == "" {
		return t, err
	}
	err = json.Unmarshal([]byte(stringOf(row["timer"])), &t)
	return t, err
}

// KeepChatTimer keeps it as long as a message.
func (db *DB) KeepChatTimer(ctx context.Context, r whatisup.Ref, chat whatisup.Address, t whatisup.Timer) error {
	return db.remember(ctx, chatKey(r, chat), "timer", jsonOf(&t), db.now().Add(whatisup.MessageKept))
}

// KeepGroupName keeps the name of a group for as long as a chat, and returns it. Without
// a name it keeps the one that it has, if there is one. What is kept already is read, and
// written again only when half of its time is over.
func (db *DB) KeepGroupName(ctx context.Context, r whatisup.Ref, group whatisup.Address, name string) (kept string, err error) {
	k := groupNameKey(r, group)
	row, err := db.remembered(ctx, k)
	if err != nil {
		return "", err
	}
	if db.past(row) {
		row = nil
	}
	was := stringOf(row["name"])
	if name = cmp.Or(name, was); name == "" {
		return "", nil
	}
	if name == was && intOf(row[attrTTL]) > db.now().Add(chatsKept/2).Unix() {
		return name, nil
	}
	return name, db.remember(ctx, k, "name", name, db.now().Add(chatsKept))
}

// Subscriptions are those of the instance that have not ended.
func (db *DB) Subscriptions(ctx context.Context, r whatisup.Ref) (list []whatisup.Subscription, err error) {
	row, err := db.remembered(ctx, subscriptionsKey(r))
	if err != nil || row == nil {
		return nil, err
	}
	if err := json.Unmarshal([]byte(stringOf(row["subscriptions"])), &list); err != nil {
		return nil, err
	}
	return whatisup.Alive(list, db.now()), nil
}

// KeepSubscriptions replaces them.
func (db *DB) KeepSubscriptions(ctx context.Context, r whatisup.Ref, list []whatisup.Subscription) error {
	return db.remember(ctx, subscriptionsKey(r), "subscriptions", jsonOf(&list), db.now().Add(whatisup.SubscribedFor))
}

func (db *DB) remembered(ctx context.Context, k item) (item, error) {
	out, err := db.client.GetItem(ctx, &dynamodb.GetItemInput{TableName: aws.String(db.tables.Messages), Key: k, ConsistentRead: aws.Bool(true)})
	if err != nil {
		return nil, translate(err)
	}
	return out.Item, nil
}

func (db *DB) remember(ctx context.Context, k item, name, value string, until time.Time) error {
	_, err := db.client.UpdateItem(ctx, &dynamodb.UpdateItemInput{
		TableName: aws.String(db.tables.Messages), Key: k,
		UpdateExpression:          aws.String("SET #name = :value, #ttl = :ttl"),
		ExpressionAttributeNames:  map[string]string{"#name": name, "#ttl": attrTTL},
		ExpressionAttributeValues: item{":value": str(value), ":ttl": number(until.Unix())},
	})
	return translate(err)
}
