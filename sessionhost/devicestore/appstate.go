package devicestore

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"

	"go.mau.fi/whatsmeow/store"
)

// App state sync keys: a few dozen small rows, found by id or listed.

func (l *link) syncKeyRow(id []byte) string {
	return kindSyncKey + "#" + l.key.Name(kindSyncKey, string(id))
}

func encodeSyncKey(id []byte, k store.AppStateSyncKey) []byte {
	b := binary.AppendVarint(appendBytes(nil, id), k.Timestamp)
	return appendBytes(appendBytes(b, k.Data), k.Fingerprint)
}

func (l *link) decodeSyncKey(b []byte) (id []byte, k *store.AppStateSyncKey, err error) {
	d := decoder{b: b}
	id = d.bytes()
	k = &store.AppStateSyncKey{Timestamp: d.varint()}
	k.Data, k.Fingerprint = d.bytes(), d.bytes()
	if d.failed {
		return nil, nil, l.h.fail(fmt.Errorf("%w: sync key", ErrCorrupt))
	}
	return id, k, nil
}

// PutAppStateSyncKey keeps the newer of two keys with one id.
func (l *link) PutAppStateSyncKey(ctx context.Context, id []byte, key store.AppStateSyncKey) error {
	if err := l.usable(); err != nil {
		return err
	}
	sk := l.syncKeyRow(id)
	return l.atomically(ctx, func(ctx context.Context, t *txn) error {
		current, err := l.get(ctx, sk)
		if err != nil {
			return err
		}
		if current != nil {
			_, known, err := l.decodeSyncKey(current)
			if err != nil || key.Timestamp <= known.Timestamp {
				return err
			}
		}
		t.put(sk, encodeSyncKey(id, key))
		return nil
	})
}

func (l *link) GetAppStateSyncKey(ctx context.Context, id []byte) (*store.AppStateSyncKey, error) {
	if err := l.usable(); err != nil {
		return nil, err
	}
	value, err := l.get(ctx, l.syncKeyRow(id))
	if err != nil || value == nil {
		return nil, err
	}
	_, key, err := l.decodeSyncKey(value)
	return key, err
}

type syncKey struct {
	id  []byte
	key *store.AppStateSyncKey
}

// syncKeys lists the keys, newest first.
func (l *link) syncKeys(ctx context.Context) ([]syncKey, error) {
	rows, err := l.list(ctx, kindSyncKey+"#")
	if err != nil {
		return nil, err
	}
	all := make([]syncKey, 0, len(rows))
	for _, value := range rows {
		id, key, err := l.decodeSyncKey(value)
		if err != nil {
			return nil, err
		}
		all = append(all, syncKey{id, key})
	}
	slices.SortFunc(all, func(a, b syncKey) int {
		if a.key.Timestamp != b.key.Timestamp {
			if a.key.Timestamp > b.key.Timestamp {
				return -1
			}
			return 1
		}
		return bytes.Compare(a.id, b.id)
	})
	return all, nil
}

func (l *link) GetLatestAppStateSyncKeyID(ctx context.Context) ([]byte, error) {
	all, err := l.syncKeys(ctx)
	if err != nil || len(all) == 0 {
		return nil, err
	}
	return all[0].id, nil
}

func (l *link) GetAllAppStateSyncKeys(ctx context.Context) ([]*store.AppStateSyncKey, error) {
	all, err := l.syncKeys(ctx)
	if err != nil {
		return nil, err
	}
	var out []*store.AppStateSyncKey
	for _, k := range all {
		out = append(out, k.key)
	}
	return out, nil
}

// App state versions: one row a collection.

func versionRow(name string) string { return kindVersion + "#" + name }

func (l *link) PutAppStateVersion(ctx context.Context, name string, version uint64, hash [128]byte) error {
	return l.putChanged(ctx, versionRow(name), append(binary.BigEndian.AppendUint64(nil, version), hash[:]...))
}

func (l *link) GetAppStateVersion(ctx context.Context, name string) (version uint64, hash [128]byte, err error) {
	value, err := l.get(ctx, versionRow(name))
	switch {
	case err != nil || value == nil:
		return 0, hash, err
	case len(value) != 8+len(hash):
		return 0, hash, l.h.fail(fmt.Errorf("%w: app state version", ErrCorrupt))
	}
	version = binary.BigEndian.Uint64(value)
	if version == 0 {
		return 0, hash, fmt.Errorf("devicestore: saved app state version is 0")
	}
	return version, [128]byte(value[8:]), nil
}

