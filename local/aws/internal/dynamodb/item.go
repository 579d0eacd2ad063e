package dynamodb

import (
	"bytes"
	"encoding/binary"

	"go.etcd.io/bbolt"

	"whatisup/local/aws/internal/attribute"
	"whatisup/local/aws/internal/store"
)

// An item is stored as its size in DynamoDB's reckoning and its JSON.

// stored is an item as it lies in the file; it lives as long as the
// transaction that read it. A nil stored is no item.
type stored struct {
	json []byte
	size int
	item attribute.Item // filled at first use
}

func load(table *bbolt.Bucket, place []byte) *stored {
	v := table.Bucket(itemsBucket).Get(place)
	if v == nil {
		return nil
	}
	return open(v)
}

func open(v []byte) *stored {
	size, n := binary.Uvarint(v)
	return &stored{json: v[n:], size: int(size)}
}

func decodeStored(v []byte) attribute.Item { return open(v).attributes() }

// attributes returns the item; none for nil. It must not be changed.
func (o *stored) attributes() attribute.Item {
	if o == nil {
		return nil
	}
	if o.item == nil {
		item, err := attribute.Decode(o.json)
		store.Must(err)
		o.item = item
	}
	return o.item
}

func (o *stored) weight() int {
	if o == nil {
		return 0
	}
	return o.size
}

// indexWrites is how many units a write cost each index.
type indexWrites map[string]float64

// write replaces what lies at a place by an item, or removes it, and keeps the
// table's indexes and expiry list in step.
func (t *Table) write(tx *bbolt.Tx, place []byte, old *stored, item attribute.Item) indexWrites {
	data := t.bucket(tx)
	items := data.Bucket(itemsBucket)
	if item != nil {
		v := binary.AppendUvarint(make([]byte, 0, 512), uint64(item.Size()))
		store.Must(items.Put(place, item.Append(v)))
	} else if old != nil {
		if t.Indexes != nil || t.TTL != "" {
			old.attributes() // before the bytes it is read from go
		}
		store.Must(items.Delete(place))
	}
	if t.TTL != "" {
		t.writeExpiry(data, place, old, item)
	}
	var costs indexWrites
	for _, x := range t.Indexes {
		if cost := t.writeIndex(data.Bucket(indexBucket(x.Name)), x, place, old, item); cost > 0 {
			if costs == nil {
				costs = indexWrites{}
			}
			costs[x.Name] = cost
		}
	}
	return costs
}

func (t *Table) writeExpiry(data *bbolt.Bucket, place []byte, old *stored, item attribute.Item) {
	expiry := data.Bucket(expiryBucket)
	was, had := t.expiry(old.attributes())
	is, has := t.expiry(item)
	if had && has && was == is {
		return
	}
	if had {
		store.Must(expiry.Delete(expiryKey(was, place)))
	}
	if has {
		store.Must(expiry.Put(expiryKey(is, place), nil))
	}
}

func (t *Table) writeIndex(b *bbolt.Bucket, x *Index, place []byte, old *stored, item attribute.Item) (cost float64) {
	before, had := t.placeIn(x, old.attributes(), place)
	after, has := t.placeIn(x, item, place)
	if had && has && bytes.Equal(before, after) {
		was, is := x.project(t, old.attributes()), x.project(t, item)
		if (attribute.Value{Type: attribute.M, Map: was}).Equal(attribute.Value{Type: attribute.M, Map: is}) {
			return 0
		}
		return max(writeUnits(was.Size()), writeUnits(is.Size()))
	}
	if had {
		store.Must(b.Delete(before))
		cost += writeUnits(x.project(t, old.attributes()).Size())
	}
	if has {
		store.Must(b.Put(after, place))
		cost += writeUnits(x.project(t, item).Size())
	}
	return cost
}
