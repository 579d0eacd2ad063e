package s3

import (
	"bytes"
	"crypto/md5"
	"encoding/hex"
	"encoding/xml"
	"net/http"
	"strconv"
	"strings"

	"github.com/google/uuid"
	"go.etcd.io/bbolt"

	"whatisup/local/aws/internal/store"
)

func (s *Service) createUpload(w http.ResponseWriter, r *http.Request, q *Request) error {
	headers, meta, err := describe(r.Header)
	if err == nil {
		err = checkKey(q.Key)
	}
	if err != nil {
		return err
	}
	u := &upload{Bucket: q.Bucket, Key: q.Key, Begun: s.Clock().UnixMilli(), Headers: headers, Meta: meta, Algorithm: strings.ToLower(r.Header.Get("X-Amz-Checksum-Algorithm"))}
	if u.Algorithm != "" && algorithms[u.Algorithm] == nil {
		return failure(400, "InvalidRequest", "Checksum algorithm provided is unsupported.")
	}
	if kind := r.Header.Get("X-Amz-Checksum-Type"); kind == "FULL_OBJECT" {
		return notImplemented("CreateMultipartUpload with the checksum type FULL_OBJECT")
	}
	id := strings.ReplaceAll(uuid.NewString(), "-", "")
	err = s.Store.Update(func(tx *bbolt.Tx) error {
		if tx.Bucket(bucketsBucket).Get([]byte(q.Bucket)) == nil {
			return errNoBucket
		}
		put(tx.Bucket(uploadsBucket), []byte(id), u)
		return nil
	})
	if err != nil {
		return err
	}
	if u.Algorithm != "" {
		w.Header().Set("X-Amz-Checksum-Algorithm", strings.ToUpper(u.Algorithm))
		w.Header().Set("X-Amz-Checksum-Type", "COMPOSITE")
	}
	answerXML(w, 200, struct {
		XMLName               xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ InitiateMultipartUploadResult"`
		Bucket, Key, UploadId string
	}{Bucket: q.Bucket, Key: q.Key, UploadId: id})
	return nil
}

// uploadOf finds the upload that a request is about.
func uploadOf(tx *bbolt.Tx, r *http.Request, q *Request) (string, *upload, error) {
	id := r.URL.Query().Get("uploadId")
	if tx.Bucket(bucketsBucket).Get([]byte(q.Bucket)) == nil {
		return id, nil, errNoBucket
	}
	if id == "" {
		return id, nil, errNoUpload
	}
	u := get[upload](tx.Bucket(uploadsBucket), []byte(id))
	if u == nil || u.Bucket != q.Bucket || u.Key != q.Key {
		return id, nil, errNoUpload
	}
	return id, u, nil
}

func (s *Service) uploadPart(w http.ResponseWriter, r *http.Request, q *Request) error {
	number, err := strconv.Atoi(r.URL.Query().Get("partNumber"))
	if err != nil || number < 1 || number > maxParts {
		return invalid("Part number must be an integer between 1 and 10000, inclusive")
	}
	var u *upload
	err = s.Store.View(func(tx *bbolt.Tx) (err error) {
		_, u, err = uploadOf(tx, r, q)
		return err
	})
	if err != nil {
		return err
	}
	if named, err := checksumIn(r.Header); err == nil && named.Algorithm == "" && u.Algorithm != "" {
		r.Header.Set("X-Amz-Sdk-Checksum-Algorithm", u.Algorithm)
	}
	f, err := s.receive(w, r)
	if err != nil {
		return err
	}
	var old *part
	err = s.Store.Update(func(tx *bbolt.Tx) error {
		id, _, err := uploadOf(tx, r, q) // it may have been completed or given up meanwhile
		if err != nil {
			return err
		}
		parts := tx.Bucket(partsBucket)
		old = get[part](parts, partKey(id, number))
		put(parts, partKey(id, number), &part{segment{f.File, f.Size}, f.etag(), s.Clock().UnixMilli(), f.Checksum})
		return nil
	})
	if err != nil {
		s.discard(f.File)
		return err
	}
	if old != nil {
		s.discard(old.File)
	}
	w.Header().Set("ETag", f.etag())
	f.Checksum.show(w.Header())
	w.Header().Del("X-Amz-Checksum-Type")
	return nil
}

