package dynamo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/feature/dynamodb/attributevalue"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"whatisup/shared/whatisup"
)

// IndexFetching is global and sparse: the received files of a shard's instances
// that are to be fetched from WhatsApp, or whose event is still to be told. It says only
// where to look.
const IndexFetching = "fetching"

// mediaRow is the row of a file. Times are unix milliseconds.
type mediaRow struct {
	Format   int     `dynamodbav:"format"`
	Instance string  `dynamodbav:"instance_id,omitempty"`
	MadeBy   string  `dynamodbav:"made_by,omitempty"`
	Status   string  `dynamodbav:"status"`
	Error    string  `dynamodbav:"error,omitempty"`
	MimeType string  `dynamodbav:"mime_type,omitempty"`
	Size     int64   `dynamodbav:"size,omitempty"`
	SHA256   []byte  `dynamodbav:"sha256,omitempty"`
	Filename string  `dynamodbav:"filename,omitempty"`
	Width    int     `dynamodbav:"width,omitempty"`
	Height   int     `dynamodbav:"height,omitempty"`
	Seconds  float64 `dynamodbav:"seconds,omitempty"`
	Voice    bool    `dynamodbav:"voice,omitempty"`
	Key      string  `dynamodbav:"object_key,omitempty"`
	Source   string  `dynamodbav:"source_url,omitempty"`
	Created  int64   `dynamodbav:"t_created"`
	Expires  int64   `dynamodbav:"expires_at"`
	Origin   string  `dynamodbav:"origin,omitempty"`
	Untold   bool    `dynamodbav:"untold,omitempty"`
	ShardKey string  `dynamodbav:"shard_key,omitempty"`
	TTL      int64   `dynamodbav:"ttl"`
}

const mediaFormat = 1

// mediaPartition is where all files of a customer and mode stand. It begins with the
// mode, so that a role can be held to one mode's rows.
func mediaPartition(c whatisup.CustomerID, m whatisup.Mode) string {
	return string(m) + "#" + string(c)
}

func mediaKey(c whatisup.CustomerID, m whatisup.Mode, id whatisup.MediaID) item {
	return key(mediaPartition(c, m), string(id))
}

// Below a file's own row stand the messages that keep it, and what was uploaded of
// it to WhatsApp.
const (
	mediaHold   = "#hold#"
	mediaUpload = "#upload#"
)

// rowsAfter is how long a file's row outlives the file: its expiry is an answer too,
// and the object is removed in this time.
const rowsAfter = 24 * time.Hour

func (db *DB) mediaRowOf(m *whatisup.Media) item {
	r := mediaRow{
		Format: mediaFormat, Instance: string(m.Instance), MadeBy: string(m.MadeBy), Status: string(m.Status), Error: jsonOf(m.Error),
		MimeType: m.MimeType, Size: m.Size, SHA256: m.SHA256, Filename: m.Filename,
		Width: m.Facts.Width, Height: m.Facts.Height, Seconds: m.Facts.Seconds, Voice: m.Facts.Voice,
		Key: m.Key, Source: m.SourceURL, Created: millis(m.CreatedAt), Expires: millis(m.ExpiresAt), Origin: jsonOf(m.Origin), Untold: m.Untold,
		TTL: m.ExpiresAt.Add(rowsAfter).Unix(),
	}
	if m.Origin != nil && (m.Status == whatisup.MediaFetching || m.Untold) {
		r.ShardKey = shardKey(m.Mode, db.ShardOf(m.Instance))
	}
	return withKey(mediaKey(m.Customer, m.Mode, m.ID), marshal(r))
}

func mediaOf(row item) (*whatisup.Media, error) {
	var r mediaRow
	if err := attributevalue.UnmarshalMap(row, &r); err != nil {
		return nil, err
	}
	if r.Format > mediaFormat {
		return nil, fmt.Errorf("a file of format %d: this program knows %d", r.Format, mediaFormat)
	}
	mode, customer, _ := strings.Cut(stringOf(row[attrPK]), "#")
	m := &whatisup.Media{
		Customer: whatisup.CustomerID(customer), Mode: whatisup.Mode(mode), ID: whatisup.MediaID(stringOf(row[attrSK])),
		Instance: whatisup.InstanceID(r.Instance), MadeBy: whatisup.InstanceID(r.MadeBy), Status: whatisup.MediaStatus(r.Status),
		MimeType: r.MimeType, Size: r.Size, SHA256: r.SHA256, Filename: r.Filename,
		Facts: whatisup.MediaFacts{Width: r.Width, Height: r.Height, Seconds: r.Seconds, Voice: r.Voice},
		Key:   r.Key, SourceURL: r.Source, CreatedAt: fromMillis(r.Created), ExpiresAt: fromMillis(r.Expires),
		Untold: r.Untold,
	}
	return m, errors.Join(intoJSON(r.Error, &m.Error), intoJSON(r.Origin, &m.Origin))
}

