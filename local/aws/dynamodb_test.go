package aws_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	ddb "github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	local "whatisup/local/aws"
	"whatisup/local/aws/awstest"
)

type attributes = map[string]ddb.AttributeValue

// tableTest is a table "tab" with the calls that tests make on it.
type tableTest struct {
	t   testing.TB
	aws *awstest.Instance
	c   *dynamodb.Client
}

func newTableTest(t testing.TB) *tableTest {
	t.Helper()
	a := awstest.Start(t)
	tt := &tableTest{t, a, dynamodb.NewFromConfig(a.Config, func(o *dynamodb.Options) { o.RetryMaxAttempts = 1 })}
	newTable(t, tt.c, "tab")
	return tt
}

var table = sdk.String("tab")

func key(pk string) attributes { return attributes{"pk": s(pk), "sk": s("-")} }

func (tt *tableTest) put(item attributes) {
	tt.t.Helper()
	if _, err := tt.c.PutItem(context.Background(), &dynamodb.PutItemInput{TableName: table, Item: item}); err != nil {
		tt.t.Fatal(err)
	}
}

func (tt *tableTest) get(pk string) attributes {
	tt.t.Helper()
	out, err := tt.c.GetItem(context.Background(), &dynamodb.GetItemInput{TableName: table, Key: key(pk), ConsistentRead: sdk.Bool(true)})
	if err != nil {
		tt.t.Fatal(err)
	}
	return out.Item
}

func (tt *tableTest) number(pk string) int {
	tt.t.Helper()
	v, ok := tt.get(pk)["n"].(*ddb.AttributeValueMemberN)
	if !ok {
		return 0
	}
	i, err := strconv.Atoi(v.Value)
	if err != nil {
		tt.t.Fatal(err)
	}
	return i
}

func with(item attributes, name string, v ddb.AttributeValue) attributes {
	item[name] = v
	return item
}

// raw calls an operation with a JSON text.
func (tt *tableTest) raw(operation, body string) reply {
	tt.t.Helper()
	return call(tt.t, tt.aws.Endpoint, operation, []byte(body))
}

func (tt *tableTest) wantError(operation, body, kind, message string) {
	tt.t.Helper()
	if r := tt.raw(operation, body); outcome(r) != kind || !strings.Contains(r.message, message) {
		tt.t.Errorf("%s %.200s\ngot  %s\nwant %s: %s", operation, body, r, kind, message)
	}
}

