package devicestore

import (
	"context"
	"maps"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"go.mau.fi/whatsmeow/store"

	"whatisup/local/aws/awstest"
	"whatisup/shared/seal"
	"whatisup/shared/whatisup"
)

const (
	testTable = "devices"
	logTable  = "log"
	testKey   = "alias/test"
)

// bench is an embedded DynamoDB and KMS with the devices table, and one
// instance on it.
type bench struct {
	t        *testing.T
	cloud    *awstest.Instance
	db       *dynamodb.Client // the test's own
	keyring  *seal.Keyring
	instance Instance
	format   Format
	window   uint64 // rows are folded after this many entries; 0: as usual
}

// testFormat is how the tests store links, but for those about one format. "make
// conformance" runs them all with DEVICESTORE_FORMAT=rows, too.
var testFormat = func() Format {
	if os.Getenv("DEVICESTORE_FORMAT") == "rows" {
		return FormatRows
	}
	return FormatLog
}()

func newBench(t *testing.T) *bench {
	t.Helper()
	cloud := awstest.Start(t)
	db := dynamodb.NewFromConfig(cloud.Config)
	for _, name := range []string{testTable, logTable} {
		_, err := db.CreateTable(t.Context(), &dynamodb.CreateTableInput{
			TableName:   aws.String(name),
			BillingMode: types.BillingModePayPerRequest,
			AttributeDefinitions: []types.AttributeDefinition{
				{AttributeName: aws.String("pk"), AttributeType: types.ScalarAttributeTypeS},
				{AttributeName: aws.String("sk"), AttributeType: types.ScalarAttributeTypeS},
			},
			KeySchema: []types.KeySchemaElement{
				{AttributeName: aws.String("pk"), KeyType: types.KeyTypeHash},
				{AttributeName: aws.String("sk"), KeyType: types.KeyTypeRange},
			},
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	kmsClient := kms.NewFromConfig(cloud.Config)
	key, err := kmsClient.CreateKey(t.Context(), &kms.CreateKeyInput{})
	if err != nil {
		t.Fatal(err)
	}
	return &bench{
		t: t, cloud: cloud, db: db, keyring: seal.NewKeyring(kmsClient, *key.KeyMetadata.KeyId),
		instance: Instance{ID: whatisup.NewInstanceID(), CustomerID: whatisup.NewCustomerID(), Mode: whatisup.Test},
		format:   testFormat,
	}
}

// another is another instance on the same table.
func (b *bench) another(t *testing.T) *bench {
	c := *b
	c.t, c.instance.ID = t, whatisup.NewInstanceID()
	return &c
}

// adopt does what adoption does to the device row.
func (b *bench) adopt(epoch whatisup.Epoch) {
	b.t.Helper()
	_, err := b.db.UpdateItem(context.Background(), &dynamodb.UpdateItemInput{
		TableName: aws.String(testTable), Key: primaryKey(string(b.instance.ID), headSK),
		UpdateExpression:          aws.String("SET epoch = :e"),
		ConditionExpression:       aws.String("attribute_not_exists(epoch) OR epoch < :e"),
		ExpressionAttributeValues: map[string]types.AttributeValue{":e": num(epoch)},
	})
	if err != nil {
		b.t.Fatal(err)
	}
}

// host is a store with an open handle, as one session host has it.
type host struct {
	*Handle
	rec    *recorder
	store  *Store
	failed atomic.Int32
}

// open adopts the instance and opens a handle for it.
func (b *bench) open(epoch whatisup.Epoch) *host {
	b.t.Helper()
	b.adopt(epoch)
	return b.reopen(epoch)
}

// reopen opens another handle under an epoch that was adopted before.
func (b *bench) reopen(epoch whatisup.Epoch) *host {
	// Without the SDK's retries: what is tried again is this package's doing.
	h := &host{rec: &recorder{db: dynamodb.NewFromConfig(b.cloud.Config, func(o *dynamodb.Options) { o.RetryMaxAttempts = 1 })}}
	h.store = New(Config{Table: testTable, DynamoDB: h.rec, Keyring: b.keyring, Format: b.format})
	if b.window > 0 {
		h.store.foldSoon, h.store.foldNow = b.window, b.window+b.window/2
	}
	h.Handle = h.store.Open(b.instance, Fence{
		Epoch: epoch, Context: b.t.Context(), Fail: func(error) { h.failed.Add(1) },
	})
	return h
}

// pair makes a link with a made-up identity.
func (h *host) pair(t *testing.T, link whatisup.Link) *store.Device {
	t.Helper()
	device := h.New(link)
	pair(device, 1)
	if err := device.Save(t.Context()); err != nil {
		t.Fatal(err)
	}
	return device
}

func (h *host) load(t *testing.T) *store.Device {
	t.Helper()
	d, err := h.Load(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return d.Store
}

// settle writes what only the log has to its rows.
func (h *host) settle(t *testing.T) {
	t.Helper()
	if h.link.isLog() {
		if err := h.link.foldAll(t.Context(), false); err != nil {
			t.Fatal(err)
		}
	}
}

// lastCommit is the number of the last commit that the table has.
func (b *bench) lastCommit() uint64 {
	n, _ := numberAttr(b.head(), attrCommits)
	for _, row := range b.rows() {
		if entry, ok := entryNumber(stringAttr(row, attrSK)); ok {
			n = max(n, entry)
		}
	}
	return n
}

// withoutEntries is a snapshot without the entries of logs, which stay until
// their time is over; only an end may be new among them.
func withoutEntries(rows map[string]string) map[string]string {
	rows = maps.Clone(rows)
	maps.DeleteFunc(rows, func(key, _ string) bool { return strings.Contains(key, " "+kindEntry+"#") })
	return rows
}

// recorder counts requests, and lets a test stand before and behind each.
type recorder struct {
	db DynamoDB

	mu     sync.Mutex
	calls  []string
	tables map[string]float64 // write units by table
	write  float64            // units
	read   float64
	before func(op string) error            // its error stands for the call, which is not made
	after  func(op string, err error) error // replaces the call's error
	puts   func(sk string)                  // before each single put
}

func (r *recorder) hook(before func(string) error, after func(string, error) error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.before, r.after = before, after
}

// reset forgets what was counted.
func (r *recorder) reset() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.calls, r.write, r.read, r.tables = nil, 0, 0, nil
}

// counts returns how many writing and reading requests there were.
func (r *recorder) counts() (writes, reads int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, op := range r.calls {
		switch op {
		case "GetItem", "BatchGetItem", "Query":
			reads++
		default:
			writes++
		}
	}
	return writes, reads
}

func (r *recorder) units() (write, read float64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.write, r.read
}

// unitsOf is what writes to one table took.
func (r *recorder) unitsOf(table string) float64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.tables[table]
}

func observe[In, Out any](r *recorder, ctx context.Context, op string, in In, call func(context.Context, In, ...func(*dynamodb.Options)) (Out, error), capacity func(Out) []types.ConsumedCapacity, opts ...func(*dynamodb.Options)) (Out, error) {
	r.mu.Lock()
	r.calls = append(r.calls, op)
	before, after := r.before, r.after
	r.mu.Unlock()
	var none Out
	if before != nil {
		if err := before(op); err != nil {
			return none, err
		}
	}
	out, err := call(ctx, in, opts...)
	if err == nil {
		r.mu.Lock()
		for _, c := range capacity(out) {
			total := aws.ToFloat64(c.CapacityUnits)
			if r.tables == nil {
				r.tables = make(map[string]float64)
			}
			if isWrite(op) {
				r.tables[aws.ToString(c.TableName)] += total
			}
			switch op {
			case "GetItem", "BatchGetItem", "Query":
				r.read += total
			default:
				r.write += total
			}
		}
		r.mu.Unlock()
	}
	if after != nil {
		if err := after(op, err); err != nil {
			return none, err
		}
	}
	return out, err
}

func one(c *types.ConsumedCapacity) []types.ConsumedCapacity {
	if c == nil {
		return nil
	}
	return []types.ConsumedCapacity{*c}
}

func (r *recorder) GetItem(ctx context.Context, in *dynamodb.GetItemInput, opts ...func(*dynamodb.Options)) (*dynamodb.GetItemOutput, error) {
	in.ReturnConsumedCapacity = types.ReturnConsumedCapacityTotal
	return observe(r, ctx, "GetItem", in, r.db.GetItem, func(o *dynamodb.GetItemOutput) []types.ConsumedCapacity { return one(o.ConsumedCapacity) }, opts...)
}

func (r *recorder) BatchGetItem(ctx context.Context, in *dynamodb.BatchGetItemInput, opts ...func(*dynamodb.Options)) (*dynamodb.BatchGetItemOutput, error) {
	in.ReturnConsumedCapacity = types.ReturnConsumedCapacityTotal
	return observe(r, ctx, "BatchGetItem", in, r.db.BatchGetItem, func(o *dynamodb.BatchGetItemOutput) []types.ConsumedCapacity { return o.ConsumedCapacity }, opts...)
}

func (r *recorder) Query(ctx context.Context, in *dynamodb.QueryInput, opts ...func(*dynamodb.Options)) (*dynamodb.QueryOutput, error) {
	in.ReturnConsumedCapacity = types.ReturnConsumedCapacityTotal
	return observe(r, ctx, "Query", in, r.db.Query, func(o *dynamodb.QueryOutput) []types.ConsumedCapacity { return one(o.ConsumedCapacity) }, opts...)
}

func (r *recorder) PutItem(ctx context.Context, in *dynamodb.PutItemInput, opts ...func(*dynamodb.Options)) (*dynamodb.PutItemOutput, error) {
	in.ReturnConsumedCapacity = types.ReturnConsumedCapacityTotal
	r.mu.Lock()
	puts := r.puts
	r.mu.Unlock()
	if puts != nil {
		puts(stringAttr(in.Item, attrSK))
	}
	return observe(r, ctx, "PutItem", in, r.db.PutItem, func(o *dynamodb.PutItemOutput) []types.ConsumedCapacity { return one(o.ConsumedCapacity) }, opts...)
}

func (r *recorder) UpdateItem(ctx context.Context, in *dynamodb.UpdateItemInput, opts ...func(*dynamodb.Options)) (*dynamodb.UpdateItemOutput, error) {
	in.ReturnConsumedCapacity = types.ReturnConsumedCapacityTotal
	return observe(r, ctx, "UpdateItem", in, r.db.UpdateItem, func(o *dynamodb.UpdateItemOutput) []types.ConsumedCapacity { return one(o.ConsumedCapacity) }, opts...)
}

func (r *recorder) DeleteItem(ctx context.Context, in *dynamodb.DeleteItemInput, opts ...func(*dynamodb.Options)) (*dynamodb.DeleteItemOutput, error) {
	in.ReturnConsumedCapacity = types.ReturnConsumedCapacityTotal
	return observe(r, ctx, "DeleteItem", in, r.db.DeleteItem, func(o *dynamodb.DeleteItemOutput) []types.ConsumedCapacity { return one(o.ConsumedCapacity) }, opts...)
}

func (r *recorder) BatchWriteItem(ctx context.Context, in *dynamodb.BatchWriteItemInput, opts ...func(*dynamodb.Options)) (*dynamodb.BatchWriteItemOutput, error) {
	in.ReturnConsumedCapacity = types.ReturnConsumedCapacityTotal
	return observe(r, ctx, "BatchWriteItem", in, r.db.BatchWriteItem, func(o *dynamodb.BatchWriteItemOutput) []types.ConsumedCapacity { return o.ConsumedCapacity }, opts...)
}

func (r *recorder) TransactWriteItems(ctx context.Context, in *dynamodb.TransactWriteItemsInput, opts ...func(*dynamodb.Options)) (*dynamodb.TransactWriteItemsOutput, error) {
	in.ReturnConsumedCapacity = types.ReturnConsumedCapacityTotal
	return observe(r, ctx, "TransactWriteItems", in, r.db.TransactWriteItems, func(o *dynamodb.TransactWriteItemsOutput) []types.ConsumedCapacity { return o.ConsumedCapacity }, opts...)
}

// rows reads everything of the instance: the device row and the links up to 9.
func (b *bench) rows() []map[string]types.AttributeValue {
	b.t.Helper()
	var items []map[string]types.AttributeValue
	for n := range whatisup.Link(10) {
		pk := string(b.instance.ID)
		if n > 0 {
			pk = linkPartition(b.instance, n)
		}
		p := dynamodb.NewQueryPaginator(b.db, &dynamodb.QueryInput{
			TableName: aws.String(testTable), ConsistentRead: aws.Bool(true),
			KeyConditionExpression:    aws.String("pk = :pk"),
			ExpressionAttributeValues: map[string]types.AttributeValue{":pk": str(pk)},
		})
		for p.HasMorePages() {
			page, err := p.NextPage(context.Background())
			if err != nil {
				b.t.Fatal(err)
			}
			items = append(items, page.Items...)
		}
	}
	return items
}

// head reads the device row.
func (b *bench) head() map[string]types.AttributeValue {
	b.t.Helper()
	out, err := b.db.GetItem(context.Background(), &dynamodb.GetItemInput{
		TableName: aws.String(testTable), Key: primaryKey(string(b.instance.ID), headSK), ConsistentRead: aws.Bool(true),
	})
	if err != nil {
		b.t.Fatal(err)
	}
	return out.Item
}
