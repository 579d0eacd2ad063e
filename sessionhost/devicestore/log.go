package devicestore

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"golang.org/x/sync/errgroup"
)

// linkLog is what a link that is stored as a log has in memory: the changes that
// stand in entries and not yet in rows. The link's mutex guards it.
type linkLog struct {
	dirty  map[string]*dirty
	sizes  []entrySize // of the entries that are not folded
	bytes  int
	opened time.Time // when the device row was last told that entries may follow

	folding bool           // one fold is under way
	folds   sync.WaitGroup // what runs beside the commits
	foldMu  sync.Mutex     // held by whoever folds
}

type entrySize struct {
	n    uint64
	size int
}

// dirty is a row with changes that only entries have.
type dirty struct {
	first, last uint64 // the numbers of the entries that change it
	value       []byte // as it is now, if ops is empty
	expires     time.Time
	ops         []loggedOp // read at load and not applied yet: what the row has is not known
	absent      bool       // the row did not stand at its key before; a hint
}

func newLinkLog() *linkLog { return &linkLog{dirty: make(map[string]*dirty), opened: time.Now()} }

// kindHot is the row of a logged link's hot state, which has no room to save on
// the device row.
const kindHot = "!hot"

// folded is up to where rows have everything. The caller holds l.mu.
func (l *link) folded() uint64 {
	folded := l.commits
	for _, d := range l.log.dirty {
		folded = min(folded, d.first-1)
	}
	return folded
}

// append writes the change as the next entry of the log, in one put where
// nothing stands; a change that is too large for one, or that other tables have
// a part in, as a transaction of that put and the rest.
func (l *link) append(p *plan) error {
	e, direct, err := l.entry(p)
	if err != nil {
		return err
	}
	put := &types.Put{
		TableName: aws.String(l.h.store.table), Item: e.item(l.pk),
		ConditionExpression:                 aws.String("attribute_not_exists(pk)"),
		ReturnValuesOnConditionCheckFailure: types.ReturnValuesOnConditionCheckFailureAllOld,
	}
	p.size = len(e.sealed)
	if p.direct = direct; len(direct) == 0 && p.change.handled == nil {
		return l.putEntry(put, p)
	}
	if len(direct) > 0 {
		// A fold that has taken an older value of such a row would come after it, and
		// find a row that has moved. So none is under way until this is in memory.
		l.log.foldMu.Lock()
		p.folds = &l.log.foldMu
	}
	items := []types.TransactWriteItem{{Put: put}}
	more, err := l.rowPuts(direct, p)
	if err != nil {
		return err
	}
	items = append(items, more...)
	items = append(items, p.logRows()...)
	if len(items) > maxItems+1 {
		return fmt.Errorf("%w: %d items in one transaction", ErrTooLarge, len(items))
	}
	return l.write(items, p)
}

// entry is the change as an entry, and the rows that it has no room for.
func (l *link) entry(p *plan) (*logEntry, map[string]*write, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delta := deltaOf(l.hot, p.hot)
	direct := make(map[string]*write)
	ops := make(map[string]loggedOp, len(p.rows))
	for sk, w := range p.rows {
		base, known := l.inMemory(sk)
		ops[sk] = opFor(base, known, w)
	}
	e := &logEntry{
		n: p.commits, epoch: l.h.fence.Epoch, mark: string(p.mark), folded: l.folded(),
		expires: time.Now().Add(entryLife),
	}
	seal := func() {
		body := appendOps(delta.append([]byte{entryFormat}), slices.Sorted(maps.Keys(ops)), ops)
		e.sealed = l.key.Seal(l.h.store.packer.pack(body), l.entryPlace(e.n))
	}
	size, cut := 0, false
	for sk, op := range ops {
		size += len(op.data)
		// What a value was cut into has to go, and one that may be cut is not folded.
		cut = cut || p.parts[sk] > 0 || len(p.rows[sk].value) > entryBytes
	}
	small := !cut && size <= 8*entryBytes // else there is no point in trying
	if small {
		seal()
	}
	if !small || len(e.sealed) > entryBytes {
		direct, ops = maps.Clone(p.rows), nil
		seal()
		if len(e.sealed) > entryBytes*4 {
			return nil, nil, fmt.Errorf("%w: hot state", ErrTooLarge)
		}
	}
	return e, direct, nil
}

