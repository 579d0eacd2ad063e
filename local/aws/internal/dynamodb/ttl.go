package dynamodb

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"strconv"
	"time"

	"go.etcd.io/bbolt"

	"whatisup/local/aws/internal/attribute"
	"whatisup/local/aws/internal/store"
	"whatisup/local/aws/internal/wire"
)

// The expiry bucket lists what is to expire: key = second (8 bytes) and the
// item's place; there is one while a table has TTL on.

func (s *Service) updateTimeToLive(r *Request) ([]byte, error) {
	spec := r.Input.Get("TimeToLiveSpecification")
	name, on := spec.Str("AttributeName"), spec.Bool("Enabled", false)
	var next *Table
	err := s.Store.Update(func(tx *bbolt.Tx) error {
		b := tx.Bucket(tablesBucket).Get([]byte(shortName(r.Input.Str("TableName"))))
		if b == nil {
			return missing(r.Input.Str("TableName"))
		}
		t, err := loadTable(b)
		store.Must(err)
		switch {
		case on && t.TTL == name:
			return wire.Validation("TimeToLive is already enabled")
		case on && t.TTL != "":
			return wire.Validation("TimeToLive is active on a different AttributeName: current AttributeName is %s", t.TTL)
		case !on && t.TTL == "":
			return wire.Validation("TimeToLive is already disabled")
		case !on && t.TTL != name:
			return wire.Validation("TimeToLive is active on a different AttributeName: current AttributeName is %s", t.TTL)
		}
		t.TTL = ""
		data := t.bucket(tx)
		if on {
			t.TTL = name
			expiry, err := data.CreateBucketIfNotExists(expiryBucket)
			store.Must(err)
			store.Must(data.Bucket(itemsBucket).ForEach(func(k, v []byte) error {
				if at, ok := t.expiry(decodeStored(v)); ok {
					return expiry.Put(expiryKey(at, k), nil)
				}
				return nil
			}))
		} else {
			store.Must(data.DeleteBucket(expiryBucket))
		}
		t.save(tx)
		next = t
		return nil
	})
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	s.tables[next.Name] = next
	s.mu.Unlock()
	return json.Marshal(map[string]any{"TimeToLiveSpecification": map[string]any{"AttributeName": name, "Enabled": on}})
}

func (s *Service) describeTimeToLive(r *Request) ([]byte, error) {
	t, err := s.table(r.Input.Str("TableName"))
	if err != nil {
		return nil, missing(r.Input.Str("TableName"))
	}
	d := map[string]any{"TimeToLiveStatus": "DISABLED"}
	if t.TTL != "" {
		d = map[string]any{"TimeToLiveStatus": "ENABLED", "AttributeName": t.TTL}
	}
	return json.Marshal(map[string]any{"TimeToLiveDescription": d})
}

// expiry is the second at which the item is due, if it ever is.
func (t *Table) expiry(item attribute.Item) (int64, bool) {
	v, ok := item[t.TTL]
	if t.TTL == "" || !ok || v.Type != attribute.N {
		return 0, false
	}
	f, err := strconv.ParseFloat(v.Str, 64)
	if err != nil || f <= 0 || f > 1<<52 {
		return 0, false
	}
	return int64(f), true
}

func expiryKey(at int64, place []byte) []byte {
	return append(binary.BigEndian.AppendUint64(nil, uint64(at)), place...)
}

// tooOld is how far back a time may lie; DynamoDB takes older ones for mistakes.
const tooOld = 5 * 365 * 24 * time.Hour

// Sweep deletes what was due at a time before the present less delay. It goes
// in short steps, so that others can write in between.
func (s *Service) Sweep(ctx context.Context, delay time.Duration) (deleted int, err error) {
	s.mu.RLock()
	var tables []*Table
	for _, t := range s.tables {
		if t.TTL != "" {
			tables = append(tables, t)
		}
	}
	s.mu.RUnlock()
	now := s.Clock()
	before := expiryKey(now.Add(-delay).Unix(), nil)
	oldest := expiryKey(now.Add(-tooOld).Unix(), nil)
	for _, t := range tables {
		for ctx.Err() == nil {
			n, err := s.sweep(t, oldest, before)
			if err != nil {
				return deleted, err
			}
			if deleted += n; n < sweepStep {
				break
			}
		}
	}
	return deleted, ctx.Err()
}

const sweepStep = 100

func (s *Service) sweep(t *Table, oldest, before []byte) (n int, err error) {
	due := func(tx *bbolt.Tx) (places [][]byte) {
		b := t.bucket(tx)
		if b == nil || b.Bucket(expiryBucket) == nil {
			return nil
		}
		c := b.Bucket(expiryBucket).Cursor()
		for k, _ := c.Seek(oldest); k != nil && bytes.Compare(k, before) < 0 && len(places) < sweepStep; k, _ = c.Next() {
			places = append(places, bytes.Clone(k[8:]))
		}
		return places
	}
	idle := false
	if err := s.Store.View(func(tx *bbolt.Tx) error { idle = len(due(tx)) == 0; return nil }); err != nil || idle {
		return 0, err
	}
	err = s.Store.Update(func(tx *bbolt.Tx) error {
		places := due(tx)
		for _, place := range places {
			t.write(tx, place, load(t.bucket(tx), place), nil)
		}
		n = len(places)
		return nil
	})
	return n, err
}
