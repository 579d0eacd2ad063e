package dynamo

import (
	"context"
	"errors"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"

	"whatisup/shared/whatisup"
)

// Left lists what the tables still hold of an instance that can be told by its
// id: for a deleted one that its host is done with, nothing but the tombstone.
// Rows are named by table and key; what is in them is not read.
//
// The log keeps what happened, on purpose, until its time is over, and is not
// listed.
func (db *DB) Left(ctx context.Context, c whatisup.CustomerID, id whatisup.InstanceID) ([]string, error) {
	var left []string
	generations := uint64(0)
	note := func(table, pk string, rows int) {
		if rows > 0 {
			left = append(left, rowsLeft(table, pk, rows))
		}
	}
	for _, m := range []whatisup.Mode{whatisup.Live, whatisup.Test} {
		n, err := db.countRows(ctx, db.tables.Instances, partition(c, m), string(id))
		if err != nil {
			return nil, err
		}
		note(db.tables.Instances, partition(c, m), n)
		for _, read := range []func(context.Context, whatisup.CustomerID, whatisup.Mode, whatisup.InstanceID) (*whatisup.Instance, error){db.Instance, db.Deleted} {
			switch i, err := read(ctx, c, m, id); {
			case errors.Is(err, whatisup.ErrNotFound):
			case err != nil:
				return nil, err
			default:
				generations = max(generations, uint64(i.Wanted.Generation))
				if i.Observed.Link != 0 {
					left = append(left, fmt.Sprintf("%s: link %d is not wiped yet", db.tables.Instances, i.Observed.Link))
				}
			}
		}
	}
	out, err := db.client.GetItem(ctx, &dynamodb.GetItemInput{
		TableName: aws.String(db.tables.Calls), Key: pairingKey(id), ConsistentRead: aws.Bool(true),
		ProjectionExpression: aws.String("pk"),
	})
	if err != nil {
		return nil, translate(err)
	}
	if out.Item != nil {
		left = append(left, db.tables.Calls+": the code row, until its time is over")
	}
	if db.tables.Devices == "" {
		return append(left, "the devices table was not looked at: no access to it was given"), nil
	}
	for _, table := range []string{db.tables.Devices, db.tables.SandboxDevices} {
		if table == "" {
			continue
		}
		more, err := db.leftOfDevice(ctx, table, id, generations)
		if err != nil {
			return nil, err
		}
		left = append(left, more...)
	}
	return left, nil
}

// leftOfDevice lists what a table of auth state holds of an instance.
func (db *DB) leftOfDevice(ctx context.Context, table string, id whatisup.InstanceID, generations uint64) ([]string, error) {
	var left []string
	device, err := db.client.GetItem(ctx, &dynamodb.GetItemInput{
		TableName: aws.String(table), Key: DeviceKey(id), ConsistentRead: aws.Bool(true),
	})
	if err != nil {
		return nil, translate(err)
	}
	// What a wipe leaves of the device row is its fence: no link, no data key.
	if link := intOf(device.Item[attrLink]); link != 0 {
		generations = max(generations, uint64(link))
		left = append(left, fmt.Sprintf("%s: the device row has link %d", table, link))
	}
	for _, secret := range []string{"key", "hot"} {
		if _, there := device.Item[secret]; there {
			left = append(left, table+": the device row has "+secret)
		}
	}
	if _, there := device.Item["sweep"]; there {
		left = append(left, table+": unreadable rows are still to be removed")
	}
	generations = max(generations, uint64(intOf(device.Item["last"])))
	// Every link has a partition of its own, numbered by its generation.
	for link := uint64(1); link <= generations; link++ {
		pk := AuthPartition(id, whatisup.Link(link))
		n, err := db.countAuth(ctx, table, pk)
		if err != nil {
			return nil, err
		}
		if n > 0 {
			left = append(left, rowsLeft(table, pk, n))
		}
	}
	return left, nil
}

// countAuth counts a link's rows, without the entries of its log: those can't be
// read any more either, and stay until their time is over, so that a writer who
// comes late finds its place taken.
func (db *DB) countAuth(ctx context.Context, table, pk string) (int, error) {
	rows := 0
	for _, part := range [...][2]string{{"sk < :bound", "w#"}, {"sk > :bound", "w$"}} { // $ comes after #
		n, err := db.count(ctx, &dynamodb.QueryInput{
			TableName:                 aws.String(table),
			KeyConditionExpression:    aws.String("pk = :pk AND " + part[0]),
			ExpressionAttributeValues: item{":pk": str(pk), ":bound": str(part[1])},
		})
		if err != nil {
			return 0, err
		}
		rows += n
	}
	return rows, nil
}

func rowsLeft(table, pk string, rows int) string {
	return fmt.Sprintf("%s: %d row(s) under %s", table, rows, pk)
}

func (db *DB) countRows(ctx context.Context, table, pk, sk string) (int, error) {
	in := &dynamodb.QueryInput{
		TableName:                 aws.String(table),
		KeyConditionExpression:    aws.String("pk = :pk"),
		ExpressionAttributeValues: item{":pk": str(pk)},
	}
	if sk != "" {
		in.KeyConditionExpression = aws.String("pk = :pk AND begins_with(sk, :sk)")
		in.ExpressionAttributeValues[":sk"] = str(sk)
	}
	return db.count(ctx, in)
}

func (db *DB) count(ctx context.Context, in *dynamodb.QueryInput) (int, error) {
	in.ProjectionExpression, in.ConsistentRead = aws.String("pk"), aws.Bool(true)
	n := 0
	for _, err := range db.query(ctx, in) {
		if err != nil {
			return 0, err
		}
		n++
	}
	return n, nil
}