// inMemory is a row's value as far as memory has it. The caller holds l.mu.
func (l *link) inMemory(sk string) (value []byte, known bool) {
	if l.log != nil {
		if d, ok := l.log.dirty[sk]; ok {
			return d.value, len(d.ops) == 0
		}
	}
	if e, ok := l.cache.entries[sk]; ok {
		return e.value, true
	}
	return nil, false
}

// rowPuts writes rows to their own keys as a part of the transaction of their
// entry. A deleted one stays as a tombstone, because a fold may arrive late.
func (l *link) rowPuts(rows map[string]*write, p *plan) ([]types.TransactWriteItem, error) {
	table := aws.String(l.h.store.table)
	var items []types.TransactWriteItem
	size := 0
	for _, sk := range slices.Sorted(maps.Keys(rows)) {
		parts, n, err := l.h.store.packer.rowItems(l.key, l.place(sk), rows[sk], p.parts[sk], p.commits)
		if err != nil {
			return nil, fmt.Errorf("%w (row of kind %q)", err, kindOf(sk))
		}
		p.parts[sk] = n
		for _, it := range parts {
			if it.put == nil && stringAttr(it.key, attrSK) == sk {
				it.put = l.tombstone(sk, p.commits)
			}
			if it.put == nil {
				items = append(items, types.TransactWriteItem{Delete: &types.Delete{TableName: table, Key: it.key}})
				continue
			}
			size += len(bytesAttr(it.put, attrValue)) + 256
			items = append(items, types.TransactWriteItem{Put: &types.Put{TableName: table, Item: it.put}})
		}
	}
	if size > maxBytes {
		return nil, fmt.Errorf("%w: %d bytes in one transaction", ErrTooLarge, size)
	}
	return items, nil
}

// tombstone stands for a row that was deleted.
func (l *link) tombstone(sk string, at uint64) map[string]types.AttributeValue {
	item := primaryKey(l.pk, sk)
	item[attrAt] = num(at)
	item[attrTTL] = num(uint64(time.Now().Add(entryLife).Unix()))
	return item
}

// putEntry puts an entry until its outcome is known. Putting it again is safe: a
// second arrival finds the first, which it knows by its mark.
func (l *link) putEntry(put *types.Put, p *plan) error {
	_, err := retry(l.h, context.Background(), l.h.store.commitTimeout, func(ctx context.Context) (*dynamodb.PutItemOutput, error) {
		return l.h.store.db.PutItem(ctx, &dynamodb.PutItemInput{
			TableName: put.TableName, Item: put.Item, ConditionExpression: put.ConditionExpression,
			ReturnValuesOnConditionCheckFailure: put.ReturnValuesOnConditionCheckFailure,
		})
	})
	if err == nil {
		return nil
	}
	if unusable := l.usable(); unusable != nil {
		return unusable
	}
	var refused *types.ConditionalCheckFailedException
	if errors.As(err, &refused) {
		return l.occupied(refused.Item, p)
	}
	return l.h.fail(err)
}

// occupied says what it means that something stands at an entry's place.
func (l *link) occupied(item map[string]types.AttributeValue, p *plan) error {
	e, ok := parseEntry(item)
	switch {
	case ok && e.mark == string(p.mark):
		return nil // an earlier try has arrived; only its answer was lost
	case ok && e.epoch > l.h.fence.Epoch:
		return l.h.fail(ErrFenced)
	case ok && e.end:
		l.retire(ErrWiped)
		return l.h.fail(ErrWiped)
	}
	return l.h.fail(ErrDiverged)
}

