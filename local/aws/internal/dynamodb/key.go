package dynamodb

import (
	"whatisup/local/aws/internal/attribute"
	"whatisup/local/aws/internal/wire"
)

// maxItem is the largest item, maxHash and maxSort the longest key values.
const (
	maxItem = 400 << 10
	maxHash = 2048
	maxSort = 1024
)

var errKeySchema = wire.Validation("The provided key element does not match the schema")

// parseItem reads an item or a key of a request.
func parseItem(n *wire.Node) (attribute.Item, error) {
	item, err := attribute.ParseItem(n)
	if err != nil {
		return nil, wire.Validation("%s", err)
	}
	return item, nil
}

// checkKey holds the Key of a request to the table's key.
func (t *Table) checkKey(key attribute.Item) error {
	if len(key) != len(t.Key.Names()) {
		return errKeySchema
	}
	return t.checkKeyValues(t.Key, key)
}

func (t *Table) checkKeyValues(k Key, key attribute.Item) error {
	for i, name := range k.Names() {
		v, ok := key[name]
		if !ok || v.Type != t.Types[name] {
			return errKeySchema
		}
		if err := checkKeyValue(name, v, i == 0, "were invalid:"); err != nil {
			return err
		}
	}
	return nil
}

func checkKeyValue(name string, v attribute.Value, hash bool, words string) error {
	if v.Type == attribute.N {
		return nil
	}
	switch {
	case v.Str == "":
		kind := "string"
		if v.Type == attribute.B {
			kind = "binary"
		}
		return wire.Validation("One or more parameter values %s The AttributeValue for a key attribute cannot contain an empty %s value. Key: %s", words, kind, name)
	case hash && len(v.Str) > maxHash:
		return invalid("Size of hashkey has exceeded the maximum size limit of2048 bytes")
	case !hash && len(v.Str) > maxSort:
		return invalid("Aggregated size of all range keys has exceeded the size limit of 1024 bytes")
	}
	return nil
}

// checkItem holds a whole item to the table's key and to its indexes' keys.
func (t *Table) checkItem(item attribute.Item) error {
	for i, name := range t.Key.Names() {
		v, ok := item[name]
		if !ok {
			return invalid("Missing the key %s in the item", name)
		}
		if v.Type != t.Types[name] {
			return invalid("Type mismatch for key %s expected: %s actual: %s", name, t.Types[name], v.Type)
		}
		if err := checkKeyValue(name, v, i == 0, "are not valid."); err != nil {
			return err
		}
	}
	for _, x := range t.Indexes {
		for i, name := range x.Key.Names() {
			v, ok := item[name]
			if !ok {
				continue
			}
			if v.Type != t.Types[name] {
				return invalid("Type mismatch for Index Key %s Expected: %s Actual: %s IndexName: %s", name, t.Types[name], v.Type, x.Name)
			}
			if err := checkIndexValue(x, name, v, i == 0); err != nil {
				return err
			}
		}
	}
	return nil
}

// checkIndexValue refuses values that an index's key cannot hold.
func checkIndexValue(x *Index, name string, v attribute.Value, hash bool) error {
	switch {
	case v.Type == attribute.N:
		return nil
	case v.Str == "":
		kind := "string"
		if v.Type == attribute.B {
			kind = "binary"
		}
		return wire.Validation("One or more parameter values are not valid. A value specified for a secondary index key is not supported. The AttributeValue for a key attribute cannot contain an empty %s value. IndexName: %s, IndexKey: %s", kind, x.Name, name)
	case hash && len(v.Str) > maxHash:
		return invalid("Size of hashkey has exceeded the maximum size limit of2048 bytes")
	case !hash && len(v.Str) > maxSort:
		return invalid("Aggregated size of all range keys has exceeded the size limit of 1024 bytes")
	}
	return nil
}

// checkNested refuses paths into key attributes, which are scalars.
func (t *Table) checkNested(nested map[string]bool) error {
	if len(nested) == 0 {
		return nil
	}
	for _, name := range t.Key.Names() {
		if nested[name] {
			return wire.Validation("Key attributes must be scalars; list random access '[]' and map lookup '.' are not allowed: Key: %s", name)
		}
	}
	for _, x := range t.Indexes {
		for _, name := range x.Key.Names() {
			if nested[name] {
				return wire.Validation("Key attributes must be scalars; list random access '[]' and map lookup '.' are not allowed: IndexKey: %s", name)
			}
		}
	}
	return nil
}
