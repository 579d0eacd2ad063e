package dynamodb

import (
	"strings"

	"go.etcd.io/bbolt"

	"whatisup/local/aws/internal/attribute"
	"whatisup/local/aws/internal/expression"
	"whatisup/local/aws/internal/wire"
)

// write is one write as a request asks for it: of its own or as a part of a
// transaction.
type write struct {
	verb      string // Put, Update, Delete or ConditionCheck
	tableName string
	item      attribute.Item // of a Put
	key       attribute.Item // of all others
	condition *expression.Condition
	update    *expression.Update
	showOld   bool // ReturnValuesOnConditionCheckFailure: ALL_OLD
}

// effect is what a write comes to, before it is done.
type effect struct {
	table *Table
	place []byte
	old   *stored
	item  attribute.Item // nil after a delete
	none  bool           // a condition check changes nothing
}

// parseWrite reads a write and does all the checks that need no table.
func parseWrite(verb string, in *wire.Node) (*write, error) {
	w := &write{verb: verb, tableName: in.Str("TableName"), showOld: in.Str("ReturnValuesOnConditionCheckFailure") == "ALL_OLD"}
	expressions := []string{"ConditionExpression"}
	if verb == "Update" {
		expressions = []string{"UpdateExpression", "ConditionExpression"}
	}
	if err := checkParams(in, expressions); err != nil {
		return nil, err
	}
	var err error
	if verb == "Put" {
		if w.item, err = parseItem(in.Get("Item")); err != nil {
			return nil, err
		}
	} else if w.key, err = parseItem(in.Get("Key")); err != nil {
		return nil, err
	}
	switch rv := in.Str("ReturnValues"); {
	case verb != "Update" && rv != "" && rv != "ALL_OLD" && rv != "NONE":
		return nil, wire.Validation("ReturnValues can only be ALL_OLD or NONE")
	}
	if verb == "Put" && w.item.Size() > maxItem {
		return nil, wire.Validation("Item size has exceeded the maximum allowed size")
	}
	scope, err := expression.NewScope(in.Get("ExpressionAttributeNames"), in.Get("ExpressionAttributeValues"))
	if err != nil {
		return nil, wire.Validation("%s", err)
	}
	if verb == "Update" && in.Has("UpdateExpression") {
		if w.update, err = expression.ParseUpdate(in.Str("UpdateExpression"), scope); err != nil {
			return nil, wire.Validation("Invalid UpdateExpression: %s", err)
		}
	}
	if in.Has("ConditionExpression") {
		if w.condition, err = expression.ParseCondition(in.Str("ConditionExpression"), scope); err != nil {
			return nil, wire.Validation("Invalid ConditionExpression: %s", err)
		}
	}
	if err := scope.Unused(); err != nil {
		return nil, wire.Validation("%s", err)
	}
	return w, nil
}

// checkParams refuses names and values without an expression to use them.
func checkParams(in *wire.Node, expressions []string) error {
	used, valued := false, ""
	takes := false
	for _, e := range expressions {
		used = used || in.Has(e)
		if e != "ProjectionExpression" {
			takes = takes || in.Has(e)
			if valued != "" {
				valued += " and "
			}
			valued += e
		}
	}
	if in.Has("ExpressionAttributeNames") && !used {
		return wire.Validation("ExpressionAttributeNames can only be specified when using expressions")
	}
	if in.Has("ExpressionAttributeValues") && !takes {
		verb := "is"
		if strings.Contains(valued, " and ") {
			verb = "are"
		}
		return wire.Validation("ExpressionAttributeValues can only be specified when using expressions: %s %s null", valued, verb)
	}
	return nil
}

// keyOf is what the item's key is read from.
func (w *write) keyOf() attribute.Item {
	if w.verb == "Put" {
		return w.item
	}
	return w.key
}

// aim finds the table and the place that the write is for, and does the checks
// that need the table alone.
func (w *write) aim(s *Service) (*effect, error) {
	t, err := s.table(w.tableName)
	if err != nil {
		return nil, err
	}
	e := &effect{table: t}
	if w.verb == "Put" {
		err = t.checkItem(w.item)
	} else {
		err = t.checkKey(w.key)
	}
	if err != nil {
		return nil, err
	}
	if w.update != nil {
		if err := t.checkUpdate(w.update); err != nil {
			return nil, err
		}
	}
	if err := t.checkNested(w.condition.NestedTops()); err != nil {
		return nil, err
	}
	e.place, _ = t.place(make([]byte, 0, 64), t.Key, w.keyOf())
	return e, nil
}