// logged makes an entry that stands part of what is in memory. The caller holds
// l.mu.
func (l *link) logged(p *plan) {
	n := p.commits
	for sk, w := range p.rows {
		if _, ok := p.direct[sk]; ok {
			delete(l.log.dirty, sk)
			continue
		}
		d := l.log.dirty[sk]
		if d == nil {
			e, known := l.cache.entries[sk]
			d = &dirty{first: n, absent: known && e.value == nil || kindOf(sk) == kindOutgoing || kindOf(sk) == kindBuffer}
			l.log.dirty[sk] = d
		}
		d.last, d.value, d.expires, d.ops = n, w.value, w.expires, nil
	}
	l.touchHot(n)
	l.log.sizes = append(l.log.sizes, entrySize{n, p.size})
	l.log.bytes += p.size
}

// touchHot notes that the hot state has changed. The caller holds l.mu.
func (l *link) touchHot(n uint64) {
	d := l.log.dirty[kindHot]
	if d == nil {
		d = &dirty{first: n}
		l.log.dirty[kindHot] = d
	}
	d.last = n
}

// trimLog forgets the sizes of entries that are folded. The caller holds l.mu.
func (l *link) trimLog() {
	folded := l.folded()
	for len(l.log.sizes) > 0 && l.log.sizes[0].n <= folded {
		l.log.bytes -= l.log.sizes[0].size
		l.log.sizes = l.log.sizes[1:]
	}
}

// foldDue says which rows have to be folded: those whose first change stands in
// an entry that is that many back, or in the way of the log's size.
func (l *link) foldDue(back uint64) []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.dead != nil || l.log == nil {
		return nil
	}
	limit := uint64(0) // entries up to here
	if l.commits > back {
		limit = l.commits - back
	}
	for i, over := 0, l.log.bytes-foldBytes*int(back)/int(l.h.store.foldNow); over > 0 && i < len(l.log.sizes); i++ {
		limit = max(limit, l.log.sizes[i].n)
		over -= l.log.sizes[i].size
	}
	var due []string
	for sk, d := range l.log.dirty {
		if d.first <= limit {
			due = append(due, sk)
		}
	}
	slices.Sort(due)
	return due
}

// foldAside begins to fold what will be due soon, beside the commits.
func (l *link) foldAside() {
	soon := l.h.store.foldSoon
	if len(l.foldDue(soon)) == 0 {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.log.folding || l.dead != nil {
		return
	}
	l.log.folding = true
	l.log.folds.Go(func() {
		l.fold(context.Background(), func() []string { return l.foldDue(soon) })
		l.mu.Lock()
		defer l.mu.Unlock()
		l.log.folding = false
	})
}

// fold writes rows to their own keys until due names none. A fold that can't be
// done ends the handle, as a commit does.
func (l *link) fold(ctx context.Context, due func() []string) error {
	l.log.foldMu.Lock()
	defer l.log.foldMu.Unlock()
	for {
		if err := l.usable(); err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("devicestore: %w", err)
		}
		sks := due()
		if len(sks) == 0 {
			return nil
		}
		if err := l.foldRows(ctx, sks); err != nil {
			return err
		}
	}
}

// folders is how many rows of a link are folded at a time.
const folders = 8

// foldedRow is a row on its way to its own key.
type foldedRow struct {
	sk      string
	at      uint64
	value   []byte
	expires time.Time
	absent  bool
}

