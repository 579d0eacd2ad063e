package devicestore

import (
	"encoding/binary"
	"slices"
	"strconv"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"whatisup/shared/seal"
	"whatisup/shared/whatisup"
)

// The device row, called head here: one an instance, and part of every write.
const headSK = "device"

const (
	attrEpoch     = "epoch"       // the owner's; written by adoption, read here
	attrLink      = "link"        // absent: no link
	attrFormat    = "format"      // of the link's rows; absent: 0
	attrLast      = "last"        // the highest link there ever was
	attrConfirmed = "confirmed"   // the first login has succeeded
	attrKey       = "key"         // the wrapped data key
	attrHot       = "hot"         // sealed: what changes with nearly every commit
	attrCommits   = "n"           // counts commits of the link
	attrMark      = "mark"        // the last commit's random id
	attrSweep     = "sweep"       // set of links whose rows are still to be removed
	attrCustomer  = "customer_id" // for the operator's wipe check
	attrMode      = "mode"
	attrWriter    = "writer" // the epoch of who began to write the log last
	attrOpened    = "opened" // entries of the log may follow n, since then at the earliest (unix seconds)
)

// The formats of a link, as its device row tells them. A program that meets a
// higher one than it knows leaves the link alone.
const (
	formatPlain    = 0 // nothing says so; hot is sealed without the commit's number
	formatNumbered = 1 // hot is sealed for the commit that it was written with
	formatLog      = 2 // the link is a log; n is up to where rows have everything
	formatKnown    = formatLog
)

// head is the device row as read or left by a handle.
type head struct {
	epoch     whatisup.Epoch
	link      whatisup.Link // 0 with linked false
	linked    bool
	format    uint64
	confirmed bool
	wrapped   []byte
	sealedHot []byte
	commits   uint64
	mark      string
	sweep     []whatisup.Link
	opened    time.Time // zero: no entry follows n
	writer    whatisup.Epoch
}

func parseHead(item map[string]types.AttributeValue) head {
	var h head
	epoch, _ := numberAttr(item, attrEpoch)
	number, linked := numberAttr(item, attrLink)
	h.epoch, h.link, h.linked = whatisup.Epoch(epoch), whatisup.Link(number), linked
	if v, ok := item[attrConfirmed].(*types.AttributeValueMemberBOOL); ok {
		h.confirmed = v.Value
	}
	h.wrapped = bytesAttr(item, attrKey)
	h.sealedHot = bytesAttr(item, attrHot)
	h.format, _ = numberAttr(item, attrFormat)
	h.commits, _ = numberAttr(item, attrCommits)
	h.mark = string(bytesAttr(item, attrMark))
	writer, _ := numberAttr(item, attrWriter)
	h.writer = whatisup.Epoch(writer)
	if opened, ok := numberAttr(item, attrOpened); ok {
		h.opened = time.Unix(int64(opened), 0)
	}
	if v, ok := item[attrSweep].(*types.AttributeValueMemberNS); ok {
		for _, s := range v.Value {
			if n, ok := parseLink(s); ok {
				h.sweep = append(h.sweep, n)
			}
		}
	}
	slices.Sort(h.sweep)
	return h
}

// hot is the part of a link's state that changes with nearly every commit and
// is small. It rides on the device row, which every commit writes anyway: it
// costs nothing as long as that row stays within one kilobyte.
type hot struct {
	preKeys     preKeyRange
	oldestToken int64 // no privacy token is older (unix seconds); 0: there is none
	done        []shortHash
	pending     []*pendingEvent // those small enough; the others have rows
	room        int             // what it may have, encoded; not stored
}

const (
	hotFormat   = 1
	hotLimit    = 600      // encoded; what else is on the device row takes up to 420 bytes
	hotRowLimit = 16 << 10 // in a row of its own it is mostly empty again when it is written
	doneRing    = 16
	hashSize    = 32
	shortLength = 8
)

type shortHash [shortLength]byte

func short(hash [hashSize]byte) shortHash { return shortHash(hash[:shortLength]) }

func (h *hot) clone() *hot {
	c := *h
	c.preKeys = h.preKeys.clone()
	c.done = slices.Clone(h.done)
	c.pending = slices.Clone(h.pending)
	return &c
}

