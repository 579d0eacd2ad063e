package dynamo

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdkretry "github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	local "whatisup/local/aws"
	"whatisup/local/aws/awstest"
)

func opened(t *testing.T) (*awstest.Instance, *Inserting) {
	t.Helper()
	a := awstest.Start(t)
	transport := &http.Transport{MaxConnsPerHost: 8, MaxIdleConnsPerHost: 8}
	t.Cleanup(transport.CloseIdleConnections) // one that was never used holds up the server's end
	client := dynamodb.NewFromConfig(a.Config, func(o *dynamodb.Options) {
		o.HTTPClient = &http.Client{Transport: transport}
		o.Retryer = sdkretry.NewStandard(func(o *sdkretry.StandardOptions) { o.MaxBackoff = 10 * time.Millisecond })
	})
	if err := Local().Create(t.Context(), client); err != nil {
		t.Fatal(err)
	}
	return a, NewInserting(client, slog.New(slog.DiscardHandler))
}

func insertOf(table, key, value string) *dynamodb.PutItemInput {
	return &dynamodb.PutItemInput{
		TableName: aws.String(table), Item: item{"pk": str("p"), "sk": str(key), "value": str(value), "n": &types.AttributeValueMemberN{Value: "7"}, "raw": &types.AttributeValueMemberB{Value: []byte{0, 1}}},
		ConditionExpression:                 aws.String("attribute_not_exists(pk)"),
		ReturnValuesOnConditionCheckFailure: types.ReturnValuesOnConditionCheckFailureAllOld,
	}
}

// many does n inserts at once and returns their errors.
func (c *Inserting) many(ctx context.Context, n int, of func(i int) *dynamodb.PutItemInput) []error {
	errs := make([]error, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { _, errs[i] = c.PutItem(ctx, of(i)) })
	}
	wg.Wait()
	return errs
}

func rowsIn(t *testing.T, c *Inserting, tables ...string) map[string]item {
	t.Helper()
	all := make(map[string]item)
	for _, table := range tables {
		p := dynamodb.NewScanPaginator(c.Client, &dynamodb.ScanInput{TableName: aws.String(table)})
		for p.HasMorePages() {
			page, err := p.NextPage(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			for _, row := range page.Items {
				all[table+" "+row["sk"].(*types.AttributeValueMemberS).Value] = row
			}
		}
	}
	return all
}

// TestInserts: rows that are put at once share requests, to several tables, and each
// is what PutItem would have made of it.
func TestInserts(t *testing.T) {
	a, c := opened(t)
	tables := Local()
	before := a.Requests()
	const n = 200
	for i, err := range c.many(t.Context(), n, func(i int) *dynamodb.PutItemInput {
		return insertOf([]string{tables.Messages, tables.Events}[i%2], fmt.Sprint(i), fmt.Sprint("value ", i))
	}) {
		if err != nil {
			t.Errorf("%d: %v", i, err)
		}
	}
	rows := rowsIn(t, c, tables.Messages, tables.Events)
	if len(rows) != n {
		t.Errorf("%d rows of %d", len(rows), n)
	}
	for key, row := range rows {
		if raw, _ := row["raw"].(*types.AttributeValueMemberB); raw == nil || len(raw.Value) != 2 || len(row) != 5 {
			t.Errorf("%s: %v", key, row)
		}
	}
	after := a.Requests()
	requests := after["dynamodb.PutItem"] - before["dynamodb.PutItem"] + after["dynamodb.BatchExecuteStatement"] - before["dynamodb.BatchExecuteStatement"]
	if requests > n/4 {
		t.Errorf("%d rows took %d requests", n, requests)
	}
}

// TestInsertsWhereSomethingStands: of those that put to one place one wins, and each
// other is told what stands there; rows of other places in the same request are put.
func TestInsertsWhereSomethingStands(t *testing.T) {
	_, c := opened(t)
	table := Local().Messages
	const n = 120
	won, winners := make(map[string]string), 0
	errs := c.many(t.Context(), n, func(i int) *dynamodb.PutItemInput {
		return insertOf(table, fmt.Sprint(i%20), fmt.Sprint(i))
	})
	for key, row := range rowsIn(t, c, table) {
		won[key] = row["value"].(*types.AttributeValueMemberS).Value
	}
	for i, err := range errs {
		key, refused := fmt.Sprint(table, " ", i%20), (*types.ConditionalCheckFailedException)(nil)
		switch {
		case err == nil && won[key] != fmt.Sprint(i):
			t.Errorf("%d was put, and %q stands there", i, won[key])
		case err != nil && !errors.As(err, &refused):
			t.Errorf("%d: %v", i, err)
		case err != nil && refused.Item["value"].(*types.AttributeValueMemberS).Value != won[key]:
			t.Errorf("%d was told of %v, and %q stands there", i, refused.Item, won[key])
		}
		if err == nil {
			winners++
		}
	}
	if winners != 20 || len(won) != 20 {
		t.Errorf("%d puts were taken and %d rows stand at 20 places", winners, len(won))
	}
}

// TestInsertsInTrouble: a shared request that is refused, lost or late costs its rows
// nothing but time.
func TestInsertsInTrouble(t *testing.T) {
	for _, fault := range []local.Fault{
		{Kind: local.Forbidden, Operation: "BatchExecuteStatement"},
		{Kind: local.Lost, Operation: "PutItem", Probability: 0.3},
		{Kind: local.Throttle, Operation: "PutItem", Probability: 0.3},
		{Kind: local.Internal, Operation: "PutItem", Times: 5},
		{Kind: local.Latency, Operation: "PutItem", Delay: 1500 * time.Millisecond, Times: 2},
	} {
		t.Run(string(fault.Kind), func(t *testing.T) {
			t.Parallel()
			a, c := opened(t)
			fault.Service = "dynamodb"
			if err := a.Inject(fault); err != nil {
				t.Fatal(err)
			}
			table := Local().Messages
			for round := range 2 {
				for i, err := range c.many(t.Context(), 60, func(i int) *dynamodb.PutItemInput {
					return insertOf(table, fmt.Sprint(round, " ", i), "v")
				}) {
					var refused *types.ConditionalCheckFailedException
					if err != nil && !(errors.As(err, &refused) && fault.Kind == local.Lost) && !errors.Is(translate(err), errMet) && fault.Kind != local.Throttle {
						t.Errorf("%d: %v", i, err)
					}
				}
			}
			if rows := rowsIn(t, c, table); len(rows) != 120 && fault.Kind != local.Throttle {
				t.Errorf("%d rows of 120", len(rows))
			}
		})
	}
}
