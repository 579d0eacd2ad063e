package devicestore

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"go.mau.fi/whatsmeow/store"

	"crypto/rand"
)

// newestFirst is how many entries the first read asks for; there are hardly ever
// more that rows don't have.
const newestFirst = foldNow + 2

// beginTries bounds how often an owner that begins is overtaken by an earlier
// one, which is the one that has lost.
const beginTries = 20

// loadLog reads a link that is a log, and closes it to earlier owners. Until
// that is done they may go on, and what they have committed until then is seen.
func (l *link) loadLog(ctx context.Context, row head) (*store.Device, error) {
	if !row.opened.IsZero() && time.Since(row.opened) > entryTrust {
		return nil, fmt.Errorf("%w: nobody has written since %s", ErrLost, row.opened.Format(time.DateOnly))
	}
	for range beginTries {
		l.log = newLinkLog()
		l.log.opened = row.opened
		entries, err := l.unfolded(ctx, row.commits)
		if err != nil {
			return nil, err
		}
		l.commits = row.commits
		folded, epoch := row.commits, row.writer
		if len(entries) > 0 {
			newest := entries[len(entries)-1]
			if newest.n > row.commits {
				if l.commits, folded, epoch = newest.n, max(folded, newest.folded), newest.epoch; newest.end {
					return nil, l.h.fail(ErrDiverged) // the device row was read before it ended
				}
			}
		}
		if epoch > l.h.fence.Epoch {
			return nil, l.h.fail(ErrFenced)
		}
		if epoch < l.h.fence.Epoch {
			taken, err := l.adopt(ctx, folded)
			if err != nil {
				return nil, err
			}
			if taken {
				continue
			}
		}
		return l.replay(ctx, entries, folded)
	}
	return nil, fmt.Errorf("%w: an earlier owner goes on writing", ErrUnavailable)
}

// unfolded reads the newest entries down to the first one that is not in rows.
func (l *link) unfolded(ctx context.Context, folded uint64) ([]logEntry, error) {
	var entries []logEntry // newest first
	query := func(below uint64, limit int32) (done bool, err error) {
		in := &dynamodb.QueryInput{
			TableName:                 aws.String(l.h.store.table),
			KeyConditionExpression:    aws.String("#pk = :pk AND #sk BETWEEN :from AND :to"),
			ExpressionAttributeNames:  map[string]string{"#pk": attrPK, "#sk": attrSK},
			ExpressionAttributeValues: map[string]types.AttributeValue{":pk": str(l.pk), ":from": str(entryKey(folded + 1)), ":to": str(entryKey(below))},
			ConsistentRead:            aws.Bool(true),
			ScanIndexForward:          aws.Bool(false),
		}
		if limit > 0 {
			in.Limit = aws.Int32(limit)
		}
		for {
			out, err := retry(l.h, ctx, l.h.store.readTimeout, func(ctx context.Context) (*dynamodb.QueryOutput, error) {
				return l.h.store.db.Query(ctx, in)
			})
			if err != nil {
				return false, err
			}
			for _, item := range out.Items {
				e, ok := parseEntry(item)
				if !ok {
					return false, fmt.Errorf("%w: entry of the log", ErrCorrupt)
				}
				if len(entries) == 0 {
					folded = max(folded, e.folded)
				}
				entries = append(entries, e)
			}
			in.ExclusiveStartKey = out.LastEvaluatedKey
			if len(out.LastEvaluatedKey) == 0 {
				return true, nil
			}
			if limit > 0 {
				return false, nil
			}
		}
	}
	done, err := query(1<<40-1, newestFirst)
	if err == nil && !done && len(entries) > 0 && entries[len(entries)-1].n > folded+1 {
		_, err = query(entries[len(entries)-1].n-1, 0)
	}
	if err != nil {
		return nil, err
	}
	slices.Reverse(entries)
	// What an older fold's number has let through is in rows already.
	if i := slices.IndexFunc(entries, func(e logEntry) bool { return e.n > folded }); i > 0 {
		entries = entries[i:]
	} else if i < 0 && len(entries) > 0 {
		entries = entries[len(entries)-1:]
	}
	return entries, nil
}

