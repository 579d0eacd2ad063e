package aws_test

import (
	"context"
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	local "whatisup/local/aws"
)

// fuzzRequests feeds bodies to the operations of a service: each gets an
// answer in the service's form, and none is an internal error.
func fuzzRequests(f *testing.F, prefix string, setup [][2]string, operations []string, seeds ...string) {
	server, err := local.Open(local.Config{Path: filepath.Join(f.TempDir(), "aws.db")})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { server.Close() })
	send := func(t testing.TB, operation, body string) *httptest.ResponseRecorder {
		req := newRequest(t, "http://aws.test/", prefix+operation, body)
		w := httptest.NewRecorder()
		server.ServeHTTP(w, req)
		return w
	}
	for _, s := range setup {
		if w := send(f, s[0], s[1]); w.Code != http.StatusOK {
			f.Fatalf("%s: %d %s", s[0], w.Code, w.Body)
		}
	}
	for i := range operations {
		for _, seed := range seeds {
			f.Add(uint8(i), seed)
		}
	}
	f.Fuzz(func(t *testing.T, which uint8, body string) {
		operation := operations[int(which)%len(operations)]
		w := send(t, operation, body)
		switch {
		case w.Code == http.StatusOK && (w.Body.Len() == 0 || json.Valid(w.Body.Bytes())):
		case w.Code != http.StatusBadRequest || !strings.HasPrefix(w.Body.String(), `{"__type":"`):
			t.Fatalf("%s %q: %d %s", operation, body, w.Code, w.Body)
		}
	})
}

func FuzzDynamoDB(f *testing.F) {
	fuzzRequests(f, "DynamoDB_20120810.", [][2]string{{"CreateTable", `{"TableName":"tab","BillingMode":"PAY_PER_REQUEST","KeySchema":[{"AttributeName":"h","KeyType":"HASH"}],
		"AttributeDefinitions":[{"AttributeName":"h","AttributeType":"S"},{"AttributeName":"g","AttributeType":"N"}],
		"GlobalSecondaryIndexes":[{"IndexName":"idx","KeySchema":[{"AttributeName":"g","KeyType":"HASH"}],"Projection":{"ProjectionType":"ALL"}}]}`},
		{"CreateTable", `{"TableName":"ordered","BillingMode":"PAY_PER_REQUEST","KeySchema":[{"AttributeName":"h","KeyType":"HASH"},{"AttributeName":"r","KeyType":"RANGE"}],
		"AttributeDefinitions":[{"AttributeName":"h","AttributeType":"S"},{"AttributeName":"r","AttributeType":"S"},{"AttributeName":"l","AttributeType":"N"}],
		"LocalSecondaryIndexes":[{"IndexName":"idx","KeySchema":[{"AttributeName":"h","KeyType":"HASH"},{"AttributeName":"l","KeyType":"RANGE"}],"Projection":{"ProjectionType":"KEYS_ONLY"}}]}`}},
		[]string{"PutItem", "GetItem", "UpdateItem", "DeleteItem", "Query", "Scan", "BatchGetItem", "BatchWriteItem", "TransactWriteItems", "TransactGetItems", "CreateTable", "UpdateTimeToLive", "DescribeTable", "ListTables"},
		`{"TableName":"tab","Item":{"h":{"S":"a"},"g":{"N":"1"},"l":{"L":[{"M":{"x":{"BS":["AA=="]}}}]}},"ConditionExpression":"attribute_not_exists(h)","ReturnValues":"ALL_OLD"}`,
		`{"TableName":"tab","Key":{"h":{"S":"a"}},"UpdateExpression":"SET l[0] = :v, g = :n REMOVE x ADD c :n","ExpressionAttributeValues":{":v":{"S":"x"},":n":{"N":"1"}},"ReturnValues":"UPDATED_NEW","ReturnConsumedCapacity":"INDEXES"}`,
		`{"TableName":"tab","IndexName":"idx","KeyConditionExpression":"g = :n","ExpressionAttributeValues":{":n":{"N":"1"}},"Limit":1,"ExclusiveStartKey":{"h":{"S":"a"},"g":{"N":"1"}}}`,
		`{"TableName":"ordered","Item":{"h":{"S":"a"},"r":{"S":"b"},"l":{"N":"1"}},"ReturnItemCollectionMetrics":"SIZE","ReturnConsumedCapacity":"INDEXES"}`,
		`{"TableName":"ordered","IndexName":"idx","KeyConditionExpression":"h = :h AND l > :n","ExpressionAttributeValues":{":h":{"S":"a"},":n":{"N":"0"}},"ProjectionExpression":"x","ConsistentRead":true,"ReturnConsumedCapacity":"INDEXES","ExclusiveStartKey":{"h":{"S":"a"},"r":{"S":"b"},"l":{"N":"1"}}}`,
		`{"TableName":"tab","Item":{"h":{"S":"a"},"g":{"X":"1"}},"ReturnValues":"ALL_OLD"}`,
		`{"RequestItems":{"tab":[{"PutRequest":{"Item":{"h":{"S":"a"}}}}]}}`, `{"RequestItems":{"tab":{"Keys":[{"h":{"S":"a"}}]}}}`,
		`{"TransactItems":[{"Put":{"TableName":"tab","Item":{"h":{"S":"a"}}}},{"ConditionCheck":{"TableName":"tab","Key":{"h":{"S":"b"}},"ConditionExpression":"attribute_exists(h)"}}],"ClientRequestToken":"x"}`,
		`{"TransactItems":[{"Get":{"TableName":"tab","Key":{"h":{"S":"a"}}}}]}`, `{"TableName":"tab","Segment":1,"TotalSegments":4,"Select":"COUNT"}`, `{}`, `[]`, `{"TableName":`)
}

