package dynamo

import (
	"context"
	"errors"
	"hash/fnv"
	"iter"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"whatisup/shared/whatisup"
)

// A customer's limited places of one kind are kept by the ids that have them,
// with the time until when. A write is billed by the size of its row, so the
// places of a kind are spread over rows of at most placesInRow, which is what
// one kilobyte holds. An id belongs to one of them by its hash; where that one
// is full it goes to the one with the most room. So there is always room for as
// many as there are places, and never for more.

// placesInRow is how many places a row has at most.
const placesInRow = 20

// placesOf are a customer's places of a kind.
type placesOf struct {
	customer whatisup.CustomerID
	mode     whatisup.Mode
	kind     string
	limit    int
}

func (p placesOf) rows() int { return max(1, (p.limit+placesInRow-1)/placesInRow) }

// size is how many of the places are in row n.
func (p placesOf) size(n int) int {
	size := p.limit / p.rows()
	if n < p.limit%p.rows() {
		size++
	}
	return size
}

func (p placesOf) prefix() string { return p.kind + "#" + string(p.mode) }

func (p placesOf) key(n int) item {
	sk := p.prefix()
	if p.rows() > 1 {
		sk += "#" + strconv.Itoa(n)
	}
	return key("customer#"+string(p.customer), sk)
}

// rowOf is the row that an id belongs to.
func (p placesOf) rowOf(id string) int {
	h := fnv.New32a()
	h.Write([]byte(id))
	return int(h.Sum32() % uint32(p.rows()))
}

// Occupy takes one of a customer's limited places of one kind for id, until the
// given time unless it is taken again; or ErrTooMany. A place whose time has
// passed is free. It may be asked again for an id that has its place already.
func (db *DB) Occupy(ctx context.Context, c whatisup.CustomerID, m whatisup.Mode, kind, id string, until time.Time, limit int) error {
	p := placesOf{c, m, kind, limit}
	n := p.rowOf(id)
	for range 4 {
		err := db.occupy(ctx, p, n, id, until)
		if !errors.Is(err, whatisup.ErrTooMany) || p.rows() == 1 {
			return err
		}
		if n, err = db.roomiest(ctx, p, id); err != nil {
			return err
		}
	}
	return whatisup.ErrTooMany
}

// occupy is Occupy in row n.
func (db *DB) occupy(ctx context.Context, p placesOf, n int, id string, until time.Time) error {
	k := p.key(n)
	names := map[string]string{"#id": id}
	for range 4 {
		out, err := db.client.UpdateItem(ctx, &dynamodb.UpdateItemInput{
			TableName: aws.String(db.tables.Access), Key: k,
			UpdateExpression:          aws.String("SET places.#id = :until"),
			ConditionExpression:       aws.String("attribute_exists(places) AND (size(places) < :limit OR attribute_exists(places.#id))"),
			ExpressionAttributeNames:  names,
			ExpressionAttributeValues: item{":until": number(millis(until)), ":limit": number(p.size(n))},

			ReturnValues:                        types.ReturnValueAllNew,
			ReturnValuesOnConditionCheckFailure: types.ReturnValuesOnConditionCheckFailureAllOld,
		})
		if err == nil {
			// Keep the row small while it is read anyway; losing a race here
			// costs nothing.
			if past := passed(out.Attributes, db.now()); len(past) >= placesSwept {
				return db.vacate(ctx, k, past)
			}
			return nil
		}
		old, failed := failedAt(translate(err), 0)
		if !failed {
			return translate(err)
		}
		if _, there := old["places"]; !there {
			_, err = db.client.UpdateItem(ctx, &dynamodb.UpdateItemInput{
				TableName: aws.String(db.tables.Access), Key: k,
				UpdateExpression:          aws.String("SET places = if_not_exists(places, :none)"),
				ExpressionAttributeValues: item{":none": &types.AttributeValueMemberM{Value: item{}}},
			})
			if err != nil {
				return translate(err)
			}
			continue
		}
		past := passed(old, db.now())
		if len(past) == 0 {
			return whatisup.ErrTooMany
		}
		if err := db.vacate(ctx, k, past); err != nil {
			return err
		}
	}
	return whatisup.ErrTooMany
}

// placesSwept is how many places must have passed before a row is swept that is
// not full.
const placesSwept = placesInRow / 2

