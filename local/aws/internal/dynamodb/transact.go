package dynamodb

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"slices"
	"strings"
	"time"

	"go.etcd.io/bbolt"

	"whatisup/local/aws/internal/store"
	"whatisup/local/aws/internal/wire"
)

// tokensBucket remembers client request tokens: token → until when (unix
// milliseconds), a hash of the request, and the size of each item.
var tokensBucket = []byte("dynamodb/tokens")

// A token is good for ten minutes after the request.
const tokenLife = 10 * time.Minute

const maxTransactSize = 4 << 20

func (s *Service) transactWriteItems(r *Request) ([]byte, error) {
	items := r.Input.Get("TransactItems")
	writes := make([]*write, len(items.List))
	size := 0
	for i := range items.List {
		n := &items.List[i]
		var verb string
		for _, v := range []string{"ConditionCheck", "Put", "Delete", "Update"} {
			if !n.Has(v) {
				continue
			}
			if verb != "" {
				return nil, wire.Validation("TransactItems can only contain one of Check, Put, Update or Delete")
			}
			verb = v
		}
		if verb == "" {
			return nil, invalidTransaction
		}
		w, err := parseWrite(verb, n.Get(verb))
		if err != nil {
			return nil, err
		}
		writes[i] = w
		size += w.item.Size() + w.key.Size()
	}
	if size > maxTransactSize {
		return nil, wire.Validation("Collection size of the transaction cannot exceed 4MB")
	}
	token := r.Input.Str("ClientRequestToken")
	var out []byte
	err := s.Store.Update(func(tx *bbolt.Tx) error {
		var costs capacities
		touched := collections{}
		replayed, err := s.replay(tx, token, items, &costs)
		if err != nil {
			return err
		}
		if !replayed {
			effects, err := s.decideAll(tx, writes)
			if err != nil {
				return err
			}
			var charged []charge
			for i, e := range effects {
				c := s.carryOut(tx, e)
				if !e.none {
					touched.add(e.table, writes[i].keyOf())
				}
				for name := range c.indexes {
					c.indexes[name] *= 2
				}
				total := costs.of(c.table)
				total.add(2*c.base, c.indexes)
				total.write += 2 * c.base
				for _, u := range c.indexes {
					total.write += u
				}
				charged = append(charged, charge{c.table.Name, max(e.old.weight(), e.item.Size())})
			}
			s.remember(tx, token, items, charged)
		}
		out = finish(touched.member(costs.member([]byte{'{'}, r.Input), r.Input))
		return nil
	})
	return out, err
}

var invalidTransaction = wire.Validation("Invalid Request: TransactWriteRequest should contain Delete or Put or Update request")

// decideAll works every part out, and says of each why it cannot be if one
// cannot.
func (s *Service) decideAll(tx *bbolt.Tx, writes []*write) ([]*effect, error) {
	effects := make([]*effect, len(writes))
	reasons := make([]error, len(writes))
	seen := map[string]bool{}
	failed := false
	for i, w := range writes {
		e, err := w.aim(s)
		if errors.Is(err, errNoTable) {
			return nil, err
		}
		if empty := emptyKey(err); empty != nil {
			return nil, empty
		}
		if err == nil {
			id := e.table.ID + string(e.place)
			if seen[id] {
				return nil, wire.Validation("Transaction request cannot include multiple operations on one item")
			}
			seen[id] = true
			effects[i] = e
		}
		reasons[i] = err
	}
	for i, w := range writes {
		if reasons[i] == nil {
			reasons[i] = w.decide(tx, effects[i])
		}
		failed = failed || reasons[i] != nil
	}
	if failed {
		return nil, cancelled(writes, reasons)
	}
	return effects, nil
}

// emptyKey is the answer to an empty key value, which does not wait to become
// the reason of a cancellation; nil if err is about something else.
func emptyKey(err error) error {
	var e *wire.Error
	if !errors.As(err, &e) || !strings.Contains(e.Message, "for a key attribute cannot contain an empty") || strings.Contains(e.Message, "IndexKey") {
		return nil
	}
	return wire.Validation("%s", strings.Replace(e.Message, "were invalid:", "are not valid.", 1))
}

// cancelled builds the answer that gives a reason for each part, in order.
func cancelled(writes []*write, reasons []error) *wire.Error {
	codes := make([]string, len(reasons))
	list := []byte(`"CancellationReasons":[`)
	for i, err := range reasons {
		if i > 0 {
			list = append(list, ',')
		}
		code, text, item := "None", "", []byte(nil)
		var failed *conditionFailed
		var e *wire.Error
		switch {
		case errors.As(err, &failed):
			code, text = "ConditionalCheckFailed", failed.Error()
			if writes[i].showOld && failed.old != nil {
				item = failed.old.json
			}
		case errors.As(err, &e):
			code, text = "ValidationError", e.Message
		}
		codes[i] = code
		list = append(list, `{"Code":`...)
		list = wire.AppendString(list, code)
		if text != "" {
			list = append(list, `,"Message":`...)
			list = wire.AppendString(list, text)
		}
		if item != nil {
			list = append(append(list, `,"Item":`...), item...)
		}
		list = append(list, '}')
	}
	answer := Cancelled(codes)
	answer.Fields = string(append(list, ']'))
	return answer
}

// Cancelled is the answer to a transaction that was given up for these reasons.
func Cancelled(codes []string) *wire.Error {
	answer := wire.DynamoDB("TransactionCanceledException", "Transaction cancelled, please refer cancellation reasons for specific reasons [%s]", strings.Join(codes, ", "))
	list := []byte(`"CancellationReasons":[`)
	for i, code := range codes {
		if i > 0 {
			list = append(list, ',')
		}
		list = append(wire.AppendString(append(list, `{"Code":`...), code), '}')
	}
	answer.Fields = string(append(list, ']'))
	return answer
}

