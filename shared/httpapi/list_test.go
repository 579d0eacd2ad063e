package httpapi_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"whatisup/shared/dynamo"
	"whatisup/shared/whatisup"
)

type listPage struct {
	Data []whatisup.Wire
	Next *string `json:"next_cursor"`
}

func (f *fixture) list(query string) listPage {
	f.t.Helper()
	return into[listPage](f.t, f.want(200, "", f.a.TestKey, "GET", "/v1/instances"+query, ""))
}

func TestListPages(t *testing.T) {
	t.Parallel()
	f := start(t)
	for n := range 7 {
		f.create(f.a.TestKey, fmt.Sprint(n))
	}
	r := f.want(200, "", f.a.TestKey, "GET", "/v1/instances", "")
	if strings.Contains(string(r.body), "next_cursor") {
		t.Error("a whole list has no cursor")
	}
	for _, limit := range []int{1, 3, 7, 8} {
		var names []string
		query, pages := fmt.Sprintf("?limit=%d", limit), 0
		for {
			p := f.list(query)
			pages++
			for _, w := range p.Data {
				names = append(names, w.Name)
			}
			if p.Next == nil {
				break
			}
			query = fmt.Sprintf("?limit=%d&cursor=%s", limit, *p.Next)
		}
		if !slices.Equal(names, []string{"6", "5", "4", "3", "2", "1", "0"}) || pages != (7+limit-1)/limit {
			t.Errorf("limit %d: %d pages of %v", limit, pages, names)
		}
	}
	// A cursor survives the deletion of what it stands at, and is bound.
	p := f.list("?limit=3")
	f.want(204, "", f.a.TestKey, "DELETE", "/v1/instances/"+string(p.Data[2].ID), "")
	if next := f.list("?limit=10&cursor=" + *p.Next); len(next.Data) != 4 || next.Data[0].Name != "3" {
		t.Errorf("after a deletion: %+v", next.Data)
	}
	for _, c := range []struct{ key, query string }{
		{f.b.TestKey, ""}, {f.a.LiveKey, ""}, {f.a.TestKey, "&status=qr"},
	} {
		f.want(400, "invalid_request", c.key, "GET", "/v1/instances?cursor="+*p.Next+c.query, "")
	}
	tampered := []byte(*p.Next)
	tampered[5] ^= 1
	f.want(400, "invalid_request", f.a.TestKey, "GET", "/v1/instances?cursor="+string(tampered), "")
	// The other way round: a filter's cursor belongs to the filter, in any order.
	p = f.list("?limit=1&status=qr,pending")
	if p.Next == nil || len(f.list("?limit=1&status=pending,qr&cursor="+*p.Next).Data) != 1 {
		t.Error("a filter's own cursor is refused")
	}
	if p := f.list("?limit=2&status=connected"); len(p.Data) != 0 || p.Next == nil {
		t.Errorf("a filtered page: %+v", p)
	}
	if p := f.list("?status=connected"); len(p.Data) != 0 {
		t.Errorf("filtered: %+v", p)
	}
	if p := f.list("?include=status&limit=1"); p.Data[0].StatusDetail == nil || p.Data[0].StatusDetail.Mode != whatisup.Test {
		t.Errorf("%+v", p)
	}
}

