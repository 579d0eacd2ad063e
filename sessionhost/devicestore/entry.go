package devicestore

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"whatisup/shared/seal"
	"whatisup/shared/whatisup"
)

// An entry of a link's log, see "A log of the link" in the package's text. Its
// sort key tells its number, and nothing else ever stands there.
const kindEntry = "w"

const (
	attrAt     = "at"     // of a row: the commit whose change it has
	attrFolded = "folded" // of an entry: rows have everything up to this number
	attrEnd    = "end"    // of an entry: the link's last

	entryFormat = 1
	entryLife   = 45 * 24 * time.Hour
	entryTrust  = 40 * 24 * time.Hour // one that is not folded and older may have lost its neighbours
	entryBytes  = 64 << 10            // sealed; a larger change is a transaction of its rows

	foldSoon  = 56 // entries that a change stands in the log alone, before it is written to its row
	foldNow   = 64 // and when the next one waits for that
	foldBytes = 64 << 10
)

// entryKey sorts as its number does.
func entryKey(n uint64) string { return fmt.Sprintf("%s#%010x", kindEntry, n) }

func entryNumber(sk string) (uint64, bool) {
	digits, ok := strings.CutPrefix(sk, kindEntry+"#")
	if !ok {
		return 0, false
	}
	n, err := strconv.ParseUint(digits, 16, 64)
	return n, err == nil
}

// logEntry is one as it stands in the table.
type logEntry struct {
	n       uint64
	epoch   whatisup.Epoch
	mark    string
	folded  uint64
	end     bool
	sealed  []byte // nil: an owner's beginning, or the end
	expires time.Time
}

func parseEntry(item map[string]types.AttributeValue) (logEntry, bool) {
	n, ok := entryNumber(stringAttr(item, attrSK))
	if !ok {
		return logEntry{}, false
	}
	epoch, _ := numberAttr(item, attrEpoch)
	e := logEntry{n: n, epoch: whatisup.Epoch(epoch), mark: string(bytesAttr(item, attrMark)), sealed: bytesAttr(item, attrValue)}
	e.folded, _ = numberAttr(item, attrFolded)
	if v, ok := item[attrEnd].(*types.AttributeValueMemberBOOL); ok {
		e.end = v.Value
	}
	ttl, _ := numberAttr(item, attrTTL)
	e.expires = time.Unix(int64(ttl), 0)
	return e, true
}

// item is the entry as the table takes it.
func (e *logEntry) item(pk string) map[string]types.AttributeValue {
	item := primaryKey(pk, entryKey(e.n))
	item[attrEpoch] = num(e.epoch)
	item[attrMark] = &types.AttributeValueMemberB{Value: []byte(e.mark)}
	item[attrFolded] = num(e.folded)
	item[attrTTL] = num(uint64(e.expires.Unix()))
	if e.sealed != nil {
		item[attrValue] = &types.AttributeValueMemberB{Value: e.sealed}
	}
	if e.end {
		item[attrEnd] = &types.AttributeValueMemberBOOL{Value: true}
	}
	return item
}

func (l *link) entryPlace(n uint64) seal.Place {
	return seal.Place{Table: l.h.store.table, Partition: l.pk, Kind: kindEntry, Key: entryKey(n)}
}

// loggedOp is what an entry does to a row.
type loggedOp struct {
	n       uint64
	kind    byte
	data    []byte
	expires time.Time // zero: never
}

const (
	opDelete = iota
	opFull
	opDiff
)

// apply does it to a row's value; nil is none.
func (op *loggedOp) apply(value []byte) ([]byte, error) {
	switch op.kind {
	case opDelete:
		return nil, nil
	case opFull:
		return op.data, nil
	}
	next, ok := patched(value, op.data)
	if !ok {
		return nil, fmt.Errorf("%w: a difference meets another value", ErrCorrupt)
	}
	return next, nil
}

// diffFrom: smaller values are not worth the checksum.
const diffFrom = 128

// opFor is the op that makes the write of a row whose value is base; known is
// false if that is not in memory.
func opFor(base []byte, known bool, w *write) loggedOp {
	op := loggedOp{kind: opFull, data: w.value, expires: w.expires}
	switch {
	case w.value == nil:
		op.kind = opDelete
	case known && len(base) >= diffFrom && len(w.value) >= diffFrom && w.expires.IsZero():
		if diff := difference(base, w.value); len(diff) < len(w.value)*3/4 {
			op.kind, op.data = opDiff, diff
		}
	}
	return op
}