// charge is what one part of a transaction wrote: a second call with its token
// is charged for reading it.
type charge struct {
	table string
	size  int
}

// requestHash is the same for all ways to write the same request: members may
// come in any order, absent or null.
func requestHash(n *wire.Node) [sha256.Size]byte { return sha256.Sum256(appendSorted(nil, n)) }

func appendSorted(dst []byte, n *wire.Node) []byte {
	switch n.Kind {
	case wire.Array:
		dst = append(dst, '[')
		for i := range n.List {
			dst = append(appendSorted(dst, &n.List[i]), ',')
		}
		return append(dst, ']')
	case wire.Object:
		fields := slices.Clone(n.Fields)
		slices.SortStableFunc(fields, func(a, b wire.Field) int { return strings.Compare(a.Name, b.Name) })
		dst = append(dst, '{')
		for i := range fields {
			if fields[i].Value.Kind == wire.Null {
				continue
			}
			dst = append(wire.AppendString(dst, fields[i].Name), ':')
			dst = append(appendSorted(dst, &fields[i].Value), ',')
		}
		return append(dst, '}')
	}
	return n.Append(dst)
}

// replay answers a token that was seen before: true if the same request is to
// be answered again, an error if it is another request.
func (s *Service) replay(tx *bbolt.Tx, token string, items *wire.Node, costs *capacities) (bool, error) {
	if token == "" {
		return false, nil
	}
	v := tx.Bucket(tokensBucket).Get([]byte(token))
	if v == nil || int64(binary.BigEndian.Uint64(v)) < s.Clock().UnixMilli() {
		return false, nil
	}
	hash := requestHash(items)
	if string(v[8:40]) != string(hash[:]) {
		return false, wire.DynamoDB("IdempotentParameterMismatchException", "")
	}
	for rest := v[40:]; len(rest) > 0; {
		size, n := binary.Uvarint(rest)
		length, m := binary.Uvarint(rest[n:])
		name := rest[n+m : n+m+int(length)]
		rest = rest[n+m+int(length):]
		t, err := s.table(string(name))
		if err != nil {
			return false, err // deleted meanwhile
		}
		u := 2 * readUnits(int(size), true)
		c := costs.of(t)
		c.add(u, nil)
		c.read += u
	}
	return true, nil
}

func (s *Service) remember(tx *bbolt.Tx, token string, items *wire.Node, charged []charge) {
	if token == "" {
		return
	}
	hash := requestHash(items)
	v := binary.BigEndian.AppendUint64(nil, uint64(s.Clock().Add(tokenLife).UnixMilli()))
	v = append(v, hash[:]...)
	for _, c := range charged {
		v = binary.AppendUvarint(v, uint64(c.size))
		v = binary.AppendUvarint(v, uint64(len(c.table)))
		v = append(v, c.table...)
	}
	store.Must(tx.Bucket(tokensBucket).Put([]byte(token), v))
}

// Forget drops tokens whose time is over.
func (s *Service) Forget() error {
	now := s.Clock().UnixMilli()
	var dead [][]byte
	err := s.Store.View(func(tx *bbolt.Tx) error {
		return tx.Bucket(tokensBucket).ForEach(func(k, v []byte) error {
			if int64(binary.BigEndian.Uint64(v)) < now {
				dead = append(dead, bytes.Clone(k))
			}
			return nil
		})
	})
	if err != nil || len(dead) == 0 {
		return err
	}
	return s.Store.Update(func(tx *bbolt.Tx) error {
		b := tx.Bucket(tokensBucket)
		for _, k := range dead {
			if v := b.Get(k); v == nil || int64(binary.BigEndian.Uint64(v)) >= now {
				continue
			}
			store.Must(b.Delete(k))
		}
		return nil
	})
}

func (s *Service) transactGetItems(r *Request) ([]byte, error) {
	items := r.Input.Get("TransactItems")
	reads := make([]*read, len(items.List))
	reasons := make([]error, len(items.List))
	seen := map[string]bool{}
	failed := false
	for i := range items.List {
		n := items.List[i].Get("Get")
		p, err := parseProjection(n)
		if err != nil {
			return nil, err
		}
		key, err := parseItem(n.Get("Key"))
		if err != nil {
			return nil, err
		}
		rd, err := s.aimRead(n.Str("TableName"), key, p)
		if errors.Is(err, errNoTable) {
			return nil, err
		}
		if empty := emptyKey(err); empty != nil {
			return nil, empty
		}
		if err != nil {
			reasons[i], failed = err, true
			continue
		}
		id := rd.table.ID + string(rd.place)
		if seen[id] {
			return nil, wire.Validation("Transaction request cannot include multiple operations on one item")
		}
		seen[id] = true
		reads[i] = rd
	}
	if failed {
		return nil, cancelled(nil, reasons)
	}
	var out []byte
	err := s.Store.View(func(tx *bbolt.Tx) error {
		var costs capacities
		list := []byte(`"Responses":[`)
		total := 0
		for i, rd := range reads {
			if i > 0 {
				list = append(list, ',')
			}
			item, found, size, err := rd.get(tx, nil)
			if err != nil {
				return err
			}
			if total += size; total > maxTransactSize {
				return wire.Validation("Collection size of the transaction cannot exceed 4MB")
			}
			list = append(list, '{')
			if found {
				list = append(append(list, `"Item":`...), item...)
			}
			list = append(list, '}')
			c := costs.of(rd.table)
			u := 2 * readUnits(size, true)
			c.add(u, nil)
			c.read += u
		}
		out = costs.member([]byte{'{'}, r.Input)
		out = append(append(out, list...), "]}"...)
		return nil
	})
	return out, err
}
