package devicestore

import (
	"context"
	"encoding/binary"
	"fmt"
	"runtime"
	"slices"
	"strconv"
	"sync"

	"go.mau.fi/whatsmeow/util/keys"
)

// Pre-keys stand in rows of up to fifty. Which ids exist and which of them the
// server has is told by a preKeyRange on the device row, so that the count that
// every login asks for costs nothing.
const (
	preKeysPerRow = 50
	maxPreKeyID   = 1<<24 - 2 // ids have 24 bits, and the highest means "none"
	preKeySize    = 4 + 32
)

// preKeyRange is what is known of the pre-keys without reading them. Ids below
// next have been given out, each once and for ever: an id is not used again
// when its key is gone (sqlstore does, for the highest).
type preKeyRange struct {
	next     uint32   // the next id to be given out; from 1
	uploaded uint32   // the server has those up to here ...
	singles  []uint32 // ... and these above it
	gone     []uint32 // removed above uploaded
	count    uint32   // those that the server has and that are not removed
}

func (r preKeyRange) clone() preKeyRange {
	r.singles, r.gone = slices.Clone(r.singles), slices.Clone(r.gone)
	return r
}

func (r *preKeyRange) append(b []byte) []byte {
	b = binary.AppendUvarint(b, uint64(r.next))
	b = binary.AppendUvarint(b, uint64(r.uploaded))
	b = binary.AppendUvarint(b, uint64(r.count))
	for _, ids := range [...][]uint32{r.singles, r.gone} {
		b = binary.AppendUvarint(b, uint64(len(ids)))
		for _, id := range ids {
			b = binary.AppendUvarint(b, uint64(id))
		}
	}
	return b
}

func decodePreKeyRange(d *decoder) preKeyRange {
	r := preKeyRange{next: uint32(d.uvarint()), uploaded: uint32(d.uvarint()), count: uint32(d.uvarint())}
	for _, ids := range [...]*[]uint32{&r.singles, &r.gone} {
		for range d.count(1) {
			*ids = append(*ids, uint32(d.uvarint()))
		}
	}
	return r
}

// waiting is how many keys the server doesn't have yet.
func (r *preKeyRange) waiting() int {
	n := int(r.next) - 1 - int(r.uploaded) - len(r.singles)
	for _, id := range r.gone {
		if !slices.Contains(r.singles, id) {
			n--
		}
	}
	return n
}

func (r *preKeyRange) isWaiting(id uint32) bool {
	return id > r.uploaded && id < r.next && !slices.Contains(r.singles, id) && !slices.Contains(r.gone, id)
}

// markUploaded says that the server has every key up to this id.
func (r *preKeyRange) markUploaded(upTo uint32) {
	upTo = min(upTo, r.next-1)
	for id := r.uploaded + 1; id <= upTo; id++ {
		if r.isWaiting(id) {
			r.count++
		}
	}
	r.uploaded = max(r.uploaded, upTo)
	r.singles = slices.DeleteFunc(r.singles, func(id uint32) bool { return id <= r.uploaded })
	r.gone = slices.DeleteFunc(r.gone, func(id uint32) bool { return id <= r.uploaded })
}

// remove says that the key, which existed, is gone.
func (r *preKeyRange) remove(id uint32) {
	if id <= r.uploaded || slices.Contains(r.singles, id) {
		r.count--
	}
	if id > r.uploaded {
		r.gone = append(r.gone, id)
	}
}

// generate gives out n ids. single says that the key goes to the server at
// once, alone.
func (r *preKeyRange) generate(n uint32, single bool) (first uint32) {
	first = r.next
	r.next += n
	if single {
		r.singles = append(r.singles, first)
		r.count++
	}
	return first
}

func preKeyRow(id uint32) string {
	return kindPreKeys + "#" + strconv.FormatUint(uint64(id/preKeysPerRow), 10)
}

// A row's value is its keys one after the other, each an id and a private key.

func encodePreKey(b []byte, key *keys.PreKey) []byte {
	b = binary.BigEndian.AppendUint32(b, key.KeyID)
	return append(b, key.Priv[:]...)
}

// findPreKey returns where a row has the key, or -1.
func findPreKey(row []byte, id uint32) int {
	for i := 0; i+preKeySize <= len(row); i += preKeySize {
		if binary.BigEndian.Uint32(row[i:]) == id {
			return i
		}
	}
	return -1
}

func decodePreKey(b []byte) *keys.PreKey {
	return &keys.PreKey{
		KeyPair: *keys.NewKeyPairFromPrivateKey([32]byte(b[4:preKeySize])),
		KeyID:   binary.BigEndian.Uint32(b),
	}
}

// preKeys returns the range as the transaction would leave it.
func (l *link) preKeys(t *txn) preKeyRange {
	l.mu.Lock()
	defer l.mu.Unlock()
	t.reads[preKeyRangeRow] = struct{}{}
	h := l.hot.clone()
	for _, edit := range t.hot {
		edit(h)
	}
	return h.preKeys
}

// preKeyRangeRow stands for the range where transactions note what they read;
// it is no row.
const preKeyRangeRow = "preKeyRange"

func (l *link) editPreKeys(t *txn, edit func(*preKeyRange)) {
	t.hot = append(t.hot, func(h *hot) { edit(&h.preKeys) })
	t.touches = append(t.touches, preKeyRangeRow)
}

