package move

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"iter"
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"whatisup/shared/dynamo"
)

type row = map[string]types.AttributeValue

const (
	batchRows  = 25 // of one BatchWriteItem
	batchBytes = 8 << 20
	batchTries = 12
)

// scan reads a whole table, consistently. The rows of a partition come one after another.
func scan(ctx context.Context, db *dynamodb.Client, table string) iter.Seq2[row, error] {
	return func(yield func(row, error) bool) {
		pages := dynamodb.NewScanPaginator(db, &dynamodb.ScanInput{TableName: &table, ConsistentRead: aws.Bool(true)})
		for pages.HasMorePages() {
			page, err := pages.NextPage(ctx)
			if err != nil {
				yield(nil, fmt.Errorf("%s: %w", table, err))
				return
			}
			for _, r := range page.Items {
				if !yield(r, nil) {
					return
				}
			}
		}
	}
}

// writer puts rows into a table, a batch at a time, and removes rows.
type writer struct {
	db      *dynamodb.Client
	table   string
	waiting []types.WriteRequest
	bytes   int
}

func (w *writer) put(ctx context.Context, r row) error {
	return w.add(ctx, types.WriteRequest{PutRequest: &types.PutRequest{Item: r}}, size(r))
}

func (w *writer) remove(ctx context.Context, key row) error {
	return w.add(ctx, types.WriteRequest{DeleteRequest: &types.DeleteRequest{Key: key}}, 0)
}

func (w *writer) add(ctx context.Context, r types.WriteRequest, bytes int) error {
	if len(w.waiting) == batchRows || len(w.waiting) > 0 && w.bytes+bytes > batchBytes {
		if err := w.flush(ctx); err != nil {
			return err
		}
	}
	w.waiting, w.bytes = append(w.waiting, r), w.bytes+bytes
	return nil
}

// flush writes what waits. What DynamoDB puts off is sent again, ever later.
func (w *writer) flush(ctx context.Context) error {
	left := w.waiting
	w.waiting, w.bytes = nil, 0
	for try, wait := 0, 50*time.Millisecond; len(left) > 0; try, wait = try+1, min(2*wait, 5*time.Second) {
		if try == batchTries {
			return fmt.Errorf("%s: DynamoDB does not take %d rows; run the move again later", w.table, len(left))
		}
		if try > 0 {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(wait/2 + rand.N(wait)):
			}
		}
		out, err := w.db.BatchWriteItem(ctx, &dynamodb.BatchWriteItemInput{RequestItems: map[string][]types.WriteRequest{w.table: left}})
		if _, slow := errors.AsType[*types.ProvisionedThroughputExceededException](err); slow {
			continue
		} else if err != nil {
			return fmt.Errorf("%s: %w", w.table, err)
		}
		left = out.UnprocessedItems[w.table]
	}
	return nil
}

// size is about how many bytes a row has on its way.
func size(r row) (n int) {
	for name, v := range r {
		n += len(name) + 16
		switch v := v.(type) {
		case *types.AttributeValueMemberS:
			n += len(v.Value)
		case *types.AttributeValueMemberB:
			n += len(v.Value) * 4 / 3
		case *types.AttributeValueMemberM:
			n += size(v.Value)
		case *types.AttributeValueMemberL:
			for _, one := range v.Value {
				n += size(row{"": one})
			}
		}
	}
	return n
}

// print is what a row is compared by.
type print [sha256.Size]byte

func printOf(r row) (p print) {
	h := sha256.New()
	write(h, &types.AttributeValueMemberM{Value: r})
	h.Sum(p[:0])
	return p
}

