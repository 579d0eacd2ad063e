package dynamodb

import (
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"go.etcd.io/bbolt"

	"whatisup/local/aws/internal/store"
	"whatisup/local/aws/internal/wire"
)

// Config is what the service is built on.
type Config struct {
	Store *store.Store
	Clock func() time.Time
	Log   *slog.Logger
	// Written hears of each item that was put or changed, by its table and its
	// partition, once it can be read; nil: nobody does. It must not wait.
	Written func(table, partition string)
	// Unprocessed is asked for each item of a batch whether the service
	// should pretend to be too busy for it.
	Unprocessed func(operation, table string) bool
}

// Service is DynamoDB.
type Service struct {
	Config
	mu     sync.RWMutex
	tables map[string]*Table
}

// Open reads the tables' definitions.
func Open(c Config) (*Service, error) {
	s := &Service{Config: c, tables: map[string]*Table{}}
	if s.Unprocessed == nil {
		s.Unprocessed = func(string, string) bool { return false }
	}
	err := c.Store.Update(func(tx *bbolt.Tx) error {
		for _, b := range [][]byte{tablesBucket, dataBucket, tokensBucket} {
			if _, err := tx.CreateBucketIfNotExists(b); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return s, c.Store.View(func(tx *bbolt.Tx) error {
		return tx.Bucket(tablesBucket).ForEach(func(_, v []byte) error {
			t, err := loadTable(v)
			if err == nil {
				s.tables[t.Name] = t
			}
			return err
		})
	})
}

// Request is one call.
type Request struct {
	Operation string
	Region    string
	Input     *wire.Node
}

type operation struct {
	shape *wire.Shape
	run   func(*Service, *Request) ([]byte, error)
}

var operations = map[string]operation{
	"CreateTable":        {createTableShape, (*Service).createTable},
	"DescribeTable":      {describeTableShape, (*Service).describeTable},
	"DeleteTable":        {describeTableShape, (*Service).deleteTable},
	"ListTables":         {listTablesShape, (*Service).listTables},
	"UpdateTimeToLive":   {updateTimeToLiveShape, (*Service).updateTimeToLive},
	"DescribeTimeToLive": {describeTableShape, (*Service).describeTimeToLive},
	"GetItem":            {getItemShape, (*Service).getItem},
	"PutItem":            {putItemShape, (*Service).putItem},
	"UpdateItem":         {updateItemShape, (*Service).updateItem},
	"DeleteItem":         {deleteItemShape, (*Service).deleteItem},
	"Query":              {queryShape, (*Service).query},
	"Scan":               {scanShape, (*Service).scan},
	"BatchGetItem":       {batchGetItemShape, (*Service).batchGetItem},
	"BatchWriteItem":     {batchWriteItemShape, (*Service).batchWriteItem},
	"TransactWriteItems": {transactWriteItemsShape, (*Service).transactWriteItems},
	"TransactGetItems":   {transactGetItemsShape, (*Service).transactGetItems},

	"BatchExecuteStatement": {batchExecuteStatementShape, (*Service).batchExecuteStatement},
}

// Serves says whether the operation is one of the closed list.
func Serves(op string) bool { _, ok := operations[op]; return ok }

// Do serves one request; the answer is a JSON text.
func (s *Service) Do(r *Request) ([]byte, error) {
	op := operations[r.Operation]
	if err := op.shape.Check(r.Operation, r.Input); err != nil {
		return nil, err
	}
	return op.run(s, r)
}

// TablesOf names the tables that a request is about.
func TablesOf(input *wire.Node) []string {
	var names []string
	add := func(name string) {
		if name = shortName(name); name != "" && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	add(input.Str("TableName"))
	for _, f := range input.Get("RequestItems").Fields {
		add(f.Name)
	}
	for i := range input.Get("Statements").List {
		in, _ := parseInsertion(input.Get("Statements").List[i].Str("Statement"))
		add(in.table)
	}
	for i := range input.Get("TransactItems").List {
		for j := range input.Get("TransactItems").List[i].Fields {
			add(input.Get("TransactItems").List[i].Fields[j].Value.Str("TableName"))
		}
	}
	return names
}

// shortName takes the name out of an ARN.
func shortName(s string) string { return s[strings.LastIndexByte(s, '/')+1:] }

// table finds a table's definition.
func (s *Service) table(name string) (*Table, error) {
	s.mu.RLock()
	t := s.tables[shortName(name)]
	s.mu.RUnlock()
	if t == nil {
		return nil, errNoTable
	}
	return t, nil
}

var errNoTable = wire.DynamoDB("ResourceNotFoundException", "Requested resource not found")

// carryOut does a write's effect, which is heard of once it is committed.
func (s *Service) carryOut(tx *bbolt.Tx, e *effect) capacity {
	c := e.do(tx)
	if s.Written != nil && e.item != nil {
		table, partition := e.table.Name, e.item[e.table.Key.Names()[0]].Str
		tx.OnCommit(func() { s.Written(table, partition) })
	}
	return c
}

// shuffle puts the answers of a batch into the order they come in from AWS: none.
func shuffle(n int, swap func(i, j int)) { rand.Shuffle(n, swap) }
