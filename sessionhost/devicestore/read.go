package devicestore

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
)

// load is a read of the table under way. It is not put into the cache if the
// row was written meanwhile.
type load struct {
	sks    map[string]struct{} // nil: rows with the prefix
	pre    string
	stale  bool
	folded map[string][]byte // rows that were folded meanwhile
}

// set notes the value of a row that is folded while it is being read.
func (ld *load) set(sk string, value []byte) {
	if ld.folded == nil {
		ld.folded = make(map[string][]byte)
	}
	ld.folded[sk] = value
}

func (ld *load) covers(sk string) bool {
	if ld.sks == nil {
		return strings.HasPrefix(sk, ld.pre)
	}
	_, ok := ld.sks[sk]
	return ok
}

// known returns a row's value if it can be told without the table: from the
// transaction, from what is staged, or from the cache. It registers the read.
func (l *link) known(t *txn, sk string) (value []byte, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.usedAt = time.Now()
	if t != nil {
		if w, ok := t.rows[sk]; ok {
			return w.value, true
		}
		t.reads[sk] = struct{}{}
	}
	if w, ok := l.staged[sk]; ok {
		return w.value, true
	}
	if l.log != nil {
		if d, ok := l.log.dirty[sk]; ok {
			return d.value, len(d.ops) == 0
		}
	}
	if e, ok := l.cache.get(sk); ok {
		return e.value, true
	}
	return nil, false
}

// get returns a row's value, nil if there is none. The value must not be
// changed.
func (l *link) get(ctx context.Context, sk string) ([]byte, error) {
	values, err := l.getMany(ctx, []string{sk})
	return values[sk], err
}

// getMany returns the values of those rows that exist.
func (l *link) getMany(ctx context.Context, sks []string) (map[string][]byte, error) {
	if err := l.usable(); err != nil {
		return nil, err
	}
	t := l.txnOf(ctx)
	values := make(map[string][]byte, len(sks))
	var missing []string
	for _, sk := range sks {
		value, ok := l.known(t, sk)
		if !ok {
			missing = append(missing, sk)
		} else if value != nil {
			values[sk] = value
		}
	}
	slices.Sort(missing)
	for batch := range slices.Chunk(slices.Compact(missing), 100) {
		found, err := l.read(ctx, batch)
		if err != nil {
			return nil, err
		}
		maps.Copy(values, found)
	}
	return values, nil
}

// read reads up to 100 rows from the table and remembers them, absent ones too.
func (l *link) read(ctx context.Context, sks []string) (map[string][]byte, error) {
	ld := &load{sks: make(map[string]struct{}, len(sks))}
	for _, sk := range sks {
		ld.sks[sk] = struct{}{}
	}
	defer l.track(ld)()
	for try := 0; ; try++ {
		var items []map[string]types.AttributeValue
		var err error
		if len(sks) == 1 {
			items, err = l.readOne(ctx, sks[0])
		} else {
			items, err = l.readBatch(ctx, sks)
		}
		if err != nil {
			return nil, l.readFailed(ctx, err)
		}
		values, parts, ats, err := l.openItems(ctx, items)
		if err != nil {
			if errors.Is(err, ErrCorrupt) && try < 3 {
				continue // pieces of two versions, read while a commit was under way
			}
			return nil, l.readFailed(ctx, err)
		}
		l.mu.Lock()
		if err := l.overlay(ld, sks, values, ats); err != nil {
			l.mu.Unlock()
			return nil, l.readFailed(ctx, err)
		}
		if !ld.stale && l.dead == nil {
			for _, sk := range sks {
				l.cache.put(sk, values[sk])
				l.setParts(sk, parts[sk])
			}
		}
		l.mu.Unlock()
		return values, nil
	}
}

// setParts remembers how many continuation rows a row has, so that a shorter
// value removes them. One that is forgotten leaves rows behind that nobody reads
// and the sweeper removes. The caller holds l.mu.
func (l *link) setParts(sk string, n int) {
	if n == 0 {
		delete(l.large, sk)
		return
	}
	if len(l.large) >= maxLarge {
		clear(l.large)
	}
	l.large[sk] = n
}

