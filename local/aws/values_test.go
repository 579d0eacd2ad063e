package aws_test

import (
	"fmt"
	"strings"
	"testing"
)

// What follows was compared with DynamoDB Local 3.3.1, its messages included.

// TestAttributeNames has names that DynamoDB does not store refused wherever
// they can stand.
func TestAttributeNames(t *testing.T) {
	t.Parallel()
	tt := newTableTest(t)
	const empty, long = "Empty attribute name", "Attribute name is too large, must be less than 65536 bytes"
	for name, message := range map[string]string{"": empty, strings.Repeat("n", 65536): long} {
		value := fmt.Sprintf(`{"M":{%q:{"S":"x"}}}`, name)
		for operation, body := range map[string]string{
			"PutItem":            `{"TableName":"tab","Item":{"pk":{"S":"p"},"sk":{"S":"-"},%q:{"S":"x"}}}`,
			"GetItem":            `{"TableName":"tab","Key":{"pk":{"S":"p"},%q:{"S":"x"}}}`,
			"BatchWriteItem":     `{"RequestItems":{"tab":[{"PutRequest":{"Item":{"pk":{"S":"p"},"sk":{"S":"-"},%q:{"S":"x"}}}}]}}`,
			"TransactWriteItems": `{"TransactItems":[{"Put":{"TableName":"tab","Item":{"pk":{"S":"p"},"sk":{"S":"-"},%q:{"S":"x"}}}}]}`,
		} {
			tt.wantError(operation, fmt.Sprintf(body, name), "ValidationException", message)
		}
		tt.wantError("PutItem", `{"TableName":"tab","Item":{"pk":{"S":"p"},"sk":{"S":"-"},"l":{"L":[{"M":{"a":`+value+`}}]}}}`, "ValidationException", message)
		tt.wantError("UpdateItem", `{"TableName":"tab","Key":{"pk":{"S":"p"},"sk":{"S":"-"}},"UpdateExpression":"SET a = :a","ExpressionAttributeValues":{":a":`+value+`}}`,
			"ValidationException", "ExpressionAttributeValues contains invalid value: "+message+" for key :a")
		tt.wantError("UpdateItem", fmt.Sprintf(`{"TableName":"tab","Key":{"pk":{"S":"p"},"sk":{"S":"-"}},"UpdateExpression":"REMOVE #a","ExpressionAttributeNames":{"#a":%q}}`, name),
			"ValidationException", "ExpressionAttributeNames contains invalid value: "+message+" for key #a")
	}
	if r := tt.raw("PutItem", fmt.Sprintf(`{"TableName":"tab","Item":{"pk":{"S":"p"},"sk":{"S":"-"},"m":{"M":{%q:{"S":"x"}}}}}`, strings.Repeat("n", 65535))); r.status != 200 {
		t.Errorf("the longest name: %s", r)
	}
}

// TestTokenComparesValues sends a transaction twice under one token: what SDKs
// may write in another way is the same, what means something else is not.
func TestTokenComparesValues(t *testing.T) {
	t.Parallel()
	tt := newTableTest(t)
	for i, c := range []struct{ first, second, kind string }{
		{`"a":{"M":{"x":{"S":"1"},"y":{"S":"2"}}},"b":{"S":"3"}`, `"b":{"S":"3"},"a":{"M":{"y":{"S":"2"},"x":{"S":"1"}}}`, ""},
		{`"a":{"S":"1"}`, `"a":{"S":"1","N":null}`, ""},
		{`"a":{"S":"1"}`, `"a":{"S":"2"}`, "IdempotentParameterMismatchException"},
		{`"a":{"L":[{"S":"1"},{"S":"2"}]}`, `"a":{"L":[{"S":"2"},{"S":"1"}]}`, "IdempotentParameterMismatchException"},
		{`"a":{"SS":["1","2"]}`, `"a":{"SS":["2","1"]}`, "IdempotentParameterMismatchException"},
		{`"a":{"N":"1"}`, `"a":{"N":"1.0"}`, "IdempotentParameterMismatchException"},
	} {
		body := `{"ClientRequestToken":"token-%d","TransactItems":[{"Put":{"TableName":"tab","Item":{"pk":{"S":"p"},"sk":{"S":"-"},%s}}}]}`
		if r := tt.raw("TransactWriteItems", fmt.Sprintf(body, i, c.first)); r.status != 200 {
			t.Fatalf("%s: %s", c.first, r)
		}
		second := `{"TransactItems":[{"Put":{"Item":{%s,"sk":{"S":"-"},"pk":{"S":"p"}},"ConditionExpression":null,"TableName":"tab"}}],"ClientRequestToken":"token-%d"}`
		if r := tt.raw("TransactWriteItems", fmt.Sprintf(second, c.second, i)); outcome(r) != c.kind && (c.kind != "" || r.status != 200) {
			t.Errorf("%s, then %s: %s, want %s", c.first, c.second, r, c.kind)
		}
	}
}

