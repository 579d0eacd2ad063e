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
	"golang.org/x/sync/errgroup"

	"whatisup/shared/whatisup"
)

// A wiped link's rows are removed 25 at a time. Nobody can read them, so there
// is no hurry and no order: deleting twice, or by two hosts at once, is the
// same as once. The device row keeps the link in its set until the partition
// was found empty, so a sweep goes on wherever it was cut off.
//
// What is to be swept is the store's business and not a handle's, since a
// session is mostly over once its link is wiped. An owner that has no link to
// load looks at the device row once, for what an owner before it left.
const (
	sweepBatch = 25
	sweepRest  = 30 * time.Second // after a sweep that failed
	sweepTick  = 500 * time.Millisecond
	sweepers   = 4
	peekAfter  = time.Minute // how long a handle may be open without its device row being read
)

// sweeping is what is to be done for one instance.
type sweeping struct {
	instance Instance
	epoch    whatisup.Epoch
	links    []whatisup.Link
	unread   bool // the device row may list more
	resting  time.Time
}

// sweepLater notes links whose rows are to be removed; unread says that the
// device row has to be looked at for them first.
func (s *Store) sweepLater(h *Handle, unread bool, links ...whatisup.Link) {
	if len(links) == 0 && !unread {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	w := s.sweeps[h.instance.ID]
	if w == nil {
		w = &sweeping{instance: h.instance}
		s.sweeps[h.instance.ID] = w
	}
	w.epoch = max(w.epoch, h.fence.Epoch)
	w.unread = w.unread || unread
	for _, n := range links {
		if !slices.Contains(w.links, n) {
			w.links = append(w.links, n)
		}
	}
}

// toSweep returns a link of the instance whose rows are to be removed.
func (s *Store) toSweep(id whatisup.InstanceID) (whatisup.Link, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	w := s.sweeps[id]
	if w == nil || len(w.links) == 0 {
		return 0, false
	}
	return w.links[0], true
}

// sweptLink forgets a link whose rows are gone.
func (s *Store) sweptLink(id whatisup.InstanceID, number whatisup.Link) {
	s.mu.Lock()
	defer s.mu.Unlock()
	w := s.sweeps[id]
	if w == nil {
		return
	}
	w.links = slices.DeleteFunc(w.links, func(n whatisup.Link) bool { return n == number })
	if len(w.links) == 0 && !w.unread {
		delete(s.sweeps, id)
	}
}

// Sweep removes the rows of all wiped links of the instance that are known of,
// and returns when none is left. [Store.Run] does the same by and by.
func (h *Handle) Sweep(ctx context.Context) error {
	for {
		number, ok := h.store.toSweep(h.instance.ID)
		if !ok {
			return nil
		}
		if err := h.sweep(ctx, number); err != nil {
			return err
		}
		h.store.sweptLink(h.instance.ID, number)
	}
}

func (h *Handle) sweep(ctx context.Context, number whatisup.Link) error {
	pk := linkPartition(h.instance, number)
	// Entries of the log keep their places from writers who come late, and go when
	// their time is over. They can't be read any more either.
	part, bound := "#sk < :log", kindEntry+"#"
	for {
		out, err := retry(h, ctx, h.store.readTimeout, func(ctx context.Context) (*dynamodb.QueryOutput, error) {
			return h.store.db.Query(ctx, &dynamodb.QueryInput{
				TableName:                 aws.String(h.store.table),
				KeyConditionExpression:    aws.String("#pk = :pk AND " + part),
				ProjectionExpression:      aws.String("#pk, #sk"),
				ExpressionAttributeNames:  map[string]string{"#pk": attrPK, "#sk": attrSK},
				ExpressionAttributeValues: map[string]types.AttributeValue{":pk": str(pk), ":log": str(bound)},
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
			if bound == kindEntry+"#" {
				part, bound = "#sk > :log", kindEntry+"$" // the character after #
				continue
			}
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

// runSweeper sweeps a few instances at a time, until ctx ends.
func (s *Store) runSweeper(ctx context.Context) {
	ticker := time.NewTicker(sweepTick)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		var some errgroup.Group
		some.SetLimit(sweepers)
		for _, w := range s.due(time.Now()) {
			some.Go(func() error { s.sweepOne(ctx, w); return nil })
		}
		_ = some.Wait() // nothing fails but by log
	}
}

// due returns what may be swept now.
func (s *Store) due(now time.Time) []sweeping {
	s.mu.Lock()
	defer s.mu.Unlock()
	var due []sweeping
	for _, w := range s.sweeps {
		if now.After(w.resting) {
			due = append(due, *w)
		}
	}
	return due
}

// sweepOne does what is to be done for one instance, with a handle of its own:
// the session's may be closed long since.
func (s *Store) sweepOne(ctx context.Context, w sweeping) {
	h := &Handle{store: s, instance: w.instance, fence: Fence{Epoch: w.epoch, Context: ctx}}
	h.ctx, h.cancel = context.WithCancelCause(ctx)
	defer h.cancel(nil)
	err := h.peek(ctx, w.unread)
	if err == nil {
		err = h.Sweep(ctx)
	}
	if err == nil || ctx.Err() != nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	known := s.sweeps[w.instance.ID]
	switch {
	case known == nil:
	case errors.Is(err, ErrFenced) && known.epoch == w.epoch:
		delete(s.sweeps, w.instance.ID) // the owner's to do, which finds it on the device row
	default:
		s.log.Warn("sweep failed, will be tried again", "instance_id", string(w.instance.ID), "error", err)
		known.resting = time.Now().Add(sweepRest)
	}
}

// peek looks at the device row for what an earlier owner has left to sweep.
func (h *Handle) peek(ctx context.Context, unread bool) error {
	if !unread {
		return nil
	}
	row, found, err := h.readHead(ctx)
	if err != nil {
		return err
	}
	if !found || row.epoch != h.fence.Epoch {
		return ErrFenced
	}
	h.store.sweepLater(h, false, row.sweep...)
	h.store.peeked(h.instance.ID)
	return nil
}

// peeked says that the device row of the instance was read.
func (s *Store) peeked(id whatisup.InstanceID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if w := s.sweeps[id]; w != nil {
		if w.unread = false; len(w.links) == 0 {
			delete(s.sweeps, id)
		}
	}
}

// saw notes that the handle has read its device row, and what it lists.
func (h *Handle) saw(links ...whatisup.Link) {
	h.mu.Lock()
	h.seen = true
	h.mu.Unlock()
	h.store.sweepLater(h, false, links...)
}

// unseen asks for a look at the device row if this handle had none.
func (h *Handle) unseen() {
	h.mu.Lock()
	seen := h.seen
	h.seen = true
	h.mu.Unlock()
	if !seen {
		h.store.sweepLater(h, true)
	}
}
