package whatsapp

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"

	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

// To commit, bbolt writes every page that was touched, though what has changed is a
// few hundred bytes. So its transaction stays open for many changes, and each of them
// is answered when it was appended to a log beside the file. A checkpoint commits the
// transaction and empties the log; after a killed process the log is applied to the
// file. A log names the checkpoint that it follows: one that the file is ahead of, or
// that belongs to another file, is ignored.

// tx is a transaction: the open one, or one that only reads.
type tx struct {
	bolt     *bbolt.Tx
	writable bool
	ops      []byte // of the changes that are not in the log yet
}

// bucket is one of bbolt's whose changes go to the log.
type bucket struct {
	*bbolt.Bucket
	t    *tx
	name []byte
}

func (t *tx) Bucket(name []byte) *bucket { return &bucket{t.bolt.Bucket(name), t, name} }

const (
	opPut = iota + 1
	opDelete
	opSequence
)

// numbersOfBuckets are the buckets' names in the log.
var numbersOfBuckets = func() map[string]byte {
	out := map[string]byte{}
	for i, name := range buckets {
		out[string(name)] = byte(i)
	}
	return out
}()

func (b *bucket) note(op byte, key, value []byte) {
	ops := append(b.t.ops, op, numbersOfBuckets[string(b.name)])
	ops = append(binary.AppendUvarint(ops, uint64(len(key))), key...)
	if op != opDelete {
		ops = append(binary.AppendUvarint(ops, uint64(len(value))), value...)
	}
	b.t.ops = ops
}

// Put keeps the value as it is given until bbolt commits: nobody may change it.
func (b *bucket) Put(key, value []byte) error {
	if !b.t.writable {
		return bolterrors.ErrTxNotWritable
	}
	if err := b.Bucket.Put(key, value); err != nil {
		return err
	}
	b.note(opPut, key, value)
	return nil
}

func (b *bucket) Delete(key []byte) error {
	if !b.t.writable {
		return bolterrors.ErrTxNotWritable
	}
	key = bytes.Clone(key) // it may be the bucket's own, and is gone then
	if err := b.Bucket.Delete(key); err != nil {
		return err
	}
	b.note(opDelete, key, nil)
	return nil
}

func (b *bucket) NextSequence() (uint64, error) {
	if !b.t.writable {
		return 0, bolterrors.ErrTxNotWritable
	}
	n, err := b.Bucket.NextSequence()
	if err == nil {
		b.note(opSequence, nil, order64(n))
	}
	return n, err
}

var errLog = errors.New("the simulator's log is damaged")

