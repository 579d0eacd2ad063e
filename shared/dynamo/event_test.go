package dynamo

import (
	"errors"
	"slices"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"whatisup/shared/whatisup"
)

// At one position stands an event or a void, whichever came first, and whoever
// comes second is told which. Readers see the events alone.
func TestEventRows(t *testing.T) {
	t.Parallel()
	db := open(t)
	cfg := whatisup.Config{ID: whatisup.NewInstanceID(), Customer: whatisup.NewCustomerID(), Mode: whatisup.Test}
	write := func(p types.Put) (found item) {
		t.Helper()
		_, err := db.client.PutItem(t.Context(), &dynamodb.PutItemInput{
			TableName: p.TableName, Item: p.Item, ConditionExpression: p.ConditionExpression,
			ReturnValuesOnConditionCheckFailure: p.ReturnValuesOnConditionCheckFailure,
		})
		if refused, ok := errors.AsType[*types.ConditionalCheckFailedException](err); ok {
			return refused.Item
		}
		if err != nil {
			t.Fatal(err)
		}
		return nil
	}
	var want []whatisup.Position
	for n := range 20 {
		rows, err := db.EventRows(event(t, cfg, whatisup.MessageReceived))
		if err != nil {
			t.Fatal(err)
		}
		other, err := db.EventRows(event(t, cfg, whatisup.MessageReceived))
		if err != nil {
			t.Fatal(err)
		}
		at := whatisup.NewPosition()
		first, second := rows.Event(at), rows.Void(at)
		if n%2 == 0 {
			first, second = second, first
		} else {
			want = append(want, at)
		}
		if found := write(first); found != nil {
			t.Fatalf("the position is taken by %v", found)
		}
		found := write(second)
		if found == nil || rows.IsEvent(found) != (n%2 == 1) || other.IsEvent(found) {
			t.Errorf("%d: found %v", n, found)
		}
	}
	for _, about := range []int{0, 1, 7} {
		var up, down []whatisup.Position
		for e, err := range db.EventsAfter(t.Context(), cfg.Customer, cfg.Mode, "0", about) {
			if err != nil {
				t.Fatal(err)
			}
			up = append(up, e.Position)
		}
		for e, err := range db.EventsBefore(t.Context(), cfg.Customer, cfg.Mode, "", about) {
			if err != nil {
				t.Fatal(err)
			}
			down = append([]whatisup.Position{e.Position}, down...)
		}
		if !slices.Equal(up, want) || !slices.Equal(down, want) {
			t.Errorf("pages of %d: %d and %d events, want %d", about, len(up), len(down), len(want))
		}
	}
}
