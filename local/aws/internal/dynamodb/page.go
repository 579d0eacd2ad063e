package dynamodb

import (
	"bytes"
	"maps"
	"slices"
	"strconv"
	"strings"

	"go.etcd.io/bbolt"

	"whatisup/local/aws/internal/attribute"
	"whatisup/local/aws/internal/expression"
	"whatisup/local/aws/internal/wire"
)

// maxPage is how much one Query or Scan reads.
const maxPage = 1 << 20

// page is one Query or Scan: a stretch of a table or an index, read in one
// direction until it ends, Limit items were looked at, or a megabyte was.
type page struct {
	table      *Table
	index      *Index // nil for the table itself
	from, to   []byte // places: from ≤ place < to; nil is open
	backward   bool
	limit      int // 0 is none
	filter     *expression.Condition
	projection *expression.Projection
	countOnly  bool
	consistent bool
	// fetch says that an item is read from the table for each row, because a
	// local index does not hold what is asked for.
	fetch bool
}

// prefixEnd is the first place after all that begin with prefix; nil if none can be.
func prefixEnd(prefix []byte) []byte {
	end := bytes.Clone(prefix)
	for i := len(end) - 1; i >= 0; i-- {
		if end[i]++; end[i] != 0 {
			return end[:i+1]
		}
	}
	return nil
}

// after makes the page go on behind a place.
func (p *page) after(place []byte) {
	if p.backward {
		if p.to == nil || bytes.Compare(place, p.to) < 0 {
			p.to = place
		}
		return
	}
	if next := append(bytes.Clone(place), 0); bytes.Compare(next, p.from) > 0 {
		p.from = next
	}
}

// key is what the page's rows are ordered by.
func (p *page) key() Key {
	if p.index != nil {
		return p.index.Key
	}
	return p.table.Key
}

// startPlace turns an ExclusiveStartKey into a place.
func (p *page) startPlace(key attribute.Item) []byte {
	t := p.table
	place, _ := t.place(nil, t.Key, key)
	if p.index != nil {
		place, _ = t.placeIn(p.index, key, place)
	}
	return place
}

func (p *page) bucket(data *bbolt.Bucket) *bbolt.Bucket {
	if p.index != nil {
		return data.Bucket(indexBucket(p.index.Name))
	}
	return data.Bucket(itemsBucket)
}

// walk visits the rows in order until visit says stop.
func (p *page) walk(c *bbolt.Cursor, visit func(place, v []byte) bool) {
	if !p.backward {
		for k, v := c.Seek(p.from); k != nil && (p.to == nil || bytes.Compare(k, p.to) < 0); k, v = c.Next() {
			if !visit(k, v) {
				return
			}
		}
		return
	}
	last := c.Last
	if p.to != nil {
		if k, _ := c.Seek(p.to); k != nil {
			last = c.Prev
		}
	}
	for k, v := last(); k != nil && bytes.Compare(k, p.from) >= 0; k, v = c.Prev() {
		if !visit(k, v) {
			return
		}
	}
}

// run reads the page and writes the answer.
func (s *Service) run(p *page, in *wire.Node) ([]byte, error) {
	var out []byte
	err := s.Store.View(func(tx *bbolt.Tx) error {
		data := p.table.bucket(tx)
		if data == nil {
			return errNoTable
		}
		items := data.Bucket(itemsBucket)
		var (
			list           = make([]byte, 0, 1024)
			count, scanned int
			size           int
			fetched        float64 // units
			last           *stored
		)
		p.walk(p.bucket(data).Cursor(), func(_, v []byte) bool {
			o := p.row(items, v)
			scanned++
			size += o.size
			shown := o
			if p.fetch {
				shown = open(items.Get(v))
				fetched += readUnits(shown.size, p.consistent)
			}
			if p.filter == nil || p.filter.Holds(o.attributes()) {
				if !p.countOnly {
					if count > 0 {
						list = append(list, ',')
					}
					list = p.append(list, shown)
				}
				count++
			}
			if p.limit > 0 && scanned >= p.limit || size >= maxPage {
				last = o
				return false
			}
			return true
		})
		cost := capacity{table: p.table}
		if units := readUnits(size, p.consistent); p.index == nil {
			cost.base = units
		} else {
			cost.add(fetched, map[string]float64{p.index.Name: units})
		}
		out = cost.member(append(make([]byte, 0, len(list)+256), '{'), in)
		out = append(out, `"Count":`...)
		out = strconv.AppendInt(out, int64(count), 10)
		out = append(out, `,"ScannedCount":`...)
		out = strconv.AppendInt(out, int64(scanned), 10)
		if !p.countOnly {
			out = append(out, `,"Items":[`...)
			out = append(out, list...)
			out = append(out, ']')
		}
		if last != nil {
			out = append(out, `,"LastEvaluatedKey":`...)
			out = p.lastKey(last).Append(out)
		}
		out = append(out, '}')
		return nil
	})
	return out, err
}

// row opens a row: the item itself, or the part of it that the index holds.
func (p *page) row(items *bbolt.Bucket, v []byte) *stored {
	if p.index == nil {
		return open(v)
	}
	o := open(items.Get(v))
	if p.index.Projection == "ALL" {
		return o
	}
	part := p.index.project(p.table, o.attributes())
	return &stored{item: part, size: part.Size()}
}

func (p *page) append(dst []byte, o *stored) []byte {
	switch {
	case p.projection != nil:
		return p.projection.Apply(o.attributes()).Append(dst)
	case o.json != nil:
		return append(dst, o.json...)
	}
	return o.item.Append(dst)
}