// apply does to a transaction what a log says.
func apply(to *bbolt.Tx, ops []byte) error {
	part := func() []byte {
		n, used := binary.Uvarint(ops)
		if used <= 0 || n > uint64(len(ops)-used) {
			ops = nil
			return nil
		}
		out := ops[used : used+int(n)]
		ops = ops[used+int(n):]
		return out
	}
	for len(ops) > 0 {
		if len(ops) < 2 || int(ops[1]) >= len(buckets) {
			return errLog
		}
		op, b := ops[0], to.Bucket(buckets[ops[1]])
		ops = ops[2:]
		key := part()
		var err error
		switch op {
		case opPut:
			err = b.Put(key, bytes.Clone(part()))
		case opDelete:
			err = b.Delete(key)
		case opSequence:
			n := part()
			if len(n) != 8 {
				return errLog
			}
			err = b.SetSequence(binary.BigEndian.Uint64(n))
		default:
			err = errLog
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// ahead is the log.
type ahead struct {
	file       *os.File
	checkpoint uint64 // that it follows
	size       int64
	entry      []byte // the latest, for its room
}

const (
	logMagic  = "WhatsUp1"
	logHead   = len(logMagic) + 8
	entryHead = 8       // length and checksum
	maxLog    = 4 << 20 // bytes, until the next checkpoint
	worstLog  = 16 * maxLog

	maxEntryKept = 64 << 10
)

// sum tells an entry from one that was not written whole, or follows another
// checkpoint.
func (a *ahead) sum(ops []byte) uint32 {
	return crc32.Update(crc32.ChecksumIEEE(order64(a.checkpoint)), crc32.IEEETable, ops)
}

// append adds an entry. When it returns, the entry outlives the process.
func (a *ahead) append(ops []byte) error {
	if a.size > worstLog {
		return errors.New("the simulator's log is full: its database cannot be written")
	}
	entry := a.entry[:0]
	if a.size == 0 {
		entry = append(append(entry, logMagic...), order64(a.checkpoint)...)
	}
	entry = binary.BigEndian.AppendUint32(entry, uint32(len(ops)))
	entry = binary.BigEndian.AppendUint32(entry, a.sum(ops))
	entry = append(entry, ops...)
	if cap(entry) <= maxEntryKept {
		a.entry = entry
	}
	if _, err := a.file.WriteAt(entry, a.size); err != nil {
		return err
	}
	a.size += int64(len(entry))
	return nil
}

// read calls fn for each entry as far as they are whole, and leaves the log's end
// there.
func (a *ahead) read(fn func(ops []byte) error) error {
	data, err := io.ReadAll(io.NewSectionReader(a.file, 0, worstLog+worstLog))
	if err != nil {
		return err
	}
	a.size = 0
	if len(data) < logHead || string(data[:logHead]) != logMagic+string(order64(a.checkpoint)) {
		return nil
	}
	at := logHead
	for len(data)-at >= entryHead {
		size, sum := int(binary.BigEndian.Uint32(data[at:])), binary.BigEndian.Uint32(data[at+4:])
		if size > len(data)-at-entryHead || a.sum(data[at+entryHead:at+entryHead+size]) != sum {
			break
		}
		if err := fn(data[at+entryHead : at+entryHead+size]); err != nil {
			return err
		}
		at += entryHead + size
		a.size = int64(at)
	}
	return nil
}

var checkpointKey = []byte("checkpoint")

// openLog opens the log and applies what it holds.
func (d *database) openLog(path string) (err error) {
	if d.ahead.file, err = os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600); err != nil {
		return fmt.Errorf("open the simulator's log: %w", err)
	}
	if err = d.bolt.View(func(t *bbolt.Tx) error {
		if n := t.Bucket(bucketMeta).Get(checkpointKey); len(n) == 8 {
			d.ahead.checkpoint = binary.BigEndian.Uint64(n)
		}
		return nil
	}); err != nil {
		return err
	}
	if err = d.restore(nil); err != nil {
		return err
	}
	return d.checkpoint()
}

// closeLog brings what the log holds into the file, and removes it.
func (d *database) closeLog() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	err := d.checkpoint()
	if err == nil {
		err = os.Remove(d.ahead.file.Name())
	}
	if d.open != nil { // else bbolt would wait for it
		_ = d.open.bolt.Rollback()
	}
	d.open, d.broken = nil, bolterrors.ErrDatabaseNotOpen
	return errors.Join(err, d.ahead.file.Close())
}

// begin opens the transaction if it is not. The caller holds mu.
func (d *database) begin() error {
	if d.broken != nil || d.open != nil {
		return d.broken
	}
	bolt, err := d.bolt.Begin(true)
	if err == nil {
		d.open = &tx{bolt: bolt, writable: true}
	}
	return err
}

// restore makes the transaction anew: of what is in the log, and of ops that are to
// be. If it cannot, the database is of no more use. The caller holds mu.
func (d *database) restore(ops []byte) (err error) {
	if d.open != nil {
		_ = d.open.bolt.Rollback()
		d.open = nil
	}
	defer func() {
		if err != nil {
			d.broken = fmt.Errorf("the simulator's database cannot be read back: %w", err)
			err = d.broken
			if d.open != nil {
				_ = d.open.bolt.Rollback()
				d.open = nil
			}
		}
	}()
	if err = d.begin(); err != nil {
		return err
	}
	if err = d.ahead.read(func(ops []byte) error { return apply(d.open.bolt, ops) }); err != nil {
		return err
	}
	d.open.ops = ops
	return apply(d.open.bolt, ops)
}

// checkpoint commits the transaction and empties the log. The caller holds mu.
func (d *database) checkpoint() error {
	if d.open == nil {
		return d.broken
	}
	err := d.open.bolt.Bucket(bucketMeta).Put(checkpointKey, order64(d.ahead.checkpoint+1))
	if err == nil {
		err = d.open.bolt.Commit()
	}
	if err != nil {
		return errors.Join(err, d.restore(nil)) // what was answered is in the log
	}
	d.open, d.ahead.size = nil, 0
	d.ahead.checkpoint++
	return d.ahead.file.Truncate(0)
}

// view lets fn read what was written so far. It must not read or write otherwise.
func (d *database) view(fn func(*tx) error) error {
	d.mu.Lock()
	if d.broken != nil {
		defer d.mu.Unlock()
		return d.broken
	}
	if d.open != nil {
		defer d.mu.Unlock()
		return fn(&tx{bolt: d.open.bolt})
	}
	bolt, err := d.bolt.Begin(false)
	d.mu.Unlock()
	if err != nil {
		return err
	}
	defer func() { _ = bolt.Rollback() }()
	return fn(&tx{bolt: bolt})
}
