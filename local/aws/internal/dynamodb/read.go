package dynamodb

import (
	"go.etcd.io/bbolt"

	"whatisup/local/aws/internal/attribute"
	"whatisup/local/aws/internal/expression"
	"whatisup/local/aws/internal/wire"
)

// read is one item to be read.
type read struct {
	table      *Table
	place      []byte
	projection *expression.Projection
}

// parseProjection reads the projection of a request that has no other expression.
func parseProjection(in *wire.Node) (*expression.Projection, error) {
	if err := checkParams(in, []string{"ProjectionExpression"}); err != nil {
		return nil, err
	}
	if !in.Has("ProjectionExpression") {
		return nil, nil
	}
	scope, err := expression.NewScope(in.Get("ExpressionAttributeNames"), &wire.Node{})
	if err != nil {
		return nil, wire.Validation("%s", err)
	}
	p, err := expression.ParseProjection(in.Str("ProjectionExpression"), scope)
	if err != nil {
		return nil, wire.Validation("Invalid ProjectionExpression: %s", err)
	}
	if err := scope.Unused(); err != nil {
		return nil, wire.Validation("%s", err)
	}
	return p, nil
}

// aimRead finds where the item with this key lies.
func (s *Service) aimRead(table string, key attribute.Item, p *expression.Projection) (*read, error) {
	t, err := s.table(table)
	if err != nil {
		return nil, err
	}
	if err := t.checkKey(key); err != nil {
		return nil, err
	}
	if err := t.checkNested(p.NestedTops()); err != nil {
		return nil, err
	}
	r := &read{table: t, projection: p}
	r.place, _ = t.place(make([]byte, 0, 64), t.Key, key)
	return r, nil
}

// get appends the item, or nothing if there is none, and returns its size.
func (r *read) get(tx *bbolt.Tx, dst []byte) (out []byte, found bool, size int, err error) {
	data := r.table.bucket(tx)
	if data == nil {
		return dst, false, 0, errNoTable
	}
	o := load(data, r.place)
	if o == nil {
		return dst, false, 0, nil
	}
	if r.projection == nil {
		return append(dst, o.json...), true, o.size, nil
	}
	return r.projection.Apply(o.attributes()).Append(dst), true, o.size, nil
}

func (s *Service) getItem(r *Request) ([]byte, error) {
	if err := checkParams(r.Input, []string{"ProjectionExpression"}); err != nil {
		return nil, err
	}
	key, err := parseItem(r.Input.Get("Key"))
	if err != nil {
		return nil, err
	}
	p, err := parseProjection(r.Input)
	if err != nil {
		return nil, err
	}
	rd, err := s.aimRead(r.Input.Str("TableName"), key, p)
	if err != nil {
		return nil, err
	}
	var out []byte
	err = s.Store.View(func(tx *bbolt.Tx) error {
		item, found, size, err := rd.get(tx, make([]byte, 0, 512))
		if err != nil {
			return err
		}
		cost := capacity{table: rd.table, base: readUnits(size, r.Input.Bool("ConsistentRead", false))}
		out = cost.member(append(make([]byte, 0, len(item)+128), '{'), r.Input)
		if found {
			out = append(append(out, `"Item":`...), item...)
		}
		out = finish(out)
		return nil
	})
	return out, err
}
