package s3

import (
	"bytes"
	"encoding/base64"
	"encoding/xml"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"regexp"
	"strconv"
	"strings"

	"go.etcd.io/bbolt"

	"whatisup/local/aws/internal/store"
)

// rule is a lifecycle rule, as far as there are any here.
type rule struct {
	ID, Prefix string
	Days       int // after which objects expire; 0 is never
	AbortDays  int // after which uploads are given up
}

var bucketName = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$`)

func (s *Service) has(name string) error {
	return s.Store.View(func(tx *bbolt.Tx) error {
		if tx.Bucket(bucketsBucket).Get([]byte(name)) == nil {
			return errNoBucket
		}
		return nil
	})
}

// receiveSmall reads a small body whole, and holds it to what the request says
// of it.
func (s *Service) receiveSmall(w http.ResponseWriter, r *http.Request, limit int64) ([]byte, error) {
	if r.ContentLength > limit {
		return nil, errTooLarge
	}
	f, err := s.receive(w, r)
	if err != nil {
		return nil, err
	}
	defer s.discard(f.File)
	if f.Size > limit {
		return nil, errTooLarge
	}
	return s.readFile(f.File)
}

func (s *Service) createBucket(w http.ResponseWriter, r *http.Request, q *Request) error {
	if _, err := netip.ParseAddr(q.Bucket); err == nil || !bucketName.MatchString(q.Bucket) || strings.Contains(q.Bucket, "..") {
		return failure(400, "InvalidBucketName", "The specified bucket is not valid.")
	}
	if r.ContentLength != 0 {
		if _, err := s.receiveSmall(w, r, 64<<10); err != nil {
			return err
		}
	}
	err := s.Store.Update(func(tx *bbolt.Tx) error {
		if tx.Bucket(bucketsBucket).Get([]byte(q.Bucket)) != nil {
			return failure(409, "BucketAlreadyOwnedByYou", "Your previous request to create the named bucket succeeded and you already own it.")
		}
		put(tx.Bucket(bucketsBucket), []byte(q.Bucket), &bucket{Created: s.Clock().UnixMilli()})
		_, err := tx.Bucket(objectsBucket).CreateBucket([]byte(q.Bucket))
		store.Must(err)
		return nil
	})
	if err != nil {
		return err
	}
	w.Header().Set("Location", "/"+q.Bucket)
	return nil
}

func (s *Service) headBucket(w http.ResponseWriter, _ *http.Request, q *Request) error {
	w.Header().Set("X-Amz-Bucket-Region", region)
	return s.has(q.Bucket)
}

const region = "us-east-1"

func (s *Service) deleteBucket(w http.ResponseWriter, _ *http.Request, q *Request) error {
	err := s.Store.Update(func(tx *bbolt.Tx) error {
		objects := tx.Bucket(objectsBucket).Bucket([]byte(q.Bucket))
		if objects == nil {
			return errNoBucket
		}
		uploads := tx.Bucket(uploadsBucket)
		busy := false
		store.Must(uploads.ForEach(func(id, _ []byte) error {
			busy = busy || get[upload](uploads, id).Bucket == q.Bucket
			return nil
		}))
		if k, _ := objects.Cursor().First(); k != nil || busy {
			return failure(409, "BucketNotEmpty", "The bucket you tried to delete is not empty")
		}
		store.Must(tx.Bucket(objectsBucket).DeleteBucket([]byte(q.Bucket)))
		store.Must(tx.Bucket(bucketsBucket).Delete([]byte(q.Bucket)))
		return nil
	})
	if err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func (s *Service) listBuckets(w http.ResponseWriter, _ *http.Request, _ *Request) error {
	type row struct{ Name, CreationDate string }
	var out struct {
		XMLName xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ ListAllMyBucketsResult"`
		Owner   struct{ ID string }
		Buckets struct{ Bucket []row }
	}
	out.Owner.ID = account
	err := s.Store.View(func(tx *bbolt.Tx) error {
		b := tx.Bucket(bucketsBucket)
		return b.ForEach(func(name, _ []byte) error {
			out.Buckets.Bucket = append(out.Buckets.Bucket, row{string(name), moment(get[bucket](b, name).Created)})
			return nil
		})
	})
	if err != nil {
		return err
	}
	answerXML(w, 200, out)
	return nil
}

func (s *Service) getBucketLocation(w http.ResponseWriter, _ *http.Request, q *Request) error {
	if err := s.has(q.Bucket); err != nil {
		return err
	}
	answerXML(w, 200, struct {
		XMLName xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ LocationConstraint"`
	}{})
	return nil
}

// lifecycleRule is a rule as it is sent. What it may hold beside this is refused.
type lifecycleRule struct {
	ID     string `xml:",omitempty"`
	Status string
	Prefix string `xml:",omitempty"`
	Filter *struct {
		Prefix string
	}
	Expiration *struct {
		Days int
	}
	AbortIncompleteMultipartUpload *struct {
		DaysAfterInitiation int
	}
	Others []struct {
		XMLName xml.Name
	} `xml:",any"`
}

type lifecycle struct {
	XMLName xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ LifecycleConfiguration"`
	Rule    []lifecycleRule
}

