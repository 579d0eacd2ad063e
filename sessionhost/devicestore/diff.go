package devicestore

import (
	"encoding/binary"
	"hash/crc32"
)

// A session record changes in a few places with each message, and is a kilobyte.
// In the log it stands as what makes the new record of the one before: pieces to
// copy and bytes to insert. The one before is told by its checksum, so that a
// difference is never applied to anything else.

const gramSize = 8 // what has to be equal to be worth a copy

// difference returns what makes next of base.
func difference(base, next []byte) []byte {
	b := binary.BigEndian.AppendUint32(nil, crc32.ChecksumIEEE(base))
	grams := make(map[uint64]int, len(base))
	for i := 0; i+gramSize <= len(base); i++ {
		g := binary.LittleEndian.Uint64(base[i:])
		if _, ok := grams[g]; !ok {
			grams[g] = i
		}
	}
	begin, behind := 0, 0 // of what is to be inserted; of the last piece copied
	for i := 0; i+gramSize <= len(next); {
		// Mostly it goes on where the last piece ended, a bit further.
		from, ok := grams[binary.LittleEndian.Uint64(next[i:])]
		if near := behind + i - begin; near+gramSize <= len(base) && string(base[near:near+gramSize]) == string(next[i:i+gramSize]) {
			from, ok = near, true
		}
		if !ok {
			i++
			continue
		}
		for i > begin && from > 0 && next[i-1] == base[from-1] {
			i, from = i-1, from-1
		}
		n := 0
		for i+n < len(next) && from+n < len(base) && next[i+n] == base[from+n] {
			n++
		}
		b = appendBytes(b, next[begin:i])
		b = binary.AppendUvarint(binary.AppendUvarint(b, uint64(from)), uint64(n))
		i += n
		begin, behind = i, from+n
	}
	if begin < len(next) {
		b = appendBytes(b, next[begin:])
	}
	return b
}

// patched undoes difference; ok is false if it was made of another base.
func patched(base, diff []byte) (next []byte, ok bool) {
	d := decoder{b: diff}
	if binary.BigEndian.Uint32(d.take(4)) != crc32.ChecksumIEEE(base) {
		return nil, false
	}
	next = []byte{}
	for len(d.b) > 0 {
		next = append(next, d.take(d.count(1))...)
		if len(d.b) == 0 {
			break
		}
		from, n := d.uvarint(), d.uvarint()
		if d.failed || from > uint64(len(base)) || n > uint64(len(base))-from {
			return nil, false
		}
		next = append(next, base[from:from+n]...)
	}
	return next, !d.failed
}