// DeleteAppStateVersion begins a full sync: the collection's MACs go first, so
// that none is left without a version if this is cut off.
func (l *link) DeleteAppStateVersion(ctx context.Context, name string) error {
	rows, err := l.list(ctx, macRows(name))
	if err != nil {
		return err
	}
	for batch := range slices.Chunk(slices.Collect(maps.Keys(rows)), maxItems-spare) {
		err := l.atomically(ctx, func(_ context.Context, t *txn) error {
			for _, sk := range batch {
				t.delete(sk)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return l.deleteRow(ctx, versionRow(name))
}

// Mutation MACs: one for every contact, chat and setting, thousands of them.
// They stand in 256 rows a collection, by the first byte of the index MAC, each
// entry with the version it came with; the highest version of an index counts.

const macEntry = 32 + 32 + 8

func macRow(name string, indexMAC []byte) string {
	first := byte(0)
	if len(indexMAC) > 0 {
		first = indexMAC[0]
	}
	return macRows(name) + hex.EncodeToString([]byte{first})
}

func macRows(name string) string { return kindMACs + "#" + name + "#" }

// findMAC returns where a row has the entry of the index, or -1.
func findMAC(row, indexMAC []byte) int {
	for i := 0; i+macEntry <= len(row); i += macEntry {
		if bytes.Equal(row[i:i+32], indexMAC) {
			return i
		}
	}
	return -1
}

// editMACs changes the rows of these indices, as many transactions as it takes.
func (l *link) editMACs(ctx context.Context, name string, indices [][]byte, edit func(row, index []byte) []byte) error {
	byRow := make(map[string][][]byte)
	var sks []string
	for _, index := range indices {
		sk := macRow(name, index)
		if byRow[sk] == nil {
			sks = append(sks, sk)
		}
		byRow[sk] = append(byRow[sk], index)
	}
	for batch := range slices.Chunk(sks, maxItems-spare) {
		err := l.atomically(ctx, func(ctx context.Context, t *txn) error {
			rows, err := l.getMany(ctx, batch)
			if err != nil {
				return err
			}
			for _, sk := range batch {
				row := slices.Clone(rows[sk])
				for _, index := range byRow[sk] {
					row = edit(row, index)
				}
				switch {
				case bytes.Equal(row, rows[sk]):
				case len(row) == 0:
					t.delete(sk)
				default:
					t.put(sk, row)
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (l *link) PutAppStateMutationMACs(ctx context.Context, name string, version uint64, mutations []store.AppStateMutationMAC) error {
	values := make(map[string][]byte, len(mutations))
	indices := make([][]byte, 0, len(mutations))
	for _, m := range mutations {
		if len(m.IndexMAC) != 32 || len(m.ValueMAC) != 32 {
			return fmt.Errorf("devicestore: mutation MAC of %d and %d bytes", len(m.IndexMAC), len(m.ValueMAC))
		}
		if _, ok := values[string(m.IndexMAC)]; !ok {
			indices = append(indices, m.IndexMAC)
		}
		values[string(m.IndexMAC)] = m.ValueMAC
	}
	return l.editMACs(ctx, name, indices, func(row, index []byte) []byte {
		i := findMAC(row, index)
		if i >= 0 && binary.BigEndian.Uint64(row[i+64:]) > version {
			return row
		}
		entry := slices.Concat(index, values[string(index)])
		entry = binary.BigEndian.AppendUint64(entry, version)
		if i >= 0 {
			copy(row[i:], entry)
			return row
		}
		return append(row, entry...)
	})
}

func (l *link) DeleteAppStateMutationMACs(ctx context.Context, name string, indexMACs [][]byte) error {
	return l.editMACs(ctx, name, indexMACs, func(row, index []byte) []byte {
		if i := findMAC(row, index); i >= 0 {
			return slices.Delete(row, i, i+macEntry)
		}
		return row
	})
}

func (l *link) GetAppStateMutationMAC(ctx context.Context, name string, indexMAC []byte) ([]byte, error) {
	row, err := l.get(ctx, macRow(name, indexMAC))
	if err != nil {
		return nil, err
	}
	if i := findMAC(row, indexMAC); i >= 0 {
		return slices.Clone(row[i+32 : i+64]), nil
	}
	return nil, nil
}