// adopt closes the log with an entry of its own; taken says that somebody has
// written meanwhile.
func (l *link) adopt(ctx context.Context, folded uint64) (taken bool, err error) {
	mark := make([]byte, 8)
	_, _ = rand.Read(mark) // never fails
	e := &logEntry{n: l.commits + 1, epoch: l.h.fence.Epoch, mark: string(mark), folded: folded, expires: time.Now().Add(entryLife)}
	check := l.headCheck()
	check.ExpressionAttributeNames["#opened"], check.ExpressionAttributeNames["#writer"] = attrOpened, attrWriter
	check.ExpressionAttributeValues[":opened"] = num(uint64(time.Now().Unix()))
	items := []types.TransactWriteItem{{Update: &types.Update{
		TableName: check.TableName, Key: check.Key, ConditionExpression: check.ConditionExpression,
		UpdateExpression:                    aws.String("SET #opened = :opened, #writer = :epoch"),
		ExpressionAttributeNames:            check.ExpressionAttributeNames,
		ExpressionAttributeValues:           check.ExpressionAttributeValues,
		ReturnValuesOnConditionCheckFailure: types.ReturnValuesOnConditionCheckFailureAllOld,
	}}, {Put: &types.Put{
		TableName: check.TableName, Item: e.item(l.pk), ConditionExpression: aws.String("attribute_not_exists(pk)"),
		ReturnValuesOnConditionCheckFailure: types.ReturnValuesOnConditionCheckFailureAllOld,
	}}}
	_, err = retry(l.h, ctx, l.h.store.commitTimeout, func(ctx context.Context) (*dynamodb.TransactWriteItemsOutput, error) {
		return l.h.store.db.TransactWriteItems(ctx, &dynamodb.TransactWriteItemsInput{TransactItems: items})
	})
	var cancelled *types.TransactionCanceledException
	if errors.As(err, &cancelled) && len(cancelled.CancellationReasons) == len(items) {
		if r := cancelled.CancellationReasons[0]; code(r) == "ConditionalCheckFailed" {
			return false, l.notOurs(r.Item)
		}
		if r := cancelled.CancellationReasons[1]; code(r) == "ConditionalCheckFailed" {
			if old, ok := parseEntry(r.Item); !ok || old.mark != e.mark {
				return true, nil
			}
			err = nil // an earlier try has arrived
		}
	}
	if err != nil {
		return false, err
	}
	l.commits, l.log.opened = e.n, time.Now()
	return false, nil
}

// replay makes the state of the rows that every connection needs and of the
// entries that they don't have. Other rows are read when they are asked for.
func (l *link) replay(ctx context.Context, entries []logEntry, folded uint64) (*store.Device, error) {
	rows, ats, err := l.queryAt(ctx, "!")
	if err != nil {
		return nil, err
	}
	if rows[kindHot] == nil {
		return nil, fmt.Errorf("%w: no hot state", ErrCorrupt)
	}
	if l.hot, err = decodeHot(rows[kindHot]); err != nil {
		return nil, err
	}
	l.hot.room = hotRowLimit
	for i, e := range entries {
		if want := folded + 1 + uint64(i); e.n != want {
			if e.n <= folded {
				continue // only there to tell the log's end
			}
			return nil, fmt.Errorf("%w: entry %d follows on %d", ErrLost, e.n, want-1)
		}
		l.log.sizes, l.log.bytes = append(l.log.sizes, entrySize{e.n, len(e.sealed)}), l.log.bytes+len(e.sealed)
		if e.sealed == nil {
			continue
		}
		if time.Until(e.expires) < entryLife-entryTrust {
			return nil, fmt.Errorf("%w: entry %d is old and in no row", ErrLost, e.n)
		}
		plain, err := l.key.Open(e.sealed, l.entryPlace(e.n))
		if err != nil {
			return nil, fmt.Errorf("%w: entry of the log", ErrCorrupt)
		}
		if plain, err = l.h.store.packer.unpack(plain); err != nil {
			return nil, err
		}
		d := decoder{b: plain}
		if format := d.byte(); format > entryFormat {
			return nil, fmt.Errorf("%w: entry of the log has format %d", ErrNewerFormat, format)
		}
		delta := decodeHotDelta(&d)
		sks, ops := decodeOps(&d, e.n)
		if d.failed || len(d.b) > 0 {
			return nil, fmt.Errorf("%w: entry of the log", ErrCorrupt)
		}
		if e.n > ats[kindHot] {
			if err := delta.apply(l.hot); err != nil {
				return nil, err
			}
			l.touchHot(e.n)
		}
		for i, sk := range sks {
			dd := l.log.dirty[sk]
			if dd == nil {
				dd = &dirty{first: e.n}
				l.log.dirty[sk] = dd
			}
			dd.last, dd.expires = e.n, ops[i].expires
			dd.ops = append(dd.ops, ops[i])
		}
	}
	for sk, d := range l.log.dirty {
		if strings.HasPrefix(sk, "!") && sk != kindHot {
			value, err := l.resolve(d, rows[sk], ats[sk])
			if err != nil {
				return nil, err
			}
			if rows[sk] = value; value == nil {
				delete(rows, sk)
			}
			_, stands := ats[sk]
			if d.absent = !stands; ats[sk] >= d.last {
				delete(l.log.dirty, sk)
			}
		}
	}
	return l.begin(rows)
}

