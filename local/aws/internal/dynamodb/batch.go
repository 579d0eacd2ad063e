package dynamodb

import (
	"errors"
	"strings"

	"go.etcd.io/bbolt"

	"whatisup/local/aws/internal/expression"
	"whatisup/local/aws/internal/wire"
)

// Limits of batches: items, and bytes of a BatchGetItem's answer.
const (
	maxBatchWrite = 25
	maxBatchGet   = 100
	maxBatchRead  = 16 << 20
)

// unprocessed gathers what a batch leaves undone, a table at a time, as raw JSON.
type unprocessed struct {
	order  []string
	tables map[string][]byte
}

func (u *unprocessed) add(table string, n *wire.Node) {
	if u.tables == nil {
		u.tables = map[string][]byte{}
	}
	if _, ok := u.tables[table]; !ok {
		u.order = append(u.order, table)
	} else {
		u.tables[table] = append(u.tables[table], ',')
	}
	u.tables[table] = n.Append(u.tables[table])
}

func (s *Service) batchWriteItem(r *Request) ([]byte, error) {
	type entry struct {
		*write
		table string
		node  *wire.Node
	}
	var entries []entry
	requests := r.Input.Get("RequestItems")
	for i := range requests.Fields {
		f := &requests.Fields[i]
		for j := range f.Value.List {
			n := &f.Value.List[j]
			e := entry{write: &write{tableName: f.Name}, table: f.Name, node: n}
			put, del := n.Has("PutRequest"), n.Has("DeleteRequest")
			if put == del {
				return nil, wire.Validation("Supplied AttributeValue has more than one datatypes set, must contain exactly one of the supported datatypes")
			}
			var err error
			if put {
				e.verb = "Put"
				if e.item, err = parseItem(n.Get("PutRequest").Get("Item")); err == nil && e.item.Size() > maxItem {
					err = wire.Validation("Item size has exceeded the maximum allowed size")
				}
			} else {
				e.verb = "Delete"
				e.key, err = parseItem(n.Get("DeleteRequest").Get("Key"))
			}
			if err != nil {
				return nil, err
			}
			entries = append(entries, e)
		}
	}
	if len(entries) > maxBatchWrite {
		return nil, wire.Validation("Too many items requested for the BatchWriteItem call")
	}
	var out []byte
	err := s.Store.Update(func(tx *bbolt.Tx) error {
		var left unprocessed
		var costs capacities
		var todo []*effect
		touched := collections{}
		seen := map[string]bool{}
		for _, e := range entries {
			fx, err := e.aim(s)
			if err != nil {
				return batchError(err)
			}
			id := fx.table.ID + string(fx.place)
			if seen[id] {
				return wire.Validation("Provided list of item keys contains duplicates")
			}
			seen[id] = true
			if s.Unprocessed("BatchWriteItem", fx.table.Name) {
				left.add(e.table, e.node)
				continue
			}
			if err := e.decide(tx, fx); err != nil {
				return err
			}
			touched.add(fx.table, e.keyOf())
			todo = append(todo, fx)
		}
		for _, fx := range todo {
			c := s.carryOut(tx, fx)
			costs.of(c.table).add(c.base, c.indexes)
		}
		out = touched.member(costs.member([]byte{'{'}, r.Input), r.Input)
		out = append(out, `"UnprocessedItems":{`...)
		for i, table := range left.order {
			if i > 0 {
				out = append(out, ',')
			}
			out = append(wire.AppendString(out, table), ":["...)
			out = append(append(out, left.tables[table]...), ']')
		}
		out = append(out, "}}"...)
		return nil
	})
	return out, err
}

// batchError says the same as DynamoDB of a key that is wrong in a batch: less.
func batchError(err error) error {
	var e *wire.Error
	if errors.As(err, &e) && (strings.Contains(e.Message, "Missing the key") || strings.Contains(e.Message, "Type mismatch for key")) {
		return errKeySchema
	}
	return err
}

func (s *Service) batchGetItem(r *Request) ([]byte, error) {
	type entry struct {
		*read
		table      string
		node       *wire.Node
		consistent bool
	}
	type request struct {
		table      string
		node       *wire.Node
		projection *expression.Projection
	}
	var all []request
	total := 0
	requests := r.Input.Get("RequestItems")
	for i := range requests.Fields {
		f := &requests.Fields[i]
		p, err := parseProjection(&f.Value)
		if err != nil {
			return nil, err
		}
		seen := map[string]bool{}
		for j := range f.Value.Get("Keys").List {
			key, err := parseItem(&f.Value.Get("Keys").List[j])
			if err != nil {
				return nil, err
			}
			id := string(key.Append(nil))
			if seen[id] {
				return nil, wire.Validation("Provided list of item keys contains duplicates")
			}
			seen[id] = true
			if total++; total > maxBatchGet {
				return nil, wire.Validation("Too many items requested for the BatchGetItem call")
			}
		}
		all = append(all, request{f.Name, &f.Value, p})
	}
	var entries []entry
	for _, q := range all {
		for j := range q.node.Get("Keys").List {
			n := &q.node.Get("Keys").List[j]
			key, err := parseItem(n)
			if err != nil {
				return nil, err
			}
			rd, err := s.aimRead(q.table, key, q.projection)
			if err != nil {
				return nil, err
			}
			entries = append(entries, entry{rd, q.table, n, q.node.Bool("ConsistentRead", false)})
		}
	}
	shuffle(len(entries), func(i, j int) { entries[i], entries[j] = entries[j], entries[i] })
	var out []byte
	err := s.Store.View(func(tx *bbolt.Tx) error {
		found := map[string][]byte{}
		var left unprocessed
		var costs capacities
		read := 0
		for _, e := range entries {
			if s.Unprocessed("BatchGetItem", e.read.table.Name) {
				left.add(e.table, e.node)
				continue
			}
			list := found[e.table]
			mark := len(list)
			if mark > 0 {
				list = append(list, ',')
			}
			list, ok, size, err := e.get(tx, list)
			if err != nil {
				return err
			}
			if read+size > maxBatchRead {
				left.add(e.table, e.node)
				continue
			}
			if !ok {
				list = list[:mark]
			}
			found[e.table] = list
			read += size
			costs.of(e.read.table).add(readUnits(size, e.consistent), nil)
		}
		out = costs.member([]byte{'{'}, r.Input)
		out = append(out, `"Responses":{`...)
		for i, q := range all {
			if i > 0 {
				out = append(out, ',')
			}
			out = append(wire.AppendString(out, q.table), ":["...)
			out = append(append(out, found[q.table]...), ']')
		}
		out = append(out, `},"UnprocessedKeys":{`...)
		for i, table := range left.order {
			if i > 0 {
				out = append(out, ',')
			}
			out = append(wire.AppendString(out, table), `:{"Keys":[`...)
			out = append(append(out, left.tables[table]...), ']')
			for _, member := range []string{"ConsistentRead", "ProjectionExpression", "ExpressionAttributeNames"} {
				if v := requests.Get(table).Get(member); v.Kind != wire.Null {
					out = append(append(append(out, `,"`...), member...), `":`...)
					out = v.Append(out)
				}
			}
			out = append(out, '}')
		}
		out = append(out, "}}"...)
		return nil
	})
	return out, err
}