func (s *Service) putLifecycle(w http.ResponseWriter, r *http.Request, q *Request) error {
	var in lifecycle
	if err := s.readXML(w, r, &in); err != nil {
		return err
	}
	var rules []rule
	for _, l := range in.Rule {
		if len(l.Others) > 0 {
			return notImplemented("a lifecycle rule with " + l.Others[0].XMLName.Local)
		}
		if l.Status != "Enabled" {
			continue
		}
		next := rule{ID: l.ID, Prefix: l.Prefix}
		if l.Filter != nil {
			next.Prefix = l.Filter.Prefix
		}
		if l.Expiration != nil {
			next.Days = l.Expiration.Days
		}
		if l.AbortIncompleteMultipartUpload != nil {
			next.AbortDays = l.AbortIncompleteMultipartUpload.DaysAfterInitiation
		}
		if next.Days < 0 || next.AbortDays < 0 || next.Days == 0 && next.AbortDays == 0 {
			return errMalformed
		}
		rules = append(rules, next)
	}
	return s.Store.Update(func(tx *bbolt.Tx) error {
		b := get[bucket](tx.Bucket(bucketsBucket), []byte(q.Bucket))
		if b == nil {
			return errNoBucket
		}
		b.Lifecycle = rules
		put(tx.Bucket(bucketsBucket), []byte(q.Bucket), b)
		return nil
	})
}

func (s *Service) getLifecycle(w http.ResponseWriter, _ *http.Request, q *Request) error {
	var out lifecycle
	err := s.Store.View(func(tx *bbolt.Tx) error {
		b := get[bucket](tx.Bucket(bucketsBucket), []byte(q.Bucket))
		if b == nil {
			return errNoBucket
		}
		if len(b.Lifecycle) == 0 {
			return failure(404, "NoSuchLifecycleConfiguration", "The lifecycle configuration does not exist")
		}
		for _, r := range b.Lifecycle {
			l := lifecycleRule{ID: r.ID, Status: "Enabled", Filter: &struct{ Prefix string }{r.Prefix}}
			if r.Days > 0 {
				l.Expiration = &struct{ Days int }{r.Days}
			}
			if r.AbortDays > 0 {
				l.AbortIncompleteMultipartUpload = &struct{ DaysAfterInitiation int }{r.AbortDays}
			}
			out.Rule = append(out.Rule, l)
		}
		return nil
	})
	if err != nil {
		return err
	}
	answerXML(w, 200, out)
	return nil
}

// maxPage is how many rows a list has at most.
const maxPage = 1000

func pageSize(r *http.Request, name string) (int, error) {
	text := r.URL.Query().Get(name)
	if text == "" {
		return maxPage, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 {
		return 0, invalid("Argument %s must be an integer between 0 and 2147483647", name)
	}
	return min(n, maxPage), nil
}

func (s *Service) listObjects(w http.ResponseWriter, r *http.Request, q *Request) error {
	query := r.URL.Query()
	max, err := pageSize(r, "max-keys")
	if err != nil {
		return err
	}
	prefix, delimiter, after := query.Get("prefix"), query.Get("delimiter"), query.Get("start-after")
	if token := query.Get("continuation-token"); token != "" {
		b, err := base64.RawURLEncoding.DecodeString(token)
		if err != nil {
			return invalid("The continuation token provided is incorrect")
		}
		after = string(b)
	}
	encode := func(key string) string { return key }
	if query.Get("encoding-type") == "url" {
		encode = func(key string) string { return strings.ReplaceAll(url.QueryEscape(key), "%2F", "/") }
	}
	type row struct {
		Key, LastModified, ETag string
		Size                    int64
		StorageClass            string
	}
	type common struct{ Prefix string }
	out := struct {
		XMLName               xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ ListBucketResult"`
		Name, Prefix          string
		Delimiter             string `xml:",omitempty"`
		EncodingType          string `xml:",omitempty"`
		StartAfter            string `xml:",omitempty"`
		ContinuationToken     string `xml:",omitempty"`
		NextContinuationToken string `xml:",omitempty"`
		MaxKeys, KeyCount     int
		IsTruncated           bool
		Contents              []row
		CommonPrefixes        []common
	}{Name: q.Bucket, Prefix: encode(prefix), Delimiter: encode(delimiter), EncodingType: query.Get("encoding-type"), StartAfter: query.Get("start-after"),
		ContinuationToken: query.Get("continuation-token"), MaxKeys: max}
	err = s.Store.View(func(tx *bbolt.Tx) error {
		objects := tx.Bucket(objectsBucket).Bucket([]byte(q.Bucket))
		if objects == nil {
			return errNoBucket
		}
		c := objects.Cursor()
		last := ""
		k, _ := c.Seek([]byte(prefix))
		if after >= prefix {
			k, _ = c.Seek(append([]byte(after), 0))
		}
		for k != nil && hasPrefix(k, prefix) {
			group := ""
			if delimiter != "" {
				if i := strings.Index(string(k[len(prefix):]), delimiter); i >= 0 {
					group = string(k[:len(prefix)+i+len(delimiter)])
				}
			}
			if group != "" && strings.HasPrefix(after, group) { // told on the page before
				k, _ = c.Seek(prefixEnd([]byte(group)))
				continue
			}
			if out.KeyCount == max {
				out.IsTruncated = max > 0
				out.NextContinuationToken = base64.RawURLEncoding.EncodeToString([]byte(last))
				break
			}
			out.KeyCount++
			if group != "" {
				out.CommonPrefixes = append(out.CommonPrefixes, common{encode(group)})
				last = group
				k, _ = c.Seek(prefixEnd([]byte(group)))
				continue
			}
			o := get[object](objects, k)
			out.Contents = append(out.Contents, row{encode(string(k)), moment(o.Modified), o.ETag, o.Size, "STANDARD"})
			last = string(k)
			k, _ = c.Next()
		}
		return nil
	})
	if err != nil {
		return err
	}
	if max == 0 {
		out.NextContinuationToken = ""
	}
	answerXML(w, 200, out)
	return nil
}

// prefixEnd is behind everything that begins with a prefix.
func prefixEnd(prefix []byte) []byte { return append(bytes.Clone(prefix), 0xff, 0xff, 0xff, 0xff) }

func (s *Service) readFile(file string) ([]byte, error) {
	f, err := s.openFile(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(f)
}
