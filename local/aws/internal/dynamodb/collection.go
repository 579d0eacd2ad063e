package dynamodb

import (
	"bytes"
	"maps"
	"slices"

	"whatisup/local/aws/internal/attribute"
	"whatisup/local/aws/internal/wire"
)

// An item collection is a partition of a table with local indexes, together
// with its entries in them. Writes tell on request how large it is, in
// gigabytes between two bounds. Here that is always less than one, and the
// service's limit of ten is not enforced.

// collections gathers the item collections that a call wrote to, by table.
type collections map[string][]byte

func (c collections) add(t *Table, key attribute.Item) {
	if !t.hasLocal() {
		return
	}
	one := attribute.Item{t.Key.Hash: key[t.Key.Hash]}.Append([]byte(`{"ItemCollectionKey":`))
	one = append(one, `,"SizeEstimateRangeGB":[0.0,1.0]}`...)
	switch all := c[t.Name]; {
	case all == nil:
		c[t.Name] = one
	case !bytes.Contains(all, one):
		c[t.Name] = append(append(all, ','), one...)
	}
}

func (t *Table) hasLocal() bool {
	return slices.ContainsFunc(t.Indexes, func(x *Index) bool { return x.Local })
}

func (c collections) wanted(in *wire.Node) bool {
	return len(c) > 0 && in.Str("ReturnItemCollectionMetrics") == "SIZE"
}

// one appends the member of a call that wrote a single item.
func (c collections) one(dst []byte, in *wire.Node) []byte {
	if !c.wanted(in) {
		return dst
	}
	for _, metrics := range c {
		dst = append(append(append(dst, `"ItemCollectionMetrics":`...), metrics...), ',')
	}
	return dst
}

// member appends the member of a call on several tables.
func (c collections) member(dst []byte, in *wire.Node) []byte {
	if !c.wanted(in) {
		return dst
	}
	dst = append(dst, `"ItemCollectionMetrics":{`...)
	for i, table := range slices.Sorted(maps.Keys(c)) {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(wire.AppendString(dst, table), ":["...)
		dst = append(append(dst, c[table]...), ']')
	}
	return append(dst, "},"...)
}
