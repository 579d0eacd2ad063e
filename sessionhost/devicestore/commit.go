package devicestore

import (
	"context"
	"crypto/rand"
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
)

// maxItems and maxBytes are a transaction's limits in DynamoDB, less what the
// device row takes of them.
const (
	maxItems = 99
	maxBytes = 4<<20 - 64<<10
)

// commit writes a change in one transaction, together with what is staged, and
// applies it to the caches when it has happened. t is the transaction the
// change belongs to, nil if it read nothing.
//
// A write doesn't end with the caller's context: half of what calls here has
// lost its interest by then, and a write of unknown outcome would cost the
// session.
//
// Of a link that is a log, changes that wait while a write is under way share the
// next one.
func (l *link) commit(ctx context.Context, c *change, t *txn) error {
	w := &waiting{change: c, txn: t}
	l.mu.Lock()
	l.queue = append(l.queue, w)
	l.mu.Unlock()
	l.commitMu.Lock()
	defer l.commitMu.Unlock()
	group := l.company(w)
	if len(group) == 0 {
		return w.err // somebody has taken it along
	}
	if len(group) > 1 {
		all, txns := merged(group)
		err := l.commitLocked(ctx, all, txns...)
		if !errors.Is(err, ErrTooLarge) && !errors.Is(err, errRerun) {
			for _, other := range group[1:] {
				other.done, other.err = true, err // read under commitMu
			}
			return err
		}
		l.mu.Lock()
		l.queue = append(group[1:], l.queue...) // each for itself
		l.mu.Unlock()
	}
	return l.commitLocked(ctx, c, t)
}

// waiting is a change in the queue for the next write.
type waiting struct {
	*change
	txn  *txn
	done bool // guarded by the link's commitMu, as err
	err  error
}

// shareable says whether a change may go with others.
func (w *waiting) shareable() bool {
	c := w.change
	return c.handled == nil && !c.confirm && !c.create && !c.upgrade && !c.lower
}

// maxShared is how many rows changes may have that share a write.
const maxShared = 24

