package dynamodb

import (
	"maps"
	"slices"
	"strconv"

	"whatisup/local/aws/internal/wire"
)

func writeUnits(size int) float64 { return float64(max(1, (size+1023)/1024)) }

// readUnits is what reading size bytes costs, half of it if the read need not
// be consistent.
func readUnits(size int, consistent bool) float64 {
	u := float64(max(1, (size+4095)/4096))
	if !consistent {
		u /= 2
	}
	return u
}

// capacity is what one call cost one table.
type capacity struct {
	table   *Table
	base    float64
	indexes map[string]float64
	// read and write are told apart in the answers of transactions.
	read, write float64
}

func (c *capacity) add(base float64, indexes map[string]float64) {
	c.base += base
	for name, u := range indexes {
		if c.indexes == nil {
			c.indexes = map[string]float64{}
		}
		c.indexes[name] += u
	}
}

// append appends the ConsumedCapacity object.
func (c *capacity) append(dst []byte, detail bool) []byte {
	total := c.base
	for _, u := range c.indexes {
		total += u
	}
	dst = append(dst, `{"TableName":`...)
	dst = wire.AppendString(dst, c.table.Name)
	dst = append(dst, `,"CapacityUnits":`...)
	dst = strconv.AppendFloat(dst, total, 'f', -1, 64)
	if c.read > 0 {
		dst = append(dst, `,"ReadCapacityUnits":`...)
		dst = strconv.AppendFloat(dst, c.read, 'f', -1, 64)
	}
	if c.write > 0 {
		dst = append(dst, `,"WriteCapacityUnits":`...)
		dst = strconv.AppendFloat(dst, c.write, 'f', -1, 64)
	}
	if detail {
		dst = append(dst, `,"Table":`...)
		dst = appendUnits(dst, c.base)
		dst = c.appendIndexes(dst, "LocalSecondaryIndexes", true)
		dst = c.appendIndexes(dst, "GlobalSecondaryIndexes", false)
	}
	return append(dst, '}')
}

// appendIndexes appends the units of one kind of index, if there are any.
func (c *capacity) appendIndexes(dst []byte, member string, local bool) []byte {
	some := false
	for _, name := range slices.Sorted(maps.Keys(c.indexes)) {
		if c.table.index(name).Local != local {
			continue
		}
		if some {
			dst = append(dst, ',')
		} else {
			dst = append(append(append(dst, `,"`...), member...), `":{`...)
		}
		some = true
		dst = append(wire.AppendString(dst, name), ':')
		dst = appendUnits(dst, c.indexes[name])
	}
	if some {
		dst = append(dst, '}')
	}
	return dst
}

func appendUnits(dst []byte, u float64) []byte {
	dst = append(dst, `{"CapacityUnits":`...)
	dst = strconv.AppendFloat(dst, u, 'f', -1, 64)
	return append(dst, '}')
}

// wanted reads ReturnConsumedCapacity.
func wanted(in *wire.Node) (any, detail bool) {
	mode := in.Str("ReturnConsumedCapacity")
	return mode == "TOTAL" || mode == "INDEXES", mode == "INDEXES"
}

// member appends `"ConsumedCapacity":{…},` if the request asks for it.
func (c *capacity) member(dst []byte, in *wire.Node) []byte {
	any, detail := wanted(in)
	if !any {
		return dst
	}
	dst = append(dst, `"ConsumedCapacity":`...)
	dst = c.append(dst, detail)
	return append(dst, ',')
}

// capacities gathers the costs of a call on several tables.
type capacities struct {
	byTable map[string]*capacity
}

func (c *capacities) of(t *Table) *capacity {
	if c.byTable == nil {
		c.byTable = map[string]*capacity{}
	}
	if c.byTable[t.Name] == nil {
		c.byTable[t.Name] = &capacity{table: t}
	}
	return c.byTable[t.Name]
}

func (c *capacities) member(dst []byte, in *wire.Node) []byte {
	any, detail := wanted(in)
	if !any {
		return dst
	}
	dst = append(dst, `"ConsumedCapacity":[`...)
	for i, name := range slices.Sorted(maps.Keys(c.byTable)) {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = c.byTable[name].append(dst, detail)
	}
	return append(dst, "],"...)
}

// finish closes the object that a run of members, each with its comma, makes.
func finish(dst []byte) []byte {
	if n := len(dst); dst[n-1] == ',' {
		dst[n-1] = '}'
		return dst
	}
	return append(dst, '}')
}
