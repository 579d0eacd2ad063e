package kms

import (
	"errors"
	"fmt"
	"time"

	"go.etcd.io/bbolt"

	"whatisup/local/aws/internal/store"
	"whatisup/local/aws/internal/wire"
)

// Buckets: keys by id, and key ids by alias.
var (
	keysBucket    = []byte("kms/keys")
	aliasesBucket = []byte("kms/aliases")
)

const account = "000000000000"

// Config is what the service is built on.
type Config struct {
	Store *store.Store
	Clock func() time.Time
	// Roots seal the keys in the file, the first one new ones; none: they stand in
	// it as they are.
	Roots []Root
}

// Service is KMS.
type Service struct{ Config }

// Open makes the file ready, and seals anew what is not under the first root key.
// bare says that key material stood in the file as it is: it is then still in
// pages that are free, until the file is compacted.
func Open(c Config) (s *Service, bare bool, err error) {
	s = &Service{c}
	err = c.Store.Update(func(tx *bbolt.Tx) error {
		for _, b := range [][]byte{keysBucket, aliasesBucket} {
			if _, err := tx.CreateBucketIfNotExists(b); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, false, err
	}
	_, bare, err = s.rotate()
	return s, bare, err
}

// Request is one call.
type Request struct {
	Operation string
	Region    string
	Input     *wire.Node
}

type operation struct {
	shape *wire.Shape
	run   func(*Service, *Request) (any, error)
}

var operations = map[string]operation{
	"CreateKey":                       {createKeyShape, (*Service).createKey},
	"CreateAlias":                     {createAliasShape, (*Service).createAlias},
	"DescribeKey":                     {keyShape, (*Service).describeKey},
	"EnableKey":                       {keyShape, (*Service).enableKey},
	"DisableKey":                      {keyShape, (*Service).disableKey},
	"GenerateDataKey":                 {dataKey, (*Service).generateDataKey},
	"GenerateDataKeyWithoutPlaintext": {dataKey, (*Service).generateDataKeyWithoutPlaintext},
	"Encrypt":                         {encryptShape, (*Service).encrypt},
	"Decrypt":                         {decryptShape, (*Service).decrypt},
	"ReEncrypt":                       {reEncrypt, (*Service).reEncrypt},
}

// Serves says whether the operation is one of the closed list.
func Serves(op string) bool { _, ok := operations[op]; return ok }

// Do serves one request; the answer is to be marshalled, nil for none.
func (s *Service) Do(r *Request) (any, error) {
	op := operations[r.Operation]
	if err := op.shape.Check(r.Operation, r.Input); err != nil {
		var e *wire.Error
		if errors.As(err, &e) && !e.Unknown {
			e.Type = bare(e.Type)
		}
		return nil, err
	}
	return op.run(s, r)
}

// bare is an error's type without its namespace: KMS sends none.
func bare(t string) string {
	for i := len(t) - 1; i >= 0; i-- {
		if t[i] == '#' {
			return t[i+1:]
		}
	}
	return t
}

func failure(name, format string, args ...any) *wire.Error {
	return &wire.Error{Status: 400, Type: name, Message: fmt.Sprintf(format, args...)}
}
