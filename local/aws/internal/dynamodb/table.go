package dynamodb

import (
	"encoding/json"
	"fmt"
	"hash/fnv"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"go.etcd.io/bbolt"

	"whatisup/local/aws/internal/attribute"
	"whatisup/local/aws/internal/store"
	"whatisup/local/aws/internal/wire"
)

// Buckets: definitions by table name; below dataBucket one bucket a table,
// named by the table's id, so that a table made anew under an old name never
// meets the old one's items.
var (
	tablesBucket = []byte("dynamodb/tables")
	dataBucket   = []byte("dynamodb/data")
	itemsBucket  = []byte("items")
	expiryBucket = []byte("expiry")
)

func indexBucket(name string) []byte { return []byte("index/" + name) }

// Table is a table's definition. It is not changed after it was made; a new
// one takes its place.
type Table struct {
	Name      string
	ID        string
	ARN       string
	Created   time.Time
	Types     map[string]attribute.Type
	Order     []string // of the attribute definitions
	Key       Key
	Indexes   []*Index
	TTL       string // the attribute; "" while off
	OnDemand  bool
	Read      int // provisioned units
	Write     int
	Protected bool
	Class     string          `json:",omitempty"`
	SSE       json.RawMessage `json:",omitempty"`
}

// Key is the names of a key's attributes; Sort may be "".
type Key struct{ Hash, Sort string }

// Names lists the attributes of the key.
func (k Key) Names() []string {
	if k.Sort == "" {
		return []string{k.Hash}
	}
	return []string{k.Hash, k.Sort}
}

func (k Key) has(name string) bool { return name == k.Hash || k.Sort != "" && name == k.Sort }

// Index is a secondary index. A local one has the table's partitions in another
// order: it can be read consistently, and gives on request what it does not
// hold.
type Index struct {
	Name       string
	Local      bool `json:",omitempty"`
	Key        Key
	Projection string
	Include    []string
	Read       int
	Write      int
}

func loadTable(b []byte) (*Table, error) {
	t := &Table{}
	if err := json.Unmarshal(b, t); err != nil {
		return nil, fmt.Errorf("a table's definition: %w", err)
	}
	return t, nil
}

func (t *Table) save(tx *bbolt.Tx) {
	b, err := json.Marshal(t)
	store.Must(err)
	store.Must(tx.Bucket(tablesBucket).Put([]byte(t.Name), b))
}

// bucket opens the table's data; nil if the table is gone.
func (t *Table) bucket(tx *bbolt.Tx) *bbolt.Bucket {
	return tx.Bucket(dataBucket).Bucket([]byte(t.ID))
}

func (t *Table) index(name string) *Index {
	for _, x := range t.Indexes {
		if x.Name == name {
			return x
		}
	}
	return nil
}

// place appends where an item is kept: a hash of the partition, which spreads
// a scan as DynamoDB's does, then the key in its own order. ok is false if
// the item lacks one of the key's attributes.
func (t *Table) place(dst []byte, k Key, item attribute.Item) (key []byte, ok bool) {
	h, ok := item[k.Hash]
	if !ok || h.Type != t.Types[k.Hash] {
		return dst, false
	}
	dst = appendPartition(dst, h)
	if k.Sort != "" {
		s, ok := item[k.Sort]
		if !ok || s.Type != t.Types[k.Sort] {
			return dst, false
		}
		dst = s.AppendKey(dst)
	}
	return dst, true
}

func appendPartition(dst []byte, hash attribute.Value) []byte {
	start := len(dst)
	dst = hash.AppendKey(append(dst, 0, 0, 0, 0))
	h := fnv.New32a()
	h.Write(dst[start+4:])
	copy(dst[start:], h.Sum(nil))
	return dst
}

// placeIn is where an index keeps its entry for an item: the index's key, then
// the item's own, since entries need not be unique.
func (t *Table) placeIn(x *Index, item attribute.Item, primary []byte) ([]byte, bool) {
	key, ok := t.place(nil, x.Key, item)
	if !ok {
		return nil, false
	}
	return append(key, primary...), true
}