// fill writes many instances quickly: their config rows are made by one that the
// API made.
func (f *fixture) fill(n int, metadata string) {
	f.t.Helper()
	client := dynamodb.NewFromConfig(f.aws.Config)
	table := dynamo.Local().Instances
	_, id := f.create(f.a.TestKey, "model")
	pk := string(f.a.Customer) + "#test"
	out, err := client.Query(context.Background(), &dynamodb.QueryInput{
		TableName: aws.String(table), KeyConditionExpression: aws.String("pk = :pk AND begins_with(sk, :id)"),
		ExpressionAttributeValues: map[string]types.AttributeValue{
			":pk": &types.AttributeValueMemberS{Value: pk}, ":id": &types.AttributeValueMemberS{Value: string(id)},
		},
	})
	if err != nil || len(out.Items) != 2 {
		f.t.Fatal(err, len(out.Items))
	}
	var batch []types.WriteRequest
	flush := func() {
		if len(batch) == 0 {
			return
		}
		if _, err := client.BatchWriteItem(context.Background(), &dynamodb.BatchWriteItemInput{RequestItems: map[string][]types.WriteRequest{table: batch}}); err != nil {
			f.t.Fatal(err)
		}
		batch = nil
	}
	for range n {
		next := whatisup.NewInstanceID()
		for _, model := range out.Items {
			row := map[string]types.AttributeValue{}
			for k, v := range model {
				row[k] = v
			}
			sk := row["sk"].(*types.AttributeValueMemberS).Value
			row["sk"] = &types.AttributeValueMemberS{Value: strings.Replace(sk, string(id), string(next), 1)}
			if !strings.HasSuffix(sk, "#host") && metadata != "" {
				row["metadata"] = &types.AttributeValueMemberS{Value: metadata}
			}
			batch = append(batch, types.WriteRequest{PutRequest: &types.PutRequest{Item: row}})
		}
		if len(batch) > 23 {
			flush()
		}
	}
	flush()
}

// The whole list is cut before it is too large for Lambda, and the rest follows.
func TestWholeListIsCut(t *testing.T) {
	t.Parallel()
	f := start(t)
	f.fill(700, `{"q":"`+strings.Repeat(`\"`, 500)+strings.Repeat("<", 9000)+`"}`)
	seen := map[whatisup.InstanceID]bool{}
	query, pages := "", 0
	for {
		req := httptest.NewRequest("GET", "/v1/instances"+query, nil)
		req.Header.Set("Authorization", "Bearer "+f.a.TestKey)
		w := httptest.NewRecorder()
		f.api.ServeHTTP(w, req)
		if as, _ := json.Marshal(w.Body.String()); w.Code != 200 || w.Body.Len() > 5<<20+1000 || len(as) > 6_000_000 {
			t.Fatalf("%d with %d bytes, %d as a string", w.Code, w.Body.Len(), len(as))
		}
		p := into[listPage](t, reply{body: w.Body.Bytes()})
		pages++
		for _, i := range p.Data {
			if seen[i.ID] {
				t.Fatalf("%s is repeated", i.ID)
			}
			seen[i.ID] = true
		}
		if p.Next == nil {
			break
		}
		query = "?cursor=" + *p.Next
	}
	if len(seen) != 701 || pages < 2 {
		t.Errorf("%d instances on %d pages", len(seen), pages)
	}
}

// With many instances a page takes as long as with few. LONG=1 tries it with
// twenty thousand.
func TestManyInstances(t *testing.T) {
	if testing.Short() {
		t.Skip()
	}
	many := 2000
	if os.Getenv("LONG") != "" {
		many = 20000
	}
	took := func(n int) time.Duration {
		f := start(t)
		f.fill(n, "")
		best := time.Hour
		for range 15 {
			req := httptest.NewRequest("GET", "/v1/instances?limit=100", nil)
			req.Header.Set("Authorization", "Bearer "+f.a.TestKey)
			w := httptest.NewRecorder()
			began := time.Now()
			f.api.ServeHTTP(w, req)
			best = min(best, time.Since(began))
			if p := into[listPage](t, reply{body: w.Body.Bytes()}); len(p.Data) != 100 || p.Next == nil {
				t.Fatalf("%d instances", len(p.Data))
			}
		}
		return best
	}
	few, lots := took(100), took(many)
	t.Logf("limit=100: %v with 100 instances, %v with %d", few, lots, many)
	if lots > 2*few+5*time.Millisecond {
		t.Errorf("%v with 100 instances, %v with %d", few, lots, many)
	}
}