// roomiest is the row with id, or else the one with the most room, or
// ErrTooMany.
func (db *DB) roomiest(ctx context.Context, p placesOf, id string) (int, error) {
	taken := make([]int, p.rows())
	for row, err := range db.placeRows(ctx, p) {
		if err != nil {
			return 0, err
		}
		n, ok := row.number(p)
		if !ok {
			continue
		}
		if row.places[id] != nil {
			return n, nil
		}
		taken[n] = len(row.places) - len(row.passed)
	}
	best, room := 0, 0
	for _, n := range rand.Perm(len(taken)) { // many may ask at the same moment
		if free := p.size(n) - taken[n]; free > room {
			best, room = n, free
		}
	}
	if room == 0 {
		return 0, whatisup.ErrTooMany
	}
	return best, nil
}

// placeRow is a row of places as it was read.
type placeRow struct {
	sk             string
	places, passed map[string]types.AttributeValue
}

// number is which of the rows it is.
func (r *placeRow) number(p placesOf) (int, bool) {
	n, err := strconv.Atoi(strings.TrimPrefix(r.sk, p.prefix()+"#"))
	return n, err == nil && n >= 0 && n < p.rows()
}

// placeRows reads all rows of a kind, in one request.
func (db *DB) placeRows(ctx context.Context, p placesOf) iter.Seq2[placeRow, error] {
	return func(yield func(placeRow, error) bool) {
		for row, err := range db.query(ctx, &dynamodb.QueryInput{
			TableName:              aws.String(db.tables.Access),
			KeyConditionExpression: aws.String("pk = :pk AND begins_with(sk, :sk)"),
			ExpressionAttributeValues: item{
				":pk": str("customer#" + string(p.customer)), ":sk": str(p.prefix()),
			},
			ConsistentRead: aws.Bool(true),
		}) {
			r := placeRow{sk: stringOf(row[attrSK]), passed: passed(row, db.now())}
			if places, ok := row["places"].(*types.AttributeValueMemberM); ok {
				r.places = places.Value
			}
			if !yield(r, err) || err != nil {
				return
			}
		}
	}
}

// Places lists the ids that have a place of a kind whose time has not passed.
func (db *DB) Places(ctx context.Context, c whatisup.CustomerID, m whatisup.Mode, kind string) ([]string, error) {
	var ids []string
	for row, err := range db.placeRows(ctx, placesOf{customer: c, mode: m, kind: kind}) {
		if err != nil {
			return nil, err
		}
		for id := range row.places {
			if row.passed[id] == nil {
				ids = append(ids, id)
			}
		}
	}
	slices.Sort(ids)
	return slices.Compact(ids), nil
}

// Vacate gives places back before their time.
func (db *DB) Vacate(ctx context.Context, c whatisup.CustomerID, m whatisup.Mode, kind string, ids ...string) error {
	for row, err := range db.placeRows(ctx, placesOf{customer: c, mode: m, kind: kind}) {
		if err != nil {
			return err
		}
		left := map[string]types.AttributeValue{}
		for _, id := range ids {
			if until := row.places[id]; until != nil {
				left[id] = until
			}
		}
		if err := db.vacate(ctx, key("customer#"+string(c), row.sk), left); err != nil {
			return err
		}
	}
	return nil
}

// vacate removes places of a row, all or, if one of them was taken again or left
// meanwhile, none.
func (db *DB) vacate(ctx context.Context, k item, left map[string]types.AttributeValue) error {
	if len(left) == 0 {
		return nil
	}
	var remove, condition []string
	names, values := map[string]string{}, item{}
	for id, until := range left {
		n := strconv.Itoa(len(remove))
		remove = append(remove, "places.#"+n)
		condition = append(condition, "places.#"+n+" = :"+n)
		names["#"+n], values[":"+n] = id, until
	}
	_, err := db.client.UpdateItem(ctx, &dynamodb.UpdateItemInput{
		TableName: aws.String(db.tables.Access), Key: k,
		UpdateExpression:          aws.String("REMOVE " + strings.Join(remove, ", ")),
		ConditionExpression:       aws.String(strings.Join(condition, " AND ")),
		ExpressionAttributeNames:  names,
		ExpressionAttributeValues: values,
	})
	if err := translate(err); err != nil && !isConditionFailed(err) {
		return err
	}
	return nil
}

func passed(row item, now time.Time) map[string]types.AttributeValue {
	places, _ := row["places"].(*types.AttributeValueMemberM)
	if places == nil {
		return nil
	}
	past := map[string]types.AttributeValue{}
	for id, until := range places.Value {
		if intOf(until) <= now.UnixMilli() {
			past[id] = until
		}
	}
	return past
}