// company takes the change out of the queue, and those along that can share its
// write. It returns nothing if the change itself was taken along.
func (l *link) company(w *waiting) []*waiting {
	if w.done {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	group, left := []*waiting{w}, l.queue[:0]
	written := make(map[string]struct{})
	write := func(c *change) {
		for sk := range c.rows {
			written[sk] = struct{}{}
		}
		for _, name := range c.touches {
			written[name] = struct{}{}
		}
	}
	write(w.change)
	buffer := w.buffer != nil
	for _, x := range l.queue {
		switch {
		case x == w:
			continue
		case l.log == nil || !w.shareable() || !x.shareable() || buffer && x.buffer != nil || len(written)+len(x.rows) > maxShared || x.after(written):
			left = append(left, x)
			continue
		}
		write(x.change)
		buffer = buffer || x.buffer != nil
		group = append(group, x)
	}
	clear(l.queue[len(left):])
	l.queue = left
	return group
}

// after says whether a change has read, or writes, what others write before it:
// then it has to wait, and mostly to run again.
func (w *waiting) after(written map[string]struct{}) bool {
	for sk := range written {
		if _, ok := w.rows[sk]; ok || w.txn != nil && (w.txn.stale || w.txn.hasRead(sk)) {
			return true
		}
	}
	return w.txn != nil && w.txn.stale
}

// merged is a group of changes as one.
func merged(group []*waiting) (*change, []*txn) {
	all := &change{rows: make(map[string]*write)}
	var txns []*txn
	for _, w := range group {
		maps.Copy(all.rows, w.rows)
		all.hot = append(all.hot, w.change.hot...)
		all.touches = append(all.touches, w.touches...)
		if w.buffer != nil {
			all.buffer = w.buffer
		}
		if w.txn != nil {
			txns = append(txns, w.txn)
		}
	}
	return all, txns
}

// plan is a change with the state it leads to.
type plan struct {
	change    *change
	rows      map[string]*write
	staged    map[string]*write // those of rows that were staged
	edits     int               // how many staged edits are in
	hot       *hot
	confirmed bool
	commits   uint64
	mark      []byte
	parts     map[string]int
	buffered  []*pendingEvent // as they stand in the table now
	finished  int             // how many finished messages leave it

	// Of a link that is a log:
	direct map[string]*write // rows that the entry has no room for
	size   int               // of the entry
	folds  *sync.Mutex       // held while such rows are written; nil: it is not
}

// letFold lets folds go on that had to wait for this commit.
func (p *plan) letFold() {
	if p != nil && p.folds != nil {
		p.folds.Unlock()
		p.folds = nil
	}
}

func (l *link) commitLocked(_ context.Context, c *change, txns ...*txn) error {
	if err := l.usable(); err != nil {
		return err
	}
	p, err := l.plan(c, txns, true)
	if err != nil {
		return err
	}
	defer func() { p.letFold() }()
	store := l.append
	if l.log == nil || c.create || c.lower {
		store = l.transact
	} else if len(l.foldDue(l.h.store.foldNow)) > 0 {
		if err := l.fold(context.Background(), func() []string { return l.foldDue(l.h.store.foldNow) }); err != nil {
			return err
		}
	}
	err = store(p)
	if errors.Is(err, ErrTooLarge) && len(p.staged) > 0 {
		p.letFold()
		if p, err = l.plan(c, txns, false); err != nil {
			return err
		}
		err = store(p)
	}
	if err != nil {
		return err
	}
	l.apply(p)
	if l.log != nil {
		l.foldAside()
	}
	return nil
}

// transact writes the change as one transaction that begins with the device row.
func (l *link) transact(p *plan) error {
	items, err := l.items(p)
	if err != nil {
		return err
	}
	return l.write(items, p)
}

// plan decides what the commit writes. Afterwards nothing that was decided may
// change but by this commit; l.commitMu sees to that for everything but staged
// rows, which are taken by identity.
func (l *link) plan(c *change, txns []*txn, withStaged bool) (*plan, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if slices.ContainsFunc(txns, func(t *txn) bool { return t != nil && t.stale }) {
		return nil, errRerun
	}
	if !l.stored && !c.create {
		return nil, ErrNoDevice
	}
	p := &plan{
		change: c, rows: make(map[string]*write, len(c.rows)+1), staged: make(map[string]*write),
		hot: l.hot.clone(), confirmed: l.confirmed || c.confirm, commits: l.commits + 1,
		mark: make([]byte, 8), parts: make(map[string]int),
	}
	_, _ = rand.Read(p.mark) // never fails
	if c.create && l.log != nil {
		p.commits = 0 // the first entry is 1
	}
	maps.Copy(p.rows, c.rows)
	// Two rows of the log may follow, and what a new message moves out of the
	// device row.
	full := func() bool { return len(p.rows) >= maxItems-12 }
	for sk, w := range l.staged {
		if !withStaged || full() {
			break
		}
		if _, ok := p.rows[sk]; !ok {
			p.rows[sk] = w
		}
		p.staged[sk] = w
	}
	for _, edit := range l.stagedHot {
		edit(p.hot)
	}
	p.edits = len(l.stagedHot)
	for _, edit := range c.hot {
		edit(p.hot)
	}
	for _, f := range l.events.finished {
		if f.row && full() {
			break
		}
		p.finish(f)
		p.finished++
	}
	if h := c.handled; h != nil {
		old := l.events.pending[h.hash]
		p.finish(finished{h.hash, old != nil && old.row})
	}
	if c.buffer != nil {
		p.buffered = append(p.buffered, c.buffer)
		for _, out := range p.hot.add(c.buffer) {
			b := *out
			b.row = true
			p.rows[bufferKey(b.hash)] = &write{value: b.append(nil), expires: b.inserted.Add(bufferLife)}
			p.buffered = append(p.buffered, &b)
		}
	}
	if c.upgrade || c.create && l.log != nil {
		p.rows[kindHot] = &write{value: p.hot.encode()}
	}
	for sk := range p.rows {
		p.parts[sk] = l.large[sk]
		for ld := range l.loads {
			if ld.covers(sk) {
				ld.stale = true // it may see either version from now on
			}
		}
	}
	return p, nil
}

// finish takes a message out of the buffer.
func (p *plan) finish(f finished) {
	p.hot.finish(f.hash)
	if f.row {
		p.rows[bufferKey(f.hash)] = &write{}
	}
}

// items returns the transaction: the device row first, then own rows, then the
// log's.
func (l *link) items(p *plan) (items []types.TransactWriteItem, err error) {
	table := aws.String(l.h.store.table)
	items = append(items, types.TransactWriteItem{Update: l.headUpdate(p)})
	size := 0
	for _, sk := range slices.Sorted(maps.Keys(p.rows)) {
		parts, n, err := l.h.store.packer.rowItems(l.key, l.place(sk), p.rows[sk], p.parts[sk], p.commits)
		if err != nil {
			return nil, fmt.Errorf("%w (row of kind %q)", err, kindOf(sk))
		}
		p.parts[sk] = n
		for _, it := range parts {
			if it.put == nil {
				items = append(items, types.TransactWriteItem{Delete: &types.Delete{TableName: table, Key: it.key}})
				continue
			}
			size += len(bytesAttr(it.put, attrValue)) + 256
			items = append(items, types.TransactWriteItem{Put: &types.Put{TableName: table, Item: it.put}})
		}
	}
	if p.change.lower {
		// Whoever goes on with the log finds its place taken.
		e := &logEntry{n: p.commits, epoch: l.h.fence.Epoch, mark: string(p.mark), folded: p.commits, expires: time.Now().Add(entryLife)}
		items = append(items, types.TransactWriteItem{Put: &types.Put{
			TableName: table, Item: e.item(l.pk), ConditionExpression: aws.String("attribute_not_exists(pk)"),
		}})
	}
	items = append(items, p.logRows()...)
	if len(items) > maxItems+1 || size > maxBytes {
		return nil, fmt.Errorf("%w: %d items, %d bytes in one transaction", ErrTooLarge, len(items), size)
	}
	return items, nil
}

// logRows are the puts to the log of events.
func (p *plan) logRows() (items []types.TransactWriteItem) {
	h := p.change.handled
	if h == nil {
		return nil
	}
	event := h.log.Event(h.log.Position())
	return append(items, types.TransactWriteItem{Put: &event})
}

// headUpdate is the write to the device row that every transaction begins with.
// Its condition is the fence: the epoch is ours, the link is ours, and nothing
// was committed since our last commit.
func (l *link) headUpdate(p *plan) *types.Update {
	names := map[string]string{
		"#epoch": attrEpoch, "#link": attrLink, "#n": attrCommits, "#mark": attrMark, "#hot": attrHot,
		"#format": attrFormat,
	}
	values := map[string]types.AttributeValue{
		":epoch": num(l.h.fence.Epoch), ":link": num(l.number),
		":next": num(p.commits), ":mark": &types.AttributeValueMemberB{Value: p.mark},
		":format": num(uint64(formatNumbered)),
	}
	set, remove := []string{"#n = :next", "#mark = :mark", "#format = :format"}, ""
	if p.change.upgrade || p.change.create && l.log != nil {
		names["#opened"], names["#writer"] = attrOpened, attrWriter
		values[":format"] = num(uint64(formatLog))
		values[":opened"] = num(uint64(time.Now().Unix()))
		set, remove = append(set, "#opened = :opened", "#writer = :epoch"), " REMOVE #hot"
	} else {
		values[":hot"] = &types.AttributeValueMemberB{Value: l.key.Seal(p.hot.encode(), l.hotPlace(formatNumbered, p.commits))}
		set = append(set, "#hot = :hot")
	}
	if p.change.lower {
		names["#opened"], names["#writer"] = attrOpened, attrWriter
		remove = " REMOVE #opened, #writer"
	}
	condition := "#epoch = :epoch AND #link = :link AND #n = :n"
	if p.change.create {
		condition = "attribute_exists(pk) AND #epoch = :epoch AND attribute_not_exists(#link) AND (attribute_not_exists(#last) OR #last < :link)"
		names["#last"], names["#key"], names["#customer"], names["#mode"] = attrLast, attrKey, attrCustomer, attrMode
		set = append(set, "#link = :link", "#last = :link", "#key = :key", "#customer = :customer", "#mode = :mode")
		values[":key"] = &types.AttributeValueMemberB{Value: l.wrapped}
		values[":customer"] = str(string(l.h.instance.CustomerID))
		values[":mode"] = str(string(l.h.instance.Mode))
	} else if p.change.lower {
		condition = "#epoch = :epoch AND #link = :link AND #n < :next"
	} else {
		values[":n"] = num(l.commits)
	}
	if p.change.create || p.change.confirm {
		names["#confirmed"] = attrConfirmed
		set = append(set, "#confirmed = :confirmed")
		values[":confirmed"] = &types.AttributeValueMemberBOOL{Value: p.confirmed}
	}
	return &types.Update{
		TableName:                           aws.String(l.h.store.table),
		Key:                                 primaryKey(string(l.h.instance.ID), headSK),
		UpdateExpression:                    aws.String("SET " + strings.Join(set, ", ") + remove),
		ConditionExpression:                 aws.String(condition),
		ExpressionAttributeNames:            names,
		ExpressionAttributeValues:           values,
		ReturnValuesOnConditionCheckFailure: types.ReturnValuesOnConditionCheckFailureAllOld,
	}
}

// write sends the transaction until its outcome is known. Sending it again is
// safe: a second arrival fails its condition, and the device row then carries
// this commit's mark, which tells that the first one has happened.
func (l *link) write(items []types.TransactWriteItem, p *plan) error {
	_, err := retry(l.h, context.Background(), l.h.store.commitTimeout, func(ctx context.Context) (*dynamodb.TransactWriteItemsOutput, error) {
		return l.h.store.db.TransactWriteItems(ctx, &dynamodb.TransactWriteItemsInput{TransactItems: items})
	})
	if err == nil {
		return nil
	}
	if unusable := l.usable(); unusable != nil {
		return unusable
	}
	var cancelled *types.TransactionCanceledException
	if !errors.As(err, &cancelled) {
		return l.h.fail(err)
	}
	for i, r := range cancelled.CancellationReasons {
		if code(r) == "None" {
			continue
		}
		if i == 0 && code(r) == "ConditionalCheckFailed" {
			if l.log != nil && !p.change.create && !p.change.lower {
				return l.occupied(r.Item, p)
			}
			return l.refused(r.Item, p)
		}
	}
	return l.h.fail(err)
}

// refused says what a failed condition on the device row means.
func (l *link) refused(item map[string]types.AttributeValue, p *plan) error {
	row := parseHead(item)
	switch {
	case len(item) == 0 || row.epoch != l.h.fence.Epoch:
		return l.h.fail(ErrFenced)
	case row.linked && row.link == l.number && row.commits == p.commits && row.mark == string(p.mark):
		return nil // an earlier try has arrived; only its answer was lost
	case p.change.create:
		return ErrLinked
	case !row.linked || row.link != l.number:
		l.retire(ErrWiped)
		return l.h.fail(ErrWiped)
	default:
		return l.h.fail(ErrDiverged)
	}
}

// apply makes a commit that has happened visible.
func (l *link) apply(p *plan) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.dead != nil {
		return
	}
	l.hot, l.commits, l.confirmed, l.stored = p.hot, p.commits, p.confirmed, true
	for sk, w := range p.staged {
		if l.staged[sk] == w {
			delete(l.staged, sk)
		}
	}
	l.stagedHot = slices.Delete(l.stagedHot, 0, p.edits)
	l.stagedAt = time.Now()
	if p.change.upgrade {
		l.log = newLinkLog()
		l.hot.room = hotRowLimit
	} else if l.log != nil && !p.change.create {
		l.logged(p)
	}
	if p.change.lower {
		l.log = nil
		l.hot.room = hotLimit
	}
	for sk, w := range p.rows {
		l.touched(sk)
		if _, known := l.cache.entries[sk]; known || cached(sk) {
			l.cache.put(sk, w.value)
		}
		l.setParts(sk, p.parts[sk])
		if kindOf(sk) == kindHistory {
			l.keepHistory(sk, w.value)
		}
	}
	for _, name := range p.change.touches {
		l.touched(name)
	}
	l.events.finished = slices.Delete(l.events.finished, 0, p.finished)
	if h := p.change.handled; h != nil {
		l.events.finish(h.hash)
	}
	for _, b := range p.buffered {
		l.events.pending[b.hash] = b
	}
}

// cached says whether a row is worth keeping after it was written. What is
// written once and read hardly ever is not: it is read from the table then.
func cached(sk string) bool {
	switch kindOf(sk) {
	case kindPreKeys, kindSecret, kindOutgoing, kindBuffer, kindDevice, kindHot, kindHistory:
		return false
	}
	return true
}