// TestBatchGetLimit asks for 17 MB: what does not fit into 16 MB is left undone.
func TestBatchGetLimit(t *testing.T) {
	t.Parallel()
	tt := newTableTest(t)
	const items, size = 50, 350 << 10
	var keys []string
	for i := range items {
		tt.put(with(key(fmt.Sprint(i)), "b", s(strings.Repeat("b", size))))
		keys = append(keys, fmt.Sprintf(`{"pk":{"S":"%d"},"sk":{"S":"-"}}`, i))
	}
	r := tt.raw("BatchGetItem", `{"RequestItems":{"tab":{"Keys":[`+strings.Join(keys, ",")+`]}}}`)
	body, _ := r.body.(object)
	if r.status != 200 {
		t.Fatalf("answered %d", r.status)
	}
	got := body["Responses"].(object)["tab"].([]any)
	left := body["UnprocessedKeys"].(object)["tab"].(object)["Keys"].([]any)
	if want := (16 << 20) / (size + 10); len(got) != want || len(got)+len(left) != items {
		t.Errorf("got %d items and %d keys back, want %d items", len(got), len(left), want)
	}
}

// TestKeyConditionValues has sort keys that cannot be keys refused in conditions.
func TestKeyConditionValues(t *testing.T) {
	t.Parallel()
	tt := newTableTest(t)
	long, fits := strings.Repeat("x", 1025), strings.Repeat("x", 1024)
	query := func(condition, value string) string {
		return fmt.Sprintf(`{"TableName":"tab","KeyConditionExpression":"pk = :p AND %s","ExpressionAttributeValues":{":p":{"S":"p"},":v":{"S":%q}}}`, condition, value)
	}
	for _, condition := range []string{"sk = :v", "sk < :v", "sk <= :v", "sk > :v", "sk >= :v", "sk BETWEEN :p AND :v", "begins_with(sk, :v)"} {
		tt.wantError("Query", query(condition, long), "ValidationException", "Aggregated size of all range keys has exceeded the size limit of 1024 bytes")
		if r := tt.raw("Query", query(condition, fits)); r.status != 200 {
			t.Errorf("%s with 1,024 bytes: %s", condition, r)
		}
		if condition != "sk BETWEEN :p AND :v" { // there the bounds are the wrong way round first
			tt.wantError("Query", query(condition, ""), "ValidationException", "are not valid. The AttributeValue for a key attribute cannot contain an empty string value. Key: sk")
		}
	}
}

// TestOperands has the operands of IN and BETWEEN refused that DynamoDB refuses.
func TestOperands(t *testing.T) {
	t.Parallel()
	tt := newTableTest(t)
	put := func(condition, values string) string {
		if values != "" {
			values = `,"ExpressionAttributeValues":` + values
		}
		return `{"TableName":"tab","Item":{"pk":{"S":"p"},"sk":{"S":"-"}},"ConditionExpression":"` + condition + `"` + values + `}`
	}
	for condition, message := range map[string]string{
		"a IN (b, a)":       "operator: IN, first operand: [a]",
		"a.b IN (b, a.b)":   "operator: IN, first operand: [a, b]",
		"a BETWEEN a AND b": "operator: BETWEEN, first operand: [a]",
		"a BETWEEN b AND a": "operator: BETWEEN, first operand: [a]",
	} {
		tt.wantError("PutItem", put(condition, ""), "ValidationException", "The first operand must be distinct from the remaining operands for this operator or function; "+message)
	}
	for typ, value := range map[string]string{"NULL": `true`, "SS": `["a"]`, "NS": `["1"]`, "L": `[]`, "M": `{}`, "BOOL": `true`} {
		for _, condition := range []string{":v BETWEEN a AND b", "a BETWEEN :v AND b", "a BETWEEN b AND :v"} {
			tt.wantError("PutItem", put(condition, fmt.Sprintf(`{":v":{%q:%s}}`, typ, value)), "ValidationException",
				"Incorrect operand type for operator or function; operator or function: BETWEEN, operand type: "+typ)
		}
	}
	for _, fine := range []string{"attribute_not_exists(pk) OR a IN (b, b)", "attribute_not_exists(pk) OR a BETWEEN b AND b", "attribute_not_exists(pk) OR size(a) BETWEEN size(a) AND b"} {
		if r := tt.raw("PutItem", put(fine, "")); r.status != 200 && outcome(r) != "ConditionalCheckFailedException" {
			t.Errorf("%s: %s", fine, r)
		}
	}
}
