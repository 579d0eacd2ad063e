package dynamo

import (
	"context"
	"errors"
	"log/slog"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"whatisup/shared/together"
	"whatisup/shared/whatisup"
)

// Inserting is a client whose puts share requests, those that put a row where nothing
// stands and that come while others are under way: see [together]. A received message
// makes three of them, and a host receives for many sessions at once.
//
// BatchWriteItem knows no conditions, so the request is a BatchExecuteStatement of
// PartiQL's INSERT. That puts an item where none with its key stands, each statement
// for itself, and costs what PutItem costs. Only its yes is believed: a row that it has
// not put for certain is put again by PutItem, which says what stands there. That may be
// the row itself, as after any answer that was lost, so a caller must know its own row.
type Inserting struct {
	*dynamodb.Client
	group *together.Group[insertion]
	log   *slog.Logger
	apart atomic.Int64 // until when no requests are shared, as Unix nanoseconds
}

type insertion struct {
	ctx context.Context // of its caller
	row *dynamodb.PutItemInput
}

const (
	// insertLanes is how many inserts are under way before others share a request.
	insertLanes = 2
	// insertsTogether is how many statements BatchExecuteStatement takes.
	insertsTogether = 25
	// insertPatience is what an insert may lose by waiting for company: about the time
	// of one request.
	insertPatience = 5 * time.Millisecond
	// insertWithin bounds a shared request, so that time is left to do it alone.
	insertWithin = time.Second
	// insertBytes is above which a row goes alone.
	insertBytes = 8 << 10
	// apartFor is for how long nothing is shared after a request that was refused
	// altogether: a role without the right to it, an endpoint that doesn't know it.
	apartFor = 10 * time.Minute
)

// NewInserting returns the client with its inserts shared.
func NewInserting(client *dynamodb.Client, log *slog.Logger) *Inserting {
	c := &Inserting{Client: client, log: log}
	c.group = &together.Group[insertion]{
		Lanes: insertLanes, Most: insertsTogether, Patience: insertPatience, Fits: otherKey, Send: c.send,
	}
	return c
}

// PutItem puts an item; see [Inserting].
func (c *Inserting) PutItem(ctx context.Context, in *dynamodb.PutItemInput, options ...func(*dynamodb.Options)) (*dynamodb.PutItemOutput, error) {
	if len(options) > 0 || time.Now().UnixNano() < c.apart.Load() || !isInsert(in) {
		return c.Client.PutItem(ctx, in, options...)
	}
	switch err := c.group.Do(ctx, insertion{ctx, in}); {
	case errors.Is(err, errNotInserted):
		return c.Client.PutItem(ctx, in)
	case err != nil:
		return nil, err
	}
	return &dynamodb.PutItemOutput{}, nil
}

// errNotInserted is the answer to a row that a shared request has not put for certain.
var errNotInserted = errors.New("not inserted")

func (c *Inserting) send(rows []insertion) []error {
	answers := make([]error, len(rows))
	if len(rows) == 1 {
		_, answers[0] = c.Client.PutItem(rows[0].ctx, rows[0].row)
		return answers
	}
	for i := range answers {
		answers[i] = errNotInserted
	}
	ctx, cancel := context.WithTimeout(context.Background(), insertWithin)
	defer cancel()
	statements := make([]types.BatchStatementRequest, len(rows))
	for i := range rows {
		statements[i] = statement(rows[i].row)
	}
	out, err := c.BatchExecuteStatement(ctx, &dynamodb.BatchExecuteStatementInput{Statements: statements})
	if err != nil {
		if !errors.Is(translate(err), whatisup.ErrUnavailable) {
			c.apart.Store(time.Now().Add(apartFor).UnixNano())
			c.log.Warn("rows can't share requests; each has one of its own for a while", "error", err.Error())
		}
		return answers
	}
	for i := range min(len(rows), len(out.Responses)) {
		if out.Responses[i].Error == nil {
			answers[i] = nil
		}
	}
	return answers
}

// plainName is an attribute's name that PartiQL takes as it is, within quotes.
var plainName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]{0,63}$`)

// isInsert says whether the put is one that a statement can do: of a small row, where
// nothing stands, with no other wish.
func isInsert(in *dynamodb.PutItemInput) bool {
	if aws.ToString(in.ConditionExpression) != "attribute_not_exists(pk)" || in.ReturnValues != "" || in.ReturnConsumedCapacity != "" ||
		len(in.ExpressionAttributeNames) > 0 || len(in.ExpressionAttributeValues) > 0 {
		return false
	}
	size := 0
	for name, value := range in.Item {
		if !plainName.MatchString(name) {
			return false
		}
		switch v := value.(type) {
		case *types.AttributeValueMemberS:
			size += len(v.Value)
		case *types.AttributeValueMemberB:
			size += len(v.Value)
		case *types.AttributeValueMemberN, *types.AttributeValueMemberBOOL, *types.AttributeValueMemberSS:
		default:
			return false
		}
	}
	return size <= insertBytes
}

// statement is the put as one. Names are in order, so that a statement of the same
// kind of row is the same text.
func statement(in *dynamodb.PutItemInput) types.BatchStatementRequest {
	names := make([]string, 0, len(in.Item))
	for name := range in.Item {
		names = append(names, name)
	}
	slices.Sort(names)
	var text strings.Builder
	text.WriteString(`INSERT INTO "` + aws.ToString(in.TableName) + `" VALUE {`)
	values := make([]types.AttributeValue, len(names))
	for i, name := range names {
		if i > 0 {
			text.WriteString(", ")
		}
		text.WriteString("'" + name + "': ?")
		values[i] = in.Item[name]
	}
	text.WriteString("}")
	return types.BatchStatementRequest{Statement: aws.String(text.String()), Parameters: values}
}

// otherKey: a request names each key once.
func otherKey(with []insertion, one insertion) bool {
	for _, o := range with {
		if aws.ToString(o.row.TableName) == aws.ToString(one.row.TableName) && sameText(o.row.Item, one.row.Item, "pk") && sameText(o.row.Item, one.row.Item, "sk") {
			return false
		}
	}
	return true
}

func sameText(a, b item, name string) bool {
	x, _ := a[name].(*types.AttributeValueMemberS)
	y, _ := b[name].(*types.AttributeValueMemberS)
	return x != nil && y != nil && x.Value == y.Value
}