func (h *hot) encode() []byte {
	b := []byte{hotFormat}
	b = h.preKeys.append(b)
	b = binary.AppendVarint(b, h.oldestToken)
	b = binary.AppendUvarint(b, uint64(len(h.done)))
	for _, d := range h.done {
		b = append(b, d[:]...)
	}
	b = binary.AppendUvarint(b, uint64(len(h.pending)))
	for _, p := range h.pending {
		b = p.append(b)
	}
	return b
}

func decodeHot(b []byte) (*hot, error) {
	d := decoder{b: b}
	if d.byte() != hotFormat {
		return nil, ErrCorrupt
	}
	h := &hot{room: hotLimit}
	h.preKeys = decodePreKeyRange(&d)
	h.oldestToken = d.varint()
	for range d.count(shortLength) {
		h.done = append(h.done, shortHash(d.take(shortLength)))
	}
	for range d.count(hashSize) {
		h.pending = append(h.pending, decodePending(&d))
	}
	if d.failed || len(d.b) != 0 {
		return nil, ErrCorrupt
	}
	return h, nil
}

// add takes a pending event in. It returns those that need rows of their own for
// it: the event itself if it has no room even alone, else the oldest others, as
// far as they are in its way. Those were left by an owner that died.
func (h *hot) add(p *pendingEvent) (out []*pendingEvent) {
	alone := *h
	alone.pending = []*pendingEvent{p}
	if len(alone.encode()) > h.room {
		return alone.pending
	}
	h.pending = append(h.pending, p)
	for len(h.encode()) > h.room {
		out, h.pending = append(out, h.pending[0]), h.pending[1:]
	}
	return out
}

// finish forgets a pending event and remembers that it was handled.
func (h *hot) finish(hash [hashSize]byte) {
	h.pending = slices.DeleteFunc(h.pending, func(p *pendingEvent) bool { return p.hash == hash })
	h.done = appendDone(h.done, hash, doneRing)
}

// hotPlace is where a link's hot state belongs: the device row, and in it the
// commit of this number. An older value that was put back does not open.
func (l *link) hotPlace(format, commits uint64) seal.Place {
	return hotPlaceIn(l.h.store.table, l.pk, format, commits)
}

func hotPlaceIn(table, pk string, format, commits uint64) seal.Place {
	key := headSK
	if format >= formatNumbered {
		key += "#" + strconv.FormatUint(commits, 10)
	}
	return seal.Place{Table: table, Partition: pk, Kind: "hot", Key: key}
}

// decoder reads what the append functions wrote. After a fault everything it
// gives is zero, and failed is set.
type decoder struct {
	b      []byte
	failed bool
}

func (d *decoder) fail() { d.failed, d.b = true, nil }

func (d *decoder) byte() byte {
	if len(d.b) == 0 {
		d.fail()
		return 0
	}
	c := d.b[0]
	d.b = d.b[1:]
	return c
}

func (d *decoder) uvarint() uint64 {
	v, n := binary.Uvarint(d.b)
	if n <= 0 {
		d.fail()
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *decoder) varint() int64 {
	v, n := binary.Varint(d.b)
	if n <= 0 {
		d.fail()
		return 0
	}
	d.b = d.b[n:]
	return v
}

// take returns n bytes; zeros after a fault, so that conversions hold.
func (d *decoder) take(n int) []byte {
	if n > len(d.b) {
		d.fail()
		return make([]byte, n)
	}
	v := d.b[:n:n]
	d.b = d.b[n:]
	return v
}

// count reads the number of elements of at least size bytes each, and refuses
// one that the remaining bytes cannot hold.
func (d *decoder) count(size int) int {
	n := d.uvarint()
	if n > uint64(len(d.b)/max(size, 1)) {
		d.fail()
		return 0
	}
	return int(n)
}

func (d *decoder) bytes() []byte {
	n := d.count(1)
	return slices.Clone(d.take(n))
}

func appendBytes(b, v []byte) []byte {
	b = binary.AppendUvarint(b, uint64(len(v)))
	return append(b, v...)
}