func write(h hash.Hash, v types.AttributeValue) {
	part := func(kind byte, values ...[]byte) {
		h.Write([]byte{kind})
		for _, b := range append([][]byte{binary.AppendUvarint(nil, uint64(len(values)))}, values...) {
			h.Write(binary.AppendUvarint(nil, uint64(len(b))))
			h.Write(b)
		}
	}
	sorted := func(kind byte, all []string) {
		part(kind)
		for _, s := range slices.Sorted(slices.Values(all)) {
			part('e', []byte(s))
		}
	}
	switch v := v.(type) {
	case *types.AttributeValueMemberS:
		part('S', []byte(v.Value))
	case *types.AttributeValueMemberN:
		part('N', []byte(v.Value))
	case *types.AttributeValueMemberB:
		part('B', v.Value)
	case *types.AttributeValueMemberBOOL:
		part('b', fmt.Append(nil, v.Value))
	case *types.AttributeValueMemberNULL:
		part('0')
	case *types.AttributeValueMemberSS:
		sorted('s', v.Value)
	case *types.AttributeValueMemberNS:
		sorted('n', v.Value)
	case *types.AttributeValueMemberBS:
		var all []string
		for _, b := range v.Value {
			all = append(all, string(b))
		}
		sorted('x', all)
	case *types.AttributeValueMemberL:
		part('L', fmt.Append(nil, len(v.Value)))
		for _, one := range v.Value {
			write(h, one)
		}
	case *types.AttributeValueMemberM:
		part('M', fmt.Append(nil, len(v.Value)))
		for _, name := range slices.Sorted(maps.Keys(v.Value)) {
			part('k', []byte(name))
			write(h, v.Value[name])
		}
	}
}

// copier makes one table of the target what the source's is, partition by partition, and
// reads back what it wrote.
type copier struct {
	to      writer
	sorted  bool // the table has a sort key
	now     time.Time
	current string
	seen    map[string]bool  // partitions that are done
	rows    map[string]print // of the current one, by sort key
	n       int
}

func newCopier(db *dynamodb.Client, table string, sorted bool) *copier {
	return &copier{to: writer{db: db, table: table}, sorted: sorted, now: time.Now(), seen: map[string]bool{}}
}

func text(v types.AttributeValue) string {
	s, _ := v.(*types.AttributeValueMemberS)
	if s == nil {
		return ""
	}
	return s.Value
}

// put copies a row. Rows whose time is over are left out: every reader passes over them.
func (c *copier) put(ctx context.Context, r row) error {
	if end := dynamo.Expires(r); !end.IsZero() && end.Before(c.now) {
		return nil
	}
	if pk := text(r["pk"]); pk != c.current || c.rows == nil {
		if err := c.finish(ctx); err != nil {
			return err
		}
		if c.seen[pk] && c.sorted {
			return fmt.Errorf("%s: the rows of a partition are not one after another", c.to.table)
		}
		c.current, c.rows = pk, map[string]print{}
	}
	c.rows[text(r["sk"])] = printOf(r)
	return c.to.put(ctx, r)
}

// finish compares the current partition at the target with what it should be, and
// removes what an earlier run left there.
func (c *copier) finish(ctx context.Context) error {
	if c.rows == nil {
		return nil
	}
	rows := c.rows
	c.n, c.rows, c.seen[c.current] = c.n+len(rows), nil, true
	if !c.sorted {
		return nil // each row is a partition; they are counted in the end
	}
	if err := c.to.flush(ctx); err != nil {
		return err
	}
	pages := dynamodb.NewQueryPaginator(c.to.db, &dynamodb.QueryInput{
		TableName: &c.to.table, ConsistentRead: aws.Bool(true), KeyConditionExpression: aws.String("pk = :pk"),
		ExpressionAttributeValues: row{":pk": &types.AttributeValueMemberS{Value: c.current}},
	})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return fmt.Errorf("%s: %w", c.to.table, err)
		}
		for _, r := range page.Items {
			want, ok := rows[text(r["sk"])]
			if !ok {
				if err := c.to.remove(ctx, row{"pk": r["pk"], "sk": r["sk"]}); err != nil {
					return err
				}
				continue
			}
			if printOf(r) != want {
				return fmt.Errorf("%s: a row is not at the target as it was written: run the move again", c.to.table)
			}
			delete(rows, text(r["sk"]))
		}
	}
	if len(rows) > 0 {
		return fmt.Errorf("%s: %d rows of a partition did not come to the target: run the move again", c.to.table, len(rows))
	}
	return c.to.flush(ctx)
}

// done ends the table, and says how many rows were copied.
func (c *copier) done(ctx context.Context) (int, error) {
	if err := c.finish(ctx); err != nil {
		return c.n, err
	}
	return c.n, c.to.flush(ctx)
}