func (l *link) foldRows(ctx context.Context, sks []string) error {
	// What was only read from the log has to be applied to its row first.
	var unread []string
	l.mu.Lock()
	for _, sk := range sks {
		if d := l.log.dirty[sk]; d != nil && len(d.ops) > 0 {
			unread = append(unread, sk)
		}
	}
	l.mu.Unlock()
	for batch := range slices.Chunk(unread, 100) {
		if _, err := l.read(ctx, batch); err != nil {
			return err
		}
	}
	var changed, made []foldedRow
	l.mu.Lock()
	for _, sk := range sks {
		d := l.log.dirty[sk]
		if d == nil || len(d.ops) > 0 {
			continue
		}
		row := foldedRow{sk: sk, at: d.last, value: d.value, expires: d.expires, absent: d.absent}
		if sk == kindHot {
			row.at, row.value = l.commits, l.hot.encode()
		}
		if row.absent {
			made = append(made, row)
		} else {
			changed = append(changed, row)
		}
	}
	if len(made) > 0 {
		// The device row is asked once for all of them; those that came later and
		// won't change again go along.
		for sk, d := range l.log.dirty {
			if d.absent && len(d.ops) == 0 && len(made) < 25 && !d.expires.IsZero() && !slices.Contains(sks, sk) {
				made = append(made, foldedRow{sk: sk, at: d.last, value: d.value, expires: d.expires, absent: true})
			}
		}
	}
	l.mu.Unlock()
	var some errgroup.Group
	some.SetLimit(folders)
	var madeMu sync.Mutex
	for _, row := range changed {
		some.Go(func() error {
			if err := ctx.Err(); err != nil {
				return fmt.Errorf("devicestore: %w", err)
			}
			missing, err := l.foldRow(row)
			if missing {
				madeMu.Lock()
				defer madeMu.Unlock()
				made = append(made, row)
			}
			return err
		})
	}
	if err := some.Wait(); err != nil {
		return err
	}
	for batch := range slices.Chunk(made, 25) {
		if err := l.foldNew(batch); err != nil {
			return err
		}
	}
	return nil
}

// rowItem is a row as a fold puts it.
func (l *link) rowItem(row foldedRow) (map[string]types.AttributeValue, error) {
	if row.value == nil {
		return l.tombstone(row.sk, row.at), nil
	}
	items, _, err := l.h.store.packer.rowItems(l.key, l.place(row.sk), &write{value: row.value, expires: row.expires}, 0, row.at)
	if err != nil {
		return nil, err
	}
	if len(items) != 1 {
		return nil, fmt.Errorf("%w: a row in the log", ErrTooLarge)
	}
	return items[0].put, nil
}

const olderRow = "(attribute_not_exists(#at) OR #at < :at)"

// foldRow writes a row that stands at its key, unless what stands there is newer.
// One that doesn't is missing: to make it the device row has to be asked, lest
// it comes to a link that was wiped.
func (l *link) foldRow(row foldedRow) (missing bool, err error) {
	item, err := l.rowItem(row)
	if err != nil {
		return false, l.h.fail(err)
	}
	_, err = retry(l.h, context.Background(), l.h.store.commitTimeout, func(ctx context.Context) (*dynamodb.PutItemOutput, error) {
		return l.h.store.db.PutItem(ctx, &dynamodb.PutItemInput{
			TableName: aws.String(l.h.store.table), Item: item,
			ConditionExpression:                 aws.String("attribute_exists(pk) AND " + olderRow),
			ExpressionAttributeNames:            map[string]string{"#at": attrAt},
			ExpressionAttributeValues:           map[string]types.AttributeValue{":at": num(row.at)},
			ReturnValuesOnConditionCheckFailure: types.ReturnValuesOnConditionCheckFailureAllOld,
		})
	})
	var refused *types.ConditionalCheckFailedException
	switch {
	case err == nil:
		l.rowFolded(row)
		return false, nil
	case l.usable() != nil:
		return false, l.usable()
	case errors.As(err, &refused):
		if len(refused.Item) == 0 {
			return true, nil
		}
		return false, l.newer(refused.Item, row)
	}
	return false, l.h.fail(err)
}

// newer is about a row that did not let a fold pass.
func (l *link) newer(item map[string]types.AttributeValue, row foldedRow) error {
	if at, _ := numberAttr(item, attrAt); at > row.at {
		return l.h.fail(ErrDiverged)
	}
	l.rowFolded(row) // an earlier try has arrived
	return nil
}

