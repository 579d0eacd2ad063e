package devicestore

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"go.mau.fi/whatsmeow/store"

	"whatisup/shared/seal"
	"whatisup/shared/whatisup"
)

// link is the store of one paired device: it implements every store interface
// of whatsmeow. The methods of one interface are in one file.
type link struct {
	h      *Handle
	number whatisup.Link
	pk     string // the partition of its rows

	keyMu   sync.Mutex // held while KMS is asked
	key     *seal.Key  // nil until known; never changes afterwards
	wrapped []byte

	// commits is held from before a write is put together until its outcome is
	// known and applied. One write at a time is under way for a device, so that
	// writes don't conflict with each other on the device row, and each is
	// conditional on the number of the one before it.
	commitMu sync.Mutex

	contactMu sync.Mutex // one change of contacts at a time

	mu        sync.Mutex
	dead      error // why everything is refused
	stored    bool  // the device row holds this link
	confirmed bool
	commits   uint64
	hot       *hot
	cache     *cache
	large     map[string]int    // rows with continuation rows, and how many
	staged    map[string]*write // visible here, written with the next commit
	stagedHot []func(*hot)
	stagedAt  time.Time
	usedAt    time.Time
	txns      map[*txn]struct{}
	loads     map[*load]struct{}
	migrated  map[string]struct{} // phone number users whose rows were moved to their LID
	device    []byte              // the device as stored, to skip saves that change nothing

	events eventBuffer
}

// write is a new value of a row; a nil value deletes it.
type write struct {
	value   []byte
	expires time.Time
}

// change is what one commit does, all of it or nothing.
type change struct {
	rows    map[string]*write
	hot     []func(*hot)
	buffer  *pendingEvent   // to be added to the event buffer
	finish  *[hashSize]byte // to be removed from it
	confirm bool
	create  bool // the device row takes this link
	extra   []types.TransactWriteItem
	touches []string // what it changes that is no row of its own
}

func (c *change) empty() bool {
	return len(c.rows) == 0 && len(c.hot) == 0 && c.buffer == nil && c.finish == nil && !c.confirm && !c.create && len(c.extra) == 0
}

func (c *change) put(sk string, value []byte) { c.set(sk, &write{value: value}) }
func (c *change) delete(sk string)            { c.set(sk, &write{}) }

func (c *change) set(sk string, w *write) {
	if c.rows == nil {
		c.rows = make(map[string]*write)
	}
	c.rows[sk] = w
}

// txn is a change being made, with what it has read. A row that somebody else
// changes meanwhile makes it stale, and its function runs again.
type txn struct {
	change
	l        *link
	reads    map[string]struct{}
	prefixes []string
	stale    bool // guarded by the link's mutex
}

type txnKey struct{}

// txnOf returns the transaction of this link that the context carries, if any.
func (l *link) txnOf(ctx context.Context) *txn {
	t, _ := ctx.Value(txnKey{}).(*txn)
	if t == nil || t.l != l {
		return nil
	}
	return t
}

// load is a read of the table under way. It is not put into the cache if the
// row was written meanwhile.
type load struct {
	sks   map[string]struct{} // nil: rows with the prefix
	pre   string
	stale bool
}

func (ld *load) covers(sk string) bool {
	if ld.sks == nil {
		return strings.HasPrefix(sk, ld.pre)
	}
	_, ok := ld.sks[sk]
	return ok
}

func newLink(h *Handle, number whatisup.Link) *link {
	return &link{
		h: h, number: number, pk: linkPartition(h.instance, number),
		hot:      &hot{preKeys: preKeyRange{next: 1}},
		cache:    newCache(h.store.cacheBytes),
		large:    make(map[string]int),
		staged:   make(map[string]*write),
		txns:     make(map[*txn]struct{}),
		loads:    make(map[*load]struct{}),
		migrated: make(map[string]struct{}),
		events:   newEventBuffer(),
		usedAt:   time.Now(),
	}
}