func (p *page) lastKey(o *stored) attribute.Item {
	key := attribute.Item{}
	for _, name := range append(p.table.Key.Names(), p.key().Names()...) {
		key[name] = o.attributes()[name]
	}
	return key
}

// open finds what is to be read and reads what Query and Scan have in common.
func (s *Service) openPage(in *wire.Node) (*page, error) {
	t, err := s.table(in.Str("TableName"))
	if err != nil {
		return nil, err
	}
	p := &page{table: t, limit: in.Int("Limit", 0), consistent: in.Bool("ConsistentRead", false), countOnly: in.Str("Select") == "COUNT"}
	if in.Has("IndexName") {
		if p.index = t.index(in.Str("IndexName")); p.index == nil {
			return nil, wire.Validation("The table does not have the specified index: %s", in.Str("IndexName"))
		}
		if p.consistent && !p.index.Local {
			return nil, wire.Validation("Consistent reads are not supported on global secondary indexes")
		}
	}
	return p, nil
}

// checkSelect holds Select, projection and filter to what the index holds. Of
// a local index more may be asked for: the rest is fetched from the table.
func (p *page) checkSelect(in *wire.Node) error {
	if p.index == nil || p.index.Projection == "ALL" {
		return nil
	}
	if in.Str("Select") == "ALL_ATTRIBUTES" {
		if !p.index.Local {
			return invalid("Select type ALL_ATTRIBUTES is not supported for global secondary index %s because its projection type is not ALL", p.index.Name)
		}
		p.fetch = true
	}
	if p.projection == nil {
		return nil
	}
	for _, name := range p.projection.Tops() {
		switch {
		case p.index.covers(p.table, name):
		case p.index.Local:
			p.fetch = true
		default:
			return invalid("Global secondary index %s does not project [%s]", p.index.Name, name)
		}
	}
	return nil
}

// checkFilter refuses a query's filter on what the index does not hold. (A scan
// finds nothing there.)
func (p *page) checkFilter() error {
	if p.filter == nil {
		return nil
	}
	for _, name := range p.key().Names() {
		if p.filter.Tops[name] {
			return wire.Validation("Filter Expression can only contain non-primary key attributes: Primary key attribute: %s", name)
		}
	}
	if p.index == nil {
		return nil
	}
	var missing []string
	for _, name := range slices.Sorted(maps.Keys(p.filter.Tops)) {
		if !p.index.covers(p.table, name) {
			missing = append(missing, name)
		}
	}
	if missing != nil {
		return invalid("Secondary index %s does not project one or more filter attributes: [%s]", p.index.Name, strings.Join(missing, ", "))
	}
	return nil
}

// selectParams are the rules on Select that need no table. Query puts words
// before them that Scan does not.
func selectParams(in *wire.Node, prefix string) error {
	sel, projected := in.Str("Select"), in.Has("ProjectionExpression")
	switch {
	case sel == "ALL_PROJECTED_ATTRIBUTES" && !in.Has("IndexName"):
		return wire.Validation("%sALL_PROJECTED_ATTRIBUTES can be used only when Querying using an IndexName", prefix)
	case sel == "SPECIFIC_ATTRIBUTES" && !projected:
		return wire.Validation("%sMust specify the AttributesToGet or ProjectionExpression when choosing to get SPECIFIC_ATTRIBUTES", prefix)
	case projected && sel == "COUNT":
		return wire.Validation("%sCannot specify the ProjectionExpression when choosing to get only the Count", prefix)
	case projected && sel != "" && sel != "SPECIFIC_ATTRIBUTES":
		return wire.Validation("%sCannot specify the ProjectionExpression when choosing to get %s", prefix, sel)
	}
	return nil
}

// parsePage reads the expressions of a Query or a Scan.
func parsePage(in *wire.Node, expressions ...string) (filter *expression.Condition, projection *expression.Projection, keys func() ([]expression.KeyCondition, error), err error) {
	scope, err := expression.NewScope(in.Get("ExpressionAttributeNames"), in.Get("ExpressionAttributeValues"))
	if err != nil {
		return nil, nil, nil, wire.Validation("%s", err)
	}
	if in.Has("KeyConditionExpression") {
		if keys, err = expression.ParseKeyCondition(in.Str("KeyConditionExpression"), scope); err != nil {
			return nil, nil, nil, wire.Validation("Invalid KeyConditionExpression: %s", err)
		}
	}
	if in.Has("FilterExpression") {
		if filter, err = expression.ParseCondition(in.Str("FilterExpression"), scope); err != nil {
			return nil, nil, nil, wire.Validation("Invalid FilterExpression: %s", err)
		}
	}
	if in.Has("ProjectionExpression") {
		if projection, err = expression.ParseProjection(in.Str("ProjectionExpression"), scope); err != nil {
			return nil, nil, nil, wire.Validation("Invalid ProjectionExpression: %s", err)
		}
	}
	if err := scope.Unused(); err != nil {
		return nil, nil, nil, wire.Validation("%s", err)
	}
	return filter, projection, keys, nil
}

func parseStart(in *wire.Node) (attribute.Item, error) {
	if !in.Has("ExclusiveStartKey") {
		return nil, nil
	}
	key, err := attribute.ParseItem(in.Get("ExclusiveStartKey"))
	if err != nil {
		return nil, wire.Validation("%s%s", startPrefix(err.Error()), err)
	}
	return key, nil
}
