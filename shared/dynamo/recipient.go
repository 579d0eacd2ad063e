package dynamo

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	endian "encoding/binary"
	"errors"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"

	"whatisup/shared/whatisup"
)

// A message to a group has a row with the times of its recipients, twelve bytes each.
// Who they are is a row of its own, which all messages to the same members share.
const (
	recipientTimes   = "p#"
	recipientMembers = "q#"
	untoldMark       = "u#"
)

// PutRecipients stores how far a message to a group has come with each member. First
// says that its members may not be stored yet.
func (db *DB) PutRecipients(ctx context.Context, r whatisup.Ref, id whatisup.MessageID, p *whatisup.Recipients, first bool) error {
	members := make([]string, len(p.Members))
	for i, m := range p.Members {
		members[i] = string(m.PhoneNumber) + "/" + m.LID
	}
	text := strings.Join(members, " ")
	sum := sha256.Sum256([]byte(text))
	name := base64.RawURLEncoding.EncodeToString(sum[:12])
	ttl := number(db.now().Add(whatisup.MessageKept + whatisup.ExpireMost).Unix())
	pk := messagesPartition(r)
	if first {
		_, err := db.client.PutItem(ctx, &dynamodb.PutItemInput{
			TableName: aws.String(db.tables.Messages),
			Item:      withKey(key(pk, recipientMembers+name), item{"members": str(text), attrTTL: ttl}),
			// A list that will outlive the message stays as it is.
			ConditionExpression:       aws.String("attribute_not_exists(pk) OR #ttl < :fresh"),
			ExpressionAttributeNames:  map[string]string{"#ttl": attrTTL},
			ExpressionAttributeValues: item{":fresh": number(db.now().Add(whatisup.MessageKept).Unix())},
		})
		if err = translate(err); err != nil {
			if _, there := failedAt(err, 0); !there {
				return err
			}
		}
	}
	times := make([]byte, 0, 12*len(p.At))
	for _, at := range p.At {
		for _, t := range at {
			times = endian.BigEndian.AppendUint32(times, t)
		}
	}
	_, err := db.client.PutItem(ctx, &dynamodb.PutItemInput{
		TableName: aws.String(db.tables.Messages),
		Item: withKey(key(pk, recipientTimes+string(id)), item{
			"members": str(name), "base": number(millis(p.Base)), "times": binary(times), attrTTL: ttl,
		}),
	})
	return translate(err)
}

// Recipients reads how far a message to a group has come with each member, or
// ErrNotFound.
func (db *DB) Recipients(ctx context.Context, r whatisup.Ref, id whatisup.MessageID) (*whatisup.Recipients, error) {
	pk := messagesPartition(r)
	row, err := db.messageItem(ctx, key(pk, recipientTimes+string(id)))
	if err != nil {
		return nil, err
	}
	list, err := db.messageItem(ctx, key(pk, recipientMembers+stringOf(row["members"])))
	if err != nil {
		return nil, err
	}
	p := &whatisup.Recipients{Base: fromMillis(intOf(row["base"]))}
	for m := range strings.FieldsSeq(stringOf(list["members"])) {
		n, lid, _ := strings.Cut(m, "/")
		p.Members = append(p.Members, whatisup.Person{PhoneNumber: whatisup.PhoneNumber(n), LID: lid})
	}
	times := bytesOf(row["times"])
	if len(times) != 12*len(p.Members) {
		return nil, errors.New("the times of a message's recipients don't fit its members")
	}
	p.At = make([][3]uint32, len(p.Members))
	for i := range p.At {
		for k := range 3 {
			p.At[i][k] = endian.BigEndian.Uint32(times[12*i+4*k:])
		}
	}
	return p, nil
}

func (db *DB) messageItem(ctx context.Context, k item) (item, error) {
	out, err := db.client.GetItem(ctx, &dynamodb.GetItemInput{
		TableName: aws.String(db.tables.Messages), Key: k, ConsistentRead: aws.Bool(true),
	})
	if err != nil {
		return nil, translate(err)
	}
	if out.Item == nil || db.past(out.Item) {
		return nil, whatisup.ErrNotFound
	}
	return out.Item, nil
}

// CountRecipients writes on a message's row how many have come how far.
func (db *DB) CountRecipients(ctx context.Context, r whatisup.Ref, id whatisup.MessageID, c *whatisup.RecipientCounts) error {
	return db.updateMessage(ctx, r, id, "SET recipients = :counts", "#rank < :any",
		item{":counts": str(jsonOf(c)), ":any": number(1000)})
}

// MarkUntold writes that from a time on steps of the instance's messages may have been
// written and not told; zero: all are told.
func (db *DB) MarkUntold(ctx context.Context, r whatisup.Ref, since time.Time) error {
	k := key(messagesPartition(r), untoldMark)
	if since.IsZero() {
		_, err := db.client.DeleteItem(ctx, &dynamodb.DeleteItemInput{TableName: aws.String(db.tables.Messages), Key: k})
		return translate(err)
	}
	_, err := db.client.PutItem(ctx, &dynamodb.PutItemInput{
		TableName: aws.String(db.tables.Messages), Item: withKey(k, item{"since": number(millis(since))}),
	})
	return translate(err)
}

// Untold is the mark that MarkUntold wrote, zero if there is none.
func (db *DB) Untold(ctx context.Context, r whatisup.Ref) (time.Time, error) {
	row, err := db.messageItem(ctx, key(messagesPartition(r), untoldMark))
	if errors.Is(err, whatisup.ErrNotFound) {
		return time.Time{}, nil
	}
	return fromMillis(intOf(row["since"])), err
}

// Stepped reads the instance's own messages that were accepted at created or later
// and have come to a status of WhatsApp's at since or later. It looks at so many of
// the newest.
func (db *DB) Stepped(ctx context.Context, r whatisup.Ref, created, since time.Time, most int) ([]*whatisup.Message, error) {
	var stepped []*whatisup.Message
	read := 0
	for l, err := range db.listed(ctx, r, whatisup.Outgoing, "", most) {
		if err != nil {
			return nil, err
		}
		if read++; read > most || l.Times.Created.Before(created) {
			break
		}
		if l.Status.Rank() >= whatisup.MessageSent.Rank() && l.Status != whatisup.MessageCanceled && !l.StatusAt.Before(since) {
			stepped = append(stepped, l.Message)
		}
	}
	return stepped, nil
}