// appendOps encodes a body: what happens to the hot state, then to rows.
func appendOps(b []byte, sks []string, ops map[string]loggedOp) []byte {
	b = binary.AppendUvarint(b, uint64(len(sks)))
	for _, sk := range sks {
		op := ops[sk]
		b = appendBytes(b, []byte(sk))
		kind := op.kind << 1
		if !op.expires.IsZero() {
			kind |= 1
		}
		b = append(b, kind)
		if kind&1 > 0 {
			b = binary.AppendVarint(b, op.expires.Unix())
		}
		if op.kind != opDelete {
			b = appendBytes(b, op.data)
		}
	}
	return b
}

func decodeOps(d *decoder, n uint64) (sks []string, ops []loggedOp) {
	for range d.count(2) {
		sk := string(d.bytes())
		kind := d.byte()
		op := loggedOp{n: n, kind: kind >> 1}
		if kind&1 > 0 {
			op.expires = time.Unix(d.varint(), 0)
		}
		if op.kind != opDelete {
			op.data = nonNil(d.bytes())
		}
		if op.kind > opDiff {
			d.fail()
		}
		sks, ops = append(sks, sk), append(ops, op)
	}
	return sks, ops
}

// hotDelta is what one commit does to the hot state.
type hotDelta struct {
	front    []byte          // the pre-keys and so on, if they change
	finished []shortHash     // handled
	moved    []shortHash     // out to rows of their own
	pending  []*pendingEvent // new
}

// front encodes what of the hot state changes rarely.
func (h *hot) front() []byte {
	return binary.AppendVarint(h.preKeys.append(nil), h.oldestToken)
}

// deltaOf is what leads from one state to another.
func deltaOf(from, to *hot) hotDelta {
	var d hotDelta
	if front := to.front(); !bytes.Equal(front, from.front()) {
		d.front = front
	}
	for _, s := range to.done {
		if !slices.Contains(from.done, s) {
			d.finished = append(d.finished, s)
		}
	}
	has := func(of []*pendingEvent, hash [hashSize]byte) bool {
		return slices.ContainsFunc(of, func(p *pendingEvent) bool { return p.hash == hash })
	}
	for _, p := range from.pending {
		if !has(to.pending, p.hash) && !slices.Contains(d.finished, short(p.hash)) {
			d.moved = append(d.moved, short(p.hash))
		}
	}
	for _, p := range to.pending {
		if !has(from.pending, p.hash) {
			d.pending = append(d.pending, p)
		}
	}
	return d
}

func (d *hotDelta) append(b []byte) []byte {
	b = appendBytes(b, d.front)
	for _, list := range [...][]shortHash{d.finished, d.moved} {
		b = binary.AppendUvarint(b, uint64(len(list)))
		for _, s := range list {
			b = append(b, s[:]...)
		}
	}
	b = binary.AppendUvarint(b, uint64(len(d.pending)))
	for _, p := range d.pending {
		b = p.append(b)
	}
	return b
}

func decodeHotDelta(d *decoder) hotDelta {
	delta := hotDelta{front: d.bytes()}
	for _, list := range [...]*[]shortHash{&delta.finished, &delta.moved} {
		for range d.count(shortLength) {
			*list = append(*list, shortHash(d.take(shortLength)))
		}
	}
	for range d.count(hashSize) {
		delta.pending = append(delta.pending, decodePending(d))
	}
	return delta
}

// apply does to the state what the commit did.
func (d *hotDelta) apply(h *hot) error {
	if len(d.front) > 0 {
		front := decoder{b: d.front}
		h.preKeys, h.oldestToken = decodePreKeyRange(&front), front.varint()
		if front.failed {
			return fmt.Errorf("%w: hot state in the log", ErrCorrupt)
		}
	}
	gone := func(p *pendingEvent) bool {
		return slices.Contains(d.finished, short(p.hash)) || slices.Contains(d.moved, short(p.hash))
	}
	h.pending = slices.DeleteFunc(h.pending, gone)
	for _, s := range d.finished {
		h.done = appendShort(h.done, s, doneRing)
	}
	h.pending = append(h.pending, d.pending...)
	return nil
}