// foldNew makes rows, in a transaction that requires the epoch and the link.
func (l *link) foldNew(rows []foldedRow) error {
	for len(rows) > 0 {
		items := []types.TransactWriteItem{{ConditionCheck: l.headCheck()}}
		for _, row := range rows {
			item, err := l.rowItem(row)
			if err != nil {
				return l.h.fail(err)
			}
			items = append(items, types.TransactWriteItem{Put: &types.Put{
				TableName: aws.String(l.h.store.table), Item: item,
				ConditionExpression:                 aws.String(olderRow),
				ExpressionAttributeNames:            map[string]string{"#at": attrAt},
				ExpressionAttributeValues:           map[string]types.AttributeValue{":at": num(row.at)},
				ReturnValuesOnConditionCheckFailure: types.ReturnValuesOnConditionCheckFailureAllOld,
			}})
		}
		_, err := retry(l.h, context.Background(), l.h.store.commitTimeout, func(ctx context.Context) (*dynamodb.TransactWriteItemsOutput, error) {
			return l.h.store.db.TransactWriteItems(ctx, &dynamodb.TransactWriteItemsInput{TransactItems: items})
		})
		if err == nil {
			for _, row := range rows {
				l.rowFolded(row)
			}
			return nil
		}
		if unusable := l.usable(); unusable != nil {
			return unusable
		}
		var cancelled *types.TransactionCanceledException
		if !errors.As(err, &cancelled) || len(cancelled.CancellationReasons) != len(items) {
			return l.h.fail(err)
		}
		var left []foldedRow
		for i, r := range cancelled.CancellationReasons {
			refused := code(r) == "ConditionalCheckFailed"
			switch {
			case i == 0 && refused:
				return l.notOurs(r.Item)
			case i > 0 && refused:
				if err := l.newer(r.Item, rows[i-1]); err != nil {
					return err
				}
			case i > 0:
				left = append(left, rows[i-1])
			}
		}
		if len(left) == len(rows) {
			return l.h.fail(err)
		}
		rows = left
	}
	return nil
}

// headCheck requires that the link is ours.
func (l *link) headCheck() *types.ConditionCheck {
	return &types.ConditionCheck{
		TableName: aws.String(l.h.store.table), Key: primaryKey(string(l.h.instance.ID), headSK),
		ConditionExpression:      aws.String(oursAsLog),
		ExpressionAttributeNames: map[string]string{"#epoch": attrEpoch, "#link": attrLink, "#format": attrFormat},
		ExpressionAttributeValues: map[string]types.AttributeValue{
			":epoch": num(l.h.fence.Epoch), ":link": num(l.number), ":format": num(uint64(formatLog)),
		},
		ReturnValuesOnConditionCheckFailure: types.ReturnValuesOnConditionCheckFailureAllOld,
	}
}

const oursAsLog = "#epoch = :epoch AND #link = :link AND #format = :format"

// notOurs says what a device row means that is not ours any more.
func (l *link) notOurs(item map[string]types.AttributeValue) error {
	row := parseHead(item)
	switch {
	case len(item) == 0 || row.epoch != l.h.fence.Epoch:
		return l.h.fail(ErrFenced)
	case !row.linked || row.link != l.number:
		l.retire(ErrWiped)
		return l.h.fail(ErrWiped)
	}
	return l.h.fail(ErrDiverged)
}

// rowFolded notes that a row has what it should. Reads of it that are under way
// may have seen it before.
func (l *link) rowFolded(row foldedRow) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for ld := range l.loads {
		if ld.covers(row.sk) {
			ld.set(row.sk, row.value)
		}
	}
	d := l.log.dirty[row.sk]
	if d == nil {
		return
	}
	if d.absent = false; d.last <= row.at {
		delete(l.log.dirty, row.sk)
	} else {
		d.first = row.at + 1
	}
	l.trimLog()
}

