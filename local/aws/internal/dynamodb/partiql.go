package dynamodb

import (
	"errors"
	"regexp"
	"strings"
	"sync"

	"go.etcd.io/bbolt"

	"whatisup/local/aws/internal/wire"
)

// Of PartiQL this knows the one statement that the product makes, an INSERT whose
// values are all parameters, and refuses the rest as not implemented.

var batchExecuteStatementShape = input(
	wire.Member{Name: "ReturnConsumedCapacity", Shape: consumed},
	wire.Member{Name: "Statements", Shape: required(lengths(list(element("BatchStatementRequest",
		wire.Member{Name: "Statement", Shape: required(lengths(str(), 1, 8192))},
		wire.Member{Name: "Parameters", Shape: list(value)},
		wire.Member{Name: "ConsistentRead", Shape: boolean()},
		wire.Member{Name: "ReturnValuesOnConditionCheckFailure", Shape: enum("ALL_OLD", "NONE")},
	)), 1, maxBatchWrite))},
)

var insertPattern = regexp.MustCompile(`^\s*(?i:INSERT\s+INTO)\s+"([a-zA-Z0-9_.-]+)"\s+(?i:VALUE)\s*\{(.*)\}\s*$`)
var memberPattern = regexp.MustCompile(`^\s*'([A-Za-z0-9_]+)'\s*:\s*\?\s*$`)

// insertion is a statement taken apart: the table and the names of the attributes, in
// the order of the parameters.
type insertion struct {
	table string
	names []string
}

// insertions are the statements that were taken apart before, which are few.
var insertions struct {
	sync.RWMutex
	known map[string]insertion
}

const maxInsertions = 1000

func parseInsertion(statement string) (insertion, bool) {
	insertions.RLock()
	in, ok := insertions.known[statement]
	insertions.RUnlock()
	if ok {
		return in, true
	}
	parts := insertPattern.FindStringSubmatch(statement)
	if parts == nil {
		return in, false
	}
	in.table = parts[1]
	for member := range strings.SplitSeq(parts[2], ",") {
		name := memberPattern.FindStringSubmatch(member)
		if name == nil {
			return in, false
		}
		in.names = append(in.names, name[1])
	}
	insertions.Lock()
	defer insertions.Unlock()
	if insertions.known == nil || len(insertions.known) >= maxInsertions {
		insertions.known = make(map[string]insertion)
	}
	insertions.known[strings.Clone(statement)] = in
	return in, true
}

// parseInsert makes a put of a statement.
func parseInsert(n *wire.Node) (*write, error) {
	in, ok := parseInsertion(n.Str("Statement"))
	if !ok {
		unknown := wire.Validation("the embedded AWS does not implement this statement: %s", n.Str("Statement"))
		unknown.Unknown = true
		return nil, unknown
	}
	parameters := n.Get("Parameters").List
	if len(parameters) != len(in.names) {
		return nil, wire.Validation("Number of parameters in request and statement don't match.")
	}
	node := wire.Node{Kind: wire.Object}
	for i, name := range in.names {
		node.Fields = append(node.Fields, wire.Field{Name: name, Value: parameters[i]})
	}
	item, err := parseItem(&node)
	if err != nil {
		return nil, err
	}
	if item.Size() > maxItem {
		return nil, wire.Validation("Item size has exceeded the maximum allowed size")
	}
	return &write{verb: "Put", tableName: in.table, item: item}, nil
}

// inserted is what one statement comes to.
type inserted struct {
	table string
	err   *wire.Error
}

// batchExecuteStatement does each statement for itself: one that is refused keeps none
// of the others back.
func (s *Service) batchExecuteStatement(r *Request) ([]byte, error) {
	statements := r.Input.Get("Statements").List
	writes := make([]*write, len(statements))
	for i := range statements {
		var err error
		if writes[i], err = parseInsert(&statements[i]); err != nil {
			return nil, err
		}
	}
	var out []byte
	err := s.Store.Update(func(tx *bbolt.Tx) error {
		effects := make([]*effect, len(writes))
		results := make([]inserted, len(writes))
		seen := map[string]bool{}
		for i, w := range writes {
			results[i].table = w.tableName
			e, err := w.aim(s)
			if err == nil {
				id := e.table.ID + string(e.place)
				if seen[id] {
					return wire.Validation("Duplicate items are not allowed in a batch")
				}
				seen[id] = true
				err = e.stands(tx)
			}
			if err != nil && !errors.As(err, &results[i].err) {
				return err
			}
			if err == nil {
				e.item = w.item
				effects[i] = e
			}
		}
		var costs capacities
		for _, e := range effects {
			if e == nil {
				continue // refused
			}
			c := s.carryOut(tx, e)
			costs.of(c.table).add(c.base, c.indexes)
		}
		out = finish(append(appendInserted(costs.member([]byte{'{'}, r.Input), results), ','))
		return nil
	})
	return out, err
}

// stands refuses an insert where an item is.
func (e *effect) stands(tx *bbolt.Tx) error {
	data := e.table.bucket(tx)
	if data == nil {
		return errNoTable
	}
	if e.old = load(data, e.place); e.old.attributes() != nil {
		return wire.DynamoDB("DuplicateItemException", "Duplicate primary key exists in table")
	}
	return nil
}

// statementCodes are the codes of a statement's error by the name that the same error
// has for a request.
var statementCodes = map[string]string{
	"DuplicateItemException": "DuplicateItem", "ValidationException": "ValidationError", "ResourceNotFoundException": "ResourceNotFound",
}

func appendInserted(dst []byte, results []inserted) []byte {
	dst = append(dst, `"Responses":[`...)
	for i, r := range results {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = wire.AppendString(append(dst, `{"TableName":`...), r.table)
		if r.err != nil {
			code := r.err.Type[strings.LastIndexByte(r.err.Type, '#')+1:]
			if known, ok := statementCodes[code]; ok {
				code = known
			}
			dst = wire.AppendString(append(dst, `,"Error":{"Code":`...), code)
			dst = append(wire.AppendString(append(dst, `,"Message":`...), r.err.Message), '}')
		}
		dst = append(dst, '}')
	}
	return append(dst, ']')
}