const maxLarge = 64

// track registers a load and returns what ends it.
func (l *link) track(ld *load) func() {
	l.mu.Lock()
	l.loads[ld] = struct{}{}
	l.mu.Unlock()
	return func() {
		l.mu.Lock()
		delete(l.loads, ld)
		l.mu.Unlock()
	}
}

func (l *link) readOne(ctx context.Context, sk string) ([]map[string]types.AttributeValue, error) {
	out, err := retry(l.h, ctx, l.h.store.readTimeout, func(ctx context.Context) (*dynamodb.GetItemOutput, error) {
		return l.h.store.db.GetItem(ctx, &dynamodb.GetItemInput{
			TableName: aws.String(l.h.store.table), Key: primaryKey(l.pk, sk), ConsistentRead: aws.Bool(true),
		})
	})
	if err != nil || len(out.Item) == 0 {
		return nil, err
	}
	return []map[string]types.AttributeValue{out.Item}, nil
}

var errUnprocessed = errors.New("devicestore: DynamoDB left keys unprocessed")

func (l *link) readBatch(ctx context.Context, sks []string) ([]map[string]types.AttributeValue, error) {
	table := l.h.store.table
	keys := make([]map[string]types.AttributeValue, len(sks))
	for i, sk := range sks {
		keys[i] = primaryKey(l.pk, sk)
	}
	var items []map[string]types.AttributeValue
	_, err := retry(l.h, ctx, l.h.store.readTimeout, func(ctx context.Context) (struct{}, error) {
		out, err := l.h.store.db.BatchGetItem(ctx, &dynamodb.BatchGetItemInput{
			RequestItems: map[string]types.KeysAndAttributes{table: {Keys: keys, ConsistentRead: aws.Bool(true)}},
		})
		if err != nil {
			return struct{}{}, err
		}
		items = append(items, out.Responses[table]...)
		keys = out.UnprocessedKeys[table].Keys
		if len(keys) > 0 {
			return struct{}{}, errUnprocessed
		}
		return struct{}{}, nil
	})
	return items, err
}

// openItems joins, opens and unpacks rows, by sort key. Rows past their time
// are left out.
func (l *link) openItems(ctx context.Context, items []map[string]types.AttributeValue) (values map[string][]byte, parts map[string]int, ats map[string]uint64, err error) {
	values = make(map[string][]byte, len(items))
	parts, ats = make(map[string]int), make(map[string]uint64)
	now := time.Now()
	for _, it := range items {
		sk := stringAttr(it, attrSK)
		ats[sk], _ = numberAttr(it, attrAt)
		sealed := bytesAttr(it, attrValue)
		if expired(it, now) || sealed == nil { // or a tombstone
			continue
		}
		if n, ok := numberAttr(it, attrParts); ok && n > 0 {
			if n > maxSealed/pieceSize+1 {
				return nil, nil, nil, ErrCorrupt
			}
			parts[sk] = int(n)
			sealed = slices.Clone(sealed)
			for i := range int(n) {
				piece, err := l.readOne(ctx, partKey(sk, i))
				if err != nil {
					return nil, nil, nil, err
				}
				if len(piece) == 0 {
					return nil, nil, nil, ErrCorrupt
				}
				sealed = append(sealed, bytesAttr(piece[0], attrValue)...)
			}
		}
		value, err := l.h.store.packer.openRow(l.key, l.place(sk), sealed)
		if err != nil {
			return nil, nil, nil, err
		}
		values[sk] = value
	}
	return values, parts, ats, nil
}

