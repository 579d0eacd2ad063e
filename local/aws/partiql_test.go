package aws_test

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"

	local "whatisup/local/aws"
	"whatisup/local/aws/awstest"
)

// TestBatchExecuteStatement: each INSERT is done for itself, puts an item where none
// stands, and costs what a put costs; other statements are refused.
func TestBatchExecuteStatement(t *testing.T) {
	x := newIndexed(t)
	x.put(`{"pk":{"S":"p"},"sk":{"S":"taken"},"a":{"S":"first"}}`)
	const statement = `{"Statement":"INSERT INTO \"tab\" VALUE {'a': ?, 'pk': ?, 'sk': ?}","Parameters":[{"S":"x"},{"S":"p"},{"S":"%"}]}`
	of := func(sk string) string { return strings.ReplaceAll(statement, "%", sk) }

	got := x.do("BatchExecuteStatement", `{"ReturnConsumedCapacity":"TOTAL","Statements":[`+of("one")+`,`+of("taken")+`,`+of("two")+`]}`).raw
	for _, want := range []string{
		`{"TableName":"tab"},{"TableName":"tab","Error":{"Code":"DuplicateItem","Message":`,
		`"ConsumedCapacity":[{"TableName":"tab","CapacityUnits":2}]`,
	} {
		if !strings.Contains(got, want) {
			t.Errorf("%s\nhas no %s", got, want)
		}
	}
	if item := x.do("GetItem", `{"TableName":"tab","Key":{"pk":{"S":"p"},"sk":{"S":"two"}}}`).raw; !strings.Contains(item, `"a":{"S":"x"}`) {
		t.Errorf("inserted: %s", item)
	}
	if item := x.do("GetItem", `{"TableName":"tab","Key":{"pk":{"S":"p"},"sk":{"S":"taken"}}}`).raw; !strings.Contains(item, `"a":{"S":"first"}`) {
		t.Errorf("what stood there: %s", item)
	}

	for name, body := range map[string]string{
		"no statement":     `{"Statements":[]}`,
		"too many":         `{"Statements":[` + strings.Repeat(of("one")+",", 25) + of("one") + `]}`,
		"one key twice":    `{"Statements":[` + of("three") + `,` + of("three") + `]}`,
		"a parameter less": `{"Statements":[{"Statement":"INSERT INTO \"tab\" VALUE {'pk': ?, 'sk': ?}","Parameters":[{"S":"p"}]}]}`,
	} {
		if r := call(t, x.Endpoint, "BatchExecuteStatement", []byte(body)); r.status != 400 {
			t.Errorf("%s: %s", name, r)
		}
	}
	missing := strings.ReplaceAll(of("one"), `tab`, `none`)
	if got := x.do("BatchExecuteStatement", `{"Statements":[`+missing+`,`+of("four")+`]}`).raw; !strings.Contains(got, `"Code":"ResourceNotFound"`) || !strings.HasSuffix(got, `{"TableName":"tab"}]}`) {
		t.Errorf("a missing table among others: %s", got)
	}
	bad := strings.ReplaceAll(of("one"), `'sk': ?`, `'other': ?`)
	if got := x.do("BatchExecuteStatement", `{"Statements":[`+bad+`]}`).raw; !strings.Contains(got, `"Code":"ValidationError"`) {
		t.Errorf("an item without its key: %s", got)
	}
}

