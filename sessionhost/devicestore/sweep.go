package devicestore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"whatisup/shared/whatisup"
)

// A wiped link's rows are removed 25 at a time. Nobody can read them, so there
// is no hurry and no order: deleting twice, or by two hosts at once, is the
// same as once. The device row keeps the link in its set until the partition
// was found empty, so a sweep goes on wherever it was cut off.
const (
	sweepBatch = 25
	sweepRest  = 30 * time.Second // after a sweep that failed
	sweepTick  = 500 * time.Millisecond
)

func (h *Handle) sweepLater(links ...whatisup.Link) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, n := range links {
		if !slices.Contains(h.sweeps, n) {
			h.sweeps = append(h.sweeps, n)
		}
	}
}

// Sweep removes the rows of all wiped links of the instance that the handle
// knows of, and returns when none is left. [Store.Run] does the same by and by.
func (h *Handle) Sweep(ctx context.Context) error {
	for {
		h.mu.Lock()
		if len(h.sweeps) == 0 {
			h.mu.Unlock()
			return nil
		}
		number := h.sweeps[0]
		h.mu.Unlock()
		if err := h.sweep(ctx, number); err != nil {
			return err
		}
		h.mu.Lock()
		h.sweeps = slices.DeleteFunc(h.sweeps, func(n whatisup.Link) bool { return n == number })
		h.mu.Unlock()
	}
}

func (h *Handle) sweep(ctx context.Context, number whatisup.Link) error {
	pk := linkPartition(h.instance, number)
	for {
		out, err := retry(h, ctx, h.store.readTimeout, func(ctx context.Context) (*dynamodb.QueryOutput, error) {
			return h.store.db.Query(ctx, &dynamodb.QueryInput{
				TableName:                 aws.String(h.store.table),
				KeyConditionExpression:    aws.String("#pk = :pk"),
				ProjectionExpression:      aws.String("#pk, #sk"),
				ExpressionAttributeNames:  map[string]string{"#pk": attrPK, "#sk": attrSK},
				ExpressionAttributeValues: map[string]types.AttributeValue{":pk": str(pk)},
				ConsistentRead:            aws.Bool(true),
				Limit:                     aws.Int32(sweepBatch * 4),
			})
		})
		if err != nil {
			return err
		}
		for batch := range slices.Chunk(out.Items, sweepBatch) {
			if err := h.deleteRows(ctx, batch); err != nil {
				return err
			}
		}
		if len(out.Items) == 0 && len(out.LastEvaluatedKey) == 0 {
			return h.swept(ctx, number)
		}
	}
}

func (h *Handle) deleteRows(ctx context.Context, rows []map[string]types.AttributeValue) error {
	requests := make([]types.WriteRequest, len(rows))
	for i, row := range rows {
		requests[i] = types.WriteRequest{DeleteRequest: &types.DeleteRequest{Key: row}}
	}
	_, err := retry(h, ctx, h.store.commitTimeout, func(ctx context.Context) (struct{}, error) {
		out, err := h.store.db.BatchWriteItem(ctx, &dynamodb.BatchWriteItemInput{
			RequestItems: map[string][]types.WriteRequest{h.store.table: requests},
		})
		if err != nil {
			return struct{}{}, err
		}
		if requests = out.UnprocessedItems[h.store.table]; len(requests) > 0 {
			return struct{}{}, errUnprocessed
		}
		return struct{}{}, nil
	})
	return err
}

// swept takes a link out of the device row's set.
func (h *Handle) swept(ctx context.Context, number whatisup.Link) error {
	_, err := retry(h, ctx, h.store.commitTimeout, func(ctx context.Context) (*dynamodb.UpdateItemOutput, error) {
		return h.store.db.UpdateItem(ctx, &dynamodb.UpdateItemInput{
			TableName:                aws.String(h.store.table),
			Key:                      primaryKey(string(h.instance.ID), headSK),
			UpdateExpression:         aws.String("DELETE #sweep :sweep"),
			ConditionExpression:      aws.String("attribute_exists(pk) AND #epoch = :epoch"),
			ExpressionAttributeNames: map[string]string{"#sweep": attrSweep, "#epoch": attrEpoch},
			ExpressionAttributeValues: map[string]types.AttributeValue{
				":epoch": num(h.fence.Epoch),
				":sweep": &types.AttributeValueMemberNS{Value: []string{formatLink(number)}},
			},
		})
	})
	var refused *types.ConditionalCheckFailedException
	if errors.As(err, &refused) {
		return fmt.Errorf("%w: while sweeping", ErrFenced)
	}
	return err
}

// runSweeper sweeps one instance at a time, until ctx ends.
func (s *Store) runSweeper(ctx context.Context) {
	ticker := time.NewTicker(sweepTick)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		for _, h := range s.open() {
			if ctx.Err() != nil {
				return
			}
			if !h.wantsSweep(time.Now()) {
				continue
			}
			if err := h.Sweep(ctx); err != nil && ctx.Err() == nil && h.usable() == nil {
				s.log.Warn("sweep failed, will be tried again", "instance_id", string(h.instance.ID), "error", err)
				h.mu.Lock()
				h.resting = time.Now().Add(sweepRest)
				h.mu.Unlock()
			}
		}
	}
}

func (h *Handle) wantsSweep(now time.Time) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.sweeps) > 0 && h.failed == nil && now.After(h.resting)
}
