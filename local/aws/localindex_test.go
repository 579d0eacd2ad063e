package aws_test

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	local "whatisup/local/aws"
	"whatisup/local/aws/awstest"
)

// createLocal is a table with a local index of each projection and a global
// one. %s takes the place of the whole list of local indexes.
const createLocal = `{"TableName":"tab","BillingMode":"PAY_PER_REQUEST",
	"AttributeDefinitions":[{"AttributeName":"pk","AttributeType":"S"},{"AttributeName":"sk","AttributeType":"S"},{"AttributeName":"l","AttributeType":"S"},{"AttributeName":"n","AttributeType":"N"}],
	"KeySchema":[{"AttributeName":"pk","KeyType":"HASH"},{"AttributeName":"sk","KeyType":"RANGE"}],
	"LocalSecondaryIndexes":%s,
	"GlobalSecondaryIndexes":[{"IndexName":"global","KeySchema":[{"AttributeName":"l","KeyType":"HASH"},{"AttributeName":"n","KeyType":"RANGE"}],"Projection":{"ProjectionType":"KEYS_ONLY"}}]}`

func localIndex(name, hash, sort, projection string) string {
	keys := fmt.Sprintf(`{"AttributeName":%q,"KeyType":"HASH"}`, hash)
	if sort != "" {
		keys += fmt.Sprintf(`,{"AttributeName":%q,"KeyType":"RANGE"}`, sort)
	}
	return fmt.Sprintf(`{"IndexName":%q,"KeySchema":[%s],"Projection":%s}`, name, keys, projection)
}

const (
	projectAll  = `{"ProjectionType":"ALL"}`
	projectKeys = `{"ProjectionType":"KEYS_ONLY"}`
	projectSome = `{"ProjectionType":"INCLUDE","NonKeyAttributes":["a"]}`
)

var localIndexes = "[" + localIndex("all", "pk", "l", projectAll) + "," + localIndex("keys", "pk", "l", projectKeys) + "," + localIndex("some", "pk", "n", projectSome) + "]"

// indexed is a server with that table.
type indexed struct {
	t *testing.T
	*awstest.Instance
}

func newIndexed(t *testing.T) *indexed {
	t.Helper()
	x := &indexed{t, awstest.Start(t)}
	x.do("CreateTable", fmt.Sprintf(createLocal, localIndexes))
	return x
}

func (x *indexed) do(operation, body string) reply {
	x.t.Helper()
	r := call(x.t, x.Endpoint, operation, []byte(body))
	if r.status != 200 {
		x.t.Fatalf("%s %s: %s", operation, body, r)
	}
	return r
}

func (x *indexed) put(item string) reply {
	x.t.Helper()
	return x.do("PutItem", `{"TableName":"tab","ReturnConsumedCapacity":"INDEXES","Item":`+item+`}`)
}

// query reads an index and returns what "sk" the items have, in order, and the
// capacity of the table and of the index.
func (x *indexed) query(index, more string) (sks string, items []any, table, units any) {
	x.t.Helper()
	r := x.do("Query", `{"TableName":"tab","IndexName":"`+index+`","ReturnConsumedCapacity":"INDEXES","KeyConditionExpression":"pk = :p","ExpressionAttributeValues":{":p":{"S":"p"}}`+more+`}`)
	body := r.body.(object)
	items, _ = body["Items"].([]any)
	for _, item := range items {
		if sk, ok := item.(object)["sk"].(object); ok {
			sks += sk["S"].(string)
		}
	}
	cost := body["ConsumedCapacity"].(object)
	return sks, items, unitsOf(cost["Table"]), unitsOf(cost["LocalSecondaryIndexes"].(object)[index])
}

func unitsOf(v any) any {
	if v, ok := v.(object); ok {
		f, _ := v["CapacityUnits"].(json.Number).Float64()
		return f
	}
	return nil
}