// PutMedia stores a file where nothing stands under its id, or returns what does.
func (db *DB) PutMedia(ctx context.Context, m *whatisup.Media) (old *whatisup.Media, err error) {
	_, err = db.client.PutItem(ctx, &dynamodb.PutItemInput{
		TableName: aws.String(db.tables.Media), Item: db.mediaRowOf(m),
		ConditionExpression:                 aws.String("attribute_not_exists(pk)"),
		ReturnValuesOnConditionCheckFailure: types.ReturnValuesOnConditionCheckFailureAllOld,
	})
	err = translate(err)
	if row, failed := failedAt(err, 0); failed {
		return mediaOf(row)
	}
	return nil, err
}

// Media reads a file, consistently: ErrNotFound also for one that has expired.
func (db *DB) Media(ctx context.Context, c whatisup.CustomerID, m whatisup.Mode, id whatisup.MediaID) (*whatisup.Media, error) {
	out, err := db.client.GetItem(ctx, &dynamodb.GetItemInput{
		TableName: aws.String(db.tables.Media), Key: mediaKey(c, m, id), ConsistentRead: aws.Bool(true),
	})
	if err != nil {
		return nil, translate(err)
	}
	if out.Item == nil {
		return nil, whatisup.ErrNotFound
	}
	media, err := mediaOf(out.Item)
	if err == nil && !media.Live(db.now()) {
		return nil, whatisup.ErrNotFound
	}
	return media, err
}

// ChangeMedia replaces a file's row if it still has the status: ErrConflict, or
// ErrNotFound if it was deleted.
func (db *DB) ChangeMedia(ctx context.Context, m *whatisup.Media, was whatisup.MediaStatus) error {
	_, err := db.client.PutItem(ctx, &dynamodb.PutItemInput{
		TableName: aws.String(db.tables.Media), Item: db.mediaRowOf(m),
		ConditionExpression:                 aws.String("#status = :was"),
		ExpressionAttributeNames:            map[string]string{"#status": "status"},
		ExpressionAttributeValues:           item{":was": str(string(was))},
		ReturnValuesOnConditionCheckFailure: types.ReturnValuesOnConditionCheckFailureAllOld,
	})
	return changedOrGone(translate(err), 0)
}

// MediaByIDs reads files, consistently: those that are there, and have not expired.
func (db *DB) MediaByIDs(ctx context.Context, c whatisup.CustomerID, m whatisup.Mode, ids []whatisup.MediaID) (map[whatisup.MediaID]*whatisup.Media, error) {
	keys := make([]item, len(ids))
	for n, id := range ids {
		keys[n] = mediaKey(c, m, id)
	}
	rows, err := db.items(ctx, db.tables.Media, keys)
	if err != nil {
		return nil, err
	}
	found := make(map[whatisup.MediaID]*whatisup.Media, len(rows))
	for _, row := range rows {
		media, err := mediaOf(row)
		if err != nil {
			return nil, err
		}
		if media.Live(db.now()) {
			found[media.ID] = media
		}
	}
	return found, nil
}

// DeleteMedia removes a file's row, if it is there.
func (db *DB) DeleteMedia(ctx context.Context, c whatisup.CustomerID, m whatisup.Mode, id whatisup.MediaID) error {
	_, err := db.client.DeleteItem(ctx, &dynamodb.DeleteItemInput{TableName: aws.String(db.tables.Media), Key: mediaKey(c, m, id)})
	return translate(err)
}

// HoldMedia notes that a message uses a file until a time at the latest.
func (db *DB) HoldMedia(ctx context.Context, r whatisup.Ref, id whatisup.MediaID, message whatisup.MessageID, until time.Time) error {
	row := key(mediaPartition(r.Customer, r.Mode), string(id)+mediaHold+string(r.ID)+"#"+string(message))
	row["expires_at"], row[attrTTL] = number(until.UnixMilli()), number(until.Add(time.Hour).Unix())
	_, err := db.client.PutItem(ctx, &dynamodb.PutItemInput{TableName: aws.String(db.tables.Media), Item: row})
	return translate(err)
}

