package kms

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"regexp"
	"strings"

	"github.com/google/uuid"
	"go.etcd.io/bbolt"

	"whatisup/local/aws/internal/store"
)

// key is one KMS key.
type key struct {
	ID          string
	ARN         string
	Description string
	Created     int64 // unix milliseconds
	Disabled    bool
	MultiRegion bool
	Material    []byte // in the file only where there is no root key
	Sealed      []byte `json:",omitempty"` // the material under a root key
	Root        int    `json:",omitempty"` // the version of that root key; 0: none
}

func (s *Service) save(tx *bbolt.Tx, k *key) {
	stored := *k
	s.hide(&stored)
	b, err := json.Marshal(stored)
	store.Must(err)
	store.Must(tx.Bucket(keysBucket).Put([]byte(k.ID), b))
}

func (s *Service) loadKey(tx *bbolt.Tx, id string) *key {
	b := tx.Bucket(keysBucket).Get([]byte(id))
	if b == nil {
		return nil
	}
	k := &key{}
	store.Must(json.Unmarshal(b, k))
	store.Must(s.show(k)) // Open has seen that it opens
	return k
}

// find takes an id, an alias or the ARN of either.
func (s *Service) find(tx *bbolt.Tx, name, region string) (*key, error) {
	id := name
	if strings.HasPrefix(name, "arn:") {
		parts := strings.SplitN(name, ":", 6)
		if len(parts) < 6 {
			return nil, failure("NotFoundException", "Invalid arn %s", name)
		}
		id = strings.TrimPrefix(parts[5], "key/")
	}
	if strings.HasPrefix(id, "alias/") {
		target := tx.Bucket(aliasesBucket).Get([]byte(id))
		if target == nil {
			return nil, failure("NotFoundException", "Alias arn:aws:kms:%s:%s:%s is not found.", region, account, id)
		}
		id = string(target)
	}
	k := s.loadKey(tx, id)
	if k == nil {
		return nil, failure("NotFoundException", "Key 'arn:aws:kms:%s:%s:key/%s' does not exist", region, account, id)
	}
	return k, nil
}

// usable finds a key that is enabled.
func (s *Service) usable(name, region string) (k *key, err error) {
	err = s.Store.View(func(tx *bbolt.Tx) error {
		if k, err = s.find(tx, name, region); err == nil && k.Disabled {
			err = failure("DisabledException", "%s is disabled.", k.ARN)
		}
		return err
	})
	return k, err
}

func (k *key) describe() map[string]any {
	state := "Enabled"
	if k.Disabled {
		state = "Disabled"
	}
	return map[string]any{
		"AWSAccountId": account, "KeyId": k.ID, "Arn": k.ARN, "CreationDate": float64(k.Created) / 1000, "Enabled": !k.Disabled,
		"Description": k.Description, "KeyUsage": "ENCRYPT_DECRYPT", "KeyState": state, "Origin": "AWS_KMS", "KeyManager": "CUSTOMER",
		"CustomerMasterKeySpec": "SYMMETRIC_DEFAULT", "KeySpec": "SYMMETRIC_DEFAULT", "EncryptionAlgorithms": []string{"SYMMETRIC_DEFAULT"},
		"MultiRegion": k.MultiRegion,
	}
}

func (s *Service) createKey(r *Request) (any, error) {
	k := &key{ID: uuid.NewString(), Description: r.Input.Str("Description"), Created: s.Clock().UnixMilli(), Material: make([]byte, 32)}
	if r.Input.Bool("MultiRegion", false) {
		k.MultiRegion = true
		k.ID = "mrk-" + strings.ReplaceAll(k.ID, "-", "")
	}
	k.ARN = fmt.Sprintf("arn:aws:kms:%s:%s:key/%s", r.Region, account, k.ID)
	rand.Read(k.Material)
	err := s.Store.Update(func(tx *bbolt.Tx) error { s.save(tx, k); return nil })
	return map[string]any{"KeyMetadata": k.describe()}, err
}

func (s *Service) describeKey(r *Request) (any, error) {
	var k *key
	err := s.Store.View(func(tx *bbolt.Tx) (err error) {
		k, err = s.find(tx, r.Input.Str("KeyId"), r.Region)
		return err
	})
	if err != nil {
		return nil, err
	}
	return map[string]any{"KeyMetadata": k.describe()}, nil
}

var aliasPattern = regexp.MustCompile(`^alias/[a-zA-Z0-9/_-]+$`)

func (s *Service) createAlias(r *Request) (any, error) {
	name := r.Input.Str("AliasName")
	switch {
	case !strings.HasPrefix(name, "alias/"):
		return nil, failure("ValidationException", "Invalid identifier")
	case !aliasPattern.MatchString(name):
		return nil, failure("ValidationException", "1 validation error detected: Value '%s' at 'aliasName' failed to satisfy constraint: Member must satisfy regular expression pattern: ^[a-zA-Z0-9:/_-]+$", name)
	case strings.HasPrefix(name, "alias/aws/"):
		return nil, failure("NotAuthorizedException", "Alias %s is reserved", name)
	}
	target := r.Input.Str("TargetKeyId")
	if strings.Contains(target, "alias/") {
		return nil, failure("ValidationException", "Aliases must refer to keys. Not aliases")
	}
	return nil, s.Store.Update(func(tx *bbolt.Tx) error {
		k, err := s.find(tx, target, r.Region)
		if err != nil {
			return err
		}
		if tx.Bucket(aliasesBucket).Get([]byte(name)) != nil {
			return failure("AlreadyExistsException", "An alias with the name arn:aws:kms:%s:%s:%s already exists", r.Region, account, name)
		}
		store.Must(tx.Bucket(aliasesBucket).Put([]byte(name), []byte(k.ID)))
		return nil
	})
}

func (s *Service) enableKey(r *Request) (any, error)  { return s.switchKey(r, false) }
func (s *Service) disableKey(r *Request) (any, error) { return s.switchKey(r, true) }

func (s *Service) switchKey(r *Request, disabled bool) (any, error) {
	return nil, s.Store.Update(func(tx *bbolt.Tx) error {
		k, err := s.find(tx, r.Input.Str("KeyId"), r.Region)
		if err != nil {
			return err
		}
		k.Disabled = disabled
		s.save(tx, k)
		return nil
	})
}