// TestLocalIndex follows the capacity, order and contents that DynamoDB Local
// 3.3.1 shows for the same calls, and DynamoDB's guide to local secondary
// indexes where it differs: what the index holds is not fetched.
func TestLocalIndex(t *testing.T) {
	t.Parallel()
	x := newIndexed(t)
	long := strings.Repeat("b", 5000)
	cost := x.put(`{"pk":{"S":"p"},"sk":{"S":"2"},"l":{"S":"x"},"n":{"N":"7"},"a":{"S":"A"},"b":{"S":"` + long + `"}}`).body.(object)["ConsumedCapacity"].(object)
	for name, want := range map[string]float64{"all": 5, "keys": 1, "some": 1} {
		if got := unitsOf(cost["LocalSecondaryIndexes"].(object)[name]); got != want {
			t.Errorf("the write cost index %s %v units, want %v", name, got, want)
		}
	}
	if got := unitsOf(cost["GlobalSecondaryIndexes"].(object)["global"]); got != 1.0 {
		t.Errorf("the write cost the global index %v units", got)
	}
	x.put(`{"pk":{"S":"p"},"sk":{"S":"1"},"l":{"S":"y"},"a":{"S":"A"},"b":{"S":"short"}}`)
	x.put(`{"pk":{"S":"p"},"sk":{"S":"3"},"l":{"S":"x"},"n":{"N":"-1"}}`)
	x.put(`{"pk":{"S":"p"},"sk":{"S":"4"},"b":{"S":"in no index"}}`)
	x.put(`{"pk":{"S":"q"},"sk":{"S":"5"},"l":{"S":"a"},"n":{"N":"0"}}`)

	check := func(what, index, more, want string, attributes int, table, units float64) {
		t.Helper()
		sks, items, gotTable, gotUnits := x.query(index, more)
		if sks != want || gotTable != table || gotUnits != units {
			t.Errorf("%s: items %q for %v and %v units, want %q for %v and %v", what, sks, gotTable, gotUnits, want, table, units)
		}
		if len(items) > 0 && len(items[0].(object)) != attributes {
			t.Errorf("%s: %v, want %d attributes", what, items[0], attributes)
		}
	}
	check("by index key, then by the table's", "all", "", "231", 6, 0, 1)
	check("consistently", "all", `,"ConsistentRead":true`, "231", 6, 0, 2)
	check("backwards", "all", `,"ScanIndexForward":false`, "132", 5, 0, 1)
	check("keys alone", "keys", "", "231", 3, 0, 0.5)
	check("what it holds and no more", "some", "", "32", 3, 0, 0.5)
	check("everything, fetched", "keys", `,"Select":"ALL_ATTRIBUTES"`, "231", 6, 2, 0.5)
	check("everything, fetched consistently", "keys", `,"Select":"ALL_ATTRIBUTES","ConsistentRead":true`, "231", 6, 4, 1)
	check("one attribute, fetched", "keys", `,"ProjectionExpression":"sk, b"`, "231", 2, 2, 0.5)
	check("nothing to fetch", "keys", `,"ProjectionExpression":"sk, l"`, "231", 2, 0, 0.5)
	check("counted, not fetched", "keys", `,"Select":"COUNT"`, "", 0, 0, 0.5)

	sks, place := "", "" // a page at a time
	for pages := 0; pages < 5; pages++ {
		r := x.do("Query", `{"TableName":"tab","IndexName":"all","Limit":1,"KeyConditionExpression":"pk = :p AND l >= :l","ExpressionAttributeValues":{":p":{"S":"p"},":l":{"S":"x"}}`+place+`}`)
		body := r.body.(object)
		for _, item := range body["Items"].([]any) {
			sks += item.(object)["sk"].(object)["S"].(string)
		}
		if body["LastEvaluatedKey"] == nil {
			break
		}
		place = `,"ExclusiveStartKey":` + string(mustJSON(body["LastEvaluatedKey"]))
	}
	if sks != "231" {
		t.Errorf("by pages: %q", sks)
	}

	// A change of the index's key costs two units there, one of something that
	// the index does not hold none.
	r := x.do("UpdateItem", `{"TableName":"tab","Key":{"pk":{"S":"p"},"sk":{"S":"1"}},"UpdateExpression":"SET l = :l, c = :l","ExpressionAttributeValues":{":l":{"S":"a"}},
		"ReturnConsumedCapacity":"INDEXES","ReturnItemCollectionMetrics":"SIZE"}`).body.(object)
	indexes := r["ConsumedCapacity"].(object)["LocalSecondaryIndexes"].(object)
	if unitsOf(indexes["all"]) != 2.0 || unitsOf(indexes["keys"]) != 2.0 || indexes["some"] != nil {
		t.Errorf("a changed key cost %v", indexes)
	}
	if got := string(mustJSON(r["ItemCollectionMetrics"])); got != `{"ItemCollectionKey":{"pk":{"S":"p"}},"SizeEstimateRangeGB":[0.0,1.0]}` {
		t.Errorf("the collection's metrics are %s", got)
	}
	check("moved", "all", "", "123", 6, 0, 1)
	x.do("UpdateItem", `{"TableName":"tab","Key":{"pk":{"S":"p"},"sk":{"S":"1"}},"UpdateExpression":"REMOVE l"}`)
	check("gone from the index", "all", "", "23", 6, 0, 1)
	x.do("DeleteItem", `{"TableName":"tab","Key":{"pk":{"S":"p"},"sk":{"S":"2"}}}`)
	check("deleted", "all", "", "3", 4, 0, 0.5)

	described := x.do("DescribeTable", `{"TableName":"tab"}`).body.(object)["Table"].(object)
	if l, g := described["LocalSecondaryIndexes"].([]any), described["GlobalSecondaryIndexes"].([]any); len(l) != 3 || len(g) != 1 || l[0].(object)["IndexStatus"] != nil {
		t.Errorf("described as %v and %v", l, g)
	}
}

