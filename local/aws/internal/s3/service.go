package s3

import (
	"context"
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"go.etcd.io/bbolt"

	"whatisup/local/aws/internal/signature"
	"whatisup/local/aws/internal/store"
)

// Name is the service as requests are signed for it.
const Name = "s3"

// Config is what the service is built on.
type Config struct {
	Store *store.Store
	// Dir holds the objects' bytes.
	Dir string
	// Clock is the service's time; Signer the one that signers have.
	Clock, Signer func() time.Time
	// AccessKey and SecretKey are what requests are signed with.
	AccessKey, SecretKey string
	// Created hears of each object that was written, whichever way; nil: nobody does.
	Created func(bucket, key string)
}

// Service is S3.
type Service struct{ Config }

// Buckets in the store: definitions by bucket name; below objectsBucket one a
// bucket, with a record for each key; uploads by id; parts by upload and number.
var (
	bucketsBucket = []byte("s3/buckets")
	objectsBucket = []byte("s3/objects")
	uploadsBucket = []byte("s3/uploads")
	partsBucket   = []byte("s3/parts")
)

// segment is a file of an object.
type segment struct {
	File string
	Size int64
}

// object is a record.
type object struct {
	Size     int64
	ETag     string
	Modified int64             // unix milliseconds
	Headers  map[string]string `json:",omitempty"` // as they are answered
	Meta     map[string]string `json:",omitempty"` // by name without x-amz-meta-
	Checksum checksum
	Segments []segment
}

func (o *object) files() []string {
	var files []string
	for _, s := range o.Segments {
		files = append(files, s.File)
	}
	return files
}

// upload is a multipart upload under way.
type upload struct {
	Bucket, Key string
	Begun       int64
	Headers     map[string]string `json:",omitempty"`
	Meta        map[string]string `json:",omitempty"`
	Algorithm   string            `json:",omitempty"`
}

// part is one of its parts.
type part struct {
	segment
	ETag     string
	Modified int64
	Checksum checksum
}

// bucket is a bucket's definition.
type bucket struct {
	Created   int64
	Lifecycle []rule `json:",omitempty"`
}

func put(b *bbolt.Bucket, key []byte, v any) {
	text, err := json.Marshal(v)
	store.Must(err)
	store.Must(b.Put(key, text))
}

// get reads a record; nil if there is none.
func get[T any](b *bbolt.Bucket, key []byte) *T {
	text := b.Get(key)
	if text == nil {
		return nil
	}
	v := new(T)
	store.Must(json.Unmarshal(text, v))
	return v
}

// Open makes the folder if need be, and removes the files in it that no record
// names.
func Open(c Config) (*Service, error) {
	s := &Service{c}
	named := map[string]bool{}
	err := c.Store.Update(func(tx *bbolt.Tx) error {
		for _, b := range [][]byte{bucketsBucket, objectsBucket, uploadsBucket, partsBucket} {
			if _, err := tx.CreateBucketIfNotExists(b); err != nil {
				return err
			}
		}
		clear(named)
		objects := tx.Bucket(objectsBucket)
		err := objects.ForEachBucket(func(name []byte) error {
			b := objects.Bucket(name)
			return b.ForEach(func(key, _ []byte) error {
				for _, file := range get[object](b, key).files() {
					named[file] = true
				}
				return nil
			})
		})
		if err != nil {
			return err
		}
		parts := tx.Bucket(partsBucket)
		return parts.ForEach(func(key, _ []byte) error {
			named[get[part](parts, key).File] = true
			return nil
		})
	})
	if err != nil {
		return nil, err
	}
	err = filepath.WalkDir(c.Dir, func(path string, d fs.DirEntry, err error) error {
		if os.IsNotExist(err) {
			return nil // nothing was ever put
		}
		if err == nil && !d.IsDir() && !named[d.Name()] {
			err = os.Remove(path)
		}
		return err
	})
	return s, err
}

// forgotten is how long an upload that is never completed is kept, where its
// bucket has no rule of its own.
const forgotten = 7 * 24 * time.Hour

// Sweep removes what its bucket's rules say has expired, and uploads that nobody
// completes.
func (s *Service) Sweep(ctx context.Context) error {
	now := s.Clock()
	type dead struct {
		bucket, key string
		etag        string
	}
	var expired []dead
	var given []string
	err := s.Store.View(func(tx *bbolt.Tx) error {
		buckets := tx.Bucket(bucketsBucket)
		rules := map[string][]rule{}
		err := buckets.ForEach(func(name, _ []byte) error {
			rules[string(name)] = get[bucket](buckets, name).Lifecycle
			return nil
		})
		if err != nil {
			return err
		}
		for name, list := range rules {
			objects := tx.Bucket(objectsBucket).Bucket([]byte(name))
			for _, r := range list {
				if r.Days == 0 {
					continue
				}
				c := objects.Cursor()
				for k, _ := c.Seek([]byte(r.Prefix)); k != nil && hasPrefix(k, r.Prefix); k, _ = c.Next() {
					if o := get[object](objects, k); now.Sub(time.UnixMilli(o.Modified)) > days(r.Days) {
						expired = append(expired, dead{name, string(k), o.ETag})
					}
				}
			}
		}
		uploads := tx.Bucket(uploadsBucket)
		return uploads.ForEach(func(id, _ []byte) error {
			u := get[upload](uploads, id)
			limit := forgotten
			for _, r := range rules[u.Bucket] {
				if r.AbortDays > 0 && hasPrefix([]byte(u.Key), r.Prefix) {
					limit = min(limit, days(r.AbortDays))
				}
			}
			if now.Sub(time.UnixMilli(u.Begun)) > limit {
				given = append(given, string(id))
			}
			return nil
		})
	})
	if err != nil {
		return err
	}
	for _, d := range expired {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err := s.remove(d.bucket, d.key, d.etag); err != nil {
			return err
		}
	}
	for _, id := range given {
		if err := s.abort(id); err != nil && err != error(errNoUpload) {
			return err
		}
	}
	return nil
}

func days(n int) time.Duration { return time.Duration(n) * 24 * time.Hour }

func hasPrefix(k []byte, prefix string) bool {
	return len(k) >= len(prefix) && string(k[:len(prefix)]) == prefix
}

// signed says what is wrong with a request's signature; nil for nothing.
func (s *Service) signed(sig *signature.Signature, verify func() error) error {
	err := sig.Check(s.AccessKey, Name, s.Signer(), s.Clock())
	if err == nil {
		err = verify()
	}
	return s.refusal(sig, err)
}

func (s *Service) refusal(sig *signature.Signature, err error) error {
	switch err {
	case nil:
		return nil
	case signature.ErrUnknownKey:
		return failure(403, "InvalidAccessKeyId", "The AWS Access Key Id you provided does not exist in our records.")
	case signature.ErrWrong:
		return failure(403, "SignatureDoesNotMatch", "The request signature we calculated does not match the signature you provided. Check your key and signing method.")
	case signature.ErrExpired:
		if sig != nil && sig.Presigned {
			return denied("Request has expired")
		}
		return failure(403, "RequestTimeTooSkewed", "The difference between the request time and the current time is too large.")
	case signature.ErrMissing:
		return denied("Access Denied")
	}
	return failure(400, "AuthorizationHeaderMalformed", "The authorization that you provided is not valid for S3.")
}