func FuzzSQS(f *testing.F) {
	fuzzRequests(f, "AmazonSQS.", [][2]string{{"CreateQueue", `{"QueueName":"q"}`}, {"CreateQueue", `{"QueueName":"q.fifo","Attributes":{"FifoQueue":"true","ContentBasedDeduplication":"true"}}`}},
		[]string{"SendMessage", "SendMessageBatch", "DeleteMessage", "DeleteMessageBatch", "ChangeMessageVisibility", "ChangeMessageVisibilityBatch", "CreateQueue", "SetQueueAttributes", "GetQueueAttributes", "GetQueueUrl", "ListQueues"},
		`{"QueueUrl":"http://aws.test/000000000000/q","MessageBody":"x","DelaySeconds":1,"MessageAttributes":{"a":{"DataType":"String","StringValue":"v"},"b":{"DataType":"Binary","BinaryValue":"AA=="}}}`,
		`{"QueueUrl":"q.fifo","Entries":[{"Id":"a","MessageBody":"x","MessageGroupId":"g"},{"Id":"b","ReceiptHandle":"AAAA","VisibilityTimeout":1}]}`,
		`{"QueueUrl":"q","ReceiptHandle":"AAAA","VisibilityTimeout":1}`, `{"QueueName":"r","Attributes":{"RedrivePolicy":"{\"deadLetterTargetArn\":\"arn:aws:sqs:us-east-1:000000000000:q\",\"maxReceiveCount\":\"3\"}"}}`,
		`{"QueueUrl":"q","AttributeNames":["All"]}`, `{}`, `[]`)
}

// FuzzQuery feeds forms to SQS: each gets an answer in XML, and none is an
// internal error.
func FuzzQuery(f *testing.F) {
	server, err := local.Open(local.Config{Path: filepath.Join(f.TempDir(), "aws.db")})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { server.Close() })
	send := func(t testing.TB, body string) *httptest.ResponseRecorder {
		r := newRequest(t, "http://aws.test/000000000000/q", "", body)
		r.Header.Del("X-Amz-Target")
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		ctx, stop := context.WithTimeout(t.Context(), time.Second) // a receive may be told to wait
		defer stop()
		w := httptest.NewRecorder()
		server.ServeHTTP(w, r.WithContext(ctx))
		return w
	}
	for _, seed := range []string{
		"Action=CreateQueue&QueueName=q&Attribute.1.Name=DelaySeconds&Attribute.1.Value=0", "Action=SendMessage&MessageBody=%00&Version=2012-11-05",
		"Action=SendMessage&MessageBody=x&MessageAttribute.1.Name=a&MessageAttribute.1.Value.DataType=String&MessageAttribute.1.Value.StringValue=%ff",
		"Action=SendMessageBatch&SendMessageBatchRequestEntry.1.Id=a&SendMessageBatchRequestEntry.1.MessageBody=b", "Action=ReceiveMessage&MaxNumberOfMessages=10&AttributeName.1=All",
		"Action=SetQueueAttributes&Attribute.x.Name.y=1", "Action=", "%", "Action=DeleteMessage&ReceiptHandle.1=2&a.b.c.d=e",
	} {
		if w := send(f, seed); w.Code >= 500 {
			f.Fatalf("%s: %d %s", seed, w.Code, w.Body)
		}
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, body string) {
		w := send(t, body)
		d := xml.NewDecoder(w.Body)
		for {
			if _, err := d.Token(); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				t.Fatalf("%q: %d, not XML: %v", body, w.Code, err)
			}
		}
		if w.Code >= 500 {
			t.Fatalf("%q: %d", body, w.Code)
		}
	})
}