// partsOf lists an upload's parts by number.
func partsOf(tx *bbolt.Tx, id string) (numbers []int, parts map[int]*part) {
	parts = map[int]*part{}
	b := tx.Bucket(partsBucket)
	prefix := append([]byte(id), 0)
	c := b.Cursor()
	for k, _ := c.Seek(prefix); bytes.HasPrefix(k, prefix); k, _ = c.Next() {
		n := int(k[len(prefix)])<<8 | int(k[len(prefix)+1])
		numbers = append(numbers, n)
		parts[n] = get[part](b, k)
	}
	return numbers, parts
}

// forget removes an upload's records. It returns the files of the parts that are
// not among those to keep.
func forget(tx *bbolt.Tx, id string, keep []segment) (files []string) {
	numbers, parts := partsOf(tx, id)
	kept := map[string]bool{}
	for _, seg := range keep {
		kept[seg.File] = true
	}
	for _, n := range numbers {
		if !kept[parts[n].File] {
			files = append(files, parts[n].File)
		}
		store.Must(tx.Bucket(partsBucket).Delete(partKey(id, n)))
	}
	store.Must(tx.Bucket(uploadsBucket).Delete([]byte(id)))
	return files
}

type completed struct {
	PartNumber int
	ETag       string
	checksumFields
}

// completeUpload makes an object of an upload's parts, which stay the files that
// they are.
func (s *Service) completeUpload(w http.ResponseWriter, r *http.Request, q *Request) error {
	var in struct{ Part []completed }
	if err := s.readXML(w, r, &in); err != nil {
		return err
	}
	if len(in.Part) == 0 || len(in.Part) > maxParts {
		return errMalformed
	}
	var o *object
	var left []string
	assemble := func(tx *bbolt.Tx) error {
		id, u, err := uploadOf(tx, r, q)
		if err != nil {
			return err
		}
		_, parts := partsOf(tx, id)
		o = &object{Modified: s.Clock().UnixMilli(), Headers: u.Headers, Meta: u.Meta}
		sum := md5.New()
		var sums []checksum
		for i, c := range in.Part {
			p := parts[c.PartNumber]
			switch {
			case i > 0 && c.PartNumber <= in.Part[i-1].PartNumber:
				return failure(400, "InvalidPartOrder", "The list of parts was not in ascending order. The parts list must be specified in order by part number.")
			case p == nil || !sameETag(c.ETag, p.ETag):
				return failure(400, "InvalidPart", "One or more of the specified parts could not be found. The part may not have been uploaded, or the specified entity tag may not match the part's entity tag.")
			case i < len(in.Part)-1 && p.Size < minPart:
				return errTooSmall
			}
			if told := *c.of(p.Checksum.Algorithm); told != "" && told != p.Checksum.Value {
				return failure(400, "InvalidPart", "The checksum of a part is another one than was told.")
			}
			b, err := hex.DecodeString(strings.Trim(p.ETag, `"`))
			store.Must(err)
			sum.Write(b)
			sums = append(sums, p.Checksum)
			o.Size += p.Size
			o.Segments = append(o.Segments, p.segment)
		}
		o.ETag = `"` + hex.EncodeToString(sum.Sum(nil)) + "-" + itoa(len(in.Part)) + `"`
		o.Checksum = composite(u.Algorithm, sums)
		return nil
	}
	// What is wrong is found before anything is written.
	if err := s.Store.View(assemble); err != nil {
		return err
	}
	o = &object{}
	made := o
	err := s.publish(q.Bucket, q.Key, made, r.Header, func(tx *bbolt.Tx) error {
		if err := assemble(tx); err != nil {
			return err
		}
		*made = *o
		left = forget(tx, r.URL.Query().Get("uploadId"), o.Segments)
		return nil
	})
	if err != nil {
		return err
	}
	s.discard(left...)
	made.written(w.Header())
	answerXML(w, 200, struct {
		XMLName                     xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ CompleteMultipartUploadResult"`
		Location, Bucket, Key, ETag string
		checksumFields
	}{Location: "http://" + r.Host + "/" + q.Bucket + "/" + q.Key, Bucket: q.Bucket, Key: q.Key, ETag: made.ETag, checksumFields: made.Checksum.fields()})
	return nil
}