// TestLocalIndexRefusals are the calls that DynamoDB does not take.
func TestLocalIndexRefusals(t *testing.T) {
	t.Parallel()
	tt := newTableTest(t)
	refuse := func(indexes, message string) {
		t.Helper()
		tt.wantError("CreateTable", strings.Replace(fmt.Sprintf(createLocal, indexes), `"tab"`, `"other"`, 1), "ValidationException", message)
	}
	six := make([]string, 6)
	for i := range six {
		six[i] = localIndex(fmt.Sprint("index", i), "pk", "l", projectAll)
	}
	refuse("[]", "List of LocalSecondaryIndexes is empty")
	refuse("["+localIndex("one", "pk", "", projectAll)+"]", "Index KeySchema does not have a range key for index: one")
	refuse("["+localIndex("one", "l", "pk", projectAll)+"]", "Index KeySchema does not have the same leading hash key as table KeySchema for index: one. index hash key: l, table hash key: pk")
	refuse("["+localIndex("one", "pk", "pk", projectAll)+"]", "Both the Hash Key and the Range Key element in the KeySchema have the same name")
	refuse("["+localIndex("one", "pk", "zz", projectAll)+"]", "Some index key attributes are not defined in AttributeDefinitions")
	refuse("["+localIndex("one", "pk", "l", projectAll)+","+localIndex("one", "pk", "n", projectAll)+"]", "Duplicate index name: one")
	refuse("["+localIndex("global", "pk", "l", projectAll)+"]", "Duplicate index name: global")
	refuse("["+localIndex("one", "pk", "l", `{"ProjectionType":"KEYS_ONLY","NonKeyAttributes":["a"]}`)+"]", "ProjectionType is KEYS_ONLY, but NonKeyAttributes is specified")
	refuse("["+localIndex("one", "pk", "l", `{"ProjectionType":"INCLUDE"}`)+"]", "ProjectionType is INCLUDE, but NonKeyAttributes is not specified")
	refuse("["+strings.Join(six, ",")+"]", "Number of LocalSecondaryIndexes exceeds per-table limit of 5")
	tt.wantError("CreateTable", `{"TableName":"other","BillingMode":"PAY_PER_REQUEST","AttributeDefinitions":[{"AttributeName":"pk","AttributeType":"S"},{"AttributeName":"l","AttributeType":"S"}],
		"KeySchema":[{"AttributeName":"pk","KeyType":"HASH"}],"LocalSecondaryIndexes":[`+localIndex("one", "pk", "l", projectAll)+`]}`, "ValidationException",
		"Table KeySchema does not have a range key, which is required when specifying a LocalSecondaryIndex")

	x := newIndexed(t)
	want := func(operation, body, message string) {
		t.Helper()
		if r := call(t, x.Endpoint, operation, []byte(body)); outcome(r) != "ValidationException" || !strings.Contains(r.message, message) {
			t.Errorf("%s %s: %s, want %s", operation, body, r, message)
		}
	}
	want("PutItem", `{"TableName":"tab","Item":{"pk":{"S":"p"},"sk":{"S":"1"},"l":{"N":"1"}}}`, "Type mismatch for Index Key l Expected: S Actual: N IndexName: all")
	want("PutItem", `{"TableName":"tab","Item":{"pk":{"S":"p"},"sk":{"S":"1"},"l":{"S":""}}}`, "cannot contain an empty string value. IndexName: all, IndexKey: l")
	want("PutItem", `{"TableName":"tab","Item":{"pk":{"S":"p"},"sk":{"S":"1"},"l":{"S":"`+strings.Repeat("l", 1025)+`"}}}`, "has exceeded the size limit of 1024 bytes")
	query := `{"TableName":"tab","IndexName":%q,"KeyConditionExpression":%q,"ExpressionAttributeValues":{":p":{"S":"p"}}%s}`
	want("Query", fmt.Sprintf(query, "keys", "pk = :p", `,"FilterExpression":"b = :p AND a = :p AND sk = :p"`), "Secondary index keys does not project one or more filter attributes: [a, b]")
	want("Query", fmt.Sprintf(query, "keys", "pk = :p", `,"FilterExpression":"l = :p"`), "Filter Expression can only contain non-primary key attributes: Primary key attribute: l")
	want("Query", fmt.Sprintf(query, "keys", "pk = :p AND sk = :p", ""), "Query condition missed key schema element: l")
	want("Query", fmt.Sprintf(query, "global", "l = :p", `,"ConsistentRead":true`), "Consistent reads are not supported on global secondary indexes")
	want("Query", fmt.Sprintf(query, "keys", "pk = :p", `,"ExclusiveStartKey":{"pk":{"S":"p"},"l":{"S":"x"}}`), "The provided starting key is invalid")
}

// TestLocalIndexKept has an index answer as before after a restart.
func TestLocalIndexKept(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "aws.db")
	t.Run("before", func(t *testing.T) {
		x := &indexed{t, awstest.StartWith(t, local.Config{Path: path})}
		x.do("CreateTable", fmt.Sprintf(createLocal, localIndexes))
		x.put(`{"pk":{"S":"p"},"sk":{"S":"2"},"l":{"S":"x"}}`)
	})
	t.Run("after", func(t *testing.T) {
		x := &indexed{t, awstest.StartWith(t, local.Config{Path: path})}
		x.put(`{"pk":{"S":"p"},"sk":{"S":"1"},"l":{"S":"y"}}`)
		if sks, _, _, _ := x.query("keys", `,"ConsistentRead":true`); sks != "21" {
			t.Errorf("read %q", sks)
		}
	})
}