// TestInsertAsDynamoDBLocal holds a batch of INSERTs to AWS's own DynamoDB Local: which
// are done, which are refused by which code, and what stands there afterwards.
func TestInsertAsDynamoDBLocal(t *testing.T) {
	judge, own := dynamoDBLocal(t), awstest.Start(t).Endpoint
	const create = `{"TableName":"tab","BillingMode":"PAY_PER_REQUEST",
		"AttributeDefinitions":[{"AttributeName":"pk","AttributeType":"S"},{"AttributeName":"sk","AttributeType":"S"}],
		"KeySchema":[{"AttributeName":"pk","KeyType":"HASH"},{"AttributeName":"sk","KeyType":"RANGE"}]}`
	const statement = `{"Statement":"INSERT INTO \"%t\" VALUE {'%a': ?, 'pk': ?, 'sk': ?}","Parameters":[%v,{"S":"p"},{"S":"%s"}]}`
	of := func(table, name, value, sk string) string {
		return strings.NewReplacer("%t", table, "%a", name, "%v", value, "%s", sk).Replace(statement)
	}
	for _, endpoint := range []string{judge, own} {
		call(t, endpoint, "CreateTable", []byte(create))
		call(t, endpoint, "PutItem", []byte(`{"TableName":"tab","Item":{"pk":{"S":"p"},"sk":{"S":"taken"},"a":{"S":"first"}}}`))
	}
	for name, statements := range map[string][]string{
		"all new":            {of("tab", "a", `{"S":"x"}`, "1"), of("tab", "value_2", `{"B":"AAE="}`, "2"), of("tab", "n", `{"N":"7"}`, "3"), of("tab", "set", `{"SS":["x"]}`, "4")},
		"one stands already": {of("tab", "a", `{"S":"x"}`, "5"), of("tab", "a", `{"S":"x"}`, "taken"), of("tab", "a", `{"S":"x"}`, "6")},
		"a missing table":    {of("none", "a", `{"S":"x"}`, "7"), of("tab", "a", `{"S":"x"}`, "8")},
		"an empty key":       {of("tab", "a", `{"S":"x"}`, ""), of("tab", "a", `{"S":"x"}`, "9")},
	} {
		body := []byte(`{"Statements":[` + strings.Join(statements, ",") + `]}`)
		want, got := call(t, judge, "BatchExecuteStatement", body), call(t, own, "BatchExecuteStatement", body)
		if got.status != want.status || outcomes(got) != outcomes(want) {
			t.Errorf("%s:\n%d %s\nDynamoDB Local: %d %s", name, got.status, got.raw, want.status, want.raw)
		}
		const scan = `{"TableName":"tab"}`
		if got, want := call(t, own, "Scan", []byte(scan)), call(t, judge, "Scan", []byte(scan)); !reflect.DeepEqual(got.body, want.body) {
			t.Errorf("%s, and then there are\n%s\nDynamoDB Local: %s", name, got.raw, want.raw)
		}
	}
}

// outcomes are the codes of a batch's statements, in order.
func outcomes(r reply) string {
	var answer struct {
		Responses []struct{ Error struct{ Code string } }
	}
	if err := json.Unmarshal([]byte(r.raw), &answer); err != nil {
		return err.Error()
	}
	return fmt.Sprint(answer.Responses)
}

// TestWritten: who wants to hears of each item that was put or changed, once it can be
// read, and of nothing else.
func TestWritten(t *testing.T) {
	var mu sync.Mutex
	var heard []string
	a := awstest.StartWith(t, local.Config{Written: func(table, partition string) {
		mu.Lock()
		defer mu.Unlock()
		heard = append(heard, table+" "+partition)
	}})
	x := &indexed{t, a}
	x.do("CreateTable", fmt.Sprintf(createLocal, localIndexes))
	key := func(pk string) string { return fmt.Sprintf(`{"pk":{"S":%q},"sk":{"S":"s"}}`, pk) }
	x.do("PutItem", `{"TableName":"tab","Item":`+key("put")+`}`)
	x.do("UpdateItem", `{"TableName":"tab","Key":`+key("updated")+`,"UpdateExpression":"SET a = :a","ExpressionAttributeValues":{":a":{"S":"x"}}}`)
	x.do("BatchWriteItem", `{"RequestItems":{"tab":[{"PutRequest":{"Item":`+key("batch")+`}}]}}`)
	x.do("TransactWriteItems", `{"TransactItems":[{"Put":{"TableName":"tab","Item":`+key("transaction")+`}},{"ConditionCheck":{"TableName":"tab","Key":`+key("checked")+`,"ConditionExpression":"attribute_not_exists(pk)"}}]}`)
	x.do("BatchExecuteStatement", `{"Statements":[{"Statement":"INSERT INTO \"tab\" VALUE {'pk': ?, 'sk': ?}","Parameters":[{"S":"inserted"},{"S":"s"}]}]}`)
	call(t, x.Endpoint, "PutItem", []byte(`{"TableName":"tab","Item":`+key("put")+`,"ConditionExpression":"attribute_not_exists(pk)"}`))
	x.do("DeleteItem", `{"TableName":"tab","Key":`+key("put")+`}`)
	x.do("GetItem", `{"TableName":"tab","Key":`+key("batch")+`}`)

	mu.Lock()
	defer mu.Unlock()
	if want := []string{"tab put", "tab updated", "tab batch", "tab transaction", "tab inserted"}; !slices.Equal(heard, want) {
		t.Errorf("heard %q, want %q", heard, want)
	}
}
