package devicestore

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"whatisup/shared/seal"
	"whatisup/shared/whatisup"
)

// Mover makes the rows of instances fit the table of another deployment. The instance
// must have no owner while its rows are read.
type Mover struct {
	DynamoDB DynamoDB
	Keyring  *seal.Keyring  // of the data keys as they are
	Wrap     seal.Encrypter // of the other deployment, under WrapID
	WrapID   string
	From, To string // the tables' names: values are sealed for their table
}

// Rows returns what is stored of an instance as it is to stand in the other table: the
// device row, of no owner, with the data key wrapped anew, and the rows of its link,
// sealed for their new place. Entries of the log that rows have are left out. There are
// no rows for an instance that was never paired.
//
// A value that does not open is [ErrCorrupt], and a link of a format that this program
// doesn't know [ErrNewerFormat].
func (m *Mover) Rows(ctx context.Context, instance whatisup.InstanceID, customer whatisup.CustomerID) (device map[string]types.AttributeValue, rows []map[string]types.AttributeValue, err error) {
	out, err := m.DynamoDB.GetItem(ctx, &dynamodb.GetItemInput{
		TableName: aws.String(m.From), Key: primaryKey(string(instance), headSK), ConsistentRead: aws.Bool(true),
	})
	if err != nil || len(out.Item) == 0 {
		return nil, nil, err
	}
	device = out.Item
	h := parseHead(device)
	delete(device, attrEpoch)
	if device[attrWriter] != nil {
		device[attrWriter] = num(uint64(0))
	}
	if !h.linked {
		return device, nil, nil
	}
	if h.format > formatKnown {
		return nil, nil, fmt.Errorf("%w: link %d has format %d, this one knows %d", ErrNewerFormat, h.link, h.format, formatKnown)
	}
	i := Instance{ID: instance, CustomerID: customer}
	key, wrapped, err := m.Keyring.Rewrap(ctx, m.Wrap, m.WrapID, i.owner(), h.wrapped)
	if err != nil {
		return nil, nil, err
	}
	device[attrKey] = &types.AttributeValueMemberB{Value: wrapped}
	pk := linkPartition(i, h.link)
	if h.sealedHot != nil && h.format != formatLog {
		place := hotPlaceIn(m.From, pk, h.format, h.commits)
		hot, err := key.Open(h.sealedHot, place)
		if err != nil {
			return nil, nil, fmt.Errorf("%w: hot state", ErrCorrupt)
		}
		place.Table = m.To
		device[attrHot] = &types.AttributeValueMemberB{Value: key.Seal(hot, place)}
	}
	// Sorted: what comes before the entries, those that rows don't have, what comes after.
	for _, between := range [][2]string{{" ", kindEntry + "#"}, {entryKey(h.commits + 1), kindEntry + "$"}, {kindEntry + "$", "\x7f"}} {
		more, err := m.query(ctx, pk, between[0], between[1])
		if err != nil {
			return nil, nil, err
		}
		rows = append(rows, more...)
	}
	if err := m.reseal(key, pk, rows); err != nil {
		return nil, nil, err
	}
	return device, rows, nil
}

func (m *Mover) query(ctx context.Context, pk, from, to string) (rows []map[string]types.AttributeValue, err error) {
	in := &dynamodb.QueryInput{
		TableName: aws.String(m.From), ConsistentRead: aws.Bool(true),
		KeyConditionExpression:    aws.String("#pk = :pk AND #sk BETWEEN :from AND :to"),
		ExpressionAttributeNames:  map[string]string{"#pk": attrPK, "#sk": attrSK},
		ExpressionAttributeValues: map[string]types.AttributeValue{":pk": str(pk), ":from": str(from), ":to": str(to)},
	}
	for {
		out, err := m.DynamoDB.Query(ctx, in)
		if err != nil {
			return nil, err
		}
		rows = append(rows, out.Items...)
		if in.ExclusiveStartKey = out.LastEvaluatedKey; len(out.LastEvaluatedKey) == 0 {
			return rows, nil
		}
	}
}

// reseal seals the values of a link's rows for the other table, piece by piece as long
// as they were.
func (m *Mover) reseal(key *seal.Key, pk string, rows []map[string]types.AttributeValue) error {
	bySK := make(map[string]map[string]types.AttributeValue, len(rows))
	for _, row := range rows {
		bySK[stringAttr(row, attrSK)] = row
	}
	for sk, row := range bySK {
		if strings.HasPrefix(sk, "~") { // goes with the row that it continues
			continue
		}
		if row[attrEpoch] != nil { // an entry's: every owner to come has a higher one
			row[attrEpoch] = num(uint64(0))
		}
		if bytesAttr(row, attrValue) == nil {
			continue
		}
		pieces := []map[string]types.AttributeValue{row}
		parts, _ := numberAttr(row, attrParts)
		for i := range int(parts) {
			pieces = append(pieces, bySK[partKey(sk, i)])
		}
		var sealed []byte
		for _, piece := range pieces {
			sealed = append(sealed, bytesAttr(piece, attrValue)...)
		}
		place := seal.Place{Table: m.From, Partition: pk, Kind: kindOf(sk), Key: sk}
		plain, err := key.Open(sealed, place)
		if err != nil {
			return fmt.Errorf("%w: row of kind %q", ErrCorrupt, place.Kind)
		}
		place.Table = m.To
		for sealed = key.Seal(plain, place); len(pieces) > 0; pieces = pieces[1:] {
			n := len(bytesAttr(pieces[0], attrValue))
			pieces[0][attrValue] = &types.AttributeValueMemberB{Value: sealed[:n:n]}
			sealed = sealed[n:]
		}
	}
	return nil
}

// IsCorrupt says that an error of [Mover.Rows] is about this link alone, which no host
// can use either.
func IsCorrupt(err error) bool { return errors.Is(err, ErrCorrupt) }