// overlay puts into what was read from the table what only the log has, and what
// was folded meanwhile. The caller holds l.mu.
func (l *link) overlay(ld *load, sks []string, values map[string][]byte, ats map[string]uint64) error {
	if l.log == nil {
		return nil
	}
	set := func(sk string, value []byte) {
		if values[sk] = value; value == nil {
			delete(values, sk)
		}
	}
	for sk, value := range ld.folded {
		set(sk, value)
	}
	for _, sk := range sks {
		d, ok := l.log.dirty[sk]
		if !ok {
			continue
		}
		if len(d.ops) > 0 {
			if _, err := l.resolve(d, values[sk], ats[sk]); err != nil {
				return err
			}
			_, stands := ats[sk]
			if d.absent = !stands; ats[sk] >= d.last {
				delete(l.log.dirty, sk) // an earlier owner has folded it
				l.trimLog()
			}
		}
		set(sk, d.value)
	}
	return nil
}

// list returns every row whose sort key has the prefix, what is staged
// included.
func (l *link) list(ctx context.Context, prefix string) (map[string][]byte, error) {
	if err := l.usable(); err != nil {
		return nil, err
	}
	t := l.txnOf(ctx)
	if t != nil {
		l.mu.Lock()
		t.prefixes = append(t.prefixes, prefix)
		l.mu.Unlock()
	}
	ld := &load{pre: prefix}
	defer l.track(ld)()
	values, ats, err := l.queryAt(ctx, prefix)
	if err != nil {
		return nil, l.readFailed(ctx, err)
	}
	if err := l.overlayPrefix(ld, values, ats); err != nil {
		return nil, l.readFailed(ctx, err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	overlay := func(rows map[string]*write) {
		for sk, w := range rows {
			if !strings.HasPrefix(sk, prefix) {
				continue
			}
			if w.value == nil {
				delete(values, sk)
			} else {
				values[sk] = w.value
			}
		}
	}
	overlay(l.staged)
	if t != nil {
		overlay(t.rows)
	}
	return values, nil
}

// overlayPrefix is overlay for all rows with the load's prefix.
func (l *link) overlayPrefix(ld *load, values map[string][]byte, ats map[string]uint64) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.log == nil {
		return nil
	}
	var sks []string
	for sk := range l.log.dirty {
		if ld.covers(sk) {
			sks = append(sks, sk)
		}
	}
	return l.overlay(ld, sks, values, ats)
}

func (l *link) query(ctx context.Context, prefix string) (map[string][]byte, error) {
	values, _, err := l.queryAt(ctx, prefix)
	return values, err
}

// queryAt also returns which commits' changes the rows have.
func (l *link) queryAt(ctx context.Context, prefix string) (map[string][]byte, map[string]uint64, error) {
	values, ats := make(map[string][]byte), make(map[string]uint64)
	var start map[string]types.AttributeValue
	for {
		out, err := retry(l.h, ctx, l.h.store.readTimeout, func(ctx context.Context) (*dynamodb.QueryOutput, error) {
			return l.h.store.db.Query(ctx, &dynamodb.QueryInput{
				TableName:                aws.String(l.h.store.table),
				KeyConditionExpression:   aws.String("#pk = :pk AND begins_with(#sk, :prefix)"),
				ExpressionAttributeNames: map[string]string{"#pk": attrPK, "#sk": attrSK},
				ExpressionAttributeValues: map[string]types.AttributeValue{
					":pk": str(l.pk), ":prefix": str(prefix),
				},
				ConsistentRead:    aws.Bool(true),
				ExclusiveStartKey: start,
			})
		})
		if err != nil {
			return nil, nil, err
		}
		found, _, at, err := l.openItems(ctx, out.Items)
		if err != nil {
			return nil, nil, err
		}
		maps.Copy(values, found)
		maps.Copy(ats, at)
		if start = out.LastEvaluatedKey; len(start) == 0 {
			return values, ats, nil
		}
	}
}

// readFailed is how a failed read ends: a caller who went away gets its own
// error, anything else is the end of the handle, because an empty answer in
// place of an error would lose a session.
func (l *link) readFailed(caller context.Context, err error) error {
	if unusable := l.usable(); unusable != nil {
		return unusable
	}
	if caller.Err() != nil {
		return err
	}
	return l.h.fail(err)
}