// TestIncrements has 16 writers count with conditional updates: none is lost.
func TestIncrements(t *testing.T) {
	t.Parallel()
	tt := newTableTest(t)
	tt.put(with(key("counter"), "n", n("0")))
	const writers, each = 16, 12
	var wg sync.WaitGroup
	for range writers {
		wg.Go(func() {
			for done := 0; done < each; {
				now := strconv.Itoa(tt.number("counter"))
				_, err := tt.c.UpdateItem(context.Background(), &dynamodb.UpdateItemInput{
					TableName: table, Key: key("counter"), UpdateExpression: sdk.String("SET n = n + :one"), ConditionExpression: sdk.String("n = :now"),
					ExpressionAttributeValues: attributes{":one": n("1"), ":now": n(now)},
				})
				var failed *ddb.ConditionalCheckFailedException
				switch {
				case err == nil:
					done++
				case !errors.As(err, &failed):
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	if got := tt.number("counter"); got != writers*each {
		t.Errorf("counted %d of %d", got, writers*each)
	}
}

// TestTransfers moves amounts between accounts in transactions while readers
// add all accounts up: the sum never changes.
func TestTransfers(t *testing.T) {
	t.Parallel()
	tt := newTableTest(t)
	const accounts, start = 5, 100
	var gets []ddb.TransactGetItem
	for i := range accounts {
		tt.put(with(key(fmt.Sprint(i)), "n", n(strconv.Itoa(start))))
		gets = append(gets, ddb.TransactGetItem{Get: &ddb.Get{TableName: table, Key: key(fmt.Sprint(i))}})
	}
	var writers, readers sync.WaitGroup
	stop := make(chan struct{})
	for w := range 6 {
		writers.Go(func() {
			for i := range 25 {
				from, to := (w+i)%accounts, (w+2*i+1)%accounts
				if from == to {
					continue
				}
				move := func(account, sign string) ddb.TransactWriteItem {
					return ddb.TransactWriteItem{Update: &ddb.Update{
						TableName: table, Key: key(account), UpdateExpression: sdk.String("SET n = n " + sign + " :x"), ConditionExpression: sdk.String("n >= :x"),
						ExpressionAttributeValues: attributes{":x": n("7")},
					}}
				}
				_, err := tt.c.TransactWriteItems(context.Background(), &dynamodb.TransactWriteItemsInput{TransactItems: []ddb.TransactWriteItem{move(fmt.Sprint(from), "-"), move(fmt.Sprint(to), "+")}})
				var cancelled *ddb.TransactionCanceledException
				if err != nil && !errors.As(err, &cancelled) {
					t.Error(err)
					return
				}
			}
		})
	}
	readers.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			out, err := tt.c.TransactGetItems(context.Background(), &dynamodb.TransactGetItemsInput{TransactItems: gets})
			if err != nil {
				t.Error(err)
				return
			}
			sum := 0
			for _, r := range out.Responses {
				i, _ := strconv.Atoi(r.Item["n"].(*ddb.AttributeValueMemberN).Value)
				sum += i
			}
			if sum != accounts*start {
				t.Errorf("the sum is %d", sum)
				return
			}
		}
	})
	writers.Wait()
	close(stop)
	readers.Wait()
}

func TestTransactions(t *testing.T) {
	t.Parallel()
	tt := newTableTest(t)
	tt.put(with(key("there"), "n", n("1")))
	// Reasons come in the order of the parts, with the old item where asked for.
	r := tt.raw("TransactWriteItems", `{"TransactItems":[
		{"Put":{"TableName":"tab","Item":{"pk":{"S":"new"},"sk":{"S":"-"}}}},
		{"Delete":{"TableName":"tab","Key":{"pk":{"S":"there"},"sk":{"S":"-"}},"ConditionExpression":"n = :x","ExpressionAttributeValues":{":x":{"N":"2"}},"ReturnValuesOnConditionCheckFailure":"ALL_OLD"}},
		{"Update":{"TableName":"tab","Key":{"pk":{"S":"there2"},"sk":{"S":"-"}},"UpdateExpression":"SET a.b = :x","ExpressionAttributeValues":{":x":{"N":"2"}}}}]}`)
	want := `{"__type":"com.amazonaws.dynamodb.v20120810#TransactionCanceledException","Message":"Transaction cancelled, please refer cancellation reasons for specific reasons [None, ConditionalCheckFailed, ValidationError]",` +
		`"CancellationReasons":[{"Code":"None"},{"Code":"ConditionalCheckFailed","Message":"The conditional request failed","Item":{"n":{"N":"1"},"pk":{"S":"there"},"sk":{"S":"-"}}},` +
		`{"Code":"ValidationError","Message":"The document path provided in the update expression is invalid for update"}]}`
	if r.raw != want {
		t.Errorf("got  %s\nwant %s", r.raw, want)
	}
	if len(tt.get("new")) != 0 {
		t.Error("a cancelled transaction wrote")
	}
	put := func(item string) string { return `{"Put":{"TableName":"tab","Item":` + item + `}}` }
	one := put(`{"pk":{"S":"a"},"sk":{"S":"-"}}`)
	tt.wantError("TransactWriteItems", `{"TransactItems":[`+one+`,`+one+`]}`, "ValidationException", "Transaction request cannot include multiple operations on one item")
	tt.wantError("TransactWriteItems", `{"TransactItems":[]}`, "ValidationException", "Member must have length greater than or equal to 1")
	tt.wantError("TransactWriteItems", `{"TransactItems":[`+strings.Repeat(one+",", 100)+one+`]}`, "ValidationException", "Member must have length less than or equal to 100")
	tt.wantError("TransactWriteItems", `{"TransactItems":[`+put(`{"pk":{"S":""},"sk":{"S":"-"}}`)+`]}`, "ValidationException", "One or more parameter values are not valid. The AttributeValue for a key attribute cannot contain an empty string value. Key: pk")
	tt.wantError("TransactWriteItems", `{"TransactItems":[`+put(`{"pk":{"N":"1"},"sk":{"S":"-"}}`)+`]}`, "TransactionCanceledException", "[ValidationError]")
	tt.wantError("TransactWriteItems", `{"TransactItems":[{"Put":{"TableName":"nope","Item":{"pk":{"S":"a"}}}}]}`, "ResourceNotFoundException", "Requested resource not found")
	tt.wantError("TransactWriteItems", `{"TransactItems":[{}]}`, "ValidationException", "TransactWriteRequest should contain Delete or Put or Update request")
	tt.wantError("TransactWriteItems", `{"TransactItems":[{"ConditionCheck":{"TableName":"tab","Key":{"pk":{"S":"a"},"sk":{"S":"-"}}}}]}`, "ValidationException", "conditionCheck.conditionExpression")

	// A token makes the same request happen once, for ten minutes.
	add := func(by string) string {
		return `{"ClientRequestToken":"token","ReturnConsumedCapacity":"TOTAL","TransactItems":[{"Update":{"TableName":"tab","Key":{"pk":{"S":"there"},"sk":{"S":"-"}},"UpdateExpression":"ADD n :x","ExpressionAttributeValues":{":x":{"N":"` + by + `"}}}}]}`
	}
	first := tt.raw("TransactWriteItems", add("1"))
	second := tt.raw("TransactWriteItems", add("1"))
	if got := tt.number("there"); got != 2 || first.status != 200 || second.status != 200 {
		t.Errorf("n is %d after %s and %s", got, first, second)
	}
	if !strings.Contains(first.raw, `"WriteCapacityUnits":2`) || !strings.Contains(second.raw, `"ReadCapacityUnits":2`) {
		t.Errorf("capacity: %s, then %s", first.raw, second.raw)
	}
	tt.wantError("TransactWriteItems", add("2"), "IdempotentParameterMismatchException", "")
	tt.aws.Step(11 * time.Minute)
	if r := tt.raw("TransactWriteItems", add("2")); r.status != 200 || tt.number("there") != 4 {
		t.Errorf("after the token's time: %s, n is %d", r, tt.number("there"))
	}
	// A cancelled transaction does not use its token up.
	tt.wantError("TransactWriteItems", `{"ClientRequestToken":"free","TransactItems":[{"Put":{"TableName":"tab","Item":{"pk":{"S":"there"},"sk":{"S":"-"}},"ConditionExpression":"attribute_not_exists(pk)"}}]}`, "TransactionCanceledException", "")
	if r := tt.raw("TransactWriteItems", `{"ClientRequestToken":"free","TransactItems":[`+one+`]}`); r.status != 200 {
		t.Errorf("a token of a cancelled transaction: %s", r)
	}

	tt.wantError("TransactGetItems", `{"TransactItems":[{"Get":{"TableName":"tab","Key":{"pk":{"S":"there"},"sk":{"S":"-"}}}},{"Get":{"TableName":"tab","Key":{}}}]}`, "TransactionCanceledException", "[None, ValidationError]")
	r = tt.raw("TransactGetItems", `{"TransactItems":[{"Get":{"TableName":"tab","Key":{"pk":{"S":"gone"},"sk":{"S":"-"}}}},{"Get":{"TableName":"tab","Key":{"pk":{"S":"there"},"sk":{"S":"-"}},"ProjectionExpression":"n"}}]}`)
	if r.raw != `{"Responses":[{},{"Item":{"n":{"N":"4"}}}]}` {
		t.Errorf("TransactGetItems: %s", r.raw)
	}
}

func TestTimeToLive(t *testing.T) {
	t.Parallel()
	tt := newTableTest(t)
	ctx := t.Context()
	at := func(d time.Duration) ddb.AttributeValue { return n(strconv.FormatInt(tt.aws.Now().Add(d).Unix(), 10)) }
	tt.put(with(key("before"), "ttl", at(time.Hour))) // there before TTL is on
	_, err := tt.c.UpdateTimeToLive(ctx, &dynamodb.UpdateTimeToLiveInput{TableName: table, TimeToLiveSpecification: &ddb.TimeToLiveSpecification{AttributeName: sdk.String("ttl"), Enabled: sdk.Bool(true)}})
	if err != nil {
		t.Fatal(err)
	}
	d, err := tt.c.DescribeTimeToLive(ctx, &dynamodb.DescribeTimeToLiveInput{TableName: table})
	if err != nil || d.TimeToLiveDescription.TimeToLiveStatus != ddb.TimeToLiveStatusEnabled || *d.TimeToLiveDescription.AttributeName != "ttl" {
		t.Errorf("described as %+v, %v", d, err)
	}
	tt.put(with(with(key("soon"), "ttl", at(time.Hour)), "kind", s("x")))
	tt.put(with(key("later"), "ttl", at(3*time.Hour)))
	tt.put(with(key("text"), "ttl", s("1")))
	tt.put(with(key("ancient"), "ttl", at(-6*365*24*time.Hour)))
	tt.put(with(key("moved"), "ttl", at(time.Hour)))
	tt.put(with(key("moved"), "ttl", at(3*time.Hour)))
	sweep := func(want int) {
		t.Helper()
		if got, err := tt.aws.Sweep(ctx); err != nil || got != want {
			t.Errorf("swept %d items, %v; want %d", got, err, want)
		}
	}
	tt.aws.Step(time.Hour + 30*time.Second)
	sweep(0) // expired items stay for a while
	if len(tt.get("soon")) == 0 {
		t.Error("an expired item is not readable until it is swept")
	}
	tt.aws.Step(time.Minute)
	sweep(2)
	for pk, want := range map[string]bool{"before": false, "soon": false, "later": true, "text": true, "ancient": true, "moved": true} {
		if got := len(tt.get(pk)) > 0; got != want {
			t.Errorf("%s is there: %t", pk, got)
		}
	}
	q := tt.raw("Query", `{"TableName":"tab","IndexName":"by-kind","KeyConditionExpression":"kind = :k","ExpressionAttributeValues":{":k":{"S":"x"}},"Select":"COUNT"}`)
	if q.status != 200 || !strings.Contains(q.raw, `"Count":0`) {
		t.Errorf("the index after the sweep: %s", q)
	}
	tt.aws.Step(2 * time.Hour)
	sweep(2)
	tt.wantError("UpdateTimeToLive", `{"TableName":"tab","TimeToLiveSpecification":{"AttributeName":"ttl","Enabled":true}}`, "ValidationException", "TimeToLive is already enabled")
	if r := tt.raw("UpdateTimeToLive", `{"TableName":"tab","TimeToLiveSpecification":{"AttributeName":"ttl","Enabled":false}}`); r.status != 200 {
		t.Errorf("switching off: %s", r)
	}
	tt.put(with(key("kept"), "ttl", at(-time.Hour)))
	sweep(0)
}

// TestPages reads a table and an index in pages, in both directions, by item
// count and by size.
func TestPages(t *testing.T) {
	t.Parallel()
	tt := newTableTest(t)
	tt.c = dynamodb.NewFromConfig(tt.aws.Config) // large answers may need to be asked for again
	const items = 30
	for i := range items {
		item := attributes{"pk": s("p"), "sk": s(fmt.Sprintf("%02d", i)), "kind": s("k"), "at": n(strconv.Itoa(items - i)), "name": s(strings.Repeat("x", 60<<10))}
		if i%3 == 0 {
			delete(item, "kind") // not in the index
		}
		tt.put(item)
	}
	read := func(in dynamodb.QueryInput) (keys []string, pages int) {
		t.Helper()
		for {
			out, err := tt.c.Query(t.Context(), &in)
			if err != nil {
				t.Fatal(err)
			}
			pages++
			for _, i := range out.Items {
				keys = append(keys, i["sk"].(*ddb.AttributeValueMemberS).Value)
			}
			if out.LastEvaluatedKey == nil {
				return keys, pages
			}
			in.ExclusiveStartKey = out.LastEvaluatedKey
		}
	}
	base := dynamodb.QueryInput{TableName: table, KeyConditionExpression: sdk.String("pk = :p"), ExpressionAttributeValues: attributes{":p": s("p")}}
	index := dynamodb.QueryInput{TableName: table, IndexName: sdk.String("by-kind"), KeyConditionExpression: sdk.String("kind = :p"), ExpressionAttributeValues: attributes{":p": s("k")}}
	for name, c := range map[string]struct {
		in          dynamodb.QueryInput
		n, pages    int
		first, last string
	}{
		"table": {base, 30, 2, "00", "29"},
		"index": {index, 20, 2, "29", "01"},
	} {
		for _, backward := range []bool{false, true} {
			in := c.in
			in.ScanIndexForward = sdk.Bool(!backward)
			first, last := c.first, c.last
			if backward {
				first, last = last, first
			}
			keys, pages := read(in)
			if len(keys) != c.n || pages != c.pages || keys[0] != first || keys[len(keys)-1] != last {
				t.Errorf("%s, backward %t: %d keys in %d pages: %v", name, backward, len(keys), pages, keys)
			}
			in.Limit = sdk.Int32(7)
			small, pages := read(in)
			if fmt.Sprint(small) != fmt.Sprint(keys) || pages != c.n/7+1 {
				t.Errorf("%s, backward %t, limited: %d pages: %v", name, backward, pages, small)
			}
		}
	}
	in := base
	in.Limit, in.FilterExpression = sdk.Int32(10), sdk.String("attribute_not_exists(kind)")
	out, err := tt.c.Query(t.Context(), &in)
	if err != nil || out.Count != 4 || out.ScannedCount != 10 || out.LastEvaluatedKey == nil {
		t.Errorf("a filter after the limit: %d of %d, %v", out.Count, out.ScannedCount, err)
	}
	// All segments of a scan together are the table, and none overlap.
	seen := map[string]bool{}
	for i := range 200 {
		tt.put(key(fmt.Sprint("spread", i)))
	}
	for segment := range int32(4) {
		scan := dynamodb.ScanInput{TableName: table, Segment: &segment, TotalSegments: sdk.Int32(4), Limit: sdk.Int32(20)}
		for {
			out, err := tt.c.Scan(t.Context(), &scan)
			if err != nil {
				t.Fatal(err)
			}
			for _, i := range out.Items {
				id := fmt.Sprint(i["pk"].(*ddb.AttributeValueMemberS).Value, i["sk"].(*ddb.AttributeValueMemberS).Value)
				if seen[id] {
					t.Errorf("%s was read twice", id)
				}
				seen[id] = true
			}
			if scan.ExclusiveStartKey = out.LastEvaluatedKey; out.LastEvaluatedKey == nil {
				break
			}
		}
	}
	if len(seen) != items+200 {
		t.Errorf("scanned %d items", len(seen))
	}
}

func TestValidation(t *testing.T) {
	t.Parallel()
	tt := newTableTest(t)
	nested := func(levels int) string {
		return strings.Repeat(`{"M":{"n":`, levels) + `{"S":"leaf"}` + strings.Repeat("}}", levels)
	}
	put := func(more string) string {
		return `{"TableName":"tab","Item":{"pk":{"S":"a"},"sk":{"S":"b"}` + more + `}}`
	}
	if r := tt.raw("PutItem", put(`,"deep":`+nested(31))); r.status != 200 {
		t.Errorf("31 levels: %s", r)
	}
	tt.wantError("PutItem", put(`,"deep":`+nested(32)), "ValidationException", "Nesting Levels have exceeded supported limits")
	if r := tt.raw("PutItem", put(`,"big":{"S":"`+strings.Repeat("x", 400<<10-9)+`"}`)); r.status != 200 {
		t.Errorf("400 KB: %.200s", r)
	}
	tt.wantError("PutItem", put(`,"big":{"S":"`+strings.Repeat("x", 400<<10-8)+`"}`), "ValidationException", "Item size has exceeded the maximum allowed size")
	tt.wantError("UpdateItem", `{"TableName":"tab","Key":{"pk":{"S":"a"},"sk":{"S":"b"}},"UpdateExpression":"SET more = :m","ExpressionAttributeValues":{":m":{"S":"more"}}}`, "ValidationException", "Item size to update has exceeded the maximum allowed size")
	tt.wantError("PutItem", `{"TableName":"tab","Item":{"pk":{"S":"`+strings.Repeat("x", 2049)+`"},"sk":{"S":"b"}}}`, "ValidationException", "Size of hashkey has exceeded the maximum size limit of2048 bytes")
	tt.wantError("PutItem", put(`,"kind":{"N":"1"}`), "ValidationException", "Type mismatch for Index Key kind Expected: S Actual: N IndexName: by-kind")
	tt.wantError("PutItem", put(`,"n":{"N":"1e126"}`), "ValidationException", "Number overflow")
	tt.wantError("UpdateItem", `{"TableName":"tab","Key":{"pk":{"S":"a"},"sk":{"S":"b"}},"UpdateExpression":"SET pk = :m","ExpressionAttributeValues":{":m":{"S":"more"}}}`, "ValidationException", "Cannot update attribute pk. This attribute is part of the key")
	tt.wantError("GetItem", `{"TableName":"tab","Key":{"pk":{"S":"a"}}}`, "ValidationException", "The provided key element does not match the schema")
	tt.wantError("GetItem", `{"TableName":"other","Key":{"pk":{"S":"a"}}}`, "ResourceNotFoundException", "Requested resource not found")
	deletion := `{"DeleteRequest":{"Key":{"pk":{"S":"a"},"sk":{"S":"b"}}}}`
	twice := deletion + "," + deletion
	many := strings.Repeat(deletion+",", 25) + deletion
	tt.wantError("BatchWriteItem", `{"RequestItems":{"tab":[`+many+`]}}`, "ValidationException", "Member must have length less than or equal to 25")
	tt.wantError("BatchWriteItem", `{"RequestItems":{"tab":[`+twice+`]}}`, "ValidationException", "Provided list of item keys contains duplicates")
	tt.wantError("PutItem", `[1]`, "SerializationException", "")
	tt.wantError("PutItem", `{"TableName":"tab","Item":`, "SerializationException", "")

	// A reader of its own table is told what it cost.
	r := tt.raw("PutItem", `{"TableName":"tab","ReturnConsumedCapacity":"INDEXES","Item":{"pk":{"S":"c"},"sk":{"S":"b"},"kind":{"S":"x"},"at":{"N":"1"},"pad":{"S":"`+strings.Repeat("x", 1500)+`"}}}`)
	if r.raw != `{"ConsumedCapacity":{"TableName":"tab","CapacityUnits":3,"Table":{"CapacityUnits":2},"GlobalSecondaryIndexes":{"by-kind":{"CapacityUnits":1}}}}` {
		t.Errorf("capacity of a put: %s", r.raw)
	}
	r = tt.raw("GetItem", `{"TableName":"tab","ReturnConsumedCapacity":"TOTAL","Key":{"pk":{"S":"none"},"sk":{"S":"b"}}}`)
	if r.raw != `{"ConsumedCapacity":{"TableName":"tab","CapacityUnits":0.5}}` {
		t.Errorf("capacity of a get: %s", r.raw)
	}
}

// TestUnknown asks for what is not there: the answer names it, and it is counted.
func TestUnknown(t *testing.T) {
	t.Parallel()
	server, err := local.Open(local.Config{Path: t.TempDir() + "/aws.db"})
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	endpoint := serve(t, server)
	for request, want := range map[[2]string]string{
		{"DynamoDB_20120810.ExecuteStatement", `{}`}:                                                                  "DynamoDB_20120810.ExecuteStatement",
		{"DynamoDB_20120810.PutItem", `{"TableName":"tab","Item":{"a":{"S":"x"}},"Expected":{"a":{"Exists":false}}}`}: "PutItem.Expected",
		{"AmazonSQS.StartMessageMoveTask", `{}`}:                                                                      "AmazonSQS.StartMessageMoveTask",
		{"TrentService.Sign", `{}`}:                                                                                   "TrentService.Sign",
		{"AmazonSNS.Publish", `{}`}:                                                                                   "AmazonSNS.Publish",
	} {
		req := newRequest(t, endpoint, request[0], request[1])
		status, body := do(t, req)
		if status != 400 || !strings.Contains(body, "the embedded AWS does not implement "+want) {
			t.Errorf("%v: %d %s", request, status, body)
		}
	}
	total := 0
	for _, n := range server.Unknown() {
		total += n
	}
	if total != 5 {
		t.Errorf("counted %v", server.Unknown())
	}
}

func TestFaults(t *testing.T) {
	t.Parallel()
	tt := newTableTest(t)
	ctx := t.Context()
	inject := func(f local.Fault) {
		t.Helper()
		if err := tt.aws.Inject(f); err != nil {
			t.Fatal(err)
		}
	}
	put := func() error {
		_, err := tt.c.PutItem(ctx, &dynamodb.PutItemInput{TableName: table, Item: key("x")})
		return err
	}
	inject(local.Fault{Kind: local.Throttle, Service: "dynamodb", Operation: "PutItem", Resource: "tab", Skip: 1, Times: 1})
	if err := put(); err != nil {
		t.Errorf("a skipped request: %v", err)
	}
	var throttled *ddb.ProvisionedThroughputExceededException
	if err := put(); !errors.As(err, &throttled) {
		t.Errorf("throttled: %v", err)
	}
	if err := put(); err != nil {
		t.Errorf("after the fault: %v", err)
	}
	inject(local.Fault{Kind: local.Conflict, Times: 2})
	var conflict *ddb.TransactionConflictException
	if err := put(); !errors.As(err, &conflict) {
		t.Errorf("conflict: %v", err)
	}
	_, err := tt.c.TransactWriteItems(ctx, &dynamodb.TransactWriteItemsInput{TransactItems: []ddb.TransactWriteItem{{Put: &ddb.Put{TableName: table, Item: key("y")}}}})
	var cancelled *ddb.TransactionCanceledException
	if !errors.As(err, &cancelled) || *cancelled.CancellationReasons[0].Code != "TransactionConflict" {
		t.Errorf("conflict in a transaction: %v", err)
	}
	inject(local.Fault{Kind: local.Latency, Delay: 60 * time.Millisecond, Times: 1})
	if start := time.Now(); put() != nil || time.Since(start) < 60*time.Millisecond {
		t.Errorf("a slow request took %v", time.Since(start))
	}
	inject(local.Fault{Kind: local.Throttle})
	tt.aws.ClearFaults()
	if err := put(); err != nil {
		t.Errorf("after the faults were cleared: %v", err)
	}
	var internal *ddb.InternalServerError
	inject(local.Fault{Kind: local.Lost, Operation: "PutItem", Times: 1})
	_, err = tt.c.PutItem(ctx, &dynamodb.PutItemInput{TableName: table, Item: key("lost")})
	if !errors.As(err, &internal) || len(tt.get("lost")) == 0 {
		t.Errorf("a lost answer: %v, item %v", err, tt.get("lost"))
	}
	inject(local.Fault{Kind: local.Internal, Operation: "PutItem", Times: 1})
	_, err = tt.c.PutItem(ctx, &dynamodb.PutItemInput{TableName: table, Item: key("refused")})
	if !errors.As(err, &internal) || len(tt.get("refused")) != 0 {
		t.Errorf("an internal error: %v, item %v", err, tt.get("refused"))
	}
	inject(local.Fault{Kind: local.Unprocessed, Operation: "BatchWriteItem", Times: 1})
	var requests []ddb.WriteRequest
	for i := range 3 {
		requests = append(requests, ddb.WriteRequest{PutRequest: &ddb.PutRequest{Item: key(fmt.Sprint(i))}})
	}
	out, err := tt.c.BatchWriteItem(ctx, &dynamodb.BatchWriteItemInput{RequestItems: map[string][]ddb.WriteRequest{"tab": requests}})
	if err != nil || len(out.UnprocessedItems["tab"]) != 1 {
		t.Errorf("unprocessed: %+v, %v", out, err)
	}
	inject(local.Fault{Kind: local.Unprocessed, Operation: "BatchGetItem", Times: 1})
	got, err := tt.c.BatchGetItem(ctx, &dynamodb.BatchGetItemInput{RequestItems: map[string]ddb.KeysAndAttributes{"tab": {Keys: []map[string]ddb.AttributeValue{key("1"), key("2")}, ConsistentRead: sdk.Bool(true)}}})
	if err != nil || len(got.UnprocessedKeys["tab"].Keys) != 1 || len(got.Responses["tab"]) != 1 || !*got.UnprocessedKeys["tab"].ConsistentRead {
		t.Errorf("unprocessed: %+v, %v", got, err)
	}
	for _, f := range []local.Fault{{Kind: "nonsense"}, {Kind: local.Latency}, {Kind: local.Throttle, Times: -1}} {
		if tt.aws.Inject(f) == nil {
			t.Errorf("%+v was taken", f)
		}
	}
}