// place is where a row's value belongs.
func (l *link) place(sk string) seal.Place {
	return seal.Place{Table: l.h.store.table, Partition: l.pk, Kind: kindOf(sk), Key: sk}
}

// retire makes the link refuse everything, with err, and frees its memory.
func (l *link) retire(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.dead != nil {
		return
	}
	l.dead = err
	l.cache.trim(0)
	clear(l.staged)
	l.stagedHot = nil
	clear(l.migrated)
	for t := range l.txns {
		t.stale = true
	}
	for ld := range l.loads {
		ld.stale = true
	}
}

// drain retires the link and waits for the commit that is under way, if any, so
// that what is read or written next comes after it.
func (l *link) drain(err error) {
	l.retire(err)
	l.commitMu.Lock()
	defer l.commitMu.Unlock()
}

// usable says why nothing can be done, or nil.
func (l *link) usable() error {
	if err := l.h.usable(); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.dead != nil {
		if errors.Is(l.dead, ErrClosed) {
			return &failure{cause: ErrClosed}
		}
		return l.dead
	}
	return nil
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
		values, parts, err := l.openItems(ctx, items)
		if err != nil {
			if errors.Is(err, ErrCorrupt) && try < 3 {
				continue // pieces of two versions, read while a commit was under way
			}
			return nil, l.readFailed(ctx, err)
		}
		l.mu.Lock()
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
func (l *link) openItems(ctx context.Context, items []map[string]types.AttributeValue) (map[string][]byte, map[string]int, error) {
	values := make(map[string][]byte, len(items))
	parts := make(map[string]int)
	now := time.Now()
	for _, it := range items {
		sk := stringAttr(it, attrSK)
		if expired(it, now) {
			continue
		}
		sealed := bytesAttr(it, attrValue)
		if n, ok := numberAttr(it, attrParts); ok && n > 0 {
			if n > maxSealed/pieceSize+1 {
				return nil, nil, ErrCorrupt
			}
			parts[sk] = int(n)
			sealed = slices.Clone(sealed)
			for i := range int(n) {
				piece, err := l.readOne(ctx, partKey(sk, i))
				if err != nil {
					return nil, nil, err
				}
				if len(piece) == 0 {
					return nil, nil, ErrCorrupt
				}
				sealed = append(sealed, bytesAttr(piece[0], attrValue)...)
			}
		}
		value, err := l.h.store.packer.openRow(l.key, l.place(sk), sealed)
		if err != nil {
			return nil, nil, err
		}
		values[sk] = value
	}
	return values, parts, nil
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
	values, err := l.query(ctx, prefix)
	if err != nil {
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

func (l *link) query(ctx context.Context, prefix string) (map[string][]byte, error) {
	values := make(map[string][]byte)
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
			return nil, err
		}
		found, _, err := l.openItems(ctx, out.Items)
		if err != nil {
			return nil, err
		}
		maps.Copy(values, found)
		if start = out.LastEvaluatedKey; len(start) == 0 {
			return values, nil
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

// stage makes writes visible at once and durable with the next commit, at the
// latest some seconds from now. It is for what may be lost in a crash.
func (l *link) stage(ctx context.Context, rows map[string]*write, edits ...func(*hot)) error {
	if err := l.usable(); err != nil {
		return err
	}
	if t := l.txnOf(ctx); t != nil {
		for sk, w := range rows {
			t.set(sk, w)
		}
		t.hot = append(t.hot, edits...)
		return nil
	}
	for _, w := range rows {
		if len(w.value) > stagedBytes {
			return l.commitRows(ctx, rows, edits...)
		}
	}
	l.mu.Lock()
	if len(l.staged) == 0 && len(l.stagedHot) == 0 {
		l.stagedAt = time.Now()
	}
	for sk, w := range rows {
		l.staged[sk] = w
		l.touched(nil, sk)
	}
	l.stagedHot = append(l.stagedHot, edits...)
	full := len(l.staged) >= stagedRows
	l.mu.Unlock()
	if full {
		return l.flush(ctx)
	}
	return nil
}

// commitRows writes rows at once.
func (l *link) commitRows(ctx context.Context, rows map[string]*write, edits ...func(*hot)) error {
	if t := l.txnOf(ctx); t != nil {
		return l.stage(ctx, rows, edits...)
	}
	return l.commit(ctx, &change{rows: rows, hot: edits}, nil)
}

// More rows, or a larger one, are not worth waiting with.
const (
	stagedRows  = 25
	stagedBytes = 32 << 10
)

// flush writes what is staged.
func (l *link) flush(ctx context.Context) error {
	l.mu.Lock()
	nothing := l.dead != nil || !l.stored || len(l.staged) == 0 && len(l.stagedHot) == 0
	l.mu.Unlock()
	if nothing {
		return nil
	}
	return l.commit(ctx, &change{}, nil)
}

// touched makes stale what others have read of a row. The caller holds l.mu.
func (l *link) touched(by *txn, sk string) {
	for t := range l.txns {
		if t == by || t.stale {
			continue
		}
		if _, ok := t.reads[sk]; ok {
			t.stale = true
			continue
		}
		for _, p := range t.prefixes {
			if strings.HasPrefix(sk, p) {
				t.stale = true
				break
			}
		}
	}
	for ld := range l.loads {
		if ld.covers(sk) {
			ld.stale = true
		}
	}
}

// maintain is the link's share of [Store.Run].
func (l *link) maintain(ctx context.Context, now time.Time) {
	l.mu.Lock()
	due := (len(l.staged) > 0 || len(l.stagedHot) > 0) && now.Sub(l.stagedAt) >= flushAfter
	if now.Sub(l.usedAt) >= idleAfter {
		l.cache.trim(idleCacheBytes)
	}
	l.mu.Unlock()
	if due {
		if err := l.flush(ctx); err != nil && l.usable() == nil {
			l.h.store.log.Warn("staged rows were not written", "instance_id", string(l.h.instance.ID), "error", err)
		}
	}
}

var (
	_ store.AllStores       = (*link)(nil)
	_ store.DeviceContainer = (*link)(nil)
)

// errRerun asks for the transaction's function to run again.
var errRerun = errors.New("devicestore: transaction is stale")

// atomically runs fn with a context whose reads and writes are one transaction,
// and commits it. If a row that fn read has changed by then, fn runs again: it
// must have no effect but through the context and what it assigns. Within a
// transaction of this link it joins that one.
func (l *link) atomically(ctx context.Context, fn func(context.Context, *txn) error) error {
	if t := l.txnOf(ctx); t != nil {
		return fn(ctx, t)
	}
	for try := 0; ; try++ {
		if err := l.usable(); err != nil {
			return err
		}
		err := l.attempt(ctx, fn, try >= 3)
		if !errors.Is(err, errRerun) {
			return err
		}
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("devicestore: %w", err)
		}
	}
}

// attempt runs fn once. An exclusive attempt keeps every other commit out
// meanwhile, so it cannot become stale by one.
func (l *link) attempt(ctx context.Context, fn func(context.Context, *txn) error, exclusive bool) error {
	t := &txn{l: l, reads: make(map[string]struct{})}
	l.mu.Lock()
	l.txns[t] = struct{}{}
	l.mu.Unlock()
	defer func() {
		l.mu.Lock()
		delete(l.txns, t)
		l.mu.Unlock()
	}()
	if exclusive {
		l.commitMu.Lock()
		defer l.commitMu.Unlock()
	}
	if err := fn(context.WithValue(ctx, txnKey{}, t), t); err != nil {
		if unusable := l.usable(); unusable != nil {
			return unusable
		}
		if l.isStale(t) {
			return errRerun // it may have failed for what it read
		}
		return err
	}
	if t.empty() {
		return nil
	}
	if exclusive {
		return l.commitLocked(ctx, &t.change, t)
	}
	return l.commit(ctx, &t.change, t)
}

func (l *link) isStale(t *txn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return t.stale
}