// foldAll folds everything, and says so on the device row, so that a link that
// rests has its rows alone. closing says that no entry follows.
func (l *link) foldAll(ctx context.Context, closing bool) error {
	all := func() []string {
		l.mu.Lock()
		defer l.mu.Unlock()
		return slices.Sorted(maps.Keys(l.log.dirty))
	}
	l.mu.Lock()
	nothing := len(l.log.dirty) == 0
	l.mu.Unlock()
	if nothing && !closing {
		return nil
	}
	if err := l.fold(ctx, all); err != nil {
		return err
	}
	l.mu.Lock()
	n := l.folded()
	l.mu.Unlock()
	return l.openHead(ctx, n, closing)
}

// openHead tells the device row how far rows have everything, and whether and
// when entries may follow.
func (l *link) openHead(ctx context.Context, folded uint64, closing bool) error {
	values := map[string]types.AttributeValue{
		":epoch": num(l.h.fence.Epoch), ":link": num(l.number), ":format": num(uint64(formatLog)), ":n": num(folded),
	}
	expression := "SET #n = :n REMOVE #opened"
	now := time.Now()
	if !closing {
		expression, values[":opened"] = "SET #n = :n, #opened = :opened", num(uint64(now.Unix()))
	}
	_, err := retry(l.h, ctx, l.h.store.commitTimeout, func(ctx context.Context) (*dynamodb.UpdateItemOutput, error) {
		return l.h.store.db.UpdateItem(ctx, &dynamodb.UpdateItemInput{
			TableName: aws.String(l.h.store.table), Key: primaryKey(string(l.h.instance.ID), headSK),
			UpdateExpression:    aws.String(expression),
			ConditionExpression: aws.String(oursAsLog + " AND #n <= :n"),
			ExpressionAttributeNames: map[string]string{
				"#epoch": attrEpoch, "#link": attrLink, "#format": attrFormat, "#n": attrCommits, "#opened": attrOpened,
			},
			ExpressionAttributeValues:           values,
			ReturnValuesOnConditionCheckFailure: types.ReturnValuesOnConditionCheckFailureAllOld,
		})
	})
	var refused *types.ConditionalCheckFailedException
	if errors.As(err, &refused) {
		return l.notOurs(refused.Item)
	}
	if err == nil {
		l.mu.Lock()
		l.log.opened = now
		l.mu.Unlock()
	}
	return err
}

// confirmHead is Confirm for a link that is a log: the device row alone.
func (l *link) confirmHead(ctx context.Context) error {
	l.commitMu.Lock()
	defer l.commitMu.Unlock()
	if err := l.usable(); err != nil {
		return err
	}
	_, err := retry(l.h, context.Background(), l.h.store.commitTimeout, func(ctx context.Context) (*dynamodb.UpdateItemOutput, error) {
		return l.h.store.db.UpdateItem(ctx, &dynamodb.UpdateItemInput{
			TableName: aws.String(l.h.store.table), Key: primaryKey(string(l.h.instance.ID), headSK),
			UpdateExpression:         aws.String("SET #confirmed = :true"),
			ConditionExpression:      aws.String(oursAsLog),
			ExpressionAttributeNames: map[string]string{"#epoch": attrEpoch, "#link": attrLink, "#format": attrFormat, "#confirmed": attrConfirmed},
			ExpressionAttributeValues: map[string]types.AttributeValue{
				":epoch": num(l.h.fence.Epoch), ":link": num(l.number), ":format": num(uint64(formatLog)),
				":true": &types.AttributeValueMemberBOOL{Value: true},
			},
			ReturnValuesOnConditionCheckFailure: types.ReturnValuesOnConditionCheckFailureAllOld,
		})
	})
	var refused *types.ConditionalCheckFailedException
	switch {
	case err == nil:
		l.mu.Lock()
		l.confirmed = true
		l.mu.Unlock()
		return nil
	case l.usable() != nil:
		return l.usable()
	case errors.As(err, &refused):
		return l.notOurs(refused.Item)
	}
	return l.h.fail(err)
}