// resolve applies what was read from the log to a row's value, as far as the row
// doesn't have it. The caller holds l.mu, or has the link for itself.
func (l *link) resolve(d *dirty, value []byte, at uint64) ([]byte, error) {
	for i := range d.ops {
		op := &d.ops[i]
		if op.n <= at {
			continue
		}
		var err error
		if value, err = op.apply(value); err != nil {
			return nil, err
		}
	}
	d.value, d.ops = value, nil
	return value, nil
}

// begin gives the device its stores, and the buffer what is not handled.
func (l *link) begin(rows map[string][]byte) (*store.Device, error) {
	l.events.done = slices.Clone(l.hot.done)
	for _, p := range l.hot.pending {
		l.events.pending[p.hash] = p
	}
	for sk, value := range rows {
		if kindOf(sk) == kindHistory {
			l.keepHistory(sk, value)
		}
		name, ok := strings.CutPrefix(sk, kindBuffer+"#")
		if !ok {
			continue
		}
		d := decoder{b: value}
		p := decodePending(&d)
		hash, err := base64.RawURLEncoding.DecodeString(name)
		if d.failed || err != nil || !bytes.Equal(hash, p.hash[:]) {
			return nil, fmt.Errorf("%w: buffered event", ErrCorrupt)
		}
		p.row = true
		l.events.pending[p.hash] = p
	}
	device, err := decodeDevice(rows[kindDevice])
	if err != nil {
		return nil, err
	}
	l.device = rows[kindDevice]
	l.attach(device)
	return device, nil
}

func (l *link) isLog() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.log != nil
}

// reformat makes the link what the store is to store. The device row changes
// first and in the same transaction, so that no earlier program can load the
// link or write to it.
func (l *link) reformat(ctx context.Context) error {
	switch {
	case l.log == nil && l.h.store.format == FormatLog:
		return l.commit(ctx, &change{upgrade: true}, nil)
	case l.log != nil && l.h.store.format == FormatRows:
		if err := l.foldAll(ctx, false); err != nil {
			return err
		}
		return l.commit(ctx, &change{lower: true}, nil)
	}
	return nil
}

// maintainLog folds what has been in the log alone for long, and keeps the
// device row from looking as if nobody had been there.
func (l *link) maintainLog(ctx context.Context, now time.Time) {
	l.mu.Lock()
	if l.log == nil || l.dead != nil || !l.stored {
		l.mu.Unlock()
		return
	}
	idle := len(l.log.dirty) > 0 && now.Sub(l.usedAt) >= foldAfter
	old := now.Sub(l.log.opened) >= openedLife
	n := l.folded()
	l.mu.Unlock()
	var err error
	switch {
	case idle:
		err = l.foldAll(ctx, false)
	case old:
		err = l.openHead(ctx, n, false)
	}
	if err != nil && l.usable() == nil {
		l.h.store.log.Warn("rows of the log were not folded", "instance_id", string(l.h.instance.ID), "error", err)
	}
}

const (
	foldAfter  = 10 * time.Minute
	openedLife = 24 * time.Hour
)