// covers says whether the index holds the attribute.
func (x *Index) covers(t *Table, name string) bool {
	return x.Projection == "ALL" || x.Key.has(name) || t.Key.has(name) || slices.Contains(x.Include, name)
}

// project is the part of the item that the index holds.
func (x *Index) project(t *Table, item attribute.Item) attribute.Item {
	if x.Projection == "ALL" {
		return item
	}
	out := make(attribute.Item, 4)
	for name, v := range item {
		if x.covers(t, name) {
			out[name] = v
		}
	}
	return out
}

func (s *Service) createTable(r *Request) ([]byte, error) {
	t, err := s.newTable(r)
	if err != nil {
		return nil, err
	}
	err = s.Store.Update(func(tx *bbolt.Tx) error {
		if tx.Bucket(tablesBucket).Get([]byte(t.Name)) != nil {
			return wire.DynamoDB("ResourceInUseException", "Table already exists: %s", t.Name)
		}
		t.save(tx)
		b, err := tx.Bucket(dataBucket).CreateBucket([]byte(t.ID))
		store.Must(err)
		for _, name := range append(t.indexBuckets(), itemsBucket) {
			_, err = b.CreateBucket(name)
			store.Must(err)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	s.tables[t.Name] = t
	s.mu.Unlock()
	return json.Marshal(map[string]any{"TableDescription": t.describe("CREATING", 0, 0)})
}

func (t *Table) indexBuckets() [][]byte {
	var names [][]byte
	for _, x := range t.Indexes {
		names = append(names, indexBucket(x.Name))
	}
	return names
}

// newTable reads a definition and holds it to DynamoDB's rules.
func (s *Service) newTable(r *Request) (*Table, error) {
	in := r.Input
	t := &Table{
		Name:      in.Str("TableName"),
		ID:        uuid.NewString(),
		Created:   s.Clock(),
		Types:     map[string]attribute.Type{},
		OnDemand:  in.Str("BillingMode") == "PAY_PER_REQUEST",
		Protected: in.Bool("DeletionProtectionEnabled", false),
		Class:     in.Str("TableClass"),
	}
	t.ARN = "arn:aws:dynamodb:" + r.Region + ":" + account + ":table/" + t.Name
	units := in.Get("ProvisionedThroughput")
	switch {
	case t.OnDemand && units.Kind != wire.Null:
		return nil, invalid("Neither ReadCapacityUnits nor WriteCapacityUnits can be specified when BillingMode is PAY_PER_REQUEST")
	case !t.OnDemand && units.Kind == wire.Null:
		return nil, invalid("ReadCapacityUnits and WriteCapacityUnits must both be specified when BillingMode is PROVISIONED")
	}
	t.Read, t.Write = units.Int("ReadCapacityUnits", 0), units.Int("WriteCapacityUnits", 0)
	for _, what := range []string{"ReadCapacityUnits", "WriteCapacityUnits"} {
		if n := units.Int(what, 0); n > 1000000000000 {
			return nil, wire.Validation("Given value %d for %s is out of bounds", n, what)
		}
	}
	for i := range in.Get("AttributeDefinitions").List {
		d := &in.Get("AttributeDefinitions").List[i]
		name := d.Str("AttributeName")
		if _, again := t.Types[name]; again {
			return nil, invalid("Duplicate AttributeName in AttributeDefinitions: %s", name)
		}
		t.Types[name] = attribute.ParseType(d.Str("AttributeType"))
		t.Order = append(t.Order, name)
	}
	var err error
	schema := in.Get("KeySchema")
	if len(schema.List) > len(t.Order) {
		return nil, wire.Validation("Invalid KeySchema: Some index key attribute have no definition")
	}
	if t.Key, err = t.readKey(schema); err != nil {
		return nil, err
	}
	if !in.Has("GlobalSecondaryIndexes") && !in.Has("LocalSecondaryIndexes") && len(schema.List) != len(t.Order) {
		return nil, invalid("Number of attributes in KeySchema does not exactly match number of attributes defined in AttributeDefinitions")
	}
	if err := t.readIndexes(in); err != nil {
		return nil, err
	}
	if sse := in.Get("SSESpecification"); sse.Bool("Enabled", false) {
		arn := sse.Str("KMSMasterKeyId")
		if arn == "" {
			arn = "alias/aws/dynamodb"
		}
		if !strings.HasPrefix(arn, "arn:") {
			arn = "arn:aws:kms:" + r.Region + ":" + account + ":" + strings.TrimPrefix("key/"+arn, "key/alias/")
		}
		t.SSE, err = json.Marshal(map[string]string{"Status": "ENABLED", "SSEType": "KMS", "KMSMasterKeyArn": arn})
	}
	return t, err
}

// account is whose everything is here.
const account = "000000000000"

func invalid(format string, args ...any) *wire.Error {
	return wire.Validation("One or more parameter values were invalid: "+format, args...)
}

func (t *Table) readKey(schema *wire.Node) (Key, error) {
	var names []string
	for i := range schema.List {
		names = append(names, schema.List[i].Str("AttributeName"))
	}
	for _, n := range names {
		if _, ok := t.Types[n]; !ok {
			return Key{}, invalid("Some index key attributes are not defined in AttributeDefinitions. Keys: [%s], AttributeDefinitions: [%s]",
				strings.Join(names, ", "), strings.Join(t.Order, ", "))
		}
	}
	switch {
	case len(names) == 2 && names[0] == names[1]:
		return Key{}, wire.Validation("Both the Hash Key and the Range Key element in the KeySchema have the same name")
	case schema.List[0].Str("KeyType") != "HASH":
		return Key{}, wire.Validation("Invalid KeySchema: The first KeySchemaElement is not a HASH key type")
	case len(names) == 2 && schema.List[1].Str("KeyType") != "RANGE":
		return Key{}, wire.Validation("Invalid KeySchema: The second KeySchemaElement is not a RANGE key type")
	}
	k := Key{Hash: names[0]}
	if len(names) == 2 {
		k.Sort = names[1]
	}
	return k, nil
}

// readIndexes reads the definitions of both kinds of index, the local ones first.
func (t *Table) readIndexes(in *wire.Node) error {
	if err := t.readLocalIndexes(in.Get("LocalSecondaryIndexes")); err != nil {
		return err
	}
	if err := t.readGlobalIndexes(in.Get("GlobalSecondaryIndexes")); err != nil {
		return err
	}
	if t.Indexes == nil {
		return nil
	}

	included := 0
	for _, x := range t.Indexes {
		included += len(x.Include)
	}
	if included > 100 {
		return invalid("Number of NonKeyAttributes exceeds the per-table limit of 100")
	}
	used := t.keysUsed()
	for _, name := range t.Order {
		if !slices.Contains(used, name) {
			return invalid("Some AttributeDefinitions are not used. AttributeDefinitions: [%s], keys used: [%s]", strings.Join(t.Order, ", "), strings.Join(used, ", "))
		}
	}
	return nil
}

func (t *Table) readLocalIndexes(list *wire.Node) error {
	switch {
	case list.Kind == wire.Null:
		return nil
	case len(list.List) == 0:
		return invalid("List of LocalSecondaryIndexes is empty")
	case t.Key.Sort == "":
		return invalid("Table KeySchema does not have a range key, which is required when specifying a LocalSecondaryIndex")
	}
	for i := range list.List {
		n := &list.List[i]
		k, err := t.readKey(n.Get("KeySchema"))
		if err != nil {
			return err
		}
		switch {
		case k.Sort == "":
			return invalid("Index KeySchema does not have a range key for index: %s", n.Str("IndexName"))
		case k.Hash != t.Key.Hash:
			return invalid("Index KeySchema does not have the same leading hash key as table KeySchema for index: %s. index hash key: %s, table hash key: %s",
				n.Str("IndexName"), k.Hash, t.Key.Hash)
		}
		if err := t.addIndex(&Index{Local: true, Key: k}, n); err != nil {
			return err
		}
	}
	if len(t.Indexes) > 5 {
		return invalid("Number of LocalSecondaryIndexes exceeds per-table limit of 5")
	}
	return nil
}

func (t *Table) readGlobalIndexes(list *wire.Node) error {
	if list.Kind == wire.Null {
		return nil
	}
	if len(list.List) == 0 {
		return invalid("List of GlobalSecondaryIndexes is empty")
	}
	for i := range list.List {
		n := &list.List[i]
		k, err := t.readKey(n.Get("KeySchema"))
		if err != nil {
			return err
		}
		units := n.Get("ProvisionedThroughput")
		x := &Index{Key: k, Read: units.Int("ReadCapacityUnits", 0), Write: units.Int("WriteCapacityUnits", 0)}
		if err := t.addIndex(x, n); err != nil {
			return err
		}
	}
	if len(list.List) > 20 {
		return invalid("GlobalSecondaryIndex count exceeds the per-table limit of 20")
	}
	return nil
}

// addIndex reads what both kinds of index have, and adds the index.
func (t *Table) addIndex(x *Index, n *wire.Node) error {
	p, units := n.Get("Projection"), n.Get("ProvisionedThroughput")
	x.Name, x.Projection = n.Str("IndexName"), p.Str("ProjectionType")
	for j := range p.Get("NonKeyAttributes").List {
		x.Include = append(x.Include, p.Get("NonKeyAttributes").List[j].Text)
	}
	switch {
	case x.Projection == "":
		return invalid("Unknown ProjectionType: null")
	case x.Include != nil && x.Projection != "INCLUDE":
		return invalid("ProjectionType is %s, but NonKeyAttributes is specified", x.Projection)
	case x.Include == nil && x.Projection == "INCLUDE":
		return invalid("ProjectionType is INCLUDE, but NonKeyAttributes is not specified")
	case !x.Local && t.OnDemand && units.Kind != wire.Null:
		return invalid("ProvisionedThroughput should not be specified for index: %s when BillingMode is PAY_PER_REQUEST", x.Name)
	case !x.Local && !t.OnDemand && units.Kind == wire.Null:
		return invalid("ProvisionedThroughput must be specified for index: %s", x.Name)
	case t.index(x.Name) != nil:
		return invalid("Duplicate index name: %s", x.Name)
	}
	t.Indexes = append(t.Indexes, x)
	return nil
}

func (t *Table) keysUsed() []string {
	names := t.Key.Names()
	for _, x := range t.Indexes {
		for _, n := range x.Key.Names() {
			if !slices.Contains(names, n) {
				names = append(names, n)
			}
		}
	}
	return names
}

type description map[string]any

func (k Key) describe() []description {
	d := []description{{"AttributeName": k.Hash, "KeyType": "HASH"}}
	if k.Sort != "" {
		d = append(d, description{"AttributeName": k.Sort, "KeyType": "RANGE"})
	}
	return d
}

func units(read, write int) description {
	return description{"ReadCapacityUnits": read, "WriteCapacityUnits": write, "NumberOfDecreasesToday": 0}
}

func seconds(t time.Time) float64 { return float64(t.UnixMilli()) / 1000 }

func (t *Table) describe(status string, count, size int) description {
	d := description{
		"TableName": t.Name, "TableId": t.ID, "TableArn": t.ARN, "TableStatus": status,
		"CreationDateTime": seconds(t.Created), "ItemCount": count, "TableSizeBytes": size,
		"KeySchema": t.Key.describe(), "ProvisionedThroughput": units(t.Read, t.Write),
		"DeletionProtectionEnabled": t.Protected,
	}
	var definitions []description
	for _, name := range t.Order {
		definitions = append(definitions, description{"AttributeName": name, "AttributeType": t.Types[name].String()})
	}
	d["AttributeDefinitions"] = definitions
	if t.OnDemand {
		mode := description{"BillingMode": "PAY_PER_REQUEST"}
		if status == "ACTIVE" {
			mode["LastUpdateToPayPerRequestDateTime"] = seconds(t.Created)
		}
		d["BillingModeSummary"] = mode
		d["TableThroughputModeSummary"] = description{"TableThroughputMode": "PAY_PER_REQUEST"}
	}
	if t.SSE != nil {
		d["SSEDescription"] = t.SSE
	}
	if t.Class != "" {
		d["TableClassSummary"] = description{"TableClass": t.Class}
	}
	for _, x := range t.Indexes {
		p := description{"ProjectionType": x.Projection}
		if x.Include != nil {
			p["NonKeyAttributes"] = x.Include
		}
		index := description{
			"IndexName": x.Name, "IndexArn": t.ARN + "/index/" + x.Name, "ItemCount": count,
			"IndexSizeBytes": size, "KeySchema": x.Key.describe(), "Projection": p,
		}
		kind := "LocalSecondaryIndexes"
		if !x.Local {
			kind = "GlobalSecondaryIndexes"
			index["IndexStatus"], index["ProvisionedThroughput"] = status, units(x.Read, x.Write)
		}
		list, _ := d[kind].([]description)
		d[kind] = append(list, index)
	}
	return d
}

// missing is the answer of the operations on tables, which name the table.
func missing(name string) error {
	return wire.DynamoDB("ResourceNotFoundException", "Requested resource not found: Table: %s not found", shortName(name))
}

func (s *Service) describeTable(r *Request) ([]byte, error) {
	t, err := s.table(r.Input.Str("TableName"))
	if err != nil {
		return nil, missing(r.Input.Str("TableName"))
	}
	var count, size int
	err = s.Store.View(func(tx *bbolt.Tx) error {
		if b := t.bucket(tx); b != nil {
			stats := b.Bucket(itemsBucket).Stats()
			count, size = stats.KeyN, stats.LeafInuse
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return json.Marshal(map[string]any{"Table": t.describe("ACTIVE", count, size)})
}

func (s *Service) deleteTable(r *Request) ([]byte, error) {
	name := shortName(r.Input.Str("TableName"))
	var t *Table
	err := s.Store.Update(func(tx *bbolt.Tx) error {
		b := tx.Bucket(tablesBucket).Get([]byte(name))
		if b == nil {
			return missing(name)
		}
		var err error
		t, err = loadTable(b)
		store.Must(err)
		if t.Protected {
			return wire.Validation("Resource cannot be deleted as it is currently protected against deletion. Disable deletion protection first.")
		}
		store.Must(tx.Bucket(tablesBucket).Delete([]byte(name)))
		store.Must(tx.Bucket(dataBucket).DeleteBucket([]byte(t.ID)))
		return nil
	})
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	if now := s.tables[name]; now != nil && now.ID == t.ID {
		delete(s.tables, name)
	}
	s.mu.Unlock()
	d := t.describe("DELETING", 0, 0)
	delete(d, "AttributeDefinitions")
	delete(d, "KeySchema")
	delete(d, "CreationDateTime")
	delete(d, "GlobalSecondaryIndexes")
	delete(d, "LocalSecondaryIndexes")
	return json.Marshal(map[string]any{"TableDescription": d})
}

func (s *Service) listTables(r *Request) ([]byte, error) {
	s.mu.RLock()
	names := make([]string, 0, len(s.tables))
	for name := range s.tables {
		if name > r.Input.Str("ExclusiveStartTableName") {
			names = append(names, name)
		}
	}
	s.mu.RUnlock()
	slices.Sort(names)
	out := map[string]any{"TableNames": names}
	if limit := r.Input.Int("Limit", 100); len(names) > limit {
		out["TableNames"] = names[:limit]
		out["LastEvaluatedTableName"] = names[limit-1]
	}
	return json.Marshal(out)
}