// checkUpdate refuses updates that name key attributes or would put the wrong
// type into an index's key.
func (t *Table) checkUpdate(u *expression.Update) error {
	err := u.Tops(func(name string, _ bool, _ attribute.Type) error {
		if t.Key.has(name) {
			return invalid("Cannot update attribute %s. This attribute is part of the key", name)
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, x := range t.Indexes {
		err := u.Tops(func(name string, whole bool, typ attribute.Type) error {
			if whole && x.Key.has(name) && typ != attribute.None && typ != t.Types[name] {
				return invalid("Type mismatch for Index Key %s Expected: %s Actual: %s IndexName: %s", name, t.Types[name], typ, x.Name)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return t.checkNested(u.Nested)
}

// conditionFailed is the outcome of a write whose condition did not hold.
type conditionFailed struct{ old *stored }

func (*conditionFailed) Error() string { return "The conditional request failed" }

// decide reads what is there, checks the condition and works out the result.
// It writes nothing.
func (w *write) decide(tx *bbolt.Tx, e *effect) error {
	data := e.table.bucket(tx)
	if data == nil {
		return errNoTable
	}
	e.old = load(data, e.place)
	if w.condition != nil && !w.condition.Holds(e.old.attributes()) {
		return &conditionFailed{e.old}
	}
	switch w.verb {
	case "ConditionCheck":
		e.none = true
	case "Put":
		e.item = w.item
	case "Update":
		return w.decideUpdate(e)
	}
	return nil
}

func (w *write) decideUpdate(e *effect) error {
	item := e.old.attributes()
	if item == nil {
		item = w.key
		e.none = w.update != nil && !w.update.Creates()
	}
	if w.update != nil {
		var err error
		if item, err = w.update.Apply(item); err != nil {
			return wire.Validation("%s", err)
		}
	}
	t := e.table
	for _, x := range t.Indexes {
		for i, name := range x.Key.Names() {
			v, ok := item[name]
			if !ok {
				continue
			}
			if v.Type != t.Types[name] {
				return wire.Validation("The update expression attempted to update the secondary index key to unsupported type")
			}
			if err := checkIndexValue(x, name, v, i == 0); err != nil {
				return err
			}
		}
	}
	if item.Size() > maxItem {
		return wire.Validation("Item size to update has exceeded the maximum allowed size")
	}
	e.item = item
	return nil
}

// do carries the effect out and returns what it cost.
func (e *effect) do(tx *bbolt.Tx) capacity {
	c := capacity{table: e.table}
	size := e.old.weight()
	if e.item != nil {
		size = max(size, e.item.Size())
	}
	var indexes map[string]float64
	if !e.none {
		indexes = e.table.write(tx, e.place, e.old, e.item)
	}
	c.add(writeUnits(size), indexes)
	return c
}

// single is PutItem, UpdateItem or DeleteItem.
func (s *Service) single(verb string, r *Request) ([]byte, error) {
	w, err := parseWrite(verb, r.Input)
	if err != nil {
		return nil, err
	}
	var out []byte
	err = s.Store.Update(func(tx *bbolt.Tx) error {
		e, err := w.aim(s)
		if err != nil {
			return err
		}
		if err := w.decide(tx, e); err != nil {
			return w.failure(err)
		}
		cost := s.carryOut(tx, e)
		touched := collections{}
		touched.add(e.table, w.keyOf())
		out = touched.one(cost.member([]byte{'{'}, r.Input), r.Input)
		if attributes := w.attributes(r.Input.Str("ReturnValues"), e); attributes != nil {
			out = append(out, `"Attributes":`...)
			out = append(out, attributes...)
		}
		out = finish(out)
		return nil
	})
	return out, err
}

// failure turns a failed condition into its answer.
func (w *write) failure(err error) error {
	failed, ok := err.(*conditionFailed)
	if !ok {
		return err
	}
	answer := wire.DynamoDB("ConditionalCheckFailedException", "The conditional request failed")
	if w.showOld && failed.old != nil {
		answer.Fields = `"Item":` + string(failed.old.json)
	}
	return answer
}

// attributes is what ReturnValues asks for, or nil.
func (w *write) attributes(mode string, e *effect) []byte {
	switch mode {
	case "ALL_OLD":
		if e.old != nil {
			return append([]byte(nil), e.old.json...)
		}
	case "ALL_NEW":
		if !e.none {
			return e.item.Append(nil)
		}
	case "UPDATED_OLD", "UPDATED_NEW":
		item := e.item
		if mode == "UPDATED_OLD" {
			item = e.old.attributes()
		}
		if w.update == nil || item == nil {
			return nil
		}
		if part := w.update.Written().Apply(item); len(part) > 0 {
			return part.Append(nil)
		}
	}
	return nil
}

func (s *Service) putItem(r *Request) ([]byte, error)    { return s.single("Put", r) }
func (s *Service) updateItem(r *Request) ([]byte, error) { return s.single("Update", r) }
func (s *Service) deleteItem(r *Request) ([]byte, error) { return s.single("Delete", r) }