// abort gives an upload up.
func (s *Service) abort(id string) error {
	var files []string
	err := s.Store.Update(func(tx *bbolt.Tx) error {
		if tx.Bucket(uploadsBucket).Get([]byte(id)) == nil {
			return errNoUpload
		}
		files = forget(tx, id, nil)
		return nil
	})
	if err == nil {
		s.discard(files...)
	}
	return err
}

func (s *Service) abortUpload(w http.ResponseWriter, r *http.Request, q *Request) error {
	var id string
	err := s.Store.View(func(tx *bbolt.Tx) (err error) {
		id, _, err = uploadOf(tx, r, q)
		return err
	})
	if err == nil {
		err = s.abort(id)
	}
	if err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func (s *Service) listParts(w http.ResponseWriter, r *http.Request, q *Request) error {
	max, err := pageSize(r, "max-parts")
	if err != nil {
		return err
	}
	after, err := strconv.Atoi(r.URL.Query().Get("part-number-marker"))
	if err != nil && r.URL.Query().Get("part-number-marker") != "" {
		return invalid("part-number-marker is not a number")
	}
	type row struct {
		PartNumber         int
		LastModified, ETag string
		Size               int64
		checksumFields
	}
	out := struct {
		XMLName               xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ ListPartsResult"`
		Bucket, Key, UploadId string
		MaxParts              int
		PartNumberMarker      int
		NextPartNumberMarker  int `xml:",omitempty"`
		IsTruncated           bool
		Part                  []row
	}{Bucket: q.Bucket, Key: q.Key, MaxParts: max, PartNumberMarker: after}
	err = s.Store.View(func(tx *bbolt.Tx) error {
		id, _, err := uploadOf(tx, r, q)
		if err != nil {
			return err
		}
		out.UploadId = id
		numbers, parts := partsOf(tx, id)
		for _, n := range numbers {
			if n <= after {
				continue
			}
			if len(out.Part) == max {
				out.IsTruncated, out.NextPartNumberMarker = true, out.Part[max-1].PartNumber
				break
			}
			p := parts[n]
			fields := p.Checksum.fields()
			fields.ChecksumType = ""
			out.Part = append(out.Part, row{n, moment(p.Modified), p.ETag, p.Size, fields})
		}
		return nil
	})
	if err != nil {
		return err
	}
	answerXML(w, 200, out)
	return nil
}

func (s *Service) listUploads(w http.ResponseWriter, r *http.Request, q *Request) error {
	type row struct{ Key, UploadId, Initiated string }
	out := struct {
		XMLName     xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ ListMultipartUploadsResult"`
		Bucket      string
		Prefix      string
		MaxUploads  int
		IsTruncated bool
		Upload      []row
	}{Bucket: q.Bucket, Prefix: r.URL.Query().Get("prefix"), MaxUploads: maxPage}
	err := s.Store.View(func(tx *bbolt.Tx) error {
		if tx.Bucket(bucketsBucket).Get([]byte(q.Bucket)) == nil {
			return errNoBucket
		}
		uploads := tx.Bucket(uploadsBucket)
		return uploads.ForEach(func(id, _ []byte) error {
			if u := get[upload](uploads, id); u.Bucket == q.Bucket && strings.HasPrefix(u.Key, out.Prefix) && len(out.Upload) < maxPage {
				out.Upload = append(out.Upload, row{u.Key, string(id), moment(u.Begun)})
			}
			return nil
		})
	})
	if err != nil {
		return err
	}
	answerXML(w, 200, out)
	return nil
}