// newPreKeys makes n keys and puts them into their rows. They are durable, in
// one transaction, before anybody gets to see them.
func (l *link) newPreKeys(ctx context.Context, t *txn, n uint32, single bool) ([]*keys.PreKey, error) {
	r := l.preKeys(t)
	if uint64(r.next)+uint64(n) > maxPreKeyID {
		return nil, fmt.Errorf("devicestore: pre-key ids are used up")
	}
	first := r.next
	made := makePreKeys(first, n)
	rows := make(map[string][]byte)
	for i := range made {
		sk := preKeyRow(made[i].KeyID)
		if _, ok := rows[sk]; !ok {
			rows[sk] = nil
			if made[i].KeyID%preKeysPerRow != 0 && first > 1 {
				// The row may hold earlier keys. One that begins here can't.
				before, err := l.get(ctx, sk)
				if err != nil {
					return nil, err
				}
				rows[sk] = append(make([]byte, 0, len(before)+preKeySize), before...)
			}
		}
		rows[sk] = encodePreKey(rows[sk], made[i])
	}
	for sk, row := range rows {
		t.put(sk, row)
	}
	l.editPreKeys(t, func(r *preKeyRange) { r.generate(n, single) })
	return made, nil
}

// makePreKeys makes n keys, on all processors: to make the 812 of a new link is
// half of what there is to do between a scan and the first login.
func makePreKeys(first, n uint32) []*keys.PreKey {
	const worthwhile = 32 // keys, for a goroutine of their own
	made := make([]*keys.PreKey, n)
	workers := min(uint32(runtime.GOMAXPROCS(0)), n/worthwhile+1)
	var group sync.WaitGroup
	for w := range workers {
		group.Go(func() {
			for i := w; i < n; i += workers {
				made[i] = keys.NewPreKey(first + i)
			}
		})
	}
	group.Wait()
	return made
}

func (l *link) GenOnePreKey(ctx context.Context) (*keys.PreKey, error) {
	var made []*keys.PreKey
	err := l.atomically(ctx, func(ctx context.Context, t *txn) (err error) {
		made, err = l.newPreKeys(ctx, t, 1, true)
		return err
	})
	if err != nil {
		return nil, err
	}
	return made[0], nil
}

func (l *link) GetOrGenPreKeys(ctx context.Context, count uint32) ([]*keys.PreKey, error) {
	var out []*keys.PreKey
	err := l.atomically(ctx, func(ctx context.Context, t *txn) error {
		r := l.preKeys(t)
		var err error
		out, err = l.waitingPreKeys(ctx, &r, int(count))
		if err != nil || len(out) >= int(count) {
			return err
		}
		made, err := l.newPreKeys(ctx, t, count-uint32(len(out)), false)
		out = append(out, made...)
		return err
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// waitingPreKeys returns up to limit keys that the server doesn't have yet.
func (l *link) waitingPreKeys(ctx context.Context, r *preKeyRange, limit int) ([]*keys.PreKey, error) {
	if r.waiting() == 0 || limit == 0 {
		return nil, nil
	}
	var ids []uint32
	var sks []string
	for id := r.uploaded + 1; id < r.next && len(ids) < limit; id++ {
		if r.isWaiting(id) {
			ids = append(ids, id)
			if sk := preKeyRow(id); !slices.Contains(sks, sk) {
				sks = append(sks, sk)
			}
		}
	}
	rows, err := l.getMany(ctx, sks)
	if err != nil {
		return nil, err
	}
	out := make([]*keys.PreKey, 0, len(ids))
	for _, id := range ids {
		row := rows[preKeyRow(id)]
		i := findPreKey(row, id)
		if i < 0 {
			return nil, l.h.fail(fmt.Errorf("%w: pre-key row", ErrCorrupt))
		}
		out = append(out, decodePreKey(row[i:]))
	}
	return out, nil
}

func (l *link) GetPreKey(ctx context.Context, id uint32) (*keys.PreKey, error) {
	row, err := l.get(ctx, preKeyRow(id))
	if err != nil {
		return nil, err
	}
	if i := findPreKey(row, id); i >= 0 {
		return decodePreKey(row[i:]), nil
	}
	return nil, nil
}

func (l *link) RemovePreKey(ctx context.Context, id uint32) error {
	return l.atomically(ctx, func(ctx context.Context, t *txn) error {
		sk := preKeyRow(id)
		row, err := l.get(ctx, sk)
		if err != nil {
			return err
		}
		i := findPreKey(row, id)
		if i < 0 {
			return nil
		}
		if len(row) == preKeySize {
			t.delete(sk)
		} else {
			t.put(sk, slices.Concat(row[:i], row[i+preKeySize:]))
		}
		l.editPreKeys(t, func(r *preKeyRange) { r.remove(id) })
		return nil
	})
}

// MarkPreKeysAsUploaded costs one write.
func (l *link) MarkPreKeysAsUploaded(ctx context.Context, upTo uint32) error {
	return l.atomically(ctx, func(_ context.Context, t *txn) error {
		r := l.preKeys(t)
		if min(upTo, r.next-1) > r.uploaded {
			l.editPreKeys(t, func(r *preKeyRange) { r.markUploaded(upTo) })
		}
		return nil
	})
}

func (l *link) UploadedPreKeyCount(ctx context.Context) (count int, err error) {
	err = l.atomically(ctx, func(_ context.Context, t *txn) error {
		r := l.preKeys(t)
		count = int(r.count)
		return nil
	})
	return count, err
}