// MediaHolders lists the messages that may still use a file, up to most.
func (db *DB) MediaHolders(ctx context.Context, c whatisup.CustomerID, m whatisup.Mode, id whatisup.MediaID, most int) ([]whatisup.Holder, error) {
	in := &dynamodb.QueryInput{
		TableName: aws.String(db.tables.Media), ConsistentRead: aws.Bool(true),
		KeyConditionExpression:    aws.String("pk = :pk AND begins_with(sk, :sk)"),
		ExpressionAttributeValues: item{":pk": str(mediaPartition(c, m)), ":sk": str(string(id) + mediaHold)},
	}
	var holders []whatisup.Holder
	for row, err := range db.query(ctx, in) {
		if err != nil {
			return nil, err
		}
		if intOf(row["expires_at"]) <= db.now().UnixMilli() {
			continue
		}
		rest := strings.TrimPrefix(stringOf(row[attrSK]), string(id)+mediaHold)
		instance, message, _ := strings.Cut(rest, "#")
		holders = append(holders, whatisup.Holder{
			Ref:     whatisup.Ref{Customer: c, Mode: m, ID: whatisup.InstanceID(instance)},
			Message: whatisup.MessageID(message),
		})
		if len(holders) == most {
			break
		}
	}
	return holders, nil
}

func uploadKey(r whatisup.Ref, id whatisup.MediaID, kind string) item {
	return key(mediaPartition(r.Customer, r.Mode), string(id)+mediaUpload+string(r.ID)+"#"+kind)
}

// KeepUpload keeps what an instance has uploaded of a file to WhatsApp, in a form of
// a kind, until a time.
func (db *DB) KeepUpload(ctx context.Context, r whatisup.Ref, id whatisup.MediaID, kind string, u *whatisup.StoredUpload, until time.Time) error {
	row := uploadKey(r, id, kind)
	row["upload"], row[attrTTL] = str(jsonOf(u)), number(until.Unix())
	_, err := db.client.PutItem(ctx, &dynamodb.PutItemInput{TableName: aws.String(db.tables.Media), Item: row})
	return translate(err)
}

// Upload is what was kept; nil: nothing, or its time is over.
func (db *DB) Upload(ctx context.Context, r whatisup.Ref, id whatisup.MediaID, kind string) (*whatisup.StoredUpload, error) {
	out, err := db.client.GetItem(ctx, &dynamodb.GetItemInput{TableName: aws.String(db.tables.Media), Key: uploadKey(r, id, kind)})
	if err != nil {
		return nil, translate(err)
	}
	if out.Item == nil || db.past(out.Item) {
		return nil, nil
	}
	u := &whatisup.StoredUpload{}
	return u, json.Unmarshal([]byte(stringOf(out.Item["upload"])), u)
}

// FetchingMedia lists the received files of a shard that something is left to do for.
func (db *DB) FetchingMedia(ctx context.Context, m whatisup.Mode, s whatisup.Shard) ([]whatisup.MediaWork, error) {
	in := &dynamodb.QueryInput{
		TableName: aws.String(db.tables.Media), IndexName: aws.String(IndexFetching),
		KeyConditionExpression:    aws.String("shard_key = :shard"),
		ExpressionAttributeValues: item{":shard": str(shardKey(m, s))},
	}
	var work []whatisup.MediaWork
	for row, err := range db.query(ctx, in) {
		if err != nil {
			return nil, err
		}
		_, customer, _ := strings.Cut(stringOf(row[attrPK]), "#")
		work = append(work, whatisup.MediaWork{
			Customer: whatisup.CustomerID(customer), Mode: m, Media: whatisup.MediaID(stringOf(row[attrSK])), Instance: whatisup.InstanceID(stringOf(row["instance_id"])),
		})
	}
	return work, nil
}

// TakeFile takes a token from the bucket of whoever uses files' URLs without a key:
// an address, or a token. Who names one of the two; nothing else is kept of them.
func (db *DB) TakeFile(ctx context.Context, who string, l whatisup.RateLimit) (whatisup.Bucket, error) {
	return db.takeFrom(ctx, db.tables.Calls, item{attrPK: str("files#" + who)}, l, 1)
}
